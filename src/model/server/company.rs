//! How long a pass over short texts waits for company.
//!
//! Sessions that ask for one text after the other send the next one when they have the answer to the last. Those that were
//! answered together come back one by one, each a little later than the other; a pass that begins with the first of them
//! has one text, and the others wait for its end. Passes over few texts cost more for each, so the next pass begins when as
//! many requests wait as there were when the last one ended, or after a part of the time that the last one took. A session
//! that asks alone waits for nobody.
//!
//! Called by [`super::scheduler`]. No clock in here: times are given.

use std::time::{Duration, Instant};

/// The longest wait.
const MOST: Duration = Duration::from_millis(1);

/// The part of the time of the last pass that may be waited: what company saves is a part of it, too.
const PART: u32 = 4;

/// See the module.
#[derive(Clone, Copy, Default)]
pub struct Company {
    expected: usize,
    until: Option<Instant>,
}

impl Company {
    /// A pass that took so long has ended `now`: `answered` requests have their answers, `waiting` are waiting already.
    pub fn after(answered: usize, waiting: usize, took: Duration, now: Instant) -> Self {
        Self { expected: answered + waiting, until: Some(now + (took / PART).min(MOST)) }
    }

    /// How long the next pass is to wait while `waiting` requests do.
    pub fn patience(&self, waiting: usize, now: Instant) -> Duration {
        match self.until {
            Some(until) if waiting < self.expected => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn as_many_are_waited_for_as_there_were() {
        let now = Instant::now();
        let company = Company::after(3, 2, 2 * MS, now);
        assert_eq!(company.patience(2, now), MS / 2);
        assert_eq!(company.patience(4, now + MS / 4), MS / 4);
        assert_eq!(company.patience(5, now), Duration::ZERO);
        assert_eq!(company.patience(4, now + MS / 2), Duration::ZERO);
        assert_eq!(company.patience(4, now + 10 * MS), Duration::ZERO);
    }

    #[test]
    fn a_long_pass_is_not_followed_by_a_long_wait() {
        let now = Instant::now();
        assert_eq!(Company::after(8, 0, 100 * MS, now).patience(1, now), MS);
    }

    #[test]
    fn who_is_alone_waits_for_nobody() {
        let now = Instant::now();
        assert_eq!(Company::default().patience(0, now), Duration::ZERO);
        assert_eq!(Company::after(1, 0, 10 * MS, now).patience(1, now), Duration::ZERO);
    }
}
