//! Writing `rag.change`: keys of changed rows are collected in the backend's memory and written when the transaction commits,
//! so that a thousand statements of one row cost what one statement of a thousand rows costs.
//!
//! A savepoint that is rolled back leaves its keys here. They are looked at in vain. A large statement writes its keys at
//! once, within the subtransaction that it runs in, so that memory stays small.

use crate::pg::append::{find_table, Appender};
use crate::pg::text_array::text_array;
use crate::rag::sync::wake;
use pgrx::{pg_sys, PgXactCallbackEvent};
use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

/// Keys of one statement that are kept until the commit; more are written at once.
const MAX_KEPT_OF_STATEMENT: usize = 4096;
/// Keys that a transaction keeps in all.
const MAX_KEPT: usize = 65_536;
/// Bytes of keys in a row of `rag.change`: rows of this size are not moved out of line.
const ROW_BYTES: usize = 1600;

#[derive(Default)]
struct Pending {
    /// By index; a key that changed again comes again, and goes when they are written.
    keys: HashMap<pg_sys::Oid, Vec<String>>,
    sweeps: HashSet<pg_sys::Oid>,
    count: usize,
    /// Whether the end of this transaction will be told to us.
    is_registered: bool,
}

thread_local! {
    static PENDING: RefCell<Pending> = RefCell::default();
}

/// Notes that an index has to look at these rows after the commit.
pub fn note(index: pg_sys::Oid, keys: Vec<String>) {
    if keys.is_empty() {
        return;
    }
    register();
    let now = PENDING.with_borrow_mut(|pending| {
        if keys.len() > MAX_KEPT_OF_STATEMENT || pending.count > MAX_KEPT {
            return Some(keys);
        }
        pending.count += keys.len();
        match pending.keys.entry(index) {
            Entry::Vacant(none) => {
                none.insert(keys);
            }
            Entry::Occupied(mut own) => own.get_mut().extend(keys),
        }
        None
    });
    if let Some(keys) = now {
        write(index, keys);
    }
}

/// Notes that an index has to be compared with its whole table after the commit.
pub fn request_sweep(index: pg_sys::Oid) {
    register();
    PENDING.with_borrow_mut(|pending| pending.sweeps.insert(index));
}

/// Wakes the worker when the transaction has committed, for who has written to the queue by other ways.
pub fn wake_after_commit() {
    register();
}

/// Whether this transaction has changed what an index will follow after the commit.
pub fn is_pending() -> bool {
    PENDING.with_borrow(|pending| pending.is_registered)
}

fn register() {
    if PENDING.with_borrow_mut(|pending| std::mem::replace(&mut pending.is_registered, true)) {
        return;
    }
    pgrx::register_xact_callback(PgXactCallbackEvent::PreCommit, flush);
    pgrx::register_xact_callback(PgXactCallbackEvent::PrePrepare, flush);
    pgrx::register_xact_callback(PgXactCallbackEvent::Prepare, forget);
    pgrx::register_xact_callback(PgXactCallbackEvent::Abort, forget);
    pgrx::register_xact_callback(PgXactCallbackEvent::Commit, || {
        forget();
        wake::wake();
    });
}

fn forget() {
    PENDING.take();
}

fn flush() {
    let pending = PENDING.take();
    for (index, mut keys) in pending.keys {
        keys.sort_unstable();
        keys.dedup();
        write(index, keys);
    }
    for index in pending.sweeps {
        append(index, &[]);
    }
}

fn write(index: pg_sys::Oid, keys: impl IntoIterator<Item = String>) {
    let (mut row, mut bytes) = (Vec::new(), 0);
    for key in keys {
        bytes += key.len() + 8;
        row.push(key);
        if bytes >= ROW_BYTES {
            append(index, &row);
            row.clear();
            bytes = 0;
        }
    }
    if !row.is_empty() {
        append(index, &row);
    }
}

/// Adds one row; no keys at all ask for a sweep.
#[allow(unsafe_code)]
fn append(index: pg_sys::Oid, keys: &[String]) {
    // The extension was dropped in this transaction: nobody is left to tell.
    let Some(table) = find_table(c"rag", c"change") else { return };
    // SAFETY: the columns of rag.change: regclass, timestamptz, text[].
    unsafe {
        let now = pg_sys::Datum::from(pg_sys::GetCurrentTimestamp());
        Appender::open(table).append(&mut [pg_sys::Datum::from(index), now, text_array(keys)]);
    }
}
