//! A lock of one word, in memory that several processes share. Nothing that can fail or wait is done under it.

use std::sync::atomic::{AtomicU32, Ordering};

/// How often a waiter looks before it lets others run.
const SPINS: u32 = 200;

/// The lock, held until dropped.
pub(super) struct SpinGuard<'a>(&'a AtomicU32);

impl<'a> SpinGuard<'a> {
    pub(super) fn lock(word: &'a AtomicU32) -> Self {
        let mut looks = 0u32;
        while word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            looks += 1;
            if looks.is_multiple_of(SPINS) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        SpinGuard(word)
    }
}

impl Drop for SpinGuard<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}
