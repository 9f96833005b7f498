//! The end of a build: every node gets a way to it and an ordinal, such that neighbours lie near each other.
//!
//! Ordinals follow a breadth-first walk from the entry. A node that the walk does not reach (others have pushed it out of
//! their lists) is put into the list of a near node, instead of an edge that the walk did not need, so that no row is ever
//! lost to searches. The walk's edges are a tree, which takes one edge of the 2m that a node has: there is always room.
//!
//! Under the inner product most nodes are like that: all lists are full of the few longest vectors, whose edges searches
//! need. So a node that the graph reaches by itself gives up few edges; the others hang on each other.

use super::arena::{Arena, NodeName};
use crate::code::Codec;
use crate::hnsw::page::write::BuiltGraph;
use crate::hnsw::page::HeapTid;

/// A graph that nobody changes any more, by ordinal.
pub struct FinishedGraph<'m> {
    arena: Arena<'m>,
    names: Vec<NodeName>,
    /// By ordinal: the ordinal of the node from which the walk came.
    parents: Vec<u32>,
    /// By ordinal: how many edges the node has given up.
    given: Vec<u8>,
    /// Nodes that were reconnected: the first ordinal, and the one that gives up edges now.
    first_host: u32,
    host: u32,
    /// Nodes before this ordinal need all of their edges.
    spare: u32,
    reconnected: usize,
}

/// Edges that a node gives up for nodes that nothing leads to, if it was reached without that.
const GIVEN_AT_MOST: u8 = 1;

/// The ordinal of a node that was not reached yet.
const UNNUMBERED: u32 = u32::MAX;

impl<'m> FinishedGraph<'m> {
    /// The graph of an arena that holds nothing.
    pub fn empty(arena: Arena<'m>) -> FinishedGraph<'m> {
        FinishedGraph {
            arena,
            names: Vec::new(),
            parents: Vec::new(),
            given: Vec::new(),
            first_host: 0,
            host: 0,
            spare: 0,
            reconnected: 0,
        }
    }

    /// Numbers the nodes. `check` is called now and then, and may end it.
    pub fn new<E>(
        arena: Arena<'m>,
        codec: &Codec,
        mut check: impl FnMut() -> Result<(), E>,
    ) -> Result<FinishedGraph<'m>, E> {
        let mut graph = FinishedGraph::empty(arena);
        graph.names.reserve(arena.nodes() as usize);
        graph.parents.reserve(arena.nodes() as usize);
        graph.given.reserve(arena.nodes() as usize);
        if let Some(entry) = arena.entry() {
            graph.number(entry, UNNUMBERED, &mut check)?;
        }
        (graph.first_host, graph.host) = (graph.names.len() as u32, graph.names.len() as u32);
        for name in arena.names() {
            if arena.ordinal(name) == UNNUMBERED {
                let parent = graph.reconnect(name, codec);
                graph.number(name, parent, &mut check)?;
            }
        }
        (graph.parents, graph.given) = (Vec::new(), Vec::new());
        Ok(graph)
    }

    /// Numbers what can be reached from a node, breadth first.
    fn number<E>(&mut self, from: NodeName, parent: u32, check: &mut impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let mut next = self.names.len();
        self.take(from, parent);
        while let Some(&name) = self.names.get(next) {
            if next.is_multiple_of(1024) {
                check()?;
            }
            let parent = next as u32;
            next += 1;
            let Some(list) = self.arena.list(name, 0) else { continue };
            for neighbour in list.names() {
                if self.arena.ordinal(neighbour) == UNNUMBERED {
                    self.take(neighbour, parent);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, name: NodeName, parent: u32) {
        self.arena.set_ordinal(name, self.names.len() as u32);
        self.names.push(name);
        self.parents.push(parent);
        self.given.push(0);
    }

    /// Puts a node that nothing leads to into the list of a node that is reached, the nearest of its own neighbours or of
    /// all; gives the ordinal of that.
    fn reconnect(&mut self, name: NodeName, codec: &Codec) -> u32 {
        let arena = self.arena;
        let code = arena.code(name);
        let distance = |other: NodeName| codec.distance_between(code, arena.code(other));
        let own = self.arena.list(name, 0).into_iter().flat_map(|list| list.names());
        let mut near: Vec<(f32, NodeName)> = own
            .filter(|&other| self.arena.ordinal(other) != UNNUMBERED)
            .map(|other| (distance(other), other))
            .collect();
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        for &(distance, owner) in &near {
            if self.put_into(owner, name, distance, GIVEN_AT_MOST) {
                return self.arena.ordinal(owner);
            }
        }
        // None of them: a node that was reconnected itself takes it, or any.
        while self.host < self.names.len() as u32 {
            let owner = self.name(self.host);
            if self.put_into(owner, name, distance(owner), self.arena.shape().m as u8) {
                return self.host;
            }
            self.host += 1;
        }
        // All of these have given what they may: any edge that the walk did not need. There are more edges than it needed.
        while self.spare < self.names.len() as u32 {
            let owner = self.name(self.spare);
            if self.put_into(owner, name, distance(owner), u8::MAX) {
                return self.spare;
            }
            self.spare += 1;
        }
        UNNUMBERED
    }

    /// Puts a node into a list that has room, or instead of an edge that the walk did not take; false if the list has none
    /// to give up, or has given up `most`.
    fn put_into(&mut self, owner: NodeName, name: NodeName, distance: f32, most: u8) -> bool {
        let Some(list) = self.arena.list(owner, 0) else { return false };
        let parent = self.arena.ordinal(owner);
        let most = if parent >= self.first_host { most.max(self.arena.shape().m as u8) } else { most };
        let Some(given) = self.given.get_mut(parent as usize).filter(|given| **given < most) else { return false };
        *given += u8::from(!list.has_room());
        let is_needed = |other: NodeName| self.parents.get(self.arena.ordinal(other) as usize) == Some(&parent);
        let is_done = list.force(name, distance, is_needed);
        self.reconnected += usize::from(is_done);
        is_done
    }

    /// How many nodes had to be connected again.
    pub fn reconnected(&self) -> usize {
        self.reconnected
    }

    pub(super) fn name(&self, ordinal: u32) -> NodeName {
        self.names.get(ordinal as usize).copied().unwrap_or(0)
    }
}

impl BuiltGraph for FinishedGraph<'_> {
    type Error = std::convert::Infallible;

    fn nodes(&self) -> u32 {
        self.names.len() as u32
    }

    fn entry(&self) -> Option<u32> {
        self.arena.entry().map(|name| self.arena.ordinal(name))
    }

    fn level(&self, ordinal: u32) -> u8 {
        self.arena.level(self.name(ordinal))
    }

    fn neighbours(&mut self, ordinal: u32, level: u8, into: &mut Vec<u32>) -> Result<(), Self::Error> {
        into.clear();
        if let Some(list) = self.arena.list(self.name(ordinal), level) {
            into.extend(list.names().map(|name| self.arena.ordinal(name)));
        }
        Ok(())
    }

    fn code(&mut self, ordinal: u32, into: &mut Vec<u8>) -> Result<(), Self::Error> {
        into.clear();
        into.extend_from_slice(self.arena.code(self.name(ordinal)));
        Ok(())
    }

    fn heap_tids(&mut self, ordinal: u32, into: &mut Vec<HeapTid>) -> Result<(), Self::Error> {
        self.arena.heap_tids(self.name(ordinal), into);
        Ok(())
    }
}
