//! The keys of a row as bytes: those of all columns, one after the other, then a NULL bit for each, in whole words.
//!
//! A build carries them behind the code of the row, so that they go wherever the code goes; rows share a node only if both
//! are equal.

use super::super::page::filter_columns::FilterColumn;
use super::super::page::keys::KeyLayout;
use super::super::page::{Page, PageError};
use super::key;

/// Codes are whole words, and stay so.
const WORD_BYTES: usize = 4;

/// Where the keys of a row lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowShape {
    widths: Vec<u8>,
    keys_bytes: usize,
}

impl RowShape {
    pub fn of(columns: &[FilterColumn]) -> RowShape {
        let widths: Vec<u8> = columns.iter().map(|column| column.key_bytes).collect();
        let keys_bytes = widths.iter().map(|&width| usize::from(width)).sum();
        RowShape { widths, keys_bytes }
    }

    /// Bytes of a row's keys; none without columns.
    pub fn bytes(&self) -> usize {
        (self.keys_bytes + self.widths.len().div_ceil(8)).next_multiple_of(WORD_BYTES)
    }

    /// Where the keys begin in a code that carries them.
    pub fn split<'b>(&self, code: &'b [u8]) -> (&'b [u8], KeyRow<'b>) {
        let (code, keys) = code.split_at(code.len().saturating_sub(self.bytes()));
        (code, KeyRow(keys))
    }

    /// Appends the keys of a row, one for each column; None is NULL.
    pub fn append(&self, keys: &[Option<u128>], into: &mut Vec<u8>) {
        let begin = into.len();
        for (&width, key) in self.widths.iter().zip(keys) {
            into.extend_from_slice(&key.unwrap_or(0).to_le_bytes()[..usize::from(width)]);
        }
        into.resize(begin + self.bytes(), 0);
        for (column, _) in keys.iter().enumerate().filter(|(_, key)| key.is_none()) {
            if let Some(bits) = into.get_mut(begin + self.keys_bytes + column / 8) {
                *bits |= 1 << (column % 8);
            }
        }
    }

    /// A column's key; None is NULL.
    pub fn key<'b>(&self, row: KeyRow<'b>, column: usize) -> Option<&'b [u8]> {
        let bits = row.0.get(self.keys_bytes + column / 8)?;
        let begin: usize = self.widths.get(..column)?.iter().map(|&width| usize::from(width)).sum();
        let width = usize::from(*self.widths.get(column)?);
        (bits >> (column % 8) & 1 == 0).then(|| row.0.get(begin..begin + width)).flatten()
    }

    /// Writes the keys of a node into its slot of a key page.
    pub fn put(&self, row: KeyRow<'_>, layout: &KeyLayout, page: &mut Page, slot: u32) -> Result<(), PageError> {
        (0..self.widths.len()).try_for_each(|column| layout.set(page, column, slot, self.key(row, column)))
    }

    /// Whether a node in a slot of a key page has these keys.
    pub fn is_at(&self, row: KeyRow<'_>, layout: &KeyLayout, page: &Page, slot: u32) -> Result<bool, PageError> {
        for column in 0..self.widths.len() {
            if layout.get(page, column, slot)?.map(key::read) != self.key(row, column).map(key::read) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The keys of a row, as [`RowShape::append`] wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRow<'b>(pub &'b [u8]);

impl KeyRow<'_> {
    /// Of an index without filter columns.
    pub const NONE: KeyRow<'static> = KeyRow(&[]);
}
