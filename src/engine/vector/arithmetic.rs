//! Element-wise arithmetic, norm and order of dense vectors, with pgvector's overflow rules.
//!
//! Inputs are valid vectors (finite elements). A result that leaves the range of the element type is an error, never an
//! infinity. Elements are combined in `f32` and rounded once, see [`super::element`].

use std::cmp::Ordering;

use super::{check_dimensions, check_same_dimensions, ArithmeticError, Element};

/// Combines element by element.
fn zip_with<E: Element>(a: &[E], b: &[E], combine: impl Fn(f32, f32) -> f32) -> Result<Vec<E>, ArithmeticError> {
    check_same_dimensions(a, b)?;
    let (left, right) = (E::widen(a), E::widen(b));
    let combined: Vec<f32> = left.iter().zip(right.iter()).map(|(&x, &y)| combine(x, y)).collect();
    Ok(E::round_all(combined.into()))
}

/// Refuses an infinite result.
fn finite<E: Element>(result: Vec<E>) -> Result<Vec<E>, ArithmeticError> {
    if E::widen(&result).iter().all(|value| value.is_finite()) {
        Ok(result)
    } else {
        Err(ArithmeticError::Overflow)
    }
}

/// `a + b`, element by element.
pub fn add<E: Element>(a: &[E], b: &[E]) -> Result<Vec<E>, ArithmeticError> {
    finite(zip_with(a, b, |x, y| x + y)?)
}

/// `a - b`, element by element.
pub fn subtract<E: Element>(a: &[E], b: &[E]) -> Result<Vec<E>, ArithmeticError> {
    finite(zip_with(a, b, |x, y| x - y)?)
}

/// `a * b`, element by element. A product of non-zero elements that rounds to zero is an underflow error; of several
/// faults the first is reported.
pub fn multiply<E: Element>(a: &[E], b: &[E]) -> Result<Vec<E>, ArithmeticError> {
    let zero = E::default();
    let product = zip_with(a, b, |x, y| x * y)?;
    for (p, (&x, &y)) in product.iter().zip(a.iter().zip(b)) {
        if !p.to_f32().is_finite() {
            return Err(ArithmeticError::Overflow);
        }
        if *p == zero && x != zero && y != zero {
            return Err(ArithmeticError::Underflow);
        }
    }
    Ok(product)
}

/// The elements of `a`, then those of `b`.
pub fn concat<E: Element>(a: &[E], b: &[E]) -> Result<Vec<E>, ArithmeticError> {
    check_dimensions::<E>(a.len().saturating_add(b.len()))?;
    Ok([a, b].concat())
}

/// The Euclidean norm, accumulated in `f64`, so that the square of a large `f32` does not overflow.
pub fn norm<E: Element>(a: &[E]) -> f64 {
    // Independent sums let the additions overlap.
    let mut lanes = [0f64; 8];
    let wide = E::widen(a);
    let (blocks, rest) = wide.as_chunks::<8>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (lanes.iter().sum::<f64>() + rest).sqrt()
}

/// `a` scaled to norm 1, rounded to `f32` and then to the element type. The zero vector gives zeros. Nothing can
/// overflow: no element is larger than the norm, and the square of the smallest one is an `f64` above zero.
pub fn l2_normalized<E: Element>(a: &[E]) -> Vec<E> {
    let norm = norm(a);
    if norm > 0.0 {
        E::round_all(E::widen(a).iter().map(|&x| (f64::from(x) / norm) as f32).collect::<Vec<f32>>().into())
    } else {
        vec![E::default(); a.len()]
    }
}

