//! One number as PostgreSQL's `float4` output writes it: the shortest digits, plain for exponents -4 to 5, otherwise
//! `1e+06`, `1e-05`. Both element types and the sparse vector print through this function.
//!
//! Written for long vectors: all digits are made at once in one machine word, which is stored whole wherever some of them
//! belong, so the space it is written to is longer than the text.

use super::shortest::shortest;

/// The bytes that [`write_float4`] may touch. The text itself has at most 15, as in `-1.17549435e-38`.
pub(crate) const FLOAT4_SLOT_BYTES: usize = 24;

/// Writes the number to the start of the slot and returns the length of the text. What follows the text is unspecified.
#[inline]
pub(crate) fn write_float4(value: f32, slot: &mut [u8; FLOAT4_SLOT_BYTES]) -> usize {
    slot[0] = b'-';
    let at = usize::from(value.is_sign_negative() && !value.is_nan());
    if value == 0.0 {
        slot[at] = b'0';
        return at + 1;
    }
    if !value.is_finite() {
        let word: &[u8] = if value.is_nan() { b"NaN" } else { b"Infinity" };
        slot[at..at + word.len()].copy_from_slice(word);
        return at + word.len();
    }
    let decimal = shortest(value);
    let length = decimal_length(decimal.digits);
    let (first, others, significant) = nine_digits(decimal.digits, length);
    let exponent = decimal.exponent + length as i32 - 1;
    match exponent {
        0..6 => {
            let whole = exponent as usize + 1;
            slot[at] = first;
            put(slot, at + 1, others);
            if significant <= whole {
                return at + whole;
            }
            slot[at + whole] = b'.';
            put(slot, at + whole + 1, others >> (8 * exponent));
            at + significant + 1
        }
        -4..0 => {
            let start = at + 1 + exponent.unsigned_abs() as usize;
            slot[at..at + 5].copy_from_slice(b"0.000");
            slot[start] = first;
            put(slot, start + 1, others);
            start + significant
        }
        _ => {
            slot[at] = first;
            slot[at + 1] = b'.';
            put(slot, at + 2, others);
            let end = at + if significant > 1 { significant + 1 } else { 1 };
            let magnitude = exponent.unsigned_abs() as u8;
            let sign = if exponent < 0 { b'-' } else { b'+' };
            slot[end..end + 4].copy_from_slice(&[b'e', sign, b'0' + magnitude / 10, b'0' + magnitude % 10]);
            end + 4
        }
    }
}

/// The number as a string: for messages.
pub(super) fn float4_text(value: f32) -> String {
    let mut slot = [0; FLOAT4_SLOT_BYTES];
    let length = write_float4(value, &mut slot);
    slot[..length].iter().copied().map(char::from).collect()
}

/// Writes eight characters, the lowest byte first.
#[inline]
fn put(slot: &mut [u8; FLOAT4_SLOT_BYTES], at: usize, characters: u64) {
    slot[at..at + 8].copy_from_slice(&characters.to_le_bytes());
}

#[inline]
fn decimal_length(digits: u32) -> usize {
    digits.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// The digits of a number of this length, filled with zeros behind to nine: the first, the other eight with the next
/// one in the lowest byte, and how many of the nine there are up to the last that is not zero.
#[inline]
fn nine_digits(decimal: u32, length: usize) -> (u8, u64, usize) {
    const TO_NINE_DIGITS: [u32; 10] =
        [100_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let nine = decimal * TO_NINE_DIGITS[length.min(9)];
    let others = eight_digits(nine % 100_000_000);
    let significant = 9 - others.leading_zeros() as usize / 8;
    (b'0' + (nine / 100_000_000) as u8, others | 0x3030_3030_3030_3030, significant)
}

/// The eight decimal digits of a number below 10^8, one per byte, the most significant in the lowest byte. Each step
/// halves the width of the groups in all groups at once; the multiplications are divisions by 100 and by 10.
#[inline]
fn eight_digits(number: u32) -> u64 {
    let groups_of_4 = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((groups_of_4 * 10_486) >> 20) & 0x7f_0000_007f;
    let groups_of_2 = hundreds | (groups_of_4 - 100 * hundreds) << 16;
    let tens = ((groups_of_2 * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (groups_of_2 - 10 * tens) << 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_scale::scaled;

    #[test]
    fn numbers_are_written_as_float4_output_writes_them() {
        // Taken from PostgreSQL 15: SELECT x::float4.
        let cases: [(f32, &str); 27] = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (123456.0, "123456"),
            (123456.7, "123456.7"),
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
            (f32::NAN, "NaN"),
            (f32::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in cases {
            assert_eq!(float4_text(value), expected);
        }
    }

    #[test]
    fn eight_digits_are_those_of_the_number() {
        for number in (0..100_000_000).step_by(scaled(9_973, 2_000_003)).chain([99_999_999, 10_000, 9_999]) {
            let text: String =
                eight_digits(number).to_le_bytes().iter().map(|digit| char::from(b'0' + digit)).collect();
            assert_eq!(text, format!("{number:08}"));
        }
    }
}
