//! Node records, changed: empty → inserting → live → dead → free → inserting…
//!
//! The caller holds the page exclusively and logs it. A change that the present state does not allow is refused and
//! leaves the record as it was. [`NodeMut::claim`] of a free slot bumps the version and keeps level and upper records.

use super::bytes::{get_u16, put_u16, put_u32, put_u8};
use super::error::PageError;
use super::ids::IdsMut;
use super::layout::{CodeLength, Layout};
use super::node::{
    CodePlace, NodeRef, NodeState, COUNT_AT, LEVEL_AT, NODE_HEAD_BYTES, OVERFLOW_AT, STATE_AT, TID_BLOCK_AT,
    TID_OFFSET_AT, UPPER_AT, VERSION_AT,
};
use super::records::Address;
use super::tids::HeapTid;
use super::{Page, MAX_LEVEL, NONE};

/// A node record under change.
pub struct NodeMut<'p> {
    record: &'p mut [u8],
    layout: &'p Layout,
}

impl<'p> NodeMut<'p> {
    /// The record at an address of [`Layout::nodes`], if it parses.
    pub fn in_page(page: &'p mut Page, layout: &'p Layout, address: Address) -> Result<Self, PageError> {
        let record = page.get_mut(layout.nodes().range(address));
        let node = NodeMut { record: record.ok_or(PageError::Refused("node exceeds its page"))?, layout };
        node.read()?;
        Ok(node)
    }

    /// The record as it is now.
    pub fn read(&self) -> Result<NodeRef<'_>, PageError> {
        NodeRef::parse(self.record, self.layout)
    }

    fn require(&self, states: &[NodeState], refusal: &'static str) -> Result<(), PageError> {
        if states.contains(&self.read()?.state) {
            Ok(())
        } else {
            Err(PageError::Refused(refusal))
        }
    }

    /// Takes an empty slot for a node of this level, whose upper records begin at `first_upper`.
    pub fn begin(&mut self, level: u8, first_upper: Option<u32>) -> Result<(), PageError> {
        self.require(&[NodeState::Empty], "node is in use")?;
        if level > MAX_LEVEL || (level > 0) != first_upper.is_some() {
            return Err(PageError::Refused("upper records do not fit the level"));
        }
        put_u32(self.record, UPPER_AT, first_upper.unwrap_or(NONE));
        put_u32(self.record, OVERFLOW_AT, NONE);
        put_u8(self.record, LEVEL_AT, level);
        put_u8(self.record, STATE_AT, NodeState::Inserting as u8);
        Ok(())
    }

    /// Takes a free slot again; gives the next of the free list. Level, upper records and code place stay.
    pub fn claim(&mut self) -> Result<Option<u32>, PageError> {
        self.require(&[NodeState::Free], "node is not free")?;
        let next_free = self.read()?.next_free;
        let version = get_u16(self.record, VERSION_AT).wrapping_add(1);
        put_u16(self.record, VERSION_AT, version);
        put_u32(self.record, TID_BLOCK_AT, 0);
        put_u8(self.record, STATE_AT, NodeState::Inserting as u8);
        Ok(next_free)
    }

    /// Makes a node visible to searches, with its row. Its code and lists are written.
    pub fn publish(&mut self, heap_tid: HeapTid) -> Result<(), PageError> {
        self.require(&[NodeState::Inserting], "node is not being inserted")?;
        self.put_heap_tid(heap_tid);
        put_u8(self.record, STATE_AT, NodeState::Live as u8);
        Ok(())
    }

    /// Gives a live node another row.
    pub fn set_heap_tid(&mut self, heap_tid: HeapTid) -> Result<(), PageError> {
        self.require(&[NodeState::Live], "node is not live")?;
        self.put_heap_tid(heap_tid);
        Ok(())
    }

    /// Sets the chunk with which a live node's further heap tids begin.
    pub fn set_overflow(&mut self, first_chunk: Option<u32>) -> Result<(), PageError> {
        self.require(&[NodeState::Live], "node is not live")?;
        put_u32(self.record, OVERFLOW_AT, first_chunk.unwrap_or(NONE));
        Ok(())
    }

    /// Takes the rows from a node, live or given up by its insert; its edges stay. The caller has freed its chunks.
    pub fn mark_dead(&mut self) -> Result<(), PageError> {
        self.require(&[NodeState::Live, NodeState::Inserting], "node is not live")?;
        put_u32(self.record, TID_BLOCK_AT, 0);
        put_u16(self.record, TID_OFFSET_AT, 0);
        put_u32(self.record, OVERFLOW_AT, NONE);
        put_u8(self.record, STATE_AT, NodeState::Dead as u8);
        Ok(())
    }

    /// Puts a dead node, to which no edge leads any more, on the free list before `next_free`.
    pub fn free(&mut self, next_free: Option<u32>) -> Result<(), PageError> {
        self.require(&[NodeState::Dead], "node is not dead")?;
        put_u32(self.record, TID_BLOCK_AT, next_free.unwrap_or(NONE));
        put_u8(self.record, COUNT_AT, 0);
        put_u8(self.record, STATE_AT, NodeState::Free as u8);
        Ok(())
    }

    /// Says where the code of a node being inserted lies, with codes of variable length.
    pub fn set_code(&mut self, place: CodePlace) -> Result<(), PageError> {
        self.require(&[NodeState::Inserting], "node is not being inserted")?;
        match self.layout.code_length() {
            CodeLength::Variable { max_bytes } if (1..=max_bytes).contains(&place.code_bytes) => {
                put_u32(self.record, NODE_HEAD_BYTES, place.first_chunk);
                put_u32(self.record, NODE_HEAD_BYTES + 4, place.code_bytes);
                Ok(())
            }
            _ => Err(PageError::Refused("code does not fit the index")),
        }
    }

    /// Replaces the level-0 list.
    pub fn set_neighbours(&mut self, ids: &[u32]) -> Result<(), PageError> {
        self.list()?.set(ids)
    }

    /// Adds a neighbour at level 0.
    pub fn push_neighbour(&mut self, id: u32) -> Result<(), PageError> {
        self.list()?.push(id)
    }

    /// Replaces one neighbour at level 0.
    pub fn replace_neighbour(&mut self, index: usize, id: u32) -> Result<(), PageError> {
        self.list()?.replace(index, id)
    }

    fn list(&mut self) -> Result<IdsMut<'_>, PageError> {
        let linkable = [NodeState::Inserting, NodeState::Live, NodeState::Dead];
        self.require(&linkable, "node is not in use")?;
        let too_short = PageError::Refused("node record is too short");
        let (head, rest) = self.record.split_at_mut_checked(NODE_HEAD_BYTES).ok_or(too_short)?;
        let room = rest.get_mut(self.layout.list_offset() - NODE_HEAD_BYTES..).ok_or(too_short)?;
        let count = head.get_mut(COUNT_AT).ok_or(too_short)?;
        IdsMut::new(count, room, self.layout.max_neighbours(0))
    }

    fn put_heap_tid(&mut self, heap_tid: HeapTid) {
        put_u32(self.record, TID_BLOCK_AT, heap_tid.block());
        put_u16(self.record, TID_OFFSET_AT, heap_tid.offset());
    }
}
