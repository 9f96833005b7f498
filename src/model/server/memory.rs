//! How many bytes models and the caches of generations may take, and how many they take.
//!
//! A plain count under a limit: whoever wants memory takes a [`Share`] first and gives it back by dropping it. Sizes are
//! known before anything is loaded, from the headers of a model's files; so a model that does not fit is refused instead of
//! being loaded until the kernel kills the process. What makes room, by unloading models, is the registry's to decide.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// The memory of one server.
pub struct Budget {
    limit_bytes: Option<u64>,
    taken_bytes: AtomicU64,
}

/// Bytes that are taken until this is dropped.
pub struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// `limit_bytes`: None for no limit.
    pub fn new(limit_bytes: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit_bytes, taken_bytes: AtomicU64::new(0) })
    }

    pub fn limit_bytes(&self) -> Option<u64> {
        self.limit_bytes
    }

    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// Takes so many bytes, unless that would be more than the limit.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let limit = self.limit_bytes.unwrap_or(u64::MAX);
        let add = |taken: u64| taken.checked_add(bytes).filter(|&sum| sum <= limit);
        let taken = self.taken_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.ok().map(|_| Share { budget: self.clone(), bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_limit_and_come_back() {
        let budget = Budget::new(Some(100));
        let first = budget.take(60).unwrap();
        assert!(budget.take(41).is_none() && budget.take(u64::MAX).is_none());
        let second = budget.take(40).unwrap();
        assert_eq!(budget.taken_bytes(), 100);
        drop(first);
        assert!(budget.take(60).is_some());
        drop(second);
        assert_eq!(budget.taken_bytes(), 0);
        assert!(Budget::new(None).take(u64::MAX).is_some());
    }
}
