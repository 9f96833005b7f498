//! Inserting a row into the arena (Malkov and Yashunin, 2018, algorithm 1).
//!
//! Differences from the paper: a node takes up to 2m neighbours at level 0; a row whose code equals that of a node becomes
//! a further row of that node; lists remember distances and which neighbours are redundant, so that adding a back-link is
//! one pass over the list instead of a new selection.

use super::arena::{Arena, NodeName};
use crate::code::{Codec, Query};
use crate::hnsw::graph::{EntryPoint, Graph, Near};
use crate::hnsw::level::level_of;
use crate::hnsw::page::HeapTid;
use crate::hnsw::search::{Search, INSERT_DESCENT};
use crate::hnsw::select::select_neighbours;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    Node(NodeName),
    /// It went to a node with the same code.
    Duplicate(NodeName),
    /// The arena has no room for it; nothing was changed.
    Full,
}

/// A worker of a build.
pub struct Builder<'m, 'c> {
    arena: Arena<'m>,
    codec: &'c Codec,
    seed: u64,
    ef_construction: usize,
    search: Search<()>,
    starts: Vec<Near>,
    chosen: Vec<(usize, bool)>,
    distances: Vec<f32>,
}

/// The arena as a graph to search.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArenaGraph<'m>(pub(super) Arena<'m>);

impl Graph for ArenaGraph<'_> {
    type Error = std::convert::Infallible;
    type Row = ();

    #[inline]
    fn visit(&mut self, node: u32, level: u8, into: &mut Vec<u32>) -> Result<Option<()>, Self::Error> {
        into.clear();
        if let Some(list) = self.0.list(node, level) {
            into.extend(list.names());
        }
        Ok(Some(()))
    }

    #[inline]
    fn score(&mut self, query: &Query, nodes: &[u32], into: &mut Vec<f32>) -> Result<(), Self::Error> {
        query.score_many(nodes.iter().map(|&node| self.0.code(node)), into);
        Ok(())
    }
}

