//! Builds in parts: whatever the rows are and however little memory there is, the index holds every row once, all of its
//! nodes can be reached, and the check finds nothing.
//!
//! The input says metric, m, how many nodes fit into the memory, and how many rows are held out to measure recall; then it
//! gives rows, four letters of a small alphabet each, some of them several times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_rag_engine::code::Values;
use pg_rag_engine::hnsw::build::parts::files::{EndOfFile, MemoryFiles};
use pg_rag_engine::hnsw::build::parts::{PartedBuild, Phase, Progress, Team};
use pg_rag_engine::hnsw::build::{Arena, ArenaShape, Builder};
use pg_rag_engine::hnsw::index::Index;
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pg_rag_fuzz::decisions::Decisions;
use pg_rag_fuzz::indexes::{pages_of, scan, tid, words};
use pg_rag_fuzz::watched::WatchedStore;

const MOST_ROWS: usize = 300;
/// Elements that the input gives for a vector.
const LETTERS: usize = 4;
/// With 64 dimensions a vector is its letters again and again, and codes have 8 bits.
const DIMENSIONS: [usize; 2] = [LETTERS, 64];
const ALPHABET: [f32; 16] =
    [0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1e-3, 100.0, 1.001, 0.999, -0.5, 7.0, 1e3, -1e3, 1e-6, 3.5];
const METRICS: [Metric; 4] = [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1];
/// The smallest memory, in nodes: below that rows are left out, and no caller gives less than a thousand.
const LEAST_NODES: usize = 24;
const MOST_BATCHES: usize = 64;

/// One worker.
struct Alone;

impl Team<EndOfFile> for Alone {
    fn report(&mut self, phase: Phase, done: u64, total: u64) -> Result<(), EndOfFile> {
        assert!(done <= total, "{phase:?}: {done} of {total}");
        Ok(())
    }

    fn check(&mut self) -> Result<(), EndOfFile> {
        Ok(())
    }

    fn link(&mut self, _: Arena<'_>, builder: &mut Builder<'_, '_>, progress: &mut Progress) -> Result<(), EndOfFile> {
        self.link_alone(builder, progress)
    }
}

/// The rows that the input gives.
fn rows(input: &mut Decisions<'_>, dimensions: usize, metric: Metric) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    let alphabet = [2, 4, 8, 16][input.below(4)];
    while let (Some(first), true) = (input.next(), rows.len() < MOST_ROWS) {
        let second = input.byte();
        let letters = [first & 15, first >> 4, second & 15, second >> 4];
        let mut letters = letters.map(|letter| ALPHABET[usize::from(letter) % alphabet]);
        if letters == [0.0; LETTERS] {
            // Such a row is followed by a number: so many more of the row before.
            let times = usize::from(input.byte() / 2).min(MOST_ROWS - rows.len());
            if let Some(last) = rows.last().cloned() {
                rows.extend(std::iter::repeat_n(last, times));
            }
            if metric == Metric::Cosine {
                // It has no direction, and is never in such an index.
                letters[0] = 1.0;
            }
        }
        if rows.len() < MOST_ROWS {
            rows.push(letters.iter().copied().cycle().take(dimensions).collect());
        }
    }
    rows
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Decisions::new(bytes);
    let metric = METRICS[input.below(METRICS.len())];
    let dimensions = DIMENSIONS[input.below(8) / 7];
    let m = 2 + input.below(7) as u16;
    let nodes = LEAST_NODES + usize::from(input.byte());
    let held_every = 1 + usize::from(input.byte());
    let identity =
        Identity::of_column(ElementType::Vector, metric, dimensions as u32, m, 4 + input.below(30) as u16, 7);
    let rows = rows(&mut input, dimensions, metric);

    let codec = identity.codec();
    let shape = ArenaShape::of(&identity);
    let Ok(mut build) = PartedBuild::new(&identity, &codec, MemoryFiles) else { return };
    let mut code = Vec::new();
    for (vector, row) in rows.iter().zip(0..) {
        codec.encode_into(Values::Single(vector), &mut code).expect("the vector fits the index");
        let is_held = (row as usize).is_multiple_of(held_every) && row > 0 && build.hold_out(&code, tid(row));
        if !is_held {
            build.add(&code, tid(row)).expect("files in memory");
        }
    }
    let memory = words(16 + nodes * shape.mean_node_bytes(codec.code_bytes()) / 4);
    let (mut graph, remainder) = build.finish(Arena::new(&memory, shape), &mut Alone).expect("files in memory");
    let pages = pages_of(identity, &mut graph);
    let mut index = Index::open(WatchedStore::new(pages), None).expect("what was built is sound");
    index.complete(&remainder).expect("what was built is sound");

    let report = index.check().expect("what was built is sound");
    assert_eq!(report.findings, [], "{report:?}");
    assert_eq!(report.rows, rows.len() as u64, "{report:?}");
    assert_eq!(report.reachable_nodes, report.live_nodes, "{report:?}");
    let Some(first) = rows.first() else { return };
    let query = codec.query(Values::Single(first)).expect("the vector fits the index");
    let batches = scan(&mut index, query, 20, MOST_BATCHES).expect("what was built is sound");
    let mut found: Vec<u32> = batches.into_iter().flatten().flat_map(|(_, rows)| rows).collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..rows.len() as u32), "the search does not find every row once");
});
