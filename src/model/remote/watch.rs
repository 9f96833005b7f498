//! How long a request may still take, and whether somebody waits for it.
//!
//! Everything that waits (for a name, a connection, bytes, the end of a pause) does so in short pieces and asks in between. So
//! a client that goes away stops the request within [`TICK`], whatever the other side does.

use std::sync::mpsc::{sync_channel, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait without asking.
pub const TICK: Duration = Duration::from_millis(50);

/// Stack of a thread that resolves a name or connects.
const HELPER_STACK_BYTES: usize = 256 * 1024;

/// Whether nobody waits for the request any more.
pub type Abandoned = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Abandoned,
    TimeIsUp,
}

/// A deadline and a client.
#[derive(Clone)]
pub struct Watch {
    /// Shared by all clones.
    deadline: Arc<Mutex<Instant>>,
    abandoned: Abandoned,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Watch({:?})", self.left())
    }
}

impl Watch {
    /// From now on for `time`.
    pub fn new(time: Duration, abandoned: Abandoned) -> Self {
        Self { deadline: Arc::new(Mutex::new(Instant::now() + time)), abandoned }
    }

    /// From now on for `time`, for whoever uses this watch.
    pub fn restart(&self, time: Duration) {
        // A plain value, whole whatever panicked elsewhere.
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + time;
    }

    pub fn left(&self) -> Duration {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.saturating_duration_since(Instant::now())
    }

    /// Whether to go on.
    pub fn check(&self) -> Result<(), Stop> {
        match () {
            () if (self.abandoned)() => Err(Stop::Abandoned),
            () if self.left().is_zero() => Err(Stop::TimeIsUp),
            () => Ok(()),
        }
    }

    /// Sleeps for `time`, or until there is a reason to stop.
    pub fn pause(&self, time: Duration) -> Result<(), Stop> {
        let until = Instant::now() + time;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }

    /// Waits for what `task` gives, which runs on a thread of its own: it calls into the operating system and cannot be
    /// interrupted. If it is given up, the thread ends some time later, without effect. None if there is no thread to be had.
    pub fn wait_for<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> Result<Option<T>, Stop> {
        let (sender, receiver) = sync_channel(1);
        // Keeps what the client holds (its place among the running requests) until the thread has ended.
        let client = self.abandoned.clone();
        let body = move || {
            let _ = sender.send(task());
            drop(client);
        };
        let thread = std::thread::Builder::new().name("remote wait".into()).stack_size(HELPER_STACK_BYTES);
        if thread.spawn(body).is_err() {
            return Ok(None);
        }
        loop {
            match receiver.recv_timeout(TICK.min(self.left())) {
                Ok(result) => return Ok(Some(result)),
                Err(RecvTimeoutError::Timeout) => self.check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn waits_end_when_the_time_is_up_or_nobody_waits() {
        let watch = Watch::new(Duration::from_millis(80), Arc::new(|| false));
        assert_eq!(watch.wait_for(|| 7), Ok(Some(7)));
        assert_eq!(watch.pause(Duration::from_secs(60)), Err(Stop::TimeIsUp));
        assert_eq!(watch.wait_for(|| std::thread::sleep(Duration::from_secs(2))), Err(Stop::TimeIsUp));

        let gone = Arc::new(AtomicBool::new(false));
        let flag = gone.clone();
        let watch = Watch::new(Duration::from_secs(60), Arc::new(move || flag.load(Ordering::SeqCst)));
        let began = Instant::now();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            gone.store(true, Ordering::SeqCst);
        });
        assert_eq!(watch.wait_for(|| std::thread::sleep(Duration::from_secs(5))), Err(Stop::Abandoned));
        assert_eq!(watch.pause(Duration::from_secs(60)), Err(Stop::Abandoned));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
