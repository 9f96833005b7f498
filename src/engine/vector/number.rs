//! Reading one number where C's `strtof` would: the longest prefix that is a number, rounded to the nearest `f32`.
//!
//! Decimal and hexadecimal numbers, `inf`, `infinity`, `nan` and `nan(chars)` in any case, each with an optional sign.
//! The text input of all three vector types reads through [`read_number`].
//!
//! A decimal literal is scanned once, eight digits at a time. Up to 19 digits are an exact integer `w`; if the power of
//! ten is at most 22, `w · 10^e` or `w / 10^e` needs two `f64` roundings at most, of `w` and of the result (after Clinger
//! 1990), so the `f64` is wrong by less than 3 units in its last place. It rounds to the right `f32` unless a midpoint of
//! two `f32`, which is an `f64` itself, is that near. Everything else goes to the standard library.

use super::hexadecimal::read_hexadecimal;

/// A number at the start of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub value: f32,
    /// Bytes of the literal; all ASCII.
    pub length: usize,
    /// The literal is a finite number other than zero, but `value` is infinite or zero: `ERANGE` of C.
    pub out_of_range: bool,
}

/// Reads the number that the text starts with, if it starts with one.
#[inline]
pub(crate) fn read_number(text: &[u8]) -> Option<Number> {
    let negative = text.first() == Some(&b'-');
    let sign_length = usize::from(negative || text.first() == Some(&b'+'));
    let unsigned = &text[sign_length..];
    let magnitude = match unsigned.first()? {
        b'0' if matches!(unsigned.get(1), Some(b'x' | b'X')) => read_hexadecimal(unsigned),
        b'0'..=b'9' | b'.' => read_decimal(unsigned)?,
        _ => read_word(unsigned)?,
    };
    // The sign is the top bit. Half of the numbers have it, so it is not branched on.
    let value = f32::from_bits(magnitude.value.to_bits() | u32::from(negative) << 31);
    Some(Number { value, length: sign_length + magnitude.length, ..magnitude })
}

/// Skips the whitespace of PostgreSQL's array input; `0x0b` is the vertical tab.
#[inline]
pub(crate) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)) {
        at += 1;
    }
    at
}

const EXACT_POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

#[inline]
fn read_decimal(text: &[u8]) -> Option<Number> {
    let (mut significand, mut end) = (0, 0);
    while let Some(digit @ b'0'..=b'9') = text.get(end) {
        significand = append_digit(significand, *digit);
        end += 1;
    }
    let mut digits = end;
    let mut exponent = 0;
    if text.get(end) == Some(&b'.') {
        let start = end + 1;
        (significand, end) = read_fraction(text, start, significand);
        digits += end - start;
        exponent = start as i64 - end as i64;
    }
    if digits == 0 {
        return None;
    }
    let significand_end = end;
    if matches!(text.get(end), Some(b'e' | b'E')) {
        if let Some((value, exponent_end)) = read_exponent(text, end + 1) {
            exponent += value;
            end = exponent_end;
        }
    }

    if digits <= 19 && (-22..=22).contains(&exponent) {
        let power = EXACT_POWERS_OF_TEN[exponent.unsigned_abs() as usize];
        let value = if exponent < 0 { significand as f64 / power } else { significand as f64 * power };
        // The bits of the f64 that the f32 lacks; a midpoint has the first of them set. All but zero are normal numbers.
        const LACKING_BITS: u64 = (1 << 29) - 1;
        const MIDPOINT: u64 = 1 << 28;
        if (value.to_bits() & LACKING_BITS).abs_diff(MIDPOINT) > 3 {
            let value = value as f32;
            return Some(Number { value, length: end, out_of_range: value.is_infinite() });
        }
    }
    let value: f32 = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    let out_of_range =
        (value.is_infinite() || value == 0.0) && text[..significand_end].iter().any(|byte| matches!(byte, b'1'..=b'9'));
    Some(Number { value, length: end, out_of_range })
}

#[inline]
fn append_digit(significand: u64, digit: u8) -> u64 {
    significand.wrapping_mul(10).wrapping_add((digit - b'0').into())
}

/// Appends the digits from `at` on to `significand`, modulo 2^64, and gives where they end.
#[inline]
fn read_fraction(text: &[u8], mut at: usize, mut significand: u64) -> (u64, usize) {
    const POWERS_OF_TEN: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
    while let Some(ascii) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let (number, count) = leading_digits(ascii);
        significand = significand.wrapping_mul(POWERS_OF_TEN[count & 15]).wrapping_add(number);
        at += count;
        if count < 8 {
            return (significand, at);
        }
    }
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        significand = append_digit(significand, *digit);
        at += 1;
    }
    (significand, at)
}

