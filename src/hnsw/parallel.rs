//! Building with PostgreSQL's parallel workers: the arena lies in dynamic shared memory, everybody scans a part of the
//! table into it, and the leader writes the index.

use super::load::{hold_out_share, load_row, Loader};
use super::memory::Estimate;
use super::opclass::IndexedColumn;
use crate::pg::table;
use pg_rag_engine::hnsw::build::{Arena, ArenaShape};
use pg_rag_engine::hnsw::page::meta::Identity;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{pg_guard, pg_sys};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

// Keys of the table of contents; those of PostgreSQL have the highest bits set.
const KEY_SHARED: u64 = 0xA000_0000_0000_0001;
const KEY_ARENA: u64 = 0xA000_0000_0000_0002;
const KEY_QUERY_TEXT: u64 = 0xA000_0000_0000_0003;

/// What leader and workers share, besides the arena. The table scan's state follows it.
#[repr(C)]
struct Shared {
    heap: pg_sys::Oid,
    index: pg_sys::Oid,
    is_concurrent: bool,
    seed: u64,
    arena_bytes: usize,
    hold_out_share: u64,
    heap_rows: AtomicU64,
    is_full: AtomicBool,
}

const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(64)
}

/// A build that is under way.
pub struct Build {
    context: *mut pg_sys::ParallelContext,
    snapshot: pg_sys::Snapshot,
    is_mvcc: bool,
    shared: *mut Shared,
    arena: *mut std::ffi::c_void,
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    identity: Identity,
}

impl Build {
    /// Starts workers; None if there are none to be had, or the graph would not fit.
    ///
    /// # Safety
    /// Called by `ambuild` with its arguments.
    pub unsafe fn begin(
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        info: *mut pg_sys::IndexInfo,
        identity: &Identity,
        estimate: &Estimate,
    ) -> Option<Build> {
        if !estimate.fits() {
            return None;
        }
        // SAFETY: as PostgreSQL's own parallel index builds do it.
        unsafe {
            let workers = pg_sys::plan_create_index_workers((*heap).rd_id, (*index).rd_id);
            if workers <= 0 {
                return None;
            }
            let is_concurrent = (*info).ii_Concurrent;
            pg_sys::EnterParallelMode();
            let context = pg_sys::CreateParallelContext(
                c"$libdir/pg_rag".as_ptr(),
                c"pg_rag_hnsw_build_worker".as_ptr(),
                workers,
            );
            // CREATE INDEX CONCURRENTLY sees what its snapshot shows, otherwise all rows are looked at.
            let snapshot = match is_concurrent {
                true => pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()),
                false => &raw mut pg_sys::SnapshotAnyData,
            };
            let arena_bytes = aligned(estimate.shared_bytes());
            let scan_bytes = pg_sys::table_parallelscan_estimate(heap, snapshot);
            let shared_bytes = aligned(size_of::<Shared>()) + scan_bytes;
            let query = pg_sys::debug_query_string;
            let query_bytes = if query.is_null() { 0 } else { std::ffi::CStr::from_ptr(query).count_bytes() + 1 };
            let estimator = &mut (*context).estimator;
            // Blocks are aligned to 64 bytes at most, and each takes its share of bookkeeping.
            estimator.space_for_chunks += aligned(shared_bytes) + aligned(arena_bytes) + aligned(query_bytes) + 256;
            estimator.number_of_keys += 3;
            pg_sys::InitializeParallelDSM(context);
            let mut build = Build {
                context,
                snapshot,
                is_mvcc: is_concurrent,
                shared: std::ptr::null_mut(),
                arena: std::ptr::null_mut(),
                heap,
                index,
                info,
                identity: identity.clone(),
            };
            if (*context).seg.is_null() {
                build.end();
                return None;
            }
            let toc = (*context).toc;
            let shared = pg_sys::shm_toc_allocate(toc, shared_bytes).cast::<Shared>();
            shared.write(Shared {
                heap: (*heap).rd_id,
                index: (*index).rd_id,
                is_concurrent,
                seed: identity.code_seed,
                arena_bytes,
                hold_out_share: hold_out_share(estimate.rows),
                heap_rows: AtomicU64::new(0),
                is_full: AtomicBool::new(false),
            });
            pg_sys::table_parallelscan_initialize(heap, scan_of(shared), snapshot);
            let arena = pg_sys::shm_toc_allocate(toc, arena_bytes);
            std::ptr::write_bytes(arena.cast::<u8>(), 0, arena_bytes);
            pg_sys::shm_toc_insert(toc, KEY_SHARED, shared.cast());
            pg_sys::shm_toc_insert(toc, KEY_ARENA, arena);
            if query_bytes > 0 {
                let text = pg_sys::shm_toc_allocate(toc, query_bytes).cast::<std::ffi::c_char>();
                std::ptr::copy_nonoverlapping(query, text, query_bytes);
                pg_sys::shm_toc_insert(toc, KEY_QUERY_TEXT, text.cast());
            }
            build.shared = shared;
            build.arena = arena;
            pg_sys::LaunchParallelWorkers(context);
            if (*context).nworkers_launched == 0 {
                build.end();
                return None;
            }
            pgrx::debug1!("using {} parallel workers", (*context).nworkers_launched);
            Some(build)
        }
    }

    /// Loads the table together with the workers, and calls `finish` with the arena and the number of rows seen; None
    /// instead of the number if the arena was too small.
    ///
    /// # Safety
    /// Called once, in the process that began it.
    pub unsafe fn run<R>(self, finish: impl FnOnce(Arena<'_>, Option<f64>) -> Option<R>) -> Option<R> {
        // SAFETY: the shared memory lives until the context is destroyed, which is after the last use.
        unsafe {
            pg_sys::WaitForParallelWorkersToAttach(self.context);
            load(self.shared, self.arena, self.heap, self.index, self.info, &self.identity, true);
            pg_sys::WaitForParallelWorkersToFinish(self.context);
            let shared = &*self.shared;
            let is_full = shared.is_full.load(Ordering::Acquire);
            let rows = (!is_full).then(|| shared.heap_rows.load(Ordering::Acquire) as f64);
            let arena = arena_of(self.arena, shared.arena_bytes, &self.identity);
            let result = finish(arena, rows);
            self.end();
            result
        }
    }

    unsafe fn end(self) {
        // SAFETY: begun, and not ended.
        unsafe {
            if self.is_mvcc {
                pg_sys::UnregisterSnapshot(self.snapshot);
            }
            pg_sys::DestroyParallelContext(self.context);
            pg_sys::ExitParallelMode();
        }
    }
}

