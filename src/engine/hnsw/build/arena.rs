//! The memory of a build: one slice of words, in which nodes are put one after the other.
//!
//! A node's *name* is its place, in units of 64 bytes; so an arena has at most 2^31 of them, 128 GiB. Node: head (8 words),
//! code, list of level 0 (2m), lists of the levels above (m). Further heap tids of a node are in chunks of one unit.
//! Codes are written before a node's name is given to anybody, and never again; lists change under the node's lock; heap
//! tids, too. Everything else is a single word. So any number of threads, or of processes that map the memory, may work on
//! it at once. A reader never leaves the slice whatever the words say.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use super::list::List;
use super::spin::SpinGuard;
use crate::hnsw::page::meta::Identity;
use crate::hnsw::page::{CodeLength, HeapTid};

/// Bytes of a unit.
pub const UNIT_BYTES: usize = 64;
const UNIT_WORDS: usize = UNIT_BYTES / 4;
/// The highest number of units: names leave one bit to lists.
const MAX_UNITS: usize = 1 << 31;

/// Where a node is: its unit. 0 is none.
pub type NodeName = u32;

// The arena's own words, in unit 0.
const NEXT_UNIT: usize = 0;
const NODES: usize = 1;
const ENTRY: usize = 2;
const ROWS: usize = 3;
const HELD: usize = 4;
const NEXT_WAITING: usize = 5;
const END_OF_WAITING: usize = 6;

// Words of a node's head.
const LOCK: usize = 0;
const KIND: usize = 1;
const UNITS: usize = 2;
const TID_BLOCK: usize = 3;
const TID_OFFSET: usize = 4;
const CHUNK: usize = 5;
const CODE_BYTES: usize = 6;
const ORDINAL: usize = 7;
const HEAD_WORDS: usize = 8;

// Words of a chunk of heap tids, beside `KIND` and `UNITS`.
const CHUNK_NEXT: usize = 3;
const CHUNK_COUNT: usize = 4;
const CHUNK_TIDS_AT: usize = 5;
const CHUNK_TIDS: usize = (UNIT_WORDS - CHUNK_TIDS_AT) / 2;

/// `KIND` of what was never allocated is 0; that of a node has its level in the second byte.
const KIND_NODE: u32 = 1;
const KIND_CHUNK: u32 = 2;
const KIND_HELD: u32 = 3;
const KIND_WAITING: u32 = 4;
const KIND_MERGED: u32 = 5;

/// What all nodes of an arena have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaShape {
    pub m: u16,
    /// Bytes of every code with the filter keys behind it; None if they differ. Known, a code is found without reading
    /// its node's head, which would be waited for.
    pub code_bytes: Option<u32>,
}

impl ArenaShape {
    /// For the graph of such an index.
    pub fn of(identity: &Identity) -> ArenaShape {
        let code_bytes = match identity.code_length {
            CodeLength::Fixed(bytes) => Some(bytes + identity.row_keys().bytes() as u32),
            CodeLength::Variable { .. } => None,
        };
        ArenaShape { m: identity.m, code_bytes }
    }

    /// Neighbours in a list of this level.
    pub const fn room(self, level: u8) -> usize {
        if level == 0 {
            2 * self.m as usize
        } else {
            self.m as usize
        }
    }

    /// Units of a node of this level with a code of so many bytes.
    pub const fn node_units(self, level: u8, code_bytes: usize) -> usize {
        let lists = List::words(self.room(0)) + level as usize * List::words(self.room(1));
        (HEAD_WORDS + code_bytes.div_ceil(4) + lists).div_ceil(UNIT_WORDS)
    }

    /// About how many bytes a node takes, levels above included.
    pub const fn mean_node_bytes(self, code_bytes: usize) -> usize {
        self.node_units(0, code_bytes) * UNIT_BYTES + List::words(self.room(1)) * 4 / (self.m as usize - 1)
    }
}

/// The arena, seen by one worker.
#[derive(Debug, Clone, Copy)]
pub struct Arena<'m> {
    words: &'m [AtomicU32],
    shape: ArenaShape,
}

