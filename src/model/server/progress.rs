//! The last progress report of each connection, so that one session can watch the index build of another.
//!
//! A report lives until its connection withdraws it or closes, so a killed backend leaves none behind.

use pg_rag_protocol::message::IndexProgress;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All reports, by number of connection.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reports: BTreeMap<u64, IndexProgress>,
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

    /// The reports, oldest connection first.
    pub fn reports(&self) -> Vec<IndexProgress> {
        self.lock().reports.values().cloned().collect()
    }
}

impl Reporter {
    /// Replaces the report of this connection; `None` withdraws it.
    pub fn report(&self, progress: Option<IndexProgress>) {
        let mut state = self.board.lock();
        match progress {
            Some(progress) => state.reports.insert(self.connection, progress),
            None => state.reports.remove(&self.connection),
        };
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.report(None);
    }
}
