//! The storage's twin in memory, watched: a loop that never ends reads pages or asks for interrupts without end, and ends
//! here in a panic, at the same place in every run. A fork has so many blocks at most, as a disk has.

use pg_rag_engine::hnsw::index::memory::{MemoryError, MemoryStore};
use pg_rag_engine::hnsw::index::{PageStore, Span};
use pg_rag_engine::hnsw::page::store::MemoryPages;
use pg_rag_engine::hnsw::page::{Page, PageError};

/// Calls of the store for one input. A few tens of thousands are usual.
const MOST_CALLS: u64 = 3_000_000;
/// Blocks that an index of these targets is allowed: eight times what one needs.
const MOST_BLOCKS: u32 = 1024;

pub struct WatchedStore {
    pub memory: MemoryStore,
    calls: u64,
}

impl WatchedStore {
    pub fn new(pages: MemoryPages) -> Self {
        WatchedStore { memory: MemoryStore::new(pages), calls: 0 }
    }

    /// The pages as a crash leaves them.
    pub fn into_pages(self) -> MemoryPages {
        self.memory.pages
    }

    fn count(&mut self, calls: usize) {
        self.calls += calls as u64;
        assert!(self.calls <= MOST_CALLS, "the index is read without end");
    }
}

impl PageStore for WatchedStore {
    type Error = MemoryError;

    fn read<R>(&mut self, block: u32, read: impl FnOnce(&Page) -> R) -> Result<R, MemoryError> {
        self.count(1);
        self.memory.read(block, read)
    }

    fn read_stable(&mut self, spans: &[Span], read: impl FnMut(usize, &Page)) -> Result<(), MemoryError> {
        self.count(spans.len());
        self.memory.read_stable(spans, read)
    }

    fn change<R>(
        &mut self,
        blocks: &[u32],
        change: impl FnOnce(&mut [&mut Page]) -> Result<R, PageError>,
    ) -> Result<R, MemoryError> {
        self.count(1);
        self.memory.change(blocks, change)
    }

    fn extend_to(&mut self, blocks: u32) -> Result<(), MemoryError> {
        assert!(blocks <= MOST_BLOCKS, "the fork is extended to {blocks} blocks");
        self.memory.extend_to(blocks)
    }

    fn drain_inserts(&mut self) -> Result<(), MemoryError> {
        self.memory.drain_inserts()
    }

    fn check_interrupts(&mut self) -> Result<(), MemoryError> {
        self.count(1);
        self.memory.check_interrupts()
    }
}
