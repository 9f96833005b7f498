//! Generation models: a conversation to text.
//!
//! A [`Decoder`] is a loaded model of one of the families in [`config`], from a GGUF file or a folder with safetensors; it
//! is immutable and shared. A [`Generation`] is one sequence over it. The server holds one decoder per model and one generation per request.
//!
//! Invariants:
//! - Weights stay mapped in the format of their files ([`crate::compute::quant`], [`crate::compute::dense`]).
//! - A token gives the same logits and the same place in the cache, bit for bit, whatever other tokens are computed with
//!   it, for weights in blocks; for others, up to rounding.
//! - What a file asks for and this runtime cannot do is an error when it is loaded, never a wrong answer.

mod accelerated;
mod attention;
pub(crate) mod config;
mod engine;
pub(crate) mod folder;
pub(crate) mod folder_config;
mod forward;
mod generation;
mod gguf;
pub(crate) mod gguf_config;
mod json_schema;
mod kv_cache;
mod likelihood;
mod lora;
mod mapped_file;
mod matrix;
mod needs;
pub(crate) mod positions;
mod prefix_cache;
pub(crate) mod rope;
mod sampler;
pub(crate) mod sentence;
mod speculation;
pub(crate) mod tensors;
mod text_stream;
pub(crate) mod weights;

#[cfg(test)]
mod candle_tests;
#[cfg(test)]
pub(crate) mod family_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod json_tests;
#[cfg(test)]
mod serving_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod variant_tests;

pub use forward::Abandoned;
pub use generation::{Generation, GenerationOptions, Step};
pub use likelihood::Likelihood;
pub use needs::{adapter_needs, needs, DecoderNeeds};
pub use prefix_cache::DEFAULT_BYTES as PREFIX_CACHE_BYTES;

use crate::accelerator::Accelerator;
use crate::error::{ModelError, Result};
use crate::source::Generator;
use crate::tokenizer::chat_template::ChatTemplate;
use crate::tokenizer::{ModelTokenizer, Tokenizer};
use accelerated::AcceleratedNetwork;
use config::{Config, Family};
use folder::FolderTensors;
use folder_config::FolderConfig;
use forward::Network;
use gguf::GgufFile;
use json_schema::{Constraint, Schemas};
use kv_cache::KvCache;
use pg_rag_protocol::message::{ChatMessage, GenerateParams};
use prefix_cache::PrefixCache;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tensors::Tensors;
use weights::Weights;

/// Checks the name of an architecture in a GGUF file. Errors: `Unsupported` with the names of those that there are.
pub fn check_architecture(name: &str) -> Result<()> {
    Family::find(&Family::GGUF, name).map(drop)
}

/// Architecture and context of the model in a folder with safetensors, by its configuration.
///
/// Errors: those of [`Decoder::load`] that the configuration leads to.
pub fn describe_folder(dir: &Path) -> Result<(String, u32)> {
    let FolderConfig { config, name, .. } = FolderConfig::read(dir)?;
    Ok((name, u32::try_from(config.context_tokens).unwrap_or(u32::MAX)))
}

/// A generation model in memory. Shared between sequences as `Arc<Decoder>`.
pub struct Decoder {
    network: Network,
    /// The same on a device, where passes run if it is there.
    accelerated: Option<AcceleratedNetwork>,
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    /// Tokens that have a text; the embedding may have more rows.
    token_count: usize,
    /// Token that every text starts with, if there is one.
    text_start: Option<u32>,
    /// Tokens that end the assistant's turn.
    ends: Vec<u32>,
    resident_bytes: u64,
    prefixes: PrefixCache,
    /// Of the last pass; kept because they are large.
    logits: Mutex<Vec<f32>>,
    schemas: Schemas,
}

