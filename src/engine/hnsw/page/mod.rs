//! The on-disk page format of the hnsw index: where every record lies and what its bytes mean.
//!
//! Pure functions over byte slices of one page each; `README.md` beside this file has the layouts, the lock order and
//! what a crash leaves behind. Invariants: decoding is total (any bytes give a value or a [`PageError`]); every page
//! begins with PostgreSQL's header, which this module never writes, and ends with [`special`]; a record never moves.
//! The PostgreSQL layer calls it with pages under a pin, the build with fresh pages, tests with [`store`].

pub mod allocate;
mod bytes;
pub mod calibration;
pub mod directory;
mod divide;
mod error;
pub mod extents;
pub mod filter_columns;
mod ids;
pub mod keys;
pub mod layout;
pub mod meta;
mod meta_codec;
pub mod node;
pub mod node_edit;
pub mod reader;
mod records;
mod span;
pub mod special;
pub mod store;
mod terms;
pub mod tids;
pub mod upper;
pub mod write;

#[cfg(test)]
mod tests;

pub use bytes::Page;
pub use error::{LayoutError, PageError};
pub use ids::Ids;
pub use layout::{CodeLength, Layout};
pub use meta::Meta;
pub use records::{Address, Records};
pub use span::{CodeSpans, Piece, Pieces};
pub use special::{PageKind, FORMAT_VERSION};
pub use terms::{CodeKind, ElementType, Metric, PageClass};
pub use tids::HeapTid;

/// PostgreSQL's BLCKSZ; everything below follows from it. The PostgreSQL layer asserts that its own is the same.
pub const PAGE_BYTES: usize = 8192;
/// PostgreSQL's page header, SizeOfPageHeaderData.
pub const HEADER_BYTES: usize = 24;
pub const PAYLOAD_OFFSET: usize = HEADER_BYTES;
/// `pd_special` and `pd_upper` of every page.
pub const SPECIAL_OFFSET: usize = PAGE_BYTES - special::SPECIAL_BYTES;
pub const PAYLOAD_BYTES: usize = SPECIAL_OFFSET - PAYLOAD_OFFSET;
/// The block of the metapage.
pub const META_BLOCK: u32 = 0;
/// "No node", "no record", "no block", on disk. No ordinal and no block reaches it.
pub const NONE: u32 = u32::MAX;
/// The highest level of a node. With the smallest m, 2, one node in 2^31 would go higher; it is put here.
pub const MAX_LEVEL: u8 = 31;
/// The most index columns beside the vector (INDEX_MAX_KEYS less one).
pub const MAX_FILTER_COLUMNS: usize = 31;

/// Where the metapage's content ends; from here to [`SPECIAL_OFFSET`] its bytes are zero.
const META_END: usize = 2176;

const _: () = assert!(PAGE_BYTES.is_power_of_two() && PAGE_BYTES <= 32_768);
const _: () = assert!(PAYLOAD_OFFSET.is_multiple_of(8) && SPECIAL_OFFSET.is_multiple_of(8));
const _: () = assert!(META_END <= SPECIAL_OFFSET);
