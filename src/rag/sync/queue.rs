//! The worker's transactions over `rag.change` and `rag.queue`. All of them run as the extension's owner, in the worker.

use crate::error::{OrError, Result};
use crate::pg::append::find_table;
use crate::rag::catalog::read_one;
use crate::rag::sync::state;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Attempts after which an entry is left alone.
pub const MAX_ATTEMPTS: i32 = 5;
/// Rows of `rag.change` that are moved at once: some hundred keys each.
const MOVED_ROWS: i64 = 200;
/// How long an entry is not claimed again, if nothing is heard of who claimed it.
const LEASE: &str = "10 min";
/// How long an entry waits that should have been claimed before others were.
const MOST_BEHIND: Duration = Duration::from_secs(5);
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

/// What is to be done for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its text is looked at.
    Texts,
    /// Its text is there, summaries of it are missing.
    Summaries,
}

impl Due {
    /// Over entries `e`.
    fn condition(self) -> &'static str {
        match self {
            Due::Texts => "e.summaries = 0",
            Due::Summaries => {
                "e.summaries > 0 AND NOT EXISTS (SELECT FROM rag.sync y
                     WHERE y.index = e.index AND y.summaries_retry_at > clock_timestamp())"
            }
        }
    }
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
                                 SELECT index, key, at, clock_timestamp() FROM entry
                                 ON CONFLICT (index, key) DO UPDATE
                                    SET version = q.version + 1, due_at = CASE WHEN q.claimed THEN q.due_at ELSE excluded.due_at END,
                                        queued_at = CASE WHEN q.failed THEN excluded.queued_at ELSE least(q.queued_at, excluded.queued_at) END,
                                        attempts = 0, failed = false, error = NULL, error_at = NULL, summaries = 0)
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

/// Where in the order of an index's entries those begin that a worker has not claimed yet.
///
/// What is before them is done, but still read as long as somebody has an older snapshot: a claim would read all of it,
/// and the next one again. Entries that come later are due later, by the clock at the time that they come; where the clock
/// was set back or who added them was slow to commit, they are before, so these are looked for, too, but seldom.
#[derive(Default)]
pub struct Front {
    due_at: Option<TimestampWithTimeZone>,
    /// When all entries were looked at.
    whole_at: Option<Instant>,
}

impl Front {
    /// Where to look from.
    fn begin(&mut self) -> Option<TimestampWithTimeZone> {
        if self.whole_at.is_none_or(|at| at.elapsed() > MOST_BEHIND) {
            (self.due_at, self.whole_at) = (None, Some(Instant::now()));
        }
        self.due_at
    }
}

/// What a look at the queue has given.
struct Taken {
    claims: Vec<Claim>,
    given_up: usize,
    /// Of the last entry.
    due_at: Option<TimestampWithTimeZone>,
}

/// Has entries read in the order in which they are due until the transaction, or acting as the owner, ends. The planner would
/// read and sort all of them, where VACUUM has found none lately: it expects none then.
pub fn read_in_order() -> Result<()> {
    Spi::run("SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)").or_error()
}

/// Claims up to `most` entries of an index that are due, those first that have been due for longest. Those that were
/// claimed too often and never came to an end are given up on the way.
pub fn claim(index: pg_sys::Oid, most: i64, due: Due, front: &mut Front) -> Result<Vec<Claim>> {
    read_in_order()?;
    loop {
        let from = front.begin();
        let taken = claim_some(index, most, due, from)?;
        front.due_at = taken.due_at.or(from);
        if !taken.claims.is_empty() {
            return Ok(taken.claims);
        }
        if taken.given_up == 0 {
            match from {
                None => return Ok(Vec::new()),
                Some(_) => front.whole_at = None,
            }
        }
    }
}

/// Claims or gives up the first `most` entries that are due, of those that are not before `from`. Reads no others: there may be
/// millions.
fn claim_some(index: pg_sys::Oid, most: i64, due: Due, from: Option<TimestampWithTimeZone>) -> Result<Taken> {
    Spi::connect_mut(|client| {
        let rows = client
            .update(
                &format!(
                    "WITH due AS (SELECT e.index, e.key, e.due_at, e.attempts >= $3 AS ends FROM rag.queue e
                                   WHERE e.index::oid = $1 AND NOT e.failed AND e.due_at <= statement_timestamp()
                                     AND e.due_at >= coalesce($5, '-infinity') AND {}
                                   ORDER BY e.due_at LIMIT $2 FOR UPDATE OF e SKIP LOCKED)
                     UPDATE rag.queue q
                        SET claimed = NOT d.ends, failed = d.ends, attempts = q.attempts + (NOT d.ends)::integer,
                            due_at = CASE WHEN d.ends THEN q.due_at ELSE clock_timestamp() + interval '{LEASE}' END,
                            error = CASE WHEN d.ends THEN coalesce(q.error, $4) ELSE q.error END,
                            error_at = CASE WHEN d.ends THEN coalesce(q.error_at, clock_timestamp()) ELSE q.error_at END
                       FROM due d WHERE q.index = d.index AND q.key = d.key
                     RETURNING q.key::text, q.version, q.attempts, d.ends, d.due_at",
                    due.condition()
                ),
                None,
                &[index.into(), most.into(), MAX_ATTEMPTS.into(), NEVER_ENDED.into(), from.into()],
            )
            .or_error()?;
        let mut taken = Taken { claims: Vec::new(), given_up: 0, due_at: None };
        for row in rows {
            taken.due_at = taken.due_at.max(row.get::<TimestampWithTimeZone>(5).or_error()?);
            if row.get::<bool>(4).or_error()?.unwrap_or_default() {
                taken.given_up += 1;
                continue;
            }
            taken.claims.push(Claim {
                key: row.get::<String>(1).or_error()?.unwrap_or_default(),
                version: row.get::<i64>(2).or_error()?.unwrap_or_default(),
                attempts: row.get::<i32>(3).or_error()?.unwrap_or_default(),
            });
        }
        Ok(taken)
    })
}

