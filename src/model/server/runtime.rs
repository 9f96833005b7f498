//! The seam between the server and the models: what the server needs of a model, as traits.
//!
//! Everything above (registry, scheduler, connections) knows models only through these traits, so it is tested with
//! small deterministic models that live in memory. The real ones are bound in `models.rs`.

use crate::compute::Pool;
use crate::decoder::{Abandoned, Step};
use crate::error::Result;
use pg_rag_protocol::message::{ChatMessage, GenerateParams, ModelRef, Purpose, TokenizedText, Usage};
use std::any::Any;
use std::sync::Arc;

/// Tokens to text and back.
pub trait TextModel: Send + Sync {
    fn tokenize(&self, text: &str, add_special: bool) -> Result<TokenizedText>;
    fn detokenize(&self, ids: &[u32]) -> Result<String>;
    /// Estimated resident bytes of the weights.
    fn resident_bytes(&self) -> u64;
}

/// Text to vector.
pub trait EmbedModel: TextModel {
    fn dimensions(&self) -> usize;
    /// Token ids of `text` as the model takes them: with its instruction and special tokens, truncated.
    fn prepare(&self, text: &str, purpose: Purpose) -> Result<Vec<u32>>;
    /// One forward pass: one row of [`EmbedModel::dimensions`] numbers per input.
    fn embed(&self, batch: &[Vec<u32>], pool: &Pool) -> Result<Vec<f32>>;
}

/// Conversation to text.
pub trait GenerateModel: TextModel {
    /// Token ids of the rendered chat template, ready for the assistant's turn.
    fn prompt_tokens(&self, messages: &[ChatMessage]) -> Result<Vec<u32>>;
    /// Checks what takes too long, or fails too late, when the generation starts; on the thread of the connection.
    fn check(&self, params: &GenerateParams) -> Result<()>;
    /// Bytes that a sequence of so many tokens takes besides the weights.
    fn sequence_bytes(&self, tokens: usize) -> u64;
    fn start(self: Arc<Self>, prompt: Vec<u32>, params: GenerateParams) -> Result<Box<dyn Run>>;
    /// Lets several generations of this model advance by one step each, with what they would do alone. If one is
    /// abandoned, all are.
    fn step_together(&self, runs: &mut [&mut dyn Run], pool: &Pool, abandoned: Abandoned<'_>) -> Vec<Result<Step>> {
        runs.iter_mut().map(|run| run.step(pool, abandoned)).collect()
    }
}

/// A generation in progress.
pub trait Run: Any + Send {
    /// One slice of the prompt or one token, unless it is abandoned on the way.
    fn step(&mut self, pool: &Pool, abandoned: Abandoned<'_>) -> Result<Step>;
    /// Whether the next step reads a slice of the prompt.
    fn is_prefilling(&self) -> bool;
    fn text(&self) -> &str;
    fn usage(&self) -> Usage;
}

/// A loaded model.
#[derive(Clone)]
pub enum Runtime {
    Embed(Arc<dyn EmbedModel>),
    Generate(Arc<dyn GenerateModel>),
}

impl Runtime {
    pub fn text(&self) -> &dyn TextModel {
        match self {
            Runtime::Embed(model) => model.as_ref(),
            Runtime::Generate(model) => model.as_ref(),
        }
    }
}

/// Where loaded models come from.
pub trait Loader: Send + Sync {
    /// Bytes that `model` will take in memory, by the headers of its files.
    fn needed_bytes(&self, model: &ModelRef) -> Result<u64>;
    /// Verifies the files of `model` and reads them into memory.
    fn load(&self, model: &ModelRef) -> Result<Runtime>;
}
