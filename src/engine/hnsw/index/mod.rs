//! The index on pages: reading, searching, inserting, vacuuming and checking, over a [`store::PageStore`].
//!
//! The storage gives pages and atomic changes of a few of them; all that is decided is decided here, so it is tested
//! without a server, crashes included ([`memory::MemoryStore`] can lose every change after the n-th). The PostgreSQL layer
//! implements the storage with buffers and generic WAL, and calls:
//! - [`Index::begin_scan`](scan) per search, [`Index::insert`](insert) per row,
//! - [`Index::vacuum`](vacuum) with the rows that are dead, [`Index::check`](check) for `hnsw_check`.
//!
//! Lock order and what a crash leaves behind: `README.md` of the page format.

mod allocate;
mod back_links;
pub mod check;
mod codes;
mod complete;
pub mod filtered;
mod heap_tids;
mod hops;
pub mod insert;
mod keys;
pub mod memory;
mod node_set;
pub mod open;
mod read;
mod repair;
pub mod scan;
pub mod store;
mod tree;
pub mod vacuum;
mod write;

#[cfg(test)]
pub(super) mod tests;

pub use check::{CheckReport, Finding};
pub use filtered::Regime;
pub use heap_tids::ChunkRead;
pub use node_set::NodeSet;
pub use open::{Index, Shape};
pub use read::Row;
pub use scan::{Candidate, Scan, ScanCounts};
pub use store::{PageStore, Span};
pub use vacuum::VacuumReport;
