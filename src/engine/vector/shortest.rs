//! The shortest decimal that reads back to the same `f32`.
//!
//! The method is Schubfach (Giulietti 2020, "The Schubfach way to render doubles"): scale the number and the two
//! midpoints to its neighbours by a power of ten so that the gap between the midpoints holds 1 to 10 integers, then
//! pick one. Three multiplications with a 64-bit power of ten, no division of wide numbers. Two choices follow
//! PostgreSQL's output of `float4` and differ from Rust's: the decimal lies strictly between the midpoints, never on
//! one, and of two equally near decimals the even one is taken.

use std::hint::select_unpredictable;

/// `digits · 10^exponent`. `digits` has at most 9 decimal digits and may end in zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    pub digits: u32,
    pub exponent: i32,
}

const FRACTION_BITS: u32 = 23;
/// `value = significand · 2^(biased exponent - BIAS)` for an integer significand.
const BIAS: i32 = 127 + FRACTION_BITS as i32;

/// The shortest decimal of a positive finite number; the sign is ignored.
pub(super) fn shortest(value: f32) -> Decimal {
    let bits = value.to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let biased = (bits >> FRACTION_BITS & 0xff) as i32;
    let (significand, exponent) = match biased {
        0 => (fraction, 1 - BIAS),
        _ => (fraction | 1 << FRACTION_BITS, biased - BIAS),
    };
    // An integer below 2^24 has no shorter decimal than its own digits.
    if (-(FRACTION_BITS as i32)..=0).contains(&exponent) && significand.trailing_zeros() as i32 >= -exponent {
        return Decimal { digits: significand >> -exponent, exponent: 0 };
    }

    // In quarters of the last bit the number is 4s and its midpoints are 2 away, but the lower one is 1 away at a power
    // of two, where the numbers below are twice as dense.
    let dense_below = fraction == 0 && biased > 1;
    let power = if dense_below { floor_log10_of_three_quarters_pow2(exponent) } else { floor_log10_pow2(exponent) };
    let scale = power_of_ten(-power);
    let shift = exponent + floor_log2_pow10(-power) + 1;
    let scaled = |quarters: u32| multiply_to_odd(scale, quarters << shift);
    let low = scaled(4 * significand - 2 + u32::from(dense_below));
    let quarters = scaled(4 * significand);
    let high = scaled(4 * significand + 2);
    let inside = |candidate: u32| low < 4 * candidate && 4 * candidate < high;

    let below = quarters / 4;
    // One digit fewer, if a multiple of ten lies between the midpoints; two cannot.
    let tens = below - below % 10;
    let (tens_inside, next_tens_inside) = (inside(tens), inside(tens + 10));
    // The nearer integer, if both neighbours lie between the midpoints; at least one does.
    let middle = 4 * below + 2;
    let nearer_above = quarters > middle || (quarters == middle && below % 2 == 1);
    let (below_inside, above_inside) = (inside(below), inside(below + 1));
    let above = above_inside & (nearer_above | !below_inside);
    // Which it is depends on the digits and is not to be guessed: select, do not branch.
    let nearest = below + u32::from(above);
    let rounded = select_unpredictable(next_tens_inside, tens + 10, tens);
    Decimal { digits: select_unpredictable(tens_inside | next_tens_inside, rounded, nearest), exponent: power }
}

/// `⌊log10(2^e)⌋`, `⌊log10(¾·2^e)⌋` and `⌊log2(10^e)⌋`, exact for the exponents that occur here (Giulietti, section 10).
fn floor_log10_pow2(e: i32) -> i32 {
    (e * 1_262_611) >> 22
}

fn floor_log10_of_three_quarters_pow2(e: i32) -> i32 {
    (e * 1_262_611 - 524_031) >> 22
}

const fn floor_log2_pow10(e: i32) -> i32 {
    (e * 1_741_647) >> 19
}

/// `⌊scale · factor / 2^64⌋`, with the last bit set if bits were lost ("round to odd"), so that comparisons with even
/// numbers come out as they would on the exact product. The error of `scale` is too small to be taken for lost bits.
fn multiply_to_odd(scale: u64, factor: u32) -> u32 {
    let product = u128::from(scale) * u128::from(factor);
    let lost = (product >> 32) as u32 > 1;
    (product >> 64) as u32 | u32::from(lost)
}

