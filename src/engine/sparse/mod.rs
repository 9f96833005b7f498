//! The rules of the SQL type `sparsevec`: up to [`MAX_DIMENSIONS`] dimensions, of which up to [`MAX_NON_ZERO`] are not
//! zero and stored, with their index.
//!
//! Limits, text form, wire form, results and error texts are those of pgvector 0.8. Operations take a [`SparseRef`],
//! which borrows the indices and values that lie in a datum; what they make is a [`SparseVector`]. Indices count from 0
//! here and on the wire, from 1 in the text form.

mod arithmetic;
mod binary;
mod convert;
pub mod distance;
mod text;

pub use arithmetic::{compare, l2_normalized, norm};
pub use binary::{decode_binary, encode_binary, read_binary};
pub use convert::{from_dense, from_f32s, from_f64s, from_i32s, to_dense};
pub use text::{parse, print};

use crate::vector::{check_finite, ArithmeticError, VectorError};

/// The name of the SQL type.
pub const TYPE_NAME: &str = "sparsevec";
/// The most dimensions.
pub const MAX_DIMENSIONS: i32 = 1_000_000_000;
/// The most elements that are not zero.
pub const MAX_NON_ZERO: usize = crate::vector::MAX_DIMENSIONS;

/// A valid sparse vector: dimensions within the limits, indices ascending, values finite and not zero.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseVector {
    dimensions: i32,
    indices: Vec<i32>,
    values: Vec<f32>,
}

impl SparseVector {
    /// A vector of these parts, if they follow every rule.
    pub fn new(dimensions: i32, indices: Vec<i32>, values: Vec<f32>) -> Result<Self, VectorError> {
        SparseRef::new(dimensions, &indices, &values)?;
        Ok(SparseVector { dimensions, indices, values })
    }

    pub fn as_ref(&self) -> SparseRef<'_> {
        SparseRef { dimensions: self.dimensions, indices: &self.indices, values: &self.values }
    }

    pub fn dimensions(&self) -> i32 {
        self.dimensions
    }

    /// Counted from 0, ascending.
    pub fn indices(&self) -> &[i32] {
        &self.indices
    }

    /// The value at each of [`SparseVector::indices`].
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// A borrowed sparse vector. There are always as many indices as values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SparseRef<'a> {
    dimensions: i32,
    indices: &'a [i32],
    values: &'a [f32],
}

impl<'a> SparseRef<'a> {
    /// The parts as a vector, if they follow every rule.
    pub fn new(dimensions: i32, indices: &'a [i32], values: &'a [f32]) -> Result<Self, VectorError> {
        check_dimensions(dimensions)?;
        if values.len() != indices.len() {
            let too_few = values.len() < indices.len();
            return Err(if too_few { VectorError::Truncated } else { VectorError::Trailing });
        }
        check_count(indices.len() as i64, dimensions)?;
        check_indices(indices, dimensions)?;
        values.iter().try_for_each(|&value| check_stored_value(value))?;
        Ok(SparseRef { dimensions, indices, values })
    }

    /// The parts of a value that was valid when it was stored, without checking them again. If they are not valid,
    /// results are wrong, but no function fails; surplus indices or values are left out.
    pub fn trusted(dimensions: i32, indices: &'a [i32], values: &'a [f32]) -> Self {
        let count = indices.len().min(values.len());
        SparseRef { dimensions, indices: &indices[..count], values: &values[..count] }
    }

    pub fn dimensions(self) -> i32 {
        self.dimensions
    }

    /// Counted from 0, ascending.
    pub fn indices(self) -> &'a [i32] {
        self.indices
    }

    /// The value at each of [`SparseRef::indices`].
    pub fn values(self) -> &'a [f32] {
        self.values
    }

    pub fn to_owned(self) -> SparseVector {
        SparseVector { dimensions: self.dimensions, indices: self.indices.to_vec(), values: self.values.to_vec() }
    }

    /// The elements stored at these positions, as far as there are any.
    fn part(self, from: usize, to: usize) -> Self {
        let count = self.indices.len();
        let (from, to) = (from.min(count), to.min(count));
        SparseRef { indices: &self.indices[from..to], values: &self.values[from..to], ..self }
    }

    /// Index and value of every stored element.
    fn elements(self) -> impl Iterator<Item = (i32, f32)> + 'a {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }
}

/// Checks that a sparse vector may have this many dimensions.
pub fn check_dimensions(dimensions: i32) -> Result<(), VectorError> {
    if dimensions < 1 {
        Err(VectorError::Empty(TYPE_NAME))
    } else if dimensions > MAX_DIMENSIONS {
        Err(VectorError::TooManyDimensions { type_name: TYPE_NAME, limit: MAX_DIMENSIONS as usize })
    } else {
        Ok(())
    }
}

