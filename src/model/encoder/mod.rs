//! Embedding models and cross-encoders: texts to vectors, pairs of texts to scores.
//!
//! An [`Encoder`] is a loaded model in the folder layout of sentence-transformers, of one of the families that [`shape`]
//! lists; a [`reranker::Reranker`] is a cross-encoder of one. The server prepares texts on its connection threads
//! ([`Encoder::prepare`]), groups them with [`batch::plan_batches`] and runs one batch after the other on the compute
//! threads ([`Encoder::embed`]).
//!
//! From the bottom up: `lanes`, `dots` and the kernels over them (`product`, `quantized`, `kernels`, `attention`,
//! `positions`); `linear` layers; [`shape`] and [`config`], what a folder says; `names` and `weights`, reading tensors;
//! `transformer`, the forward pass; `passes`, batches; `accelerated`, both on a device, and `engine`, which of the two it is;
//! `pooling` and `head`, what is made of the last hidden state.
//!
//! Invariants:
//! - A text's vector does not depend on the other texts of its batch, nor on the number of threads: every sum is added
//!   up in the same order. It depends on the instructions that the processor has, in the last bits.
//! - In f32, the vectors are those of sentence-transformers to about 1e-6; what the model's configuration asks for and this
//!   runtime cannot do is an error when the model is loaded.

mod accelerated;
mod attention;
pub mod batch;
#[cfg(test)]
mod candle_tests;
pub mod config;
mod dots;
#[cfg(target_arch = "aarch64")]
mod dots_neon;
#[cfg(target_arch = "x86_64")]
mod dots_x86;
mod engine;
mod head;
#[cfg(test)]
mod kernel_tests;
mod kernels;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod lanes_neon;
#[cfg(target_arch = "x86_64")]
mod lanes_x86;
mod leading;
mod linear;
mod modules;
mod names;
mod needs;
mod passes;
mod pooling;
mod positions;
mod product;
mod quantized;
pub mod reranker;
pub mod shape;
#[cfg(test)]
mod shape_tests;
mod transformer;
mod weights;

pub use config::{Dtype, EncoderOptions};
pub use needs::{needs, EncoderNeeds};

use crate::accelerator::Accelerator;
use crate::compute::Pool;
use crate::decoder::Abandoned;
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use crate::tokenizer::Tokenizer;
use config::{EncoderConfig, TextConfig};
use engine::Engine;
use head::Dense;
use modules::DenseConfig;
pub use passes::Interrupted;
use passes::Outcome;
use pg_rag_protocol::message::{Purpose, TokenizedText};
use std::path::Path;
use std::sync::Arc;
use transformer::Transformer;

/// File of the vocabulary.
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";

/// A loaded embedding model. Shared between threads.
pub struct Encoder {
    config: EncoderConfig,
    tokenizer: Tokenizer,
    cuts: Option<leading::Cuts>,
    engine: Engine,
    dense: Vec<Dense>,
    /// Special tokens before and after every text.
    opening: Vec<u32>,
    closing: Vec<u32>,
}

impl Encoder {
    /// Loads the model in `dir`.
    ///
    /// Errors: `Missing`, `Unreadable`, `Corrupt` naming the file and the tensor, `Unsupported` naming what is,
    /// `InvalidArgument` for an option out of range.
    pub fn load(dir: &Path, options: &EncoderOptions) -> Result<Self> {
        Self::load_on(dir, options, None)
    }

    /// As [`Encoder::load`], to compute on a device if one is given. Errors besides: `OutOfMemory` and `Internal` of the
    /// device.
    pub fn load_on(dir: &Path, options: &EncoderOptions, accelerator: Option<&Arc<Accelerator>>) -> Result<Self> {
        let mut config = EncoderConfig::read(dir, options)?;
        let (tokenizer, engine) = load_text_parts(dir, &config.text, options.dtype, accelerator)?;
        let dense = config.modules.dense.iter().map(|dense| load_dense(dir, dense)).collect::<Result<_>>()?;
        let (opening, closing) = surrounding_tokens(&tokenizer)?;
        // A text must keep at least one token of its own.
        let fewest = (opening.len() + closing.len() + 1).min(config.text.shape.positions);
        config.text.max_tokens = config.text.max_tokens.max(fewest);
        let cuts = leading::Cuts::of(&tokenizer);
        Ok(Self { config, tokenizer, cuts, engine, dense, opening, closing })
    }

    /// Numbers in a vector.
    pub fn dims(&self) -> usize {
        self.config.dims()
    }

    /// Numbers in a token's vector.
    pub fn token_dims(&self) -> usize {
        self.config.text.shape.hidden
    }

