//! The index on pages in memory: recall after builds, insertions and vacuums, duplicates, crashes after every change.

mod crash;
mod damage;
mod disturbed;
mod filtered;
mod lifecycle;

use super::insert::Inserter;
use super::memory::{MemoryError, MemoryStore};
use super::{CheckReport, Index, Scan};
use crate::code::Values;
use crate::hnsw::build::{Arena, ArenaShape, Builder, FinishedGraph, Inserted};
use crate::hnsw::filter::KeyRow;
use crate::hnsw::page::meta::Identity;
use crate::hnsw::page::store::MemoryPages;
use crate::hnsw::page::write::{write_graph, BuiltGraph};
use crate::hnsw::page::{ElementType, HeapTid, Meta, Metric, PageError};
use crate::test_scale::scaled;
use std::sync::atomic::AtomicU32;

/// Numbers that look random, the same in every run.
pub(in crate::hnsw) struct Numbers(u64);

impl Numbers {
    pub(in crate::hnsw) fn new(seed: u64) -> Self {
        Numbers(seed)
    }

    pub(in crate::hnsw) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(in crate::hnsw) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}

/// Dimensions of vectors whose codes are quantised; under Miri so few that they are exact ones, which are made in a tenth
/// of the time.
pub(in crate::hnsw) const WIDE: usize = scaled(64, 8);

/// Vectors in clusters.
pub(in crate::hnsw) fn vectors(count: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    const CENTRES: usize = scaled(20, 4);
    let mut numbers = Numbers::new(seed);
    let centres: Vec<Vec<f32>> =
        (0..CENTRES).map(|_| (0..dimensions).map(|_| 2.0 * numbers.unit()).collect()).collect();
    (0..count)
        .map(|_| {
            let centre = &centres[numbers.below(CENTRES as u64) as usize];
            centre.iter().map(|centre| centre + numbers.unit()).collect()
        })
        .collect()
}

pub(in crate::hnsw) fn tid(row: usize) -> HeapTid {
    HeapTid::new(row as u32, 1).unwrap()
}

pub(in crate::hnsw) fn identity(dimensions: u32, metric: Metric, m: u16) -> Identity {
    // Under Miri, short lists: most of an insertion is comparing neighbours.
    let (m, ef_construction) = (m.min(scaled(m, 4)), scaled(64, 16));
    Identity::of_column(ElementType::Vector, metric, dimensions, m, ef_construction, 0xC0DE)
}

/// An index built of these vectors.
pub(in crate::hnsw) fn built(vectors: &[Vec<f32>], identity: Identity) -> Index<MemoryStore> {
    built_with_keys(vectors, identity, |_| Vec::new())
}

/// An index built of these vectors and of the keys of their rows.
pub(in crate::hnsw) fn built_with_keys(
    vectors: &[Vec<f32>],
    identity: Identity,
    keys: impl Fn(usize) -> Vec<Option<u128>>,
) -> Index<MemoryStore> {
    let (codec, row_keys) = (identity.build_codec(), identity.row_keys());
    let shape = ArenaShape::of(&identity);
    let record_bytes = codec.code_bytes() + row_keys.bytes();
    let words_count = 64 + vectors.len() * shape.mean_node_bytes(record_bytes) / 4 * 3 / 2;
    let words: Vec<AtomicU32> = (0..words_count).map(|_| AtomicU32::new(0)).collect();
    let arena = Arena::new(&words, shape);
    let mut builder = Builder::new(arena, &codec, identity.code_seed, identity.ef_construction);
    for (row, vector) in vectors.iter().enumerate() {
        let mut code = vec![0; codec.code_bytes()];
        codec.encode(Values::Single(vector), &mut code).unwrap();
        row_keys.append(&keys(row), &mut code);
        let query = codec.query(Values::Single(vector)).unwrap();
        assert_ne!(builder.insert(&code, &query, tid(row)), Inserted::Full);
    }
    let mut graph = FinishedGraph::new(arena, &codec, || Ok::<_, PageError>(())).unwrap();
    written(identity, &mut graph)
}

/// The index that a built graph is written to.
pub(in crate::hnsw) fn written<G: BuiltGraph<Error: std::fmt::Debug>>(
    identity: Identity,
    graph: &mut G,
) -> Index<MemoryStore> {
    let mut pages = MemoryPages::new();
    write_graph(Meta::empty(identity).unwrap(), graph, |block, page| {
        pages.extend_to(block + 1);
        *pages.page_mut(block).unwrap() = *page;
        Ok(())
    })
    .unwrap();
    Index::open(MemoryStore::new(pages), None).unwrap()
}

/// An empty index.
pub(super) fn empty(identity: Identity) -> Index<MemoryStore> {
    built(&[], identity)
}

pub(in crate::hnsw) fn insert(index: &mut Index<MemoryStore>, vector: &[f32], row: usize) -> Result<(), MemoryError> {
    match index.insert(&mut Inserter::default(), Values::Single(vector), KeyRow::NONE, tid(row)) {
        Ok(()) => Ok(()),
        Err(super::insert::InsertError::Store(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// The rows that a scan gives, all of them or until there are `limit`, by exact distance within a batch.
pub(in crate::hnsw) fn search(
    index: &mut Index<MemoryStore>,
    query: &[f32],
    vectors: &[Vec<f32>],
    ef: usize,
    limit: usize,
) -> Vec<usize> {
    let metric = match index.shape().identity.metric {
        Metric::Cosine => crate::distance::Metric::Cosine,
        Metric::InnerProduct => crate::distance::Metric::InnerProduct,
        Metric::L1 => crate::distance::Metric::L1,
        _ => crate::distance::Metric::L2,
    };
    let mut scan = Scan::default();
    let mut batch = Vec::new();
    let prepared = index.shape().codec.query(Values::Single(query)).unwrap();
    index.begin_scan(&mut scan, prepared, ef, &mut batch).unwrap();
    let mut rows = Vec::new();
    loop {
        let mut found = Vec::new();
        let mut tids = Vec::new();
        for candidate in &batch {
            assert!(candidate.bound <= candidate.distance || index.shape().codec.is_exact());
            index.heap_tids(candidate.node, candidate.row, &mut tids).unwrap();
            for tid in &tids {
                let row = tid.block() as usize;
                found.push((metric.distance(query, vectors[row].as_slice()).unwrap(), row));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        rows.extend(found.into_iter().map(|(_, row)| row));
        if rows.len() >= limit || !index.continue_scan(&mut scan, usize::MAX, &mut batch).unwrap() {
            rows.truncate(limit);
            return rows;
        }
    }
}

/// The rows nearest to a query, exactly, among those that `exists` says.
pub(super) fn exact(
    query: &[f32],
    vectors: &[Vec<f32>],
    metric: crate::distance::Metric,
    limit: usize,
    exists: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut all: Vec<(f64, usize)> = (0..vectors.len())
        .filter(|&row| exists(row))
        .map(|row| (metric.distance(query, vectors[row].as_slice()).unwrap(), row))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().take(limit).map(|(_, row)| row).collect()
}

/// The check finds nothing, and all live nodes can be reached.
pub(super) fn assert_sound(index: &mut Index<MemoryStore>) -> CheckReport {
    let report = index.check().unwrap();
    assert_eq!(report.findings, [], "{report:?}");
    assert_eq!(report.reachable_nodes, report.live_nodes, "{report:?}");
    report
}
