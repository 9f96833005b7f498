//! PostgreSQL's inline functions over tables and slots, which are not bound: calls through the table's access method.
//!
//! The functions behind the pointers raise errors of PostgreSQL, so each call has a guard.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

/// The access method of an open table lacks a function that every one has.
const INCOMPLETE: &str = "table access method lacks a function";

/// Scans a table, or this participant's part of it, and calls `callback` for every row that an index is to have; gives the
/// number of rows.
///
/// # Safety
/// As for PostgreSQL's `table_index_build_scan`.
#[allow(clippy::too_many_arguments)]
pub unsafe fn index_build_scan(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    reports: bool,
    callback: pg_sys::IndexBuildCallback,
    state: *mut std::ffi::c_void,
    scan: pg_sys::TableScanDesc,
) -> f64 {
    let end = pg_sys::InvalidBlockNumber;
    // SAFETY: the caller's promise.
    unsafe {
        let Some(function) = (*(*heap).rd_tableam).index_build_range_scan else { pgrx::error!("{INCOMPLETE}") };
        pg_guard_ffi_boundary(|| function(heap, index, info, true, false, reports, 0, end, callback, state, scan))
    }
}

/// Begins to fetch rows by their tids.
///
/// # Safety
/// The table is open.
pub unsafe fn index_fetch_begin(heap: pg_sys::Relation) -> *mut pg_sys::IndexFetchTableData {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(function) = (*(*heap).rd_tableam).index_fetch_begin else { pgrx::error!("{INCOMPLETE}") };
        pg_guard_ffi_boundary(|| function(heap))
    }
}

/// Fetches a row into the slot; false if the snapshot does not show it.
///
/// # Safety
/// `fetch` was begun, `slot` is of its table, and the snapshot is registered or active.
#[inline]
pub unsafe fn index_fetch_tuple(
    fetch: *mut pg_sys::IndexFetchTableData,
    tid: &mut pg_sys::ItemPointerData,
    snapshot: pg_sys::Snapshot,
    slot: *mut pg_sys::TupleTableSlot,
) -> bool {
    let (mut call_again, mut all_dead) = (false, false);
    // SAFETY: the caller's promise.
    unsafe {
        let Some(function) = (*(*(*fetch).rel).rd_tableam).index_fetch_tuple else { pgrx::error!("{INCOMPLETE}") };
        pg_guard_ffi_boundary(|| function(fetch, tid, snapshot, slot, &mut call_again, &mut all_dead))
    }
}

/// Lets go of what the last fetch holds.
///
/// # Safety
/// `fetch` was begun.
pub unsafe fn index_fetch_reset(fetch: *mut pg_sys::IndexFetchTableData) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(function) = (*(*(*fetch).rel).rd_tableam).index_fetch_reset else { pgrx::error!("{INCOMPLETE}") };
        pg_guard_ffi_boundary(|| function(fetch));
    }
}

/// Ends fetching.
///
/// # Safety
/// `fetch` was begun.
pub unsafe fn index_fetch_end(fetch: *mut pg_sys::IndexFetchTableData) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(function) = (*(*(*fetch).rel).rd_tableam).index_fetch_end else { pgrx::error!("{INCOMPLETE}") };
        pg_guard_ffi_boundary(|| function(fetch));
    }
}

/// A column of the row in a slot, from 1, and whether it is null.
///
/// # Safety
/// The slot holds a row that has the column.
#[inline]
pub unsafe fn attribute(slot: *mut pg_sys::TupleTableSlot, number: i16) -> (pg_sys::Datum, bool) {
    // SAFETY: the caller's promise; the arrays are filled up to the column.
    unsafe {
        if (*slot).tts_nvalid < number {
            pg_sys::slot_getsomeattrs_int(slot, i32::from(number));
        }
        let index = (number - 1) as usize;
        (*(*slot).tts_values.add(index), *(*slot).tts_isnull.add(index))
    }
}

/// Empties a slot.
///
/// # Safety
/// The slot is valid.
pub unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(function) = (*(*slot).tts_ops).clear else { return };
        pg_guard_ffi_boundary(|| function(slot));
    }
}