impl Decoder {
    /// Loads the model at `path`: a GGUF file, or a folder with one or with safetensors.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` for a truncated or contradictory file; `Unsupported`, naming what,
    /// for another architecture, vocabulary, element type or variant; `OutOfMemory`.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_on(path, None)
    }

    /// As [`Decoder::load`], to compute on a device if one is given. Errors besides: `OutOfMemory` and `Internal` of the
    /// device.
    pub fn load_on(path: &Path, accelerator: Option<&Arc<Accelerator>>) -> Result<Self> {
        match Generator::find(path)? {
            Generator::Gguf(path) => {
                let mut file = GgufFile::open(&path)?;
                let config = Config::from_gguf(&mut file)?;
                let text = ModelTokenizer::from_gguf(file.path(), file.metadata())?;
                Self::new(&mut file, config, text, accelerator)
            }
            Generator::Folder(dir) => {
                let config = FolderConfig::read(&dir)?;
                let text = ModelTokenizer::from_folder(&dir, &config.ends)?;
                let mut tensors = FolderTensors::open(&dir, &config)?;
                Self::new(&mut tensors, config.config, text, accelerator)
            }
        }
    }

    fn new(
        tensors: &mut dyn Tensors,
        config: Config,
        text: ModelTokenizer,
        accelerator: Option<&Arc<Accelerator>>,
    ) -> Result<Self> {
        let ModelTokenizer { tokenizer, bos, eos, add_bos, ends, template } = text;
        let template = ChatTemplate::new(template.as_deref(), &tokenizer, bos, eos, add_bos)?;
        let network = Network::new(config.clone(), Weights::load(tensors, &config)?);
        let (token_count, rows) = (tokenizer.inner().get_vocab_size(true), network.vocab_size());
        if token_count > rows {
            return Err(tensors.corrupt(format!("vocabulary of {token_count} tokens has embeddings for {rows}")));
        }
        let upload = |accelerator| AcceleratedNetwork::new(accelerator, &network.config, &network.weights);
        let accelerated = accelerator.map(upload).transpose()?;
        let resident_bytes = network.weights.bytes() as u64;
        let prefixes = PrefixCache::new(&network.config, prefix_cache::DEFAULT_BYTES);
        let logits = Mutex::default();
        let text_start = bos.filter(|_| add_bos);
        let (tokenizer, template) = (Arc::new(tokenizer), Arc::new(template));
        let schemas = Schemas::default();
        Ok(Self {
            network,
            accelerated,
            tokenizer,
            template,
            token_count,
            text_start,
            ends,
            resident_bytes,
            prefixes,
            logits,
            schemas,
        })
    }

    /// Longest sequence, prompt and answer together.
    pub fn context_tokens(&self) -> usize {
        self.network.config.context_tokens
    }

    /// Bytes of the weights; those mapped from the file are shared with the page cache.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Sets how many bytes the keys and values of the beginnings of prompts may take, which later prompts begin with.
    /// They are not part of [`Decoder::resident_bytes`].
    pub fn set_prefix_cache_bytes(&self, bytes: usize) {
        self.prefixes.set_most_bytes(bytes);
    }

    /// Bytes that they take.
    pub fn prefix_cache_bytes(&self) -> usize {
        self.prefixes.bytes()
    }

    /// Bytes of the keys and values of a sequence of `tokens` tokens.
    pub fn sequence_bytes(&self, tokens: usize) -> usize {
        tokens.saturating_mul(KvCache::position_bytes(&self.network.config))
    }

    fn logits(&self) -> MutexGuard<'_, Vec<f32>> {
        // A panic while they are written leaves numbers that the next pass writes anew.
        self.logits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps an answer to the schema of `params`, if there is one. The first time for a model, and for a schema, takes
    /// longer; what is made is kept.
    ///
    /// Errors: `InvalidArgument` for a schema that is not supported, naming what, and for stop texts beside it;
    /// `Unsupported` for a vocabulary that cannot be constrained.
    pub fn constraint(&self, params: &GenerateParams) -> Result<Option<Constraint>> {
        let Some(schema) = &params.json_schema else { return Ok(None) };
        if !params.stop.is_empty() {
            return Err(ModelError::InvalidArgument("stop texts would cut an answer of a json_schema".into()));
        }
        let tokens = self.token_count.min(self.vocab_size());
        self.schemas.start(&self.tokenizer, tokens, &self.ends, schema).map(Some)
    }

    /// Tokens that the model can produce.
    pub fn vocab_size(&self) -> usize {
        self.network.vocab_size()
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Token ids of the model's chat template over `messages`, ready for the assistant's turn. Contents are data:
    /// control tokens spelled out in them are ordinary text.
    pub fn prompt_tokens(&self, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        self.template.prompt_tokens(&self.tokenizer, messages)
    }
}
