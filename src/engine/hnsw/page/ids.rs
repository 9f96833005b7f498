//! A list of ordinals with a count: the neighbours of a node at one level, as it lies in a record.
//!
//! The room is fixed; entries behind the count are left as they are and mean nothing. Every entry is 4-byte aligned in
//! its page.

use super::error::PageError;

/// The list, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids<'p>(&'p [[u8; 4]]);

impl<'p> Ids<'p> {
    pub(super) const EMPTY: Ids<'static> = Ids(&[]);

    /// The first `count` entries of a room of `capacity`.
    #[inline(always)]
    pub(super) fn new(room: &'p [u8], capacity: usize, count: u8) -> Result<Self, PageError> {
        let entries = room.as_chunks::<4>().0;
        match entries.get(..usize::from(count)) {
            Some(entries) if entries.len() <= capacity => Ok(Ids(entries)),
            _ => Err(PageError::Value { field: "count of neighbours", found: u64::from(count) }),
        }
    }

    #[inline(always)]
    pub fn len(self) -> usize {
        self.0.len()
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    #[inline(always)]
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + 'p {
        self.0.iter().map(|&bytes| u32::from_le_bytes(bytes))
    }
}

/// The list, to be changed.
pub(super) struct IdsMut<'p> {
    count: &'p mut u8,
    room: &'p mut [[u8; 4]],
}

impl<'p> IdsMut<'p> {
    pub(super) fn new(count: &'p mut u8, room: &'p mut [u8], capacity: usize) -> Result<Self, PageError> {
        match room.as_chunks_mut::<4>().0.get_mut(..capacity) {
            Some(room) if usize::from(*count) <= capacity => Ok(IdsMut { count, room }),
            _ => Err(PageError::Value { field: "count of neighbours", found: u64::from(*count) }),
        }
    }

    /// Replaces the whole list. The entries are written before the count.
    pub(super) fn set(self, ids: &[u32]) -> Result<(), PageError> {
        let places = self.room.get_mut(..ids.len()).ok_or(PageError::Refused("neighbours exceed the list"))?;
        for (place, id) in places.iter_mut().zip(ids) {
            *place = id.to_le_bytes();
        }
        *self.count = ids.len() as u8;
        Ok(())
    }

    /// Adds one at the end.
    pub(super) fn push(self, id: u32) -> Result<(), PageError> {
        let place = self.room.get_mut(usize::from(*self.count)).ok_or(PageError::Refused("list is full"))?;
        *place = id.to_le_bytes();
        *self.count += 1;
        Ok(())
    }

    /// Replaces one entry.
    pub(super) fn replace(self, index: usize, id: u32) -> Result<(), PageError> {
        match self.room.get_mut(index) {
            Some(place) if index < usize::from(*self.count) => {
                *place = id.to_le_bytes();
                Ok(())
            }
            _ => Err(PageError::Beyond { what: "neighbour", index: index as u32, count: u32::from(*self.count) }),
        }
    }
}
