//! The one map from [`ModelError`], [`DocumentError`] and [`RemoteError`] to what a client is told: kind, message, detail and hint.
//!
//! The message stays one line in PostgreSQL's style; facts go to the detail, advice to the hint (both are sentences).

use crate::error::ModelError;
use crate::hub::HubError;
use crate::remote::RemoteError;
use pg_rag_documents::{DocumentError, Kind};
use pg_rag_protocol::message::{Failure, FailureKind};

/// What the client is told about `error`.
pub fn failure_of(error: &ModelError) -> Failure {
    let kind = match error {
        ModelError::Missing(_) => FailureKind::ModelMissing,
        ModelError::Unreadable { .. } => FailureKind::ModelUnreadable,
        ModelError::Unwritable { .. } => FailureKind::ModelUnwritable,
        ModelError::Corrupt { .. } => FailureKind::ModelCorrupt,
        ModelError::Unsupported(_) => FailureKind::ModelUnsupported,
        ModelError::Changed { .. } => FailureKind::ModelChanged,
        ModelError::LinkedOutside(_) => FailureKind::InvalidArgument,
        ModelError::PromptTooLong { .. } => FailureKind::PromptTooLong,
        ModelError::InvalidArgument(_) => FailureKind::InvalidArgument,
        ModelError::InvalidInput(_) | ModelError::JsonCut(_) => FailureKind::InvalidInput,
        ModelError::OutOfMemory(_) | ModelError::MemoryLimit { .. } => FailureKind::OutOfMemory,
        ModelError::RoleLimit(_) => FailureKind::RoleLimit,
        ModelError::Overloaded(_) => FailureKind::Overloaded,
        ModelError::Cancelled => FailureKind::Cancelled,
        ModelError::Hub(error) => return failure_of_hub(error),
        ModelError::Internal(_) => FailureKind::Internal,
    };
    let detail = match error {
        ModelError::Changed { expected_sha256: Some(expected), found_sha256, .. } => {
            Some(format!("Its SHA-256 should be {expected}, but is {found_sha256}."))
        }
        ModelError::Changed { expected_sha256: None, .. } => {
            Some("The file was not there when the model was registered.".to_owned())
        }
        ModelError::MemoryLimit { limit_bytes, .. } => {
            Some(format!("\"pg_rag.max_memory\" allows {limit_bytes} bytes for models and generations."))
        }
        ModelError::RoleLimit(limit) => {
            Some(format!("\"pg_rag.max_concurrent_requests\" allows the role {limit} at the same time."))
        }
        _ => None,
    };
    let hint = match error {
        ModelError::Missing(_) => {
            Some("Check the setting \"pg_rag.model_path\" and that the model's files are there; SELECT * FROM rag_models shows where they are expected.")
        }
        ModelError::Unreadable { .. } => {
            Some("The files must be readable by the operating system user that runs PostgreSQL.")
        }
        ModelError::Unwritable { .. } => {
            Some("There must be room for the file, and the user that runs PostgreSQL must be allowed to write it.")
        }
        ModelError::Corrupt { .. } => Some("Copy the model's files again."),
        ModelError::Changed { .. } => {
            Some("Restore the registered file, or register the new one under another name with rag_add_model.")
        }
        ModelError::LinkedOutside(_) => Some("Put the file itself into the folder."),
        ModelError::JsonCut(_) => Some(
            "Increase \"max_tokens\", or set limits in the schema (\"maxLength\", \"maxItems\", \"enum\").",
        ),
        ModelError::PromptTooLong { .. } => Some("Use a shorter prompt or fewer passages."),
        ModelError::Overloaded(_) | ModelError::RoleLimit(_) => Some("Try again when fewer requests are running."),
        ModelError::MemoryLimit { .. } => {
            Some("Unload models that are not needed with rag_unload_model, or increase \"pg_rag.max_memory\".")
        }
        ModelError::OutOfMemory(_) => Some("Unload models that are not needed with rag_unload_model."),
        _ => None,
    };
    Failure { kind, message: error.to_string(), detail, hint: hint.map(str::to_owned) }
}

