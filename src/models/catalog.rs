//! From the name of a model to what the server needs to find, verify and load it.

use crate::error::{error, OrError, Result};
use crate::gucs;
use crate::models::access;
use crate::models::remote;
use crate::pg::invalidation;
use pg_rag_protocol::message::{ModelFile, ModelKind, ModelRef};
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// A row of `rag.model`.
#[derive(Debug)]
pub struct Model {
    pub reference: ModelRef,
    /// Dimensions of an embedding model's vectors.
    pub dimensions: u32,
    /// Longest input of an embedding model; context of a generation model.
    pub max_tokens: u32,
    /// Roles that may use it; `None` where everybody may.
    users: Option<Vec<pg_sys::Oid>>,
}

#[derive(Default)]
struct Cache {
    generation: u64,
    model_path: String,
    models: HashMap<String, Rc<Model>>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// The model registered under `name`, which must be of `kind`.
pub fn find(name: &str, kind: ModelKind) -> Result<Rc<Model>> {
    let model = lookup(name)?;
    if model.reference.kind != kind {
        let (is, wanted) = (model.reference.kind.as_str(), kind.as_str());
        return Err(error(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("model \"{name}\" is of kind \"{is}\", not \"{wanted}\""),
        )
        .set_hint(format!("List the models of that kind with: SELECT name FROM rag_models WHERE kind = '{wanted}'")));
    }
    Ok(model)
}

/// The embedding model `name`, or the one that `pg_rag.embedding_model` names.
pub fn embedding(name: Option<&str>) -> Result<Rc<Model>> {
    match name {
        Some(name) => find(name, ModelKind::Embed),
        None => find(&gucs::embedding_model(), ModelKind::Embed),
    }
}

/// The reranking model `name`, or the one that `pg_rag.rerank_model` names.
pub fn reranker(name: Option<&str>) -> Result<Rc<Model>> {
    match name.map(str::to_owned).unwrap_or_else(gucs::rerank_model) {
        name if name.is_empty() => {
            Err(error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "no reranking model is named".to_owned())
                .set_hint("Add one with rag_add_model() and name it in the call or in \"pg_rag.rerank_model\"."))
        }
        name => find(&name, ModelKind::Rerank),
    }
}

/// The generation model `name`, or the one that `pg_rag.generation_model` names.
pub fn generation(name: Option<&str>) -> Result<Rc<Model>> {
    match name {
        Some(name) => find(name, ModelKind::Generate),
        None => find(&gucs::generation_model(), ModelKind::Generate),
    }
}

/// The model `name` of whatever kind, if the current role may use it. One that runs elsewhere comes with how this role reaches
/// it, who must have the right to.
///
/// Asked for every use, so whoever acts for somebody else, a worker or a security-definer function, has the right or not as
/// that role has it.
pub fn lookup(name: &str) -> Result<Rc<Model>> {
    let model = entry(name)?;
    if let Some(users) = &model.users {
        access::require_use(name, users)?;
    }
    let Some(server) = remote::server_of(&model.reference.path) else { return Ok(model) };
    let remote = Some(Box::new(remote::resolve(server)?));
    let reference = ModelRef { remote, ..model.reference.clone() };
    Ok(Rc::new(Model { reference, users: model.users.clone(), ..*model }))
}

/// Whether not everybody may use the model `name`.
pub(super) fn is_restricted(name: &str) -> Result<bool> {
    Ok(entry(name)?.users.is_some())
}

/// What the catalogue says of the model `name`, wherever it runs: for those who do not use it.
pub fn entry(name: &str) -> Result<Rc<Model>> {
    let generation = invalidation::generation();
    let model_path = gucs::model_path();
    let cached = CACHE.with_borrow_mut(|cache| {
        if cache.generation != generation || cache.model_path != model_path {
            *cache = Cache { generation, model_path: model_path.clone(), models: HashMap::new() };
        }
        cache.models.get(name).cloned()
    });
    if let Some(model) = cached {
        return Ok(model);
    }
    let model = Rc::new(read(name, &model_path)?);
    CACHE.with_borrow_mut(|cache| {
        // Reading may have processed invalidations: then the row may already be stale, and is used only this once.
        if cache.generation == invalidation::generation() {
            cache.models.insert(name.to_owned(), Rc::clone(&model));
        }
    });
    Ok(model)
}

