//! The text form of a dense vector: `[1,2.5,-3e-05]`.
//!
//! Reading accepts what pgvector's input functions accept: whitespace around every token and numbers as C's `strtof`
//! takes them. An element is rounded to `f32` first and then to the element type, as pgvector does, so an `f16` is
//! rounded twice. Writing gives the digits of the element's `f32` value, see [`super::float4`].

use super::float4::{write_float4, FLOAT4_SLOT_BYTES};
use super::number::{read_number, skip_space};
use super::{check_element, Element, VectorError};

/// The shortest usual element with its comma; a guess for the first allocation.
const TYPICAL_ELEMENT_BYTES: usize = 8;

/// Reads the text form. The caller checks the dimensions that the column declares.
pub fn parse<E: Element>(input: &str) -> Result<Vec<E>, VectorError> {
    let text = input.as_bytes();
    let syntax = |detail| VectorError::Syntax { type_name: E::TYPE_NAME, input: input.to_owned(), detail };

    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'[') {
        return Err(syntax(Some("Vector contents must start with \"[\".")));
    }
    at = skip_space(text, at + 1);
    if text.get(at) == Some(&b']') {
        return Err(VectorError::Empty(E::TYPE_NAME));
    }

    let mut elements = Vec::with_capacity((text.len() / TYPICAL_ELEMENT_BYTES + 1).min(E::MAX_DIMENSIONS));
    loop {
        if elements.len() == E::MAX_DIMENSIONS {
            return Err(VectorError::TooManyDimensions { type_name: E::TYPE_NAME, limit: E::MAX_DIMENSIONS });
        }
        at = skip_space(text, at);
        let number = text.get(at..).and_then(read_number).ok_or_else(|| syntax(None))?;
        let end = at + number.length;
        let element = E::round_from(number.value);
        if !element.to_f32().is_finite() {
            if number.out_of_range || number.value.is_finite() {
                return Err(VectorError::OutOfRange { type_name: E::TYPE_NAME, literal: input[at..end].to_owned() });
            }
            check_element(element)?;
        }
        elements.push(element);

        at = skip_space(text, end);
        match text.get(at) {
            Some(b',') => at += 1,
            Some(b']') => break,
            _ => return Err(syntax(None)),
        }
    }
    if skip_space(text, at + 1) != text.len() {
        return Err(syntax(Some("Junk after closing right brace.")));
    }
    Ok(elements)
}

