//! The rules of the SQL type `vector`: 1 to [`MAX_DIMENSIONS`] finite `f32` elements.
//!
//! Limits, text form, wire form, element-wise results and error texts are those of pgvector 0.8, so that its clients,
//! dumps and tests work unchanged. A vector is a plain `[f32]` here; the PostgreSQL layer owns the datum around it and
//! calls these functions from the type's input, output, cast and operator functions.

mod arithmetic;
mod binary;
mod text;

pub use arithmetic::{add, compare, concat, l2_normalized, multiply, norm, subtract};
pub use binary::{decode_binary, encode_binary};
pub use text::{parse, print};

/// The most elements a vector can have.
pub const MAX_DIMENSIONS: usize = 16_000;

/// Why a value is not a vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// The text is not of the form `[x, y, …]`; SQLSTATE 22P02. `detail` is the DETAIL line, where pgvector has one.
    #[error("invalid input syntax for type vector: \"{input}\"")]
    Syntax { input: String, detail: Option<&'static str> },
    /// A number in the text exceeds the range of `f32`; SQLSTATE 22003.
    #[error("\"{0}\" is out of range for type vector")]
    OutOfRange(String),
    /// SQLSTATE 22000, as the three after it.
    #[error("NaN not allowed in vector")]
    Nan,
    #[error("infinite value not allowed in vector")]
    Infinite,
    #[error("vector must have at least 1 dimension")]
    Empty,
    #[error("expected unused to be 0, not {0}")]
    Unused(i16),
    /// SQLSTATE 54000.
    #[error("vector cannot have more than {MAX_DIMENSIONS} dimensions")]
    TooMany,
    /// The wire form is shorter than its own header says; SQLSTATE 08P01.
    #[error("insufficient data left in message")]
    Truncated,
    /// The wire form is longer than its own header says; SQLSTATE 22P03.
    #[error("incorrect binary data format")]
    Trailing,
}

/// Why an operation on two vectors has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArithmeticError {
    /// SQLSTATE 22000.
    #[error("different vector dimensions {left} and {right}")]
    DifferentDimensions { left: usize, right: usize },
    /// SQLSTATE 54000.
    #[error("vector cannot have more than {MAX_DIMENSIONS} dimensions")]
    TooMany,
    /// SQLSTATE 22003, as the one after it.
    #[error("value out of range: overflow")]
    Overflow,
    #[error("value out of range: underflow")]
    Underflow,
}

/// Checks that a vector may have this many dimensions.
pub fn check_dimensions(dimensions: usize) -> Result<(), VectorError> {
    match dimensions {
        0 => Err(VectorError::Empty),
        1..=MAX_DIMENSIONS => Ok(()),
        _ => Err(VectorError::TooMany),
    }
}

/// Checks that one element is finite.
pub fn check_element(value: f32) -> Result<(), VectorError> {
    if value.is_nan() {
        Err(VectorError::Nan)
    } else if value.is_infinite() {
        Err(VectorError::Infinite)
    } else {
        Ok(())
    }
}

/// Checks every rule for a whole vector: dimensions and elements.
pub fn check(elements: &[f32]) -> Result<(), VectorError> {
    check_dimensions(elements.len())?;
    elements.iter().try_for_each(|&value| check_element(value))
}

/// Checks that two vectors can be combined.
pub fn check_same_dimensions(a: &[f32], b: &[f32]) -> Result<(), ArithmeticError> {
    if a.len() == b.len() {
        Ok(())
    } else {
        Err(ArithmeticError::DifferentDimensions { left: a.len(), right: b.len() })
    }
}
