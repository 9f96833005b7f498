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
mod dots;
#[cfg(target_arch = "x86_64")]
mod dots_x86;
mod kernels;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_x86;
mod leading;
mod linear;
mod pooling;
mod product;
mod quantized;
mod weights;

pub use config::{Dtype, EncoderOptions};

use crate::compute::{Crew, Pool};
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use crate::tokenizer::Tokenizer;
use bert::{Bert, Scratch};
use config::EncoderConfig;
use pg_rag_protocol::message::Purpose;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Tokens of one pass through the layers, unless a single text is longer. Bounds the buffers and keeps the rows of a
/// pass in a core's own cache from one step of a layer to the next; enough to make up for reading all weights.
const PASS_TOKENS: usize = 256;
/// With fewer tokens for each thread, all threads work on one pass: reading the weights is what takes the time then.
const MIN_TOKENS_ALONE: usize = 48;

/// A loaded embedding model. Shared between threads.
pub struct Encoder {
    config: EncoderConfig,
    tokenizer: Tokenizer,
    cuts: Option<leading::Cuts>,
    bert: Bert,
    /// Special tokens before and after every text.
    opening: Vec<u32>,
    closing: Vec<u32>,
    /// Buffers of earlier passes, for the next ones: one for each thread that has run a pass.
    scratch: Mutex<Vec<Scratch>>,
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
        let bert = Bert::load(&config.bert, options.dtype, &checkpoint)?;
        let (opening, closing) = surrounding_tokens(&tokenizer)?;
        // A text must keep at least one token of its own.
        config.max_tokens = config.max_tokens.max((opening.len() + closing.len() + 1).min(config.bert.positions));
        let cuts = leading::Cuts::of(&tokenizer);
        Ok(Self { config, tokenizer, cuts, bert, opening, closing, scratch: Mutex::default() })
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
        let prefix = self.config.prefix(purpose);
        let prefixed;
        let mut text = text;
        if !prefix.is_empty() {
            prefixed = format!("{prefix}{text}");
            text = &prefixed;
        }
        let mut ids = self.opening.clone();
        let room = self.config.max_tokens.saturating_sub(self.opening.len() + self.closing.len());
        ids.extend(leading::leading_ids(&self.tokenizer, self.cuts, text, self.config.lower_case, room)?);
        ids.extend(&self.closing);
        Ok(ids)
    }

    /// Vectors of texts prepared by [`Encoder::prepare`], `[texts, dims]` in the order of `batch`.
    ///
    /// Errors: `InvalidArgument` for ids that are not from this model's `prepare`.
    pub fn embed(&self, batch: &[Vec<u32>], pool: &Pool) -> Result<Vec<f32>> {
        batch.iter().try_for_each(|ids| self.bert.check_ids(ids))?;
        let mut vectors = vec![0.0; batch.len() * self.dims()];
        let tokens: usize = batch.iter().map(Vec::len).sum();
        let longest = batch.iter().map(Vec::len).max().unwrap_or(0);
        pool.with_crew(|crew| {
            let share = tokens / crew.threads();
            // One long text among short ones would keep one thread busy when the others are done.
            if share < MIN_TOKENS_ALONE.max(longest * 2 / 3) {
                self.pass(crew, batch, &mut vectors);
                return;
            }
            let mut passes = self.plan_passes(batch, &mut vectors, share.min(PASS_TOKENS));
            crew.for_chunks_mut(&mut passes, 1, |_, passes| {
                for (texts, vectors) in passes {
                    self.pass(&mut Crew::alone(), texts, vectors);
                }
            });
        });
        Ok(vectors)
    }

    /// Cuts a batch into neighbouring texts of at most `tokens` tokens, or one text, with their vectors.
    fn plan_passes<'b, 'v>(
        &self,
        mut batch: &'b [Vec<u32>],
        mut vectors: &'v mut [f32],
        tokens: usize,
    ) -> Vec<(&'b [Vec<u32>], &'v mut [f32])> {
        let mut passes = Vec::new();
        while !batch.is_empty() {
            let mut sum = batch[0].len();
            let more = batch[1..].iter().take_while(|text| {
                sum += text.len();
                sum <= tokens
            });
            let (texts, other_texts) = batch.split_at(1 + more.count());
            let (part, other_vectors) = vectors.split_at_mut(texts.len() * self.dims());
            passes.push((texts, part));
            (batch, vectors) = (other_texts, other_vectors);
        }
        passes
    }

    /// One pass through the layers, and the vectors of its texts.
    fn pass(&self, crew: &mut Crew, texts: &[Vec<u32>], vectors: &mut [f32]) {
        let mut starts = vec![0];
        for text in texts {
            starts.push(starts[starts.len() - 1] + text.len());
        }
        let idle = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = idle().pop().unwrap_or_default();
        let state = self.bert.forward(crew, texts, &starts, &mut scratch);
        let hidden = self.config.bert.hidden;
        let mut rows = Vec::new();
        for (text, vector) in starts.windows(2).zip(vectors.chunks_exact_mut(self.dims())) {
            state.copy_rows(text[0]..text[1], hidden, &mut rows);
            pooling::pool_rows(&rows, hidden, &self.config.pooling, self.config.normalize, vector);
        }
        idle().push(scratch);
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