/// What the client is told about a hub.
fn failure_of_hub(error: &HubError) -> Failure {
    let kind = match error {
        HubError::Unreachable { .. } => FailureKind::HubUnreachable,
        HubError::Denied { .. } => FailureKind::HubDenied,
        HubError::NotFound { .. } => FailureKind::HubNotFound,
        HubError::Status { .. } | HubError::Invalid { .. } | HubError::WrongContents { .. } => FailureKind::HubInvalid,
        HubError::TooLarge { .. } => FailureKind::DownloadLimit,
        HubError::DiskFull { .. } => FailureKind::DiskFull,
        HubError::Choice { .. } => FailureKind::InvalidArgument,
        HubError::Token(_) => FailureKind::Configuration,
    };
    let detail = match error {
        HubError::WrongContents { expected, found, .. } => Some(format!("It should be {expected}, but is {found}.")),
        HubError::Choice { files, .. } => Some(format!("Files: {}.", files.join(", "))),
        _ => None,
    };
    let hint = match error {
        HubError::Unreachable { known_commits, .. } if !known_commits.is_empty() => format!(
            "What has been downloaded is kept. Without the hub, a revision must be a commit that is known: {}.",
            known_commits.join(", ")
        ),
        HubError::Unreachable { .. } => {
            "What has been downloaded is kept; try again, and check \"pg_rag.hub_endpoint\".".to_owned()
        }
        HubError::Denied { with_token: false, .. } => {
            "Check the name. A private or gated repository needs a token, in the file that \"pg_rag.hub_token_file\" names.".to_owned()
        }
        HubError::Denied { with_token: true, .. } => {
            "Check the name, and on the hub that the token may read the repository and that its conditions are accepted.".to_owned()
        }
        HubError::NotFound { .. } => "Check the names of the repository and of the revision.".to_owned(),
        HubError::WrongContents { .. } => "Try again; if it happens again, the hub or something on the way changes files.".to_owned(),
        HubError::TooLarge { .. } => {
            "Choose fewer files with the argument \"files\", or increase \"pg_rag.max_download_size\".".to_owned()
        }
        HubError::DiskFull { .. } => "Make room in the data directory, or let its folder \"pg_rag_models\" be a link to a larger disk.".to_owned(),
        HubError::Choice { .. } => "Name one with a pattern: files => '{*Q4_K_M.gguf}'.".to_owned(),
        HubError::Token(_) => {
            "It must be an absolute path of a file with one token, which only the user that runs PostgreSQL can read (mode 0600).".to_owned()
        }
        HubError::Status { .. } | HubError::Invalid { .. } => "Check \"pg_rag.hub_endpoint\".".to_owned(),
    };
    Failure { kind, message: error.to_string(), detail, hint: Some(hint) }
}

/// What the client is told about a document that could not be read.
pub fn failure_of_document(error: &DocumentError) -> Failure {
    let kind = match error {
        DocumentError::UnknownTypeName(_) | DocumentError::UnknownEncoding(_) => FailureKind::InvalidArgument,
        DocumentError::Unsupported { .. } | DocumentError::Encrypted => FailureKind::DocumentUnsupported,
        DocumentError::OtherType { .. }
        | DocumentError::UndeclaredEncoding
        | DocumentError::Damaged(_)
        | DocumentError::Reader(_) => FailureKind::InvalidInput,
        DocumentError::InputLimit { .. }
        | DocumentError::OutputLimit { .. }
        | DocumentError::PageLimit { .. }
        | DocumentError::UnpackLimit { .. }
        | DocumentError::StructureLimit { .. }
        | DocumentError::TimeLimit { .. } => FailureKind::DocumentLimit,
        DocumentError::Cancelled => FailureKind::Cancelled,
    };
    let types = || {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        names.join(", ")
    };
    let hint = match error {
        DocumentError::UnknownTypeName(_) | DocumentError::Unsupported { .. } => {
            Some(format!("Types that can be read: {}.", types()))
        }
        DocumentError::OtherType { .. } => Some("Leave the type out to have it recognised.".to_owned()),
        DocumentError::UnknownEncoding(_) => {
            Some("Use a name of PostgreSQL or of the web, such as LATIN1 or windows-1251.".to_owned())
        }
        DocumentError::UndeclaredEncoding => Some("Name its encoding.".to_owned()),
        DocumentError::Encrypted => Some("Remove the password first.".to_owned()),
        DocumentError::InputLimit { .. }
        | DocumentError::OutputLimit { .. }
        | DocumentError::PageLimit { .. }
        | DocumentError::TimeLimit { .. } => Some("Split the document.".to_owned()),
        _ => None,
    };
    Failure { kind, message: error.to_string(), detail: None, hint }
}

/// What the client is told about a model that runs elsewhere.
pub fn failure_of_remote(error: RemoteError) -> Failure {
    let RemoteError { kind, message, detail, hint } = error;
    Failure { kind, message, detail, hint: hint.map(str::to_owned) }
}

/// A bug in the server or in a library that it uses.
pub fn internal(message: impl Into<String>) -> Failure {
    failure_of(&ModelError::Internal(message.into()))
}

/// The text that a panic carries, for [`internal`].
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_tells_both_hashes_and_a_way_out() {
        let failure = failure_of(&ModelError::Changed {
            path: "/m/model.gguf".into(),
            expected_sha256: Some("aa".into()),
            found_sha256: "bb".into(),
        });
        assert_eq!(failure.kind, FailureKind::ModelChanged);
        assert_eq!(failure.message, "model file \"/m/model.gguf\" is not the one that was registered");
        assert_eq!(failure.detail.as_deref(), Some("Its SHA-256 should be aa, but is bb."));
        assert!(failure.hint.is_some_and(|hint| hint.contains("rag_add_model")));
    }

    #[test]
    fn documents_that_cannot_be_read_say_what_they_are_and_what_could() {
        let failure = failure_of_document(&DocumentError::Unsupported { found: "a PNG image".into() });
        assert_eq!(failure.kind, FailureKind::DocumentUnsupported);
        assert_eq!(failure.message, "document is a PNG image, which cannot be read");
        assert!(failure.hint.is_some_and(|hint| hint.contains("docx, pptx, xlsx")));
        let failure = failure_of_document(&DocumentError::InputLimit { bytes: 2, limit: 1 });
        assert_eq!(failure.kind, FailureKind::DocumentLimit);
    }

    #[test]
    fn a_missing_file_names_the_setting() {
        let failure = failure_of(&ModelError::Missing("/m".into()));
        assert_eq!(failure.kind, FailureKind::ModelMissing);
        assert!(failure.hint.is_some_and(|hint| hint.contains("\"pg_rag.model_path\"")));
    }
}