fn read(name: &str, model_path: &str) -> Result<Model> {
    let row = Spi::connect(|client| -> Result<_> {
        let rows = client
            .select(
                "SELECT m.kind, m.source, m.files, m.options, m.dimensions, m.max_tokens,
                        CASE WHEN EXISTS (SELECT FROM rag.restricted_model r WHERE r.model OPERATOR(pg_catalog.=) m.name)
                             THEN ARRAY(SELECT DISTINCT g.role::oid FROM rag.model_grant g
                                         WHERE g.model OPERATOR(pg_catalog.=) m.name) END
                   FROM rag.model m WHERE m.name OPERATOR(pg_catalog.=) $1 AND m.dropped_at IS NULL",
                Some(1),
                &[name.into()],
            )
            .or_error()?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        Ok(Some((
            row.get::<String>(1).or_error()?.unwrap_or_default(),
            row.get::<String>(2).or_error()?.unwrap_or_default(),
            row.get::<JsonB>(3).or_error()?,
            row.get::<JsonB>(4).or_error()?,
            row.get::<i32>(5).or_error()?.unwrap_or_default(),
            row.get::<i32>(6).or_error()?.unwrap_or_default(),
            row.get::<Vec<pg_sys::Oid>>(7).or_error()?,
        )))
    })?;
    let Some((kind, source, files, options, dimensions, max_tokens, users)) = row else {
        return Err(error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("model \"{name}\" does not exist"))
            .set_hint("List the models with: SELECT name, kind FROM rag_models. Add one with rag_add_model()."));
    };
    let damaged = || {
        error(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, format!("row of model \"{name}\" in rag.model is damaged"))
            .set_hint("Drop the model with rag_drop_model() and add it again.")
    };
    let base = match options.as_ref().and_then(|options| options.0["base"].as_str()) {
        Some(base) if base == name => return Err(damaged()),
        // Who may use the adapter need not have its base for other uses.
        Some(base) => Some(Box::new(entry(base)?.reference.clone())),
        None => None,
    };
    Ok(Model {
        reference: ModelRef {
            base,
            remote: None,
            name: name.to_owned(),
            kind: kind.parse().map_err(|()| damaged())?,
            path: absolute_path(&source, model_path),
            files: files.as_ref().and_then(files_from_json).ok_or_else(damaged)?,
            options_json: options.map_or_else(|| "{}".to_owned(), |options| options.0.to_string()),
        },
        dimensions: u32::try_from(dimensions).map_err(|_| damaged())?,
        max_tokens: u32::try_from(max_tokens).map_err(|_| damaged())?,
        users,
    })
}

/// Beginning of the source of a model that the server has written into its own folder, below the data directory. Standbys
/// and restored backups have theirs elsewhere, so the path is not written down.
pub const OWN_FOLDER: &str = "server:";

/// `source` as registered: an absolute path, one relative to `pg_rag.model_path`, a file in the server's own folder, or a
/// foreign server.
pub fn absolute_path(source: &str, model_path: &str) -> String {
    if remote::server_of(source).is_some() {
        return source.to_owned();
    }
    if let Some(file) = source.strip_prefix(OWN_FOLDER) {
        // Every process of PostgreSQL works in the data directory.
        let folder = std::env::current_dir().unwrap_or_default().join(pg_rag_protocol::MODELS_DIR);
        return folder.join(file).to_string_lossy().into_owned();
    }
    Path::new(model_path).join(source).to_string_lossy().into_owned()
}

/// A text among the options of a model.
pub fn option(model: &ModelRef, name: &str) -> Option<String> {
    let options: serde_json::Value = serde_json::from_str(&model.options_json).ok()?;
    options[name].as_str().map(str::to_owned)
}

/// Files and their sizes as `rag.model` stores them: `{"model.safetensors": 90868376}`.
pub fn sizes_to_json(files: &[ModelFile], bytes: &[u64]) -> JsonB {
    JsonB(files.iter().zip(bytes).map(|(file, &bytes)| (file.name.clone(), serde_json::Value::from(bytes))).collect())
}

/// Files and hashes as `rag.model` stores them: `{"model.safetensors": "53aa…"}`.
pub fn files_to_json(files: &[ModelFile]) -> JsonB {
    JsonB(files.iter().map(|file| (file.name.clone(), serde_json::Value::from(file.sha256.clone()))).collect())
}

fn files_from_json(json: &JsonB) -> Option<Vec<ModelFile>> {
    json.0
        .as_object()?
        .iter()
        .map(|(name, sha256)| Some(ModelFile { name: name.clone(), sha256: sha256.as_str()?.to_owned() }))
        .collect()
}
