//! Index scans: PostgreSQL's callbacks, and what the custom scan above sets and asks.
//!
//! - [`state`]: rows in the order of their exact distances, for as long as the executor asks;
//! - [`workspace`]: the memory that a scan uses, and the next one again;
//! - [`rerank`]: exact distances from the table.

mod rerank;
mod state;
mod workspace;

use super::cache;
use super::mask::MaskSource;
use super::opclass::IndexColumns;
use pg_rag_engine::hnsw::filter::RowMask;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{pg_guard, pg_sys, PgMemoryContexts};
use state::ScanState;
use std::rc::Rc;

/// What a scan has done so far, over all its searches, for EXPLAIN.
#[derive(Debug, Clone, Copy)]
pub struct ScanStatistics {
    /// How the last search went: `none` before the first, `plain` without a filter, `rows` if the rows of a mask were read
    /// from the table, else as the engine names it.
    pub way: &'static str,
    pub nodes_visited: u64,
    /// Distances of codes that were computed.
    pub distances: u64,
    /// Nodes that did not pass the filter.
    pub filtered: u64,
    /// Nodes that passed, and might be results.
    pub candidates: u64,
    /// Rows read for their exact distances.
    pub heap_fetches: u64,
    /// Rows that were found too late to be in order, and returned last.
    pub late_rows: u64,
}

/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambeginscan(
    index: pg_sys::Relation,
    keys: i32,
    order_bys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: PostgreSQL gives an open index. The state is dropped with the memory context, which an error deletes, too.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, keys, order_bys);
        let state = ScanState::new(IndexColumns::of(index).unwrap_or_report());
        (*scan).opaque = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(state).cast();
        scan
    }
}

/// # Safety
/// Called by PostgreSQL with a scan of [`ambeginscan`].
#[pg_guard]
pub unsafe extern "C-unwind" fn amrescan(
    scan: pg_sys::IndexScanDesc,
    keys: pg_sys::ScanKey,
    key_count: i32,
    order_bys: pg_sys::ScanKey,
    order_by_count: i32,
) {
    // SAFETY: PostgreSQL gives as many keys as it says, and room for as many.
    unsafe {
        if !keys.is_null() && key_count > 0 {
            std::ptr::copy(keys, (*scan).keyData, key_count as usize);
        }
        if !order_bys.is_null() && order_by_count > 0 {
            std::ptr::copy(order_bys, (*scan).orderByData, order_by_count as usize);
        }
        let Some(state) = (*scan).opaque.cast::<ScanState>().as_mut() else { return };
        state.reset((order_by_count > 0).then(|| &*(*scan).orderByData));
    }
}

/// # Safety
/// Called by PostgreSQL with a scan of [`ambeginscan`].
#[pg_guard]
pub unsafe extern "C-unwind" fn amgettuple(
    scan: pg_sys::IndexScanDesc,
    _direction: pg_sys::ScanDirection::Type,
) -> bool {
    // SAFETY: PostgreSQL gives a scan of this access method.
    unsafe {
        let Some(state) = (*scan).opaque.cast::<ScanState>().as_mut() else { return false };
        match cache::or_raise(state.next(scan), (*scan).indexRelation) {
            Some(tid) => {
                pgrx::itemptr::item_pointer_set_all(&mut (*scan).xs_heaptid, tid.block(), tid.offset());
                // Keys may be lossy.
                (*scan).xs_recheck = (*scan).numberOfKeys > 0;
                (*scan).xs_recheckorderby = false;
                true
            }
            None => false,
        }
    }
}

/// # Safety
/// Called by PostgreSQL with a scan of [`ambeginscan`].
#[pg_guard]
pub unsafe extern "C-unwind" fn amendscan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: PostgreSQL gives a scan of this access method; what is left of the state is dropped with its context.
    unsafe {
        let Some(state) = (*scan).opaque.cast::<ScanState>().as_mut() else { return };
        state.end();
    }
}

/// Searches only among these rows, or among all again; before a scan or after [`amrescan`].
///
/// # Safety
/// `scan` was begun by [`ambeginscan`], and not ended.
pub unsafe fn set_mask(scan: pg_sys::IndexScanDesc, mask: Option<Rc<RowMask>>) {
    // SAFETY: the caller's promise.
    if let Some(state) = unsafe { (*scan).opaque.cast::<ScanState>().as_mut() } {
        state.set_mask(mask);
    }
}

/// Lets the scan get a mask when its search turns out to be long.
///
/// # Safety
/// As for [`set_mask`].
pub unsafe fn set_mask_source(scan: pg_sys::IndexScanDesc, source: MaskSource) {
    // SAFETY: the caller's promise.
    if let Some(state) = unsafe { (*scan).opaque.cast::<ScanState>().as_mut() } {
        state.set_mask_source(source);
    }
}

/// What a scan has done.
///
/// # Safety
/// As for [`set_mask`].
pub unsafe fn statistics(scan: pg_sys::IndexScanDesc) -> Option<ScanStatistics> {
    // SAFETY: the caller's promise.
    unsafe { (*scan).opaque.cast::<ScanState>().as_ref() }.map(ScanState::statistics)
}
