//! The text form of a sparse vector: `{1:2.5,30:-1}/30522`, pairs of index and value, then the dimensions.
//!
//! Reading accepts what pgvector accepts: whitespace around every token, indices in any order, integers as C's `strtol`
//! and numbers as its `strtof` take them. A value that is zero is left out; one that rounds to zero is an error, unlike
//! in a dense vector.

use super::{check_dimensions, check_index, SparseRef, SparseVector, VectorError, MAX_NON_ZERO, TYPE_NAME};
use crate::vector::{check_declared, check_finite, read_number, skip_space, write_float4, FLOAT4_SLOT_BYTES};

/// Reads the text form, for a column that may declare its dimensions.
pub fn parse(input: &str, declared: Option<usize>) -> Result<SparseVector, VectorError> {
    let text = input.as_bytes();
    // Before anything else, and for zeros too, as pgvector, which allocates for as many.
    let commas = text.iter().filter(|&&byte| byte == b',').count();
    if commas >= MAX_NON_ZERO {
        return Err(VectorError::TooManyNonZero);
    }
    let mut reader = Reader { input, text, at: 0 };
    let mut elements = Vec::with_capacity(commas + 1);

    reader.expect(b'{', Some("Vector contents must start with \"{\"."))?;
    if !reader.take(b'}') {
        loop {
            let index = reader.integer()?;
            reader.expect(b':', None)?;
            let value = reader.value()?;
            if value != 0.0 {
                // From 1 to 0 for the first. The smallest index is out of bounds with or without this.
                elements.push((index.saturating_sub(1), value));
            }
            if !reader.take(b',') {
                reader.expect(b'}', None)?;
                break;
            }
        }
    }
    reader.expect(b'/', Some("Unexpected end of input."))?;
    let dimensions = reader.integer()?;
    reader.skip_space();
    if reader.at != text.len() {
        return Err(reader.syntax(Some("Junk after closing.")));
    }

    check_dimensions(dimensions)?;
    check_declared(declared, dimensions as usize)?;
    elements.sort_unstable_by_key(|&(index, _)| index);
    let mut previous = None;
    for &(index, _) in &elements {
        check_index(index, previous, dimensions)?;
        previous = Some(index);
    }
    let (indices, values) = elements.into_iter().unzip();
    Ok(SparseVector { dimensions, indices, values })
}

/// A position in the text. Every method skips the whitespace before its token.
struct Reader<'a> {
    input: &'a str,
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn syntax(&self, detail: Option<&'static str>) -> VectorError {
        VectorError::Syntax { type_name: TYPE_NAME, input: self.input.to_owned(), detail }
    }

    fn skip_space(&mut self) {
        self.at = skip_space(self.text, self.at);
    }

    /// Whether the next token is this one, which is then consumed.
    fn take(&mut self, token: u8) -> bool {
        self.skip_space();
        let found = self.text.get(self.at) == Some(&token);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, token: u8, detail: Option<&'static str>) -> Result<(), VectorError> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.syntax(detail))
        }
    }

    /// An integer as `strtol` reads it, cut to the range of `i32`.
    fn integer(&mut self) -> Result<i32, VectorError> {
        self.skip_space();
        let negative = self.text.get(self.at) == Some(&b'-');
        let first = self.at + usize::from(negative || self.text.get(self.at) == Some(&b'+'));
        let mut end = first;
        let mut value = 0i32;
        while let Some(digit @ b'0'..=b'9') = self.text.get(end) {
            let digit = i32::from(digit - b'0');
            value = value.saturating_mul(10).saturating_add(if negative { -digit } else { digit });
            end += 1;
        }
        if end == first {
            return Err(self.syntax(None));
        }
        self.at = end;
        Ok(value)
    }

    fn value(&mut self) -> Result<f32, VectorError> {
        self.skip_space();
        let number = self.text.get(self.at..).and_then(read_number).ok_or_else(|| self.syntax(None))?;
        let end = self.at + number.length;
        if number.out_of_range {
            return Err(VectorError::OutOfRange { type_name: TYPE_NAME, literal: self.input[self.at..end].to_owned() });
        }
        check_finite(number.value, TYPE_NAME)?;
        self.at = end;
        Ok(number.value)
    }
}

/// The text form of a sparse vector.
pub fn print(vector: SparseRef<'_>) -> String {
    const TYPICAL_ELEMENT_BYTES: usize = 20;
    let mut text = Vec::with_capacity(16 + TYPICAL_ELEMENT_BYTES * vector.values().len());
    text.push(b'{');
    let mut slot = [0; FLOAT4_SLOT_BYTES];
    for (position, (index, value)) in vector.elements().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        append_integer(&mut text, i64::from(index) + 1);
        text.push(b':');
        let length = write_float4(value, &mut slot);
        text.extend_from_slice(&slot[..length]);
    }
    text.extend_from_slice(b"}/");
    append_integer(&mut text, vector.dimensions().into());
    // All bytes are ASCII.
    String::from_utf8(text).unwrap_or_default()
}

