//! What the targets of the index share: the index in memory, a store that notices hangs, a limit of memory.
//!
//! - [`decisions`]: the input, byte by byte;
//! - [`watched`]: the storage's twin in memory, with a limit of reads and of blocks;
//! - [`allocations`]: the process's memory, with a limit;
//! - [`indexes`]: making an index in memory, and reading all of it.

pub mod allocations;
pub mod decisions;
pub mod indexes;
pub mod watched;
