//! Searching: candidates in batches, nearest codes first, for as long as somebody asks.
//!
//! A batch is what one beam search gives; its distances are those of the codes, so the caller computes the exact ones from
//! the rows and orders them. [`Candidate::bound`] tells how near a row can be at best: once the best exact distance in hand
//! is not above the bounds of all that is left of the batch, it is the next result. Every further batch comes from a beam
//! twice as wide.
//!
//! With a filter, [`filtered`](super::filtered) decides how it is searched; batches then hold rows that pass only.

use super::codes::CodeBatch;
use super::filtered::{FilteredScan, Regime};
use super::open::Index;
use super::read::{IndexGraph, Row, Scratch};
use super::store::PageStore;
use crate::code::Query;
use crate::hnsw::graph::{EntryPoint, Graph, Near};
use crate::hnsw::page::meta::Entry;
use crate::hnsw::search::{Found, Search, SCAN_DESCENT};

/// Rows up to which a search looks at all of them, page by page, instead of walking the graph: that takes no longer, and
/// misses nothing.
const EXHAUSTIVE_ROWS: u32 = if cfg!(any(fuzzing, miri)) {
    8
} else if cfg!(test) {
    150
} else {
    4_000
};
/// The share of a further batch that is given at once; the others wait for the next.
const SURE_SHARE: f32 = 0.75;
/// Nodes on the pages that such a search reads, as a multiple: those that vacuum has left over are passed by quickly.
const EXHAUSTIVE_NODES: u32 = 4 * EXHAUSTIVE_ROWS;
pub(super) const SCORED_AT_ONCE: usize = 256;

/// The widest beam that a scan grows to.
pub(super) const WIDEST: usize = 1 << 16;

/// Whether an index is so small that a search looks at all of it.
pub(super) const fn is_looked_through(entry: &Entry) -> bool {
    entry.live_nodes <= EXHAUSTIVE_ROWS && entry.nodes <= EXHAUSTIVE_NODES
}

/// A node that may be a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub node: u32,
    pub row: Row,
    /// The distance of the codes.
    pub distance: f32,
    /// The row's distance is not below; equal to `distance` where codes are exact.
    pub bound: f32,
}

impl Candidate {
    /// A result of a search; its bound is computed later.
    pub(super) fn of(found: Found<Row>) -> Candidate {
        Candidate { node: found.node, row: found.row, distance: found.distance, bound: found.distance }
    }
}

/// A search that is under way.
#[derive(Default)]
pub struct Scan {
    pub(super) search: Search<Row>,
    pub(super) scratch: Scratch,
    pub(super) query: Option<Query>,
    pub(super) starts: Vec<Near>,
    pub(super) ef: usize,
    nodes: Vec<u32>,
    pub(super) distances: Vec<f32>,
    /// Results of a search, and which of them pass a filter.
    pub(super) found: Vec<Found<Row>>,
    pub(super) passing: Vec<bool>,
    codes: CodeBatch,
    horizon: f32,
    pub(super) filtered: Option<Box<FilteredScan>>,
    /// Nodes that a filter has rejected, and nodes that were scored without a search of the graph.
    pub(super) rejected: u64,
    pub(super) scored_apart: u64,
}

/// What searches have done since a [`Scan`] was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanCounts {
    /// Nodes whose lists were read.
    pub visited: u64,
    /// Distances computed from codes.
    pub scored: u64,
    /// Nodes that did not pass a filter.
    pub rejected: u64,
}

impl Scan {
    /// Nodes whose distance was computed in the present search: what `hnsw.max_scan_tuples` limits.
    pub fn seen(&self) -> usize {
        self.search.seen() + self.filtered.as_ref().map_or(0, |filtered| filtered.scored())
    }

    /// Lets go of what the search has found, but for memory that the next one uses.
    pub fn end(&mut self) {
        self.query = None;
        self.filtered = None;
    }

    /// How the filter is searched with; None without one.
    pub fn regime(&self) -> Option<Regime> {
        self.filtered.as_ref().map(|filtered| filtered.regime())
    }

    /// The distance up to which rows of the batches so far are nearer than those of later ones, as far as what was seen
    /// tells: the distance of the nearest node put off, less four standard deviations of the codes' error.
    pub fn horizon(&self) -> f32 {
        self.horizon
    }

    pub fn memory_bytes(&self) -> usize {
        self.search.memory_bytes()
    }

    pub fn counts(&self) -> ScanCounts {
        ScanCounts {
            visited: self.search.expansions(),
            scored: self.search.scored() + self.scored_apart,
            rejected: self.rejected,
        }
    }
}

impl<S: PageStore> Index<S> {
    /// Begins a search with a beam of `ef`, and puts its first batch into `batch`, nearest first.
    pub fn begin_scan(
        &mut self,
        scan: &mut Scan,
        query: Query,
        ef: usize,
        batch: &mut Vec<Candidate>,
    ) -> Result<(), S::Error> {
        batch.clear();
        scan.filtered = None;
        scan.ef = ef.max(1);
        let entry = self.look()?;
        let Some((node, level)) = entry.node else {
            scan.horizon = f32::INFINITY;
            scan.query = None;
            return Ok(());
        };
        let query = scan.query.insert(query);
        if is_looked_through(&entry) {
            let all = self.score_all(&mut scan.scratch, query, usize::MAX, |_| true)?;
            scan.search.begin_with_all(all.into_iter(), scan.ef);
            return self.take_batch(scan, batch);
        }
        self.find_starts(scan, EntryPoint { node, level })?;
        self.begin_beam(scan, scan.ef)?;
        self.take_batch(scan, batch)
    }

