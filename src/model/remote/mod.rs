//! Models that run elsewhere, behind the HTTP interface that OpenAI has made common (vLLM, TEI, Ollama, llama.cpp and
//! others have it too): vectors, chat completions, scores.
//!
//! From the bottom up:
//! - [`error`]: what can go wrong, without ever naming the key;
//! - [`watch`]: how long a request may take, and whether somebody still waits for it;
//! - [`address`]: which addresses may be connected to;
//! - [`key`]: reading the key from its file;
//! - [`transport`]: connections that obey the watch and go to checked addresses only;
//! - `retry_after`: when a server that is busy wants to be asked again;
//! - [`client`]: one request: attempts, pauses, limits;
//! - [`sse`]: server-sent events;
//! - [`options`], [`count`]: what a registration says of a model, and how its tokens are estimated;
//! - [`embeddings`], [`rerank`], [`chat`]: requests and answers.
//!
//! Whatever comes from the other side is hostile: bodies are read up to a limit, parsed into fixed shapes, and checked
//! against what was asked for. No redirect is followed, no proxy of the environment used. Caller: `server/remote.rs`,
//! on threads of its own.

pub mod address;
pub mod chat;
pub mod client;
pub mod count;
pub mod embeddings;
pub mod error;
pub mod key;
pub mod options;
pub mod rerank;
mod retry_after;
pub mod sse;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod watch;

pub use client::Client;
pub use error::RemoteError;
pub use watch::{Abandoned, Watch};
