//! Building a graph in memory: several workers insert rows into one [`arena`], which is then numbered and written.
//!
//! The arena is a slice of words that any threads or processes share; it holds codes, lists with their distances, and heap
//! tids, all addressed by place, so that it may lie in PostgreSQL's shared memory. [`Builder`] inserts a row;
//! [`finish::FinishedGraph`] numbers the nodes and connects those that nothing leads to; `page::write` writes it. A graph
//! that is larger than the memory is built in [`parts`].

pub mod arena;
pub mod calibrate;
pub mod finish;
pub mod insert;
mod list;
pub mod parts;
mod spin;

#[cfg(test)]
mod tests;

pub use arena::{Arena, ArenaShape, NodeName, UNIT_BYTES};
pub use finish::FinishedGraph;
pub use insert::{Builder, Inserted};
