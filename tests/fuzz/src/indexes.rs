//! Indexes in memory: making them, and reading all that is in one.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::atomic::AtomicU32;

use pg_rag_engine::code::{Query, Values};
use pg_rag_engine::hnsw::build::{Arena, ArenaShape, Builder, FinishedGraph, Inserted};
use pg_rag_engine::hnsw::filter::KeyRow;
use pg_rag_engine::hnsw::index::insert::{InsertError, Inserter};
use pg_rag_engine::hnsw::index::{Candidate, Index, PageStore, Scan};
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::store::MemoryPages;
use pg_rag_engine::hnsw::page::write::{write_graph, BuiltGraph};
use pg_rag_engine::hnsw::page::{HeapTid, Meta};

/// A row's place in the table.
pub fn tid(row: u32) -> HeapTid {
    HeapTid::new(row, 1).expect("1 is an offset")
}

/// Words of memory for a build, all zero.
pub fn words(count: usize) -> Vec<AtomicU32> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// The pages of a graph.
pub fn pages_of<G: BuiltGraph<Error: Debug>>(identity: Identity, graph: &mut G) -> MemoryPages {
    let mut pages = MemoryPages::new();
    write_graph(Meta::empty(identity).expect("the identity is valid"), graph, |block, page| {
        pages.extend_to(block + 1);
        *pages.page_mut(block).expect("the block was just added") = *page;
        Ok(())
    })
    .expect("a graph in memory can be written");
    pages
}

/// The pages of an index that is built of these values; of row 0, 1, 2…
pub fn built(identity: Identity, values: &[Values<'_>]) -> MemoryPages {
    let codec = identity.codec();
    let shape = ArenaShape::of(&identity);
    let codes: Vec<Vec<u8>> = values
        .iter()
        .map(|&value| {
            let mut code = Vec::new();
            codec.encode_into(value, &mut code).expect("the value fits the index");
            code
        })
        .collect();
    let bytes: usize = codes.iter().map(|code| shape.mean_node_bytes(code.len())).sum();
    let memory = words(1024 + bytes);
    let arena = Arena::new(&memory, shape);
    let mut builder = Builder::new(arena, &codec, identity.code_seed, identity.ef_construction);
    for ((&value, code), row) in values.iter().zip(&codes).zip(0..) {
        let query = codec.query(value).expect("the value fits the index");
        assert_ne!(builder.insert(code, &query, tid(row)), Inserted::Full);
    }
    let Ok(mut graph) = FinishedGraph::new(arena, &codec, || Ok::<_, Infallible>(()));
    pages_of(identity, &mut graph)
}

/// Inserts a row whose value fits the index.
pub fn insert<S: PageStore>(index: &mut Index<S>, value: Values<'_>, row: u32) -> Result<(), S::Error> {
    match index.insert(&mut Inserter::default(), value, KeyRow::NONE, tid(row)) {
        Ok(()) => Ok(()),
        Err(InsertError::Store(error)) => Err(error),
        Err(InsertError::Code(error)) => panic!("the value fits the index: {error}"),
    }
}

/// The batches of a scan, with the rows of each candidate, until it ends or there are so many batches.
pub fn scan<S: PageStore>(
    index: &mut Index<S>,
    query: Query,
    ef: usize,
    most_batches: usize,
) -> Result<Vec<Vec<(Candidate, Vec<u32>)>>, S::Error> {
    let (mut scan, mut batch) = (Scan::default(), Vec::new());
    index.begin_scan(&mut scan, query, ef, &mut batch)?;
    let mut batches = Vec::new();
    let mut tids = Vec::new();
    loop {
        let mut found = Vec::with_capacity(batch.len());
        for candidate in &batch {
            index.heap_tids(candidate.node, candidate.row, &mut tids)?;
            found.push((*candidate, tids.iter().map(|tid| tid.block()).collect()));
        }
        batches.push(found);
        if batches.len() == most_batches || !index.continue_scan(&mut scan, usize::MAX, &mut batch)? {
            return Ok(batches);
        }
    }
}
