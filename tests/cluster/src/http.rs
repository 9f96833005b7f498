//! An HTTP server on loopback, the one that the model runtime is tested with.

#[path = "../../../src/model/remote/testing.rs"]
mod testing;

pub use testing::{answer, head, json, Act, Received, TestServer};
