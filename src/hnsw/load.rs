//! Loading: every row of the table goes into the arena, or, if all of them do not fit, into a build in parts.

use super::cache;
use super::errors::IndexError;
use super::filter_scan::append_keys;
use super::insert::heap_tid;
use super::opclass::IndexColumns;
use super::parts::Leader;
use super::temp_files::BufFiles;
use super::value::Stored;
use crate::pg::progress;
use pg_rag_engine::code::Codec;
use pg_rag_engine::hnsw::build::parts::PartedBuild;
use pg_rag_engine::hnsw::build::{calibrate, Arena, Builder, Inserted};
use pg_rag_engine::hnsw::filter::RowShape;
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::{HeapTid, Metric};
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{pg_guard, pg_sys, PgSqlErrorCode};

/// A worker's part of loading: what [`load_row`] needs.
pub struct Loader<'m, 'c> {
    pub columns: IndexColumns,
    pub codec: &'c Codec,
    pub builder: Builder<'m, 'c>,
    pub arena: Arena<'m>,
    pub context: pg_sys::MemoryContext,
    /// The code of the row at hand, and its filter keys behind it.
    code: Vec<u8>,
    row_keys: RowShape,
    /// Rows that this worker has put in.
    pub rows: u64,
    /// The arena had no room for a row.
    pub is_full: bool,
    /// Where rows go if the arena has no room for all.
    pub parts: Parts<'c>,
    /// Whether this worker reports the progress of all.
    pub reports: bool,
    /// The share of rows that are held out, of 2^32.
    pub hold_out_share: u64,
}

/// The share of rows that are held out of a table of about so many, of 2^32.
pub fn hold_out_share(rows: f64) -> u64 {
    if rows < f64::from(calibrate::LEAST_ROWS) {
        return 0;
    }
    (f64::from(calibrate::MOST_SAMPLES) / rows * 4_294_967_296.0) as u64
}

/// The build in parts that a worker may go over to.
pub enum Parts<'c> {
    /// It must not: other workers share the arena.
    Never,
    /// It will when the arena is full.
    Later(&'c Identity, BufFiles),
    Begun(PartedBuild<'c, BufFiles>),
}

impl<'m, 'c> Loader<'m, 'c> {
    pub fn new(columns: IndexColumns, codec: &'c Codec, identity: &Identity, arena: Arena<'m>) -> Self {
        // SAFETY: makes a context below the current one.
        let context = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"hnsw build row".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        let builder = Builder::new(arena, codec, identity.code_seed, identity.ef_construction);
        Loader {
            columns,
            codec,
            builder,
            arena,
            context,
            code: Vec::new(),
            row_keys: identity.row_keys(),
            rows: 0,
            is_full: false,
            parts: Parts::Never,
            reports: false,
            hold_out_share: 0,
        }
    }

    /// Takes one row.
    ///
    /// # Safety
    /// `values` and `nulls` are those of the row, one for each column of the index.
    unsafe fn take(
        &mut self,
        tid: pg_sys::ItemPointer,
        values: *const pg_sys::Datum,
        nulls: *const bool,
    ) -> Result<(), IndexError> {
        let column = self.columns.vector;
        if self.is_full && matches!(self.parts, Parts::Never) {
            return Ok(());
        }
        // SAFETY: PostgreSQL's values of the row.
        let (stored, tid) = unsafe {
            if *nulls.add(column.place) {
                return Ok(());
            }
            (Stored::read(column.element, *values.add(column.place)), heap_tid(tid)?)
        };
        let Some(stored) = stored else { return Ok(()) };
        let value = stored.value();
        value.check_row(column.dimensions).unwrap_or_report();
        if column.metric == Metric::Cosine && value.is_zero_norm() {
            return Ok(());
        }
        self.codec.encode_into(value.values(), &mut self.code)?;
        // SAFETY: PostgreSQL's values of the row.
        unsafe { append_keys(&self.columns, &self.row_keys, values, nulls, &mut self.code) };
        let is_held_out = self.is_held_out(tid);
        if let Parts::Begun(parts) = &mut self.parts {
            if !(is_held_out && parts.hold_out(&self.code, tid)) {
                parts.add(&self.code, tid)?;
            }
        } else if !(is_held_out && self.builder.hold_out(&self.code, tid)) {
            let query = self.codec.query(value.values())?;
            if self.builder.insert(&self.code, &query, tid) == Inserted::Full {
                self.is_full = true;
                return self.begin_parts(tid);
            }
        }
        self.count();
        Ok(())
    }

    /// Whether a row is one of the few, spread over the table, that recall is measured with.
    fn is_held_out(&self, tid: HeapTid) -> bool {
        let number = (u64::from(tid.block()) << 16 | u64::from(tid.offset())).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hold_out_share > number >> 32
    }

    fn count(&mut self) {
        self.rows += 1;
        if self.reports && self.rows.is_multiple_of(64) {
            let rows = u64::from(self.arena.rows()).max(self.rows);
            progress::tuples_done(rows as i64);
        }
    }

    /// Goes over to a build in parts, with the rows of the arena and the one at hand, unless this must not be.
    fn begin_parts(&mut self, tid: HeapTid) -> Result<(), IndexError> {
        let (identity, files) = match std::mem::replace(&mut self.parts, Parts::Never) {
            Parts::Later(identity, files) => (identity, files),
            other => {
                self.parts = other;
                return Ok(());
            }
        };
        pgrx::ereport!(
            pgrx::PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("hnsw graph no longer fits into maintenance_work_mem after {} tuples", self.arena.rows()),
            "It is built in parts, which takes two to five times as long."
        );
        let mut parts = PartedBuild::new(identity, self.codec, files)?;
        parts.take_arena(self.arena, &mut Leader::default())?;
        parts.add(&self.code, tid)?;
        self.parts = Parts::Begun(parts);
        self.count();
        Ok(())
    }
}

/// Called by PostgreSQL for every row of the table.
///
/// # Safety
/// `state` is a [`Loader`].
#[pg_guard]
pub unsafe extern "C-unwind" fn load_row(
    index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    _is_alive: bool,
    state: *mut std::ffi::c_void,
) {
    // SAFETY: the caller's promise; the detoasted value lives in the row's context.
    unsafe {
        let Some(loader) = state.cast::<Loader<'_, '_>>().as_mut() else { return };
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = loader.context;
        let result = loader.take(tid, values, nulls);
        pg_sys::CurrentMemoryContext = before;
        pg_sys::MemoryContextReset(loader.context);
        cache::or_raise(result, index);
    }
}
