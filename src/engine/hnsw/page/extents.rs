//! From the index of a page within its class to its block: one base extent of any length, then growth extents of
//! 1, 1, 2, 4, 8, 16, 32, 64, 64, 64… blocks.
//!
//! The base extent is what the build wrote; growth extents are what inserts added. [`ClassExtents`] is a class's
//! descriptor on the metapage; [`ExtentMap`] the array that a backend caches, with the directory pages taken in.

use super::directory;
use super::error::PageError;
use super::special::{self, PageKind};
use super::terms::PageClass;
use super::{Page, NONE};

/// Blocks in the largest extent.
pub const MAX_EXTENT_BLOCKS: u32 = 64;
/// Growth extents whose blocks stand on the metapage.
pub const INLINE_EXTENTS: usize = 32;

/// The extents 0 to 6 together have as many blocks as each further one.
const SMALL_EXTENTS: u32 = MAX_EXTENT_BLOCKS.trailing_zeros() + 1;
const _: () = assert!(MAX_EXTENT_BLOCKS.is_power_of_two());

/// What the metapage says about a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassExtents {
    /// Where the build's pages begin; meaningless if there are none.
    pub base_block: u32,
    pub base_pages: u32,
    /// How many growth extents there are.
    pub extents: u32,
    /// First and last directory page, for extents beyond [`INLINE_EXTENTS`].
    pub directory_head: Option<u32>,
    pub directory_tail: Option<u32>,
    /// First blocks of the first growth extents; zero where there is none.
    pub inline: [u32; INLINE_EXTENTS],
}

impl Default for ClassExtents {
    fn default() -> Self {
        ClassExtents {
            base_block: 0,
            base_pages: 0,
            extents: 0,
            directory_head: None,
            directory_tail: None,
            inline: [0; INLINE_EXTENTS],
        }
    }
}

/// Which growth extent holds a page, counted from the first page after the base, and which of its blocks.
#[inline(always)]
pub const fn locate(growth_page: u32) -> (u32, u32) {
    if growth_page < MAX_EXTENT_BLOCKS {
        let extent = u32::BITS - growth_page.leading_zeros();
        let first = if extent == 0 { 0 } else { 1 << (extent - 1) };
        (extent, growth_page - first)
    } else {
        (SMALL_EXTENTS - 1 + growth_page / MAX_EXTENT_BLOCKS, growth_page % MAX_EXTENT_BLOCKS)
    }
}

/// Blocks in a growth extent.
pub const fn extent_blocks(extent: u32) -> u32 {
    match extent {
        0 => 1,
        _ if extent < SMALL_EXTENTS => 1 << (extent - 1),
        _ => MAX_EXTENT_BLOCKS,
    }
}

/// Pages in the first `extents` growth extents.
pub const fn growth_pages(extents: u32) -> u32 {
    match extents {
        0 => 0,
        _ if extents <= SMALL_EXTENTS => 1 << (extents - 1),
        _ => (extents - SMALL_EXTENTS + 1).saturating_mul(MAX_EXTENT_BLOCKS),
    }
}

impl ClassExtents {
    /// Pages that the class may use.
    pub const fn pages(&self) -> u32 {
        self.base_pages.saturating_add(growth_pages(self.extents))
    }

    /// Directory pages that name its further extents.
    pub(super) const fn directory_pages(&self) -> u32 {
        self.extents.saturating_sub(INLINE_EXTENTS as u32).div_ceil(directory::DIRECTORY_ENTRIES as u32)
    }

