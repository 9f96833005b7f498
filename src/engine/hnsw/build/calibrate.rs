//! Measuring what `hnsw.target_recall` needs: the recall that beams of some widths reach on rows held out of the graph.
//!
//! Truth is the ten nearest codes of all; the rows are searched for before they become nodes, so the graph knows nothing of
//! them, as it knows nothing of a user's query.

use super::arena::{Arena, NodeName};
use super::insert::ArenaGraph;
use crate::code::{Codec, Query};
use crate::hnsw::graph::EntryPoint;
use crate::hnsw::page::calibration::{Calibration, CalibrationPoint};
use crate::hnsw::search::Search;

/// Rows held out at most.
pub const MOST_SAMPLES: u32 = 64;
/// Rows below which nothing is measured.
pub const LEAST_ROWS: u32 = 1_000;
/// Neighbours asked for.
const NEIGHBOURS: usize = 10;
/// Comparisons for the truth at most, but for [`LEAST_SAMPLES`] rows.
const MOST_COMPARISONS: u64 = 20_000_000;
const LEAST_SAMPLES: u64 = 16;
/// Widths measured, until one reaches [`ENOUGH`].
const WIDTHS: [u16; 9] = [10, 20, 40, 80, 120, 200, 320, 500, 800];
const ENOUGH: f32 = 0.9995;

/// Measures the graph in an arena with the rows held out. Empty if there are too few. `check` is called now and then, and
/// may end it.
pub fn measure<E>(arena: Arena<'_>, codec: &Codec, mut check: impl FnMut() -> Result<(), E>) -> Result<Calibration, E> {
    let nodes: Vec<NodeName> = arena.names().collect();
    let Some(entry) = arena.entry().filter(|_| nodes.len() >= LEAST_ROWS as usize) else {
        return Ok(Calibration::default());
    };
    let entry = EntryPoint { node: entry, level: arena.level(entry) };
    let most = (MOST_COMPARISONS / nodes.len() as u64).max(LEAST_SAMPLES) as usize;
    let mut samples = Vec::new();
    for held in arena.held_out().take(most) {
        check()?;
        if let Ok(query) = codec.query_of_code(arena.code(held)) {
            let truth = nearest_of_all(arena, &nodes, &query);
            samples.push((query, truth));
        }
    }
    if samples.is_empty() {
        return Ok(Calibration::default());
    }
    let mut points = Vec::new();
    for width in WIDTHS {
        check()?;
        let recall = recall(arena, entry, &samples, usize::from(width));
        points.push(CalibrationPoint { ef_search: width, recall });
        if recall >= ENOUGH {
            break;
        }
    }
    let table = Calibration::new(NEIGHBOURS as u16, samples.len() as u32, nodes.len() as u32, points);
    Ok(table.unwrap_or_default())
}

/// The distance of the tenth nearest.
fn nearest_of_all(arena: Arena<'_>, nodes: &[NodeName], query: &Query) -> f32 {
    let mut distances = Vec::with_capacity(nodes.len());
    query.score_many(nodes.iter().map(|&node| arena.code(node)), &mut distances);
    let last = NEIGHBOURS.min(distances.len()) - 1;
    *distances.select_nth_unstable_by(last, f32::total_cmp).1
}

/// The share of the nearest that searches of this width find: results not farther than the tenth nearest of all.
fn recall(arena: Arena<'_>, entry: EntryPoint, samples: &[(Query, f32)], width: usize) -> f32 {
    let mut search: Search<()> = Search::default();
    let mut graph = ArenaGraph(arena);
    let mut found = 0;
    for (query, tenth) in samples {
        let Ok(near) = search.descend(&mut graph, query, entry, 1);
        let Ok(()) = search.begin(&mut graph, query, &[near], width, 0, false);
        found += search.results().take(NEIGHBOURS).filter(|result| result.distance <= *tenth).count();
    }
    found as f32 / (samples.len() * NEIGHBOURS) as f32
}
