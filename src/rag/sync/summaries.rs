//! Writing summaries, once the texts of an index are in it.
//!
//! A row whose text has been stored stays in the queue with the number of its summaries that are missing, and counts as
//! waiting for `rag_wait`. When no text waits, the worker takes one such row at a time and writes summaries of its pages for
//! [`STEP`], outside of any transaction; then it stores them, and the row goes to the end of the line. So a long document
//! keeps neither other rows nor other indexes waiting, what was written is never lost to a crash but for the last step, and
//! whoever ends the worker waits for the next look at interrupts of the request that runs.
//!
//! A page that fails does not hinder the others of its row: when these are done, the row fails as rows do. What is nobody's
//! fault (the model is gone) puts off the summaries of the index, but not its texts.

use crate::error::{error, Result};
use crate::gucs;
use crate::models::catalog::{self as models, Model};
use crate::pg::transaction;
use crate::pg::{object_lock, owner};
use crate::rag::catalog::Summaries;
use crate::rag::refresh::{self, Document, KnownSummaries, Statements};
use crate::rag::sync::batch::concerns_index;
use crate::rag::sync::jobs::{self, Job};
use crate::rag::sync::queue::{self, Claim, Due, Front};
use crate::rag::sync::state;
use crate::rag::sync::worker::Outcome;
use pgrx::{pg_sys, PgSqlErrorCode};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// After this, no further page of a row is begun before what was written is stored.
const STEP: Duration = Duration::from_secs(3);

/// Leaves the summaries of rows to the worker: these keys, with how many are missing. Called in the transaction that has
/// stored their texts.
pub fn leave(view: pg_sys::Oid, rows: Vec<(String, i32)>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    owner::as_extension_owner(|| queue::add_for_summaries(view, rows))?;
    super::changes::wake_after_commit();
    Ok(())
}

/// Writes some summaries of an index. Returns whether there was something to do.
pub fn work(job: &Job) -> Outcome<bool> {
    let Some(options) = &job.index.summaries else { return Ok(false) };
    let view = job.index.view_oid;
    let Some(claim) = transaction::run(|| queue::claim(view, 1, Due::Summaries, &mut Front::default()))?.pop() else {
        return Ok(false);
    };
    let began = Instant::now();
    let fault = match step(job, options, &claim) {
        Ok(written) => {
            transaction::run(|| jobs::note_summaries(job, written, began.elapsed()))?;
            return Ok(true);
        }
        Err(fault) => fault,
    };
    if fault.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE {
        transaction::run(|| queue::give_back(view, &[claim]))?;
        return Ok(false);
    }
    let message = &fault.message;
    if concerns_index(&fault) {
        transaction::run(|| {
            queue::give_back(view, &[claim])?;
            jobs::postpone_summaries(job, message, gucs::sync_retry_delay())
        })?;
        return Ok(false);
    }
    transaction::run(|| {
        queue::fail(view, &claim, message, gucs::sync_retry_delay())?;
        jobs::note_error(job, message)
    })?;
    Ok(true)
}

/// What is needed to write summaries of a row.
struct Row<'a> {
    writer: Rc<Model>,
    model: Rc<Model>,
    statements: Statements<'a>,
    /// None: the text of the row is not the one that is in the index.
    document: Option<Document>,
    /// Summaries that the index has.
    own: KnownSummaries,
    /// Those and others that it may take over.
    known: KnownSummaries,
}

/// Writes and stores summaries of one row for a while. Returns how many.
fn step(job: &Job, options: &Summaries, claim: &Claim) -> Outcome<i64> {
    let index = &job.index;
    let row = transaction::run(|| {
        // Only a look: it is taken again when there is something to store.
        lock(job)?;
        owner::as_restricted_user(job.owner, || read(job, options, claim))
    })?;
    let Some(document) = row.document else {
        transaction::run(|| queue::look_again(index.view_oid, claim))?;
        return Ok(0);
    };
    let documents = std::slice::from_ref(&document);
    let missing = transaction::catch(|| refresh::missing_summaries(index, documents, &row.own))?;
    let missing: Vec<_> = missing.into_iter().flatten().collect();
    let (count, mut written, mut failed) = (missing.len(), Vec::new(), None);
    let began = Instant::now();
    for page in missing {
        pgrx::check_for_interrupts!();
        let summary = match row.known.get(&(0, page.hash.clone())) {
            Some(summary) => Ok(summary.clone()),
            None => transaction::catch(|| refresh::write_summary(&row.writer, options, &page)),
        };
        match summary {
            Ok(summary) => written.push((page, summary)),
            Err(fault) => {
                let ends = concerns_index(&fault);
                failed = Some(fault);
                if ends {
                    break;
                }
            }
        }
        if began.elapsed() > STEP {
            break;
        }
    }
    if let (true, Some(fault)) = (written.is_empty(), failed) {
        return Err(fault);
    }
    let made = written.len();
    let chunks = transaction::catch(|| refresh::summary_chunks(index, &row.model, &document, written))?;
    let left = HashMap::from([(claim.key.clone(), (count - made) as i32)]);
    transaction::run(|| {
        lock(job)?;
        // If the row has changed meanwhile, its text comes first.
        if queue::finish(index.view_oid, std::slice::from_ref(claim), &left)?.is_empty() {
            return Ok(());
        }
        owner::as_restricted_user(job.owner, || row.statements.add_summaries(&document, chunks))
    })?;
    Ok(made as i64)
}

fn lock(job: &Job) -> Result<()> {
    match state::lock(job.index.view_oid, object_lock::Mode::Exclusive, false) {
        true => Ok(()),
        false => Err(error(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, "somebody refreshes the index")),
    }
}

fn read<'a>(job: &'a Job, options: &Summaries, claim: &Claim) -> Result<Row<'a>> {
    let writer = models::generation(Some(&options.model))?;
    let model = models::embedding(Some(&job.index.model))?;
    let statements = Statements::new(&job.index)?;
    let current = statements.read(std::slice::from_ref(&claim.key), true)?.current;
    let (own, known) = (statements.own_summaries(&current)?, statements.known_summaries(&current)?);
    Ok(Row { writer, model, document: current.into_iter().next(), own, known, statements })
}
