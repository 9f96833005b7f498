//! `rag_add_model`, `rag_drop_model`, `rag_load_model`, `rag_unload_model`.

use crate::error::{error, invalid_parameter, unexpected_response, OrError, Result};
use crate::gucs;
use crate::models::catalog::{self, Model};
use crate::models::{access, remote};
use crate::pg::backend::require_writable;
use crate::pg::{invalidation, owner};
use crate::server::client;
use pg_rag_protocol::message::{ModelInfo, ModelKind, Request, Response};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, PgSqlErrorCode};
use std::rc::Rc;

/// Registers the model at `source` under `name`: reads its headers, hashes its files, writes a row of `rag.model`.
///
/// The SQL function is revoked from PUBLIC, because `source` names files of the server.
#[pg_extern(sql = false)]
fn rag_add_model(name: &str, kind: &str, source: &str, options: JsonB) -> Result<()> {
    require_writable(c"rag_add_model()");
    if name.is_empty() {
        return Err(invalid_parameter("name of a model must not be empty"));
    }
    let kind = kind_of(kind)?;
    let options = Options::new(options)?;
    let base = options.base()?;
    // An adapter is a folder, which may be named on either side.
    let source = match options.given["adapter"].as_str() {
        Some(adapter) if source.is_empty() => adapter,
        Some(adapter) if adapter != source => {
            return Err(invalid_parameter("source and option \"adapter\" of a model name different folders"));
        }
        _ => source,
    };
    if let Some(server) = remote::server_of(source) {
        return add_remote(name, kind, source, server, &options);
    }
    let source = source.strip_prefix("dir:").unwrap_or(source);
    if source.is_empty() {
        return Err(invalid_parameter("source of a model must not be empty")
            .set_hint("Give an absolute path, or one relative to \"pg_rag.model_path\"."));
    }
    let path = catalog::absolute_path(source, &gucs::model_path());
    let base = base.map(|base| Box::new(base.reference.clone()));
    let info = match client::call(&Request::Inspect { kind, path, options_json: options.to_json(), base })? {
        Response::Inspected(info) => info,
        _ => return Err(unexpected_response("the headers of a model")),
    };
    insert(name, kind, source, &options, &info)?;
    announce_change()
}

/// The kind of model that this word means.
pub(super) fn kind_of(word: &str) -> Result<ModelKind> {
    word.parse().map_err(|()| {
        invalid_parameter(format!("kind of model \"{word}\" is not known"))
            .set_hint("Use \"embed\", \"rerank\" or \"generate\".")
    })
}

/// Options of a registration: those that change what the model does, and facts about where it comes from.
#[derive(Clone)]
pub(super) struct Options {
    given: serde_json::Value,
    license: Option<String>,
    pub repository: Option<String>,
    pub revision: Option<String>,
}

impl Options {
    pub fn new(options: JsonB) -> Result<Self> {
        let serde_json::Value::Object(mut given) = options.0 else {
            return Err(invalid_parameter("options of a model must be a JSON object"));
        };
        let mut fact = |name: &str| match given.remove(name) {
            None => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid_parameter(format!("option \"{name}\" of a model must be a text"))),
        };
        let (license, revision) = (fact("license")?, fact("revision")?);
        Ok(Self { given: serde_json::Value::Object(given), license, repository: None, revision })
    }

    pub fn to_json(&self) -> String {
        self.given.to_string()
    }

    /// For an adapter: the model that it changes.
    pub fn base(&self) -> Result<Option<Rc<Model>>> {
        self.given["base"].as_str().map(|base| catalog::find(base, ModelKind::Generate)).transpose()
    }

    /// The model that this one is made from, and whose restrictions it takes over.
    fn made_from(&self) -> Option<&str> {
        self.given["base"].as_str().or(self.given["quantized_from"].as_str())
    }

    /// The commit, if it was told or if `source` is a folder of the hub's own cache.
    fn revision(&self, source: &str) -> Option<String> {
        let of_cache = || {
            let (_, commit) = source.trim_end_matches('/').split_once("/snapshots/")?;
            let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_commit.then(|| commit.to_owned())
        };
        self.revision.clone().or_else(of_cache)
    }
}

/// Registers a model that the foreign server `server` runs. The server is asked for a vector if `options` do not tell how
/// long it is.
fn add_remote(name: &str, kind: ModelKind, source: &str, server: &str, options: &Options) -> Result<()> {
    // A name that is taken should cost no request.
    require_unused(name)?;
    let options_json = options.to_json();
    let request =
        Request::InspectRemote { kind, server: remote::resolve(server)?, options_json, caller: client::caller() };
    let Response::Inspected(info) = client::call(&request)? else {
        return Err(unexpected_response("what a remote model is"));
    };
    let mut options = options.clone();
    if kind == ModelKind::Embed {
        options.given["dimensions"] = info.dimensions.into();
    }
    insert(name, kind, source, &options, &info)?;
    announce_change()
}

/// Writes the row of a new model, or that of a dropped one with the same files.
pub(super) fn insert(name: &str, kind: ModelKind, source: &str, options: &Options, info: &ModelInfo) -> Result<()> {
    owner::as_extension_owner(|| write_row(name, kind, source, options, info))?;
    access::begin(name, options.made_from())
}

