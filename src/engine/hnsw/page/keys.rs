//! Key pages: the filter keys of K nodes, column by column within the page, then one NULL bitmap per column.
//!
//! One page holds all columns of its nodes, so that an insert writes and a search pins one page for them; within it each
//! column is a dense array, which a scan of one column reads with SIMD. What a key means is the filter's business; this
//! is geometry and bytes only.

use std::ops::Range;

use super::bytes::Page;
use super::divide::Divisor;
use super::error::{LayoutError, PageError};
use super::{MAX_FILTER_COLUMNS, PAYLOAD_BYTES, PAYLOAD_OFFSET};

/// The widths that a key may have.
pub const KEY_WIDTHS: [u8; 5] = [1, 2, 4, 8, 16];
/// The nodes of a page are a multiple of this: bitmaps are whole bytes and every column begins 8-byte aligned.
const NODES_STEP: usize = 8;

/// Where keys lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLayout {
    widths: [u8; MAX_FILTER_COLUMNS],
    /// Offsets of the columns' arrays from the page's first byte.
    offsets: [u16; MAX_FILTER_COLUMNS],
    columns: usize,
    nodes_per_page: Divisor,
    nulls_offset: usize,
}

// Even the widest possible row fits in a page `NODES_STEP` times.
const _: () = assert!((MAX_FILTER_COLUMNS * (16 * 8 + 1)) * NODES_STEP <= PAYLOAD_BYTES * 8);

impl KeyLayout {
    /// The layout of columns with keys of these widths in bytes; no column gives a layout without pages.
    pub(super) fn new(key_bytes: &[u8]) -> Result<Self, LayoutError> {
        if key_bytes.len() > MAX_FILTER_COLUMNS {
            return Err(LayoutError::FilterColumns { found: key_bytes.len(), limit: MAX_FILTER_COLUMNS });
        }
        if let Some(&width) = key_bytes.iter().find(|width| !KEY_WIDTHS.contains(width)) {
            return Err(LayoutError::KeyBytes(width));
        }
        let node_bits: usize = key_bytes.iter().map(|&width| usize::from(width) * 8 + 1).sum();
        let nodes = (PAYLOAD_BYTES * 8).checked_div(node_bits).unwrap_or(0) / NODES_STEP * NODES_STEP;
        let mut layout = KeyLayout {
            widths: [0; MAX_FILTER_COLUMNS],
            offsets: [0; MAX_FILTER_COLUMNS],
            columns: key_bytes.len(),
            nodes_per_page: Divisor::new(nodes as u32),
            nulls_offset: PAYLOAD_OFFSET,
        };
        for ((&width, to), offset) in key_bytes.iter().zip(&mut layout.widths).zip(&mut layout.offsets) {
            *to = width;
            *offset = layout.nulls_offset as u16;
            layout.nulls_offset += nodes * usize::from(width);
        }
        Ok(layout)
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Meaningless without columns.
    pub fn nodes_per_page(&self) -> u32 {
        self.nodes_per_page.get()
    }

    /// The bytes of a column's keys.
    pub fn key_bytes(&self, column: usize) -> Option<u8> {
        self.widths.get(..self.columns)?.get(column).copied()
    }

    /// The pages that the keys of this many nodes take.
    pub fn pages(&self, nodes: u32) -> u32 {
        if self.columns == 0 {
            0
        } else {
            nodes.div_ceil(self.nodes_per_page.get())
        }
    }

    /// Page index and slot of a node.
    #[inline(always)]
    pub fn address(&self, ordinal: u32) -> (u32, u32) {
        self.nodes_per_page.divide(ordinal)
    }

    fn array(&self, column: usize) -> Result<Range<usize>, PageError> {
        let width = usize::from(self.key_bytes(column).ok_or_else(|| self.no_column(column))?);
        let start = self.offsets.get(column).map_or(0, |&offset| usize::from(offset));
        Ok(start..start + width * self.nodes_per_page.get() as usize)
    }

    fn bitmap(&self, column: usize) -> Result<Range<usize>, PageError> {
        if column >= self.columns {
            return Err(self.no_column(column));
        }
        let bytes = self.nodes_per_page.get() as usize / 8;
        let start = self.nulls_offset + column * bytes;
        Ok(start..start + bytes)
    }

    /// The keys of one column, of all nodes of the page.
    #[inline]
    pub fn column<'p>(&self, page: &'p Page, column: usize) -> Result<&'p [u8], PageError> {
        let array = self.array(column)?;
        page.get(array).ok_or(PageError::Refused("keys exceed the page"))
    }

    /// A bit per node of the page: whether its key is NULL.
    #[inline]
    pub fn nulls<'p>(&self, page: &'p Page, column: usize) -> Result<&'p [u8], PageError> {
        let bitmap = self.bitmap(column)?;
        page.get(bitmap).ok_or(PageError::Refused("NULL bits exceed the page"))
    }

    /// Where the key of the node in a slot is on its page.
    pub fn key_range(&self, column: usize, slot: u32) -> Result<Range<usize>, PageError> {
        let width = usize::from(self.key_bytes(column).ok_or_else(|| self.no_column(column))?);
        let start = self.array(column)?.start + self.check_slot(slot)? * width;
        Ok(start..start + width)
    }

    /// The key of the node in a slot, or None for NULL.
    pub fn get<'p>(&self, page: &'p Page, column: usize, slot: u32) -> Result<Option<&'p [u8]>, PageError> {
        let key = page.get(self.key_range(column, slot)?).ok_or(PageError::Refused("key exceeds the page"))?;
        let slot = self.check_slot(slot)?;
        let null = self.nulls(page, column)?.get(slot / 8).is_some_and(|bits| bits >> (slot % 8) & 1 == 1);
        Ok((!null).then_some(key))
    }

    /// Writes the key of the node in a slot; NULL leaves zero bytes.
    pub fn set(&self, page: &mut Page, column: usize, slot: u32, key: Option<&[u8]>) -> Result<(), PageError> {
        let range = self.key_range(column, slot)?;
        if key.is_some_and(|key| key.len() != range.len()) {
            return Err(PageError::Refused("key has another width than its column"));
        }
        let slot = self.check_slot(slot)?;
        let place = page.get_mut(range).ok_or(PageError::Refused("key exceeds the page"))?;
        match key {
            Some(key) => place.copy_from_slice(key),
            None => place.fill(0),
        }
        let bit = 1u8 << (slot % 8);
        let bits = page.get_mut(self.bitmap(column)?.start + slot / 8);
        let bits = bits.ok_or(PageError::Refused("NULL bits exceed the page"))?;
        *bits = if key.is_none() { *bits | bit } else { *bits & !bit };
        Ok(())
    }

    fn check_slot(&self, slot: u32) -> Result<usize, PageError> {
        let count = self.nodes_per_page.get();
        if slot < count {
            Ok(slot as usize)
        } else {
            Err(PageError::Beyond { what: "slot", index: slot, count })
        }
    }

    fn no_column(&self, column: usize) -> PageError {
        PageError::Beyond { what: "filter column", index: column as u32, count: self.columns as u32 }
    }
}
