//! The HNSW index (Malkov and Yashunin, 2018). `README.md` beside this file tells the algorithm and its differences from
//! the paper. In dependency order:
//!
//! - [`page`]: what its pages hold;
//! - [`identity`]: from what a user declares to what an index keeps;
//! - [`graph`]: what a search reads of a graph; [`search`], [`select`], [`level`]: the algorithms over it;
//! - [`filter`]: filter columns: keys of values, and what conditions ask of them;
//! - [`build`]: building a graph in memory, with any number of workers;
//! - [`index`]: the index on pages: scan, insert, vacuum, check, over a storage of pages.

mod beam;
pub mod build;
pub mod filter;
pub mod graph;
pub mod identity;
pub mod index;
pub mod level;
pub mod page;
pub mod search;
pub mod select;
pub mod visited;