/// Checks that two vectors can be combined.
pub fn check_same_dimensions(a: SparseRef<'_>, b: SparseRef<'_>) -> Result<(), ArithmeticError> {
    if a.dimensions == b.dimensions {
        Ok(())
    } else {
        let (left, right) = (a.dimensions as usize, b.dimensions as usize);
        Err(ArithmeticError::DifferentDimensions { type_name: TYPE_NAME, left, right })
    }
}

/// Checks the number of stored elements.
fn check_count(count: i64, dimensions: i32) -> Result<(), VectorError> {
    if count < 0 {
        Err(VectorError::NegativeCount)
    } else if count > MAX_NON_ZERO as i64 {
        Err(VectorError::TooManyNonZero)
    } else if count > i64::from(dimensions) {
        Err(VectorError::MoreElementsThanDimensions)
    } else {
        Ok(())
    }
}

/// Checks an index that follows `previous`.
fn check_index(index: i32, previous: Option<i32>, dimensions: i32) -> Result<(), VectorError> {
    if index < 0 || index >= dimensions {
        return Err(VectorError::IndexOutOfBounds);
    }
    match previous {
        Some(previous) if index < previous => Err(VectorError::NotAscending),
        Some(previous) if index == previous => Err(VectorError::DuplicateIndex),
        _ => Ok(()),
    }
}

fn check_indices(indices: &[i32], dimensions: i32) -> Result<(), VectorError> {
    let mut previous = None;
    for &index in indices {
        check_index(index, previous, dimensions)?;
        previous = Some(index);
    }
    Ok(())
}

/// Checks a value that is to be stored: finite and not zero.
fn check_stored_value(value: f32) -> Result<(), VectorError> {
    check_finite(value, TYPE_NAME)?;
    if value == 0.0 {
        Err(VectorError::ZeroValue)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_checked() {
        let message = |dimensions, indices: &[i32], values: &[f32]| {
            SparseRef::new(dimensions, indices, values).unwrap_err().to_string()
        };
        assert_eq!(message(0, &[], &[]), "sparsevec must have at least 1 dimension");
        assert_eq!(message(-1, &[], &[]), "sparsevec must have at least 1 dimension");
        assert_eq!(message(MAX_DIMENSIONS + 1, &[], &[]), "sparsevec cannot have more than 1000000000 dimensions");
        assert_eq!(message(1, &[0, 1], &[1.0, 1.0]), "sparsevec cannot have more elements than dimensions");
        assert_eq!(message(3, &[3], &[1.0]), "sparsevec index out of bounds");
        assert_eq!(message(3, &[-1], &[1.0]), "sparsevec index out of bounds");
        assert_eq!(message(3, &[1, 0], &[1.0, 1.0]), "sparsevec indices must be in ascending order");
        assert_eq!(message(3, &[1, 1], &[1.0, 1.0]), "sparsevec indices must not contain duplicates");
        assert_eq!(message(3, &[1], &[f32::NAN]), "NaN not allowed in sparsevec");
        assert_eq!(message(3, &[1], &[f32::INFINITY]), "infinite value not allowed in sparsevec");
        assert_eq!(message(3, &[1], &[0.0]), "binary representation of sparsevec cannot contain zero values");
        assert_eq!(message(3, &[1], &[]), "insufficient data left in message");
        assert_eq!(message(3, &[], &[1.0]), "incorrect binary data format");
        let many = vec![1.0; 16_001];
        let indices: Vec<i32> = (0..16_001).collect();
        assert_eq!(message(20_000, &indices, &many), "sparsevec cannot have more than 16000 non-zero elements");
        assert!(SparseRef::new(MAX_DIMENSIONS, &[0, MAX_DIMENSIONS - 1], &[1.0, -1.0]).is_ok());
    }

    #[test]
    fn parts_come_back_and_surplus_is_left_out() {
        let vector = SparseVector::new(5, vec![1, 4], vec![2.0, -3.0]).unwrap();
        assert_eq!((vector.dimensions(), vector.indices(), vector.values()), (5, &[1, 4][..], &[2.0, -3.0][..]));
        assert_eq!(vector.as_ref().to_owned(), vector);
        assert_eq!(SparseRef::trusted(5, &[1, 4, 4], &[2.0, -3.0]), vector.as_ref());
    }

    #[test]
    fn dimensions_must_agree_to_combine() {
        let error = check_same_dimensions(SparseRef::trusted(3, &[], &[]), SparseRef::trusted(4, &[], &[]));
        assert_eq!(error.unwrap_err().to_string(), "different sparsevec dimensions 3 and 4");
    }
}
