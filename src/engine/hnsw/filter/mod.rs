//! Filter columns: what an index keeps of the columns beside the vector, and what a WHERE clause asks of that.
//!
//! A column's value becomes a *key*: an unsigned integer of 1 to 16 bytes, by the column's [`KeyKind`]. Keys of most kinds
//! keep the order of the values, so that comparisons become ranges of integers; those of sets are signatures, bits that
//! each element sets. A kind whose keys are shorter than its values is *lossy*: a [`Condition`] never rejects a row that the
//! clause accepts, but may accept others, which the caller checks again.
//!
//! - [`kind`]: the kinds and the widths of their keys; on disk as the type class of a column's descriptor.
//! - [`key`]: from values to keys, and to the [`Position`] of a value that a clause compares with.
//! - [`signature`]: keys of arrays and documents.
//! - [`condition`]: what a clause asks of one column's key; [`Filter`]: what a WHERE clause asks of a row.
//! - [`row`]: the keys of a row, as a build carries them behind the row's code.
//! - [`mask`]: the rows that other indexes have found, for clauses on columns that this one does not have.
//!
//! The PostgreSQL layer encodes the rows' values and the scan keys; [`index`](super::index) reads the keys on pages.

pub mod condition;
mod dispatch;
pub mod key;
pub mod kind;
pub mod mask;
pub mod row;
pub mod signature;

#[cfg(test)]
mod tests;

pub use condition::Condition;
pub use key::{Comparison, Position};
pub use kind::KeyKind;
pub use mask::RowMask;
pub use row::{KeyRow, RowShape};

use std::ops::Range;
use std::rc::Rc;

use super::page::keys::KeyLayout;
use super::page::{Page, PageError};

/// What must hold of a row: conditions on columns, all of them, and that it is in a mask if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    conditions: Vec<(usize, Condition)>,
    mask: Option<Rc<RowMask>>,
}

impl Filter {
    /// Adds a condition on a filter column, by its number among them.
    pub fn and(&mut self, column: usize, condition: Condition) {
        self.conditions.push((column, condition));
    }

    /// Lets only rows of a mask pass.
    pub fn within(&mut self, mask: Rc<RowMask>) {
        self.mask = Some(mask);
    }

    pub fn mask(&self) -> Option<&RowMask> {
        self.mask.as_deref()
    }

    /// Whether every row passes.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.mask.is_none()
    }

    /// Whether it asks anything of filter columns.
    pub fn has_conditions(&self) -> bool {
        !self.conditions.is_empty()
    }

    /// Whether no row can pass.
    pub fn is_never(&self) -> bool {
        self.conditions.iter().any(|(_, condition)| condition.is_never()) || self.mask().is_some_and(RowMask::is_empty)
    }

    /// A bit for each of the first `nodes` nodes of a key page: whether its row meets the conditions. Replaces what is in
    /// `into`, which has room for them; bits of further nodes are 0.
    pub fn matching(&self, layout: &KeyLayout, page: &Page, nodes: u32, into: &mut [u64]) -> Result<(), PageError> {
        for (at, word) in into.iter_mut().enumerate() {
            let left = nodes.saturating_sub(at as u32 * 64);
            *word = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        }
        for (column, condition) in &self.conditions {
            let width = layout.key_bytes(*column).ok_or(PageError::Refused("condition on no filter column"))?;
            dispatch::narrow(condition, width, layout.column(page, *column)?, layout.nulls(page, *column)?, into);
        }
        Ok(())
    }

    /// Where on its page the key is that is tested first, of the node in a slot; empty without conditions.
    pub fn first_key_range(&self, layout: &KeyLayout, slot: u32) -> Result<Range<usize>, PageError> {
        self.conditions.first().map_or(Ok(0..0), |(column, _)| layout.key_range(*column, slot))
    }

    /// Whether the row of the node in a slot of a key page meets the conditions.
    pub fn passes(&self, layout: &KeyLayout, page: &Page, slot: u32) -> Result<bool, PageError> {
        for (column, condition) in &self.conditions {
            if !condition.accepts(layout.get(page, *column, slot)?.map(key::read)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
