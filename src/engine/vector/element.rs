//! What an element of a dense vector is: `f32` for the SQL type `vector`, `f16` for `halfvec`.
//!
//! Every operation of this module is written once, over this trait. It is exact to compute in `f32` and round once: an
//! `f32` has more than twice the digits of an `f16`, plus two, so rounding the `f32` result of `+`, `-`, `*` or `/` of
//! two halves gives the half nearest to the true result (Figueroa 1995).

use std::borrow::Cow;
use std::fmt::Debug;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::error::TypeName;
use super::MAX_DIMENSIONS;

/// A floating-point number that a dense vector holds.
pub trait Element: Copy + PartialOrd + Default + Debug + Send + Sync + 'static {
    /// The SQL type that holds such elements.
    const TYPE_NAME: TypeName;
    /// The most dimensions of that type.
    const MAX_DIMENSIONS: usize = MAX_DIMENSIONS;
    /// Bytes of one element in memory and on the wire.
    const BYTES: usize;

    /// The same number; never rounds.
    fn to_f32(self) -> f32;
    /// The nearest element, ties to even; beyond the range, infinity. NaN stays NaN.
    fn round_from(value: f32) -> Self;
    /// The same numbers; a copy only where the type is not `f32` already.
    fn widen(elements: &[Self]) -> Cow<'_, [f32]>;
    /// [`Element::round_from`] for every number.
    fn round_all(values: Cow<'_, [f32]>) -> Vec<Self>;
    /// Appends the wire form, most significant byte first.
    fn append_be(self, out: &mut Vec<u8>);
    /// Reads the wire form from the first [`Element::BYTES`] bytes and gives the rest, or nothing if there are fewer.
    fn split_be(bytes: &[u8]) -> Option<(Self, &[u8])>;
}

impl Element for f32 {
    const TYPE_NAME: TypeName = "vector";
    const BYTES: usize = 4;

    #[inline]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline]
    fn round_from(value: f32) -> f32 {
        value
    }

    fn widen(elements: &[f32]) -> Cow<'_, [f32]> {
        Cow::Borrowed(elements)
    }

    fn round_all(values: Cow<'_, [f32]>) -> Vec<f32> {
        values.into_owned()
    }

    #[inline]
    fn append_be(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    #[inline]
    fn split_be(bytes: &[u8]) -> Option<(f32, &[u8])> {
        let (first, rest) = bytes.split_first_chunk()?;
        Some((f32::from_be_bytes(*first), rest))
    }
}

impl Element for f16 {
    const TYPE_NAME: TypeName = "halfvec";
    const BYTES: usize = 2;

    #[inline]
    fn to_f32(self) -> f32 {
        // The inherent method, which takes precedence over this one.
        self.to_f32()
    }

    #[inline]
    fn round_from(value: f32) -> f16 {
        f16::from_f32(value)
    }

    fn widen(elements: &[f16]) -> Cow<'_, [f32]> {
        let mut wide = vec![0.0; elements.len()];
        elements.convert_to_f32_slice(&mut wide);
        Cow::Owned(wide)
    }

    fn round_all(values: Cow<'_, [f32]>) -> Vec<f16> {
        let mut rounded = vec![f16::ZERO; values.len()];
        rounded.convert_from_f32_slice(&values);
        rounded
    }

    #[inline]
    fn append_be(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    #[inline]
    fn split_be(bytes: &[u8]) -> Option<(f16, &[u8])> {
        let (first, rest) = bytes.split_first_chunk()?;
        Some((f16::from_be_bytes(*first), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_scale::scaled;

    fn halves() -> impl Iterator<Item = f16> {
        (0..=u16::MAX).step_by(scaled(1, 331)).map(f16::from_bits)
    }

    /// The value of a finite half from its definition: sign, exponent, fraction.
    fn definition(half: f16) -> f64 {
        let bits = half.to_bits();
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-24),
            _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
        };
        if bits >> 15 == 1 {
            -magnitude
        } else {
            magnitude
        }
    }

    #[test]
    fn every_half_is_an_f32_and_comes_back() {
        for half in halves() {
            let wide = Element::to_f32(half);
            if half.is_nan() {
                assert!(wide.is_nan() && f16::round_from(wide).is_nan());
                continue;
            }
            assert_eq!(f16::round_from(wide).to_bits(), half.to_bits());
            if half.is_finite() {
                assert_eq!(f64::from(wide).to_bits(), definition(half).to_bits());
            }
        }
    }

    #[test]
    fn rounding_goes_to_the_nearest_half_and_at_the_midpoint_to_the_even_one() {
        for bits in (0..0x7c00u16).step_by(scaled(1, 331)) {
            let (low, high) = (f16::from_bits(bits), f16::from_bits(bits + 1));
            let top = if high.is_infinite() { 65536.0 } else { definition(high) };
            let midpoint = ((definition(low) + top) / 2.0) as f32;
            let even = if bits % 2 == 0 { low } else { high };
            for sign in [1.0, -1.0] {
                let rounded = |value: f32| f16::round_from(sign * value).to_bits() & 0x7fff;
                assert_eq!(rounded(midpoint), even.to_bits());
                assert_eq!(rounded(midpoint.next_down()), low.to_bits());
                assert_eq!(rounded(midpoint.next_up()), high.to_bits());
            }
        }
    }

    #[test]
    fn slices_are_converted_as_single_numbers_are() {
        let all: Vec<f16> = halves().collect();
        let wide = f16::widen(&all);
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(wide.iter().zip(&all).all(|(&wide, &half)| same(wide, Element::to_f32(half))));
        // Between any two halves, and beyond the largest.
        let between: Vec<f32> = wide.iter().map(|value| value * 1.0003).collect();
        let rounded = f16::round_all(Cow::Borrowed(&between));
        assert!(rounded.iter().zip(between).all(|(&a, b)| same(a.to_f32(), f16::round_from(b).to_f32())));
        assert_eq!(f32::round_all(f32::widen(&[1.0, 2.0])), [1.0, 2.0]);
    }

    #[test]
    fn the_wire_form_of_every_half_comes_back() {
        let mut bytes = Vec::new();
        halves().for_each(|half| half.append_be(&mut bytes));
        let mut rest = bytes.as_slice();
        for half in halves() {
            let (read, left) = f16::split_be(rest).unwrap();
            assert_eq!(read.to_bits(), half.to_bits());
            rest = left;
        }
        assert!(f16::split_be(rest).is_none() && f32::split_be(&[0; 3]).is_none());
    }
}
