//! Registered models.
//!
//! A model is a name bound for ever to the SHA-256 hashes of its files: it can be dropped, but a name that was used
//! once can only be given to the same files again. That is what makes `embed(text, model)` honestly IMMUTABLE.
//!
//! - [`catalog`]: from a name to what the model server needs, cached per backend;
//! - [`remote`]: models that run elsewhere, behind foreign servers;
//! - [`registry`]: `rag_add_model`, `rag_drop_model`, status;
//! - [`quantize`]: `rag_quantize_model`, what it has changed, and what a model takes in memory.

pub mod catalog;
mod quantize;
mod registry;
mod remote;

/// Starts watching for changes of the catalogue. Called once, from `_PG_init`.
pub fn init() {
    crate::pg::invalidation::watch();
}
