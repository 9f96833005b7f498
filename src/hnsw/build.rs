//! CREATE INDEX: the rows of a table go into a graph in memory, which is then written in its final order.
//!
//! With parallel workers (`parallel.rs`) the memory is shared. Memory is bounded by `maintenance_work_mem`: if the graph does
//! not fit, the rows that fit are written first, and the others inserted one by one, which a warning announces before the
//! build starts if the table's estimated size says so. Nothing is logged until the end, when all pages are at once.

use super::errors::IndexError;
use super::insert::heap_tid;
use super::opclass::IndexedColumn;
use super::store::{set_header, RelationStore};
use super::value::IndexedValue;
use super::{cache, options, parallel};
use crate::pg::buffer::{self, RecentBuffers, RelationBuffers};
use crate::pg::{progress, table};
use pg_rag_engine::code::Codec;
use pg_rag_engine::hnsw::build::{calibrate, Arena, ArenaShape, Builder, FinishedGraph, Inserted};
use pg_rag_engine::hnsw::index::insert::Inserter;
use pg_rag_engine::hnsw::index::Index;
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::write::{write_graph, WriteError};
use pg_rag_engine::hnsw::page::{HeapTid, Meta, Metric, Page};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{pg_guard, pg_sys, PgBox, PgSqlErrorCode};
use std::sync::atomic::AtomicU32;

/// Phases as `pg_stat_progress_create_index` shows them; 1 is PostgreSQL's "initializing".
const PHASE_LOAD: i64 = 2;
const PHASE_CALIBRATE: i64 = 3;
const PHASE_NUMBER: i64 = 4;
const PHASE_WRITE: i64 = 5;
const PHASE_INSERT: i64 = 6;

/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuildphasename(phase: i64) -> *mut std::ffi::c_char {
    let name = match phase {
        1 => c"initializing",
        PHASE_LOAD => c"loading tuples",
        PHASE_NUMBER => c"numbering nodes",
        PHASE_CALIBRATE => c"measuring recall",
        PHASE_WRITE => c"writing pages",
        PHASE_INSERT => c"inserting tuples beyond maintenance_work_mem",
        _ => return std::ptr::null_mut(),
    };
    name.as_ptr().cast_mut()
}

/// What an index that is created now is.
///
/// # Safety
/// `index` is open.
unsafe fn identity(index: pg_sys::Relation) -> Result<(IndexedColumn, Identity), ErrorReport> {
    // SAFETY: the caller's promise.
    let (column, options) = unsafe { (IndexedColumn::of(index)?, options::of(index)) };
    if options.ef_construction < 2 * options.m {
        let message = "ef_construction must be greater than or equal to 2 * m";
        return Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, "hnsw"));
    }
    let mut seed = [0u8; 8];
    // SAFETY: fills the bytes.
    if !unsafe { pg_sys::pg_strong_random(seed.as_mut_ptr().cast(), seed.len()) } {
        let message = "could not draw a random number";
        return Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message, "hnsw"));
    }
    let IndexedColumn { element, metric, dimensions } = column;
    let (m, ef) = (options.m, options.ef_construction);
    Ok((column, Identity::of_column(element, metric, dimensions, m, ef, u64::from_le_bytes(seed))))
}

/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuildempty(index: pg_sys::Relation) {
    // SAFETY: PostgreSQL gives an open unlogged index whose init fork exists and is empty.
    unsafe {
        let (_, identity) = identity(index).unwrap_or_report();
        let meta = cache::or_raise(Meta::empty(identity).map_err(IndexError::from), index);
        let fork = pg_sys::ForkNumber::INIT_FORKNUM;
        let arena = Arena::new(&[], ArenaShape { m: meta.identity.m });
        write_pages(index, fork, meta, &FinishedGraph::empty(arena));
        pg_sys::log_newpage_range(index, fork, 0, 1, true);
    }
}

/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuild(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    // SAFETY: PostgreSQL gives open relations.
    unsafe {
        let (column, identity) = identity(index).unwrap_or_report();
        let codec = identity.codec();
        let shape = ArenaShape { m: identity.m };
        let estimate = Estimate::of(heap, shape.mean_node_bytes(identity.code_bytes_estimate()));
        estimate.warn(index);
        progress::phase(PHASE_LOAD);
        progress::tuples_total(estimate.rows as i64);
        let result = PgBox::<pg_sys::IndexBuildResult>::alloc0().into_pg();
        let built = match parallel::Build::begin(heap, index, info, &identity, &estimate) {
            Some(build) => build.run(|arena, rows| {
                // A full arena means that the estimate was too low: the build starts over, alone.
                rows.map(|rows| finish(index, arena, &codec, &identity, rows))
            }),
            None => None,
        };
        let (heap_rows, index_rows) =
            built.unwrap_or_else(|| build_alone(heap, index, info, &column, &identity, &codec, &estimate));
        if buffer::needs_wal(index) {
            let blocks = buffer::blocks(index);
            pg_sys::log_newpage_range(index, pg_sys::ForkNumber::MAIN_FORKNUM, 0, blocks, true);
        }
        (*result).heap_tuples = heap_rows;
        (*result).index_tuples = index_rows;
        result
    }
}

