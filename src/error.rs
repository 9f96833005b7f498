//! The one map from typed failures to what a user of PostgreSQL sees: SQLSTATE, message, detail, hint.
//!
//! Everything below returns its own error type; functions visible in SQL return [`Result`], whose error pgrx raises.

use pg_rag_engine::prompt::PromptError;
use pg_rag_engine::text::ChunkError;
use pg_rag_protocol::message::{Failure, FailureKind};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::PgSqlErrorCode;

/// Result of everything that SQL calls.
pub type Result<T> = std::result::Result<T, ErrorReport>;

/// An error with the given SQLSTATE and message.
pub fn error(code: PgSqlErrorCode, message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "pg_rag")
}

/// An argument out of its range or of the wrong form.
pub fn invalid_parameter(message: impl Into<String>) -> ErrorReport {
    error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

/// The value of an argument that has a default, but must not be NULL.
pub fn required<T>(name: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| {
        error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{name}\" must not be null"))
    })
}

/// The SQLSTATE for a failure that the model server reports.
fn code_of(kind: FailureKind) -> PgSqlErrorCode {
    match kind {
        FailureKind::ModelMissing => PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
        FailureKind::ModelUnreadable | FailureKind::ModelUnwritable => PgSqlErrorCode::ERRCODE_IO_ERROR,
        FailureKind::ModelCorrupt => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        FailureKind::ModelUnsupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        FailureKind::ModelChanged => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        FailureKind::PromptTooLong => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        FailureKind::InvalidArgument => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        FailureKind::InvalidInput => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        FailureKind::DocumentUnsupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        FailureKind::DocumentLimit => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        FailureKind::Overloaded | FailureKind::RoleLimit => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        FailureKind::OutOfMemory => PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
        FailureKind::HubUnreachable => PgSqlErrorCode::ERRCODE_CONNECTION_EXCEPTION,
        FailureKind::HubDenied => PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        FailureKind::HubNotFound => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        FailureKind::HubInvalid => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        FailureKind::DownloadLimit => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        FailureKind::DiskFull => PgSqlErrorCode::ERRCODE_DISK_FULL,
        FailureKind::Configuration => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        FailureKind::RemoteUnreachable => PgSqlErrorCode::ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
        FailureKind::RemoteForbidden => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        FailureKind::RemoteLost => PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
        FailureKind::RemoteProtocol => PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
        FailureKind::RemoteRefused => PgSqlErrorCode::ERRCODE_FDW_ERROR,
        FailureKind::RemoteUnknown => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        FailureKind::RemoteKey => PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        FailureKind::RemoteBusy => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        FailureKind::RemoteFile => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        FailureKind::RemoteModel => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        FailureKind::Cancelled => PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
        FailureKind::Stopping => PgSqlErrorCode::ERRCODE_CANNOT_CONNECT_NOW,
        FailureKind::Internal => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
    }
}

/// What the model server reported, as an error.
pub fn from_failure(failure: Failure) -> ErrorReport {
    let mut report = error(code_of(failure.kind), failure.message);
    if let Some(detail) = failure.detail {
        report = report.set_detail(detail);
    }
    match failure.hint {
        Some(hint) => report.set_hint(hint),
        None => report,
    }
}

pub fn from_chunk(failure: ChunkError) -> ErrorReport {
    invalid_parameter(failure.to_string())
}

pub fn from_prompt(failure: PromptError) -> ErrorReport {
    invalid_parameter(failure.to_string())
}

/// The server answered a request with a response of another kind: a bug on one of the two sides.
pub fn unexpected_response(expected: &str) -> ErrorReport {
    error(PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION, format!("model server did not answer with {expected}"))
}

/// Turns errors of pgrx's SPI wrapper into errors. Errors that PostgreSQL itself raises inside SPI do not pass here:
/// they unwind with their own SQLSTATE.
pub trait OrError<T> {
    fn or_error(self) -> Result<T>;
}

impl<T> OrError<T> for std::result::Result<T, pgrx::spi::SpiError> {
    fn or_error(self) -> Result<T> {
        self.map_err(|failure| error(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("SPI: {failure}")))
    }
}
