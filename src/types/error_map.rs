//! What goes wrong with a vector, as SQLSTATE and message: the texts of pgvector, which its clients know.

use pg_rag_engine::vector::{ArithmeticError, VectorError};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::PgSqlErrorCode;

/// Result of the functions of the types.
pub(super) type Result<T, E = ErrorReport> = std::result::Result<T, E>;

fn report(code: PgSqlErrorCode, message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "vector")
}

/// A failure of the engine's vector code.
pub(super) fn from_vector(failure: VectorError) -> ErrorReport {
    let code = match &failure {
        VectorError::Nan(_)
        | VectorError::Infinite(_)
        | VectorError::Empty(_)
        | VectorError::Unused(_)
        | VectorError::UnexpectedDimensions { .. }
        | VectorError::NegativeCount
        | VectorError::IndexOutOfBounds
        | VectorError::NotAscending
        | VectorError::DuplicateIndex
        | VectorError::ZeroValue => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        VectorError::TooManyDimensions { .. }
        | VectorError::TooManyNonZero
        | VectorError::MoreElementsThanDimensions => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        VectorError::Syntax { .. } => PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
        VectorError::OutOfRange { .. } => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        VectorError::Truncated => PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
        VectorError::Trailing => PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
    };
    let message = failure.to_string();
    match failure {
        VectorError::Syntax { detail: Some(detail), .. } => report(code, message).set_detail(detail),
        _ => report(code, message),
    }
}

/// A failure of the engine's operations on vectors.
pub(super) fn from_arithmetic(failure: ArithmeticError) -> ErrorReport {
    let code = match &failure {
        ArithmeticError::DifferentDimensions { .. } => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        ArithmeticError::Overflow | ArithmeticError::Underflow => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        ArithmeticError::Value(value) => return from_vector(value.clone()),
    };
    report(code, failure.to_string())
}

/// A stored datum whose header does not agree with its size.
pub(super) fn corrupt(type_name: &str, dimensions: i32, payload_bytes: usize) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, format!("stored {type_name} is corrupt"))
        .set_detail(format!("Its header says {dimensions} dimensions, but it has {payload_bytes} bytes."))
}

pub(super) fn different_bit_lengths(left: u32, right: u32) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, format!("different bit lengths {left} and {right}"))
}

/// The first argument of an aggregate's function is no state; pgvector's message.
pub(super) fn expected_state(function: &str) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("{function}: expected state array"))
}

/// A JSON value that is no array of numbers; PostgreSQL's message for its own casts from `jsonb`.
pub(super) fn not_numbers(kind: &str, type_name: &str) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("cannot cast jsonb {kind} to type {type_name}"))
        .set_detail("A vector is an array of numbers.")
}

pub(super) fn expected_dimensions(expected: usize, actual: usize) -> ErrorReport {
    from_vector(VectorError::UnexpectedDimensions { expected, actual })
}

/// A binary message that ends too early: the text is PostgreSQL's own.
pub(super) fn insufficient_data() -> ErrorReport {
    from_vector(VectorError::Truncated)
}

pub(super) fn invalid_type_modifier(message: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

pub(super) fn null_not_allowed(message: &'static str) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, message)
}

pub(super) fn array_error(message: &'static str) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, message)
}
