//! Building with PostgreSQL's parallel workers: the arena lies in dynamic shared memory, everybody scans a part of the
//! table into it, and the leader writes the index.

use super::load::{hold_out_share, load_row, Loader};
use super::memory::Estimate;
use super::opclass::IndexColumns;
use crate::pg::parallel::{block_of, show_query_text, Workers};
use crate::pg::table;
use pg_rag_engine::hnsw::build::{Arena, ArenaShape};
use pg_rag_engine::hnsw::page::meta::Identity;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{pg_guard, pg_sys};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

// Blocks of shared memory.
const KEY_SHARED: u64 = 1;
const KEY_ARENA: u64 = 2;

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

/// Where the scan's state begins.
const SCAN_OFFSET: usize = size_of::<Shared>().next_multiple_of(64);

/// A build that is under way.
pub struct Build {
    workers: Workers,
    snapshot: pg_sys::Snapshot,
    is_mvcc: bool,
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
            // CREATE INDEX CONCURRENTLY sees what its snapshot shows, otherwise all rows are looked at.
            let snapshot = match is_concurrent {
                true => pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()),
                false => &raw mut pg_sys::SnapshotAnyData,
            };
            let let_go = || {
                if is_concurrent {
                    pg_sys::UnregisterSnapshot(snapshot);
                }
            };
            let arena_bytes = estimate.shared_bytes().next_multiple_of(64);
            let shared_bytes = SCAN_OFFSET + pg_sys::table_parallelscan_estimate(heap, snapshot);
            let blocks = [(KEY_SHARED, shared_bytes), (KEY_ARENA, arena_bytes)];
            let Some(workers) = Workers::begin(c"pg_rag_hnsw_build_worker", workers, &blocks) else {
                let_go();
                return None;
            };
            let shared = workers.block(KEY_SHARED).cast::<Shared>();
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
            if !workers.launch() {
                workers.end();
                let_go();
                return None;
            }
            let identity = identity.clone();
            Some(Build { workers, snapshot, is_mvcc: is_concurrent, heap, index, info, identity })
        }
    }

    /// Loads the table together with the workers, and calls `finish` with the arena and the number of rows seen; None
    /// instead of the number if the arena was too small.
    ///
    /// # Safety
    /// Called once, in the process that began it.
    pub unsafe fn run<R>(self, finish: impl FnOnce(Arena<'_>, Option<f64>) -> Option<R>) -> Option<R> {
        // SAFETY: the shared memory lives until the workers are ended, which is after the last use.
        unsafe {
            let memory = self.workers.block(KEY_ARENA);
            let shared = self.workers.block(KEY_SHARED).cast::<Shared>();
            load(shared, memory, self.heap, self.index, self.info, &self.identity, true);
            self.workers.wait();
            let is_full = (*shared).is_full.load(Ordering::Acquire);
            let rows = (!is_full).then(|| (*shared).heap_rows.load(Ordering::Acquire) as f64);
            let result = finish(arena_of(memory, (*shared).arena_bytes, &self.identity), rows);
            self.workers.end();
            if self.is_mvcc {
                pg_sys::UnregisterSnapshot(self.snapshot);
            }
            result
        }
    }
}

unsafe fn scan_of(shared: *mut Shared) -> pg_sys::ParallelTableScanDesc {
    // SAFETY: the shared block was made long enough.
    unsafe { shared.cast::<u8>().add(SCAN_OFFSET).cast() }
}

/// The arena in a block of shared memory.
///
/// # Safety
/// The block has so many bytes, and lives as long as the arena.
pub unsafe fn arena_of<'m>(memory: *mut std::ffi::c_void, bytes: usize, identity: &Identity) -> Arena<'m> {
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
        let columns = IndexColumns::of(index).unwrap_or_report();
        let codec = identity.build_codec();
        let arena = arena_of(memory, (*shared).arena_bytes, identity);
        let mut loader = Loader::new(columns, &codec, identity, arena);
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

/// The table and index of a build, opened in a worker under the locks that the leader has.
pub struct WorkerRelations {
    pub heap: pg_sys::Relation,
    pub index: pg_sys::Relation,
    locks: (pg_sys::LOCKMODE, pg_sys::LOCKMODE),
}

impl WorkerRelations {
    /// # Safety
    /// Called in a parallel worker of a build of this index.
    pub unsafe fn open(heap: pg_sys::Oid, index: pg_sys::Oid, is_concurrent: bool) -> Self {
        let locks = match is_concurrent {
            true => (pg_sys::ShareUpdateExclusiveLock, pg_sys::RowExclusiveLock),
            false => (pg_sys::ShareLock, pg_sys::AccessExclusiveLock),
        };
        let locks = (locks.0 as pg_sys::LOCKMODE, locks.1 as pg_sys::LOCKMODE);
        // SAFETY: the caller's promise.
        unsafe {
            let (heap, index) = (pg_sys::table_open(heap, locks.0), pg_sys::index_open(index, locks.1));
            WorkerRelations { heap, index, locks }
        }
    }

    /// What the index is, with the seed that the leader has drawn.
    pub fn identity(&self, seed: u64) -> Identity {
        // SAFETY: the index is open.
        let (columns, options) =
            unsafe { (IndexColumns::of(self.index).unwrap_or_report(), super::options::Options::of(self.index)) };
        columns.identity(options.m, options.ef_construction, seed)
    }

    pub fn close(self) {
        // SAFETY: opened, and not closed.
        unsafe {
            pg_sys::index_close(self.index, self.locks.1);
            pg_sys::table_close(self.heap, self.locks.0);
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
        show_query_text(toc);
        let shared = block_of(toc, KEY_SHARED).cast::<Shared>();
        let memory = block_of(toc, KEY_ARENA);
        let relations = WorkerRelations::open((*shared).heap, (*shared).index, (*shared).is_concurrent);
        let info = pg_sys::BuildIndexInfo(relations.index);
        (*info).ii_Concurrent = (*shared).is_concurrent;
        let identity = relations.identity((*shared).seed);
        load(shared, memory, relations.heap, relations.index, info, &identity, false);
        relations.close();
    }
}