impl<'m> Arena<'m> {
    /// Takes words that are all zero as a new arena, or those of another worker's arena as the same one.
    pub fn new(words: &'m [AtomicU32], shape: ArenaShape) -> Arena<'m> {
        let units = (words.len() / UNIT_WORDS).min(MAX_UNITS);
        let arena = Arena { words: words.get(..units * UNIT_WORDS).unwrap_or_default(), shape };
        if let Some(next) = arena.words.get(NEXT_UNIT) {
            // Unit 0 is the arena's own.
            let _ = next.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
        }
        arena
    }

    pub fn shape(&self) -> ArenaShape {
        self.shape
    }

    /// Units in use, and all of them.
    pub fn usage_units(&self) -> (usize, usize) {
        (self.load(NEXT_UNIT) as usize, self.words.len() / UNIT_WORDS)
    }

    /// Nodes put in.
    pub fn nodes(&self) -> u32 {
        self.load(NODES)
    }

    /// Rows put in: nodes and duplicates.
    pub fn rows(&self) -> u32 {
        self.load(ROWS)
    }

    /// Draws the number of the next node.
    pub(super) fn draw_number(&self) -> u64 {
        self.words.get(NODES).map_or(0, |word| u64::from(word.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn count_row(&self) {
        if let Some(word) = self.words.get(ROWS) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes everything out. Nobody else uses the arena meanwhile.
    pub(super) fn clear(&self) {
        let used = self.load(NEXT_UNIT) as usize * UNIT_WORDS;
        for word in self.words.iter().take(used) {
            word.store(0, Ordering::Relaxed);
        }
        if let Some(next) = self.words.get(NEXT_UNIT) {
            next.store(1, Ordering::Release);
        }
    }

    /// The node where searches begin.
    pub fn entry(&self) -> Option<NodeName> {
        let name = self.words.get(ENTRY)?.load(Ordering::Acquire);
        (name != 0).then_some(name)
    }

    /// Makes a node the entry if that is still `before`.
    pub(super) fn replace_entry(&self, before: Option<NodeName>, name: NodeName) -> bool {
        self.words.get(ENTRY).is_some_and(|word| {
            word.compare_exchange(before.unwrap_or(0), name, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    fn load(&self, at: usize) -> u32 {
        self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Units for a record; None if the arena has no more than `reserve` left then.
    fn allocate(&self, units: usize, reserve: usize) -> Option<u32> {
        let limit = (self.words.len() / UNIT_WORDS).saturating_sub(reserve);
        let take = |next: u32| (next as usize + units <= limit).then_some(next + units as u32);
        self.words.first()?.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).ok()
    }

    /// Puts in a node without neighbours; None if the arena is full.
    pub(super) fn add_node(&self, level: u8, code: &[u8], heap_tid: HeapTid) -> Option<NodeName> {
        self.add_record(KIND_NODE, 0, level, code, heap_tid)
    }

    /// Puts in a row that is to be searched for before it becomes a node, unless there are `most` already.
    pub(super) fn hold_out(&self, most: u32, code: &[u8], heap_tid: HeapTid) -> bool {
        let Some(held) = self.words.get(HELD) else { return false };
        let count = |held: u32| (held < most).then_some(held + 1);
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
            && self.add_record(KIND_HELD, 0, 0, code, heap_tid).is_some()
    }

    /// Units that are kept for further heap tids of nodes when rows wait: what they take if all rows are equal.
    fn reserve_of_waiting(&self) -> usize {
        self.words.len() / UNIT_WORDS / 16
    }

    /// Units that there are for rows that wait, when the arena is empty.
    pub(super) fn waiting_units(&self) -> usize {
        (self.words.len() / UNIT_WORDS).saturating_sub(self.reserve_of_waiting() + 1)
    }

    /// Puts in a row that somebody will link later; false if the arena is full, but for its reserve.
    pub(super) fn add_waiting(&self, level: u8, code: &[u8], heap_tid: HeapTid) -> bool {
        self.add_record(KIND_WAITING, self.reserve_of_waiting(), level, code, heap_tid).is_some()
    }

    /// Offers all rows that wait to [`Arena::take_waiting`]. None is added while it does.
    pub fn offer_waiting(&self) {
        if let (Some(next), Some(end)) = (self.words.get(NEXT_WAITING), self.words.get(END_OF_WAITING)) {
            end.store(self.load(NEXT_UNIT), Ordering::Relaxed);
            next.store(1, Ordering::Release);
        }
    }

    /// Whether rows are offered.
    pub fn has_waiting(&self) -> bool {
        self.words.get(NEXT_WAITING).is_some_and(|next| next.load(Ordering::Acquire) != 0)
    }

    /// Takes one of the rows that are offered; None if there are none, any more or at all.
    pub(super) fn take_waiting(&self) -> Option<NodeName> {
        let next = self.words.get(NEXT_WAITING)?;
        loop {
            let name = next.load(Ordering::Acquire);
            if name == 0 {
                return None;
            }
            let units = self.head_word(name, UNITS);
            let behind = name.checked_add(units).filter(|&behind| units > 0 && behind < self.load(END_OF_WAITING));
            if next.compare_exchange(name, behind.unwrap_or(0), Ordering::AcqRel, Ordering::Relaxed).is_ok()
                && self.head_word(name, KIND) & 0xFF == KIND_WAITING
            {
                return Some(name);
            }
        }
    }

    /// Makes a row that was held out, or waited, a node, without neighbours.
    pub(super) fn make_node(&self, name: NodeName) {
        if let Some(head) = self.head(name) {
            let level = head[KIND].load(Ordering::Relaxed) & !0xFF;
            head[KIND].store(KIND_NODE | level, Ordering::Release);
        }
    }

    /// Takes a row that waited out: it is another node's now.
    pub(super) fn set_merged(&self, name: NodeName) {
        if let Some(head) = self.head(name) {
            head[KIND].store(KIND_MERGED, Ordering::Release);
        }
    }

    fn add_record(&self, kind: u32, reserve: usize, level: u8, code: &[u8], heap_tid: HeapTid) -> Option<NodeName> {
        if self.shape.code_bytes.is_some_and(|bytes| bytes as usize != code.len()) {
            return None;
        }
        let units = self.shape.node_units(level, code.len());
        let name = self.allocate(units, reserve)?;
        let record = self.record(name)?;
        for (word, bytes) in record.get(HEAD_WORDS..)?.iter().zip(code.chunks(4)) {
            let mut padded = [0; 4];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u32::from_ne_bytes(padded), Ordering::Relaxed);
        }
        let head = record.first_chunk::<HEAD_WORDS>()?;
        head[UNITS].store(units as u32, Ordering::Relaxed);
        head[TID_BLOCK].store(heap_tid.block(), Ordering::Relaxed);
        head[TID_OFFSET].store(u32::from(heap_tid.offset()), Ordering::Relaxed);
        head[CODE_BYTES].store(code.len() as u32, Ordering::Relaxed);
        head[ORDINAL].store(u32::MAX, Ordering::Relaxed);
        head[KIND].store(kind | u32::from(level) << 8, Ordering::Release);
        Some(name)
    }

    /// The words from a record's first to the arena's end.
    #[inline(always)]
    fn record(&self, name: NodeName) -> Option<&'m [AtomicU32]> {
        self.words.get(name as usize * UNIT_WORDS..)
    }

    #[inline(always)]
    fn head(&self, name: NodeName) -> Option<&'m [AtomicU32; HEAD_WORDS]> {
        self.record(name)?.first_chunk()
    }

    fn head_word(&self, name: NodeName, word: usize) -> u32 {
        self.head(name).map_or(0, |head| head[word].load(Ordering::Acquire))
    }

    pub fn level(&self, name: NodeName) -> u8 {
        (self.head_word(name, KIND) >> 8) as u8
    }

    /// The code of a node.
    #[inline]
    pub fn code(&self, name: NodeName) -> &'m [u8] {
        let Some(record) = self.record(name) else { return &[] };
        let bytes = match self.shape.code_bytes {
            Some(bytes) => bytes as usize,
            None => record.get(CODE_BYTES).map_or(0, |word| word.load(Ordering::Relaxed)) as usize,
        };
        let Some(words) = record.get(HEAD_WORDS..HEAD_WORDS + bytes.div_ceil(4)) else { return &[] };
        // SAFETY: the words of a code are written before its node's name is given out, which every reader got by an
        // acquiring load, and never again; `bytes` of them lie in the slice.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), bytes) }
    }

    /// The list of a node at one of its levels.
    #[inline]
    pub(super) fn list(&self, name: NodeName, level: u8) -> Option<List<'m>> {
        let record = self.record(name)?;
        let head = record.first_chunk::<HEAD_WORDS>()?;
        if level > (head[KIND].load(Ordering::Acquire) >> 8) as u8 {
            return None;
        }
        let code_words = (head[CODE_BYTES].load(Ordering::Relaxed) as usize).div_ceil(4);
        let (lower, room) = match level {
            0 => (0, self.shape.room(0)),
            _ => {
                let above = List::words(self.shape.room(1));
                (List::words(self.shape.room(0)) + (level as usize - 1) * above, self.shape.room(1))
            }
        };
        let at = HEAD_WORDS + code_words + lower;
        List::in_words(record.get(at..at + List::words(room))?)
    }

    /// Locks a node's lists and heap tids.
    pub(super) fn lock(&self, name: NodeName) -> Option<SpinGuard<'m>> {
        Some(SpinGuard::lock(&self.head(name)?[LOCK]))
    }

    /// Adds a row to a node; false if the arena is full. The caller holds no lock.
    pub(super) fn add_heap_tid(&self, name: NodeName, heap_tid: HeapTid) -> bool {
        let (Some(_guard), Some(head)) = (self.lock(name), self.head(name)) else { return false };
        let first = head[CHUNK].load(Ordering::Relaxed);
        let has_room = |chunk: &&[AtomicU32]| chunk[CHUNK_COUNT].load(Ordering::Relaxed) < CHUNK_TIDS as u32;
        let chunk = match self.chunk(first).filter(has_room) {
            Some(chunk) => chunk,
            None => {
                let Some(name) = self.allocate(1, 0) else { return false };
                let Some(chunk) = self.chunk(name) else { return false };
                chunk[CHUNK_NEXT].store(first, Ordering::Relaxed);
                chunk[UNITS].store(1, Ordering::Relaxed);
                chunk[KIND].store(KIND_CHUNK, Ordering::Relaxed);
                head[CHUNK].store(name, Ordering::Relaxed);
                chunk
            }
        };
        let count = chunk[CHUNK_COUNT].load(Ordering::Relaxed) as usize;
        let at = CHUNK_TIDS_AT + 2 * count;
        chunk[at].store(heap_tid.block(), Ordering::Relaxed);
        chunk[at + 1].store(u32::from(heap_tid.offset()), Ordering::Relaxed);
        chunk[CHUNK_COUNT].store(count as u32 + 1, Ordering::Relaxed);
        true
    }

    /// A chunk's words.
    fn chunk(&self, name: u32) -> Option<&'m [AtomicU32]> {
        if name == 0 {
            return None;
        }
        self.record(name)?.get(..UNIT_WORDS)
    }

    /// The heap tid with which a node was put in.
    pub(super) fn first_tid(&self, name: NodeName) -> Option<HeapTid> {
        HeapTid::new(self.head_word(name, TID_BLOCK), self.head_word(name, TID_OFFSET) as u16)
    }

    /// The block of the heap tid with which a node was put in.
    pub(super) fn first_row(&self, name: NodeName) -> Option<u32> {
        self.head(name).map(|head| head[TID_BLOCK].load(Ordering::Relaxed))
    }

    /// Puts all heap tids of a node into `into`, instead of what was there, lowest first. No worker is active any more.
    pub(super) fn heap_tids(&self, name: NodeName, into: &mut Vec<HeapTid>) {
        into.clear();
        let tid = |block: u32, offset: u32| HeapTid::new(block, offset as u16);
        into.extend(tid(self.head_word(name, TID_BLOCK), self.head_word(name, TID_OFFSET)));
        let mut next = self.head_word(name, CHUNK);
        // A chunk lies behind the one it follows.
        while let Some(chunk) = self.chunk(next) {
            let count = (chunk[CHUNK_COUNT].load(Ordering::Relaxed) as usize).min(CHUNK_TIDS);
            let pairs = chunk[CHUNK_TIDS_AT..].chunks_exact(2).take(count);
            into.extend(pairs.filter_map(|pair| tid(pair[0].load(Ordering::Relaxed), pair[1].load(Ordering::Relaxed))));
            next = chunk[CHUNK_NEXT].load(Ordering::Relaxed).min(next.saturating_sub(1));
        }
        into.sort_unstable();
    }

    pub(super) fn ordinal(&self, name: NodeName) -> u32 {
        self.head_word(name, ORDINAL)
    }

    pub(super) fn set_ordinal(&self, name: NodeName, ordinal: u32) {
        if let Some(head) = self.head(name) {
            head[ORDINAL].store(ordinal, Ordering::Relaxed);
        }
    }

    /// The names of all nodes, in the order in which they were put in.
    pub fn names(&self) -> impl Iterator<Item = NodeName> + 'm {
        self.records(KIND_NODE)
    }

    /// The rows that were held out and are no nodes yet.
    pub fn held_out(&self) -> impl Iterator<Item = NodeName> + 'm {
        self.records(KIND_HELD)
    }

    fn records(&self, wanted: u32) -> impl Iterator<Item = NodeName> + 'm {
        let arena = *self;
        let mut at = 1u32;
        std::iter::from_fn(move || loop {
            let (kind, units) = (arena.head_word(at, KIND) & 0xFF, arena.head_word(at, UNITS));
            if kind == 0 || units == 0 || at >= arena.load(NEXT_UNIT) {
                return None;
            }
            let name = at;
            at = at.checked_add(units)?;
            if kind == wanted {
                return Some(name);
            }
        })
    }
}
