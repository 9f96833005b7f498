//! Generation models: a conversation to text.
//!
//! A [`Decoder`] is a loaded model of the llama architecture from a GGUF file; it is immutable and shared. A
//! [`Generation`] is one sequence over it. The server holds one decoder per model and one generation per request.
//!
//! Invariants:
//! - Weights stay mapped in the format of the file where it has kernels ([`crate::compute::quant`]).
//! - A prompt gives the same cache whatever slices it is read in, up to rounding.
//! - What a file asks for and this runtime cannot do is an error when it is loaded, never a wrong answer.

mod attention;
mod config;
mod forward;
mod generation;
mod gguf;
mod kv_cache;
mod mapped_file;
mod matrix;
mod rope;
mod sampler;
mod text_stream;
mod weights;

#[cfg(test)]
mod tests;

pub use forward::Abandoned;
pub use generation::{Generation, Step};

use crate::error::Result;
use crate::tokenizer::chat_template::ChatTemplate;
use crate::tokenizer::gguf::GgufTokenizer;
use crate::tokenizer::Tokenizer;
use config::Config;
use forward::Network;
use gguf::GgufFile;
use kv_cache::KvCache;
use pg_rag_protocol::message::ChatMessage;
use std::path::Path;
use weights::Weights;

/// A generation model in memory. Shared between sequences as `Arc<Decoder>`.
pub struct Decoder {
    network: Network,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// Tokens that have a text; the embedding may have more rows.
    token_count: usize,
    /// Tokens that end the assistant's turn.
    ends: Vec<u32>,
    resident_bytes: u64,
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
        let network = Network { config, weights };
        let (token_count, rows) = (tokenizer.inner().get_vocab_size(true), network.vocab_size());
        if token_count > rows {
            return Err(file.corrupt(format!("vocabulary of {token_count} tokens has embeddings for {rows}")));
        }
        let resident_bytes = network.weights.bytes() as u64;
        Ok(Self { network, tokenizer, template, token_count, ends, resident_bytes })
    }

    /// Longest sequence, prompt and answer together.
    pub fn context_tokens(&self) -> usize {
        self.network.config.context_tokens
    }

    /// Bytes of the weights; those mapped from the file are shared with the page cache.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Bytes of the cache of a sequence of so many tokens, as far as the context reaches.
    pub fn sequence_bytes(&self, tokens: usize) -> u64 {
        KvCache::bytes(&self.network.config, tokens.min(self.context_tokens()))
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
