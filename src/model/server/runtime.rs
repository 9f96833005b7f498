//! The seam between the server and the models: what the server needs of a model, as traits.
//!
//! Everything above (registry, scheduler, connections) knows models only through these traits, so it is tested with
//! small deterministic models that live in memory. The real ones are bound in `models.rs`.

use crate::compute::Pool;
use crate::decoder::{Abandoned, Step};
use crate::encoder::Interrupted;
use crate::error::{ModelError, Result};
use crate::quantize::Mix;
use pg_rag_protocol::message::{ChatMessage, GenerateParams, ModelRef, Purpose, TokenizedText, Usage};
use std::any::Any;
use std::path::Path;
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
    /// Numbers in the vector of a token.
    fn token_dimensions(&self) -> usize;
    /// Token ids of `text` as the model takes them: with its instruction and special tokens, truncated.
    fn prepare(&self, text: &str, purpose: Purpose) -> Result<Vec<u32>>;
    /// The same without an instruction, with the places of tokens in the text and their spellings.
    fn prepare_tokens(&self, text: &str) -> Result<(TokenizedText, Vec<String>)>;
    /// One row of [`EmbedModel::dimensions`] numbers per input, of the leading inputs only if something `urgent` came up,
    /// but always of one. `Cancelled` when it is abandoned.
    fn embed(
        &self,
        batch: &[Vec<u32>],
        pool: &Pool,
        abandoned: Abandoned<'_>,
        urgent: Interrupted<'_>,
    ) -> Result<Vec<f32>>;
    /// One forward pass: one row of [`EmbedModel::token_dimensions`] numbers per token.
    fn embed_tokens(&self, batch: &[Vec<u32>], pool: &Pool, abandoned: Abandoned<'_>) -> Result<Vec<f32>>;
}

/// Query and passage to score.
pub trait RerankModel: TextModel {
    /// Token ids of each pair as the model takes it, truncated.
    fn prepare(&self, query: &str, passages: &[String]) -> Result<Vec<Vec<u32>>>;
    /// One forward pass: a number per pair. `Cancelled` when it is abandoned.
    fn score(&self, batch: &[Vec<u32>], pool: &Pool, abandoned: Abandoned<'_>) -> Result<Vec<f32>>;
}

/// Conversation to text.
pub trait GenerateModel: TextModel {
    /// Token ids of the rendered chat template, ready for the assistant's turn.
    fn prompt_tokens(&self, messages: &[ChatMessage]) -> Result<Vec<u32>>;
    /// Checks what takes too long, or fails too late, when the generation starts; on the thread of the connection.
    fn check(&self, params: &GenerateParams) -> Result<()>;
    /// Bytes that a sequence of so many tokens takes besides the weights.
    fn sequence_bytes(&self, tokens: usize) -> u64;
    /// The same model with the adapter in `dir`; the two share what they have in common.
    fn with_adapter(&self, _dir: &Path) -> Result<Arc<dyn GenerateModel>> {
        Err(ModelError::Unsupported("an adapter for this model".into()))
    }
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
    Rerank(Arc<dyn RerankModel>),
    Generate(Arc<dyn GenerateModel>),
}

impl Runtime {
    pub fn text(&self) -> &dyn TextModel {
        match self {
            Runtime::Embed(model) => model.as_ref(),
            Runtime::Rerank(model) => model.as_ref(),
            Runtime::Generate(model) => model.as_ref(),
        }
    }
}

/// What a model takes in memory, by the headers of its files. Bytes, but for the context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Element type of most weights.
    pub kind: String,
    pub weights: u64,
    /// Tokens and merges, in every form in which they are looked up.
    pub vocabulary: u64,
    /// Buffers of a pass, which stay between passes.
    pub activations: u64,
    /// The most that the beginnings of prompts may take.
    pub prefix_cache: u64,
    /// Of a generation that fills `context_tokens`.
    pub kv_cache: u64,
    pub context_tokens: usize,
}

impl Needs {
    /// What the model is counted with while it is loaded; generations come on top.
    pub fn loaded_bytes(&self) -> u64 {
        let parts = [self.weights, self.vocabulary, self.activations, self.prefix_cache];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// Where loaded models come from.
pub trait Loader: Send + Sync {
    /// What `model` will take in memory, with a context of so many tokens (its own by default) and its weights in other
    /// types (or those that they have).
    fn needs(&self, model: &ModelRef, context_tokens: Option<usize>, mix: Option<Mix>) -> Result<Needs>;
    /// Verifies the files of `model` and reads them into memory.
    fn load(&self, model: &ModelRef) -> Result<Runtime>;
    /// Verifies the files of `adapter` and puts them on the loaded `base`.
    fn load_adapter(&self, adapter: &ModelRef, base: &Runtime) -> Result<Runtime>;
}
