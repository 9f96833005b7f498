//! Node records, read: state, heap tid, level-0 list, and where the node's other records are.
//!
//! A record is parsed from its own bytes, in place in a page or copied out of one (a reader without a lock copies). The
//! changes are in `node_edit.rs`. Invariants of a record that is not empty, checked by every parse: a node of level 0
//! has no upper records, any other has; a live node has a heap tid, a free one has none; counts fit the room.

use super::bytes::{get_u16, get_u32, get_u8};
use super::error::PageError;
use super::ids::Ids;
use super::layout::{CodeLength, Layout};
use super::records::Address;
use super::tids::HeapTid;
use super::{Page, MAX_LEVEL, NONE};

pub(super) const TID_BLOCK_AT: usize = 0;
pub(super) const TID_OFFSET_AT: usize = 4;
pub(super) const VERSION_AT: usize = 6;
pub(super) const UPPER_AT: usize = 8;
pub(super) const OVERFLOW_AT: usize = 12;
pub(super) const STATE_AT: usize = 16;
pub(super) const LEVEL_AT: usize = 17;
pub(super) const COUNT_AT: usize = 18;
const FLAGS_AT: usize = 19;
pub(super) const NODE_HEAD_BYTES: usize = 20;
/// With codes of variable length: first chunk and bytes, after the head.
pub(super) const NODE_CODE_BYTES: usize = 8;
const _: () = assert!(FLAGS_AT + 1 == NODE_HEAD_BYTES && NODE_HEAD_BYTES.is_multiple_of(4));

/// Where a node is in its life. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeState {
    /// Never used: all bytes zero.
    Empty = 0,
    /// Has an ordinal, and no edges to it yet.
    Inserting = 1,
    Live = 2,
    /// Has lost its rows; searched through until nothing points to it, never returned.
    Dead = 3,
    /// On the free list.
    Free = 4,
}

impl NodeState {
    #[inline(always)]
    pub fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(NodeState::Empty),
            1 => Some(NodeState::Inserting),
            2 => Some(NodeState::Live),
            3 => Some(NodeState::Dead),
            4 => Some(NodeState::Free),
            _ => None,
        }
    }

    /// Whether a search may go through the node.
    pub const fn is_linked(self) -> bool {
        matches!(self, NodeState::Live | NodeState::Dead)
    }
}

/// Where a code of variable length lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodePlace {
    pub first_chunk: u32,
    pub code_bytes: u32,
}

/// Where the rows of a live node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    pub heap_tid: HeapTid,
    /// The first chunk of further heap tids.
    pub overflow: Option<u32>,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRef<'p> {
    pub state: NodeState,
    pub level: u8,
    /// Uses of the slot, wrapping.
    pub version: u16,
    pub heap_tid: Option<HeapTid>,
    /// The first chunk of further heap tids.
    pub overflow: Option<u32>,
    /// The upper record of level 1; that of level n is n - 1 further.
    pub first_upper: Option<u32>,
    /// Of a free node: the next on the free list.
    pub next_free: Option<u32>,
    /// With codes of variable length, once the code is written.
    pub code: Option<CodePlace>,
    /// At level 0.
    pub neighbours: Ids<'p>,
}

fn option(number: u32) -> Option<u32> {
    (number != NONE).then_some(number)
}

impl<'p> NodeRef<'p> {
    /// Parses the record at an address of [`Layout::nodes`].
    #[inline]
    pub fn in_page(page: &'p Page, layout: &Layout, address: Address) -> Result<Self, PageError> {
        let record = page.get(layout.nodes().range(address));
        Self::parse(record.ok_or(PageError::Refused("node exceeds its page"))?, layout)
    }

    /// Of the record at an address, where its rows are, if it is live: the first, and the first chunk of further ones. What
    /// else is in the record is not looked at, so that all nodes can be asked in little time.
    #[inline]
    pub fn rows_in_page(page: &Page, layout: &Layout, address: Address) -> Result<Option<Rows>, PageError> {
        let record = page.get(layout.nodes().range(address));
        let Some(head) = record.and_then(|record| record.first_chunk::<NODE_HEAD_BYTES>()) else {
            return Err(PageError::Refused("node exceeds its page"));
        };
        if get_u8(head, STATE_AT) != NodeState::Live as u8 {
            return Ok(None);
        }
        let heap_tid = HeapTid::new(get_u32(head, TID_BLOCK_AT), get_u16(head, TID_OFFSET_AT));
        let heap_tid = heap_tid.ok_or(wrong("heap tid of a node", get_u32(head, TID_BLOCK_AT)))?;
        Ok(Some(Rows { heap_tid, overflow: option(get_u32(head, OVERFLOW_AT)) }))
    }

