//! What can go wrong between here and a hub. Texts are in PostgreSQL's style; none contains a token, an address with a
//! signature in it, or anything else that a hub sent unasked.

use crate::error::ModelError;

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No connection, or none that lasted, after all attempts.
    #[error("could not download from \"{host}\": {reason}")]
    Unreachable { host: String, reason: String, known_commits: Vec<String> },
    /// Status 401 or 403.
    #[error("\"{host}\" does not give access to repository \"{repo}\"")]
    Denied { host: String, repo: String, with_token: bool },
    #[error("\"{host}\" has no {what}")]
    NotFound { host: String, what: String },
    #[error("\"{host}\" answered with status {status}")]
    Status { host: String, status: u16 },
    /// Something that no hub should say.
    #[error("answer of \"{host}\" is not valid: {reason}")]
    Invalid { host: String, reason: String },
    #[error("file \"{file}\" arrived with other contents than \"{host}\" announced")]
    WrongContents { host: String, file: String, expected: String, found: String },
    #[error("download of {bytes} bytes is larger than the limit of {limit_bytes} bytes")]
    TooLarge { bytes: u64, limit_bytes: u64 },
    #[error("not enough disk space: {needed_bytes} bytes are needed, {free_bytes} are free")]
    DiskFull { needed_bytes: u64, free_bytes: u64 },
    /// Several files could be the model.
    #[error("repository \"{repo}\" has {} GGUF files", .files.len())]
    Choice { repo: String, files: Vec<String> },
    #[error("could not use the token of \"pg_rag.hub_token_file\": {0}")]
    Token(String),
}

impl HubError {
    pub fn into_error(self) -> ModelError {
        ModelError::Hub(Box::new(self))
    }
}
