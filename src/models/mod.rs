//! Registered models.
//!
//! A model is a name bound for ever to the SHA-256 hashes of its files: it can be dropped, but a name that was used
//! once can only be given to the same files again. That is what makes `embed(text, model)` honestly IMMUTABLE.
//!
//! - [`catalog`]: from a name to what the model server needs, cached per backend;
//! - [`registry`]: `rag_add_model`, `rag_drop_model`;
//! - [`access`]: who may use a model;
//! - [`download`]: the function `rag_download_model`;
//! - [`files`]: whether the files of models are there and are the registered ones;
//! - [`quantize`]: `rag_quantize_model`, what it has changed, and what a model takes in memory;
//! - [`remote`]: models that run elsewhere, behind foreign servers;
//! - [`stored`]: what downloads and quantisation have left on disk;
//! - [`status`]: the state of the server.

mod access;
pub mod catalog;
mod download;
mod files;
mod quantize;
mod registry;
mod remote;
mod status;
mod stored;

/// Starts watching for changes of the catalogue. Called once, from `_PG_init`.
pub fn init() {
    crate::pg::invalidation::watch();
}
