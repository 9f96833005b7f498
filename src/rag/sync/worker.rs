//! The sync worker: a background worker for one database, which brings its indexes up to date until nothing waits.

use crate::functions::embed::embed_all;
use crate::gucs;
use crate::models::catalog::{self as models, Model};
use crate::pg::settings::PORTABLE_TEXTS;
use crate::pg::transaction::Fault;
use crate::pg::{latch, object_lock, owner, transaction};
use crate::rag::catalog::Index;
use crate::rag::reindex;
use crate::rag::sync::batch::{concerns_index, Batch};
use crate::rag::sync::jobs::{self, Job};
use crate::rag::sync::queue::{self, Claim, Due, Front};
use crate::rag::sync::wake::{self, Listener, Note};
use crate::rag::sync::{summaries, sweep};
use pg_rag_protocol::message::{Lane, Purpose};
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Entries that are claimed, read, cut, embedded and stored together.
const BATCH: i64 = 128;
/// How long a worker stays with an index whose rows do not end, before it looks after the others.
const STRETCH: Duration = Duration::from_secs(3);
/// How long a worker works before a database that has no worker gets its slot.
const TURN: Duration = Duration::from_secs(5);
/// Longest pause between attempts to let an index take another's place.
const MAX_SWITCH_PAUSE: Duration = Duration::from_secs(30);
/// Shortest wait where something is due that cannot be had, such as an index that somebody refreshes.
const MIN_WAIT: Duration = Duration::from_millis(200);

/// Main function of the background worker. Exit code 0 gives the slot back; 1 makes PostgreSQL start it again, when it
/// serves whoever has waited longest.
// SAFETY: the name is the extension's own; PostgreSQL looks the function up by it.
#[allow(unsafe_code)]
#[no_mangle]
#[pg_guard]
pub extern "C-unwind" fn pg_rag_sync_main(_argument: pg_sys::Datum) {
    let Some(mut note) = Note::take() else { return };
    note.set_connecting(true);
    transaction::connect_worker(note.database);
    note.set_connecting(false);
    for (name, value) in PORTABLE_TEXTS {
        transaction::set(&name.to_string_lossy(), &value.to_string_lossy());
    }
    for (name, value) in [
        ("search_path", "pg_catalog, pg_temp"),
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        // Its statements are short, however many entries the planner expects to wait.
        ("jit", "off"),
        // What a crash takes away is done again.
        ("synchronous_commit", "off"),
    ] {
        transaction::set(name, value);
    }
    let switch = Switch { next_at: Instant::now(), pause: MIN_WAIT };
    match (Worker { note, switch, fronts: HashMap::new(), turn: 0, broken: String::new() }).run() {
        End::Idle => {}
        End::GivesWay => transaction::exit(1),
    }
}

/// Why a worker ends.
enum End {
    Idle,
    /// Another database has no worker, and no slot for one.
    GivesWay,
}

/// What the worker's steps end with: a fault hinders the index, and not one of its rows.
pub type Outcome<T> = std::result::Result<T, Fault>;

/// When an index may take another's place: readers of the old one are not to be bothered all the time.
struct Switch {
    next_at: Instant,
    pause: Duration,
}

struct Worker {
    note: Note,
    switch: Switch,
    /// Where the entries of each index begin that were not claimed yet.
    fronts: HashMap<pg_sys::Oid, Front>,
    /// Which index comes first in the next round.
    turn: usize,
    /// The last error of a round, so that it is logged once.
    broken: String,
}