    /// Checks what no index can say, given where the taken blocks end.
    pub(super) fn check(&self, next_block: u32) -> Result<(), PageError> {
        let wrong = |field, found: u32| Err(PageError::Value { field, found: u64::from(found) });
        let base_end = u64::from(self.base_block) + u64::from(self.base_pages);
        if self.base_pages > 0 && (self.base_block == 0 || base_end > u64::from(next_block)) {
            return wrong("base extent", self.base_block);
        }
        // Each extent has at least one block, and the metapage is none.
        if self.extents >= next_block.max(1) || growth_pages(self.extents) >= next_block.max(1) {
            return wrong("extent count", self.extents);
        }
        let inline = self.inline.iter().zip(0..);
        for (&block, extent) in inline {
            let end = u64::from(block) + u64::from(extent_blocks(extent));
            let valid = if extent < self.extents { block != 0 && end <= u64::from(next_block) } else { block == 0 };
            if !valid {
                return wrong("extent", block);
            }
        }
        let has_directory = self.extents > INLINE_EXTENTS as u32;
        for block in [self.directory_head, self.directory_tail] {
            if block.is_some() != has_directory || block.is_some_and(|block| block == 0 || block >= next_block) {
                return wrong("directory block", block.unwrap_or(NONE));
            }
        }
        Ok(())
    }
}

/// The blocks of a class, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentMap {
    base_block: u32,
    base_pages: u32,
    /// First blocks of the growth extents.
    blocks: Vec<u32>,
    /// How many there are on disk: more than `blocks` until all directory pages are taken in.
    extents: u32,
    directory_pages: u32,
}

impl ExtentMap {
    /// The map of what the metapage says. While [`ExtentMap::is_complete`] is false, take in directory pages along
    /// their chain.
    pub fn new(class: &ClassExtents) -> Self {
        let inline = class.inline.iter().take(class.extents as usize).copied().collect();
        ExtentMap {
            base_block: class.base_block,
            base_pages: class.base_pages,
            blocks: inline,
            extents: class.extents,
            directory_pages: 0,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.blocks.len() as u32 >= self.extents
    }

    /// Takes in the next directory page; gives the block of the one after it. Each page adds at least one extent, so
    /// even a chain with a cycle ends.
    pub fn take_directory(&mut self, class: PageClass, page: &Page, next_block: u32) -> Result<Option<u32>, PageError> {
        special::check(page, PageKind::Directory, self.directory_pages)?;
        let mut entries = directory::entries(page, class)?;
        let missing = self.extents.saturating_sub(self.blocks.len() as u32) as usize;
        if entries.len() == 0 && missing > 0 {
            return Err(PageError::Value { field: "directory entries", found: 0 });
        }
        // A page may have grown since the metapage was read.
        for block in entries.by_ref().take(missing) {
            let end = u64::from(block) + u64::from(extent_blocks(self.blocks.len() as u32));
            if block == 0 || end > u64::from(next_block) {
                return Err(PageError::Value { field: "extent", found: u64::from(block) });
            }
            self.blocks.push(block);
        }
        self.directory_pages += 1;
        let next = special::read(page)?.next_block;
        if next.is_none() && !self.is_complete() {
            return Err(PageError::Beyond {
                what: "extent",
                index: self.blocks.len() as u32,
                count: self.blocks.len() as u32,
            });
        }
        Ok(next)
    }

    /// Adds an extent that was just assigned.
    pub fn push(&mut self, first_block: u32) {
        self.blocks.push(first_block);
        self.extents = self.extents.max(self.blocks.len() as u32);
    }

    /// Pages that have a block.
    pub fn pages(&self) -> u32 {
        self.base_pages.saturating_add(growth_pages(self.blocks.len() as u32))
    }

    /// The block of a page of the class. Where there is none the map may be old: read the metapage again, and only if
    /// that has none either is the index corrupted.
    #[inline(always)]
    pub fn block(&self, page_index: u32) -> Result<u32, PageError> {
        if page_index < self.base_pages {
            return Ok(self.base_block.wrapping_add(page_index));
        }
        let (extent, within) = locate(page_index - self.base_pages);
        match self.blocks.get(extent as usize) {
            Some(first) => Ok(first.wrapping_add(within)),
            None => Err(PageError::Beyond { what: "page of a class", index: page_index, count: self.pages() }),
        }
    }
}
