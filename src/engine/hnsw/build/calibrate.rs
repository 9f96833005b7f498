//! Measuring what `hnsw.target_recall` needs: the recall that beams of some widths reach on rows held out of the graph.
//!
//! Truth is the ten nearest codes of all; the rows are searched for before they become nodes, so the graph knows nothing of
//! them, as it knows nothing of a user's query.

use super::arena::{Arena, NodeName};
use super::insert::ArenaGraph;
use crate::code::{Codec, Query};
use crate::hnsw::graph::{EntryPoint, Graph};
use crate::hnsw::page::calibration::{Calibration, CalibrationPoint};
use crate::hnsw::search::{Search, SCAN_DESCENT};

/// Rows held out at most.
pub const MOST_SAMPLES: u32 = 64;
/// Rows below which nothing is measured.
pub const LEAST_ROWS: u32 = if cfg!(miri) { 30 } else { 1_000 };
/// Neighbours asked for.
const NEIGHBOURS: usize = 10;
/// Comparisons for the truth at most, but for [`LEAST_SAMPLES`] rows.
const MOST_COMPARISONS: u64 = 20_000_000;
const LEAST_SAMPLES: u64 = 16;
/// Widths measured, until one reaches [`ENOUGH`].
const WIDTHS: [u16; 9] = [10, 20, 40, 80, 120, 200, 320, 500, 800];
const ENOUGH: f32 = 0.9995;

/// Rows held out, and how far the nearest of the nodes seen are from them.
pub struct Samples {
    samples: Vec<Sample>,
    nodes: u32,
}

struct Sample {
    query: Query,
    /// Ascending, at most [`NEIGHBOURS`].
    nearest: Vec<f32>,
}

impl Samples {
    /// Samples with these codes, or as many of them as may be compared with about so many nodes.
    pub fn new<'a>(codec: &Codec, codes: impl Iterator<Item = &'a [u8]>, nodes: u64) -> Samples {
        let most = (MOST_COMPARISONS / nodes.max(1)).max(LEAST_SAMPLES) as usize;
        let queries = codes.take(most).filter_map(|code| codec.query_of_code(code).ok());
        Samples { samples: queries.map(|query| Sample { query, nearest: Vec::new() }).collect(), nodes: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Takes a node into account. Every node of the graph is, once.
    pub fn see(&mut self, code: &[u8]) {
        self.nodes += 1;
        for Sample { query, nearest } in &mut self.samples {
            let distance = query.distance(code);
            if nearest.len() == NEIGHBOURS && nearest.last().is_some_and(|&last| distance >= last) {
                continue;
            }
            let at = nearest.partition_point(|&other| other <= distance);
            nearest.insert(at, distance);
            nearest.truncate(NEIGHBOURS);
        }
    }

    /// The share of the nearest that searches of this width find: results not farther than the tenth nearest of all.
    pub fn recall<G: Graph>(&self, graph: &mut G, entry: EntryPoint, width: usize) -> Result<f32, G::Error> {
        let mut search: Search<G::Row> = Search::default();
        let (mut found, mut starts) = (0, Vec::new());
        for Sample { query, nearest } in &self.samples {
            let tenth = nearest.last().copied().unwrap_or(f32::INFINITY);
            search.descend(graph, query, entry, 1, SCAN_DESCENT, &mut starts)?;
            search.begin(graph, query, &starts, width, 0, false)?;
            found += search.results().take(NEIGHBOURS).filter(|result| result.distance <= tenth).count();
        }
        Ok(found as f32 / (self.samples.len() * NEIGHBOURS).max(1) as f32)
    }

    /// The table of the recall at each width, which `recall` measures. Empty if there are too few rows.
    pub fn calibration<E>(&self, mut recall: impl FnMut(usize) -> Result<f32, E>) -> Result<Calibration, E> {
        if self.is_empty() || self.nodes < LEAST_ROWS {
            return Ok(Calibration::default());
        }
        let mut points = Vec::new();
        for ef_search in WIDTHS {
            let recall = recall(usize::from(ef_search))?;
            points.push(CalibrationPoint { ef_search, recall });
            if recall >= ENOUGH {
                break;
            }
        }
        let table = Calibration::new(NEIGHBOURS as u16, self.samples.len() as u32, self.nodes, points);
        Ok(table.unwrap_or_default())
    }
}

/// Measures the graph in an arena with the rows held out. Empty if there are too few. `check` is called now and then, and
/// may end it.
pub fn measure<E>(arena: Arena<'_>, codec: &Codec, mut check: impl FnMut() -> Result<(), E>) -> Result<Calibration, E> {
    let nodes: Vec<NodeName> = arena.names().collect();
    let Some(entry) = arena.entry().filter(|_| nodes.len() >= LEAST_ROWS as usize) else {
        return Ok(Calibration::default());
    };
    let entry = EntryPoint { node: entry, level: arena.level(entry) };
    let held: Vec<NodeName> = arena.held_out().collect();
    let mut samples = Samples::new(codec, held.iter().map(|&held| arena.code(held)), nodes.len() as u64);
    if samples.is_empty() {
        return Ok(Calibration::default());
    }
    for (at, &node) in nodes.iter().enumerate() {
        if at.is_multiple_of(1024) {
            check()?;
        }
        samples.see(arena.code(node));
    }
    samples.calibration(|width| {
        check()?;
        let Ok(recall) = samples.recall(&mut ArenaGraph(arena), entry, width);
        Ok(recall)
    })
}
