//! What can go wrong with a model, as one enum that the server maps to [`pg_rag_protocol::message::Failure`].

use crate::hub::HubError;
use std::path::PathBuf;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

/// Each variant carries what a message needs; texts are in PostgreSQL's style (lower case, no full stop).
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("model file \"{}\" does not exist", .0.display())]
    Missing(PathBuf),
    #[error("could not read model file \"{}\": {}", .path.display(), plain(.source))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("could not write model file \"{}\": {}", .path.display(), plain(.source))]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("model file \"{}\" is corrupt: {reason}", .path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("model is not supported: {0}")]
    Unsupported(String),
    /// `expected_sha256` is `None` for a file that was not there at registration.
    #[error("model file \"{}\" is not the one that was registered", .path.display())]
    Changed { path: PathBuf, expected_sha256: Option<String>, found_sha256: String },
    #[error("model file \"{}\" is a link that leads out of the model's folder", .0.display())]
    LinkedOutside(PathBuf),
    #[error("prompt of {prompt_tokens} tokens does not leave room for an answer in the model's context of {context_tokens} tokens")]
    PromptTooLong { prompt_tokens: usize, context_tokens: usize },
    #[error("{0}")]
    InvalidArgument(String),
    #[error("{0}")]
    InvalidInput(String),
    /// The budget of an answer of a schema ended before its document.
    #[error("answer of {0} tokens ended before its JSON document did")]
    JsonCut(usize),
    #[error("not enough memory: {0}")]
    OutOfMemory(String),
    /// `pg_rag.max_memory` leaves no room, and nothing can be unloaded.
    #[error("{what} needs {needed_bytes} bytes of memory, but only {left_bytes} are left")]
    MemoryLimit { what: String, needed_bytes: u64, left_bytes: u64, limit_bytes: u64 },
    /// The role has this many requests unanswered.
    #[error("too many requests of this role")]
    RoleLimit(u32),
    #[error("too many requests are waiting ({0})")]
    Overloaded(usize),
    #[error("request was cancelled")]
    Cancelled,
    #[error(transparent)]
    Hub(Box<HubError>),
    /// A proven bug here or in a library; never the fault of an input.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What the operating system said, without the number that Rust adds.
fn plain(source: &std::io::Error) -> String {
    let text = source.to_string();
    match text.split_once(" (os error") {
        Some((plain, _)) => plain.to_owned(),
        None => text,
    }
}

impl ModelError {
    /// Wraps an I/O error on `path`, telling "does not exist" from "cannot be read".
    pub fn from_io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::NotFound => ModelError::Missing(path),
            _ => ModelError::Unreadable { path, source },
        }
    }

    /// A file whose bytes are not what they should be.
    pub fn corrupt(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        ModelError::Corrupt { path: path.into(), reason: reason.to_string() }
    }
}
