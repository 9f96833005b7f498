//! From an ordinal to its record, its lists and its code; and the index as a [`Graph`] to search.

use super::codes::CodeBatch;
use super::open::{written, Index};
use super::store::{PageStore, Span};
use crate::code::Query;
use crate::hnsw::graph::Graph;
use crate::hnsw::page::node::{CodePlace, NodeRef, NodeState};
use crate::hnsw::page::upper::UpperRef;
use crate::hnsw::page::{CodeLength, HeapTid, PageClass, PageError};

/// What a result takes along: where its rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub heap_tid: HeapTid,
    /// The first chunk of further heap tids.
    pub overflow: Option<u32>,
    /// Counts the uses of the node's slot.
    pub version: u16,
}

/// A node record without its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeHead {
    pub(super) state: NodeState,
    pub(super) level: u8,
    pub(super) version: u16,
    pub(super) heap_tid: Option<HeapTid>,
    pub(super) overflow: Option<u32>,
    pub(super) first_upper: Option<u32>,
    pub(super) next_free: Option<u32>,
    pub(super) code: Option<CodePlace>,
}

impl NodeHead {
    const EMPTY: NodeHead = NodeHead {
        state: NodeState::Empty,
        level: 0,
        version: 0,
        heap_tid: None,
        overflow: None,
        first_upper: None,
        next_free: None,
        code: None,
    };

    pub(super) fn of(node: &NodeRef<'_>) -> NodeHead {
        NodeHead {
            state: node.state,
            level: node.level,
            version: node.version,
            heap_tid: node.heap_tid,
            overflow: node.overflow,
            first_upper: node.first_upper,
            next_free: node.next_free,
            code: node.code,
        }
    }

    pub(super) fn row(&self) -> Option<Row> {
        let heap_tid = self.heap_tid.filter(|_| self.state == NodeState::Live)?;
        Some(Row { heap_tid, overflow: self.overflow, version: self.version })
    }
}

impl<S: PageStore> Index<S> {
    /// Reads a node, and its list at level 0 into `into`: empty unless the node is linked. Neighbours that the index does
    /// not have are left out.
    #[inline]
    pub(super) fn node(&mut self, ordinal: u32, into: Option<&mut Vec<u32>>) -> Result<NodeHead, S::Error> {
        let layout = self.shape.layout;
        let address = layout.nodes().address(ordinal);
        let block = self.block(PageClass::Node, address.page_index)?;
        let nodes = self.entry.nodes;
        self.store
            .read(block, |page| {
                let Some(page) = written(page, PageClass::Node, address.page_index)? else {
                    return Ok(NodeHead::EMPTY);
                };
                let node = NodeRef::in_page(page, &layout, address)?;
                if let Some(into) = into {
                    into.clear();
                    if node.state.is_linked() {
                        into.reserve(layout.max_neighbours(0));
                        into.extend(node.neighbours.iter().filter(|&neighbour| neighbour < nodes));
                    }
                }
                Ok::<_, PageError>(NodeHead::of(&node))
            })?
            .map_err(S::Error::from)
    }

    /// The node records of a page.
    pub(super) fn heads(&mut self, page_index: u32, into: &mut Vec<(u32, NodeHead)>) -> Result<(), S::Error> {
        self.store.check_interrupts()?;
        let layout = self.shape.layout;
        let block = self.block(PageClass::Node, page_index)?;
        let nodes = self.entry.nodes;
        into.clear();
        let read = self.store.read(block, |page| {
            let Some(page) = written(page, PageClass::Node, page_index)? else { return Ok(()) };
            for ordinal in layout.nodes().ordinals(page_index).take_while(|&ordinal| ordinal < nodes) {
                let node = NodeRef::in_page(page, &layout, layout.nodes().address(ordinal))?;
                into.push((ordinal, NodeHead::of(&node)));
            }
            Ok::<_, PageError>(())
        })?;
        Ok(read?)
    }

    /// Reads the list of an upper record into `into`.
    pub(super) fn upper_list(
        &mut self,
        record: u32,
        owner: u32,
        level: u8,
        into: &mut Vec<u32>,
    ) -> Result<(), S::Error> {
        into.clear();
        let layout = self.shape.layout;
        let address = layout.uppers().address(record);
        let block = self.block(PageClass::Upper, address.page_index)?;
        let nodes = self.entry.nodes;
        let read = self.store.read(block, |page| {
            let Some(page) = written(page, PageClass::Upper, address.page_index)? else { return Ok(()) };
            if let Some(upper) = UpperRef::in_page(page, &layout, address)? {
                upper.check_owner(owner, level)?;
                into.extend(upper.neighbours.iter().filter(|&neighbour| neighbour < nodes));
            }
            Ok::<_, PageError>(())
        })?;
        Ok(read?)
    }

