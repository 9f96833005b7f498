//! Building in parts, with PostgreSQL's parallel workers if there are any: the leader fills the arena with the rows of
//! a part, everybody links them, and the leader writes their lists to temporary files before the next part.
//!
//! Workers look for rows that wait in the arena, and sleep until there are some. The leader knows that a part is done when
//! none waits and no worker is at work: a worker says so before it takes its first row, and until it has linked its last.

use super::build::write_pages;
use super::errors::IndexError;
use super::memory::{Estimate, Memory};
use super::parallel::{arena_of, WorkerRelations};
use super::store::RelationStore;
use super::temp_files::BufFiles;
use crate::pg::buffer::{RecentBuffers, RelationBuffers};
use crate::pg::parallel::{block_of, show_query_text, Workers};
use crate::pg::progress;
use pg_rag_engine::hnsw::build::parts::{PartedBuild, Phase, Progress, Team};
use pg_rag_engine::hnsw::build::{Arena, Builder};
use pg_rag_engine::hnsw::index::Index;
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::Meta;
use pgrx::{pg_guard, pg_sys};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Phases as `pg_stat_progress_create_index` shows them, after those of a build in memory.
const PHASE_DIVIDE: i64 = 6;
const PHASE_PARTS: i64 = 7;
const PHASE_ABOVE: i64 = 8;
const PHASE_COMPLETE: i64 = 9;

/// The name of a phase of a build in parts.
pub fn phase_name(phase: i64) -> Option<&'static std::ffi::CStr> {
    Some(match phase {
        PHASE_DIVIDE => c"dividing tuples into parts",
        PHASE_PARTS => c"building parts",
        PHASE_ABOVE => c"building upper levels",
        PHASE_COMPLETE => c"connecting parts and measuring recall",
        _ => return None,
    })
}

// Blocks of shared memory.
const KEY_SHARED: u64 = 1;
const KEY_ARENA: u64 = 2;

/// What leader and workers share, besides the arena.
#[repr(C)]
struct Shared {
    heap: pg_sys::Oid,
    index: pg_sys::Oid,
    is_concurrent: bool,
    seed: u64,
    arena_bytes: usize,
    /// Workers that are linking.
    at_work: AtomicU32,
    /// There will be no more parts.
    is_done: AtomicBool,
    /// Workers wait here for rows or the end, the leader for workers.
    more: pg_sys::ConditionVariable,
    idle: pg_sys::ConditionVariable,
}

/// The index that is built, and its table.
pub struct Target {
    pub heap: pg_sys::Relation,
    pub index: pg_sys::Relation,
    pub is_concurrent: bool,
}

/// Builds the parts, writes the pages and completes them.
pub fn finish(
    target: &Target,
    parts: PartedBuild<'_, BufFiles>,
    identity: &Identity,
    estimate: &Estimate,
) -> Result<(), IndexError> {
    let arena_bytes = parts.arena_bytes(estimate.own_bytes());
    // SAFETY: the relations are open; the workers' memory lives until they are ended, after its last use.
    unsafe {
        let meta = Meta::empty(identity.clone())?;
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        let remainder = match begin_workers(target, identity, arena_bytes) {
            Some(workers) => {
                let shared = workers.block(KEY_SHARED).cast::<Shared>();
                let arena = arena_of(workers.block(KEY_ARENA), arena_bytes, identity);
                let mut team = Leader { phase: None, shared: Some(&*shared) };
                let (mut graph, remainder) = parts.finish(arena, &mut team)?;
                (*shared).is_done.store(true, Ordering::Release);
                pg_sys::ConditionVariableBroadcast(&raw mut (*shared).more);
                workers.wait();
                write_pages(target.index, main, meta, &mut graph);
                drop(graph);
                workers.end();
                remainder
            }
            None => {
                let memory = Memory::new(arena_bytes);
                let arena = memory.arena(identity);
                let (mut graph, remainder) = parts.finish(arena, &mut Leader::default())?;
                write_pages(target.index, main, meta, &mut graph);
                remainder
            }
        };
        progress::phase(PHASE_COMPLETE);
        let store = RelationStore::unlogged(RelationBuffers::new(target.index, RecentBuffers::default()));
        Index::open(store, None)?.complete(&remainder)?;
    }
    Ok(())
}

