//! Records of one fixed stride that do not cross pages: nodes, upper lists, tid chunks.

use std::ops::Range;

use super::divide::Divisor;
use super::{PAYLOAD_BYTES, PAYLOAD_OFFSET};

/// Where a record begins: which page of its class, and the offset from the page's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub page_index: u32,
    pub offset: usize,
}

/// The arithmetic of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records {
    stride_bytes: usize,
    per_page: Divisor,
}

impl Records {
    /// Records of `stride_bytes`, which must be between 1 and [`PAYLOAD_BYTES`].
    pub(super) const fn new(stride_bytes: usize) -> Self {
        Records { stride_bytes, per_page: Divisor::new((PAYLOAD_BYTES / stride_bytes) as u32) }
    }

    pub const fn stride_bytes(self) -> usize {
        self.stride_bytes
    }

    pub const fn per_page(self) -> u32 {
        self.per_page.get()
    }

    #[inline(always)]
    pub const fn address(self, ordinal: u32) -> Address {
        let (page_index, slot) = self.per_page.divide(ordinal);
        Address { page_index, offset: PAYLOAD_OFFSET + slot as usize * self.stride_bytes }
    }

    /// The bytes of a record within its page.
    #[inline(always)]
    pub const fn range(self, address: Address) -> Range<usize> {
        address.offset..address.offset + self.stride_bytes
    }

    /// The pages that this many records take.
    pub const fn pages(self, count: u32) -> u32 {
        count.div_ceil(self.per_page.get())
    }

    /// The ordinal of the first record of a page, and of the first of the page after it.
    pub const fn ordinals(self, page_index: u32) -> Range<u32> {
        let first = page_index.saturating_mul(self.per_page.get());
        first..first.saturating_add(self.per_page.get())
    }
}
