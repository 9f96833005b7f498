//! Heap tids, and the chunks that hold those of a node beyond its first: rows with byte-equal vectors, and versions of a
//! row that an update without HOT has left.
//!
//! Chunk: next u32, owner u32, count u8, 3 reserved, 10 × (block u32, offset u16). A node's chain begins with its newest
//! chunk, the only one that may have room for an insert; vacuum may leave gaps in any. A free chunk has the owner
//! `NONE`, and its next is the next free one.

use super::bytes::{first_non_zero, get_u16, get_u32, get_u8, put_u16, put_u32, put_u8};
use super::error::PageError;
use super::layout::TIDS;
use super::records::Address;
use super::{Page, NONE};

/// Heap tids in a chunk.
pub const CHUNK_TIDS: usize = 10;
const OWNER_AT: usize = 4;
const COUNT_AT: usize = 8;
const RESERVED_AT: usize = 9;
const TIDS_AT: usize = 12;
const TID_BYTES: usize = 6;
pub(super) const CHUNK_RECORD_BYTES: usize = TIDS_AT + CHUNK_TIDS * TID_BYTES;
const _: () = assert!(CHUNK_RECORD_BYTES == 72 && CHUNK_RECORD_BYTES.is_multiple_of(4));

/// The place of a row in the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeapTid {
    block: u32,
    offset: u16,
}

impl HeapTid {
    /// None if the offset is 0, which no row has.
    #[inline(always)]
    pub const fn new(block: u32, offset: u16) -> Option<Self> {
        if offset == 0 {
            None
        } else {
            Some(HeapTid { block, offset })
        }
    }

    pub const fn block(self) -> u32 {
        self.block
    }

    /// From 1.
    pub const fn offset(self) -> u16 {
        self.offset
    }
}

/// A chunk, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TidChunkRef<'p> {
    /// The next chunk of the node, or of the free list.
    pub next: Option<u32>,
    /// None if the chunk is free.
    pub owner: Option<u32>,
    tids: &'p [[u8; TID_BYTES]],
}

impl<'p> TidChunkRef<'p> {
    /// Parses the chunk at an address of [`super::Layout::tids`].
    pub fn in_page(page: &'p Page, address: Address) -> Result<Self, PageError> {
        let record = page.get(TIDS.range(address));
        Self::parse(record.ok_or(PageError::Refused("tid chunk exceeds its page"))?)
    }

    fn parse(record: &'p [u8]) -> Result<Self, PageError> {
        let Some(record) = record.first_chunk::<CHUNK_RECORD_BYTES>() else {
            return Err(PageError::Refused("tid chunk is too short"));
        };
        let count = get_u8(record, COUNT_AT);
        let wrong = |field, found: u64| Err(PageError::Value { field, found });
        let rooms = record.get(TIDS_AT..).unwrap_or_default().as_chunks::<TID_BYTES>().0;
        let Some(tids) = rooms.get(..usize::from(count)) else {
            return wrong("count of heap tids", u64::from(count));
        };
        if first_non_zero(record, RESERVED_AT, TIDS_AT).is_some() {
            return wrong("reserved bytes of a tid chunk", 1);
        }
        if tids.iter().any(|tid| get_u16(tid, 4) == 0) {
            return wrong("heap offset", 0);
        }
        let (next, owner) = (get_u32(record, 0), get_u32(record, OWNER_AT));
        if owner == NONE && count > 0 {
            return wrong("count of a free tid chunk", u64::from(count));
        }
        Ok(TidChunkRef { next: (next != NONE).then_some(next), owner: (owner != NONE).then_some(owner), tids })
    }

    pub fn len(&self) -> usize {
        self.tids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tids.is_empty()
    }

    pub fn heap_tids(&self) -> impl Iterator<Item = HeapTid> + 'p {
        self.tids.iter().filter_map(|tid| HeapTid::new(get_u32(tid, 0), get_u16(tid, 4)))
    }
}

/// A chunk under change. The caller holds the page exclusively and logs it.
pub struct TidChunkMut<'p> {
    record: &'p mut [u8],
}

impl<'p> TidChunkMut<'p> {
    /// The chunk at an address of [`super::Layout::tids`], if it parses.
    pub fn in_page(page: &'p mut Page, address: Address) -> Result<Self, PageError> {
        let record = page.get_mut(TIDS.range(address));
        let record = record.ok_or(PageError::Refused("tid chunk exceeds its page"))?;
        TidChunkRef::parse(record)?;
        Ok(TidChunkMut { record })
    }

    /// The chunk as it is now.
    pub fn read(&self) -> Result<TidChunkRef<'_>, PageError> {
        TidChunkRef::parse(self.record)
    }

    /// Makes it an empty chunk of a node, before `next`.
    pub fn begin(&mut self, owner: u32, next: Option<u32>) {
        self.record.fill(0);
        put_u32(self.record, 0, next.unwrap_or(NONE));
        put_u32(self.record, OWNER_AT, owner);
    }

    /// Puts it on the free list, before `next_free`.
    pub fn free(&mut self, next_free: Option<u32>) {
        self.begin(NONE, next_free);
    }

    /// Links it to another chunk of its node.
    pub fn set_next(&mut self, next: Option<u32>) {
        put_u32(self.record, 0, next.unwrap_or(NONE));
    }

    /// Adds a heap tid; false if there is no room.
    pub fn push(&mut self, heap_tid: HeapTid) -> Result<bool, PageError> {
        let chunk = self.read()?;
        if chunk.owner.is_none() {
            return Err(PageError::Refused("tid chunk is free"));
        }
        let count = chunk.len();
        if count == CHUNK_TIDS {
            return Ok(false);
        }
        self.put(count, heap_tid);
        put_u8(self.record, COUNT_AT, count as u8 + 1);
        Ok(true)
    }

    /// Keeps the heap tids that `keep` says, closing the gaps; gives how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(HeapTid) -> bool) -> Result<usize, PageError> {
        let before: Vec<HeapTid> = self.read()?.heap_tids().collect();
        let mut kept = 0;
        for &heap_tid in before.iter().filter(|&&heap_tid| keep(heap_tid)) {
            self.put(kept, heap_tid);
            kept += 1;
        }
        if let Some(rest) = self.record.get_mut(TIDS_AT + kept * TID_BYTES..) {
            rest.fill(0);
        }
        put_u8(self.record, COUNT_AT, kept as u8);
        Ok(before.len() - kept)
    }

    fn put(&mut self, index: usize, heap_tid: HeapTid) {
        put_u32(self.record, TIDS_AT + index * TID_BYTES, heap_tid.block);
        put_u16(self.record, TIDS_AT + index * TID_BYTES + 4, heap_tid.offset);
    }
}
