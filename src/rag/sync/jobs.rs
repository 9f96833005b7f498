//! The indexes that a worker serves, and what it tells of its work in `rag.sync`. Runs in the worker, as the extension's owner.

use crate::error::{OrError, Result};
use crate::pg::owner;
use crate::rag::catalog::{self, Index};
use crate::rag::sync::sweep::Position;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::Duration;

/// An index to work on.
pub struct Job {
    pub index: Index,
    /// On whose behalf.
    pub owner: pg_sys::Oid,
    /// Where its sweep is, if there is one.
    pub position: Option<Position>,
}

/// All indexes that are neither paused nor asleep.
pub fn list() -> Result<Vec<Job>> {
    let rows = Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT y.index::oid, y.sweep, y.sweep_number, y.sweep_after FROM rag.sync y
                   JOIN rag.index i ON i.index = y.index
                  WHERE NOT y.paused AND (y.retry_at IS NULL OR y.retry_at <= clock_timestamp())
                    -- No EXISTS: beside OR it may be answered by reading the whole queue.
                    AND (y.sweep <> 'none' OR (SELECT true FROM rag.queue q WHERE q.index = y.index AND NOT q.failed LIMIT 1))
                  ORDER BY 1",
                None,
                &[],
            )
            .or_error()?;
        rows.into_iter()
            .map(|row| {
                let phase = row.get::<String>(2).or_error()?.unwrap_or_default();
                let position = Position {
                    number: row.get::<i64>(3).or_error()?.unwrap_or_default(),
                    after: row.get::<Vec<String>>(4).or_error()?,
                    phase,
                };
                Ok((row.get::<pg_sys::Oid>(1).or_error()?.unwrap_or(pg_sys::InvalidOid), position))
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let mut jobs = Vec::with_capacity(rows.len());
    for (view, position) in rows {
        // Its table may be gone: then there is nothing to be done for it.
        let Ok(index) = catalog::find(view) else { continue };
        let owner = owner::owner_of(&index.chunks)?;
        jobs.push(Job { index, owner, position: (position.phase != "none").then_some(position) });
    }
    Ok(jobs)
}

/// Indexes that are to take another's place and have looked at every row.
pub fn replacements() -> Result<Vec<Index>> {
    let views = catalog::read_one::<Vec<pg_sys::Oid>>(
        "SELECT array_agg(i.index::oid) FROM rag.index i JOIN rag.sync y ON y.index = i.index
          WHERE i.replaces IS NOT NULL AND y.filled AND y.sweep = 'none' AND NOT y.paused",
        &[],
    )?;
    Ok(views.unwrap_or_default().into_iter().filter_map(|view| catalog::find(view).ok()).collect())
}

/// Notes that rows have been worked on. The rate is that of the last seconds.
pub fn note_progress(job: &Job, rows: i64, took: Duration) -> Result<()> {
    let rate = rows as f64 / took.as_secs_f64().max(0.001);
    Spi::run_with_args(
        "UPDATE rag.sync SET rows_done = rows_done + $2, failures = 0, retry_at = NULL, worked_at = clock_timestamp(),
                rows_per_s = CASE WHEN $2 = 0 THEN rows_per_s
                                  WHEN rows_per_s IS NULL OR worked_at < clock_timestamp() - interval '10 s' THEN $3
                                  ELSE 0.8 * rows_per_s + 0.2 * $3 END
          WHERE index::oid = $1",
        &[job.index.view_oid.into(), rows.into(), rate.into()],
    )
    .or_error()
}

/// Notes that nothing could be done for an index, which sleeps for a while now: longer each time, up to five minutes.
pub fn note_hindrance(job: &Job, message: &str, pause: Duration) -> Result<()> {
    Spi::run_with_args(
        "UPDATE rag.sync SET failures = failures + 1, last_error = $2, last_error_at = clock_timestamp(),
                retry_at = clock_timestamp() + make_interval(secs => least(300, $3 * 2 ^ least(failures, 20)))
          WHERE index::oid = $1",
        &[job.index.view_oid.into(), message.into(), pause.as_secs_f64().into()],
    )
    .or_error()
}

/// Notes that summaries were written. The rate is that of the last minute.
pub fn note_summaries(job: &Job, written: i64, took: Duration) -> Result<()> {
    let rate = written as f64 / took.as_secs_f64().max(0.001);
    Spi::run_with_args(
        "UPDATE rag.sync SET summaries_done = summaries_done + $2, summaries_retry_at = NULL, summarized_at = clock_timestamp(),
                summaries_per_s = CASE WHEN $2 = 0 THEN summaries_per_s
                                       WHEN summaries_per_s IS NULL OR summarized_at < clock_timestamp() - interval '1 min' THEN $3
                                       ELSE 0.8 * summaries_per_s + 0.2 * $3 END
          WHERE index::oid = $1",
        &[job.index.view_oid.into(), written.into(), rate.into()],
    )
    .or_error()
}

/// Notes that no summaries of an index can be written now: they are put off for some time, up to five minutes.
pub fn postpone_summaries(job: &Job, message: &str, pause: Duration) -> Result<()> {
    Spi::run_with_args(
        "UPDATE rag.sync SET summaries_retry_at = clock_timestamp() + make_interval(secs => least(300, $3 * 12)),
                last_error = $2, last_error_at = clock_timestamp() WHERE index::oid = $1",
        &[job.index.view_oid.into(), message.into(), pause.as_secs_f64().into()],
    )
    .or_error()
}

/// Notes the error of one row.
pub fn note_error(job: &Job, message: &str) -> Result<()> {
    Spi::run_with_args(
        "UPDATE rag.sync SET last_error = $2, last_error_at = clock_timestamp() WHERE index::oid = $1",
        &[job.index.view_oid.into(), message.into()],
    )
    .or_error()
}
