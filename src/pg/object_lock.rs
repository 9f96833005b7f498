//! Locks on things that are no relation of PostgreSQL's, named by two object ids. They lie in PostgreSQL's table of locks, so
//! deadlocks are found, and outside of the names that users' advisory locks can have.

use pgrx::pg_sys;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Together with others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// Takes the lock on `object` of `class` until the end of the transaction. Waits for it, or returns false at once.
pub fn take(class: pg_sys::Oid, object: pg_sys::Oid, mode: Mode, waits: bool) -> bool {
    let mode = match mode {
        Mode::Shared => pg_sys::ShareLock,
        Mode::Exclusive => pg_sys::ExclusiveLock,
    };
    let result = acquire(class, object, mode, false, waits);
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Takes the lock alone, without waiting, until the process ends.
pub fn take_for_life(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    let result = acquire(class, object, pg_sys::ExclusiveLock, true, false);
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

fn acquire(
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    mode: u32,
    for_session: bool,
    waits: bool,
) -> pg_sys::LockAcquireResult::Type {
    // Of the locks that PostgreSQL takes itself, those of a session end with the first transaction that fails, and are left
    // behind by a process that ends outside of one; those of users live and end with the process.
    let method = if for_session { pg_sys::USER_LOCKMETHOD } else { pg_sys::DEFAULT_LOCKMETHOD };
    let tag = pg_sys::LOCKTAG {
        locktag_field1: crate::pg::backend::database_oid().to_u32(),
        locktag_field2: class.to_u32(),
        locktag_field3: object.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: method as u8,
    };
    // SAFETY: the tag is complete, and read during the call only.
    unsafe { pg_sys::LockAcquire(&tag, mode as pg_sys::LOCKMODE, for_session, !waits) }
}
