//! What the algorithms read of a graph, wherever it lies.
//!
//! [`Graph`] is implemented over the buffers of a relation (the PostgreSQL layer), over the arena of a build, and over
//! pages in memory (tests). Nodes are named by a `u32` that only the implementation can read: an ordinal on pages, an
//! address in the arena. What is read may be damaged or change meanwhile: an implementation gives only names of nodes that
//! it can read, or an error; the algorithms end whatever they are given, since no node is visited twice.

use crate::code::Query;

/// A graph to search.
pub trait Graph {
    /// Why it could not be read.
    type Error;
    /// What a result needs of its node, taken along when the node is visited: heap tids of an index.
    type Row: Copy;

    /// Replaces `into` by the neighbours of a node at one of its levels, and gives its row: None if the node must not be
    /// returned (dead, or being inserted). A node that has no such level has no neighbours there. Checks for interrupts.
    fn visit(&mut self, node: u32, level: u8, into: &mut Vec<u32>) -> Result<Option<Self::Row>, Self::Error>;

    /// Appends the distance of each of these nodes from the query, in order.
    fn score(&mut self, query: &Query, nodes: &[u32], into: &mut Vec<f32>) -> Result<(), Self::Error>;
}

/// Where every search begins: a node of the highest level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPoint {
    pub node: u32,
    pub level: u8,
}

/// A node at a distance from what is searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    pub distance: f32,
    pub node: u32,
}
