//! Builds in parts: as good as builds in memory, whatever the rows are, and however little memory there is.

use std::sync::atomic::AtomicU32;

use super::files::{EndOfFile, MemoryFiles};
use super::{PartedBuild, Phase, Progress, Team};
use crate::code::{Codec, Values};
use crate::hnsw::build::{Arena, ArenaShape, Builder, Inserted};
use crate::hnsw::index::memory::MemoryStore;
use crate::hnsw::index::tests::{built, identity, search, tid, vectors, written, Numbers, WIDE};
use crate::hnsw::index::Index;
use crate::hnsw::page::meta::Identity;
use crate::hnsw::page::Metric;
use crate::test_scale::scaled;

const DIMENSIONS: usize = WIDE;
const QUERIES: usize = scaled(100, 1);

/// The phases gone through.
#[derive(Default)]
struct Phases(Vec<(Phase, u64, u64)>);

impl Team<EndOfFile> for Phases {
    fn report(&mut self, phase: Phase, done: u64, total: u64) -> Result<(), EndOfFile> {
        assert!(done <= total);
        self.0.push((phase, done, total));
        Ok(())
    }

    fn check(&mut self) -> Result<(), EndOfFile> {
        Ok(())
    }

    fn link(
        &mut self,
        _arena: Arena<'_>,
        builder: &mut Builder<'_, '_>,
        progress: &mut Progress,
    ) -> Result<(), EndOfFile> {
        self.link_alone(builder, progress)
    }
}

/// Vectors around a few dozen others, as real ones are.
fn clustered(count: usize, seed: u64) -> Vec<Vec<f32>> {
    const CENTRES: usize = scaled(40, 8);
    let centres = vectors(CENTRES, DIMENSIONS, 1);
    let near = vectors(count, DIMENSIONS, seed);
    let around = |row: usize, vector: Vec<f32>| {
        centres[row * 7 % CENTRES].iter().zip(vector).map(|(centre, noise)| centre + 0.6 * noise).collect()
    };
    near.into_iter().enumerate().map(|(row, vector)| around(row, vector)).collect()
}

fn words(count: usize) -> Vec<AtomicU32> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

fn encode(codec: &Codec, vector: &[f32]) -> Vec<u8> {
    let mut code = Vec::new();
    codec.encode_into(Values::Single(vector), &mut code).unwrap();
    code
}

/// Builds with an arena that holds about so many nodes.
fn built_in_parts(vectors: &[Vec<f32>], identity: Identity, nodes: usize, held_every: usize) -> Index<MemoryStore> {
    let codec = identity.codec();
    let mut build = PartedBuild::new(&identity, &codec, MemoryFiles).unwrap();
    for (row, vector) in vectors.iter().enumerate() {
        let code = encode(&codec, vector);
        if !(row.is_multiple_of(held_every) && build.hold_out(&code, tid(row))) {
            build.add(&code, tid(row)).unwrap();
        }
    }
    assert_eq!(build.rows(), vectors.len() as u64);
    let memory = words(16 + nodes * ArenaShape::of(&identity).mean_node_bytes(codec.code_bytes()) / 4);
    let mut phases = Phases::default();
    let (mut graph, remainder) = build.finish(Arena::new(&memory, ArenaShape::of(&identity)), &mut phases).unwrap();
    assert!(phases.0.is_sorted_by_key(|&(phase, done, _)| (phase as u8, done)));
    let mut index = written(identity, &mut graph);
    index.complete(&remainder).unwrap();
    index
}

/// Every row is found, and nothing is wrong.
fn assert_all_there(index: &mut Index<MemoryStore>, vectors: &[Vec<f32>]) {
    let report = index.check().unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.rows, report.live_nodes - report.reachable_nodes), (vectors.len() as u64, 0));
    let mut rows = search(index, &vectors[0], vectors, 100, usize::MAX);
    rows.sort_unstable();
    assert_eq!(rows, (0..vectors.len()).collect::<Vec<_>>());
}

fn recall(index: &mut Index<MemoryStore>, vectors: &[Vec<f32>], metric: crate::distance::Metric) -> f64 {
    let queries = clustered(QUERIES, 77);
    let mut found = 0;
    for query in &queries {
        let mut exact: Vec<(f64, usize)> = vectors
            .iter()
            .enumerate()
            .map(|(row, vector)| (metric.distance(query, vector.as_slice()).unwrap(), row))
            .collect();
        exact.sort_by(|a, b| a.0.total_cmp(&b.0));
        let tenth = exact[9].0;
        let rows = search(index, query, vectors, 60, 10);
        found += rows.iter().filter(|&&row| metric.distance(query, vectors[row].as_slice()).unwrap() <= tenth).count();
    }
    found as f64 / (10 * QUERIES) as f64
}

#[test]
fn parts_are_as_good_as_one_graph() {
    let vectors = clustered(scaled(5_000, 24), 31);
    for (page_metric, metric) in [
        (Metric::L2, crate::distance::Metric::L2),
        (Metric::Cosine, crate::distance::Metric::Cosine),
        (Metric::InnerProduct, crate::distance::Metric::InnerProduct),
        (Metric::L1, crate::distance::Metric::L1),
    ]
    .into_iter()
    .take(scaled(4, 1))
    {
        let whole = recall(&mut built(&vectors, identity(DIMENSIONS as u32, page_metric, 16)), &vectors, metric);
        let sizes = scaled([4_000, 700, 300], [28, 20, 14]);
        for (nodes, loss) in sizes.into_iter().zip([0.01, 0.02, 0.05]).step_by(scaled(1, 2)) {
            let mut index = built_in_parts(&vectors, identity(DIMENSIONS as u32, page_metric, 16), nodes, 100);
            assert_all_there(&mut index, &vectors);
            let parts = recall(&mut index, &vectors, metric);
            eprintln!("{page_metric:?}, {nodes} nodes at a time: recall {parts:.4}, whole {whole:.4}");
            assert!(parts >= whole - loss, "{page_metric:?}, {nodes} nodes: {parts}, whole {whole}");
        }
    }
}