    /// Parses a record of [`Layout::nodes`]' stride.
    #[inline]
    pub fn parse(record: &'p [u8], layout: &Layout) -> Result<Self, PageError> {
        let (Some(head), Some(room)) = (record.first_chunk::<NODE_HEAD_BYTES>(), record.get(layout.list_offset()..))
        else {
            return Err(PageError::Refused("node record is too short"));
        };
        let number = get_u8(head, STATE_AT);
        let state = NodeState::from_u8(number).ok_or(wrong("state of a node", u32::from(number)))?;
        if state == NodeState::Empty {
            return Self::parse_empty(head);
        }
        let block = get_u32(head, TID_BLOCK_AT);
        let level = get_u8(head, LEVEL_AT);
        let node = NodeRef {
            state,
            level,
            version: get_u16(head, VERSION_AT),
            heap_tid: HeapTid::new(block, get_u16(head, TID_OFFSET_AT)),
            overflow: option(get_u32(head, OVERFLOW_AT)),
            first_upper: option(get_u32(head, UPPER_AT)),
            next_free: if state == NodeState::Free { option(block) } else { None },
            code: code_place(record, layout)?,
            neighbours: Ids::new(room, layout.max_neighbours(0), get_u8(head, COUNT_AT))?,
        };
        if get_u8(head, FLAGS_AT) != 0 {
            return Err(wrong("flags of a node", u32::from(get_u8(head, FLAGS_AT))));
        }
        if level > MAX_LEVEL || (level > 0) != node.first_upper.is_some() {
            return Err(wrong("level of a node", u32::from(level)));
        }
        let tid_fits = match state {
            NodeState::Live => node.heap_tid.is_some(),
            _ => node.heap_tid.is_none() && node.overflow.is_none(),
        };
        if !tid_fits {
            return Err(wrong("heap tid of a node", block));
        }
        Ok(node)
    }

    fn parse_empty(head: &[u8; NODE_HEAD_BYTES]) -> Result<Self, PageError> {
        if head.iter().any(|&byte| byte != 0) {
            return Err(wrong("head of an empty node", get_u32(head, TID_BLOCK_AT)));
        }
        Ok(NodeRef {
            state: NodeState::Empty,
            level: 0,
            version: 0,
            heap_tid: None,
            overflow: None,
            first_upper: None,
            next_free: None,
            code: None,
            neighbours: Ids::EMPTY,
        })
    }

    /// The upper record of a level from 1 to the node's.
    pub fn upper(&self, level: u8) -> Result<u32, PageError> {
        Self::upper_of(self.first_upper, self.level, level)
    }

    /// The upper record of a level, of a node of level `top` whose first one is this.
    pub fn upper_of(first_upper: Option<u32>, top: u8, level: u8) -> Result<u32, PageError> {
        match first_upper.and_then(|first| first.checked_add(u32::from(level).checked_sub(1)?)) {
            Some(record) if level <= top => Ok(record),
            _ => Err(PageError::Beyond { what: "level", index: u32::from(level), count: u32::from(top) + 1 }),
        }
    }
}

#[inline(always)]
fn code_place(record: &[u8], layout: &Layout) -> Result<Option<CodePlace>, PageError> {
    let CodeLength::Variable { max_bytes } = layout.code_length() else { return Ok(None) };
    let place =
        CodePlace { first_chunk: get_u32(record, NODE_HEAD_BYTES), code_bytes: get_u32(record, NODE_HEAD_BYTES + 4) };
    if place.code_bytes > max_bytes {
        return Err(wrong("length of a code", place.code_bytes));
    }
    Ok((place.code_bytes > 0).then_some(place))
}

#[cold]
fn wrong(field: &'static str, found: u32) -> PageError {
    PageError::Value { field, found: u64::from(found) }
}
