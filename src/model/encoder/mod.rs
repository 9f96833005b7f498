//! Embedding models: texts to vectors.
//!
//! An [`Encoder`] is a loaded model of the BERT family in the folder layout of sentence-transformers. The server
//! prepares texts on its connection threads ([`Encoder::prepare`]), groups them with [`batch::plan_batches`] and runs
//! one batch after the other on the compute threads ([`Encoder::embed`]).
//!
//! Invariants:
//! - A text's vector does not depend on the other texts of its batch, beyond rounding in the last bits.
//! - The vectors are those of sentence-transformers to about 1e-6; what the model's configuration asks for and this
//!   runtime cannot do is an error when the model is loaded.

mod attention;
pub mod batch;
mod bert;
pub mod config;
mod kernels;
mod lanes;
mod linear;
mod pooling;

pub use config::EncoderOptions;

use crate::compute::Pool;
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use crate::tokenizer::Tokenizer;
use bert::{Bert, Scratch};
use config::EncoderConfig;
use pg_rag_protocol::message::Purpose;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Most tokens of one pass through the layers, unless a single text is longer. Bounds the buffers, and keeps the rows
/// of a pass in the processor's cache from one step of a layer to the next.
const PASS_TOKENS: usize = 2048;

/// A loaded embedding model. Shared between threads.
pub struct Encoder {
    config: EncoderConfig,
    tokenizer: Tokenizer,
    bert: Bert,
    /// Special tokens before and after every text.
    opening: Vec<u32>,
    closing: Vec<u32>,
    /// Buffers of the last pass, reused by the next.
    scratch: Mutex<Scratch>,
}

impl Encoder {
    /// Loads the model in `dir`.
    ///
    /// Errors: `Missing`, `Unreadable`, `Corrupt` naming the file and the tensor, `Unsupported` naming what is,
    /// `InvalidArgument` for an option out of range.
    pub fn load(dir: &Path, options: &EncoderOptions) -> Result<Self> {
        let mut config = EncoderConfig::read(dir, options)?;
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json"))?;
        let checkpoint = Checkpoint::open(dir)?;
        let bert = Bert::load(&config.bert, &checkpoint)?;
        let (opening, closing) = surrounding_tokens(&tokenizer)?;
        // A text must keep at least one token of its own.
        config.max_tokens = config.max_tokens.max((opening.len() + closing.len() + 1).min(config.bert.positions));
        Ok(Self { config, tokenizer, bert, opening, closing, scratch: Mutex::default() })
    }

    /// Numbers in a vector.
    pub fn dims(&self) -> usize {
        self.config.dims()
    }

    /// Longest input in tokens, special tokens included; longer texts are truncated.
    pub fn max_tokens(&self) -> usize {
        self.config.max_tokens
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes that the weights occupy.
    pub fn resident_bytes(&self) -> u64 {
        self.bert.resident_bytes() as u64
    }

    /// Token ids of `text` as the model wants them: with its prefix for `purpose` and its special tokens, truncated to
    /// [`Encoder::max_tokens`]. The empty text is valid.
    pub fn prepare(&self, text: &str, purpose: Purpose) -> Result<Vec<u32>> {
        let mut text = std::borrow::Cow::Borrowed(text);
        let prefix = self.config.prefix(purpose);
        if !prefix.is_empty() {
            text = format!("{prefix}{text}").into();
        }
        if self.config.lower_case {
            text = text.to_lowercase().into();
        }
        let mut ids = self.opening.clone();
        let room = self.config.max_tokens.saturating_sub(self.opening.len() + self.closing.len());
        let content = self.tokenizer.encode_ids(&text, false)?;
        ids.extend(content.into_iter().take(room));
        ids.extend(&self.closing);
        Ok(ids)
    }

    /// Vectors of texts prepared by [`Encoder::prepare`], `[texts, dims]` in the order of `batch`.
    ///
    /// Errors: `InvalidArgument` for ids that are not from this model's `prepare`.
    pub fn embed(&self, batch: &[Vec<u32>], pool: &Pool) -> Result<Vec<f32>> {
        let mut guard = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = &mut *guard;
        let hidden = self.config.bert.hidden;
        let mut vectors = Vec::with_capacity(batch.len() * self.dims());
        let mut rest = batch;
        while !rest.is_empty() {
            let mut starts = vec![0];
            let mut ids: Vec<u32> = Vec::new();
            for text in rest {
                if !ids.is_empty() && ids.len() + text.len() > PASS_TOKENS {
                    break;
                }
                ids.extend(text);
                starts.push(ids.len());
            }
            rest = &rest[starts.len() - 1..];
            let rows = pool.enter(|| self.bert.forward(pool, &ids, &starts, scratch))?;
            for text in starts.windows(2) {
                let rows = &rows[text[0] * hidden..text[1] * hidden];
                pooling::pool_rows(rows, hidden, &self.config.pooling, self.config.normalize, &mut vectors);
            }
        }
        Ok(vectors)
    }
}

/// Checks that `checkpoint` has the weights that `config` describes, without reading them. Called to inspect a model.
pub(crate) fn check_weights(config: &EncoderConfig, checkpoint: &Checkpoint) -> Result<()> {
    Bert::check(&config.bert, checkpoint)
}

/// The special tokens that the tokenizer puts before and after a text.
fn surrounding_tokens(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let bare = tokenizer.encode_ids("a", false)?;
    let full = tokenizer.encode_ids("a", true)?;
    match full.windows(bare.len().max(1)).position(|window| window == bare) {
        Some(start) => Ok((full[..start].to_vec(), full[start + bare.len()..].to_vec())),
        None => Err(ModelError::Unsupported("tokenizer that changes a text when it adds special tokens".to_owned())),
    }
}
