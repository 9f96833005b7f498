//! Exact distances of candidates, from the rows in the table.

use crate::hnsw::opclass::IndexedColumn;
use crate::hnsw::value::{exact_distance, Stored, Value};
use crate::pg::table;
use crate::pg::toast::ToastReader;
use pg_rag_engine::hnsw::page::HeapTid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;

/// How values stored out of line are read.
enum Toast {
    /// None was met yet.
    Unknown,
    /// By PostgreSQL.
    Ordinary,
    Reader(ToastReader),
}

/// Reads rows of the table that an index is over, as a scan's snapshot shows them.
pub struct RowReader {
    fetch: *mut pg_sys::IndexFetchTableData,
    slot: *mut pg_sys::TupleTableSlot,
    /// The column; None if the index is over an expression.
    attribute: Option<i16>,
    /// Its place among the columns of the index.
    place: usize,
    info: *mut pg_sys::IndexInfo,
    /// What expressions are evaluated in; null without.
    estate: *mut pg_sys::EState,
    heap: pg_sys::Relation,
    toast: Toast,
}

impl RowReader {
    /// # Safety
    /// Both relations are open and stay so until [`RowReader::end`]; the index has a column at this place, from 0.
    pub unsafe fn begin(heap: pg_sys::Relation, index: pg_sys::Relation, place: usize) -> RowReader {
        // SAFETY: the caller's promise.
        unsafe {
            let info = pg_sys::BuildIndexInfo(index);
            let attribute = (*info).ii_IndexAttrNumbers[place];
            let estate = if attribute == 0 { pg_sys::CreateExecutorState() } else { std::ptr::null_mut() };
            RowReader {
                fetch: table::index_fetch_begin(heap),
                slot: pg_sys::table_slot_create(heap, std::ptr::null_mut()),
                attribute: (attribute != 0).then_some(attribute),
                place,
                info,
                estate,
                heap,
                toast: Toast::Unknown,
            }
        }
    }

    /// The distance of the row at a heap tid; None if the snapshot does not show it, or its value is null.
    ///
    /// # Safety
    /// `snapshot` is the running scan's.
    pub unsafe fn distance(
        &mut self,
        snapshot: pg_sys::Snapshot,
        tid: HeapTid,
        column: &IndexedColumn,
        query: &Value<'_>,
    ) -> Option<f64> {
        // SAFETY: the caller's promise; the slot's values live until the next row is fetched.
        unsafe {
            let mut pointer = pg_sys::ItemPointerData::default();
            pgrx::itemptr::item_pointer_set_all(&mut pointer, tid.block(), tid.offset());
            let is_visible = table::index_fetch_tuple(self.fetch, &mut pointer, snapshot, self.slot);
            if !is_visible {
                return None;
            }
            let (datum, is_null) = self.datum();
            if is_null {
                return None;
            }
            let stored = Stored::read(column.element, self.fetched(datum))?;
            Some(exact_distance(column.metric, query, &stored.value()).unwrap_or_report())
        }
    }

    /// The indexed value of the row in the slot.
    unsafe fn datum(&mut self) -> (pg_sys::Datum, bool) {
        // SAFETY: the slot holds a row.
        unsafe {
            if let Some(attribute) = self.attribute {
                return table::attribute(self.slot, attribute);
            }
            // Expressions are evaluated in a context that lives for one row.
            let context = match (*self.estate).es_per_tuple_exprcontext {
                context if context.is_null() => pg_sys::MakePerTupleExprContext(self.estate),
                context => context,
            };
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            (*context).ecxt_scantuple = self.slot;
            let mut values = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
            let mut nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
            pg_sys::FormIndexDatum(self.info, self.slot, self.estate, values.as_mut_ptr(), nulls.as_mut_ptr());
            (values[self.place], nulls[self.place])
        }
    }

    /// The value, fetched if it is stored out of line; lives until the next one.
    unsafe fn fetched(&mut self, datum: pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: the datum is of a row in the slot, which the snapshot shows. A computed one is not external.
        unsafe {
            if !ToastReader::is_external(datum) {
                return datum;
            }
            if let Toast::Unknown = self.toast {
                self.toast = ToastReader::begin(self.heap).map_or(Toast::Ordinary, Toast::Reader);
            }
            match &mut self.toast {
                Toast::Reader(reader) => reader.fetch(datum).unwrap_or(datum),
                _ => datum,
            }
        }
    }

    /// Lets go of the last row.
    pub fn reset(&mut self) {
        // SAFETY: begun, not ended.
        unsafe {
            table::clear(self.slot);
            table::index_fetch_reset(self.fetch);
        }
    }

    /// Ends reading. Not a destructor: after an error the transaction has freed everything.
    pub fn end(self) {
        // SAFETY: begun, not ended.
        unsafe {
            if let Toast::Reader(reader) = self.toast {
                reader.end();
            }
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            table::index_fetch_end(self.fetch);
            if !self.estate.is_null() {
                pg_sys::FreeExecutorState(self.estate);
            }
        }
    }
}
