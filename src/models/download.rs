//! `rag_download_model`: the one way in which anything is downloaded.

use crate::error::{error, invalid_parameter, required, unexpected_response, Result};
use crate::gucs;
use crate::models::{catalog, registry};
use crate::pg::backend::require_writable;
use crate::server::client;
use pg_rag_protocol::message::{DownloadOrder, ModelKind, Request, Response};
use pgrx::prelude::*;
use pgrx::{JsonB, PgSqlErrorCode};

/// Downloads a model of the hub into the server's folder, and registers it under `name`, which is that of the repository
/// if none is given. Returns the name.
///
/// A transaction that is rolled back leaves the files, which the next attempt finds. The SQL function is revoked from
/// PUBLIC.
#[pg_extern(sql = false)]
fn rag_download_model(
    repo: Option<&str>,
    name: Option<&str>,
    kind: Option<&str>,
    revision: Option<&str>,
    files: Option<Vec<Option<String>>>,
    options: Option<JsonB>,
) -> Result<String> {
    require_writable(c"rag_download_model()");
    let repo = required("repo", repo)?;
    if !gucs::allow_download() {
        return Err(error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "downloading models is not allowed on this server",
        )
        .set_hint(
            "A superuser can allow it: ALTER SYSTEM SET pg_rag.allow_download = on, then SELECT pg_reload_conf().",
        ));
    }
    let name = name.unwrap_or_else(|| repo.rsplit('/').next().unwrap_or(repo));
    if name.is_empty() {
        return Err(invalid_parameter("name of a model must not be empty"));
    }
    let kind: Option<ModelKind> = kind.map(registry::kind_of).transpose()?;
    let mut options = registry::Options::new(required("options", options)?)?;
    let base = options.base()?;
    let patterns =
        files.unwrap_or_default().into_iter().map(|pattern| required("files", pattern)).collect::<Result<_>>()?;
    // Before the work, which may take hours.
    registry::require_unused(name)?;
    let order = DownloadOrder {
        endpoint: gucs::hub_endpoint(),
        token_file: gucs::hub_token_file(),
        repo: repo.to_owned(),
        revision: required("revision", revision)?.to_owned(),
        patterns,
        kind,
        options_json: options.to_json(),
        base: base.map(|base| Box::new(base.reference.clone())),
        max_bytes: gucs::max_download_bytes(),
    };
    let request = Request::Download { order, name: name.to_owned(), waiter: client::waiter() };
    let Response::Downloaded { kind, path, commit, info } = client::call(&request)? else {
        return Err(unexpected_response("a downloaded model"));
    };
    (options.repository, options.revision) = (Some(repo.to_owned()), Some(commit));
    let source = format!("{}{path}", catalog::OWN_FOLDER);
    registry::insert(name, kind, &source, &options, &info)?;
    registry::announce_change()?;
    Ok(name.to_owned())
}
