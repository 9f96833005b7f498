//! Files of the model server. All are relative to the data directory, the working directory of every PostgreSQL
//! process, so that the length of a socket's path (107 bytes) never depends on where the data lies.
//!
//! They live in `pg_stat_tmp`, whose contents base backups skip.

use crate::gucs;
use std::path::PathBuf;

/// The Unix socket that the server listens on.
pub const SOCKET: &str = "pg_stat_tmp/pg_rag.sock";

/// Locked by the supervisor as long as it lives, so that there is only one.
pub const SUPERVISOR_LOCK: &str = "pg_stat_tmp/pg_rag.lock";

/// The program to run as model server.
pub fn server_binary() -> PathBuf {
    match gucs::server_binary() {
        path if path.is_empty() => crate::pg::backend::library_folder().join("pg_rag_server"),
        path => PathBuf::from(path),
    }
}