unsafe fn scan_of(shared: *mut Shared) -> pg_sys::ParallelTableScanDesc {
    // SAFETY: the shared block was made long enough.
    unsafe { shared.cast::<u8>().add(aligned(size_of::<Shared>())).cast() }
}

unsafe fn arena_of<'m>(memory: *mut std::ffi::c_void, bytes: usize, identity: &Identity) -> Arena<'m> {
    // SAFETY: so many bytes of shared memory, which everybody uses as atomics.
    let words = unsafe { std::slice::from_raw_parts(memory.cast::<AtomicU32>(), bytes / 4) };
    Arena::new(words, ArenaShape::of(identity))
}

/// Scans this participant's part of the table into the arena.
unsafe fn load(
    shared: *mut Shared,
    memory: *mut std::ffi::c_void,
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    identity: &Identity,
    reports: bool,
) {
    // SAFETY: the shared memory and the relations live while this runs.
    unsafe {
        let column = IndexedColumn::of(index).unwrap_or_report();
        let codec = identity.codec();
        let arena = arena_of(memory, (*shared).arena_bytes, identity);
        let mut loader = Loader::new(column, &codec, identity, arena);
        loader.reports = reports;
        loader.hold_out_share = (*shared).hold_out_share;
        let scan = pg_sys::table_beginscan_parallel(heap, scan_of(shared));
        let state = (&raw mut loader).cast();
        let rows = table::index_build_scan(heap, index, info, reports, Some(load_row), state, scan);
        (*shared).heap_rows.fetch_add(rows as u64, Ordering::AcqRel);
        if loader.is_full {
            (*shared).is_full.store(true, Ordering::Release);
        }
    }
}

/// What a parallel worker runs.
///
/// # Safety
/// Called by PostgreSQL.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn pg_rag_hnsw_build_worker(
    _segment: *mut pg_sys::dsm_segment,
    toc: *mut pg_sys::shm_toc,
) {
    // SAFETY: the leader has put these into the table of contents.
    unsafe {
        let text = pg_sys::shm_toc_lookup(toc, KEY_QUERY_TEXT, true).cast::<std::ffi::c_char>();
        if !text.is_null() {
            pg_sys::debug_query_string = text;
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text);
        }
        let shared = pg_sys::shm_toc_lookup(toc, KEY_SHARED, false).cast::<Shared>();
        let memory = pg_sys::shm_toc_lookup(toc, KEY_ARENA, false);
        let is_concurrent = (*shared).is_concurrent;
        let (heap_lock, index_lock) = match is_concurrent {
            true => (pg_sys::ShareUpdateExclusiveLock, pg_sys::RowExclusiveLock),
            false => (pg_sys::ShareLock, pg_sys::AccessExclusiveLock),
        };
        let heap = pg_sys::table_open((*shared).heap, heap_lock as pg_sys::LOCKMODE);
        let index = pg_sys::index_open((*shared).index, index_lock as pg_sys::LOCKMODE);
        let info = pg_sys::BuildIndexInfo(index);
        (*info).ii_Concurrent = is_concurrent;
        let column = IndexedColumn::of(index).unwrap_or_report();
        let options = super::options::Options::of(index);
        let IndexedColumn { element, metric, dimensions } = column;
        let (m, ef) = (options.m, options.ef_construction);
        let identity = Identity::of_column(element, metric, dimensions, m, ef, (*shared).seed);
        load(shared, memory, heap, index, info, &identity, false);
        pg_sys::index_close(index, index_lock as pg_sys::LOCKMODE);
        pg_sys::table_close(heap, heap_lock as pg_sys::LOCKMODE);
    }
}
