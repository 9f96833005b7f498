//! Pages in memory: the twin of a relation's fork, for tests and for the check of a format without a server.

use super::error::PageError;
use super::{Page, PAGE_BYTES};

/// A fork: blocks from 0, new ones all zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryPages {
    pages: Vec<Box<Page>>,
}

impl MemoryPages {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn blocks(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Adds zero pages until there are this many.
    pub fn extend_to(&mut self, blocks: u32) {
        while self.blocks() < blocks {
            self.pages.push(Box::new([0; PAGE_BYTES]));
        }
    }

    pub fn page(&self, block: u32) -> Result<&Page, PageError> {
        let count = self.blocks();
        let page = self.pages.get(block as usize).map(AsRef::as_ref);
        page.ok_or(PageError::Beyond { what: "block", index: block, count })
    }

    pub fn page_mut(&mut self, block: u32) -> Result<&mut Page, PageError> {
        let count = self.blocks();
        let page = self.pages.get_mut(block as usize).map(AsMut::as_mut);
        page.ok_or(PageError::Beyond { what: "block", index: block, count })
    }
}
