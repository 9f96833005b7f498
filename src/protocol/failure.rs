//! Why a request failed, as the server tells it and the extension maps it to an SQLSTATE.

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong; the extension maps it to an SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The model's folder or one of its files does not exist.
    ModelMissing,
    /// The operating system refused to read a file of the model.
    ModelUnreadable,
    /// The operating system refused to write a file of a model; mostly, the disk is full.
    ModelUnwritable,
    /// A file of the model is truncated or not what its name says.
    ModelCorrupt,
    /// The files are whole, but this version cannot run them.
    ModelUnsupported,
    /// The files are no longer the ones that were registered.
    ModelChanged,
    /// The prompt does not leave room for an answer in the model's context.
    PromptTooLong,
    /// An argument is out of range.
    InvalidArgument,
    /// The input cannot be processed: nested too deeply, not text, damaged.
    InvalidInput,
    /// The document is of a type that is not read, or protected.
    DocumentUnsupported,
    /// The document is larger than a limit allows: in bytes, pages, unpacked bytes, time.
    DocumentLimit,
    /// Too many requests are waiting.
    Overloaded,
    /// The role has as many unanswered requests as it may.
    RoleLimit,
    /// The model does not fit into memory.
    OutOfMemory,
    /// A model hub cannot be reached, or the connection does not last.
    HubUnreachable,
    /// A model hub refuses; a token is missing or not enough.
    HubDenied,
    /// A model hub does not have what is asked for.
    HubNotFound,
    /// A model hub answers with what it should not: another file than announced, no valid list.
    HubInvalid,
    /// A download is larger than it may be.
    DownloadLimit,
    /// There is no room for what would be written.
    DiskFull,
    /// A file that a setting names is not as it must be.
    Configuration,
    /// A server that runs models elsewhere cannot be reached.
    RemoteUnreachable,
    /// It may not be reached: by its address, or without encryption.
    RemoteForbidden,
    /// It did not answer in time, broke the connection, or failed.
    RemoteLost,
    /// What it answered is not what was asked for.
    RemoteProtocol,
    /// It refused the request.
    RemoteRefused,
    /// It does not know the model, or what was asked for.
    RemoteUnknown,
    /// It refused the key.
    RemoteKey,
    /// It asks to be left alone for a while.
    RemoteBusy,
    /// The file with the key, or with certificates, cannot be used.
    RemoteFile,
    /// The model runs elsewhere: what was asked for needs its files.
    RemoteModel,
    /// The client went away.
    Cancelled,
    /// The server takes no more requests because it is about to end; its successor will.
    Stopping,
    /// A bug in the server.
    Internal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// In PostgreSQL's style: lower case, no full stop, names in double quotes.
    pub message: String,
    pub detail: Option<String>,
    /// What the user can do, as a sentence.
    pub hint: Option<String>,
}
