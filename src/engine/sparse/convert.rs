//! Casts between sparse and dense vectors, and from arrays of numbers.

use super::{check_count, check_dimensions, SparseRef, SparseVector, VectorError, TYPE_NAME};
use crate::vector::{self, check_finite, round_in_range, Element};

/// Keeps what is not zero; NaN is not zero, so that it is found and refused.
fn from_numbers(numbers: impl ExactSizeIterator<Item = f32> + Clone) -> Result<SparseVector, VectorError> {
    let dimensions = i32::try_from(numbers.len()).unwrap_or(i32::MAX);
    check_dimensions(dimensions)?;
    // The count is checked before the values, as pgvector does, and sizes the vectors.
    let count = numbers.clone().filter(|&number| number != 0.0).count();
    check_count(count as i64, dimensions)?;
    let (mut indices, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (index, number) in (0..dimensions).zip(numbers) {
        if number != 0.0 {
            check_finite(number, TYPE_NAME)?;
            indices.push(index);
            values.push(number);
        }
    }
    Ok(SparseVector { dimensions, indices, values })
}

/// The sparse form of a dense vector.
pub fn from_dense<E: Element>(dense: &[E]) -> Result<SparseVector, VectorError> {
    from_numbers(dense.iter().map(|element| element.to_f32()))
}

/// A vector from `real[]`, or from `numeric[]` whose elements the caller has made `real`.
pub fn from_f32s(numbers: &[f32]) -> Result<SparseVector, VectorError> {
    from_numbers(numbers.iter().copied())
}

/// A vector from `double precision[]`. A number that is zero as `real` is left out.
pub fn from_f64s(numbers: &[f64]) -> Result<SparseVector, VectorError> {
    from_numbers(numbers.iter().map(|&number| number as f32))
}

/// A vector from `integer[]`.
pub fn from_i32s(numbers: &[i32]) -> Result<SparseVector, VectorError> {
    from_numbers(numbers.iter().map(|&number| number as f32))
}

/// The dense form of a sparse vector.
pub fn to_dense<E: Element>(sparse: SparseRef<'_>) -> Result<Vec<E>, VectorError> {
    let dimensions = usize::try_from(sparse.dimensions()).unwrap_or(0);
    vector::check_dimensions::<E>(dimensions)?;
    let mut dense = vec![E::default(); dimensions];
    for (index, value) in sparse.elements() {
        if let Some(element) = usize::try_from(index).ok().and_then(|index| dense.get_mut(index)) {
            *element = round_in_range(value)?;
        }
    }
    Ok(dense)
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::super::print;
    use super::*;

    #[test]
    fn zeros_of_either_sign_are_left_out() {
        let sparse = from_dense(&[0f32, 1.5, -0.0, -2.0]).unwrap();
        assert_eq!(print(sparse.as_ref()), "{2:1.5,4:-2}/4");
        assert_eq!(to_dense::<f32>(sparse.as_ref()).unwrap(), [0.0, 1.5, 0.0, -2.0]);
        assert_eq!(print(from_dense(&[f16::ZERO, f16::ONE]).unwrap().as_ref()), "{2:1}/2");
        assert_eq!(print(from_i32s(&[0, 7]).unwrap().as_ref()), "{2:7}/2");
        assert_eq!(print(from_f64s(&[1e-300, 0.1]).unwrap().as_ref()), "{2:0.1}/2");
        assert_eq!(print(from_f32s(&[0.0; 20_000]).unwrap().as_ref()), "{}/20000");
    }

    #[test]
    fn errors_use_the_texts_of_pgvector() {
        let message = |result: Result<SparseVector, VectorError>| result.unwrap_err().to_string();
        assert_eq!(message(from_i32s(&[])), "sparsevec must have at least 1 dimension");
        assert_eq!(message(from_f64s(&[f64::NAN])), "NaN not allowed in sparsevec");
        assert_eq!(message(from_f64s(&[1e300])), "infinite value not allowed in sparsevec");
        let many = vec![f32::NAN; 16_001];
        assert_eq!(message(from_f32s(&many)), "sparsevec cannot have more than 16000 non-zero elements");
        let wide = SparseRef::trusted(16_001, &[0], &[1.0]);
        let error = to_dense::<f16>(wide).unwrap_err();
        assert_eq!(error.to_string(), "halfvec cannot have more than 16000 dimensions");
        let large = SparseRef::trusted(3, &[0], &[1e6]);
        let error = to_dense::<f16>(large).unwrap_err();
        assert_eq!(error.to_string(), "\"1e+06\" is out of range for type halfvec");
    }

    #[test]
    fn a_damaged_vector_does_not_fail() {
        assert_eq!(to_dense::<f32>(SparseRef::trusted(2, &[-1, 7], &[1.0, 1.0])).unwrap(), [0.0, 0.0]);
        assert!(to_dense::<f32>(SparseRef::trusted(-5, &[0], &[1.0])).is_err());
    }

    proptest! {
        #[test]
        fn dense_vectors_come_back(
            dense in prop::collection::vec(prop_oneof![Just(0f32), -1e38f32..1e38], 1..50)
        ) {
            let sparse = from_dense(&dense).unwrap();
            prop_assert!(SparseRef::new(sparse.dimensions(), sparse.indices(), sparse.values()).is_ok());
            prop_assert_eq!(to_dense::<f32>(sparse.as_ref()).unwrap(), dense);
        }
    }
}