/// Appends a number in decimal: the loop is several times as fast as the formatting of the standard library.
fn append_integer(text: &mut Vec<u8>, number: i64) {
    if number < 0 {
        text.push(b'-');
    }
    let mut rest = number.unsigned_abs();
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(input: &str) -> String {
        print(parse(input, None).unwrap().as_ref())
    }

    fn message(input: &str) -> String {
        parse(input, None).unwrap_err().to_string()
    }

    fn detail(input: &str) -> Option<&'static str> {
        match parse(input, None) {
            Err(VectorError::Syntax { detail, .. }) => detail,
            other => panic!("no syntax error: {other:?}"),
        }
    }

    #[test]
    fn pairs_are_sorted_and_zeros_left_out() {
        assert_eq!(round_trip("{1:1.5,3:3.5}/5"), "{1:1.5,3:3.5}/5");
        assert_eq!(round_trip(" { 3 : 3.5 , +1 : 1.5 } / 5 "), "{1:1.5,3:3.5}/5");
        assert_eq!(round_trip("{1:0,2:1,3:-0}/5"), "{2:1}/5");
        assert_eq!(round_trip("{}/5"), "{}/5");
        assert_eq!(round_trip("{ }/1000000000"), "{}/1000000000");
        assert_eq!(round_trip("{01:0x1p3}/05"), "{1:8}/5");
        assert_eq!(round_trip("{1000000000:1e-45}/1000000000"), "{1000000000:1e-45}/1000000000");
        // The index of a zero is not looked at.
        assert_eq!(round_trip("{9:0,9:0}/5"), "{}/5");
    }

    #[test]
    fn errors_use_the_texts_of_pgvector() {
        for input in [
            "",
            "1",
            "{",
            "{1",
            "{1:",
            "{1:}/2",
            "{:1}/2",
            "{1:1",
            "{1:1,}/2",
            "{1:1}",
            "{1:1}/",
            "{1:1}/x",
            "{1:1}/2x",
            "{1 1:1}/2",
        ] {
            assert_eq!(message(input), format!("invalid input syntax for type sparsevec: \"{input}\""));
        }
        assert_eq!(message("{0:1}/2"), "sparsevec index out of bounds");
        assert_eq!(message("{-99999999999999999999:1}/2"), "sparsevec index out of bounds");
        assert_eq!(message("{99999999999999999999:1}/2"), "sparsevec index out of bounds");
        assert_eq!(message("{1:1,1:2}/2"), "sparsevec indices must not contain duplicates");
        assert_eq!(message("{1:1}/0"), "sparsevec must have at least 1 dimension");
        assert_eq!(message("{}/-99999999999999999999"), "sparsevec must have at least 1 dimension");
        assert_eq!(message("{}/1000000001"), "sparsevec cannot have more than 1000000000 dimensions");
        assert_eq!(message("{}/99999999999999999999"), "sparsevec cannot have more than 1000000000 dimensions");
        assert_eq!(message("{1:nan}/2"), "NaN not allowed in sparsevec");
        assert_eq!(message("{1:-inf}/2"), "infinite value not allowed in sparsevec");
        assert_eq!(message("{1:4e38}/2"), "\"4e38\" is out of range for type sparsevec");
        assert_eq!(message("{1:-1e-46 }/2"), "\"-1e-46\" is out of range for type sparsevec");
        assert_eq!(message(&",".repeat(16_000)), "sparsevec cannot have more than 16000 non-zero elements");
        assert_eq!(parse("{9:1}/3", Some(4)).unwrap_err().to_string(), "expected 4 dimensions, not 3");
    }

    #[test]
    fn details_name_the_fault() {
        assert_eq!(detail("["), Some("Vector contents must start with \"{\"."));
        assert_eq!(detail("{}"), Some("Unexpected end of input."));
        assert_eq!(detail("{}/3 4"), Some("Junk after closing."));
        assert_eq!(detail("{1:1"), None);
    }

    #[test]
    fn the_extreme_integers_are_written() {
        let mut text = Vec::new();
        [0, -1, i64::MIN, i64::MAX].into_iter().for_each(|number| append_integer(&mut text, number));
        assert_eq!(text, b"0-1-92233720368547758089223372036854775807");
    }

    proptest! {
        #[test]
        fn reading_is_total(input in "\\PC{0,40}|[{}0-9eExp:/.,+\\- ]{0,30}|\\{([0-9]:[0-9],){0,3}[0-9]:1\\}/[0-9]") {
            if let Ok(vector) = parse(&input, None) {
                prop_assert!(SparseRef::new(vector.dimensions(), vector.indices(), vector.values()).is_ok());
                prop_assert_eq!(parse(&print(vector.as_ref()), None).unwrap(), vector);
            }
        }

        #[test]
        fn what_is_written_reads_back(
            elements in prop::collection::btree_map(0..super::super::MAX_DIMENSIONS, 1u32..0x7f80_0000, 0..50)
        ) {
            let (indices, values) = elements.iter().map(|(&index, &bits)| (index, f32::from_bits(bits))).unzip();
            let vector = SparseVector::new(super::super::MAX_DIMENSIONS, indices, values).unwrap();
            prop_assert_eq!(parse(&print(vector.as_ref()), None).unwrap(), vector);
        }
    }
}