impl Worker {
    fn run(mut self) -> End {
        match transaction::run(|| {
            let is_alone =
                queue::lock_class().is_some_and(|class| object_lock::take_for_life(class, pg_sys::InvalidOid));
            if is_alone {
                queue::free_claims()?;
            }
            Ok(is_alone)
        }) {
            Ok(true) => {}
            // There is another worker, or no extension any more.
            _ => {
                self.note.remove();
                return End::Idle;
            }
        }
        let mut listener = self.listen();
        let (mut turn_began, mut idle_since) = (Instant::now(), Instant::now());
        loop {
            pgrx::check_for_interrupts!();
            transaction::reload_settings_if_asked();
            if let Some(listener) = &listener {
                listener.drain();
            }
            let has_worked = self.round();
            if has_worked {
                idle_since = Instant::now();
            }
            if (!has_worked || turn_began.elapsed() > TURN) && wake::somebody_waits() {
                self.note.stand_back();
                return End::GivesWay;
            }
            if has_worked {
                continue;
            }
            turn_began = Instant::now();
            transaction::report_statistics();
            transaction::show_activity(None);
            let due = self.next_due();
            let left = gucs::sync_worker_idle().saturating_sub(idle_since.elapsed());
            if left.is_zero() && due.is_none() {
                drop(listener.take());
                self.note.remove();
                if self.next_due().is_none() {
                    return End::Idle;
                }
                self.note.restore();
                listener = self.listen();
                continue;
            }
            let wait = due.map_or(left, |due| due.max(MIN_WAIT)).max(Duration::from_millis(1));
            match &listener {
                Some(listener) => {
                    latch::wait_for_socket(listener.socket.as_fd(), latch::Readiness::Read, Some(wait));
                }
                None => latch::sleep(wait.min(MIN_WAIT)),
            }
        }
    }

    fn listen(&self) -> Option<Listener> {
        match Listener::start(self.note.database) {
            Ok(listener) => Some(listener),
            Err(failure) => {
                warning!("pg_rag: sync worker cannot be woken: {failure}");
                None
            }
        }
    }

