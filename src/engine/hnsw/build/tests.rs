//! Building: by several threads at once, into an arena that is too small, with rows held out, of vectors without an order.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::{calibrate, Arena, ArenaShape, Builder, FinishedGraph, Inserted};
use crate::code::{Codec, Values};
use crate::hnsw::index::tests::{identity, tid, vectors, WIDE};
use crate::hnsw::page::meta::Identity;
use crate::hnsw::page::write::BuiltGraph;
use crate::hnsw::page::Metric;
use crate::test_scale::scaled;

const DIMENSIONS: usize = WIDE;
const HELD_EVERY: usize = scaled(50, 10);

fn words(count: usize) -> Vec<AtomicU32> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

fn insert(builder: &mut Builder<'_, '_>, codec: &Codec, vector: &[f32], row: usize) -> Inserted {
    let mut code = Vec::new();
    codec.encode_into(Values::Single(vector), &mut code).unwrap();
    builder.insert(&code, &codec.query(Values::Single(vector)).unwrap(), tid(row))
}

fn finished<'m>(arena: Arena<'m>, codec: &Codec) -> FinishedGraph<'m> {
    FinishedGraph::new(arena, codec, || Ok::<_, ()>(())).unwrap()
}

/// Every row is in the graph once, and every node can be reached from the entry.
fn assert_whole(mut graph: FinishedGraph<'_>, rows: usize) {
    let (mut tids, mut all) = (Vec::new(), Vec::new());
    for node in 0..graph.nodes() {
        let Ok(()) = graph.heap_tids(node, &mut tids);
        all.extend(tids.iter().map(|tid| tid.block() as usize));
    }
    all.sort_unstable();
    assert_eq!(all, (0..rows).collect::<Vec<_>>());
    let mut reached = vec![false; graph.nodes() as usize];
    let mut open: Vec<u32> = graph.entry().into_iter().collect();
    let mut list = Vec::new();
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut reached[node as usize], true) {
            let Ok(()) = graph.neighbours(node, 0, &mut list);
            assert!(list.len() <= 32 && !list.contains(&node));
            open.extend(&list);
        }
    }
    assert!(reached.iter().all(|&reached| reached));
}

fn built_by_threads(identity: &Identity, vectors: &[Vec<f32>], threads: usize, holds_out: bool) {
    let codec = identity.codec();
    let shape = ArenaShape::of(identity);
    let memory = words(1024 + vectors.len() * shape.mean_node_bytes(codec.code_bytes()) / 4 * 5 / 4);
    let arena = Arena::new(&memory, shape);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut builder = Builder::new(arena, &codec, 7, 64);
                let mut code = Vec::new();
                loop {
                    let row = next.fetch_add(1, Ordering::Relaxed);
                    let Some(vector) = vectors.get(row) else { break };
                    codec.encode_into(Values::Single(vector), &mut code).unwrap();
                    if holds_out && row.is_multiple_of(HELD_EVERY) && builder.hold_out(&code, tid(row)) {
                        continue;
                    }
                    assert_ne!(insert(&mut builder, &codec, vector, row), Inserted::Full);
                }
            });
        }
    });
    let calibration = calibrate::measure(arena, &codec, || Ok::<_, ()>(())).unwrap();
    if holds_out {
        assert_eq!((calibration.k, calibration.samples), (10, vectors.len().div_ceil(HELD_EVERY) as u32));
        let recalls: Vec<f32> = calibration.points().iter().map(|point| point.recall).collect();
        assert!(recalls.is_sorted() && recalls.last().is_some_and(|&recall| recall > 0.98), "{recalls:?}");
    } else {
        assert_eq!(calibration.points(), []);
    }
    Builder::new(arena, &codec, 7, 64).take_held_out();
    assert_eq!(arena.rows() as usize, vectors.len());
    assert_whole(finished(arena, &codec), vectors.len());
}

#[test]
fn threads_build_one_graph() {
    let vectors = vectors(scaled(3_000, 36), DIMENSIONS, 21);
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct, Metric::L1].into_iter().take(scaled(4, 1)) {
        built_by_threads(&identity(DIMENSIONS as u32, metric, 16), &vectors, 4, false);
    }
    built_by_threads(&identity(DIMENSIONS as u32, Metric::L2, 16), &vectors, 4, true);
    built_by_threads(&identity(DIMENSIONS as u32, Metric::L2, 2), &vectors[..scaled(500, 12)], 4, false);
}

#[test]
fn equal_and_opposite_vectors_are_not_lost() {
    const EQUALS: usize = scaled(300, 8);
    let mut points = vec![vec![0.0; DIMENSIONS]; EQUALS];
    points.extend((0..EQUALS).map(|row| vec![if row % 2 == 0 { 1.0 } else { -1.0 }; DIMENSIONS]));
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine].into_iter().take(scaled(3, 1)) {
        built_by_threads(&identity(DIMENSIONS as u32, metric, 4), &points, 3, false);
    }
}

#[test]
fn a_full_arena_keeps_what_it_has() {
    const FIT: usize = scaled(100, 12);
    let vectors = vectors(5 * FIT, DIMENSIONS, 22);
    let identity = identity(DIMENSIONS as u32, Metric::L2, 16);
    let codec = identity.codec();
    let memory = words(FIT * ArenaShape::of(&identity).mean_node_bytes(codec.code_bytes()) / 4);
    let arena = Arena::new(&memory, ArenaShape::of(&identity));
    let mut builder = Builder::new(arena, &codec, 7, 64);
    let fits = vectors
        .iter()
        .enumerate()
        .take_while(|(row, vector)| insert(&mut builder, &codec, vector, *row) != Inserted::Full);
    let count = fits.count();
    assert!((FIT * 4 / 5..=FIT * 11 / 10).contains(&count), "{count}");
    assert_eq!(insert(&mut builder, &codec, &vectors[5 * FIT - 1], 5 * FIT - 1), Inserted::Full);
    assert_whole(finished(arena, &codec), count);
    // Nothing at all fits into nothing.
    let nothing = Arena::new(&[], ArenaShape::of(&identity));
    let mut builder = Builder::new(nothing, &codec, 7, 64);
    assert_eq!(insert(&mut builder, &codec, &vectors[0], 0), Inserted::Full);
    assert_eq!(finished(nothing, &codec).nodes(), 0);
}
