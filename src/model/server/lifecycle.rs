//! When the server ends: it stops taking requests, waits a bounded time for those it has, and returns.
//!
//! Two things end it: [`Request::Retire`](pg_rag_protocol::message::Request::Retire), and a client of another build
//! when the server's executable has been replaced. SIGTERM and the death of the supervisor end the process at once
//! and do not come through here (see `process.rs`).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time that running requests get to finish once the server is stopping.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    stopping_since: Option<Instant>,
    busy: usize,
}

/// Shared by all threads of the server.
#[derive(Default)]
pub struct Lifecycle {
    state: Mutex<State>,
    changed: Condvar,
}

/// Held while a request is unanswered, until the last byte of the answer is written.
pub struct Busy(Arc<Lifecycle>);

impl Lifecycle {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is two plain values, valid at every moment: a panic elsewhere cannot have left it half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in; `None` when the server takes no more.
    pub fn begin(self: &Arc<Self>) -> Option<Busy> {
        let mut state = self.lock();
        if state.stopping_since.is_some() {
            return None;
        }
        state.busy += 1;
        Some(Busy(self.clone()))
    }

    /// From now on no request begins.
    pub fn stop(&self) {
        self.lock().stopping_since.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    pub fn is_stopping(&self) -> bool {
        self.lock().stopping_since.is_some()
    }

    /// Sleeps until [`Lifecycle::stop`].
    pub fn wait_for_stop(&self) {
        let mut state = self.lock();
        while state.stopping_since.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// After [`Lifecycle::stop`]: sleeps until all requests are answered or [`DRAIN_LIMIT`] is over.
    pub fn wait_until_drained(&self) {
        let mut state = self.lock();
        while state.busy > 0 {
            let waited = state.stopping_since.map_or(DRAIN_LIMIT, |since| since.elapsed());
            let Some(left) = DRAIN_LIMIT.checked_sub(waited).filter(|left| !left.is_zero()) else { return };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_begins_after_stop_and_draining_waits_for_those_that_did() {
        let lifecycle = Arc::new(Lifecycle::default());
        let busy = lifecycle.begin().unwrap();
        lifecycle.stop();
        assert!(lifecycle.begin().is_none());
        let waiter = std::thread::spawn({
            let lifecycle = lifecycle.clone();
            move || lifecycle.wait_until_drained()
        });
        assert_eq!(lifecycle.lock().busy, 1);
        drop(busy);
        waiter.join().unwrap();
        assert_eq!(lifecycle.lock().busy, 0);
    }
}
