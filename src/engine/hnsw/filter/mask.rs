//! The rows that other indexes have found: a set of heap tids, which a search takes as a condition.
//!
//! Built once before a search from what the other indexes give, then only asked. Where these know only that some row of a
//! block may be among them, all rows of that block are taken.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::hnsw::page::HeapTid;

/// Rows of a block that are told apart: more than fit on a page of 8 KiB. A block with others is taken whole.
const OFFSETS: u16 = 320;
const WORDS: usize = OFFSETS as usize / 64;

/// A bit for each offset.
type Offsets = [u64; WORDS];

/// A set of rows.
#[derive(Debug, Clone, Default)]
pub struct RowMask {
    /// In the order in which blocks were added.
    blocks: Vec<(u32, Offsets)>,
    /// Where in `blocks` a block is; made when the first row is asked for, which may never be.
    places: OnceCell<HashMap<u32, u32, BuildHasherDefault<BlockHasher>>>,
    rows: u64,
    whole_blocks: u32,
}

const WHOLE: Offsets = [u64::MAX; WORDS];

impl RowMask {
    /// Adds rows of a block that was not added before; blocks are added in ascending order.
    pub fn add_rows(&mut self, block: u32, offsets: &[u16]) {
        if offsets.iter().any(|&offset| offset >= OFFSETS) {
            return self.add_block(block);
        }
        let mut bits: Offsets = [0; WORDS];
        for &offset in offsets {
            if let Some(word) = bits.get_mut(usize::from(offset) / 64) {
                *word |= 1 << (offset % 64);
            }
        }
        self.rows += bits.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.add(block, bits);
    }

    /// Adds all rows of a block that was not added before.
    pub fn add_block(&mut self, block: u32) {
        self.whole_blocks += 1;
        self.add(block, WHOLE);
    }

    fn add(&mut self, block: u32, bits: Offsets) {
        debug_assert!(self.blocks.last().is_none_or(|(last, _)| *last < block));
        self.places.take();
        self.blocks.push((block, bits));
    }

    #[inline]
    pub fn contains(&self, row: HeapTid) -> bool {
        let places = self.places.get_or_init(|| (0..).zip(&self.blocks).map(|(at, (block, _))| (*block, at)).collect());
        let found = places.get(&row.block()).and_then(|&at| self.blocks.get(at as usize));
        found.is_some_and(|(_, bits)| match bits.get(usize::from(row.offset()) / 64) {
            Some(word) => word & 1 << (row.offset() % 64) != 0,
            None => *bits == WHOLE,
        })
    }

    /// Rows that were added one by one.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Blocks that were added whole.
    pub fn whole_blocks(&self) -> u32 {
        self.whole_blocks
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The rows, in the order of the table; None if there are whole blocks.
    pub fn to_rows(&self) -> Option<Vec<HeapTid>> {
        if self.whole_blocks > 0 {
            return None;
        }
        let mut rows = Vec::with_capacity(self.rows as usize);
        for &(block, bits) in &self.blocks {
            for (word, at) in bits.into_iter().zip(0u16..) {
                let mut left = word;
                while left != 0 {
                    rows.extend(HeapTid::new(block, at * 64 + left.trailing_zeros() as u16));
                    left &= left - 1;
                }
            }
        }
        Some(rows)
    }
}

impl PartialEq for RowMask {
    fn eq(&self, other: &Self) -> bool {
        self.blocks == other.blocks
    }
}

impl Eq for RowMask {}

/// Fibonacci hashing: numbers of blocks are no secret, and an attacker who fills a table has slower ways to be slow.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockHasher(u64);

impl Hasher for BlockHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::{RowMask, OFFSETS};
    use crate::hnsw::page::HeapTid;

    fn tid(block: u32, offset: u16) -> HeapTid {
        HeapTid::new(block, offset).unwrap()
    }

    #[test]
    fn rows_are_told_apart() {
        let mut mask = RowMask::default();
        assert!(mask.is_empty());
        mask.add_rows(7, &[1, 64, 291]);
        mask.add_rows(u32::MAX - 1, &[5]);
        let rows = [tid(7, 1), tid(7, 64), tid(7, 291), tid(u32::MAX - 1, 5)];
        assert!(rows.iter().all(|&row| mask.contains(row)));
        assert!(!mask.contains(tid(7, 2)) && !mask.contains(tid(8, 1)) && !mask.contains(tid(7, 2000)));
        assert_eq!((mask.rows(), mask.whole_blocks()), (4, 0));
        assert_eq!(mask.to_rows().unwrap(), rows);
    }

    #[test]
    fn a_whole_block_has_every_row() {
        let mut mask = RowMask::default();
        mask.add_block(3);
        mask.add_rows(4, &[1, OFFSETS]);
        for block in [3, 4] {
            assert!(mask.contains(tid(block, 1)) && mask.contains(tid(block, 2000)));
        }
        assert!(!mask.contains(tid(5, 1)));
        assert_eq!((mask.rows(), mask.whole_blocks()), (0, 2));
        assert_eq!(mask.to_rows(), None);
    }
}