fn write_row(name: &str, kind: ModelKind, source: &str, options: &Options, info: &ModelInfo) -> Result<()> {
    let given = || JsonB(options.given.clone());
    let license = options.license.as_deref().or(info.license.as_deref());
    let revision = options.revision(source);
    let files = catalog::files_to_json(&info.files);
    let earlier = Spi::connect_mut(|client| -> Result<Option<(bool, bool)>> {
        let rows = client
            .update(
                "SELECT dropped_at IS NOT NULL, files OPERATOR(pg_catalog.=) $2 AND options OPERATOR(pg_catalog.=) $3
                   FROM rag.model WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
                Some(1),
                &[name.into(), JsonB(files.0.clone()).into(), given().into()],
            )
            .or_error()?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let dropped = row.get::<bool>(1).or_error()?.unwrap_or(false);
        let same = row.get::<bool>(2).or_error()?.unwrap_or(false);
        Ok(Some((dropped, same)))
    })?;
    match earlier {
        Some((false, _)) => Err(already_exists(name)),
        Some((true, false)) => Err(error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("name \"{name}\" belonged to another model"),
        )
        .set_detail("Vectors in tables and indexes may come from that model, so its name stays bound to its files.")
        .set_hint("Choose another name.")),
        Some((true, true)) => Spi::run_with_args(
            "UPDATE rag.model SET dropped_at = NULL, source = $2, license = $3, repository = $4, revision = $5
              WHERE name OPERATOR(pg_catalog.=) $1",
            &[name.into(), source.into(), license.into(), options.repository.as_deref().into(), revision.into()],
        )
        .or_error(),
        None => Spi::run_with_args(
            "INSERT INTO rag.model (name, kind, source, files, options, architecture, dimensions, max_tokens,
                                    parameters, size_bytes, quantization, file_bytes, license, repository, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            &[
                name.into(),
                kind.as_str().into(),
                source.into(),
                files.into(),
                given().into(),
                info.architecture.as_str().into(),
                (info.dimensions as i32).into(),
                (info.max_tokens as i32).into(),
                (info.parameters as i64).into(),
                (info.size_bytes as i64).into(),
                info.quantization.as_str().into(),
                catalog::sizes_to_json(&info.files, &info.file_bytes).into(),
                license.into(),
                options.repository.as_deref().into(),
                revision.into(),
            ],
        )
        .or_error(),
    }
}

fn already_exists(name: &str) -> ErrorReport {
    error(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, format!("model \"{name}\" already exists"))
        .set_hint("Choose another name; a model can be dropped, but not redefined.")
}

/// Fails if there is a model `name`.
pub(super) fn require_unused(name: &str) -> Result<()> {
    let found = Spi::get_one_with_args::<bool>(
        "SELECT EXISTS (SELECT FROM rag.model WHERE name OPERATOR(pg_catalog.=) $1 AND dropped_at IS NULL)",
        &[name.into()],
    )
    .or_error()?;
    match found {
        Some(true) => Err(already_exists(name)),
        _ => Ok(()),
    }
}

/// Drops the model `name`. Its name stays bound to its files; indexes that use it keep their rows but cannot embed.
#[pg_extern(sql = false)]
fn rag_drop_model(name: &str) -> Result<()> {
    require_writable(c"rag_drop_model()");
    catalog::entry(name)?;
    access::require_ownership(name)?;
    let used_by = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.string_agg(index::text, ', ' ORDER BY index::text) FROM rag.index
          WHERE model OPERATOR(pg_catalog.=) $1 OR summary_model OPERATOR(pg_catalog.=) $1",
        &[name.into()],
    )
    .or_error()?;
    if let Some(indexes) = used_by {
        return Err(error(
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop model \"{name}\" because indexes use it"),
        )
        .set_detail(format!("Indexes: {indexes}."))
        .set_hint("Drop them with rag_drop_index() first."));
    }
    let adapters = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.string_agg(name, ', ' ORDER BY name) FROM rag.model
          WHERE options OPERATOR(pg_catalog.->>) 'base' OPERATOR(pg_catalog.=) $1 AND dropped_at IS NULL",
        &[name.into()],
    )
    .or_error()?;
    if let Some(adapters) = adapters {
        return Err(error(
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop model \"{name}\" because adapters use it"),
        )
        .set_detail(format!("Adapters: {adapters}."))
        .set_hint("Drop them with rag_drop_model() first."));
    }
    owner::as_extension_owner(|| {
        Spi::run_with_args(
            "UPDATE rag.model SET dropped_at = pg_catalog.now() WHERE name OPERATOR(pg_catalog.=) $1",
            &[name.into()],
        )
        .or_error()
    })?;
    announce_change()?;
    client::command(&Request::Unload { name: name.to_owned() })
}

/// Loads the model `name` into the server now, instead of at its first use.
#[pg_extern(sql = false)]
fn rag_load_model(name: &str) -> Result<()> {
    let model = catalog::lookup(name)?;
    client::command(&Request::Load { model: model.reference.clone() })
}

/// Frees the server's memory of the model `name`; its next use loads it again.
#[pg_extern(sql = false)]
fn rag_unload_model(name: &str) -> Result<()> {
    catalog::entry(name)?;
    client::command(&Request::Unload { name: name.to_owned() })
}

/// Makes every backend forget what it cached of `rag.model`.
pub(super) fn announce_change() -> Result<()> {
    let table = Spi::get_one::<pg_sys::Oid>("SELECT 'rag.model'::pg_catalog.regclass::oid").or_error()?;
    if let Some(table) = table {
        invalidation::announce(table);
    }
    Ok(())
}
