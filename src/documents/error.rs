//! What can go wrong with a document. Texts are in PostgreSQL's style: lower case, no full stop.

use crate::Kind;

pub type Result<T> = std::result::Result<T, DocumentError>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("document type \"{0}\" is not known")]
    UnknownTypeName(String),
    #[error("encoding \"{0}\" is not known")]
    UnknownEncoding(String),
    /// The bytes are of a type that is not read; `found` says which, with its article.
    #[error("document is {found}, which cannot be read")]
    Unsupported { found: String },
    /// The caller said one thing and the bytes another.
    #[error("document is {found}, not {} as declared", .declared.with_article())]
    OtherType { declared: Kind, found: String },
    #[error("document is text in an encoding that is not UTF-8 and not declared")]
    UndeclaredEncoding,
    #[error("document is damaged: {0}")]
    Damaged(String),
    #[error("document is protected with a password")]
    Encrypted,
    #[error("document of {bytes} bytes is larger than the limit of {limit} bytes")]
    InputLimit { bytes: usize, limit: usize },
    #[error("document has more text than the limit of {limit} bytes")]
    OutputLimit { limit: usize },
    #[error("document has more pages than the limit of {limit}")]
    PageLimit { limit: usize },
    /// Compressed parts grow to more than is allowed, in all or in proportion.
    #[error("document unpacks to more than the limit of {limit} bytes")]
    UnpackLimit { limit: u64 },
    #[error("document has more than {limit} {what}")]
    StructureLimit { what: &'static str, limit: usize },
    #[error("document takes longer to read than the limit of {} s", .limit.as_secs_f64())]
    TimeLimit { limit: std::time::Duration },
    #[error("request was cancelled")]
    Cancelled,
    /// A library gave up in a way that it should not; contained here.
    #[error("document could not be read: {0}")]
    Reader(String),
}

impl DocumentError {
    pub(crate) fn damaged(reason: impl std::fmt::Display) -> Self {
        DocumentError::Damaged(reason.to_string())
    }

    /// Whether the document itself is to blame, so that what was read of it before may be kept. Limits and cancellation
    /// end the work as a whole.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, DocumentError::Damaged(_))
    }
}
