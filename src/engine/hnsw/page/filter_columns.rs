//! Descriptors of the filter columns of an index, on the metapage.
//!
//! 504 bytes: count u8, 7 reserved, then 31 × (attribute u8, key bytes u8, type class u8, flags u8, 12 bytes of
//! parameters). What type classes, flags and parameters mean belongs to the filter; here they are numbers, with the
//! rule that a descriptor in use has a type class other than 0.

use super::bytes::{first_non_zero, get_u8, put_u8, Page};
use super::error::PageError;
use super::keys::KEY_WIDTHS;
use super::MAX_FILTER_COLUMNS;

const HEAD_BYTES: usize = 8;
const COLUMN_BYTES: usize = 16;
pub(super) const FILTER_COLUMNS_BYTES: usize = HEAD_BYTES + MAX_FILTER_COLUMNS * COLUMN_BYTES;

/// One filter column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterColumn {
    /// Its place among the index's columns, from 1; the vector has one of these places too.
    pub attribute: u8,
    /// 1, 2, 4, 8 or 16.
    pub key_bytes: u8,
    /// How values become keys; not 0.
    pub type_class: u8,
    pub flags: u8,
    pub parameters: [u8; 12],
}

impl FilterColumn {
    fn check(&self) -> Result<(), PageError> {
        let wrong = |field, found: u8| Err(PageError::Value { field, found: u64::from(found) });
        if self.attribute == 0 || usize::from(self.attribute) > MAX_FILTER_COLUMNS + 1 {
            return wrong("attribute of a filter column", self.attribute);
        }
        if !KEY_WIDTHS.contains(&self.key_bytes) {
            return wrong("key width of a filter column", self.key_bytes);
        }
        if self.type_class == 0 {
            return wrong("type class of a filter column", self.type_class);
        }
        Ok(())
    }
}

/// Checks descriptors: how many, and each.
pub(super) fn check(columns: &[FilterColumn]) -> Result<(), PageError> {
    if columns.len() > MAX_FILTER_COLUMNS {
        return Err(PageError::Value { field: "filter columns", found: columns.len() as u64 });
    }
    columns.iter().try_for_each(FilterColumn::check)
}

pub(super) fn encode(columns: &[FilterColumn], page: &mut Page, at: usize) {
    put_u8(page, at, columns.len() as u8);
    for (column, at) in columns.iter().zip((at + HEAD_BYTES..).step_by(COLUMN_BYTES)) {
        put_u8(page, at, column.attribute);
        put_u8(page, at + 1, column.key_bytes);
        put_u8(page, at + 2, column.type_class);
        put_u8(page, at + 3, column.flags);
        if let Some(place) = page.get_mut(at + 4..at + COLUMN_BYTES) {
            place.copy_from_slice(&column.parameters);
        }
    }
}

pub(super) fn decode(page: &Page, at: usize) -> Result<Vec<FilterColumn>, PageError> {
    let count = usize::from(get_u8(page, at));
    if count > MAX_FILTER_COLUMNS {
        return Err(PageError::Value { field: "filter columns", found: count as u64 });
    }
    let used_end = at + HEAD_BYTES + count * COLUMN_BYTES;
    let reserved = first_non_zero(page, at + 1, at + HEAD_BYTES)
        .or_else(|| first_non_zero(page, used_end, at + FILTER_COLUMNS_BYTES));
    if let Some(offset) = reserved {
        return Err(PageError::Reserved(offset as u32));
    }
    let columns: Vec<FilterColumn> = (at + HEAD_BYTES..)
        .step_by(COLUMN_BYTES)
        .take(count)
        .map(|at| FilterColumn {
            attribute: get_u8(page, at),
            key_bytes: get_u8(page, at + 1),
            type_class: get_u8(page, at + 2),
            flags: get_u8(page, at + 3),
            parameters: page.get(at + 4..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default(),
        })
        .collect();
    check(&columns)?;
    Ok(columns)
}