/// The text form of a vector.
pub fn print<E: Element>(elements: &[E]) -> String {
    const LONGEST_ELEMENT_BYTES: usize = 16;
    let mut text = vec![0; 2 + LONGEST_ELEMENT_BYTES * elements.len() + FLOAT4_SLOT_BYTES];
    text[0] = b'[';
    let mut at = 1;
    for &element in elements {
        // There is space for every element; the check costs less than what a panic would.
        let Some(slot) = text.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) else { break };
        at += write_float4(element.to_f32(), slot);
        text[at] = b',';
        at += 1;
    }
    // The last comma becomes the bracket.
    let end = if elements.is_empty() { at } else { at - 1 };
    text[end] = b']';
    text.truncate(end + 1);
    // All bytes are ASCII.
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::test_scale::scaled;

    fn message(input: &str) -> String {
        parse::<f32>(input).unwrap_err().to_string()
    }

    fn half_message(input: &str) -> String {
        parse::<f16>(input).unwrap_err().to_string()
    }

    #[test]
    fn numbers_are_read_in_every_form() {
        assert_eq!(parse::<f32>("[1,2,3]").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(parse::<f32>(" [ 1 ,\t2\n,3 ] \x0b\x0c\r").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(parse::<f32>("[1.,.5,-0.25,+1e3,1E-2]").unwrap(), [1.0, 0.5, -0.25, 1000.0, 0.01]);
        assert_eq!(parse::<f32>("[0x1p3,-0X.8]").unwrap(), [8.0, -0.5]);
        assert_eq!(parse::<f32>("[1e-46,-1e-46]").unwrap(), [0.0, 0.0]);
        assert!(parse::<f32>("[-1e-46]").unwrap()[0].is_sign_negative());
        assert_eq!(parse::<f16>("[1,65504,1e-8]").unwrap(), [f16::ONE, f16::MAX, f16::ZERO]);
    }

    #[test]
    fn a_half_is_rounded_twice() {
        // Just above the midpoint of 1 and the next half, but the f32 nearest to it is that midpoint.
        assert_eq!(parse::<f16>("[1.00048828125001]").unwrap(), [f16::ONE]);
    }

    #[test]
    fn errors_use_the_texts_of_pgvector() {
        for input in [
            "[hello,1]",
            "1,2,3",
            "",
            "[",
            "[ ",
            "[,",
            "[,]",
            "[1,]",
            "[1a]",
            "[1,,3]",
            "[1, ,3]",
            "[1,2",
            "[1e]",
            "[0x]",
        ] {
            assert_eq!(message(input), format!("invalid input syntax for type vector: \"{input}\""));
        }
        assert_eq!(message("[1,2,3]9"), "invalid input syntax for type vector: \"[1,2,3]9\"");
        assert_eq!(message("[é]"), "invalid input syntax for type vector: \"[é]\"");
        assert_eq!(message("[NaN,1]"), "NaN not allowed in vector");
        assert_eq!(message("[nan(12)]"), "NaN not allowed in vector");
        assert_eq!(message("[Infinity,1]"), "infinite value not allowed in vector");
        assert_eq!(message("[-inf]"), "infinite value not allowed in vector");
        assert_eq!(message("[4e38,1]"), "\"4e38\" is out of range for type vector");
        assert_eq!(message("[-1e400]"), "\"-1e400\" is out of range for type vector");
        assert_eq!(message("[]"), "vector must have at least 1 dimension");
        assert_eq!(message("[ ]"), "vector must have at least 1 dimension");
        assert_eq!(half_message("[]"), "halfvec must have at least 1 dimension");
        assert_eq!(half_message("[inf]"), "infinite value not allowed in halfvec");
        assert_eq!(half_message("[nan]"), "NaN not allowed in halfvec");
        assert_eq!(half_message("[ 65520 ]"), "\"65520\" is out of range for type halfvec");
        assert_eq!(half_message("[1e400]"), "\"1e400\" is out of range for type halfvec");
        assert_eq!(half_message("[x]"), "invalid input syntax for type halfvec: \"[x]\"");
    }

    #[test]
    fn details_name_the_fault() {
        let detail = |input| match parse::<f32>(input) {
            Err(VectorError::Syntax { detail, .. }) => detail,
            other => panic!("no syntax error: {other:?}"),
        };
        assert_eq!(detail("1"), Some("Vector contents must start with \"[\"."));
        assert_eq!(detail("[1]x"), Some("Junk after closing right brace."));
        assert_eq!(detail("[1,"), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sixteen thousand numbers, three times: minutes")]
    fn the_dimension_limit_is_16000() {
        let text = |n: usize| format!("[{}]", vec!["1"; n].join(","));
        assert_eq!(parse::<f32>(&text(16_000)).unwrap().len(), 16_000);
        assert_eq!(message(&text(16_001)), "vector cannot have more than 16000 dimensions");
        assert_eq!(half_message(&text(16_001)), "halfvec cannot have more than 16000 dimensions");
    }

    #[test]
    fn elements_are_joined_by_commas() {
        assert_eq!(print(&[1.0, 2.5, -3e-5]), "[1,2.5,-3e-05]");
        assert_eq!(print(&[f16::MAX, f16::from_f32(0.1)]), "[65504,0.099975586]");
        assert_eq!(print::<f32>(&[]), "[]");
        assert_eq!(print(&[-1.1754944e-38f32; 3]), "[-1.1754944e-38,-1.1754944e-38,-1.1754944e-38]");
    }

    #[test]
    fn every_finite_half_reads_back_bit_for_bit() {
        let all: Vec<f16> =
            (0..=u16::MAX).step_by(scaled(1, 331)).map(f16::from_bits).filter(|half| half.is_finite()).collect();
        for halves in all.chunks(16_000) {
            let read = parse::<f16>(&print(halves)).unwrap();
            assert!(read.iter().zip(halves).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(scaled(2000, 5)))]
        #[test]
        fn every_finite_float_reads_back_bit_for_bit(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(parse::<f32>(&print(&[value])).unwrap()[0].to_bits(), bits);
        }

        #[test]
        fn reading_is_total(input in "\\PC{0,40}|[\\[\\]0-9eExXpPinfa.,+\\- ]{0,30}") {
            if let Ok(elements) = parse::<f32>(&input) {
                prop_assert!(super::super::check(&elements).is_ok());
            }
            if let Ok(elements) = parse::<f16>(&input) {
                prop_assert!(super::super::check(&elements).is_ok());
            }
        }
    }
}
