//! What a query sees.

use pgrx::pg_sys;

/// Runs `work` with a snapshot of now: in a trigger, or in a transaction with a fixed snapshot, queries otherwise see what was
/// there when the statement or the transaction began.
pub fn with_latest<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: pushed and popped in pairs; where `work` ends with an error, the end of the transaction pops it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}
