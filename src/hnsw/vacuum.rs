//! `ambulkdelete` and `amvacuumcleanup`.

use super::cache;
use crate::pg::buffer;
use pg_rag_engine::hnsw::page::HeapTid;
use pgrx::{pg_guard, pg_sys, PgBox};

/// Removes the rows that the callback says are dead.
///
/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambulkdelete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    callback_state: *mut std::ffi::c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: PostgreSQL gives an open index and a callback; the result is allocated as it frees it.
    unsafe {
        let index = (*info).index;
        let stats = if stats.is_null() { PgBox::<pg_sys::IndexBulkDeleteResult>::alloc0().into_pg() } else { stats };
        let mut rows = 0u32;
        let is_dead = |tid: HeapTid| {
            rows = rows.wrapping_add(1);
            if rows.is_multiple_of(1024) {
                pg_sys::vacuum_delay_point();
            }
            let mut pointer = pg_sys::ItemPointerData::default();
            pgrx::itemptr::item_pointer_set_all(&mut pointer, tid.block(), tid.offset());
            callback.is_some_and(|callback| callback(&mut pointer, callback_state))
        };
        let report = cache::or_raise(
            cache::open(index).and_then(|mut open| {
                let report = open.vacuum(is_dead)?;
                cache::close(open);
                Ok(report)
            }),
            index,
        );
        (*stats).tuples_removed += report.rows_removed as f64;
        (*stats).num_index_tuples = report.rows_left as f64;
        (*stats).estimated_count = false;
        (*stats).pages_newly_deleted = 0;
        stats
    }
}

/// Reports the size after a vacuum.
///
/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvacuumcleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: PostgreSQL gives an open index; `stats` is null if nothing was deleted.
    unsafe {
        if (*info).analyze_only || stats.is_null() {
            return stats;
        }
        (*stats).num_pages = buffer::blocks((*info).index);
        stats
    }
}
