//! Upper records: the neighbours of a node at one level from 1 on.
//!
//! Record: owner u32, level u8, count u8, 2 reserved, m × u32. The records of a node follow each other, level 1 first.
//! Owner and level are there so that vacuum and the check can read these pages in order, and a wrong address is noticed.

use super::bytes::{get_u16, get_u32, get_u8, put_u32, put_u8};
use super::error::PageError;
use super::ids::{Ids, IdsMut};
use super::layout::Layout;
use super::records::Address;
use super::{Page, MAX_LEVEL};

const LEVEL_AT: usize = 4;
const COUNT_AT: usize = 5;
const RESERVED_AT: usize = 6;
pub(super) const UPPER_HEAD_BYTES: usize = 8;
const _: () = assert!(RESERVED_AT + 2 == UPPER_HEAD_BYTES);

/// The neighbours of a node at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperRef<'p> {
    pub owner: u32,
    pub level: u8,
    pub neighbours: Ids<'p>,
}

impl<'p> UpperRef<'p> {
    /// Parses the record at an address of [`Layout::uppers`]; None if it was never written.
    #[inline]
    pub fn in_page(page: &'p Page, layout: &Layout, address: Address) -> Result<Option<Self>, PageError> {
        let record = page.get(layout.uppers().range(address));
        Self::parse(record.ok_or(PageError::Refused("upper list exceeds its page"))?, layout)
    }

    /// Parses a record of [`Layout::uppers`]' stride.
    #[inline]
    pub fn parse(record: &'p [u8], layout: &Layout) -> Result<Option<Self>, PageError> {
        let (Some(head), Some(room)) = (record.first_chunk::<UPPER_HEAD_BYTES>(), record.get(UPPER_HEAD_BYTES..))
        else {
            return Err(PageError::Refused("upper record is too short"));
        };
        if *head == [0; UPPER_HEAD_BYTES] {
            return Ok(None);
        }
        let level = get_u8(head, LEVEL_AT);
        if level == 0 || level > MAX_LEVEL {
            return Err(PageError::Value { field: "level of an upper list", found: u64::from(level) });
        }
        if get_u16(head, RESERVED_AT) != 0 {
            let found = u64::from(get_u16(head, RESERVED_AT));
            return Err(PageError::Value { field: "reserved bytes of an upper list", found });
        }
        let neighbours = Ids::new(room, layout.max_neighbours(level), get_u8(head, COUNT_AT))?;
        Ok(Some(UpperRef { owner: get_u32(head, 0), level, neighbours }))
    }

    /// Checks that the list is the one its node means.
    pub fn check_owner(&self, owner: u32, level: u8) -> Result<(), PageError> {
        if self.owner == owner && self.level == level {
            Ok(())
        } else {
            Err(PageError::Value { field: "owner of an upper list", found: u64::from(self.owner) })
        }
    }
}

/// An upper record under change. The caller holds the page exclusively and logs it.
pub struct UpperMut<'p> {
    record: &'p mut [u8],
    layout: &'p Layout,
}

impl<'p> UpperMut<'p> {
    /// The record at an address of [`Layout::uppers`], if it parses.
    pub fn in_page(page: &'p mut Page, layout: &'p Layout, address: Address) -> Result<Self, PageError> {
        let record = page.get_mut(layout.uppers().range(address));
        let record = record.ok_or(PageError::Refused("upper list exceeds its page"))?;
        UpperRef::parse(record, layout)?;
        Ok(UpperMut { record, layout })
    }

    /// Makes the record an empty list of this node and level, whatever it was.
    pub fn begin(&mut self, owner: u32, level: u8) -> Result<(), PageError> {
        if level == 0 || level > MAX_LEVEL {
            return Err(PageError::Refused("no such level"));
        }
        self.record.fill(0);
        put_u32(self.record, 0, owner);
        put_u8(self.record, LEVEL_AT, level);
        Ok(())
    }

    /// Replaces the list.
    pub fn set_neighbours(&mut self, ids: &[u32]) -> Result<(), PageError> {
        self.list()?.set(ids)
    }

    /// Adds a neighbour.
    pub fn push_neighbour(&mut self, id: u32) -> Result<(), PageError> {
        self.list()?.push(id)
    }

    /// Replaces one neighbour.
    pub fn replace_neighbour(&mut self, index: usize, id: u32) -> Result<(), PageError> {
        self.list()?.replace(index, id)
    }

    fn list(&mut self) -> Result<IdsMut<'_>, PageError> {
        let too_short = PageError::Refused("upper record is too short");
        let (head, room) = self.record.split_at_mut_checked(UPPER_HEAD_BYTES).ok_or(too_short)?;
        if head.get(LEVEL_AT) == Some(&0) {
            return Err(PageError::Refused("upper list is not in use"));
        }
        let count = head.get_mut(COUNT_AT).ok_or(too_short)?;
        IdsMut::new(count, room, self.layout.max_neighbours(1))
    }
}
