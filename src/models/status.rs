//! The state of the server: the rows behind `rag_server_status`, `rag_devices` and `rag_loaded_models`.

use crate::error::{unexpected_response, Result};
use crate::server::client;
use pg_rag_protocol::message::{ModelProgress, Request, Response, ServerStatus};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

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
            name!(works, Vec<String>),
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
        status.works.iter().map(describe_work).collect(),
    )))
}

/// A piece of long work in one line.
fn describe_work(work: &ModelProgress) -> String {
    let ModelProgress { model, phase, done, total, .. } = work;
    match (*done as f64 / *total as f64 * 100.0) as u64 {
        percent if *total > 0 => format!("{model}: {phase} {percent} %"),
        _ => format!("{model}: {phase}"),
    }
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
