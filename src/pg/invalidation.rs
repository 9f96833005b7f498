//! A counter that every backend sees change when some backend says that a table's cached contents are stale.
//!
//! PostgreSQL sends relation-cache invalidations to all backends at commit. They carry no data, but they arrive
//! before the next statement of each backend, which is all that a cache of rarely changed rows needs.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Who wants to know which relation is stale.
static LISTENER: OnceLock<fn(pg_sys::Oid)> = OnceLock::new();

/// Starts counting in this backend. Called once, from `_PG_init`.
pub fn watch() {
    // SAFETY: registers a static function; the slot lives as long as the process.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_invalidation), pg_sys::Datum::null()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_invalidation(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    if let Some(listener) = LISTENER.get() {
        listener(relation);
    }
}

/// Calls `listener` with each relation whose cached contents are stale; `InvalidOid` means all of them. The listener must
/// not call PostgreSQL. There is one in the process.
pub fn listen(listener: fn(pg_sys::Oid)) {
    let _ = LISTENER.set(listener);
}

/// Changes whenever anything cached from a table may be stale. Other tables change it too: only compare for equality.
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Tells all backends, at commit, that what they cached from `relation` is stale.
pub fn announce(relation: pg_sys::Oid) {
    // SAFETY: a relation that does not exist raises an error.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}
