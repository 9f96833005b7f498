//! The access method `hnsw`: what PostgreSQL calls, translated into calls of `pg_rag_engine::hnsw`.
//!
//! | file | what it is |
//! |---|---|
//! | `handler.rs` `validate.rs` | the table of callbacks; `amvalidate` |
//! | `options.rs` `settings.rs` | `WITH (…)` and `hnsw.*` |
//! | `opclass.rs` `value.rs` | which column an index is over; its values |
//! | `store.rs` `cache.rs` | the index's storage in shared buffers; what a backend remembers of an index |
//! | `build.rs` `parallel.rs` `progress.rs` | CREATE INDEX |
//! | `insert.rs` `scan.rs` `rerank.rs` `vacuum.rs` `cost.rs` | the other callbacks |
//! | `functions.rs` | `hnsw_check`, `hnsw_index_info`, `hnsw_recall` |
//! | `errors.rs` | errors of the engine as PostgreSQL's |

#![allow(unsafe_code)]

mod build;
mod cache;
mod cost;
mod errors;
mod functions;
mod handler;
mod insert;
mod opclass;
mod options;
mod parallel;
mod rerank;
mod scan;
mod settings;
mod store;
mod vacuum;
mod validate;
mod value;

/// Defines the settings and the reloptions. Called by `_PG_init`.
pub fn init() {
    settings::init();
    options::init();
}
