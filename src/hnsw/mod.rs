//! The index access method `hnsw`: approximate nearest neighbours in order of distance, a drop-in for pgvector's.
//!
//! The graph, the codes and the page format are `pg_rag_engine`'s; here they meet PostgreSQL. From the outside in:
//! - [`handler`]: what PostgreSQL is told the access method can do, and which function does it;
//! - [`options`]: storage parameters, `WITH (m = …, ef_construction = …)`;
//! - [`settings`]: settings, `hnsw.…`;
//! - [`opclass`]: from operator classes to what the columns of an index are; [`opclass_hint`]: what a column may be;
//! - [`filter_value`] and [`filter_scan`]: from values of filter columns to keys, from scan keys to a filter;
//! - [`validate`]: whether an operator class is complete and right;
//! - [`value`]: from a stored datum to what the engine encodes, and exact distances;
//! - [`cost`]: what an index scan costs, with [`cost_model`] for the arithmetic; [`planner`]: conditions that
//!   PostgreSQL does not give to an index by itself;
//! - [`build`] with [`load`], [`memory`], [`parallel`], [`parts`] and [`temp_files`], [`insert`], [`scan`] with [`mask`],
//!   [`vacuum`]: the phases of an index's life;
//! - [`filtered_search`]: the plan node of a search with a WHERE clause, which takes what other indexes find as a mask;
//! - [`store`]: the index's storage in shared buffers; [`cache`]: what a backend remembers of an index;
//! - [`functions`]: `hnsw_check`, `hnsw_index_info`;
//! - [`errors`]: errors of the engine as PostgreSQL's.
//!
//! The SQL objects are declared in `sql/hnsw.sql` and `sql/hnsw_filters.sql`.

#![allow(unsafe_code)]

mod build;
mod cache;
mod cost;
mod cost_model;
mod errors;
mod filter_scan;
mod filter_value;
mod filtered_search;
mod functions;
mod handler;
mod insert;
mod load;
mod mask;
mod memory;
mod opclass;
mod opclass_hint;
mod options;
mod parallel;
mod parts;
mod planner;
mod scan;
mod settings;
mod store;
mod temp_files;
mod vacuum;
mod validate;
mod value;

#[cfg(test)]
mod cost_tests;
#[cfg(any(test, feature = "pg_test"))]
mod tests;

/// Defines the storage parameters and the settings. Called once, from `_PG_init`.
///
/// A library that is loaded with the server defines its settings in every session, also in databases with pgvector,
/// whose own definitions of `hnsw.…` would then fail. So the settings wait there until the first index is opened.
pub fn init() {
    options::init();
    planner::init();
    filtered_search::init();
    // SAFETY: a flag of the process.
    if !unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress } {
        settings::init_once();
    }
}