    /// Searches the upper levels for the nodes that a search of level 0 begins with.
    pub(super) fn find_starts(&mut self, scan: &mut Scan, entry: EntryPoint) -> Result<(), S::Error> {
        let Some(query) = &scan.query else { return Ok(()) };
        let mut graph = IndexGraph { index: self, scratch: &mut scan.scratch };
        scan.search.descend(&mut graph, query, entry, 1, SCAN_DESCENT, &mut scan.starts)?;
        // All nodes can be reached from the entry, but not from everywhere: a scan that goes on needs it, too.
        scan.distances.clear();
        graph.score(query, &[entry.node], &mut scan.distances)?;
        let distance = scan.distances.first().copied().unwrap_or(f32::INFINITY);
        scan.starts.push(Near { distance, node: entry.node });
        Ok(())
    }

    /// Searches level 0 from the starts with a beam of so many nodes.
    pub(super) fn begin_beam(&mut self, scan: &mut Scan, width: usize) -> Result<(), S::Error> {
        let Some(query) = &scan.query else { return Ok(()) };
        let mut graph = IndexGraph { index: self, scratch: &mut scan.scratch };
        scan.search.begin(&mut graph, query, &scan.starts, width, 0, true)
    }

    /// Goes on with a wider beam, but not wider than `most`; false if every row was found. A batch may be empty.
    ///
    /// At the end of what edges lead to, all pages of nodes are looked through for others: insertions at the same time, or
    /// a vacuum that was cut off, may have cut a node off.
    pub fn continue_scan(
        &mut self,
        scan: &mut Scan,
        most: usize,
        batch: &mut Vec<Candidate>,
    ) -> Result<bool, S::Error> {
        batch.clear();
        scan.ef = (2 * scan.ef).min(WIDEST).min(most).max(1);
        if scan.filtered.is_some() {
            return self.continue_filtered(scan, batch);
        }
        let Some(query) = &scan.query else { return Ok(false) };
        let mut graph = IndexGraph { index: self, scratch: &mut scan.scratch };
        if !scan.search.resume(&mut graph, query, scan.ef)? {
            if scan.search.has_seen_all() {
                return Ok(false);
            }
            let Scan { search, scratch, .. } = scan;
            let unseen = self.score_all(scratch, query, most, |node| !search.has_seen(node))?;
            if !search.go_on_with_all(unseen.into_iter(), scan.ef) {
                return Ok(false);
            }
        }
        self.take_batch(scan, batch)?;
        // Rows at the edge of what a beam has seen are found less surely than those before it: whoever reads so far that
        // it was not enough at first has them after the next batch, which makes sure of them.
        if scan.horizon.is_finite() {
            let sure = batch.get((batch.len() as f32 * SURE_SHARE) as usize);
            scan.horizon = sure.map_or(scan.horizon, |sure| scan.horizon.min(sure.distance));
        }
        Ok(true)
    }

    /// All live nodes that are wanted, but so many at most, with their distances, read page by page.
    fn score_all(
        &mut self,
        scratch: &mut Scratch,
        query: &Query,
        most: usize,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Result<Vec<Found<Row>>, S::Error> {
        let mut all: Vec<Found<Row>> = Vec::new();
        let mut heads = Vec::new();
        for page_index in 0..self.shape.layout.nodes().pages(self.entry.nodes) {
            self.heads(page_index, &mut heads)?;
            let rows = heads.iter().filter(|(node, _)| is_wanted(*node));
            let rows = rows.filter_map(|(node, head)| Some((*node, head.row()?)));
            all.extend(rows.map(|(node, row)| Found { distance: f32::INFINITY, node, row }));
            if all.len() >= most {
                all.truncate(most);
                break;
            }
        }
        let (mut nodes, mut distances) = (Vec::new(), Vec::new());
        for group in all.chunks_mut(SCORED_AT_ONCE) {
            nodes.clear();
            nodes.extend(group.iter().map(|found| found.node));
            distances.clear();
            IndexGraph { index: self, scratch }.score(query, &nodes, &mut distances)?;
            for (found, &distance) in group.iter_mut().zip(&distances) {
                found.distance = distance;
            }
        }
        Ok(all)
    }

    /// Puts the results of the search into `batch`, with their bounds.
    fn take_batch(&mut self, scan: &mut Scan, batch: &mut Vec<Candidate>) -> Result<(), S::Error> {
        batch.extend(scan.search.results().map(Candidate::of));
        let nearest_left = scan.search.nearest_left();
        self.complete_batch(scan, batch, nearest_left)
    }

    /// Computes the bounds of candidates, and how far they are in order if the nearest of what is left is at this distance.
    pub(super) fn complete_batch(
        &mut self,
        scan: &mut Scan,
        batch: &mut [Candidate],
        nearest_left: f32,
    ) -> Result<(), S::Error> {
        let Scan { query, nodes, codes, .. } = scan;
        if let Some(query) = query.as_ref().filter(|_| !self.shape.codec.is_exact()) {
            nodes.clear();
            nodes.extend(batch.iter().map(|candidate| candidate.node));
            self.codes(nodes, codes)?;
            for (index, candidate) in batch.iter_mut().enumerate() {
                candidate.bound = query.bound(codes.get(index));
            }
        }
        // A bound is the root of the dimensions times the deviation below the distance.
        let slack = batch.iter().map(|candidate| candidate.distance - candidate.bound).fold(0.0, f32::max);
        let deviations = 4.0 / (self.shape.identity.dimensions as f32).sqrt();
        scan.horizon = nearest_left - (slack * deviations).min(slack);
        Ok(())
    }
}
