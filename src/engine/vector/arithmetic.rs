//! Element-wise arithmetic, norm and order of vectors, with pgvector's overflow rules.
//!
//! Inputs are valid vectors (finite elements). A result that leaves the range of `f32` is an error, never an infinity.

use std::cmp::Ordering;

use super::{check_same_dimensions, ArithmeticError, MAX_DIMENSIONS};

fn finite(values: Vec<f32>) -> Result<Vec<f32>, ArithmeticError> {
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(ArithmeticError::Overflow)
    }
}

/// `a + b`, element by element.
pub fn add(a: &[f32], b: &[f32]) -> Result<Vec<f32>, ArithmeticError> {
    check_same_dimensions(a, b)?;
    finite(a.iter().zip(b).map(|(x, y)| x + y).collect())
}

/// `a - b`, element by element.
pub fn subtract(a: &[f32], b: &[f32]) -> Result<Vec<f32>, ArithmeticError> {
    check_same_dimensions(a, b)?;
    finite(a.iter().zip(b).map(|(x, y)| x - y).collect())
}

/// `a * b`, element by element. A product of non-zero elements that rounds to zero is an underflow error.
pub fn multiply(a: &[f32], b: &[f32]) -> Result<Vec<f32>, ArithmeticError> {
    check_same_dimensions(a, b)?;
    let product = finite(a.iter().zip(b).map(|(x, y)| x * y).collect())?;
    let underflow = product.iter().zip(a.iter().zip(b)).any(|(&p, (&x, &y))| p == 0.0 && x != 0.0 && y != 0.0);
    if underflow {
        return Err(ArithmeticError::Underflow);
    }
    Ok(product)
}

/// The elements of `a`, then those of `b`.
pub fn concat(a: &[f32], b: &[f32]) -> Result<Vec<f32>, ArithmeticError> {
    if a.len().saturating_add(b.len()) > MAX_DIMENSIONS {
        return Err(ArithmeticError::TooMany);
    }
    Ok([a, b].concat())
}

/// The Euclidean norm, accumulated in `f64`, so that the square of a large `f32` does not overflow.
pub fn norm(a: &[f32]) -> f64 {
    a.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// `a` scaled to norm 1. The zero vector stays zero. No element can overflow: none is larger than the norm.
pub fn l2_normalized(a: &[f32]) -> Vec<f32> {
    let norm = norm(a);
    if norm > 0.0 {
        a.iter().map(|&x| (f64::from(x) / norm) as f32).collect()
    } else {
        vec![0.0; a.len()]
    }
}

/// The order of the btree operator class: element by element, then the shorter vector first.
pub fn compare(a: &[f32], b: &[f32]) -> Ordering {
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
    use super::*;

    #[test]
    fn element_wise_results() {
        assert_eq!(add(&[1.0, 2.0], &[3.0, 5.0]).unwrap(), [4.0, 7.0]);
        assert_eq!(subtract(&[1.0, 2.0], &[3.0, 5.0]).unwrap(), [-2.0, -3.0]);
        assert_eq!(multiply(&[1.0, 2.0], &[3.0, 5.0]).unwrap(), [3.0, 10.0]);
        assert_eq!(concat(&[1.0], &[2.0, 3.0]).unwrap(), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_result_beyond_f32_is_an_error() {
        assert_eq!(add(&[3e38], &[3e38]), Err(ArithmeticError::Overflow));
        assert_eq!(subtract(&[-3e38], &[3e38]), Err(ArithmeticError::Overflow));
        assert_eq!(multiply(&[1e37], &[1e37]), Err(ArithmeticError::Overflow));
        assert_eq!(multiply(&[1e-37], &[1e-37]), Err(ArithmeticError::Underflow));
        assert_eq!(multiply(&[0.0], &[1e-37]).unwrap(), [0.0]);
    }

    #[test]
    fn dimensions_must_agree_and_stay_within_the_limit() {
        let error = add(&[1.0], &[1.0, 2.0]).unwrap_err();
        assert_eq!(error.to_string(), "different vector dimensions 1 and 2");
        let half = vec![0.0; 8001];
        assert_eq!(concat(&half, &half).unwrap_err().to_string(), "vector cannot have more than 16000 dimensions");
    }

    #[test]
    fn norm_of_large_elements_does_not_overflow() {
        assert_eq!(norm(&[3.0, 4.0]), 5.0);
        let large = f64::from(3e37_f32);
        assert!((norm(&[3e37, 0.0]) - large).abs() < large * 1e-12);
        assert_eq!(l2_normalized(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(l2_normalized(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn order_is_by_element_then_by_length() {
        assert_eq!(compare(&[1.0, 2.0], &[1.0, 3.0]), Ordering::Less);
        assert_eq!(compare(&[2.0], &[1.0, 3.0]), Ordering::Greater);
        assert_eq!(compare(&[1.0], &[1.0, 3.0]), Ordering::Less);
        assert_eq!(compare(&[0.0], &[-0.0]), Ordering::Equal);
    }
}