/// The order of the btree operator class: element by element, then the shorter vector first. Both zeros are equal.
pub fn compare<E: Element>(a: &[E], b: &[E]) -> Ordering {
    for (x, y) in a.iter().zip(b) {
        if x < y {
            return Ordering::Less;
        }
        if x > y {
            return Ordering::Greater;
        }
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::super::VectorError;
    use super::*;

    fn halves(values: &[f32]) -> Vec<f16> {
        values.iter().map(|&value| f16::from_f32(value)).collect()
    }

    #[test]
    fn element_wise_results() {
        assert_eq!(add(&[1f32, 2.0], &[3.0, 5.0]).unwrap(), [4.0, 7.0]);
        assert_eq!(subtract(&[1f32, 2.0], &[3.0, 5.0]).unwrap(), [-2.0, -3.0]);
        assert_eq!(multiply(&[1f32, 2.0], &[3.0, 5.0]).unwrap(), [3.0, 10.0]);
        assert_eq!(concat(&[1f32], &[2.0, 3.0]).unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(add(&halves(&[1.0]), &halves(&[2048.0])).unwrap(), halves(&[2048.0]));
    }

    #[test]
    fn a_result_beyond_the_element_type_is_an_error() {
        assert_eq!(add(&[3e38f32], &[3e38]), Err(ArithmeticError::Overflow));
        assert_eq!(subtract(&[-3e38f32], &[3e38]), Err(ArithmeticError::Overflow));
        assert_eq!(multiply(&[1e37f32], &[1e37]), Err(ArithmeticError::Overflow));
        assert_eq!(multiply(&[1e-37f32], &[1e-37]), Err(ArithmeticError::Underflow));
        assert_eq!(multiply(&[0f32], &[1e-37]).unwrap(), [0.0]);
        assert_eq!(add(&[f16::MAX], &[f16::MAX]), Err(ArithmeticError::Overflow));
        assert_eq!(multiply(&halves(&[1e-7]), &halves(&[1e-7])), Err(ArithmeticError::Underflow));
        assert_eq!(multiply(&[1e-37f32, 1e37], &[1e-37, 1e37]), Err(ArithmeticError::Underflow));
        assert_eq!(multiply(&[1e37f32, 1e-37], &[1e37, 1e-37]), Err(ArithmeticError::Overflow));
    }

    #[test]
    fn dimensions_must_agree_and_stay_within_the_limit() {
        assert_eq!(add(&[1f32], &[1.0, 2.0]).unwrap_err().to_string(), "different vector dimensions 1 and 2");
        let error = add(&[f16::ONE; 2], &[f16::ONE]).unwrap_err();
        assert_eq!(error.to_string(), "different halfvec dimensions 2 and 1");
        let half = vec![0f32; 8001];
        assert_eq!(concat(&half, &half).unwrap_err().to_string(), "vector cannot have more than 16000 dimensions");
        assert_eq!(concat::<f32>(&[], &[]), Err(VectorError::Empty("vector").into()));
    }

    #[test]
    fn norm_of_large_elements_does_not_overflow() {
        assert_eq!(norm(&[3f32, 4.0]), 5.0);
        assert_eq!(norm(&[1f32; 16]), 4.0);
        let large = f64::from(3e37_f32);
        assert!((norm(&[3e37f32, 0.0]) - large).abs() < large * 1e-12);
        assert_eq!(l2_normalized(&[3f32, 4.0]), [0.6, 0.8]);
        assert_eq!(l2_normalized(&[0f32, 0.0]), [0.0, 0.0]);
        assert_eq!(l2_normalized(&halves(&[3.0, 4.0])), halves(&[0.6, 0.8]));
        assert_eq!(l2_normalized(&[f32::from_bits(1)]), [1.0]);
        assert_eq!(l2_normalized(&[f16::MAX]), [f16::ONE]);
    }

    #[test]
    fn order_is_by_element_then_by_length() {
        assert_eq!(compare(&[1f32, 2.0], &[1.0, 3.0]), Ordering::Less);
        assert_eq!(compare(&[2f32], &[1.0, 3.0]), Ordering::Greater);
        assert_eq!(compare(&[1f32], &[1.0, 3.0]), Ordering::Less);
        assert_eq!(compare(&[0f32], &[-0.0]), Ordering::Equal);
        assert_eq!(compare(&halves(&[-1.0]), &halves(&[0.5])), Ordering::Less);
    }

    proptest! {
        #[test]
        fn halves_are_combined_as_if_exactly(x in 0u16..0x7c00, y in 0u16..0x7c00, signs in 0u16..4) {
            let (x, y) = (f16::from_bits(x | signs << 15), f16::from_bits(y | (signs >> 1) << 15));
            // The f64 result is exact for `+` and `*`; half rounds it once.
            let (exact_x, exact_y) = (f64::from(x), f64::from(y));
            if let Ok(sum) = add(&[x], &[y]) {
                prop_assert_eq!(sum[0], f16::from_f64(exact_x + exact_y));
            }
            if let Ok(product) = multiply(&[x], &[y]) {
                prop_assert_eq!(product[0], f16::from_f64(exact_x * exact_y));
            }
        }

        #[test]
        fn normalized_vectors_have_norm_one(a in prop::collection::vec(-1e30f32..1e30, 1..40)) {
            prop_assume!(norm(&a) > 0.0);
            prop_assert!((norm(&l2_normalized(&a)) - 1.0).abs() < 1e-6);
        }
    }
}
