//! The rules of the SQL type `vector`: 1 to [`MAX_DIMENSIONS`] finite `f32` elements.
//!
//! Limits, text form, wire form, element-wise results and error texts are those of pgvector 0.8, so that its clients,
//! dumps and tests work unchanged. A vector is a plain `[f32]` here; the PostgreSQL layer owns the datum around it and
//! calls these functions from the type's input, output, cast and operator functions.

mod arithmetic;
mod binary;
mod text;

pub use arithmetic::{add, compare, concat, l2_normalize, multiply, norm, subtract};
pub use binary::{decode, encode};
pub use text::{format, parse, write_element};

/// The most elements a vector can have.
pub const MAX_DIMENSIONS: usize = 16_000;

/// Why a value is not a vector, or an operation on vectors has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// The text is not of the form `[x, y, …]`; SQLSTATE 22P02.
    #[error("invalid input syntax for type vector: \"{input}\"")]
    Syntax { input: String, fault: SyntaxFault },
    /// A number in the text exceeds the range of `f32`; SQLSTATE 22003.
    #[error("\"{literal}\" is out of range for type vector")]
    OutOfRange { literal: String },
    /// SQLSTATE 22000, as the five after it.
    #[error("NaN not allowed in vector")]
    Nan,
    #[error("infinite value not allowed in vector")]
    Infinite,
    #[error("vector must have at least 1 dimension")]
    Empty,
    #[error("different vector dimensions {left} and {right}")]
    DifferentDimensions { left: usize, right: usize },
    #[error("expected {expected} dimensions, not {actual}")]
    ExpectedDimensions { expected: usize, actual: usize },
    #[error("expected unused to be 0, not {found}")]
    UnusedNotZero { found: i16 },
    /// SQLSTATE 54000.
    #[error("vector cannot have more than 16000 dimensions")]
    TooManyDimensions,
    /// The wire form is shorter than its own header says; SQLSTATE 08P01.
    #[error("insufficient data left in message")]
    Truncated,
    /// The wire form is longer than its own header says; SQLSTATE 22P03.
    #[error("incorrect binary data format")]
    TrailingBytes,
    /// SQLSTATE 22003.
    #[error("value out of range: overflow")]
    Overflow,
    /// SQLSTATE 22003.
    #[error("value out of range: underflow")]
    Underflow,
}

/// Where the text form is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxFault {
    MissingOpen,
    Element,
    TrailingGarbage,
}

impl VectorError {
    /// The DETAIL line that belongs to the message, if there is one.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            VectorError::Syntax { fault: SyntaxFault::MissingOpen, .. } => {
                Some("Vector contents must start with \"[\".")
            }
            VectorError::Syntax { fault: SyntaxFault::TrailingGarbage, .. } => Some("Junk after closing right brace."),
            _ => None,
        }
    }
}

/// Checks that a vector may have this many dimensions.
pub fn check_dimensions(dimensions: usize) -> Result<(), VectorError> {
    match dimensions {
        0 => Err(VectorError::Empty),
        1..=MAX_DIMENSIONS => Ok(()),
        _ => Err(VectorError::TooManyDimensions),
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
pub fn check_same_dimensions(a: &[f32], b: &[f32]) -> Result<(), VectorError> {
    if a.len() == b.len() {
        Ok(())
    } else {
        Err(VectorError::DifferentDimensions { left: a.len(), right: b.len() })
    }
}

/// Checks a vector against the dimensions its column declares: `vector(n)`; `None` is plain `vector`.
pub fn check_expected_dimensions(expected: Option<usize>, actual: usize) -> Result<(), VectorError> {
    match expected {
        Some(expected) if expected != actual => Err(VectorError::ExpectedDimensions { expected, actual }),
        _ => Ok(()),
    }
}