const MIN_POWER: i32 = -31;
const MAX_POWER: i32 = 45;
const POWERS: [u64; (MAX_POWER - MIN_POWER + 1) as usize] = {
    let mut powers = [0; (MAX_POWER - MIN_POWER + 1) as usize];
    let mut index = 0;
    while index < powers.len() {
        powers[index] = normalized_power_of_ten(index as i32 + MIN_POWER);
        index += 1;
    }
    powers
};

/// `10^e` scaled by a power of two into `[2^63, 2^64)` and rounded up.
fn power_of_ten(e: i32) -> u64 {
    POWERS[(e - MIN_POWER) as usize]
}

/// Exact integer arithmetic: the factor 2 of ten is in the scale, and `5^45` fits into `u128`.
const fn normalized_power_of_ten(e: i32) -> u64 {
    let five = 5u128.pow(e.unsigned_abs());
    let bits = 128 - five.leading_zeros();
    if e >= 0 {
        if bits <= 64 {
            return (five << (64 - bits)) as u64;
        }
        let cut = bits - 64;
        return (five >> cut) as u64 + (five & ((1 << cut) - 1) != 0) as u64;
    }
    // ⌈2^(63 + bits) / 5^|e|⌉ by long division, one bit at a time.
    let mut remainder = 1u128;
    let mut quotient = 0u64;
    let mut step = 0;
    while step < 63 + bits {
        remainder *= 2;
        quotient <<= 1;
        if remainder >= five {
            remainder -= five;
            quotient |= 1;
        }
        step += 1;
    }
    quotient + (remainder != 0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_scale::scaled;
    use proptest::prelude::*;

    fn parts(scientific: &str) -> (String, i32) {
        let (mantissa, exponent) = scientific.split_once('e').unwrap();
        (mantissa.replace('.', ""), exponent.parse().unwrap())
    }

    /// Whether the decimal is the exact middle between `value` and a neighbour. The middle of two `f32` is an exact `f64`.
    fn is_midpoint(scientific: &str, value: f32) -> bool {
        let (decimal, exact): (f64, f64) = (scientific.parse().unwrap(), value.into());
        if decimal == exact {
            return false;
        }
        let neighbour = if decimal > exact { value.next_up() } else { value.next_down() };
        decimal == (exact + f64::from(neighbour)) / 2.0
    }

    /// The same digits found slowly from Rust's own shortest and fixed-precision output.
    fn reference(value: f32) -> (String, i32) {
        let mut scientific = format!("{value:e}");
        let mut precision = parts(&scientific).0.len();
        let rounded = format!("{value:.0$e}", precision - 1);
        if rounded.parse() == Ok(value) {
            scientific = rounded;
        }
        while is_midpoint(&scientific, value) && precision < 9 {
            scientific = format!("{value:.precision$e}");
            precision += 1;
        }
        parts(&scientific)
    }

    fn trimmed(value: f32) -> (String, i32) {
        let Decimal { digits, exponent } = shortest(value);
        let text = digits.to_string();
        let first = exponent + text.len() as i32 - 1;
        (text.trim_end_matches('0').to_owned(), first)
    }

    #[test]
    fn powers_of_ten_are_rounded_up_and_normalized() {
        assert_eq!(power_of_ten(0), 1 << 63);
        assert_eq!(power_of_ten(1), 10 << 60);
        assert_eq!(power_of_ten(-1), 0xcccc_cccc_cccc_cccd);
        assert!((MIN_POWER..=MAX_POWER).step_by(scaled(1, 5)).all(|e| power_of_ten(e) >> 63 == 1));
    }

    #[test]
    fn powers_of_two_and_their_neighbours_agree_with_the_reference() {
        for biased in (0..255u32).step_by(scaled(1, 17)) {
            let power = f32::from_bits(biased << FRACTION_BITS);
            for value in [power.next_down(), power, power.next_up()] {
                if value > 0.0 && value.is_finite() {
                    assert_eq!(trimmed(value), reference(value), "{value:e}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(scaled(20_000, 10)))]
        #[test]
        fn any_number_agrees_with_the_reference(bits in 1u32..0x7f80_0000) {
            let value = f32::from_bits(bits);
            prop_assert_eq!(trimmed(value), reference(value));
        }
    }
}
