//! CREATE INDEX: the rows of a table go into a graph in memory, which is then written in its final order.
//!
//! With parallel workers (`parallel.rs`) the memory is shared. Memory is bounded by `maintenance_work_mem`: if the
//! graph does not fit, it is built in parts (`parts.rs`) out of temporary files. A warning announces that before the
//! build starts if the table's estimated size says so. Nothing is logged until the end, when all pages are at once.

use super::errors::IndexError;
use super::load::{hold_out_share, load_row, Loader, Parts};
use super::memory::{Estimate, Memory};
use super::opclass::IndexColumns;
use super::options::Options;
use super::parts::{self, Target};
use super::store::set_header;
use super::temp_files::BufFiles;
use super::{cache, parallel};
use crate::pg::{buffer, progress, table};
use pg_rag_engine::code::Codec;
use pg_rag_engine::hnsw::build::parts::PartedBuild;
use pg_rag_engine::hnsw::build::{calibrate, Arena, ArenaShape, Builder, FinishedGraph};
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::write::{write_graph, BuiltGraph, WriteError};
use pg_rag_engine::hnsw::page::{Meta, Page};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{pg_guard, pg_sys, PgBox, PgSqlErrorCode};

/// Phases as `pg_stat_progress_create_index` shows them; 1 is PostgreSQL's "initializing".
const PHASE_LOAD: i64 = 2;
const PHASE_CALIBRATE: i64 = 3;
const PHASE_NUMBER: i64 = 4;
const PHASE_WRITE: i64 = 5;

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
        _ => match parts::phase_name(phase) {
            Some(name) => name,
            None => return std::ptr::null_mut(),
        },
    };
    name.as_ptr().cast_mut()
}

/// What an index that is created now is.
///
/// # Safety
/// `index` is open.
unsafe fn identity(index: pg_sys::Relation) -> Result<(IndexColumns, Identity), ErrorReport> {
    // SAFETY: the caller's promise.
    let (columns, options) = unsafe { (IndexColumns::of(index)?, Options::of(index).check()?) };
    let mut seed = [0u8; 8];
    // SAFETY: fills the bytes.
    if !unsafe { pg_sys::pg_strong_random(seed.as_mut_ptr().cast(), seed.len()) } {
        let message = "could not draw a random number";
        return Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message, "hnsw"));
    }
    let identity = columns.identity(options.m, options.ef_construction, u64::from_le_bytes(seed));
    Ok((columns, identity))
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
        let arena = Arena::new(&[], ArenaShape::of(&meta.identity));
        write_pages(index, fork, meta, &mut FinishedGraph::empty(arena));
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
        let (columns, identity) = identity(index).unwrap_or_report();
        let codec = identity.build_codec();
        let shape = ArenaShape::of(&identity);
        let estimate =
            Estimate::of(heap, shape.mean_node_bytes(identity.code_bytes_estimate() + identity.row_keys().bytes()));
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
        let (heap_rows, index_rows) = built.unwrap_or_else(|| {
            cache::or_raise(build_alone(heap, index, info, &columns, &identity, &codec, &estimate), index)
        });
        if buffer::needs_wal(index) {
            let blocks = buffer::blocks(index);
            pg_sys::log_newpage_range(index, pg_sys::ForkNumber::MAIN_FORKNUM, 0, blocks, true);
        }
        (*result).heap_tuples = heap_rows;
        (*result).index_tuples = index_rows;
        result
    }
}

/// Builds without workers.
unsafe fn build_alone(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    columns: &IndexColumns,
    identity: &Identity,
    codec: &Codec,
    estimate: &Estimate,
) -> Result<(f64, f64), IndexError> {
    let files = BufFiles::in_current_context();
    let (memory, parts) = match estimate.fits() {
        true => (Memory::new(estimate.own_bytes()), Parts::Later(identity, files)),
        false => (Memory::new(0), Parts::Begun(PartedBuild::new(identity, codec, files)?)),
    };
    let arena = memory.arena(identity);
    let mut loader = Loader::new(columns.clone(), codec, identity, arena);
    loader.reports = true;
    loader.hold_out_share = hold_out_share(estimate.rows);
    loader.parts = parts;
    // SAFETY: the relations are open; the loader lives until the scan has ended.
    let heap_rows = unsafe {
        let state = (&raw mut loader).cast();
        table::index_build_scan(heap, index, info, true, Some(load_row), state, std::ptr::null_mut())
    };
    let Loader { parts, .. } = loader;
    match parts {
        Parts::Begun(build) => {
            drop(memory);
            let rows = build.rows();
            // SAFETY: PostgreSQL's argument.
            let is_concurrent = unsafe { (*info).ii_Concurrent };
            parts::finish(&Target { heap, index, is_concurrent }, build, identity, estimate)?;
            Ok((heap_rows, rows as f64))
        }
        Parts::Later(..) | Parts::Never => Ok(finish(index, arena, codec, identity, heap_rows)),
    }
}

/// Numbers the nodes and writes the pages. Gives the rows of the table, and those in the index.
pub fn finish(
    index: pg_sys::Relation,
    arena: Arena<'_>,
    codec: &Codec,
    identity: &Identity,
    heap_rows: f64,
) -> (f64, f64) {
    progress::phase(PHASE_CALIBRATE);
    let calibration = calibrate::measure(arena, codec, interrupts).unwrap_or_else(|never| match never {});
    Builder::new(arena, codec, identity.code_seed, identity.ef_construction).take_held_out();
    progress::tuples_done(i64::from(arena.rows()));
    progress::phase(PHASE_NUMBER);
    let mut graph = FinishedGraph::new(arena, codec, interrupts).unwrap_or_else(|never| match never {});
    progress::phase(PHASE_WRITE);
    let mut meta = cache::or_raise(Meta::empty(identity.clone()).map_err(IndexError::from), index);
    meta.calibration = calibration;
    // SAFETY: the index is open, and its fork empty.
    unsafe { write_pages(index, pg_sys::ForkNumber::MAIN_FORKNUM, meta, &mut graph) };
    (heap_rows, f64::from(arena.rows()))
}

fn interrupts() -> Result<(), std::convert::Infallible> {
    pgrx::check_for_interrupts!();
    Ok(())
}

/// Writes all pages of an empty fork.
///
/// # Safety
/// The index is open.
pub unsafe fn write_pages<G: BuiltGraph<Error: Into<IndexError>>>(
    index: pg_sys::Relation,
    fork: pg_sys::ForkNumber::Type,
    meta: Meta,
    graph: &mut G,
) {
    let mut page_with_header: Box<Page> = Box::new([0; pg_rag_engine::hnsw::page::PAGE_BYTES]);
    let written = write_graph(meta, graph, |block, page| {
        if block % 128 == 0 {
            pgrx::check_for_interrupts!();
        }
        page_with_header.copy_from_slice(page);
        set_header(&mut page_with_header);
        // SAFETY: the index is open.
        unsafe { buffer::append(index, fork, &page_with_header) };
        Ok(())
    });
    match written {
        Ok(_) => {}
        Err(WriteError::Page(error)) => cache::or_raise(Err(IndexError::Page(error)), index),
        Err(WriteError::Storage(error)) => cache::or_raise(Err(error.into()), index),
    }
}
