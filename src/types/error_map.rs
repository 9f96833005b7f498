//! What goes wrong with a vector, as SQLSTATE and message: the texts of pgvector, which its clients know.

use pg_rag_engine::vector::{ArithmeticError, VectorError};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::PgSqlErrorCode;

/// Result of the functions of the type.
pub(super) type Result<T, E = ErrorReport> = std::result::Result<T, E>;

fn report(code: PgSqlErrorCode, message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "vector")
}

/// A failure of the engine's vector code.
pub(super) fn from_vector(failure: VectorError) -> ErrorReport {
    let code = match &failure {
        VectorError::Empty | VectorError::Nan | VectorError::Infinite | VectorError::Unused(_) => {
            PgSqlErrorCode::ERRCODE_DATA_EXCEPTION
        }
        VectorError::TooMany => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        VectorError::Syntax { .. } => PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
        VectorError::OutOfRange(_) => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        VectorError::Truncated => PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
        VectorError::Trailing => PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
    };
    let message = failure.to_string();
    match failure {
        VectorError::Syntax { detail: Some(detail), .. } => report(code, message).set_detail(detail),
        _ => report(code, message),
    }
}

/// A stored datum whose header does not agree with its size.
pub(super) fn corrupt(dimensions: i16, payload_bytes: usize) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "stored vector is corrupt")
        .set_detail(format!("Its header says {dimensions} dimensions, but it has {payload_bytes} bytes."))
}

/// A failure of the engine's operations on two vectors.
pub(super) fn from_arithmetic(failure: ArithmeticError) -> ErrorReport {
    let code = match failure {
        ArithmeticError::DifferentDimensions { .. } => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        ArithmeticError::TooMany => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        ArithmeticError::Overflow | ArithmeticError::Underflow => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
    };
    report(code, failure.to_string())
}

pub(super) fn expected_dimensions(expected: i32, found: usize) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, format!("expected {expected} dimensions, not {found}"))
}

/// A binary message that ends too early: the text is PostgreSQL's own.
pub(super) fn insufficient_data() -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION, "insufficient data left in message")
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