    /// Longest input in tokens, special tokens included; longer texts are truncated.
    pub fn max_tokens(&self) -> usize {
        self.config.text.max_tokens
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes that the weights occupy.
    pub fn resident_bytes(&self) -> u64 {
        let dense: usize = self.dense.iter().map(Dense::bytes).sum();
        (self.engine.resident_bytes() + dense) as u64
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
        let lower_case = self.config.text.lower_case;
        ids.extend(leading::leading_ids(&self.tokenizer, self.cuts, text, lower_case, self.room())?);
        ids.extend(&self.closing);
        Ok(ids)
    }

    /// Token ids for [`Encoder::embed_tokens`], without a prefix, with the bytes of `text` that each stands for.
    pub fn prepare_tokens(&self, text: &str) -> Result<TokenizedText> {
        if self.config.text.lower_case {
            let what = "token vectors of a model that changes texts before they are tokenized".to_owned();
            return Err(ModelError::Unsupported(what));
        }
        let mut tokens = self.tokenizer.encode(text, false)?;
        let room = self.room();
        tokens.ids.truncate(room);
        tokens.starts.truncate(room);
        tokens.ends.truncate(room);
        let end = tokens.ends.last().copied().unwrap_or(0);
        tokens.ids.splice(0..0, self.opening.iter().copied());
        tokens.ids.extend(&self.closing);
        for offsets in [&mut tokens.starts, &mut tokens.ends] {
            offsets.splice(0..0, self.opening.iter().map(|_| 0));
            offsets.extend(self.closing.iter().map(|_| end));
        }
        Ok(tokens)
    }

    /// Tokens of a text beside the special ones.
    fn room(&self) -> usize {
        self.max_tokens().saturating_sub(self.opening.len() + self.closing.len())
    }

    /// Vectors of texts prepared by [`Encoder::prepare`], `[texts, dims]` in the order of `batch`.
    ///
    /// Errors: `InvalidArgument` for ids that are not from this model's `prepare`.
    pub fn embed(&self, batch: &[Vec<u32>], pool: &Pool) -> Result<Vec<f32>> {
        self.engine.run(batch, pool, &Pooled(self), &|| false)
    }

    /// As [`Encoder::embed`]; `Cancelled` once `abandoned`, about which it asks before each layer. Once something is
    /// `urgent`, about which it asks before each pass through the layers, it stops after the passes that have begun: then
    /// the vectors are those of the leading texts, of one at least.
    pub fn embed_until(
        &self,
        batch: &[Vec<u32>],
        pool: &Pool,
        abandoned: Abandoned<'_>,
        urgent: Interrupted<'_>,
    ) -> Result<Vec<f32>> {
        self.engine.run_until(batch, pool, &Pooled(self), abandoned, urgent)
    }

    /// Last hidden states of texts prepared by [`Encoder::prepare_tokens`], `[tokens, token_dims]` one text after the
    /// other. Errors as [`Encoder::embed_until`].
    pub fn embed_tokens(&self, batch: &[Vec<u32>], pool: &Pool, abandoned: Abandoned<'_>) -> Result<Vec<f32>> {
        self.engine.run(batch, pool, &Tokens(self.token_dims()), abandoned)
    }
}

/// One vector for each text.
struct Pooled<'a>(&'a Encoder);

impl Outcome for Pooled<'_> {
    fn numbers(&self, _tokens: usize) -> usize {
        self.0.dims()
    }

    fn write(&self, rows: &[f32], result: &mut [f32]) {
        let (config, hidden) = (&self.0.config, self.0.token_dims());
        let modules = &config.modules;
        if self.0.dense.is_empty() && modules.dims(hidden) == result.len() {
            pooling::pool_rows(rows, hidden, &modules.pooling, modules.normalize, result);
            return;
        }
        let mut vector = vec![0.0; hidden * modules.pooling.len()];
        pooling::pool_rows(rows, hidden, &modules.pooling, false, &mut vector);
        for dense in &self.0.dense {
            vector = dense.apply(&vector);
        }
        result.copy_from_slice(&vector[..result.len()]);
        if modules.normalize {
            pooling::normalize(result);
        }
    }
}

/// A vector for each token, of so many numbers.
struct Tokens(usize);

impl Outcome for Tokens {
    fn numbers(&self, tokens: usize) -> usize {
        tokens * self.0
    }

    fn write(&self, rows: &[f32], result: &mut [f32]) {
        result.copy_from_slice(rows);
    }
}

/// Reads vocabulary and weights side by side.
fn load_text_parts(
    dir: &Path,
    config: &TextConfig,
    dtype: Dtype,
    accelerator: Option<&Arc<Accelerator>>,
) -> Result<(Tokenizer, Engine)> {
    let path = dir.join(TOKENIZER_FILE);
    let (tokenizer, engine) = std::thread::scope(|scope| {
        let tokenizer = scope.spawn(|| Tokenizer::from_file(&path));
        let engine = Checkpoint::open(dir).and_then(|it| Engine::load(&config.shape, dtype, &it, accelerator));
        (tokenizer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), engine)
    });
    let (tokenizer, engine) = (tokenizer?, engine?);
    check_vocabulary(&path, &tokenizer, config)?;
    Ok((tokenizer, engine))
}

/// Checks that every token has a vector.
fn check_vocabulary(path: &Path, tokenizer: &Tokenizer, config: &TextConfig) -> Result<()> {
    let (tokens, vectors) = (tokenizer.vocabulary_size(), config.shape.vocabulary);
    match tokens <= vectors {
        true => Ok(()),
        false => Err(ModelError::corrupt(
            path,
            format!("tokenizer has {tokens} tokens, but the weights have vectors for {vectors}"),
        )),
    }
}

fn load_dense(dir: &Path, config: &DenseConfig) -> Result<Dense> {
    let checkpoint = Checkpoint::open(&crate::source::inside(dir, &config.folder)?)?;
    let DenseConfig { inputs, outputs, bias, activation, .. } = *config;
    Dense::load(&checkpoint, "linear", (outputs, inputs), bias, activation)
}

/// Checks that the folder has the vocabulary and the weights that `config` describes. Called to inspect a model.
pub(crate) fn check_files(dir: &Path, config: &EncoderConfig, checkpoint: &Checkpoint) -> Result<()> {
    Transformer::check(&config.text.shape, checkpoint)?;
    config.modules.dense.iter().try_for_each(|dense| load_dense(dir, dense).map(drop))?;
    let path = dir.join(TOKENIZER_FILE);
    check_vocabulary(&path, &Tokenizer::from_file(&path)?, &config.text)
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
