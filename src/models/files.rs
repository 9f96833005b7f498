//! Are the files of the models there, and are they the registered ones? `rag_model_files` and `rag_check_model`.

use crate::error::{unexpected_response, OrError, Result};
use crate::gucs;
use crate::models::catalog;
use crate::server::client;
use pg_rag_protocol::message::{Request, Response};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::JsonB;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

type FileRow = (String, String, Option<i64>, Option<i64>, String);

/// The rows behind the view `rag_model_files`: by the sizes of files, which costs nothing and needs no server, so that it
/// tells on a standby or after a restore what is missing.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn model_files() -> Result<
    TableIterator<
        'static,
        (
            name!(model, String),
            name!(file, String),
            name!(bytes, Option<i64>),
            name!(found_bytes, Option<i64>),
            name!(state, String),
        ),
    >,
> {
    let models = Spi::connect(|client| -> Result<Vec<(String, String, JsonB)>> {
        let query = "SELECT m.name, m.source,
                            (SELECT pg_catalog.jsonb_object_agg(f.key, m.file_bytes OPERATOR(pg_catalog.->) f.key)
                               FROM pg_catalog.jsonb_each(m.files) f)
                       FROM rag.model m WHERE m.dropped_at IS NULL ORDER BY m.name";
        let mut models = Vec::new();
        for row in client.select(query, None, &[]).or_error()? {
            let (name, source) = (row.get::<String>(1).or_error()?, row.get::<String>(2).or_error()?);
            let files = row.get::<JsonB>(3).or_error()?;
            models.extend(name.zip(source).zip(files).map(|((name, source), files)| (name, source, files)));
        }
        Ok(models)
    })?;
    let model_path = gucs::model_path();
    let mut rows: Vec<FileRow> = Vec::new();
    for (model, source, files) in models {
        let folder = folder_of(Path::new(&catalog::absolute_path(&source, &model_path)));
        for (file, bytes) in files.0.as_object().into_iter().flatten() {
            let bytes = bytes.as_i64();
            let (found_bytes, state) = look_at(&folder.join(file), bytes);
            rows.push((model.clone(), file.clone(), bytes, found_bytes, state.to_owned()));
        }
    }
    Ok(TableIterator::new(rows))
}

/// The folder that names of files are relative to, for the path of a model that need not be there.
fn folder_of(path: &Path) -> PathBuf {
    let is_gguf = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    match (path.is_file() || is_gguf) && !path.is_dir() {
        true => path.parent().unwrap_or(Path::new("/")).to_owned(),
        false => path.to_owned(),
    }
}

fn look_at(path: &Path, bytes: Option<i64>) -> (Option<i64>, &'static str) {
    match std::fs::metadata(path) {
        Ok(metadata) => {
            let found = i64::try_from(metadata.len()).unwrap_or(i64::MAX);
            let state = match bytes {
                Some(bytes) if bytes != found => "size differs",
                _ => "present",
            };
            (Some(found), state)
        }
        Err(failure) if failure.kind() == ErrorKind::NotFound => (None, "missing"),
        Err(_) => (None, "unreadable"),
    }
}

/// Compares the hashes of all files of the model `name` with the registered ones.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn rag_check_model(
    name: &str,
) -> Result<
    TableIterator<
        'static,
        (name!(file, String), name!(state, String), name!(sha256, String), name!(found_sha256, Option<String>)),
    >,
> {
    let model = catalog::lookup(name)?.reference.clone();
    let registered = model.files.clone();
    let Response::Files(checks) = client::call(&Request::CheckFiles { model, waiter: client::waiter() })? else {
        return Err(unexpected_response("hashes of files"));
    };
    let rows = registered.into_iter().zip(checks).map(|(file, check)| {
        let state = match (&check.found_sha256, check.problem) {
            (Some(found), _) if *found == file.sha256 => "ok".to_owned(),
            (Some(_), _) => "changed".to_owned(),
            (None, problem) => problem.unwrap_or_else(|| "unreadable".to_owned()),
        };
        (file.name, state, file.sha256, check.found_sha256)
    });
    Ok(TableIterator::new(rows))
}
