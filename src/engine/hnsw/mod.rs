//! The HNSW index: its page format.

pub mod page;
