//! The text form of a vector: `[1,2.5,-3e-05]`.
//!
//! Reading accepts what pgvector's input function accepts, with one exception: hexadecimal numbers, which C's `strtof`
//! takes, are a syntax error here. Writing gives the shortest digits that read back to the same `f32`, in the format
//! of PostgreSQL's `float4` output: plain notation for exponents -4 to 5, otherwise `1e+06`, `1e-05`.

use std::fmt::Write;

use super::{check_element, VectorError, MAX_DIMENSIONS};

/// Reads the text form. The caller checks the dimensions that the column declares.
pub fn parse(input: &str) -> Result<Vec<f32>, VectorError> {
    let bytes = input.as_bytes();
    let syntax = |detail| VectorError::Syntax { input: input.to_owned(), detail };

    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'[') {
        return Err(syntax(Some("Vector contents must start with \"[\".")));
    }
    at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Err(VectorError::Empty);
    }

    let mut elements = Vec::new();
    loop {
        if elements.len() == MAX_DIMENSIONS {
            return Err(VectorError::TooMany);
        }
        at = skip_space(bytes, at);
        let length = number_length(&bytes[at..]);
        // number_length counts ASCII bytes only, so the slice ends on a character boundary.
        let literal = &input[at..at + length];
        let value: f32 = literal.parse().map_err(|_| syntax(None))?;
        if value.is_infinite() && literal.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(VectorError::OutOfRange(literal.to_owned()));
        }
        check_element(value)?;
        elements.push(value);

        at = skip_space(bytes, at + length);
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b']') => break,
            _ => return Err(syntax(None)),
        }
    }
    if skip_space(bytes, at + 1) != bytes.len() {
        return Err(syntax(Some("Junk after closing right brace.")));
    }
    Ok(elements)
}

/// The whitespace of PostgreSQL's array input; `0x0b` is the vertical tab.
fn skip_space(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)).count()
}

/// The length of the longest prefix that is a number as `strtof` reads it, words for infinity and NaN included.
fn number_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    for word in ["infinity", "inf", "nan"] {
        if bytes[sign..].get(..word.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(word.as_bytes())) {
            return sign + word.len();
        }
    }
    let whole = digits(sign);
    let mut end = sign + whole;
    let mut fraction = 0;
    if bytes.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return 0;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let exponent_sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + exponent_sign);
        if exponent > 0 {
            end += 1 + exponent_sign + exponent;
        }
    }
    end
}

/// The text form of a vector.
pub fn print(elements: &[f32]) -> String {
    let mut out = String::with_capacity(2 + 12 * elements.len());
    out.push('[');
    for (index, &value) in elements.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_element(&mut out, value);
    }
    out.push(']');
    out
}

/// Appends one element as PostgreSQL's `float4` output writes it.
fn write_element(out: &mut String, value: f32) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    if value.is_infinite() {
        out.push_str("Infinity");
        return;
    }
    let (digits, exponent) = shortest_digits(value.abs());
    match exponent {
        0..6 => {
            let whole = exponent as usize + 1;
            if digits.len() <= whole {
                out.push_str(&digits);
                out.extend(std::iter::repeat_n('0', whole - digits.len()));
            } else {
                out.push_str(&digits[..whole]);
                out.push('.');
                out.push_str(&digits[whole..]);
            }
        }
        -4..0 => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
            out.push_str(&digits);
        }
        _ => {
            out.push_str(&digits[..1]);
            if digits.len() > 1 {
                out.push('.');
                out.push_str(&digits[1..]);
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            // Writing to a String cannot fail.
            let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
        }
    }
}

/// The shortest significant digits and the decimal exponent of the first one.
///
/// PostgreSQL differs from Rust in two points. Of two decimals equally near it takes the even one. And the decimal must
/// lie strictly between the two midpoints to the neighbouring floats, where Rust also takes a midpoint that rounds to
/// even; such a decimal gets one digit more.
fn shortest_digits(value: f32) -> (String, i32) {
    let mut scientific = format!("{value:e}");
    let mut precision = split_scientific(&scientific).0.len();
    let rounded = format!("{value:.0$e}", precision - 1);
    if rounded.parse() == Ok(value) {
        scientific = rounded;
    }
    while is_midpoint(&scientific, value) && precision < 9 {
        scientific = format!("{value:.precision$e}");
        precision += 1;
    }
    split_scientific(&scientific)
}

fn split_scientific(scientific: &str) -> (String, i32) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let digits: String = mantissa.chars().filter(|&c| c != '.').collect();
    (digits, exponent.parse().unwrap_or(0))
}

