//! What other sessions see of a running refresh, in the view `rag_index_progress`.
//!
//! The refresh is one transaction, so its rows are invisible until it ends. The server keeps the numbers instead, by
//! connection: they vanish when the backend ends or disconnects.

use crate::error::{unexpected_response, Result};
use crate::pg::backend;
use crate::server::client;
use pg_rag_protocol::message::{IndexProgress, Request, Response};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

/// Progress of the refresh that this backend runs. Dropping it withdraws the report.
pub struct Report {
    state: IndexProgress,
}

impl Report {
    pub fn start(index: &str, rows_total: u64) -> Result<Self> {
        let state = IndexProgress {
            pid: std::process::id(),
            database: backend::database_oid().to_u32(),
            index: index.to_owned(),
            rows_done: 0,
            rows_total,
            chunks_done: 0,
            chunks_embedded: 0,
            elapsed_s: 0.0,
        };
        let report = Self { state };
        report.send()?;
        Ok(report)
    }

    pub fn advance(&mut self, rows: u64, chunks: u64, embedded: u64) -> Result<()> {
        self.state.rows_done += rows;
        self.state.chunks_done += chunks;
        self.state.chunks_embedded += embedded;
        self.send()
    }

    fn send(&self) -> Result<()> {
        client::command(&Request::ReportProgress(Some(self.state.clone())))
    }

    /// Withdraws the report at the regular end. After an error the connection may be gone, and the report with it.
    pub fn finish(self) -> Result<()> {
        client::command(&Request::ReportProgress(None))
    }
}

/// The rows behind the view `rag_index_progress`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn index_progress() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, i32),
            name!(index_name, String),
            name!(rows_done, i64),
            name!(rows_total, i64),
            name!(chunks_done, i64),
            name!(chunks_embedded, i64),
            name!(elapsed_s, f64),
        ),
    >,
> {
    let Response::Progress(reports) = client::call(&Request::Progress)? else {
        return Err(unexpected_response("the progress of indexes"));
    };
    let database = backend::database_oid().to_u32();
    let rows = reports.into_iter().filter(move |report| report.database == database).map(|report| {
        (
            report.pid as i32,
            report.index,
            report.rows_done as i64,
            report.rows_total as i64,
            report.chunks_done as i64,
            report.chunks_embedded as i64,
            report.elapsed_s,
        )
    });
    Ok(TableIterator::new(rows))
}
