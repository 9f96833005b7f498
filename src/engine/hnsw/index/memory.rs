//! The storage's twin in memory, with crashes: after a number of changes, every further one is lost.

use super::store::{PageStore, Span, MAX_CHANGED_PAGES};
use crate::hnsw::page::store::MemoryPages;
use crate::hnsw::page::{Page, PageError};

/// Pages in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    pub pages: MemoryPages,
    changes: u64,
    /// The number of changes after which the store fails.
    crash_after: Option<u64>,
}

/// Why the twin gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("crashed")]
    Crashed,
}

impl MemoryStore {
    pub fn new(pages: MemoryPages) -> Self {
        MemoryStore { pages, changes: 0, crash_after: None }
    }

    /// Lets the next `changes` changes happen, and fails on the one after them.
    pub fn crash_after(&mut self, changes: Option<u64>) {
        self.changes = 0;
        self.crash_after = changes;
    }

    /// Changes since the last [`MemoryStore::crash_after`].
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

impl PageStore for MemoryStore {
    type Error = MemoryError;

    fn read<R>(&mut self, block: u32, read: impl FnOnce(&Page) -> R) -> Result<R, MemoryError> {
        Ok(read(self.pages.page(block)?))
    }

    fn read_stable(&mut self, spans: &[Span], mut read: impl FnMut(usize, &Page)) -> Result<(), MemoryError> {
        for (index, span) in spans.iter().enumerate() {
            read(index, self.pages.page(span.block)?);
        }
        Ok(())
    }

    fn change<R>(
        &mut self,
        blocks: &[u32],
        change: impl FnOnce(&mut [&mut Page]) -> Result<R, PageError>,
    ) -> Result<R, MemoryError> {
        if blocks.len() > MAX_CHANGED_PAGES || !blocks.is_sorted_by(|a, b| a < b) {
            return Err(PageError::Refused("blocks of a change are out of order").into());
        }
        if self.crash_after == Some(self.changes) {
            return Err(MemoryError::Crashed);
        }
        let mut copies = blocks.iter().map(|&block| self.pages.page(block).copied()).collect::<Result<Vec<_>, _>>()?;
        let mut pages: Vec<&mut Page> = copies.iter_mut().collect();
        let result = change(&mut pages)?;
        for (&block, copy) in blocks.iter().zip(&copies) {
            *self.pages.page_mut(block)? = *copy;
        }
        self.changes += 1;
        Ok(result)
    }

    fn extend_to(&mut self, blocks: u32) -> Result<(), MemoryError> {
        self.pages.extend_to(blocks);
        Ok(())
    }

    fn drain_inserts(&mut self) -> Result<(), MemoryError> {
        Ok(())
    }

    fn check_interrupts(&mut self) -> Result<(), MemoryError> {
        Ok(())
    }
}
