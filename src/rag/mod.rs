//! Indexes over documents, search and answers: SQL-visible functions that run as the caller, through SPI.
//!
//! An index is a chunk table in schema `rag`, a view beside the source table that joins both, and a row of
//! `rag.index`. Statements are composed from quoted names; values are always bound.
//!
//! - `catalog`: rows of `rag.index`;
//! - `source`: what an index needs to know of the table it is built over;
//! - `definition`: what an index is defined by; `chunk_table`: what it consists of;
//! - `create`: `rag_create_index`, `rag_drop_index`; `reindex`: `rag_reindex`;
//! - `collection`: `rag_create_collection`, `rag_ingest`;
//! - `refresh`: bringing the chunk table up to date with its source;
//! - `search`: `rag_search`, by vectors and words;
//! - `eval`: `rag_eval`;
//! - `map`: `rag_map`, a picture of an index;
//! - `lexemes`: words of texts, as text search sees them;
//! - `answer`: `rag_answer`, `rag_ask`, and what they share;
//! - `sync`: keeping an index up to date by itself;
//! - `progress`: what other sessions see of a running refresh.

mod answer;
mod catalog;
mod chunk_table;
mod collection;
mod create;
mod definition;
mod eval;
mod lexemes;
mod map;
mod progress;
mod refresh;
mod reindex;
mod search;
mod source;
pub mod sync;

/// Starts what has to watch from the beginning. Called once, from `_PG_init`.
pub fn init() {
    sync::init();
}
