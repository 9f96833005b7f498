//! `rag_add_model`, `rag_drop_model`, `rag_load_model`, `rag_unload_model`, and the status of the server.

use crate::error::{error, invalid_parameter, unexpected_response, OrError, Result};
use crate::gucs;
use crate::models::{catalog, remote};
use crate::pg::backend::require_writable;
use crate::pg::invalidation;
use crate::server::client;
use pg_rag_protocol::message::{ModelInfo, ModelKind, Request, Response, ServerStatus};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, PgSqlErrorCode};

/// Registers the model at `source` under `name`: reads its headers, hashes its files, writes a row of `rag.model`.
///
/// The SQL function is revoked from PUBLIC, because `source` names files of the server.
#[pg_extern(sql = false)]
fn rag_add_model(name: &str, kind: &str, source: &str, options: JsonB) -> Result<()> {
    require_writable(c"rag_add_model()");
    if name.is_empty() {
        return Err(invalid_parameter("name of a model must not be empty"));
    }
    let kind: ModelKind = kind.parse().map_err(|()| {
        invalid_parameter(format!("kind of model \"{kind}\" is not known"))
            .set_hint("Use \"embed\", \"rerank\" or \"generate\".")
    })?;
    if !options.0.is_object() {
        return Err(invalid_parameter("options of a model must be a JSON object"));
    }
    // An adapter is a folder, which may be named on either side.
    let base = options.0["base"].as_str().map(|base| catalog::find(base, ModelKind::Generate)).transpose()?;
    let source = match options.0["adapter"].as_str() {
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
    let info = match client::call(&Request::Inspect { kind, path, options_json: options.0.to_string(), base })? {
        Response::Inspected(info) => info,
        _ => return Err(unexpected_response("the headers of a model")),
    };
    insert(name, kind, source, &options, &info)?;
    announce_change()
}

/// Registers a model that the foreign server `server` runs. The server is asked for a vector if `options` do not tell how
/// long it is.
fn add_remote(name: &str, kind: ModelKind, source: &str, server: &str, options: &JsonB) -> Result<()> {
    // A name that is taken should cost no request.
    require_unused(name)?;
    let options_json = options.0.to_string();
    let request =
        Request::InspectRemote { kind, server: remote::resolve(server)?, options_json, caller: client::caller() };
    let Response::Inspected(info) = client::call(&request)? else {
        return Err(unexpected_response("what a remote model is"));
    };
    let mut options = JsonB(options.0.clone());
    if kind == ModelKind::Embed {
        options.0["dimensions"] = info.dimensions.into();
    }
    insert(name, kind, source, &options, &info)?;
    announce_change()
}

/// Writes the row of a new model, or that of a dropped one with the same files.
pub(super) fn insert(name: &str, kind: ModelKind, source: &str, options: &JsonB, info: &ModelInfo) -> Result<()> {
    let files = catalog::files_to_json(&info.files);
    let earlier = Spi::connect_mut(|client| -> Result<Option<(bool, bool)>> {
        let rows = client
            .update(
                "SELECT dropped_at IS NOT NULL, files OPERATOR(pg_catalog.=) $2 AND options OPERATOR(pg_catalog.=) $3
                   FROM rag.model WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
                Some(1),
                &[name.into(), JsonB(files.0.clone()).into(), JsonB(options.0.clone()).into()],
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
            "UPDATE rag.model SET dropped_at = NULL, source = $2 WHERE name OPERATOR(pg_catalog.=) $1",
            &[name.into(), source.into()],
        )
        .or_error(),
        None => Spi::run_with_args(
            "INSERT INTO rag.model (name, kind, source, files, options, architecture, dimensions, max_tokens,
                                    parameters, size_bytes, quantization)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                name.into(),
                kind.as_str().into(),
                source.into(),
                files.into(),
                JsonB(options.0.clone()).into(),
                info.architecture.as_str().into(),
                (info.dimensions as i32).into(),
                (info.max_tokens as i32).into(),
                (info.parameters as i64).into(),
                (info.size_bytes as i64).into(),
                info.quantization.as_str().into(),
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
    let used_by = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.string_agg(index::text, ', ' ORDER BY index::text) FROM rag.index
          WHERE model OPERATOR(pg_catalog.=) $1",
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
    Spi::run_with_args(
        "UPDATE rag.model SET dropped_at = pg_catalog.now() WHERE name OPERATOR(pg_catalog.=) $1",
        &[name.into()],
    )
    .or_error()?;
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

fn status() -> Result<ServerStatus> {
    match client::call(&Request::Status)? {
        Response::Status(status) => Ok(status),
        _ => Err(unexpected_response("its status")),
    }
}

/// The row of the view `rag_server_status`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn server_status() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, i32),
            name!(uptime, f64),
            name!(threads, i32),
            name!(connections, i32),
            name!(queued, i32),
            name!(generating, i32),
            name!(resident_bytes, i64),
            name!(memory_bytes, i64),
            name!(max_memory_bytes, Option<i64>),
        ),
    >,
> {
    let status = status()?;
    Ok(TableIterator::once((
        status.pid as i32,
        status.uptime_s,
        status.threads as i32,
        status.connections as i32,
        status.queued as i32,
        status.generating as i32,
        status.resident_bytes as i64,
        status.memory_bytes as i64,
        status.max_memory_bytes.map(|bytes| bytes as i64),
    )))
}

/// The rows of the view `rag_devices`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn devices() -> Result<
    TableIterator<
        'static,
        (
            name!(name, String),
            name!(kind, String),
            name!(memory_bytes, i64),
            name!(compute_capability, Option<String>),
            name!(features, Vec<String>),
        ),
    >,
> {
    match client::call(&Request::Devices)? {
        Response::Devices(devices) => Ok(TableIterator::new(devices.into_iter().map(|device| {
            let memory_bytes = device.memory_bytes as i64;
            (device.name, device.kind, memory_bytes, device.compute_capability, device.features)
        }))),
        _ => Err(unexpected_response("its devices")),
    }
}

/// The rows behind the view `rag_loaded_models`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn loaded_models() -> Result<
    TableIterator<
        'static,
        (
            name!(name, String),
            name!(kind, String),
            name!(resident_bytes, i64),
            name!(load_ms, f32),
            name!(requests, i64),
            name!(tokens, i64),
            name!(idle, f64),
        ),
    >,
> {
    let models = status()?.models;
    Ok(TableIterator::new(models.into_iter().map(|model| {
        (
            model.name,
            model.kind.as_str().to_owned(),
            model.resident_bytes as i64,
            model.load_ms,
            model.requests as i64,
            model.tokens as i64,
            model.idle_s,
        )
    })))
}
