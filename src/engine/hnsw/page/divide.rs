//! Exact division of a u32 by a divisor known at run time, as one multiplication.
//!
//! Every address divides an ordinal by the records of a page, hundreds of times a search; a division costs 10 to 25
//! cycles, this about 4. Lemire, Kaser, Kurz, "Faster remainder by direct computation" (2019): with
//! `c = ceil(2^64 / d)` the quotient is `(c * n) >> 64`, exact for all 32-bit n and d > 1.

/// A divisor of at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Divisor {
    divisor: u32,
    /// 0 stands for the divisor 1, whose factor does not fit.
    factor: u64,
}

impl Divisor {
    /// A divisor of 0 is taken for 1.
    pub(super) const fn new(divisor: u32) -> Self {
        let divisor = if divisor == 0 { 1 } else { divisor };
        let factor = if divisor == 1 { 0 } else { u64::MAX / divisor as u64 + 1 };
        Divisor { divisor, factor }
    }

    #[inline(always)]
    pub(super) const fn get(self) -> u32 {
        self.divisor
    }

    /// Quotient and remainder.
    #[inline(always)]
    pub(super) const fn divide(self, number: u32) -> (u32, u32) {
        if self.factor == 0 {
            return (number, 0);
        }
        let quotient = ((self.factor as u128 * number as u128) >> 64) as u32;
        (quotient, number.wrapping_sub(quotient.wrapping_mul(self.divisor)))
    }
}

#[cfg(test)]
mod tests {
    use super::Divisor;
    use crate::test_scale::scaled;
    use proptest::prelude::*;

    #[test]
    fn divides_exactly_around_every_multiple_of_every_small_divisor() {
        for divisor in (1..=2100u32).step_by(scaled(1, 61)) {
            for multiple in (0..64)
                .step_by(scaled(1, 9))
                .map(|i| (u32::MAX / divisor / 64 * i) * divisor)
                .chain([u32::MAX / divisor * divisor])
            {
                for number in [multiple.saturating_sub(1), multiple, multiple.saturating_add(1), u32::MAX] {
                    assert_eq!(Divisor::new(divisor).divide(number), (number / divisor, number % divisor));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn divides_exactly(number: u32, divisor in 1u32..) {
            prop_assert_eq!(Divisor::new(divisor).divide(number), (number / divisor, number % divisor));
        }
    }
}
