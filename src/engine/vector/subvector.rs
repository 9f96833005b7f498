//! A run of consecutive elements, addressed as SQL's `substring` does: from 1, clamped to the vector.

use super::{Element, VectorError};

/// The elements `start` to `start + count - 1`, as far as `a` has them; none is an error. Elements before the first
/// count, so that `subvector(a, 0, 2)` is one element.
pub fn subvector<E: Element>(a: &[E], start: i32, count: i32) -> Result<&[E], VectorError> {
    // In i64 no sum of an i32 start, an i32 count and a length overflows.
    let length = a.len() as i64;
    let end = (i64::from(start) + i64::from(count)).min(length + 1);
    let begin = i64::from(start).max(1);
    if count < 1 || begin >= end {
        return Err(VectorError::Empty(E::TYPE_NAME));
    }
    a.get(begin as usize - 1..end as usize - 1).ok_or(VectorError::Empty(E::TYPE_NAME))
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    const A: [f32; 5] = [1.0, 2.0, 3.0, 4.0, 5.0];

    #[test]
    fn the_run_is_clamped_to_the_vector() {
        assert_eq!(subvector(&A, 1, 3).unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(subvector(&A, 3, 2).unwrap(), [3.0, 4.0]);
        assert_eq!(subvector(&A, -1, 3).unwrap(), [1.0]);
        assert_eq!(subvector(&A, 3, i32::MAX).unwrap(), [3.0, 4.0, 5.0]);
        assert_eq!(subvector(&A, -2, i32::MAX).unwrap(), A);
    }

    #[test]
    fn an_empty_run_is_an_error() {
        for (start, count) in [(1, 0), (3, -1), (-1, 2), (6, 1), (i32::MAX, i32::MAX), (i32::MIN, i32::MAX)] {
            assert_eq!(subvector(&A, start, count), Err(VectorError::Empty("vector")));
        }
        assert_eq!(subvector(&[f16::ONE], 2, 1), Err(VectorError::Empty("halfvec")));
    }

    proptest! {
        #[test]
        fn the_run_holds_the_positions_in_the_range(start in -20i32..20, count in -5i32..20) {
            let expected: Vec<f32> = (1..=5).filter(|i| start <= *i && *i < start + count).map(|i| i as f32).collect();
            match subvector(&A, start, count) {
                Ok(run) => prop_assert_eq!(run, expected),
                Err(_) => prop_assert!(expected.is_empty()),
            }
        }
    }
}
