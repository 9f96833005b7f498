//! The worker's transactions over `rag.change` and `rag.queue`. All of them run as the extension's owner, in the worker.

use crate::error::{OrError, Result};
use crate::pg::append::find_table;
use crate::rag::catalog::read_one;
use crate::rag::sync::state;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::Duration;

/// Attempts after which an entry is left alone.
pub const MAX_ATTEMPTS: i32 = 5;
/// Rows of `rag.change` that are moved at once: some hundred keys each.
const MOVED_ROWS: i64 = 200;
/// How long an entry is not claimed again, if nothing is heard of who claimed it.
const LEASE: &str = "10 min";
/// What an entry says that was claimed so often without an end.
const NEVER_ENDED: &str = "the worker ended before it was done with this row";

/// An entry that this worker works on.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The key as the text of an array.
    pub key: String,
    pub version: i64,
    /// Attempts with this one.
    pub attempts: i32,
}

/// Moves changes into the queue. Returns how many rows of `rag.change` it moved.
pub fn collect() -> Result<i64> {
    let sweeps = Spi::connect_mut(|client| -> Result<(i64, Vec<pg_sys::Oid>)> {
        let rows = client
            .update(
                "WITH picked AS (SELECT ctid FROM rag.change LIMIT $1 FOR UPDATE SKIP LOCKED),
                      moved AS (DELETE FROM rag.change c USING picked p WHERE c.ctid = p.ctid
                                RETURNING c.index, c.changed_at, c.keys),
                      alive AS (SELECT m.* FROM moved m JOIN rag.sync y ON y.index = m.index),
                      entry AS (SELECT a.index, u.key::text[] AS key, min(a.changed_at) AS at
                                  FROM alive a CROSS JOIN LATERAL unnest(a.keys) u(key) GROUP BY 1, 2),
                      queued AS (INSERT INTO rag.queue AS q (index, key, queued_at, due_at)
                                 SELECT index, key, at, at FROM entry
                                 ON CONFLICT (index, key) DO UPDATE
                                    SET version = q.version + 1, due_at = CASE WHEN q.claimed THEN q.due_at ELSE excluded.due_at END,
                                        queued_at = CASE WHEN q.failed THEN excluded.queued_at ELSE q.queued_at END,
                                        attempts = 0, failed = false, error = NULL, error_at = NULL)
                 SELECT (SELECT count(*) FROM moved),
                        ARRAY(SELECT DISTINCT a.index::oid FROM alive a WHERE cardinality(a.keys) = 0)",
                None,
                &[MOVED_ROWS.into()],
            )
            .or_error()?;
        let row = rows.first();
        Ok((
            row.get::<i64>(1).or_error()?.unwrap_or_default(),
            row.get::<Vec<pg_sys::Oid>>(2).or_error()?.unwrap_or_default(),
        ))
    })?;
    for index in sweeps.1 {
        state::request_sweep(index)?;
    }
    Ok(sweeps.0)
}

/// Frees what a worker claimed that is not there any more. Its attempts stay counted.
pub fn free_claims() -> Result<()> {
    Spi::run("UPDATE rag.queue SET claimed = false, due_at = clock_timestamp() WHERE claimed AND NOT failed").or_error()
}

/// Claims up to `most` entries of an index that are due. Entries that have been tried come alone, first of them all.
pub fn claim(index: pg_sys::Oid, most: i64) -> Result<Vec<Claim>> {
    // Who was claimed too often and never came to an end, is given up.
    Spi::run_with_args(
        "UPDATE rag.queue SET failed = true, claimed = false, error = coalesce(error, $3), error_at = coalesce(error_at, clock_timestamp())
          WHERE index::oid = $1 AND NOT failed AND due_at <= clock_timestamp() AND attempts >= $2",
        &[index.into(), MAX_ATTEMPTS.into(), NEVER_ENDED.into()],
    )
    .or_error()?;
    Spi::connect_mut(|client| {
        let rows = client
            .update(
                &format!(
                    "WITH due AS (SELECT index, key FROM rag.queue
                                   WHERE index::oid = $1 AND NOT failed AND due_at <= clock_timestamp()
                                   ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
                     UPDATE rag.queue q SET claimed = true, attempts = q.attempts + 1, due_at = clock_timestamp() + interval '{LEASE}'
                       FROM due d WHERE q.index = d.index AND q.key = d.key
                     RETURNING q.key::text, q.version, q.attempts"
                ),
                None,
                &[index.into(), most.into()],
            )
            .or_error()?;
        rows.into_iter()
            .map(|row| {
                Ok(Claim {
                    key: row.get::<String>(1).or_error()?.unwrap_or_default(),
                    version: row.get::<i64>(2).or_error()?.unwrap_or_default(),
                    attempts: row.get::<i32>(3).or_error()?.unwrap_or_default(),
                })
            })
            .collect()
    })
}

