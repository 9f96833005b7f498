//! What a PostgreSQL backend and `pg_rag_server` say to each other over a Unix socket.
//!
//! - [`message`]: the requests and responses, as plain data, and why a request failed;
//! - [`status`]: what the server tells of itself and of models, as parts of messages;
//! - [`document`]: documents and their text, as parts of messages;
//! - [`remote`]: servers that run models elsewhere, as parts of messages;
//! - [`frame`]: how one message becomes bytes: a 4-byte length, then the message in postcard's encoding.
//!
//! A connection is synchronous: the client sends [`message::Request`] and reads [`message::Response`]s until one of
//! them is final ([`message::Response::is_final`]); only then may it send the next request. Closing the connection
//! is how a client cancels: the server stops working on the request at the next token or micro-batch.
//!
//! This crate holds no I/O and no policy. It is compiled into both sides, and [`build_id`] tells whether both sides
//! were compiled from the same text.

pub mod document;
mod failure;
pub mod frame;
pub mod message;
pub mod remote;
pub mod status;

/// Folder in the data directory that the server writes models into.
pub const MODELS_DIR: &str = "pg_rag_models";

/// Version of the conversation; raised when the meaning of a message changes.
pub const PROTOCOL_VERSION: u32 = 1;

/// Identifies the exact wire format that this build speaks: a hash of this crate's sources.
///
/// A server that meets a client of another build says so in [`message::Response::Mismatch`] instead of misreading it.
pub fn build_id() -> u64 {
    // The build script always sets a decimal u64; 0 would merely make every handshake fail with a clear message.
    env!("PG_RAG_PROTOCOL_HASH").parse().unwrap_or(0)
}
