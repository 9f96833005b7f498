//! Why a value is not a vector, and why an operation has no result.
//!
//! One pair of enums serves the three SQL types; a variant carries the name of the type (`vector`, `halfvec`,
//! `sparsevec`) where the message does. The texts are pgvector's. The SQL layer maps each variant to the SQLSTATE that
//! its documentation names, in one place.

use super::MAX_DIMENSIONS;

/// The name of a SQL type, as messages print it.
pub type TypeName = &'static str;

/// Why a value is not a vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// The text is not of the form of the type; SQLSTATE 22P02. `detail` is the DETAIL line, where pgvector has one.
    #[error("invalid input syntax for type {type_name}: \"{input}\"")]
    Syntax { type_name: TypeName, input: String, detail: Option<&'static str> },
    /// A number exceeds the range of an element; SQLSTATE 22003.
    #[error("\"{literal}\" is out of range for type {type_name}")]
    OutOfRange { type_name: TypeName, literal: String },
    /// SQLSTATE 22000, as all that follow up to [`VectorError::ZeroValue`].
    #[error("NaN not allowed in {0}")]
    Nan(TypeName),
    #[error("infinite value not allowed in {0}")]
    Infinite(TypeName),
    #[error("{0} must have at least 1 dimension")]
    Empty(TypeName),
    #[error("expected unused to be 0, not {0}")]
    Unused(i32),
    /// The column, or the state of an aggregate, has other dimensions.
    #[error("expected {expected} dimensions, not {actual}")]
    UnexpectedDimensions { expected: usize, actual: usize },
    #[error("sparsevec cannot have negative number of elements")]
    NegativeCount,
    #[error("sparsevec index out of bounds")]
    IndexOutOfBounds,
    #[error("sparsevec indices must be in ascending order")]
    NotAscending,
    #[error("sparsevec indices must not contain duplicates")]
    DuplicateIndex,
    #[error("binary representation of sparsevec cannot contain zero values")]
    ZeroValue,
    /// SQLSTATE 54000, as the two after it.
    #[error("{type_name} cannot have more than {limit} dimensions")]
    TooManyDimensions { type_name: TypeName, limit: usize },
    #[error("sparsevec cannot have more than {MAX_DIMENSIONS} non-zero elements")]
    TooManyNonZero,
    #[error("sparsevec cannot have more elements than dimensions")]
    MoreElementsThanDimensions,
    /// The wire form ends before what its header promises; SQLSTATE 08P01.
    #[error("insufficient data left in message")]
    Truncated,
    /// The wire form goes on after what its header promises; SQLSTATE 22P03.
    #[error("incorrect binary data format")]
    Trailing,
}

/// Why an operation on vectors has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArithmeticError {
    /// SQLSTATE 22000.
    #[error("different {type_name} dimensions {left} and {right}")]
    DifferentDimensions { type_name: TypeName, left: usize, right: usize },
    /// SQLSTATE 22003, as the one after it.
    #[error("value out of range: overflow")]
    Overflow,
    #[error("value out of range: underflow")]
    Underflow,
    /// The result is not a value of its type; SQLSTATE of the cause.
    #[error(transparent)]
    Value(#[from] VectorError),
}
