//! Searching a graph: a descent through the upper levels, then a beam search that can go on for as long as somebody
//! wants more (Malkov and Yashunin, 2018, algorithms 2 and 5).
//!
//! Differences from the paper: the descent has a narrow beam; the neighbours of an expanded node are scored as one
//! batch, which lets the storage read them page by page; a search is resumable: what the beam dropped is kept, and
//! [`Search::resume`] goes on with it. Callers: a scan (resumable, level 0), an insertion (each level, no pool), the
//! build.

use super::beam::Beam;
use super::graph::{EntryPoint, Graph, Near};
use super::visited::Visited;
use crate::code::Query;

/// The beam of a descent that begins the search of a scan; wider ones cost time and find no more.
pub const SCAN_DESCENT: usize = 4;
/// The same for a row that becomes a node: its neighbours are for ever.
pub const INSERT_DESCENT: usize = 8;

/// A result: a node whose row may be returned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found<R> {
    pub distance: f32,
    pub node: u32,
    pub row: R,
}

/// The state of a search, and the memory that the next one uses again.
#[derive(Debug, Clone)]
pub struct Search<R> {
    beam: Beam,
    visited: Visited,
    /// All that is not in `visited` was added, too.
    has_all: bool,
    rows: Vec<R>,
    neighbours: Vec<u32>,
    distances: Vec<f32>,
    expansions: u64,
    scored: u64,
}

impl<R> Default for Search<R> {
    fn default() -> Self {
        Search {
            beam: Beam::default(),
            visited: Visited::default(),
            has_all: false,
            rows: Vec::new(),
            neighbours: Vec::new(),
            distances: Vec::new(),
            expansions: 0,
            scored: 0,
        }
    }
}

impl<R: Copy> Search<R> {
    /// Goes from the entry point towards the query, down to `level`, with a narrow beam: puts the nearest nodes of that
    /// level into `starts`, nearest first. With greedy steps (as in the paper, a beam of one) a descent may end in the
    /// wrong one of clusters that lie apart, and level 0 leads to the right one by chance.
    pub fn descend<G: Graph<Row = R>>(
        &mut self,
        graph: &mut G,
        query: &Query,
        entry: EntryPoint,
        level: u8,
        width: usize,
        starts: &mut Vec<Near>,
    ) -> Result<(), G::Error> {
        self.distances.clear();
        graph.score(query, &[entry.node], &mut self.distances)?;
        starts.clear();
        starts.push(Near { distance: self.distances.first().copied().unwrap_or(f32::INFINITY), node: entry.node });
        for level in (level..=entry.level).rev() {
            self.begin(graph, query, starts, width, level, false)?;
            starts.clear();
            starts.extend(self.nearest());
        }
        Ok(())
    }

    /// Begins a search of `level` at these nodes with a beam of `ef`, and runs it to its end. `resumable`: whether it may
    /// be resumed.
    pub fn begin<G: Graph<Row = R>>(
        &mut self,
        graph: &mut G,
        query: &Query,
        starts: &[Near],
        ef: usize,
        level: u8,
        resumable: bool,
    ) -> Result<(), G::Error> {
        self.visited.clear();
        self.has_all = false;
        self.rows.clear();
        self.beam.begin(ef, resumable);
        for start in starts {
            if self.visited.insert(start.node) {
                self.beam.push(start.distance, start.node);
            }
        }
        self.run(graph, query, level)
    }

    /// Takes all nodes of a small graph with their distances, instead of searching it: the results are the nearest `ef`, and
    /// [`Search::resume`] gives the next ones.
    pub fn begin_with_all(&mut self, all: impl Iterator<Item = Found<R>>, ef: usize) {
        self.visited.clear();
        self.rows.clear();
        self.beam.begin(ef, true);
        self.go_on_with_all(all, ef);
    }

    /// Takes all nodes that the search has not [seen](Search::has_seen), instead of going on along edges, and makes the
    /// nearest `ef` of what is left the results; false if there are none.
    pub fn go_on_with_all(&mut self, all: impl Iterator<Item = Found<R>>, ef: usize) -> bool {
        self.has_all = true;
        for found in all {
            self.beam.pool(found.distance, found.node, self.rows.len());
            self.rows.push(found.row);
            self.scored += 1;
        }
        self.beam.widen(ef)
    }

    /// Whether the present search has seen a node.
    pub fn has_seen(&self, node: u32) -> bool {
        self.has_all || self.visited.contains(node)
    }

    /// Whether the present search has seen all nodes, one by one or all at once.
    pub fn has_seen_all(&self) -> bool {
        self.has_all
    }

    /// Goes on after the results so far with a beam of `ef`; false if all that can be reached was found.
    pub fn resume<G: Graph<Row = R>>(&mut self, graph: &mut G, query: &Query, ef: usize) -> Result<bool, G::Error> {
        if !self.beam.widen(ef) {
            return Ok(false);
        }
        self.run(graph, query, 0)?;
        Ok(true)
    }

    /// Expands nodes until all of the beam are.
    fn run<G: Graph<Row = R>>(&mut self, graph: &mut G, query: &Query, level: u8) -> Result<(), G::Error> {
        while let Some(node) = self.beam.next() {
            let row = graph.visit(node, level, &mut self.neighbours)?;
            self.beam.expanded(row.map(|row| {
                self.rows.push(row);
                self.rows.len() - 1
            }));
            self.expansions += 1;
            let Search { visited, neighbours, distances, beam, .. } = self;
            neighbours.retain(|&node| visited.insert(node));
            distances.clear();
            graph.score(query, neighbours, distances)?;
            self.scored += neighbours.len() as u64;
            for (&node, &distance) in neighbours.iter().zip(distances.iter()) {
                beam.push(distance, node);
            }
        }
        Ok(())
    }

    /// The results of the last [`Search::begin`] or [`Search::resume`], nearest first: at most `ef`, without those that
    /// must not be returned.
    pub fn results(&self) -> impl Iterator<Item = Found<R>> + '_ {
        self.beam.entries().iter().filter_map(|entry| {
            let row = *self.rows.get(entry.row()?)?;
            Some(Found { distance: entry.distance, node: entry.node, row })
        })
    }

    /// All nodes of the beam, nearest first, also those that must not be returned: where the next level's search begins.
    pub fn nearest(&self) -> impl Iterator<Item = Near> + '_ {
        self.beam.entries().iter().map(|entry| Near { distance: entry.distance, node: entry.node })
    }

    /// The distance of the nearest node that [`Search::resume`] would begin with; infinite if there is none.
    pub fn nearest_left(&self) -> f32 {
        self.beam.nearest_in_pool()
    }

    /// Nodes expanded since this value was made.
    pub fn expansions(&self) -> u64 {
        self.expansions
    }

    /// Distances computed since this value was made.
    pub fn scored(&self) -> u64 {
        self.scored
    }

    /// Nodes seen by the present search.
    pub fn seen(&self) -> usize {
        self.visited.len()
    }

    /// Bytes in use.
    pub fn memory_bytes(&self) -> usize {
        self.beam.memory_bytes() + self.rows.capacity() * size_of::<R>() + self.visited.memory_bytes()
    }
}
