//! What the server tells of itself and of models: state, progress, memory, what quantisation has done.

use crate::message::ModelKind;
use serde::{Deserialize, Serialize};

/// A model that the server holds in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    pub name: String,
    pub kind: ModelKind,
    /// Estimated resident bytes of its weights.
    pub resident_bytes: u64,
    pub load_ms: f32,
    pub requests: u64,
    pub tokens: u64,
    /// Seconds since the last request.
    pub idle_s: f64,
}

/// What [`crate::message::Request::Status`] answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    pub pid: u32,
    pub uptime_s: f64,
    pub threads: u32,
    pub connections: u32,
    /// Requests waiting for the compute threads.
    pub queued: u32,
    /// Generations in progress.
    pub generating: u32,
    /// Resident set of the server process.
    pub resident_bytes: u64,
    /// Bytes that models and caches of generations are counted with.
    pub memory_bytes: u64,
    /// The most that this may be; None for no limit.
    pub max_memory_bytes: Option<u64>,
    pub models: Vec<LoadedModel>,
    /// Long work on models, of all databases.
    pub works: Vec<ModelProgress>,
}

/// Something to compute with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    /// `cpu`, `cuda`.
    pub kind: String,
    pub memory_bytes: u64,
    /// Of a CUDA device: `9.0`.
    pub compute_capability: Option<String>,
    /// Instruction sets of a processor that kernels use.
    pub features: Vec<String>,
}

/// How far the refresh of an index has come. The server keeps the last report of each connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexProgress {
    /// Process id of the reporting backend.
    pub pid: u32,
    /// Object id of its database.
    pub database: u32,
    pub index: String,
    pub rows_done: u64,
    pub rows_total: u64,
    pub chunks_done: u64,
    /// Chunks whose vector was computed; the others kept theirs.
    pub chunks_embedded: u64,
    /// Seconds since the first report of this connection; filled in by the server.
    pub elapsed_s: f64,
}

/// A model in the server's own folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredModel {
    /// Its folder or file, relative to the server's.
    pub path: String,
    /// Where it was downloaded from.
    pub repository: Option<String>,
    /// Of its files; downloads of one repository may share some.
    pub bytes: u64,
}

/// How far long work on a model has come. The server keeps one for each piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelProgress {
    /// Process id of the backend that waits for it.
    pub pid: u32,
    /// Object id of its database.
    pub database: u32,
    pub model: String,
    /// What is done: `quantize`, `compare`, `read text`, `download`.
    pub phase: String,
    /// In a unit of the work's own: weights, tokens, bytes.
    pub done: u64,
    pub total: u64,
    pub elapsed_s: f64,
}

/// Who waits for long work, for [`ModelProgress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    pub pid: u32,
    pub database: u32,
}

/// What quantisation has done to one tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorReport {
    pub name: String,
    /// Element type in the original.
    pub original_kind: String,
    pub kind: String,
    pub elements: u64,
    pub bytes: u64,
    /// Root of the mean of the squared errors.
    pub rmse: f64,
    pub largest_error: f64,
    /// Between the original tensor and this one, seen as vectors.
    pub cosine: f64,
}

/// The answer to [`crate::message::Request::QuantizationReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationReport {
    pub tensors: Vec<TensorReport>,
    /// Of the sample text, if there was one.
    pub perplexity: Option<PerplexityChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerplexityChange {
    /// Tokens that counted.
    pub tokens: u64,
    pub original: f64,
    pub quantised: f64,
}

/// The answer to [`crate::message::Request::ModelMemory`], by headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelMemory {
    /// Element type of most weights, or the type that was asked for.
    pub kind: String,
    /// Tokens of the context that the figures are for.
    pub context_tokens: u32,
    pub weights_bytes: u64,
    /// Tokens and merges, in every form in which they are looked up.
    pub vocabulary_bytes: u64,
    /// Keys and values of one generation that fills the context.
    pub kv_cache_bytes: u64,
    /// Keys and values of the beginnings of earlier prompts, at most.
    pub prefix_cache_bytes: u64,
    /// Buffers of a forward pass.
    pub activations_bytes: u64,
    /// All of it: what the server counts a loaded model and one generation with.
    pub total_bytes: u64,
    /// The devices, and whether it fits into the memory of each.
    pub devices: Vec<(Device, bool)>,
    /// Whether it fits into what `pg_rag.max_memory` allows; None where there is no limit.
    pub fits_limit: Option<bool>,
}
