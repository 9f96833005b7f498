//! The model server as PostgreSQL sees it: who starts it ([`supervisor`], [`launch`]) and how a backend talks to it
//! ([`connection`], [`client`]).
//!
//! The server is a child of the supervisor background worker and not of the postmaster, and has no shared memory:
//! when it crashes, callers get an error and nobody else notices.

pub mod client;
mod connection;
mod launch;
mod paths;
mod supervisor;

use pg_rag_protocol::message::Request;

/// Registers the supervisor if the library is preloaded, and the notice of `DROP EXTENSION`.
pub fn init() {
    if crate::pg::backend::is_preloading() {
        supervisor::register_at_server_start();
    }
    crate::pg::drop_notice::install(retire);
}

/// Tells a running server that the extension was dropped. Never starts one, never waits, never fails: it runs after
/// the commit of the dropping transaction.
fn retire() {
    if let Ok(mut connection) = connection::Connection::open() {
        let _ = connection.send_without_waiting(&Request::Retire);
    }
}
