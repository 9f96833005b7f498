//! `rag_quantize_model`, `rag_quantization_report`, `rag_model_memory`, and the progress of such work.

use crate::error::{error, invalid_parameter, required, unexpected_response, Result};
use crate::models::{catalog, registry};
use crate::pg::backend::{self, require_writable};
use crate::server::client;
use pg_rag_protocol::message::{ModelKind, QuantizationReport, Request, Response, TensorReport};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{JsonB, PgSqlErrorCode};
use std::path::Path;

/// Writes the model `name` with smaller weights into the server's folder, and registers the file as `new_name`.
///
/// A transaction that is rolled back leaves the file, which the next attempt replaces by the same bytes.
#[pg_extern(sql = false)]
fn rag_quantize_model(name: &str, new_name: &str, kind: &str) -> Result<()> {
    require_writable(c"rag_quantize_model()");
    if new_name.is_empty() {
        return Err(invalid_parameter("name of a model must not be empty"));
    }
    // Before the work, which may take minutes.
    registry::require_unused(new_name)?;
    let model = catalog::lookup(name)?.reference.clone();
    let request =
        Request::Quantize { model, name: new_name.to_owned(), kind: kind.to_owned(), waiter: client::waiter() };
    let Response::Quantized { path, info } = client::call(&request)? else {
        return Err(unexpected_response("a quantised model"));
    };
    let file = Path::new(&path).file_name().unwrap_or_default().to_string_lossy();
    let source = format!("{}{file}", catalog::OWN_FOLDER);
    let options = registry::Options::new(JsonB(serde_json::json!({ "quantized_from": name })))?;
    registry::insert(new_name, ModelKind::Generate, &source, &options, &info)?;
    registry::announce_change()
}

type ReportRow = (Option<String>, String, String, i64, i64, f64, f64, Option<f64>, Option<f64>, Option<f64>);

/// One row for each tensor, and one for the model, whose tensor is NULL.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn rag_quantization_report(
    name: Option<&str>,
    sample: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(tensor, Option<String>),
            name!(original_type, String),
            name!(type_, String),
            name!(elements, i64),
            name!(bytes, i64),
            name!(rmse, f64),
            name!(max_error, f64),
            name!(cosine, Option<f64>),
            name!(original_perplexity, Option<f64>),
            name!(perplexity, Option<f64>),
        ),
    >,
> {
    let name = required("name", name)?;
    let model = catalog::lookup(name)?;
    let Some(original) = catalog::option(&model.reference, "quantized_from") else {
        return Err(error(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("model \"{name}\" was not made by rag_quantize_model()"),
        ));
    };
    let request = Request::QuantizationReport {
        original: catalog::lookup(&original)?.reference.clone(),
        model: model.reference.clone(),
        text: sample.map(str::to_owned),
        waiter: client::waiter(),
    };
    let Response::QuantizationReport(report) = client::call(&request)? else {
        return Err(unexpected_response("a comparison of models"));
    };
    Ok(TableIterator::new(rows(report)))
}

fn rows(report: QuantizationReport) -> Vec<ReportRow> {
    let whole = total(&report);
    let row = |tensor: TensorReport| {
        let (elements, bytes) = (tensor.elements as i64, tensor.bytes as i64);
        let errors = (tensor.rmse, tensor.largest_error, Some(tensor.cosine));
        (
            Some(tensor.name),
            tensor.original_kind,
            tensor.kind,
            elements,
            bytes,
            errors.0,
            errors.1,
            errors.2,
            None,
            None,
        )
    };
    report.tensors.into_iter().map(row).chain([whole]).collect()
}

/// The row of the whole model.
fn total(report: &QuantizationReport) -> ReportRow {
    let sum = |of: fn(&TensorReport) -> f64| report.tensors.iter().map(of).sum::<f64>();
    let elements = sum(|tensor| tensor.elements as f64);
    let rmse = (sum(|tensor| tensor.rmse * tensor.rmse * tensor.elements as f64) / elements.max(1.0)).sqrt();
    let largest = report.tensors.iter().map(|tensor| tensor.largest_error).fold(0.0, f64::max);
    let most = |of: fn(&TensorReport) -> &String| {
        let largest = report.tensors.iter().max_by_key(|tensor| tensor.elements);
        largest.map(|tensor| of(tensor).clone()).unwrap_or_default()
    };
    let bytes = sum(|tensor| tensor.bytes as f64) as i64;
    let change = report.perplexity;
    let (before, after) = (change.map(|change| change.original), change.map(|change| change.quantised));
    let kinds = (most(|tensor| &tensor.original_kind), most(|tensor| &tensor.kind));
    (None, kinds.0, kinds.1, elements as i64, bytes, rmse, largest, None, before, after)
}

/// What a model takes in memory, by the headers of its files.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn rag_model_memory(
    name: Option<&str>,
    context: Option<i32>,
    dtype: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(weights_type, String),
            name!(context_tokens, i32),
            name!(weights_bytes, i64),
            name!(vocabulary_bytes, i64),
            name!(kv_cache_bytes, i64),
            name!(prefix_cache_bytes, i64),
            name!(activations_bytes, i64),
            name!(total_bytes, i64),
            name!(fits_ram, bool),
            name!(fits_gpu, Option<bool>),
            name!(fits_max_memory, Option<bool>),
        ),
    >,
> {
    let name = required("name", name)?;
    let context_tokens = match context {
        None => None,
        Some(tokens) => Some(
            u32::try_from(tokens)
                .ok()
                .filter(|&tokens| tokens > 0)
                .ok_or_else(|| invalid_parameter(format!("context must be 1 or more, not {tokens}")))?,
        ),
    };
    let model = catalog::lookup(name)?.reference.clone();
    let request = Request::ModelMemory { model, context_tokens, kind: dtype.map(str::to_owned) };
    let Response::ModelMemory(memory) = client::call(&request)? else {
        return Err(unexpected_response("the memory of a model"));
    };
    let fits = |kind: &str| {
        let devices = memory.devices.iter().filter(|(device, _)| device.kind == kind);
        devices.map(|(_, fits)| *fits).reduce(|one, other| one || other)
    };
    Ok(TableIterator::once((
        memory.kind.clone(),
        i32::try_from(memory.context_tokens).unwrap_or(i32::MAX),
        memory.weights_bytes as i64,
        memory.vocabulary_bytes as i64,
        memory.kv_cache_bytes as i64,
        memory.prefix_cache_bytes as i64,
        memory.activations_bytes as i64,
        memory.total_bytes as i64,
        fits("cpu").unwrap_or(false),
        fits("cuda"),
        memory.fits_limit,
    )))
}

/// The rows behind the view `rag_model_progress`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn model_progress() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, i32),
            name!(model, String),
            name!(phase, String),
            name!(done, i64),
            name!(total, i64),
            name!(elapsed_s, f64),
        ),
    >,
> {
    let Response::ModelProgress(works) = client::call(&Request::ModelProgress)? else {
        return Err(unexpected_response("the progress of work on models"));
    };
    let database = backend::database_oid().to_u32();
    let rows = works
        .into_iter()
        .filter(move |work| work.database == database)
        .map(|work| (work.pid as i32, work.model, work.phase, work.done as i64, work.total as i64, work.elapsed_s));
    Ok(TableIterator::new(rows))
}
