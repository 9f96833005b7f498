//! What the model server has written into its own folder, for all databases of the cluster: `rag_stored_models` and
//! `rag_delete_stored_model`.
//!
//! Dropping a model deletes nothing: files are of the cluster, registrations of a database, and another one may name the same
//! files. So deleting is a call of its own, which refuses what this database uses, and says of which other databases it
//! does not know.

use crate::error::{error, required, unexpected_response, OrError, Result};
use crate::models::catalog;
use crate::pg::backend::require_writable;
use crate::server::client;
use pg_rag_protocol::message::{Request, Response};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::PgSqlErrorCode;

/// The rows behind the view `rag_stored_models`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn stored_models() -> Result<
    TableIterator<
        'static,
        (name!(path, String), name!(repository, Option<String>), name!(bytes, i64), name!(models, Vec<String>)),
    >,
> {
    let Response::StoredModels(stored) = client::call(&Request::StoredModels)? else {
        return Err(unexpected_response("what the server has stored"));
    };
    let mut rows = Vec::new();
    for model in stored {
        let models = users(&model.path)?;
        rows.push((model.path, model.repository, i64::try_from(model.bytes).unwrap_or(i64::MAX), models));
    }
    Ok(TableIterator::new(rows))
}

/// Names of the models of this database whose files are at `path` of the server's folder.
fn users(path: &str) -> Result<Vec<String>> {
    let names = Spi::get_one_with_args::<Vec<String>>(
        "SELECT pg_catalog.array_agg(name ORDER BY name) FROM rag.model
          WHERE dropped_at IS NULL
            AND (source OPERATOR(pg_catalog.=) $1 OR pg_catalog.starts_with(source, $1 OPERATOR(pg_catalog.||) '/'))",
        &[format!("{}{path}", catalog::OWN_FOLDER).into()],
    )
    .or_error()?;
    Ok(names.unwrap_or_default())
}

/// Other databases that may have models.
fn other_databases() -> Result<Option<String>> {
    Spi::get_one::<String>(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(datname), ', ' ORDER BY datname) FROM pg_catalog.pg_database
          WHERE datallowconn AND NOT datistemplate AND datname OPERATOR(pg_catalog.<>) pg_catalog.current_database()",
    )
    .or_error()
}

/// Deletes the stored model at `path`; returns the bytes that this has freed. It cannot be rolled back.
#[pg_extern(sql = false)]
fn rag_delete_stored_model(path: Option<&str>, unused_elsewhere: Option<bool>) -> Result<i64> {
    require_writable(c"rag_delete_stored_model()");
    let path = required("path", path)?;
    let used_by = users(path)?;
    if !used_by.is_empty() {
        return Err(error(
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot delete stored model \"{path}\" because models use it"),
        )
        .set_detail(format!("Models: {}.", used_by.join(", ")))
        .set_hint("Drop them with rag_drop_model() first."));
    }
    let others = if required("unused_elsewhere", unused_elsewhere)? { None } else { other_databases()? };
    if let Some(others) = others {
        return Err(error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("models of other databases may use stored model \"{path}\""),
        )
        .set_detail(format!("Databases: {others}."))
        .set_hint(
            "Look into rag_stored_models in each of them that has pg_rag; then set the argument \"unused_elsewhere\".",
        ));
    }
    let request = Request::DeleteStored { path: path.to_owned(), waiter: client::waiter() };
    match client::call(&request)? {
        Response::Count(bytes) => Ok(i64::try_from(bytes).unwrap_or(i64::MAX)),
        _ => Err(unexpected_response("the bytes that were freed")),
    }
}
