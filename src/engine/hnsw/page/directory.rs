//! Directory pages: the first blocks of those growth extents of a class that have no room on the metapage.
//!
//! Payload: class u8, 3 reserved, count u32, entries u32. Pages are chained in the order of the extents; only the last
//! has room.

use super::bytes::{first_non_zero, get_u32, get_u8, put_u32, put_u8, Page};
use super::error::PageError;
use super::special::{self, PageKind};
use super::terms::PageClass;
use super::{PAYLOAD_BYTES, PAYLOAD_OFFSET};

const COUNT_AT: usize = PAYLOAD_OFFSET + 4;
const ENTRIES_AT: usize = PAYLOAD_OFFSET + 8;
/// Extents that a directory page lists.
pub const DIRECTORY_ENTRIES: usize = (PAYLOAD_BYTES - 8) / 4;

/// Makes an empty directory page, the `chain_index`-th of its class.
pub fn init(page: &mut Page, class: PageClass, chain_index: u32) {
    special::init(page, PageKind::Directory, chain_index);
    put_u8(page, PAYLOAD_OFFSET, class as u8);
}

fn count(page: &Page, class: PageClass) -> Result<usize, PageError> {
    let found = get_u8(page, PAYLOAD_OFFSET);
    if found != class as u8 {
        return Err(PageError::Value { field: "class of a directory page", found: u64::from(found) });
    }
    if let Some(offset) = first_non_zero(page, PAYLOAD_OFFSET + 1, COUNT_AT) {
        return Err(PageError::Reserved(offset as u32));
    }
    let count = get_u32(page, COUNT_AT);
    if count as usize > DIRECTORY_ENTRIES {
        return Err(PageError::Value { field: "directory entries", found: u64::from(count) });
    }
    Ok(count as usize)
}

/// The first blocks of the page's extents, in order. The caller has checked the special area.
pub fn entries(page: &Page, class: PageClass) -> Result<impl ExactSizeIterator<Item = u32> + '_, PageError> {
    let count = count(page, class)?;
    let room = page.get(ENTRIES_AT..).unwrap_or_default().as_chunks::<4>().0;
    Ok(room.iter().take(count).map(|&bytes| u32::from_le_bytes(bytes)))
}

/// Adds an extent at the end.
pub fn push(page: &mut Page, class: PageClass, first_block: u32) -> Result<(), PageError> {
    let count = count(page, class)?;
    if count == DIRECTORY_ENTRIES {
        return Err(PageError::Refused("directory page is full"));
    }
    put_u32(page, ENTRIES_AT + 4 * count, first_block);
    put_u32(page, COUNT_AT, count as u32 + 1);
    Ok(())
}
