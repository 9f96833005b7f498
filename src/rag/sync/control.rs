//! What users ask of the worker, and what the status views ask on their behalf.

use crate::error::{error, OrError, Result};
use crate::pg::append::find_table;
use crate::pg::backend::require_writable;
use crate::pg::{latch, owner, transaction};
use crate::rag::catalog::{self, read_one};
use crate::rag::sync::{changes, queue, wake};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};
use std::time::{Duration, Instant};

/// Tables up to this size are counted, others are estimated.
const COUNTED_BYTES: i64 = 16 << 20;

/// Bounds of how long [`rag_wait`] sleeps between two looks, once it does so for the longest time.
const SHORT_PAUSE: Duration = Duration::from_millis(100);
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// What [`rag_wait`] looks at.
struct State {
    /// Something waits that was there at the time asked about.
    waits: bool,
    /// The whole table is compared with the index.
    compares: bool,
    /// Something has failed, and nothing waits.
    failed: bool,
    /// None: the index does not follow its table, or is gone.
    mode: Option<String>,
}

fn now() -> Result<Option<TimestampWithTimeZone>> {
    Spi::get_one("SELECT pg_catalog.clock_timestamp()").or_error()
}

/// As the extension's owner.
fn look(index: pg_sys::Oid, until: Option<TimestampWithTimeZone>) -> Result<State> {
    queue::read_in_order()?;
    // As if it changed something: each look is to see what was committed until then. The entries are read from their end, where
    // those are that the worker has just claimed: at the beginning are those that are done, and while this call lasts, nobody
    // may forget them, as its snapshot is that old.
    Spi::connect_mut(|client| {
        let row = client
            .update(
                "SELECT EXISTS (SELECT FROM rag.change c WHERE c.index::oid = $1 AND c.changed_at <= $2)
                        OR (SELECT true FROM rag.queue q WHERE q.index::oid = $1 AND NOT q.failed AND q.queued_at <= $2
                             ORDER BY q.due_at DESC LIMIT 1) IS NOT NULL,
                        y.sweep <> 'none', y.mode
                   FROM (VALUES (1)) one LEFT JOIN rag.sync y ON y.index::oid = $1",
                None,
                &[index.into(), until.into()],
            )
            .or_error()?
            .first();
        let waits: bool = row.get(1).or_error()?.unwrap_or_default();
        let (compares, mode) = (row.get(2).or_error()?.unwrap_or_default(), row.get(3).or_error()?);
        let mut failed = None;
        if !waits {
            // Not asked before: the planner would have all entries read for it.
            let query = "SELECT EXISTS (SELECT FROM rag.queue q WHERE q.index::oid = $1 AND q.failed)";
            failed = client.update(query, None, &[index.into()]).or_error()?.first().get_one().or_error()?;
        }
        Ok(State { waits, compares, failed: failed.unwrap_or_default(), mode })
    })
}

/// Waits until everything that was committed before the call is in the index.
#[pg_extern(sql = false)]
fn rag_wait(index: pg_sys::Oid, timeout: Interval) -> Result<bool> {
    require_writable(c"rag_wait()");
    let index = catalog::find(index)?;
    if transaction::has_fixed_snapshot() {
        return Err(error(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "rag_wait() cannot see what other sessions do in this transaction",
        )
        .set_hint("Call it in a transaction of isolation level READ COMMITTED, or in none."));
    }
    if changes::is_pending() {
        return Err(error(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "rag_wait() cannot wait for what this transaction has changed",
        )
        .set_detail("An index follows its table after the commit.")
        .set_hint("Commit first."));
    }
    let began = Instant::now();
    let limit = Duration::from_secs_f64(timeout_seconds(timeout)?);
    let mut until = now()?;
    let mut compares = false;
    let mut pause = Duration::from_millis(2);
    loop {
        let state = owner::as_extension_owner(|| look(index.view_oid, until))?;
        match state.mode {
            Some(mode) if mode != "manual" => {
                // What a comparison of the whole table found came into the queue while it went on.
                if compares && !state.compares {
                    until = now()?;
                    compares = false;
                    continue;
                }
                compares = state.compares;
                // One that is to take another's place is waited for until it has.
                if !state.waits && !compares && (index.replaces.is_none() || state.failed) {
                    return Ok(!state.failed);
                }
            }
            // It has taken the place of the one that it was to replace: that was complete.
            None if index.replaces.is_some() => return Ok(true),
            _ => {
                return Err(error(
                    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("index {} does not follow its table", index.view),
                )
                .set_hint("Bring it up to date with rag_refresh()."))
            }
        }
        wake::wake();
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        latch::sleep(pause.min(left));
        // Who has waited for minutes waits for a second more.
        pause = (pause * 2).min((began.elapsed() / 50).clamp(SHORT_PAUSE, LONG_PAUSE));
    }
}

