//! The plan node of a search with a WHERE clause: `Custom Scan (PgRagFilteredSearch)`.
//!
//! It has an ordinary index scan of the hnsw index below it, which returns the rows, in order, and checks the whole WHERE
//! clause. Beside that there may be a bitmap scan of other indexes, for clauses on columns that the hnsw index does not
//! have: what these find is handed to the index scan as a mask before it begins, so that the search knows beforehand which
//! rows can pass, and goes as it would with a filter column ([`filtered`](pg_rag_engine::hnsw::index::filtered)). A mask of
//! few rows is not searched with: they are read from the table. A mask decides only what is looked at; it never makes a row
//! a result.
//!
//! - [`path`]: which paths the planner may choose from, and their costs; called by the planner's hook.
//! - [`state`]: running it.
//! - [`explain`]: what EXPLAIN tells of it.
//! - [`bitmap`]: from PostgreSQL's bitmap to a mask.

mod bitmap;
mod explain;
mod path;
mod state;

pub use path::add_paths;

/// Makes the node known, so that plans with it can be sent to parallel workers. Called once, from `_PG_init`.
pub fn init() {
    state::register();
}