/// Removes the entries of these claims whose row has not changed meanwhile; those that have summaries `left`, by key, wait for
/// them. Returns the keys of both.
pub fn finish(index: pg_sys::Oid, claims: &[Claim], left: &HashMap<String, i32>) -> Result<Vec<String>> {
    // An entry that has changed is free again: it has its new version to be worked on.
    Spi::run_with_args(
        "UPDATE rag.queue q SET claimed = false, due_at = clock_timestamp()
           FROM unnest($2::text[], $3::bigint[]) c(key, version)
          WHERE q.index::oid = $1 AND q.key = c.key::text[] AND q.version <> c.version",
        &[index.into(), keys(claims).into(), versions(claims).into()],
    )
    .or_error()?;
    let left_of = |claim: &Claim| left.get(&claim.key).copied().unwrap_or_default();
    let (unfinished, finished): (Vec<_>, Vec<_>) = claims.iter().cloned().partition(|claim| left_of(claim) > 0);
    let mut done = Spi::connect_mut(|client| {
        let rows = client
            .update(
                "DELETE FROM rag.queue q USING unnest($2::text[], $3::bigint[]) c(key, version)
                  WHERE q.index::oid = $1 AND q.key = c.key::text[] AND q.version = c.version
                  RETURNING c.key",
                None,
                &[index.into(), keys(&finished).into(), versions(&finished).into()],
            )
            .or_error()?;
        rows.into_iter().map(|row| Ok(row.get::<String>(1).or_error()?.unwrap_or_default())).collect::<Result<Vec<_>>>()
    })?;
    if !unfinished.is_empty() {
        let summaries: Vec<i32> = unfinished.iter().map(left_of).collect();
        done.extend(Spi::connect_mut(|client| {
            let rows = client
                .update(
                    "UPDATE rag.queue q SET summaries = c.summaries, claimed = false, attempts = 0, error = NULL, error_at = NULL,
                            due_at = clock_timestamp()
                       FROM unnest($2::text[], $3::bigint[], $4::integer[]) c(key, version, summaries)
                      WHERE q.index::oid = $1 AND q.key = c.key::text[] AND q.version = c.version
                      RETURNING c.key",
                    None,
                    &[index.into(), keys(&unfinished).into(), versions(&unfinished).into(), summaries.into()],
                )
                .or_error()?;
            rows.into_iter()
                .map(|row| Ok(row.get::<String>(1).or_error()?.unwrap_or_default()))
                .collect::<Result<Vec<_>>>()
        })?);
    }
    Ok(done)
}

/// Rows whose texts were stored and whose summaries are missing, with how many these are.
pub fn add_for_summaries(index: pg_sys::Oid, rows: Vec<(String, i32)>) -> Result<()> {
    let (keys, missing): (Vec<String>, Vec<i32>) = rows.into_iter().unzip();
    Spi::run_with_args(
        "INSERT INTO rag.queue AS q (index, key, queued_at, due_at, summaries)
         SELECT $1::oid::regclass, u.key::text[], clock_timestamp(), clock_timestamp(), u.missing
           FROM unnest($2::text[], $3::integer[]) u(key, missing)
         ON CONFLICT (index, key) DO UPDATE
            SET version = q.version + 1, failed = false, error = NULL, error_at = NULL,
                attempts = CASE WHEN q.failed THEN 0 ELSE q.attempts END,
                due_at = CASE WHEN q.failed THEN excluded.due_at ELSE q.due_at END,
                -- One that waits for its text to be looked at goes on waiting for that.
                summaries = CASE WHEN q.summaries = 0 AND NOT q.failed THEN 0 ELSE excluded.summaries END",
        &[index.into(), keys.into(), missing.into()],
    )
    .or_error()
}

/// Lets the text of a row be looked at before its summaries.
pub fn look_again(index: pg_sys::Oid, claim: &Claim) -> Result<()> {
    Spi::run_with_args(
        "UPDATE rag.queue SET summaries = 0, claimed = false, attempts = 0, due_at = clock_timestamp()
          WHERE index::oid = $1 AND key = $2::text[]",
        &[index.into(), claim.key.as_str().into()],
    )
    .or_error()
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
                                       ORDER BY q.due_at LIMIT 1) q WHERE NOT y.paused AND y.summaries_retry_at IS NULL
                 UNION ALL
                 SELECT greatest(q.due_at, y.retry_at, CASE WHEN q.summaries > 0 THEN y.summaries_retry_at END)
                   FROM rag.sync y JOIN rag.queue q ON q.index = y.index AND NOT q.failed
                  WHERE NOT y.paused AND y.summaries_retry_at IS NOT NULL
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