#[test]
fn equal_rows_are_few_nodes() {
    // Half of the rows are one vector, which alone would be more than the memory.
    const OTHERS: usize = scaled(1_500, 12);
    let mut vectors = clustered(OTHERS, 32);
    for row in 0..OTHERS {
        vectors.insert(2 * row, vec![0.5; DIMENSIONS]);
    }
    let mut index = built_in_parts(&vectors, identity(DIMENSIONS as u32, Metric::L2, 8), scaled(400, 12), usize::MAX);
    assert_all_there(&mut index, &vectors);
    // One node for each time that the memory was filled with them.
    let report = index.check().unwrap();
    assert!((OTHERS + 1..OTHERS + 10).contains(&(report.live_nodes as usize)), "{report:?}");
}

#[test]
fn rows_near_each_other_that_no_part_holds_are_not_lost() {
    // All but a few are so near that they have the same pivots.
    let mut vectors = vectors(scaled(1_000, 24), DIMENSIONS, 33);
    for vector in &mut vectors[scaled(20, 5)..] {
        vector.iter_mut().for_each(|element| *element = 1.0 + *element * 1e-3);
    }
    for metric in [Metric::L2, Metric::InnerProduct].into_iter().take(scaled(2, 1)) {
        let mut index = built_in_parts(&vectors, identity(DIMENSIONS as u32, metric, 8), scaled(100, 15), usize::MAX);
        assert_all_there(&mut index, &vectors);
    }
}

#[test]
fn no_rows_and_few_rows_are_built_too() {
    let vectors = vectors(3, DIMENSIONS, 34);
    for count in 0..3 {
        let mut index = built_in_parts(&vectors[..count], identity(DIMENSIONS as u32, Metric::L2, 16), 200, usize::MAX);
        assert_eq!(index.check().unwrap().findings, []);
        assert_eq!(search(&mut index, &vectors[0], &vectors, 10, usize::MAX).len(), count);
    }
}

#[test]
fn an_arena_that_is_full_goes_on_in_parts() {
    let vectors = clustered(scaled(1_000, 24), 35);
    let identity = identity(DIMENSIONS as u32, Metric::Cosine, 16);
    let codec = identity.codec();
    let memory = words(16 + scaled(500, 12) * ArenaShape::of(&identity).mean_node_bytes(codec.code_bytes()) / 4);
    let arena = Arena::new(&memory, ArenaShape::of(&identity));
    let mut builder = Builder::new(arena, &codec, 7, 64);
    let mut build = PartedBuild::new(&identity, &codec, MemoryFiles).unwrap();
    let mut rows = vectors.iter().enumerate();
    for (row, vector) in &mut rows {
        let code = encode(&codec, vector);
        if row.is_multiple_of(scaled(40, 8)) {
            assert!(builder.hold_out(&code, tid(row)));
        } else if builder.insert(&code, &codec.query(Values::Single(vector)).unwrap(), tid(row)) == Inserted::Full {
            build.add(&code, tid(row)).unwrap();
            break;
        }
    }
    build.take_arena(arena, &mut Phases::default()).unwrap();
    for (row, vector) in rows {
        build.add(&encode(&codec, vector), tid(row)).unwrap();
    }
    let memory = words(memory.len());
    let (mut graph, remainder) =
        build.finish(Arena::new(&memory, ArenaShape::of(&identity)), &mut Phases::default()).unwrap();
    let mut index = written(identity, &mut graph);
    index.complete(&remainder).unwrap();
    assert!(!remainder.held.is_empty());
    assert_all_there(&mut index, &vectors);
}

#[test]
fn rows_that_a_part_does_not_hold_are_no_island() {
    // Clusters that lie apart: with each of these numbers, some part is larger than the arena.
    for number in [6u64, 22].into_iter().take(scaled(2, 1)) {
        let mut numbers = Numbers::new(number);
        let mut near_zero = || {
            let sum: f32 = (0..4).map(|_| numbers.below(1 << 24) as f32 / (1 << 24) as f32).sum();
            (sum - 2.0) * 3f32.sqrt()
        };
        let centres: Vec<Vec<f32>> = (0..12).map(|_| (0..DIMENSIONS).map(|_| near_zero()).collect()).collect();
        let vectors: Vec<Vec<f32>> = (0..scaled(8_000, 24))
            .map(|row| centres[row * 7 % 12].iter().map(|at| at + 0.5 * near_zero()).collect())
            .collect();
        let identity = Identity { code_seed: number, ..identity(DIMENSIONS as u32, Metric::L2, 16) };
        let mut index = built_in_parts(&vectors, identity, scaled(2_000, 15), scaled(800, 12));
        let is_lost = |&row: &usize| search(&mut index, &vectors[row], &vectors, 100, 1) != [row];
        let lost = (0..vectors.len()).filter(is_lost).count();
        assert!(lost <= 1, "number {number}: {lost} rows are not found by their own vectors");
    }
}
