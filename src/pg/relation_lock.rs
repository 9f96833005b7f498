//! Locks on tables and views, held to the end of the transaction.

use pgrx::pg_sys;

/// Keeps out who would drop or redefine a relation; disturbs nobody else. The relation may be gone when the lock is there.
pub fn share(relation: pg_sys::Oid) {
    // SAFETY: takes a lock by an object id, which need not exist.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
}

/// Keeps out everybody, as soon as nobody is in; fails after `lock_timeout`.
pub fn take_alone(relation: pg_sys::Oid) {
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE) };
}

/// Keeps out everybody, if nobody is in: gives up at once rather than make others queue behind a wait.
pub fn try_take_alone(relation: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE) }
}
