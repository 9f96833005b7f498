//! What goes wrong with an index, as SQLSTATE, message and hint.

use pg_rag_engine::code::CodeError;
use pg_rag_engine::hnsw::index::insert::InsertError;
use pg_rag_engine::hnsw::page::{LayoutError, PageError};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::PgSqlErrorCode;

/// Why an index could not be read or written. Errors of PostgreSQL itself (I/O, cancelling) do not pass here: they unwind
/// with their own SQLSTATE.
#[derive(Debug)]
pub enum IndexError {
    Page(PageError),
    Code(CodeError),
    /// A temporary file of a build is shorter than it was written.
    TempFile,
}

impl From<std::convert::Infallible> for IndexError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<PageError> for IndexError {
    fn from(error: PageError) -> Self {
        IndexError::Page(error)
    }
}

impl From<CodeError> for IndexError {
    fn from(error: CodeError) -> Self {
        IndexError::Code(error)
    }
}

impl From<InsertError<IndexError>> for IndexError {
    fn from(error: InsertError<IndexError>) -> Self {
        match error {
            InsertError::Code(error) => IndexError::Code(error),
            InsertError::Store(error) => error,
        }
    }
}

impl IndexError {
    /// The error for the index of this name.
    pub fn report(self, index: &str) -> ErrorReport {
        let report = |code, message: String| ErrorReport::new(code, message, "hnsw");
        match self {
            IndexError::Page(error @ (PageError::Version(_) | PageError::Features(_))) => {
                let message = format!("index \"{index}\" was written by a later release of pg_rag");
                report(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
                    .set_detail(error.to_string())
                    .set_hint("Install that release, or REINDEX the index.")
            }
            IndexError::Page(PageError::Layout(error @ LayoutError::Dimensions { .. })) => {
                report(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, error.to_string())
            }
            IndexError::Page(error) => {
                report(PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED, format!("index \"{index}\" is corrupt: {error}"))
                    .set_hint("Please REINDEX it.")
            }
            IndexError::TempFile => {
                report(PgSqlErrorCode::ERRCODE_IO_ERROR, "could not read from temporary file: it ends early".to_owned())
            }
            IndexError::Code(error) => report(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, error.to_string()),
        }
    }
}