    /// Reads a node, and its list at a level into `into`.
    #[inline]
    pub(super) fn list(&mut self, ordinal: u32, level: u8, into: &mut Vec<u32>) -> Result<NodeHead, S::Error> {
        if level == 0 {
            into.clear();
            return self.node(ordinal, Some(into));
        }
        let head = self.node(ordinal, None)?;
        into.clear();
        if head.state.is_linked() && head.level >= level {
            let record = NodeRef::upper_of(head.first_upper, head.level, level)?;
            self.upper_list(record, ordinal, level, into)?;
        }
        Ok(head)
    }

    /// The spans of a node's code, appended to `into`.
    fn code_spans(&mut self, ordinal: u32, into: &mut Vec<Span>) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        let pieces = match layout.code_length() {
            CodeLength::Fixed(_) => layout.code_pieces(ordinal),
            CodeLength::Variable { .. } => match self.node(ordinal, None)?.code {
                Some(place) => layout.chunk_pieces(place.first_chunk, place.code_bytes),
                None => return Ok(()),
            },
        };
        for piece in pieces {
            let block = self.block(PageClass::Code, piece.page_index)?;
            into.push(Span { block, offset: piece.offset, length_bytes: piece.length_bytes });
        }
        Ok(())
    }

    /// Copies the codes of nodes into `into`, instead of what was there. A node without a code has an empty one.
    pub(super) fn codes(&mut self, nodes: &[u32], into: &mut CodeBatch) -> Result<(), S::Error> {
        into.clear();
        for &node in nodes {
            self.code_spans(node, &mut into.spans)?;
            into.finish_one();
        }
        let CodeBatch { bytes, spans, starts, .. } = into;
        self.store.read_stable(spans, |index, page| {
            let (Some(span), Some(&at)) = (spans.get(index), starts.get(index)) else { return };
            let from = page.get(span.offset..span.offset + span.length_bytes);
            if let (Some(from), Some(to)) = (from, bytes.get_mut(at..at + span.length_bytes)) {
                to.copy_from_slice(from);
            }
        })
    }
}

/// The index as a graph, with the memory that scoring uses again.
pub(super) struct IndexGraph<'i, S> {
    pub(super) index: &'i mut Index<S>,
    pub(super) scratch: &'i mut Scratch,
}

/// Memory of a search that the next one uses again.
#[derive(Default)]
pub struct Scratch {
    spans: Vec<Span>,
    codes: CodeBatch,
}

impl<S: PageStore> Graph for IndexGraph<'_, S> {
    type Error = S::Error;
    type Row = Row;

    #[inline]
    fn visit(&mut self, node: u32, level: u8, into: &mut Vec<u32>) -> Result<Option<Row>, S::Error> {
        self.index.store.check_interrupts()?;
        Ok(self.index.list(node, level, into)?.row())
    }

    #[inline]
    fn score(&mut self, query: &Query, nodes: &[u32], into: &mut Vec<f32>) -> Result<(), S::Error> {
        let layout = self.index.shape.layout;
        if layout.codes_cross_pages() {
            self.index.codes(nodes, &mut self.scratch.codes)?;
            let codes = &self.scratch.codes;
            into.extend((0..nodes.len()).map(|index| query.distance(codes.get(index))));
            return Ok(());
        }
        let length_bytes = layout.code_length().max_bytes() as usize;
        let Scratch { spans, .. } = &mut *self.scratch;
        spans.clear();
        for &node in nodes {
            let address = layout.code_address(node);
            let block = self.index.block(PageClass::Code, address.page_index)?;
            spans.push(Span { block, offset: address.offset, length_bytes });
        }
        let first = into.len();
        into.resize(first + nodes.len(), f32::INFINITY);
        let Some(distances) = into.get_mut(first..) else { return Ok(()) };
        self.index.store.read_stable(spans, |index, page| {
            let code = spans.get(index).and_then(|span| page.get(span.offset..span.offset + span.length_bytes));
            if let (Some(code), Some(distance)) = (code, distances.get_mut(index)) {
                *distance = query.distance(code);
            }
        })
    }
}
