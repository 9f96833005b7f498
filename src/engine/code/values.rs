//! What is encoded: the elements of a value of a SQL type, and the ways in which they may not fit a codec.

use std::borrow::Cow;

use half::f16;

use crate::sparse::{SparseRef, MAX_NON_ZERO};
use crate::vector::Element;

/// Elements of a vector, or the bytes of a bit string.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    Single(&'a [f32]),
    Half(&'a [f16]),
    /// First bit highest, the last byte padded with zeros.
    Bits(&'a [u8]),
    Sparse(SparseRef<'a>),
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(elements: &'a [f32]) -> Values<'a> {
        Values::Single(elements)
    }
}

impl<'a> From<&'a [f16]> for Values<'a> {
    fn from(elements: &'a [f16]) -> Values<'a> {
        Values::Half(elements)
    }
}

impl<'a> From<&'a [u8]> for Values<'a> {
    fn from(bytes: &'a [u8]) -> Values<'a> {
        Values::Bits(bytes)
    }
}

impl<'a> From<SparseRef<'a>> for Values<'a> {
    fn from(vector: SparseRef<'a>) -> Values<'a> {
        Values::Sparse(vector)
    }
}

/// Errors of callers, not of users: an index checks types and dimensions before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("expected {expected} dimensions, not {found}")]
    Dimensions { expected: usize, found: usize },
    #[error("the codec is for another type")]
    Type,
    #[error("a code has {expected} bytes, not {found}")]
    Bytes { expected: usize, found: usize },
    #[error("expected at most {limit} elements that are not zero, not {found}")]
    NonZero { limit: usize, found: usize },
}

impl<'a> Values<'a> {
    /// The elements, `dimensions` of them, as `f32`.
    pub(super) fn singles(self, dimensions: usize) -> Result<Cow<'a, [f32]>, CodeError> {
        let elements = match self {
            Values::Single(elements) => Cow::Borrowed(elements),
            Values::Half(elements) => f16::widen(elements),
            Values::Bits(_) | Values::Sparse(_) => return Err(CodeError::Type),
        };
        check(dimensions, elements.len())?;
        Ok(elements)
    }

    /// The bytes of `dimensions` bits.
    pub(super) fn bytes(self, dimensions: usize) -> Result<&'a [u8], CodeError> {
        let Values::Bits(bytes) = self else { return Err(CodeError::Type) };
        check(dimensions.div_ceil(8), bytes.len())?;
        Ok(bytes)
    }

    /// The sparse vector of `dimensions`.
    pub(super) fn sparse(self, dimensions: usize) -> Result<SparseRef<'a>, CodeError> {
        let Values::Sparse(vector) = self else { return Err(CodeError::Type) };
        check(dimensions, usize::try_from(vector.dimensions()).unwrap_or(0))?;
        check_non_zero(dimensions, vector.indices().len())?;
        Ok(vector)
    }
}

fn check(expected: usize, found: usize) -> Result<(), CodeError> {
    if expected == found {
        Ok(())
    } else {
        Err(CodeError::Dimensions { expected, found })
    }
}

/// Checks how many elements of a sparse vector are not zero.
pub(super) fn check_non_zero(dimensions: usize, found: usize) -> Result<(), CodeError> {
    let limit = dimensions.min(MAX_NON_ZERO);
    if found <= limit {
        Ok(())
    } else {
        Err(CodeError::NonZero { limit, found })
    }
}
