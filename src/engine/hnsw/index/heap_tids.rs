//! The heap tids of a node beyond its first: reading the chain, and adding to it.

use super::open::{prepare, written, Index};
use super::read::Row;
use super::store::PageStore;
use crate::hnsw::page::node::NodeRef;
use crate::hnsw::page::tids::{TidChunkMut, TidChunkRef};
use crate::hnsw::page::{HeapTid, PageClass, PageError};

/// Chunks of a chain between two looks at how many there are.
const LINKS_BETWEEN_CHECKS: u32 = 256;

impl<S: PageStore> Index<S> {
    /// Appends the heap tids of a chunk of a node to `into`. A vacuum may have freed a chunk that was read of before.
    pub fn tid_chunk(&mut self, node: u32, chunk: u32, into: &mut Vec<HeapTid>) -> Result<ChunkRead, S::Error> {
        let address = self.shape.layout.tids().address(chunk);
        let block = self.block(PageClass::Tids, address.page_index)?;
        let read = self.store.read(block, |page| {
            let Some(page) = written(page, PageClass::Tids, address.page_index)? else { return Ok(ChunkRead::Gone) };
            let record = TidChunkRef::in_page(page, address)?;
            if record.owner != Some(node) {
                return Ok(ChunkRead::Gone);
            }
            into.extend(record.heap_tids());
            Ok::<_, PageError>(ChunkRead::Next(record.next))
        })?;
        Ok(read?)
    }

    /// The row of a node as it is now, if it still is the same use of its slot.
    pub fn row_now(&mut self, node: u32, version: u16) -> Result<Option<Row>, S::Error> {
        self.store.check_interrupts()?;
        Ok(self.node(node, None)?.row().filter(|row| row.version == version))
    }

    /// Replaces `into` by all heap tids of a node.
    pub fn heap_tids(&mut self, node: u32, row: Row, into: &mut Vec<HeapTid>) -> Result<(), S::Error> {
        into.clear();
        into.push(row.heap_tid);
        let mut next = row.overflow;
        let mut links = 0u32;
        while let Some(chunk) = next {
            self.store.check_interrupts()?;
            next = match self.tid_chunk(node, chunk, into)? {
                ChunkRead::Next(next) => next,
                ChunkRead::Gone => None,
            };
            links += 1;
            self.check_chain(links)?;
        }
        Ok(())
    }

    /// Refuses a chain of more links than there are chunks, which leads back into itself. Looked at once in many links:
    /// chains are short.
    pub(super) fn check_chain(&mut self, links: u32) -> Result<(), S::Error> {
        if links.is_multiple_of(LINKS_BETWEEN_CHECKS) && links > self.meta()?.counts.tid_chunks {
            return Err(PageError::Cycle("heap tids").into());
        }
        Ok(())
    }

    /// Adds a row to a live node; false if the node is not live any more.
    pub(super) fn add_heap_tid(&mut self, node: u32, heap_tid: HeapTid) -> Result<bool, S::Error> {
        loop {
            self.store.check_interrupts()?;
            let Some(row) = self.node(node, None)?.row() else { return Ok(false) };
            if let Some(chunk) = row.overflow {
                match self.push_heap_tid(node, chunk, heap_tid)? {
                    Push::Done => return Ok(true),
                    Push::Full => {}
                    Push::Changed => continue,
                }
            }
            if self.add_tid_chunk(node, row.overflow, heap_tid)? {
                return Ok(true);
            }
        }
    }

    /// Adds a row to the chunk with which the chain of a live node begins.
    fn push_heap_tid(&mut self, node: u32, chunk: u32, heap_tid: HeapTid) -> Result<Push, S::Error> {
        let layout = self.shape.layout;
        let (node_address, chunk_address) = (layout.nodes().address(node), layout.tids().address(chunk));
        let node_block = self.block(PageClass::Node, node_address.page_index)?;
        let chunk_block = self.block(PageClass::Tids, chunk_address.page_index)?;
        let blocks = [node_block.min(chunk_block), node_block.max(chunk_block)];
        self.store.change(&blocks, |pages| {
            let [lower, upper] = pages else { return Err(PageError::Refused("change of too few pages")) };
            let (node_page, chunk_page) = if node_block < chunk_block { (lower, upper) } else { (upper, lower) };
            let head = NodeRef::in_page(node_page, &layout, node_address)?;
            if head.heap_tid.is_none() || head.overflow != Some(chunk) {
                return Ok(Push::Changed);
            }
            prepare(chunk_page, PageClass::Tids, chunk_address.page_index)?;
            let mut record = TidChunkMut::in_page(chunk_page, chunk_address)?;
            if record.read()?.owner != Some(node) {
                return Err(PageError::Value { field: "owner of a tid chunk", found: u64::from(chunk) });
            }
            Ok(if record.push(heap_tid)? { Push::Done } else { Push::Full })
        })
    }
}

/// What became of reading a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkRead {
    /// The next chunk of the node's chain.
    Next(Option<u32>),
    /// It is not the node's any more.
    Gone,
}

enum Push {
    Done,
    Full,
    /// The chain begins with another chunk now.
    Changed,
}