/// How large the graph will be.
pub struct Estimate {
    pub rows: f64,
    pub bytes: f64,
    /// `maintenance_work_mem`.
    pub limit_bytes: usize,
}

/// Nodes vary in size, and estimates of rows in truth.
const SLACK: f64 = 1.25;
const LEAST_BYTES: usize = 1 << 20;

impl Estimate {
    unsafe fn of(heap: pg_sys::Relation, node_bytes: usize) -> Estimate {
        let (mut pages, mut rows, mut visible) = (0, 0.0, 0.0);
        // SAFETY: the relation is open.
        unsafe { pg_sys::estimate_rel_size(heap, std::ptr::null_mut(), &mut pages, &mut rows, &mut visible) };
        // SAFETY: a setting.
        let limit_bytes = unsafe { pg_sys::maintenance_work_mem } as usize * 1024;
        Estimate { rows, bytes: rows * node_bytes as f64, limit_bytes }
    }

    /// Bytes to allocate where memory is taken at once.
    pub fn shared_bytes(&self) -> usize {
        ((self.bytes * SLACK) as usize + LEAST_BYTES).min(self.limit_bytes)
    }

    fn fits(&self) -> bool {
        self.bytes <= self.limit_bytes as f64
    }

    fn warn(&self, index: pg_sys::Relation) {
        if self.fits() {
            return;
        }
        let name = cache::name(index);
        let megabytes = |bytes: f64| (bytes / 1_048_576.0).ceil();
        pgrx::ereport!(
            pgrx::PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("index \"{name}\" needs about {} MB to be built in memory", megabytes(self.bytes)),
            format!(
                "maintenance_work_mem is {} MB. Rows beyond are inserted one by one, which takes several times as long.",
                megabytes(self.limit_bytes as f64)
            )
        );
    }
}

/// A worker's part of loading: what [`load_row`] needs.
pub struct Loader<'m, 'c> {
    pub column: IndexedColumn,
    pub codec: &'c Codec,
    pub builder: Builder<'m, 'c>,
    pub arena: Arena<'m>,
    pub context: pg_sys::MemoryContext,
    /// The code of the row at hand.
    code: Vec<u8>,
    /// Rows that this worker has put in.
    pub rows: u64,
    /// The arena had no room for a row.
    pub is_full: bool,
    /// Where rows go that the arena has no room for.
    overflow: Option<Overflow<'c>>,
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

/// The index on pages, for rows beyond the memory.
struct Overflow<'c> {
    relation: pg_sys::Relation,
    identity: &'c Identity,
    index: Option<Index<RelationStore>>,
    inserter: Inserter,
}

impl<'m, 'c> Loader<'m, 'c> {
    pub fn new(column: IndexedColumn, codec: &'c Codec, identity: &Identity, arena: Arena<'m>) -> Self {
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
            column,
            codec,
            builder,
            arena,
            context,
            code: Vec::new(),
            rows: 0,
            is_full: false,
            overflow: None,
            reports: false,
            hold_out_share: 0,
        }
    }

    /// Takes one row.
    unsafe fn take(&mut self, tid: pg_sys::ItemPointer, datum: pg_sys::Datum, is_null: bool) -> Result<(), IndexError> {
        if self.is_full && self.overflow.is_none() {
            return Ok(());
        }
        // SAFETY: PostgreSQL's values of the row.
        let (value, tid) = unsafe {
            let value = IndexedValue::read(&self.column, datum, is_null).unwrap_or_report();
            (value, heap_tid(tid)?)
        };
        let Some(value) = value else { return Ok(()) };
        if self.column.metric == Metric::Cosine && value.is_zero() {
            return Ok(());
        }
        if !self.is_full {
            self.codec.encode_into(value.values(), &mut self.code)?;
            if self.is_held_out(tid) && self.builder.hold_out(&self.code, tid) {
                self.count();
                return Ok(());
            }
            let query = self.codec.query(value.values())?;
            if self.builder.insert(&self.code, &query, tid) == Inserted::Full {
                self.is_full = true;
                self.flush()?;
            } else {
                self.count();
                return Ok(());
            }
        }
        if let Some(overflow) = &mut self.overflow {
            if let Some(index) = &mut overflow.index {
                index.insert(&mut overflow.inserter, value.values(), tid)?;
            }
            self.count();
        }
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

    /// Writes what the arena holds, so that the other rows can be inserted.
    fn flush(&mut self) -> Result<(), IndexError> {
        let Some(overflow) = &mut self.overflow else { return Ok(()) };
        pgrx::ereport!(
            pgrx::PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("hnsw graph no longer fits into maintenance_work_mem after {} tuples", self.arena.rows()),
            "Building will take significantly more time."
        );
        let relation = overflow.relation;
        finish(relation, self.arena, self.codec, overflow.identity, 0.0);
        progress::phase(PHASE_INSERT);
        // SAFETY: the relation is open during the build.
        let store = unsafe { RelationStore::unlogged(RelationBuffers::new(relation, RecentBuffers::default())) };
        overflow.index = Some(Index::open(store, None)?);
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
        let before = std::mem::replace(&mut *(&raw mut pg_sys::CurrentMemoryContext), loader.context);
        let result = loader.take(tid, *values, *nulls);
        pg_sys::CurrentMemoryContext = before;
        pg_sys::MemoryContextReset(loader.context);
        cache::or_raise(result, index);
    }
}