    fn next_due(&self) -> Option<Duration> {
        let due = transaction::run(queue::next_due).unwrap_or(Some(1.0));
        due.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)))
    }

    /// Looks once at everything. Returns whether there was something to do.
    fn round(&mut self) -> bool {
        let result = self.try_round();
        self.turn = self.turn.wrapping_add(1);
        match result {
            Ok(worked) => {
                self.broken.clear();
                worked
            }
            Err(report) => {
                let message = report.message;
                if self.broken != message {
                    log!("pg_rag: sync worker: {message}");
                    self.broken = message;
                }
                false
            }
        }
    }

    fn try_round(&mut self) -> Outcome<bool> {
        let mut worked = transaction::run(queue::collect)? > 0;
        let mut jobs = transaction::run(jobs::list)?;
        if !jobs.is_empty() {
            let first = self.turn % jobs.len();
            jobs.rotate_left(first);
        }
        for job in &jobs {
            worked |= self.serve(job)?;
        }
        // Some seconds for one index, then texts are looked for again.
        for job in &jobs {
            worked = worked || summaries::work(job)?;
        }
        // Not in every round: while rows are worked on, rounds are short.
        if self.switch.next_at <= Instant::now() {
            self.switch.next_at = Instant::now() + MIN_WAIT;
            worked |= drop_replaced()?;
            for index in transaction::run(jobs::replacements)? {
                worked |= self.switch(&index)?;
            }
        }
        Ok(worked)
    }

    /// Lets an index that is complete take the place of the one that it replaces, or tries again later. Returns whether it did.
    fn switch(&mut self, index: &Index) -> Outcome<bool> {
        let has_switched = match transaction::run(|| reindex::switch(index)) {
            Err(hindrance) if hindrance.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => false,
            outcome => outcome?,
        };
        self.switch.pause = if has_switched { MIN_WAIT } else { (self.switch.pause * 2).min(MAX_SWITCH_PAUSE) };
        self.switch.next_at = Instant::now() + self.switch.pause;
        Ok(has_switched)
    }

    /// Works on some rows of one index. Returns whether it did.
    fn serve(&mut self, job: &Job) -> Outcome<bool> {
        let view = job.index.view_oid;
        let mut claims = self.claim(view)?;
        transaction::show_activity(Some(&format!("pg_rag: {}", job.index.view)));
        let began = Instant::now();
        let outcome = match (claims.is_empty(), &job.position) {
            (true, None) => return Ok(false),
            (true, Some(position)) => transaction::run(|| sweep::step(&job.index, job.owner, position)),
            (false, _) => self.work_through(job, &mut claims, began),
        };
        match outcome {
            Ok(()) => {
                let rows = claims.len() as i64;
                transaction::run(|| jobs::note_progress(job, rows, began.elapsed()))?;
                Ok(true)
            }
            Err(hindrance) if hindrance.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                transaction::run(|| queue::give_back(view, &claims))?;
                Ok(false)
            }
            Err(hindrance) => {
                let message = hindrance.message;
                transaction::run(|| {
                    queue::give_back(view, &claims)?;
                    jobs::note_hindrance(job, &message, gucs::sync_retry_delay())
                })?;
                Ok(false)
            }
        }
    }

    fn claim(&mut self, index: pg_sys::Oid) -> Outcome<Vec<Claim>> {
        let front = self.fronts.entry(index).or_default();
        transaction::run(|| queue::claim(index, BATCH, Due::Texts, front))
    }

    /// Works on these rows, and for some time on those that come after them, which it adds to them: while the model has the
    /// texts of one batch, the one before is stored and the one after is read.
    fn work_through(&mut self, job: &Job, claims: &mut Vec<Claim>, began: Instant) -> Outcome<()> {
        // A role that may ask for one thing at a time has to wait for its answer.
        let overlaps = gucs::max_concurrent_requests() != 1;
        let mut underway: Option<(Vec<Claim>, Outcome<Batch>)> = None;
        let mut next = claims.clone();
        loop {
            pgrx::check_for_interrupts!();
            // Rows that have failed before come alone: nobody else shall suffer.
            let (once, again): (Vec<_>, Vec<_>) = next.into_iter().partition(|claim| claim.attempts == 1);
            let begun = (!once.is_empty()).then(|| Batch::begin(job, &once));
            if let Some((rows, batch)) = underway.take() {
                self.finish(job, &rows, batch)?;
            }
            again.chunks(1).try_for_each(|claim| self.work_on(job, claim))?;
            let Some(batch) = begun else { return Ok(()) };
            next = match overlaps && began.elapsed() < STRETCH {
                true => self.claim(job.index.view_oid)?,
                false => Vec::new(),
            };
            if next.is_empty() {
                return self.finish(job, &once, batch);
            }
            claims.extend_from_slice(&next);
            underway = Some((once, batch));
        }
    }

    /// Brings these rows up to date.
    fn work_on(&self, job: &Job, claims: &[Claim]) -> Outcome<()> {
        pgrx::check_for_interrupts!();
        self.finish(job, claims, Batch::begin(job, claims))
    }

    /// Stores a batch; halves one that fails until it is known who is to blame.
    fn finish(&self, job: &Job, claims: &[Claim], batch: Outcome<Batch>) -> Outcome<()> {
        let Err(report) = batch.and_then(|batch| batch.finish(job, claims)) else { return Ok(()) };
        if concerns_index(&report) {
            return Err(report);
        }
        match claims {
            [] => Ok(()),
            [claim] => {
                let lost = report.code == PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE;
                if lost && !server_works(job) {
                    return Err(report);
                }
                let message = report.message;
                transaction::run(|| {
                    queue::fail(job.index.view_oid, claim, &message, gucs::sync_retry_delay())?;
                    jobs::note_error(job, &message)
                })
            }
            _ => {
                let (one, other) = claims.split_at(claims.len() / 2);
                self.work_on(job, one)?;
                self.work_on(job, other)
            }
        }
    }
}

/// Drops chunk tables that nobody looks for any more. Returns whether there were any.
fn drop_replaced() -> Outcome<bool> {
    let mut worked = false;
    for chunks in transaction::run(reindex::replaced)? {
        match transaction::run(|| reindex::drop_replaced(chunks)) {
            Ok(()) => worked = true,
            Err(hindrance) if hindrance.code == PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST => {
                log!("pg_rag: sync worker: a replaced chunk table stays: {}", hindrance.message);
                transaction::run(|| reindex::forget_replaced(chunks))?;
                worked = true;
            }
            // Who is in the way now will not be for ever: it is tried again in the next round.
            Err(_) => {}
        }
    }
    Ok(worked)
}

/// Whether the model server embeds a harmless text: then it is a row's text that it does not survive.
fn server_works(job: &Job) -> bool {
    // As the owner: a model that runs elsewhere may be reached by some users only.
    let find = || owner::as_restricted_user(job.owner, || models::embedding(Some(&job.index.model)));
    let model: Outcome<Rc<Model>> = transaction::run(find);
    let Ok(model) = model else { return false };
    transaction::catch(|| embed_all(&model, vec!["a text".to_owned()], Purpose::Passage, Lane::Bulk)).is_ok()
}
