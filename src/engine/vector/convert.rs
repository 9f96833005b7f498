//! Casts into a dense vector: from the other element type and from arrays of numbers.
//!
//! Every number is rounded to `f32` first and then to the element type. What is finite as `f32` but not as an element is
//! out of range and named in the error; what is not finite as `f32` is an infinite value or NaN. The range of all
//! elements is checked before any is checked for being finite, as pgvector does.

use std::borrow::Cow;

use super::float4::float4_text;
use super::{check_dimensions, check_element, Element, VectorError};

/// The element nearest to `value`, which may be infinite or NaN only if `value` is.
#[inline]
pub(crate) fn round_in_range<E: Element>(value: f32) -> Result<E, VectorError> {
    let element = E::round_from(value);
    if !element.to_f32().is_finite() && value.is_finite() {
        return Err(VectorError::OutOfRange { type_name: E::TYPE_NAME, literal: float4_text(value) });
    }
    Ok(element)
}

fn from_array<N: Copy, E: Element>(numbers: &[N], to_f32: impl Fn(N) -> f32) -> Result<Vec<E>, VectorError> {
    check_dimensions::<E>(numbers.len())?;
    from_numbers(&numbers.iter().map(|&number| to_f32(number)).collect::<Vec<f32>>())
}

fn from_numbers<E: Element>(numbers: &[f32]) -> Result<Vec<E>, VectorError> {
    check_dimensions::<E>(numbers.len())?;
    let elements = E::round_all(Cow::Borrowed(numbers));
    if E::widen(&elements).iter().all(|element| element.is_finite()) {
        return Ok(elements);
    }
    // What is wrong? Slowly, since there is an error to be made.
    numbers.iter().try_for_each(|&number| round_in_range::<E>(number).map(drop))?;
    elements.iter().try_for_each(|&element| check_element(element))?;
    Ok(elements)
}

/// A vector of the other element type.
pub fn convert<A: Element, B: Element>(a: &[A]) -> Result<Vec<B>, VectorError> {
    from_numbers(&A::widen(a))
}

/// A vector from `real[]`, or from `numeric[]` whose elements the caller has made `real`.
pub fn from_f32s<E: Element>(numbers: &[f32]) -> Result<Vec<E>, VectorError> {
    from_numbers(numbers)
}

/// A vector from `double precision[]`.
pub fn from_f64s<E: Element>(numbers: &[f64]) -> Result<Vec<E>, VectorError> {
    from_array(numbers, |number| number as f32)
}

/// A vector from `integer[]`.
pub fn from_i32s<E: Element>(numbers: &[i32]) -> Result<Vec<E>, VectorError> {
    from_array(numbers, |number| number as f32)
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::test_scale::scaled;

    fn message<E: Element>(result: Result<Vec<E>, VectorError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn numbers_are_rounded_to_the_element_type() {
        assert_eq!(from_f64s::<f32>(&[0.1, 1e-300]).unwrap(), [0.1, 0.0]);
        assert_eq!(from_i32s::<f32>(&[16_777_217]).unwrap(), [16_777_216.0]);
        assert_eq!(from_f32s::<f16>(&[65_519.0]).unwrap(), [f16::MAX]);
        // Through f32, which is the midpoint of two halves.
        assert_eq!(from_f64s::<f16>(&[1.000_488_281_250_01]).unwrap(), [f16::ONE]);
    }

    #[test]
    fn numbers_outside_the_type_are_named() {
        assert_eq!(message(convert::<f32, f16>(&[65_536.0])), "\"65536\" is out of range for type halfvec");
        assert_eq!(message(from_i32s::<f16>(&[1, -1_000_000])), "\"-1e+06\" is out of range for type halfvec");
        assert_eq!(message(from_f64s::<f16>(&[1e300])), "infinite value not allowed in halfvec");
        assert_eq!(message(from_f64s::<f32>(&[-1e300])), "infinite value not allowed in vector");
        assert_eq!(message(from_f64s::<f16>(&[f64::NAN, 1e6])), "\"1e+06\" is out of range for type halfvec");
        assert_eq!(message(from_f32s::<f32>(&[f32::NAN])), "NaN not allowed in vector");
        assert_eq!(message(from_f32s::<f32>(&[])), "vector must have at least 1 dimension");
        assert_eq!(message(from_i32s::<f16>(&[0; 16_001])), "halfvec cannot have more than 16000 dimensions");
    }

    #[test]
    fn every_half_survives_the_way_through_vector() {
        let halves: Vec<f16> =
            (0..=u16::MAX).step_by(scaled(1, 331)).map(f16::from_bits).filter(|half| half.is_finite()).collect();
        for some in halves.chunks(16_000) {
            let wide = convert::<f16, f32>(some).unwrap();
            let back = convert::<f32, f16>(&wide).unwrap();
            assert!(back.iter().zip(some).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }

    proptest! {
        #[test]
        fn what_converts_is_a_valid_vector(numbers in prop::collection::vec(any::<f64>(), 0..20)) {
            if let Ok(elements) = from_f64s::<f16>(&numbers) {
                prop_assert!(super::super::check(&elements).is_ok());
            }
            if let Ok(elements) = from_f64s::<f32>(&numbers) {
                prop_assert!(super::super::check(&elements).is_ok());
            }
        }
    }
}
