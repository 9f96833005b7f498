//! Why bytes are not a page of the index, and why an index cannot have a layout.

use super::special::{PageKind, FORMAT_VERSION, MAGIC};

/// What is wrong with a page, or with an address found on one. The PostgreSQL layer adds index and block and reports
/// index_corrupted, but for [`PageError::Version`] and [`PageError::Features`]: those are from a later release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// All of the special area is zero: nobody has initialised the page. Within the counts this is what a crash leaves
    /// between the handing out of an ordinal and its first write.
    #[error("page is new")]
    New,
    #[error("page has magic number {0:#010x} instead of {MAGIC:#010x}")]
    Magic(u32),
    #[error("page has format version {0}, but this release reads versions 1 to {FORMAT_VERSION}")]
    Version(u16),
    #[error("index uses features {0:#06x} that this release does not know")]
    Features(u16),
    #[error("page is of kind {found} instead of {expected:?}")]
    Kind { expected: PageKind, found: u8 },
    #[error("page has index {found} in its class instead of {expected}")]
    PageIndex { expected: u32, found: u32 },
    #[error("reserved byte at offset {0} is not zero")]
    Reserved(u32),
    #[error("{field} has the invalid value {found}")]
    Value { field: &'static str, found: u64 },
    #[error("{what} {index} is beyond the last, of {count}")]
    Beyond { what: &'static str, index: u32, count: u32 },
    /// A chain goes on after more links than there are.
    #[error("chain of {0} has a cycle")]
    Cycle(&'static str),
    /// A change that the present content does not allow.
    #[error("{0}")]
    Refused(&'static str),
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Why no layout exists for a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("dimensions must be between 1 and {limit}, not {found}")]
    Dimensions { found: u32, limit: u32 },
    #[error("m must be between 2 and {limit}, not {found}")]
    M { found: u16, limit: u16 },
    #[error("codes must have between 1 and {limit} bytes, not {found}")]
    CodeBytes { found: u32, limit: u32 },
    #[error("at most {limit} filter columns are possible, not {found}")]
    FilterColumns { found: usize, limit: usize },
    #[error("keys must have 1, 2, 4, 8 or 16 bytes, not {0}")]
    KeyBytes(u8),
}
