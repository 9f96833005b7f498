//! pg_rag: retrieval-augmented generation inside PostgreSQL.
//!
//! This crate is the PostgreSQL layer, and the only one that names pgrx. It translates between SQL and three crates
//! that know nothing of PostgreSQL: `pg_rag_engine` (algorithms), `pg_rag_protocol` (messages) and, in another
//! process behind a socket, `pg_rag_model` (models).
//!
//! From the bottom up:
//! - [`error`]: the one map from typed failures to SQLSTATE, message, detail and hint;
//! - [`gucs`]: every setting;
//! - [`pg`]: thin safe wrappers of PostgreSQL's C interface;
//! - [`types`]: the SQL types `vector`, `halfvec`, `sparsevec`;
//! - [`hnsw`]: the index access method `hnsw`;
//! - [`server`]: the supervisor background worker and the client of the model server;
//! - [`models`]: the catalogue of registered models;
//! - [`functions`]: SQL functions over text and models;
//! - [`rag`]: indexes over documents, search and answers.

#![allow(clippy::result_large_err, reason = "the error type is pgrx's, and raised at once")]

use pgrx::prelude::*;

mod error;
mod functions;
mod gucs;
mod hnsw;
mod models;
mod pg;
mod rag;
mod server;
mod types;

pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/requirements.sql", name = "requirements", bootstrap);
extension_sql_file!("../sql/types.sql", name = "types", requires = ["requirements"]);
extension_sql_file!("../sql/hnsw.sql", name = "hnsw", requires = ["types"]);
extension_sql_file!("../sql/hnsw_filters.sql", name = "hnsw_filters", requires = ["hnsw"]);
extension_sql_file!("../sql/models.sql", name = "models", requires = ["hnsw"]);
extension_sql_file!("../sql/remote.sql", name = "remote", requires = ["models"]);
extension_sql_file!("../sql/text.sql", name = "text", requires = ["remote"]);
extension_sql_file!("../sql/inference.sql", name = "inference", requires = ["text"]);
extension_sql_file!("../sql/rag.sql", name = "rag", requires = ["inference"]);
extension_sql_file!("../sql/rag_sync.sql", name = "rag_sync", requires = ["rag"]);
extension_sql_file!("../sql/privileges.sql", name = "privileges", requires = ["rag_sync"], finalize);

/// Runs once per process that loads the library. Starts no thread and opens no socket: in the postmaster, both would
/// be inherited by every backend.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    gucs::init();
    hnsw::init();
    server::init();
    models::init();
    rag::init();
}

/// Hooks that `cargo pgrx test` calls.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