/// Whether the decimal is the exact middle between `value` and a neighbour. The middle of two `f32` is an exact `f64`.
fn is_midpoint(scientific: &str, value: f32) -> bool {
    let decimal: f64 = scientific.parse().unwrap_or(0.0);
    let value64 = f64::from(value);
    if decimal == value64 {
        return false;
    }
    let neighbour = if decimal > value64 { value.next_up() } else { value.next_down() };
    decimal == (value64 + f64::from(neighbour)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(input: &str) -> String {
        parse(input).unwrap_err().to_string()
    }

    #[test]
    fn numbers_are_read_in_every_decimal_form() {
        assert_eq!(parse("[1,2,3]").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(parse(" [ 1 ,\t2\n,3 ] \x0b\x0c\r").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(parse("[1.,.5,-0.25,+1e3,1E-2]").unwrap(), [1.0, 0.5, -0.25, 1000.0, 0.01]);
        assert_eq!(parse("[1e-46,-1e-46]").unwrap(), [0.0, 0.0]);
        assert!(parse("[-1e-46]").unwrap()[0].is_sign_negative());
    }

    #[test]
    fn errors_use_the_texts_of_pgvector() {
        for input in
            ["[hello,1]", "1,2,3", "", "[", "[ ", "[,", "[,]", "[1,]", "[1a]", "[1,,3]", "[1, ,3]", "[1,2", "[1e]"]
        {
            assert_eq!(message(input), format!("invalid input syntax for type vector: \"{input}\""));
        }
        assert_eq!(message("[1,2,3]9"), "invalid input syntax for type vector: \"[1,2,3]9\"");
        assert_eq!(message("[é]"), "invalid input syntax for type vector: \"[é]\"");
        assert_eq!(message("[NaN,1]"), "NaN not allowed in vector");
        assert_eq!(message("[Infinity,1]"), "infinite value not allowed in vector");
        assert_eq!(message("[-inf]"), "infinite value not allowed in vector");
        assert_eq!(message("[4e38,1]"), "\"4e38\" is out of range for type vector");
        assert_eq!(message("[-1e400]"), "\"-1e400\" is out of range for type vector");
        assert_eq!(message("[]"), "vector must have at least 1 dimension");
        assert_eq!(message("[ ]"), "vector must have at least 1 dimension");
    }

    #[test]
    fn details_name_the_fault() {
        let detail = |input| match parse(input) {
            Err(VectorError::Syntax { detail, .. }) => detail,
            other => panic!("no syntax error: {other:?}"),
        };
        assert_eq!(detail("1"), Some("Vector contents must start with \"[\"."));
        assert_eq!(detail("[1]x"), Some("Junk after closing right brace."));
        assert_eq!(detail("[1,"), None);
    }

    #[test]
    fn the_dimension_limit_is_16000() {
        let text = |n: usize| format!("[{}]", vec!["1"; n].join(","));
        assert_eq!(parse(&text(16_000)).unwrap().len(), 16_000);
        assert_eq!(message(&text(16_001)), "vector cannot have more than 16000 dimensions");
    }

    #[test]
    fn elements_are_written_as_float4_output_writes_them() {
        // Taken from PostgreSQL 15: SELECT x::float4.
        let cases: [(f32, &str); 24] = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (123456.0, "123456"),
            (1234567.0, "1.234567e+06"),
            (100000.0, "100000"),
            (1e6, "1e+06"),
            (1e10, "1e+10"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.00012345, "0.00012345"),
            (1.5e-7, "1.5e-07"),
            (f32::MAX, "3.4028235e+38"),
            (f32::MIN_POSITIVE, "1.1754944e-38"),
            (1e-45, "1e-45"),
            (1.0 / 3.0, "0.33333334"),
            (16777216.0, "1.6777216e+07"),
            (33554432.0, "3.3554432e+07"),
            // On the midpoint 67108900, which PostgreSQL does not take.
            (67108896.0, "6.7108896e+07"),
            (99999.99, "99999.99"),
            // Halfway between two decimals: the even one.
            (2918529.0 / 8.0, "364816.12"),
            (-12227261.0 / 4.0, "-3.0568152e+06"),
        ];
        for (value, expected) in cases {
            let mut out = String::new();
            write_element(&mut out, value);
            assert_eq!(out, expected);
        }
        assert_eq!(print(&[1.0, 2.5, -3e-5]), "[1,2.5,-3e-05]");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn every_finite_float_reads_back_bit_for_bit(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(parse(&print(&[value])).unwrap()[0].to_bits(), bits);
        }

        #[test]
        fn reading_is_total(input in "\\PC{0,40}|[\\[\\]0-9eE.,+\\- ]{0,30}") {
            if let Ok(elements) = parse(&input) {
                prop_assert!(super::super::check(&elements).is_ok());
            }
        }
    }
}
