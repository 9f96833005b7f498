//! Generation models: a conversation to text.
//!
//! A [`Decoder`] is a loaded model of the llama architecture from a GGUF file; it is immutable and shared. A
//! [`Generation`] is one sequence over it. The server holds one decoder per model and one generation per request.
//!
//! Invariants:
//! - Weights stay mapped in the format of the file ([`crate::compute::quant`], [`crate::compute::dense`]).
//! - A token gives the same logits and the same place in the cache, bit for bit, whatever other tokens are computed with
//!   it, for weights in blocks; for others, up to rounding.
//! - What a file asks for and this runtime cannot do is an error when it is loaded, never a wrong answer.

mod attention;
mod config;
mod forward;
mod generation;
mod gguf;
mod kv_cache;
mod likelihood;
mod lora;
mod mapped_file;
mod matrix;
mod needs;
mod prefix_cache;
mod rope;
mod sampler;
mod sentence;
mod speculation;
mod text_stream;
mod weights;

#[cfg(test)]
mod candle_tests;
#[cfg(test)]
mod format_tests;
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

use crate::error::Result;
use crate::tokenizer::chat_template::ChatTemplate;
use crate::tokenizer::gguf::GgufTokenizer;
use crate::tokenizer::Tokenizer;
use config::Config;
use forward::Network;
use gguf::GgufFile;
use kv_cache::KvCache;
use pg_rag_protocol::message::ChatMessage;
use prefix_cache::PrefixCache;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weights::Weights;

/// A generation model in memory. Shared between sequences as `Arc<Decoder>`.
pub struct Decoder {
    network: Network,
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
}

impl Decoder {
    /// Loads the model in the GGUF file at `path`.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` for a truncated or contradictory file; `Unsupported`, naming what,
    /// for another architecture, vocabulary, element type or variant; `OutOfMemory`.
    pub fn load(path: &Path) -> Result<Self> {
        let mut file = GgufFile::open(path)?;
        let config = Config::read(&file)?;
        let GgufTokenizer { tokenizer, bos, eos, add_bos, ends } = GgufTokenizer::load(file.path(), file.metadata())?;
        let template = ChatTemplate::new(file.text("tokenizer.chat_template"), &tokenizer, bos, eos, add_bos)?;
        let weights = Weights::load(&mut file, &config)?;
        let network = Network::new(config, weights);
        let (token_count, rows) = (tokenizer.inner().get_vocab_size(true), network.vocab_size());
        if token_count > rows {
            return Err(file.corrupt(format!("vocabulary of {token_count} tokens has embeddings for {rows}")));
        }
        let resident_bytes = network.weights.bytes() as u64;
        let prefixes = PrefixCache::new(&network.config, prefix_cache::DEFAULT_BYTES);
        let logits = Mutex::default();
        let text_start = bos.filter(|_| add_bos);
        let (tokenizer, template) = (Arc::new(tokenizer), Arc::new(template));
        Ok(Self { network, tokenizer, template, token_count, text_start, ends, resident_bytes, prefixes, logits })
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
