//! Long work on models: one piece of a kind at a time, each on a thread of its own, with its progress for other sessions
//! to see.
//!
//! The connection's thread goes back to reading, so that it notices when the client goes away; the work asks between its
//! pieces. Work takes half of the processors, so that answers stay quick. What it needs in memory is small and counted
//! against the [`Budget`](super::memory::Budget) like everything else.

use super::failure::{failure_of, internal, panic_text};
use super::queue::Requester;
use super::reply::Ticket;
use crate::error::{ModelError, Result};
use crate::hub::Observer;
use crate::quantize::Watch;
use pg_rag_protocol::message::{ModelProgress, Response, Waiter};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How often work that waits for other work asks whether its client is still there.
const PATIENCE: Duration = Duration::from_millis(50);

/// Work waits for work of its own kind only: a download of hours keeps nobody from computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Compute,
    Download,
}

/// Where long work is done.
pub struct Workshop {
    /// The folder that the server writes models into.
    pub dir: PathBuf,
    /// Threads of a piece of work.
    pub threads: usize,
    computing: Mutex<()>,
    downloading: Mutex<()>,
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    works: BTreeMap<u64, (Instant, ModelProgress)>,
    next: u64,
}

impl Workshop {
    pub fn new(dir: PathBuf, threads: usize) -> Arc<Self> {
        crate::quantize::remove_leftovers(&dir);
        let (computing, downloading) = Default::default();
        Arc::new(Self { dir, threads: (threads / 2).max(1), computing, downloading, board: Mutex::default() })
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Changed by single inserts and removes only, so it is whole whatever panicked elsewhere.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far all work is, that which came first first.
    pub fn progress(&self) -> Vec<ModelProgress> {
        let timed = |(since, progress): &(Instant, ModelProgress)| ModelProgress {
            elapsed_s: since.elapsed().as_secs_f64(),
            ..progress.clone()
        };
        self.board().works.values().map(timed).collect()
    }

    /// Answers `ticket` with the result of `work`, which runs when no other work of its line does.
    pub fn run(
        self: &Arc<Self>,
        line: Line,
        ticket: Ticket,
        waiter: Waiter,
        model: String,
        work: impl FnOnce(&Work) -> Result<Response> + Send + 'static,
    ) {
        let Waiter { pid, database } = waiter;
        let phase = "wait".to_owned();
        let progress = ModelProgress { pid, database, model, phase, done: 0, total: 0, elapsed_s: 0.0 };
        let workshop = self.clone();
        let body = move || {
            let number = {
                let mut board = workshop.board();
                board.next += 1;
                let number = board.next;
                board.works.insert(number, (Instant::now(), progress));
                number
            };
            let place = Work { workshop, number, ticket: &ticket };
            let outcome = catch_unwind(AssertUnwindSafe(|| place.in_turn(line, work)));
            // Nobody should see work that has been answered.
            drop(place);
            match outcome {
                Ok(Ok(response)) => ticket.finish(response),
                Ok(Err(error)) => ticket.fail(failure_of(&error)),
                Err(panic) => ticket.fail(internal(format!("work on a model panicked: {}", panic_text(&*panic)))),
            }
        };
        // Where no thread can be started the ticket is dropped, which answers it.
        let _ = std::thread::Builder::new().name("work".into()).spawn(body);
    }
}

/// A piece of work, which can be seen on the board until it is dropped.
pub struct Work<'a> {
    pub workshop: Arc<Workshop>,
    number: u64,
    ticket: &'a Ticket,
}

impl Work<'_> {
    fn in_turn(&self, line: Line, work: impl FnOnce(&Self) -> Result<Response>) -> Result<Response> {
        let turn = match line {
            Line::Compute => &self.workshop.computing,
            Line::Download => &self.workshop.downloading,
        };
        let _turn = loop {
            match turn.try_lock() {
                Ok(turn) => break turn,
                // It guards nothing but the order.
                Err(TryLockError::Poisoned(turn)) => break turn.into_inner(),
                Err(TryLockError::WouldBlock) if self.ticket.is_cancelled() => return Err(ModelError::Cancelled),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PATIENCE),
            }
        };
        work(self)
    }

    fn change(&self, change: impl FnOnce(&mut ModelProgress)) {
        if let Some((_, progress)) = self.workshop.board().works.get_mut(&self.number) {
            change(progress);
        }
    }

    /// Begins another phase.
    pub fn phase(&self, phase: &str) {
        self.change(|progress| {
            (progress.done, progress.total) = (0, 0);
            phase.clone_into(&mut progress.phase);
        });
    }
}

impl Watch for Work<'_> {
    fn progress(&self, done: u64, total: u64) {
        self.change(|progress| (progress.done, progress.total) = (done, total));
    }

    fn is_cancelled(&self) -> bool {
        self.ticket.is_cancelled()
    }
}

impl Observer for Work<'_> {
    fn phase(&self, phase: &str) {
        self.phase(phase);
    }

    fn progress(&self, done: u64, total: u64) {
        Watch::progress(self, done, total);
    }

    fn is_cancelled(&self) -> bool {
        self.ticket.is_cancelled()
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.workshop.board().works.remove(&self.number);
    }
}
