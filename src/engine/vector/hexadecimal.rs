//! Hexadecimal floating-point literals as C reads them: `0x1p3`, `0X.8`, `0x1.921fb6p+1`.
//!
//! The digits are the bits of the number, so one rounding is enough: the leading 64 bits are kept, whether a later bit
//! is set is remembered, and the significand is cut to what the exponent leaves, to the nearest, ties to even.

use super::number::{read_exponent, Number};

/// Significant bits of an `f32`, and the weight of the last bit of its smallest number.
const PRECISION_BITS: i64 = f32::MANTISSA_DIGITS as i64;
const MIN_EXPONENT: i64 = -149;

/// Reads a literal that starts with `0x`, without sign. If no digit follows, it is the number `0`.
pub(super) fn read_hexadecimal(text: &[u8]) -> Number {
    let mut at = 2;
    let mut significand = 0u64;
    let mut exponent = 0i64;
    let mut lost = false;
    let mut digits = 0;
    let mut after_point = false;
    loop {
        match text.get(at).copied() {
            Some(b'.') if !after_point => after_point = true,
            Some(byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                digits += 1;
                if significand >> 60 == 0 {
                    significand = significand << 4 | u64::from(digit);
                    exponent -= 4 * i64::from(after_point);
                } else {
                    lost |= digit != 0;
                    exponent += 4 * i64::from(!after_point);
                }
            }
            _ => break,
        }
        at += 1;
    }
    if digits == 0 {
        return Number { value: 0.0, length: 1, out_of_range: false };
    }
    if matches!(text.get(at), Some(b'p' | b'P')) {
        if let Some((value, end)) = read_exponent(text, at + 1) {
            exponent += value;
            at = end;
        }
    }
    let value = round(significand, lost, exponent);
    Number { value, length: at, out_of_range: significand != 0 && (value == 0.0 || value.is_infinite()) }
}

/// The `f32` nearest to `significand · 2^exponent`, plus less than one last bit if something is `lost` behind it.
fn round(significand: u64, lost: bool, exponent: i64) -> f32 {
    if significand == 0 {
        return 0.0;
    }
    let bits = 64 - i64::from(significand.leading_zeros());
    if bits + exponent > 128 {
        return f32::INFINITY;
    }
    let cut = (bits - PRECISION_BITS).max(MIN_EXPONENT - exponent);
    if cut <= 0 {
        return scale(significand, exponent);
    }
    if cut > 64 {
        return 0.0;
    }
    let kept = significand.checked_shr(cut as u32).unwrap_or(0);
    let half = 1u64 << (cut - 1);
    let rest = significand & (half | (half - 1));
    let up = rest > half || (rest == half && (lost || kept % 2 == 1));
    scale(kept + u64::from(up), exponent + cut)
}

/// `integer · 2^exponent` for a product that is an `f32` or, rounded up from the largest one, 2^128. An `f64` holds every
/// step: its exponents go down to -1022, and the factors are at most 2^24 and 2^±149.
fn scale(integer: u64, exponent: i64) -> f32 {
    (integer as f64 * f64::from_bits(((1023 + exponent) as u64) << 52)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> f32 {
        let number = read_hexadecimal(text.as_bytes());
        assert_eq!(number.length, text.len(), "{text}");
        number.value
    }

    #[test]
    fn digits_point_and_exponent() {
        assert_eq!(value("0x1p3"), 8.0);
        assert_eq!(value("0XfF"), 255.0);
        assert_eq!(value("0x.8"), 0.5);
        assert_eq!(value("0x1.8P+1"), 3.0);
        assert_eq!(value("0x10.p-4"), 1.0);
        assert_eq!(value("0x0.00000000000000000000000001p104"), 1.0);
        assert_eq!(value("0x100000000000000000000000000p-104"), 1.0);
        assert_eq!(value("0x0p99999999999999999999"), 0.0);
    }

    #[test]
    fn what_is_not_part_of_the_literal_is_left() {
        for (text, length) in [("0x", 1), ("0xg", 1), ("0x.", 1), ("0x.p1", 1), ("0x1p", 3), ("0x1p+", 3), ("0x1..", 4)]
        {
            assert_eq!(read_hexadecimal(text.as_bytes()).length, length, "{text}");
        }
    }

    #[test]
    fn ties_go_to_the_even_number_unless_something_is_lost_behind() {
        assert_eq!(value("0x1000001"), 16777216.0);
        assert_eq!(value("0x1000003"), 16777220.0);
        assert_eq!(value("0x1000001.00000000000000000001"), 16777218.0);
        assert_eq!(value("0x1000000.fffffffffffffffffffff"), 16777216.0);
        assert_eq!(value("0x1p-149").to_bits(), 1);
        assert_eq!(value("0x1p-150").to_bits(), 0);
        assert_eq!(value("0x1.8p-149").to_bits(), 2);
        assert_eq!(value("0x1.00000000000000000001p-150").to_bits(), 1);
        assert_eq!(value("0xffffff8p-28").to_bits(), 1f32.to_bits());
        assert_eq!(value("0x7fffffp-149").to_bits(), 0x007f_ffff);
        assert_eq!(value("0x1.fffffefffffffffp127"), f32::MAX);
    }

    #[test]
    fn beyond_the_range_is_infinity_or_zero() {
        for text in ["0x1p128", "0x1.ffffffp127", "0x1p99999999999999999999", "0x1p-151", "0x1p-99999999999999999999"] {
            assert!(read_hexadecimal(text.as_bytes()).out_of_range, "{text}");
        }
        assert!(!read_hexadecimal(b"0x1p-149").out_of_range);
    }

    proptest! {
        #[test]
        fn every_f32_and_every_rounded_f64_is_read(significand in any::<u64>(), exponent in -230i32..90) {
            // f64 -> f32 rounds once, so a significand that an f64 holds is its own reference.
            let exact = significand >> 11;
            let expected = (exact as f64 * 2f64.powi(exponent)) as f32;
            prop_assert_eq!(value(&format!("0x{exact:x}p{exponent}")).to_bits(), expected.to_bits());
        }
    }
}