fn timeout_seconds(timeout: Interval) -> Result<f64> {
    let seconds = Spi::get_one_with_args::<f64>(
        "SELECT least(greatest(extract(epoch FROM $1), 0), 1e8)::pg_catalog.float8",
        &[timeout.into()],
    );
    Ok(seconds.or_error()?.unwrap_or_default())
}

/// Changes the row of an index in `rag.sync`, whose owner the caller must be.
fn change(function: &std::ffi::CStr, index: pg_sys::Oid, assignment: &str) -> Result<()> {
    let index = owned(function, index)?;
    owner::as_extension_owner(|| {
        Spi::run_with_args(&format!("UPDATE rag.sync SET {assignment} WHERE index::oid = $1"), &[index.view_oid.into()])
            .or_error()
    })?;
    changes::wake_after_commit();
    Ok(())
}

fn owned(function: &std::ffi::CStr, index: pg_sys::Oid) -> Result<catalog::Index> {
    require_writable(function);
    let index = catalog::find(index)?;
    catalog::require_ownership(index.view_oid)?;
    Ok(index)
}

#[pg_extern(sql = false)]
fn rag_pause_index(index: pg_sys::Oid) -> Result<()> {
    change(c"rag_pause_index()", index, "paused = true")
}

#[pg_extern(sql = false)]
fn rag_resume_index(index: pg_sys::Oid) -> Result<()> {
    change(c"rag_resume_index()", index, "paused = false, failures = 0, retry_at = NULL, summaries_retry_at = NULL")
}

/// Tries rows again that failed, at once. Returns how many.
#[pg_extern(sql = false)]
fn rag_retry(index: pg_sys::Oid) -> Result<i64> {
    owned(c"rag_retry()", index)?;
    let count = owner::as_extension_owner(|| {
        Spi::get_one_with_args::<i64>(
            "WITH again AS (
                 UPDATE rag.queue SET failed = false, attempts = 0, error = NULL, error_at = NULL,
                                      due_at = clock_timestamp(), queued_at = clock_timestamp()
                  WHERE index::oid = $1 AND error IS NOT NULL AND NOT claimed RETURNING 1)
             SELECT count(*) FROM again",
            &[index.into()],
        )
        .or_error()
    })?;
    change(c"rag_retry()", index, "failures = 0, retry_at = NULL, summaries_retry_at = NULL")?;
    Ok(count.unwrap_or_default())
}

/// Rows of an index' table: counted if it is small, else estimated from its size as the planner does.
#[pg_extern(sql = false)]
fn source_rows(index: pg_sys::Oid) -> Result<Option<i64>> {
    let may_read = read_one::<bool>("SELECT pg_catalog.has_table_privilege($1, 'SELECT')", &[index.into()])?;
    if may_read != Some(true) {
        return Ok(None);
    }
    let index = catalog::find(index)?;
    owner::as_extension_owner(|| {
        let leaves = "SELECT c.oid, c.reltuples, c.relpages FROM pg_class c
                       WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1)))";
        let bytes = read_one::<i64>(
            &format!("SELECT coalesce(sum(pg_relation_size(l.oid)), 0)::bigint FROM ({leaves}) l"),
            &[index.source_oid.into()],
        )?;
        if bytes.unwrap_or_default() <= COUNTED_BYTES {
            return read_one::<i64>(
                &format!(
                    "SELECT count(*) FROM {} s WHERE {}",
                    index.source,
                    index.where_sql.as_deref().unwrap_or("true")
                ),
                &[],
            );
        }
        read_one::<i64>(
            &format!(
                "SELECT sum(CASE WHEN l.relpages > 0 AND l.reltuples >= 0
                                 THEN l.reltuples / l.relpages ELSE 10 END
                            * (pg_relation_size(l.oid) / current_setting('block_size')::integer))::bigint FROM ({leaves}) l"
            ),
            &[index.source_oid.into()],
        )
    })
}

/// Process id of the worker of this database. If there is none though something waits, one is started.
#[pg_extern(sql = false)]
fn sync_worker() -> Result<Option<i32>> {
    let Some(class) = find_table(c"rag", c"sync") else { return Ok(None) };
    let worker = read_one::<i32>(
        "SELECT l.pid FROM pg_catalog.pg_locks l
          WHERE l.locktype OPERATOR(pg_catalog.=) 'object' AND l.classid OPERATOR(pg_catalog.=) $1
            AND l.objid OPERATOR(pg_catalog.=) 0 AND l.granted
            AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                                     WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())",
        &[class.into()],
    )?;
    if worker.is_none() && !transaction::is_in_recovery() && owner::as_extension_owner(queue::next_due)?.is_some() {
        wake::wake();
    }
    Ok(worker)
}
