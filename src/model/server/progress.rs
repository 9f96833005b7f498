//! The last progress report of each connection, so that one session can watch the index build of another.
//!
//! A report lives until its connection withdraws it or closes, so a killed backend leaves none behind.

use pg_rag_protocol::message::IndexProgress;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// All reports, by number of connection.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// With the time of the first report since the last withdrawal.
    reports: BTreeMap<u64, (Instant, IndexProgress)>,
    connections: u64,
}

/// A connection's own place on the board.
pub struct Reporter {
    board: Arc<Board>,
    connection: u64,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed by single inserts and removes only, so it is whole whatever panicked elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, empty at first.
    pub fn reporter(self: &Arc<Self>) -> Reporter {
        let mut state = self.lock();
        state.connections += 1;
        Reporter { board: self.clone(), connection: state.connections }
    }

    /// The reports, the one begun first first.
    pub fn reports(&self) -> Vec<IndexProgress> {
        let mut reports = self.lock().reports.values().cloned().collect::<Vec<_>>();
        // Numbers of connections do not tell: connections made at about the same time get theirs in any order.
        reports.sort_by_key(|&(since, _)| since);
        let timed = |(since, report): (Instant, IndexProgress)| IndexProgress {
            elapsed_s: since.elapsed().as_secs_f64(),
            ..report
        };
        reports.into_iter().map(timed).collect()
    }
}

impl Reporter {
    /// Replaces the report of this connection; `None` withdraws it.
    pub fn report(&self, progress: Option<IndexProgress>) {
        let reports = &mut self.board.lock().reports;
        match (progress, reports.get_mut(&self.connection)) {
            (Some(progress), Some((_, report))) => *report = progress,
            (Some(progress), None) => {
                reports.insert(self.connection, (Instant::now(), progress));
            }
            (None, _) => {
                reports.remove(&self.connection);
            }
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.report(None);
    }
}
