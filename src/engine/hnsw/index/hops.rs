//! The graph as a search with a filter walks it: only nodes that pass are scored; one that does not is a bridge, and stands
//! for the neighbours that it has (ACORN-1; Patel, Kraft, Guestrin and Zaharia, 2024).
//!
//! Upper levels are walked as they are: they only lead to the region. A walk that has taken more work than looking at every
//! match would ends; its caller does that then.

use super::node_set::NodeSet;
use super::read::{IndexGraph, Row};
use super::store::PageStore;
use crate::code::Query;
use crate::hnsw::graph::Graph;
use crate::hnsw::visited::Visited;

/// Memory of a walk that goes on.
#[derive(Default)]
pub(super) struct HopState {
    /// Bridges that were crossed.
    crossed: Visited,
    list: Vec<u32>,
    bridges: Vec<u32>,
    /// Nodes read or scored.
    pub(super) work: usize,
}

impl HopState {
    pub(super) fn clear(&mut self) {
        self.crossed.clear();
        self.work = 0;
    }
}

/// See the module.
pub(super) struct HopGraph<'i, S> {
    pub(super) graph: IndexGraph<'i, S>,
    pub(super) matches: &'i NodeSet,
    pub(super) state: &'i mut HopState,
    /// The most work that the walk may take.
    pub(super) budget: usize,
}

impl<S: PageStore> HopGraph<'_, S> {
    pub(super) fn is_over_budget(&self) -> bool {
        self.state.work > self.budget
    }
}

impl<S: PageStore> Graph for HopGraph<'_, S> {
    type Error = S::Error;
    type Row = Row;

    fn visit(&mut self, node: u32, level: u8, into: &mut Vec<u32>) -> Result<Option<Row>, S::Error> {
        if self.is_over_budget() {
            into.clear();
            return Ok(None);
        }
        let row = self.graph.visit(node, level, into)?;
        let room = 2 * self.graph.index.shape().layout.max_neighbours(0);
        let HopState { crossed, list, bridges, work } = &mut *self.state;
        *work += 1;
        bridges.clear();
        into.retain(|&near| {
            let passes = self.matches.contains(near);
            if !passes {
                bridges.push(near);
            }
            passes
        });
        for &bridge in bridges.iter() {
            if into.len() >= room {
                break;
            }
            if crossed.insert(bridge) {
                *work += 1;
                self.graph.visit(bridge, level, list)?;
                into.extend(list.iter().copied().filter(|&far| self.matches.contains(far)));
            }
        }
        Ok(row.filter(|_| self.matches.contains(node)))
    }

    fn score(&mut self, query: &Query, nodes: &[u32], into: &mut Vec<f32>) -> Result<(), S::Error> {
        self.state.work += nodes.len();
        self.graph.score(query, nodes, into)
    }
}