/// The value of a result whose error cannot be.
fn certain<T>(result: Result<T, std::convert::Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

impl<'m, 'c> Builder<'m, 'c> {
    /// `seed`: of the levels, the same for all workers.
    pub fn new(arena: Arena<'m>, codec: &'c Codec, seed: u64, ef_construction: u16) -> Self {
        Builder {
            arena,
            codec,
            seed,
            ef_construction: usize::from(ef_construction),
            search: Search::default(),
            starts: Vec::new(),
            chosen: Vec::new(),
            distances: Vec::new(),
        }
    }

    /// Puts a row aside, to be searched for by [`calibrate`](super::calibrate) and to become a node then. False if it was
    /// not: enough are, or there is no room.
    pub fn hold_out(&mut self, code: &[u8], heap_tid: HeapTid) -> bool {
        self.arena.hold_out(super::calibrate::MOST_SAMPLES, code, heap_tid)
    }

    /// Makes nodes of the rows that were held out. Called once, when all others are in.
    pub fn take_held_out(&mut self) {
        let held: Vec<NodeName> = self.arena.held_out().collect();
        for name in held {
            self.arena.draw_number();
            self.arena.count_row();
            let Ok(query) = self.codec.query_of_code(self.arena.code(name)) else { continue };
            let entry = self.arena.entry();
            self.arena.make_node(name);
            match entry {
                Some(entry) => {
                    self.search_bottom(&query, entry);
                    self.link(name, 0);
                }
                None => self.raise_entry(name, 0),
            }
        }
    }

    /// Inserts a row: the code of its value, and the value prepared as a query.
    pub fn insert(&mut self, code: &[u8], query: &Query, heap_tid: HeapTid) -> Inserted {
        let mut entry = self.arena.entry();
        if let Some(name) = entry {
            self.search_bottom(query, name);
            if let Some(twin) = self.twin(code) {
                if !self.arena.add_heap_tid(twin, heap_tid) {
                    return Inserted::Full;
                }
                self.arena.count_row();
                return Inserted::Duplicate(twin);
            }
        }
        let level = level_of(self.seed, self.arena.draw_number(), self.arena.shape().m);
        let Some(name) = self.arena.add_node(level, code, heap_tid) else { return Inserted::Full };
        self.arena.count_row();
        if entry.is_none() {
            if self.arena.replace_entry(None, name) {
                return Inserted::Node(name);
            }
            // Another worker was first.
            entry = self.arena.entry();
            if let Some(entry) = entry {
                self.search_bottom(query, entry);
            }
        }
        let Some(entry) = entry else { return Inserted::Node(name) };
        self.link(name, 0);
        self.link_above(name, level, query, entry);
        self.raise_entry(name, level);
        Inserted::Node(name)
    }

    /// Links one of the rows that wait in the arena; false if none does.
    pub fn link_waiting(&mut self) -> bool {
        let Some(name) = self.arena.take_waiting() else { return false };
        let code = self.arena.code(name);
        let (Ok(query), Some(heap_tid)) = (self.codec.query_of_code(code), self.arena.first_tid(name)) else {
            self.arena.set_merged(name);
            return true;
        };
        let entry = self.arena.entry();
        if let Some(entry) = entry {
            self.search_bottom(&query, entry);
            if self.twin(code).is_some_and(|twin| self.arena.add_heap_tid(twin, heap_tid)) {
                self.arena.set_merged(name);
                return true;
            }
        }
        self.arena.draw_number();
        self.arena.make_node(name);
        let level = self.arena.level(name);
        if entry.is_none() && self.arena.replace_entry(None, name) {
            return true;
        }
        let Some(entry) = entry.or_else(|| self.arena.entry()) else { return true };
        self.search_bottom(&query, entry);
        self.link(name, 0);
        self.link_above(name, level, &query, entry);
        self.raise_entry(name, level);
        true
    }

    /// Puts a row in that is on the levels from 1 to `level` only: level 0 is built elsewhere. No row is equal to another.
    pub(super) fn insert_above(&mut self, code: &[u8], query: &Query, heap_tid: HeapTid, level: u8) -> Inserted {
        let entry = self.arena.entry();
        let Some(name) = self.arena.add_node(level, code, heap_tid) else { return Inserted::Full };
        if let Some(entry) = entry {
            self.link_above(name, level, query, entry);
        }
        self.raise_entry(name, level);
        Inserted::Node(name)
    }

    /// Searches level 0; `self.search` then holds the candidates.
    fn search_bottom(&mut self, query: &Query, entry: NodeName) {
        let mut graph = ArenaGraph(self.arena);
        let level = self.arena.level(entry);
        let entry = EntryPoint { node: entry, level };
        certain(self.search.descend(&mut graph, query, entry, 1, INSERT_DESCENT, &mut self.starts));
        certain(self.search.begin(&mut graph, query, &self.starts, self.ef_construction, 0, false));
    }

    /// The node with this very code among the nearest.
    fn twin(&self, code: &[u8]) -> Option<NodeName> {
        // Equal codes are at equal distances from the query, so the twin is among the first equals.
        let nearest = self.search.nearest().next()?.distance;
        let mut first = self.search.nearest().take_while(|near| near.distance == nearest);
        first.find(|near| self.arena.code(near.node) == code).map(|near| near.node)
    }

    /// Gives a new node its neighbours at a level out of what was just searched, and them the node.
    fn link(&mut self, name: NodeName, level: u8) {
        let (arena, codec) = (self.arena, self.codec);
        self.starts.clear();
        self.starts.extend(self.search.nearest().filter(|near| near.node != name));
        self.distances.clear();
        self.distances.extend(self.starts.iter().map(|near| near.distance));
        let starts = &self.starts;
        let code = |index: usize| starts.get(index).map_or(&[][..], |near| arena.code(near.node));
        let room = arena.shape().room(level);
        let between = |a: usize, b: usize| codec.distance_between(code(a), code(b));
        select_neighbours(&self.distances, room, between, &mut self.chosen);
        if let (Some(_guard), Some(list)) = (arena.lock(name), arena.list(name, level)) {
            for &(index, is_diverse) in &self.chosen {
                if let Some(near) = starts.get(index).filter(|_| list.has_room()) {
                    list.push(near.node, !is_diverse, near.distance);
                }
            }
        }
        let own = arena.code(name);
        for near in self.chosen.iter().filter_map(|&(index, _)| starts.get(index)) {
            if let (Some(_guard), Some(list)) = (arena.lock(near.node), arena.list(near.node, level)) {
                list.offer(name, near.distance, |other| codec.distance_between(own, arena.code(other)));
            }
        }
    }

    /// The levels above 0, from the top.
    fn link_above(&mut self, name: NodeName, level: u8, query: &Query, entry: NodeName) {
        let top = self.arena.level(entry);
        if level == 0 || top == 0 {
            return;
        }
        let mut graph = ArenaGraph(self.arena);
        let first = level.min(top);
        let entry = EntryPoint { node: entry, level: top };
        let mut starts = Vec::new();
        certain(self.search.descend(&mut graph, query, entry, first + 1, INSERT_DESCENT, &mut starts));
        for level in (1..=first).rev() {
            certain(self.search.begin(&mut graph, query, &starts, self.ef_construction, level, false));
            starts.clear();
            starts.extend(self.search.nearest());
            self.link(name, level);
        }
    }

    /// Makes the node the entry if it is on a higher level than the present one.
    fn raise_entry(&self, name: NodeName, level: u8) {
        loop {
            let entry = self.arena.entry();
            if entry.is_some_and(|entry| self.arena.level(entry) >= level) || self.arena.replace_entry(entry, name) {
                return;
            }
        }
    }
}