/// Builds without workers.
unsafe fn build_alone(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    column: &IndexedColumn,
    identity: &Identity,
    codec: &Codec,
    estimate: &Estimate,
) -> (f64, f64) {
    let memory = Memory::new(estimate.limit_bytes.max(LEAST_BYTES));
    let arena = Arena::new(memory.words(), ArenaShape { m: identity.m });
    let mut loader = Loader::new(*column, codec, identity, arena);
    loader.reports = true;
    loader.hold_out_share = hold_out_share(estimate.rows);
    loader.overflow = Some(Overflow { relation: index, identity, index: None, inserter: Inserter::default() });
    // SAFETY: the relations are open; the loader lives until the scan has ended.
    let heap_rows = unsafe {
        let state = (&raw mut loader).cast();
        table::index_build_scan(heap, index, info, true, Some(load_row), state, std::ptr::null_mut())
    };
    if !loader.is_full {
        finish(index, arena, codec, identity, heap_rows);
    }
    (heap_rows, loader.rows as f64)
}

/// Numbers the nodes and writes the pages. Gives the rows of the table, and those in the index.
fn finish(index: pg_sys::Relation, arena: Arena<'_>, codec: &Codec, identity: &Identity, heap_rows: f64) -> (f64, f64) {
    progress::phase(PHASE_CALIBRATE);
    let calibration = calibrate::measure(arena, codec, interrupts).unwrap_or_else(|never| match never {});
    Builder::new(arena, codec, identity.code_seed, identity.ef_construction).take_held_out();
    progress::tuples_done(i64::from(arena.rows()));
    progress::phase(PHASE_NUMBER);
    let graph = FinishedGraph::new(arena, codec, interrupts).unwrap_or_else(|never| match never {});
    progress::phase(PHASE_WRITE);
    let mut meta = cache::or_raise(Meta::empty(identity.clone()).map_err(IndexError::from), index);
    meta.calibration = calibration;
    // SAFETY: the index is open, and its fork empty.
    unsafe { write_pages(index, pg_sys::ForkNumber::MAIN_FORKNUM, meta, &graph) };
    (heap_rows, f64::from(arena.rows()))
}

fn interrupts() -> Result<(), std::convert::Infallible> {
    pgrx::check_for_interrupts!();
    Ok(())
}

/// Writes all pages of an empty fork.
unsafe fn write_pages(index: pg_sys::Relation, fork: pg_sys::ForkNumber::Type, meta: Meta, graph: &FinishedGraph<'_>) {
    let mut page_with_header: Box<Page> = Box::new([0; pg_rag_engine::hnsw::page::PAGE_BYTES]);
    let written = write_graph(meta, graph, |block, page| {
        if block % 128 == 0 {
            pgrx::check_for_interrupts!();
        }
        page_with_header.copy_from_slice(page);
        set_header(&mut page_with_header);
        // SAFETY: the index is open.
        unsafe { buffer::append(index, fork, &page_with_header) };
        Ok::<(), std::convert::Infallible>(())
    });
    match written {
        Ok(_) => {}
        Err(WriteError::Page(error)) => cache::or_raise(Err(IndexError::Page(error)), index),
        Err(WriteError::Sink(never)) => match never {},
    }
}

/// Zeroed memory that is only taken as it is used.
struct Memory(Vec<u32>);

impl Memory {
    fn new(bytes: usize) -> Memory {
        Memory(vec![0; bytes / 4])
    }

    fn words(&self) -> &[AtomicU32] {
        // SAFETY: the same size and alignment; the words are only used as atomics while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }
}
