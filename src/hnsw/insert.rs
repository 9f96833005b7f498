//! `aminsert`: one row.

use super::cache;
use super::errors::IndexError;
use super::filter_scan::append_keys;
use super::opclass::IndexColumns;
use super::value::Stored;
use pg_rag_engine::hnsw::filter::KeyRow;
use pg_rag_engine::hnsw::index::insert::Inserter;
use pg_rag_engine::hnsw::page::{HeapTid, Metric, PageError, META_BLOCK};
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{pg_guard, pg_sys};
use std::cell::RefCell;

thread_local! {
    /// Memory that insertions use again.
    static INSERTER: RefCell<Option<Inserter>> = const { RefCell::new(None) };
}

/// The engine's form of a heap tid.
///
/// # Safety
/// `tid` is valid.
pub unsafe fn heap_tid(tid: pg_sys::ItemPointer) -> Result<HeapTid, IndexError> {
    // SAFETY: the caller's promise.
    let (block, offset) = pgrx::itemptr::item_pointer_get_both(unsafe { *tid });
    HeapTid::new(block, offset).ok_or(IndexError::Page(PageError::Refused("row has no place in its table")))
}

/// Inserts a row. Holds the metapage's heavyweight lock in share mode meanwhile, which vacuum waits for.
///
/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "PostgreSQL's signature")]
pub unsafe extern "C-unwind" fn aminsert(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    tid: pg_sys::ItemPointer,
    _heap: pg_sys::Relation,
    _check_unique: pg_sys::IndexUniqueCheck::Type,
    _index_unchanged: bool,
    _info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: PostgreSQL gives an open index, one value per column, and a valid tid.
    unsafe {
        let columns = IndexColumns::of(index).unwrap_or_report();
        let column = columns.vector;
        if *nulls.add(column.place) {
            return false;
        }
        let Some(stored) = Stored::read(column.element, *values.add(column.place)) else { return false };
        let value = stored.value();
        value.check_row(column.dimensions).unwrap_or_report();
        if column.metric == Metric::Cosine && value.is_zero_norm() {
            return false;
        }
        let tid = cache::or_raise(heap_tid(tid), index);
        let share = pg_sys::ShareLock as i32;
        pg_sys::LockPage(index, META_BLOCK, share);
        let mut inserter = INSERTER.with_borrow_mut(Option::take).unwrap_or_default();
        let result = cache::open(index).and_then(|mut open| {
            let mut keys = Vec::new();
            append_keys(&columns, &open.shape().row_keys, values, nulls, &mut keys);
            open.insert(&mut inserter, value.values(), KeyRow(&keys), tid)?;
            cache::close(open);
            Ok(())
        });
        INSERTER.with_borrow_mut(|kept| *kept = Some(inserter));
        cache::or_raise(result, index);
        pg_sys::UnlockPage(index, META_BLOCK, share);
    }
    false
}