/// The number that the leading ASCII digits form, and how many they are. All eight are treated at once (after Lemire
/// 2018, "Quickly parsing eight digits"), and fewer are made eight by zeros in front: there is no branch on their count.
#[inline]
fn leading_digits(ascii: &[u8; 8]) -> (u64, usize) {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    // The first character is in the lowest byte. Each byte that is a digit becomes its value, 0 to 9; adding 0x76 sets
    // the top bit of all others. A carry disturbs only bytes behind one that is not a digit.
    let values = u64::from_le_bytes(*ascii) ^ ZEROS;
    let others = (values | values.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() as usize / 8;
    // In two shifts, since one by 64 is not defined.
    let digits = values << (4 * (8 - count)) << (4 * (8 - count));
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    ((fours * 10_000 + (fours >> 32)) & 0xffff_ffff, count)
}

/// The exponent with its optional sign, and where it ends; nothing if there is no digit. Far beyond any `f32` it stops
/// growing, even if the digits before it are as many as a text can hold.
pub(super) fn read_exponent(text: &[u8], start: usize) -> Option<(i64, usize)> {
    const LIMIT: i64 = 1 << 40;
    let negative = text.get(start) == Some(&b'-');
    let first = start + usize::from(negative || text.get(start) == Some(&b'+'));
    let mut at = first;
    let mut magnitude = 0i64;
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        magnitude = (10 * magnitude + i64::from(digit - b'0')).min(LIMIT);
        at += 1;
    }
    (at > first).then_some((if negative { -magnitude } else { magnitude }, at))
}

/// Infinity or NaN. `nan(…)` takes letters, digits and underscores; without the closing parenthesis only `nan` counts.
fn read_word(text: &[u8]) -> Option<Number> {
    let starts_with = |word: &[u8]| text.get(..word.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(word));
    let number = |value, length| Some(Number { value, length, out_of_range: false });
    if starts_with(b"infinity") {
        number(f32::INFINITY, 8)
    } else if starts_with(b"inf") {
        number(f32::INFINITY, 3)
    } else if starts_with(b"nan(") {
        let payload = text[4..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        number(f32::NAN, if text.get(4 + payload) == Some(&b')') { 5 + payload } else { 3 })
    } else if starts_with(b"nan") {
        number(f32::NAN, 3)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_scale::scaled;
    use proptest::prelude::*;

    fn length(text: &str) -> usize {
        read_number(text.as_bytes()).map_or(0, |number| number.length)
    }

    #[test]
    fn the_longest_prefix_that_is_a_number_is_read() {
        for (text, expected) in [
            ("1", 1),
            ("1.", 2),
            (".5", 2),
            ("+1e3x", 4),
            ("1e", 1),
            ("1e+", 1),
            ("1.5E-2,", 6),
            ("-.", 0),
            (".", 0),
            ("", 0),
            ("-", 0),
            ("--1", 0),
            ("1_0", 1),
            ("12345678901234567890123x", 23),
            ("inf", 3),
            ("-INFINITYx", 9),
            ("infinit", 3),
            ("nan", 3),
            ("NaN(a_1)", 8),
            ("nan(a-1)", 3),
            ("nan(", 3),
            ("na", 0),
        ] {
            assert_eq!(length(text), expected, "{text}");
        }
    }

    #[test]
    fn range_errors_are_those_of_strtof() {
        let read = |text: &str| read_number(text.as_bytes()).unwrap();
        for text in ["1e39", "-1e99999999999999999999", "1e-46", "-1e-99999999999999999999", "0.0000001e-60"] {
            assert!(read(text).out_of_range, "{text}");
        }
        for text in ["0e99999999999999999999", "-0.0e-400", "1e-45", "3.4028235e38", "inf"] {
            assert!(!read(text).out_of_range, "{text}");
        }
        assert!(read("-0").value.is_sign_negative() && read("-1e-60").value.is_sign_negative());
        // Halfway between the largest f32 and the next power of two.
        assert!(read("3.4028235677973367e38").out_of_range && !read("3.4028235677973366e38").out_of_range);
    }

    #[test]
    fn leading_digits_end_at_the_first_other_character() {
        for byte in (0..=u8::MAX).step_by(scaled(1, 13)) {
            for position in 0..8 {
                let mut ascii = *b"98765432";
                ascii[position] = byte;
                let count = ascii.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = ascii[..count].iter().fold(0, |number, byte| 10 * number + u64::from(byte - b'0'));
                assert_eq!(leading_digits(&ascii), (number, count), "{ascii:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(scaled(5_000, 5)))]
        #[test]
        fn decimals_are_rounded_as_the_standard_library_rounds(
            text in "[+-]?([0-9]{1,25}\\.?[0-9]{0,12}|\\.[0-9]{1,25})([eE][+-]?[0-9]{1,2})?"
        ) {
            let number = read_number(text.as_bytes()).unwrap();
            prop_assert_eq!(number.length, text.len());
            prop_assert_eq!(number.value.to_bits(), text.parse::<f32>().unwrap().to_bits());
        }

        #[test]
        fn decimals_next_to_a_midpoint_are_rounded_correctly(bits in 0x0080_0000u32..0x7f00_0000, cut in 1usize..25) {
            let low = f32::from_bits(bits);
            let midpoint = (f64::from(low) + f64::from(low.next_up())) / 2.0;
            for text in [format!("{midpoint:e}"), format!("{midpoint:.cut$e}"), format!("{midpoint}"), format!("{midpoint:.18e}")] {
                let number = read_number(text.as_bytes()).unwrap();
                prop_assert_eq!(number.value.to_bits(), text.parse::<f32>().unwrap().to_bits(), "{}", text);
            }
        }

        #[test]
        fn reading_is_total(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(number) = read_number(&text) {
                prop_assert!(0 < number.length && number.length <= text.len());
            }
        }
    }
}