/// Starts workers; None if there are none to be had.
unsafe fn begin_workers(target: &Target, identity: &Identity, arena_bytes: usize) -> Option<Workers> {
    // SAFETY: the relations are open.
    unsafe {
        let (heap, index) = ((*target.heap).rd_id, (*target.index).rd_id);
        let count = pg_sys::plan_create_index_workers(heap, index);
        if count <= 0 {
            return None;
        }
        let blocks = [(KEY_SHARED, size_of::<Shared>()), (KEY_ARENA, arena_bytes)];
        let workers = Workers::begin(c"pg_rag_hnsw_link_worker", count, &blocks)?;
        let shared = workers.block(KEY_SHARED).cast::<Shared>();
        (&raw mut (*shared).heap).write(heap);
        (&raw mut (*shared).index).write(index);
        (&raw mut (*shared).is_concurrent).write(target.is_concurrent);
        (&raw mut (*shared).seed).write(identity.code_seed);
        (&raw mut (*shared).arena_bytes).write(arena_bytes);
        pg_sys::ConditionVariableInit(&raw mut (*shared).more);
        pg_sys::ConditionVariableInit(&raw mut (*shared).idle);
        if workers.launch() {
            return Some(workers);
        }
        workers.end();
        None
    }
}

/// The process that runs the build, and reports what it does.
#[derive(Default)]
pub struct Leader<'s> {
    phase: Option<Phase>,
    shared: Option<&'s Shared>,
}

impl Team<IndexError> for Leader<'_> {
    fn report(&mut self, phase: Phase, done: u64, total: u64) -> Result<(), IndexError> {
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            progress::phase(match phase {
                Phase::Divide => PHASE_DIVIDE,
                Phase::Parts => PHASE_PARTS,
                Phase::Above => PHASE_ABOVE,
            });
            progress::tuples_total(total as i64);
        }
        progress::tuples_done(done as i64);
        Ok(())
    }

    fn check(&mut self) -> Result<(), IndexError> {
        pgrx::check_for_interrupts!();
        Ok(())
    }

    fn link(
        &mut self,
        arena: Arena<'_>,
        builder: &mut Builder<'_, '_>,
        progress: &mut Progress,
    ) -> Result<(), IndexError> {
        let Some(shared) = self.shared else { return self.link_alone(builder, progress) };
        wake(&shared.more);
        let before = u64::from(arena.nodes());
        let mut seen = 0;
        while builder.link_waiting() {
            let linked = u64::from(arena.nodes()) - before;
            progress.advance(linked - seen, self)?;
            seen = linked;
        }
        sleep_until(&shared.idle, || shared.at_work.load(Ordering::SeqCst) == 0);
        progress.advance(u64::from(arena.nodes()) - before - seen, self)
    }
}

fn wake(condition: &pg_sys::ConditionVariable) {
    // SAFETY: initialised, in shared memory; PostgreSQL locks it.
    unsafe { pg_sys::ConditionVariableBroadcast(std::ptr::from_ref(condition).cast_mut()) };
}

/// Sleeps until `is_true`, which is looked at whenever somebody wakes the condition. May be cancelled.
fn sleep_until(condition: &pg_sys::ConditionVariable, is_true: impl Fn() -> bool) {
    let condition = std::ptr::from_ref(condition).cast_mut();
    // SAFETY: initialised, in shared memory; PostgreSQL locks it.
    unsafe {
        pg_sys::ConditionVariablePrepareToSleep(condition);
        while !is_true() {
            pg_sys::ConditionVariableSleep(condition, pg_sys::PG_WAIT_EXTENSION);
        }
        pg_sys::ConditionVariableCancelSleep();
    }
}

/// What a parallel worker runs: it links rows of parts until there are no more.
///
/// # Safety
/// Called by PostgreSQL.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn pg_rag_hnsw_link_worker(_segment: *mut pg_sys::dsm_segment, toc: *mut pg_sys::shm_toc) {
    // SAFETY: the leader has put these into the table of contents.
    unsafe {
        show_query_text(toc);
        let shared = &*block_of(toc, KEY_SHARED).cast::<Shared>();
        let relations = WorkerRelations::open(shared.heap, shared.index, shared.is_concurrent);
        let identity = relations.identity(shared.seed);
        let codec = identity.build_codec();
        let arena = arena_of(block_of(toc, KEY_ARENA), shared.arena_bytes, &identity);
        let mut builder = Builder::new(arena, &codec, identity.code_seed, identity.ef_construction);
        loop {
            // Said before a row is taken, so that the leader waits until it is linked.
            shared.at_work.fetch_add(1, Ordering::SeqCst);
            while builder.link_waiting() {
                pgrx::check_for_interrupts!();
            }
            if shared.at_work.fetch_sub(1, Ordering::SeqCst) == 1 {
                wake(&shared.idle);
            }
            if shared.is_done.load(Ordering::Acquire) {
                break;
            }
            sleep_until(&shared.more, || arena.has_waiting() || shared.is_done.load(Ordering::Acquire));
        }
        relations.close();
    }
}