/// Removes the entries of these claims whose row has not changed meanwhile. Returns the keys of these.
pub fn finish(index: pg_sys::Oid, claims: &[Claim]) -> Result<Vec<String>> {
    // An entry that has changed is free again: it has its new version to be worked on.
    Spi::run_with_args(
        "UPDATE rag.queue q SET claimed = false, due_at = clock_timestamp()
           FROM unnest($2::text[], $3::bigint[]) c(key, version)
          WHERE q.index::oid = $1 AND q.key = c.key::text[] AND q.version <> c.version",
        &[index.into(), keys(claims).into(), versions(claims).into()],
    )
    .or_error()?;
    Spi::connect_mut(|client| {
        let rows = client
            .update(
                "DELETE FROM rag.queue q USING unnest($2::text[], $3::bigint[]) c(key, version)
                  WHERE q.index::oid = $1 AND q.key = c.key::text[] AND q.version = c.version
                  RETURNING c.key",
                None,
                &[index.into(), keys(claims).into(), versions(claims).into()],
            )
            .or_error()?;
        rows.into_iter().map(|row| Ok(row.get::<String>(1).or_error()?.unwrap_or_default())).collect()
    })
}

/// Gives claims back, as if they had never been made.
pub fn give_back(index: pg_sys::Oid, claims: &[Claim]) -> Result<()> {
    Spi::run_with_args(
        "UPDATE rag.queue q SET claimed = false, attempts = greatest(q.attempts - 1, 0), due_at = clock_timestamp()
           FROM unnest($2::text[]) c(key)
          WHERE q.index::oid = $1 AND q.key = c.key::text[] AND q.claimed",
        &[index.into(), keys(claims).into()],
    )
    .or_error()
}

/// Notes that one row could not be indexed. It is tried again after a pause, unless it was tried too often.
pub fn fail(index: pg_sys::Oid, claim: &Claim, message: &str, pause: Duration) -> Result<()> {
    let pause = pause.as_secs_f64() * f64::from(4_i32.pow(claim.attempts.clamp(1, MAX_ATTEMPTS) as u32 - 1));
    Spi::run_with_args(
        "UPDATE rag.queue q SET claimed = false, error = $4, error_at = clock_timestamp(), failed = q.attempts >= $6 AND q.version = $3,
                due_at = CASE WHEN q.version = $3 THEN clock_timestamp() + make_interval(secs => $5) ELSE clock_timestamp() END
          WHERE q.index::oid = $1 AND q.key = $2::text[]",
        &[
            index.into(),
            claim.key.as_str().into(),
            claim.version.into(),
            message.into(),
            pause.into(),
            MAX_ATTEMPTS.into(),
        ],
    )
    .or_error()
}

/// Adds keys that a sweep has found, unless they are there. Returns how many were not.
pub fn add(index: pg_sys::Oid, keys: Vec<String>) -> Result<i64> {
    let added = Spi::get_one_with_args::<i64>(
        "WITH added AS (
             INSERT INTO rag.queue (index, key, queued_at, due_at)
             SELECT $1::oid::regclass, u.key::text[], clock_timestamp(), clock_timestamp() FROM unnest($2::text[]) u(key)
             ON CONFLICT (index, key) DO NOTHING RETURNING 1)
         SELECT count(*) FROM added",
        &[index.into(), keys.into()],
    );
    Ok(added.or_error()?.unwrap_or_default())
}

/// Seconds until an entry, or an index that sleeps, is due; None if nothing waits.
pub fn next_due() -> Result<Option<f64>> {
    read_one::<f64>(
        "SELECT extract(epoch FROM min(least(due, clock_timestamp() + interval '1 hour')) - clock_timestamp())::float8
           FROM (SELECT greatest(q.due_at, y.retry_at) AS due FROM rag.sync y
                  CROSS JOIN LATERAL (SELECT q.due_at FROM rag.queue q WHERE q.index = y.index AND NOT q.failed
                                       ORDER BY q.due_at LIMIT 1) q WHERE NOT y.paused
                 UNION ALL
                 SELECT coalesce(y.retry_at, clock_timestamp()) FROM rag.sync y WHERE y.sweep <> 'none' AND NOT y.paused
                 UNION ALL
                 SELECT clock_timestamp() WHERE EXISTS (SELECT FROM rag.change)
                 UNION ALL
                 SELECT clock_timestamp() + interval '1 s' FROM rag.replaced
                 UNION ALL
                 SELECT clock_timestamp() + interval '1 s' FROM rag.index i JOIN rag.sync y ON y.index = i.index
                  WHERE i.replaces IS NOT NULL AND NOT y.paused
                    AND NOT EXISTS (SELECT FROM rag.queue q WHERE q.index = y.index AND q.failed)) d",
        &[],
    )
}

fn keys(claims: &[Claim]) -> Vec<String> {
    claims.iter().map(|claim| claim.key.clone()).collect()
}

fn versions(claims: &[Claim]) -> Vec<i64> {
    claims.iter().map(|claim| claim.version).collect()
}

/// The id by which the worker of a database is known in the table of locks.
pub fn lock_class() -> Option<pg_sys::Oid> {
    find_table(c"rag", c"sync")
}
