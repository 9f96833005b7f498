//! Embedding models: texts to vectors.
//!
//! An [`Encoder`] is a loaded model of the BERT family in the folder layout of sentence-transformers. The server
//! prepares texts on its connection threads ([`Encoder::prepare`]), groups them with [`batch::plan_batches`] and runs
//! one batch after the other on the compute threads ([`Encoder::embed`]).
//!
//! Invariants:
//! - A text's vector does not depend on the other texts of its batch, nor on the number of threads: every sum is added
//!   up in the same order. It depends on the instructions that the processor has, in the last bits.
//! - In f32, the vectors are those of sentence-transformers to about 1e-6; what the model's configuration asks for and this
//!   runtime cannot do is an error when the model is loaded.

mod attention;
pub mod batch;
mod bert;
#[cfg(test)]
mod candle_tests;
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
#[cfg(test)]
mod shape_tests;
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

/// Texts of a pass, and their vectors.
type Part<'b, 'v> = (&'b [Vec<u32>], &'v mut [f32]);

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
        let path = dir.join("tokenizer.json");
        let (tokenizer, bert) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| Tokenizer::from_file(&path));
            let bert = Checkpoint::open(dir).and_then(|it| Bert::load(&config.bert, options.dtype, &it));
            (tokenizer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), bert)
        });
        let (tokenizer, bert) = (tokenizer?, bert?);
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
        pool.with_crew(|crew| {
            let (mut passes, rest) = self.plan_passes(batch, &mut vectors, crew.threads());
            crew.for_chunks_mut(&mut passes, 1, |_, passes| {
                for (texts, vectors) in passes {
                    self.pass(&mut Crew::alone(), texts, vectors);
                }
            });
            let (texts, vectors) = rest;
            if !texts.is_empty() {
                self.pass(crew, texts, vectors);
            }
        });
        Ok(vectors)
    }

    /// Cuts a batch into passes that threads run alone, the same number for each, and a rest for all threads together:
    /// few texts, or short ones.
    fn plan_passes<'b, 'v>(
        &self,
        batch: &'b [Vec<u32>],
        mut vectors: &'v mut [f32],
        threads: usize,
    ) -> (Vec<Part<'b, 'v>>, Part<'b, 'v>) {
        let mut passes = Vec::new();
        for texts in split_evenly(batch, threads) {
            let (part, others) = vectors.split_at_mut(texts.len() * self.dims());
            passes.push((texts, part));
            vectors = others;
        }
        let rest = &batch[passes.iter().map(|(texts, _)| texts.len()).sum()..];
        (passes, (rest, vectors))
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

/// Neighbouring texts, for passes of about the same number of tokens: as many for each thread, at most [`PASS_TOKENS`] as
/// far as texts allow. Texts at the end may remain, and all of a batch that is too small to be split.
fn split_evenly(batch: &[Vec<u32>], threads: usize) -> Vec<&[Vec<u32>]> {
    let tokens: usize = batch.iter().map(Vec::len).sum();
    if tokens < threads * MIN_TOKENS_ALONE {
        return Vec::new();
    }
    let rounds = tokens.div_ceil(threads * PASS_TOKENS);
    let target = tokens.div_ceil(threads * rounds);
    let mut passes = Vec::new();
    let mut rest = batch;
    while !rest.is_empty() {
        // A text belongs to the pass that has room for half of it.
        let mut sum = 0;
        let fits = rest.iter().take_while(|text| {
            sum += text.len();
            sum <= target + text.len() / 2
        });
        let (texts, others) = rest.split_at(fits.count().max(1));
        passes.push(texts);
        rest = others;
    }
    passes.truncate(passes.len() / threads * threads);
    // One long text in the last round would keep the other threads waiting.
    let sizes = passes.iter().rev().take(threads).map(|texts| texts.iter().map(Vec::len).sum::<usize>());
    if sizes.clone().max().unwrap_or(0) * threads * 2 > sizes.sum::<usize>() * 3 {
        passes.truncate(passes.len() - threads);
    }
    passes
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn threads_get_the_same_number_of_passes_of_similar_size(
            lengths in prop::collection::vec(1_usize..300, 0..60),
            threads in 1_usize..9,
        ) {
            let batch: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![0; length]).collect();
            let passes = split_evenly(&batch, threads);
            prop_assert_eq!(passes.len() % threads, 0);
            // Neighbours from the first on, nothing twice; what is left is less than a pass for each thread.
            let taken: usize = passes.iter().map(|texts| texts.len()).sum();
            prop_assert_eq!(&passes.concat()[..], &batch[..taken]);
            let tokens = |texts: &[Vec<u32>]| texts.iter().map(Vec::len).sum::<usize>();
            prop_assert!(tokens(&batch[taken..]) < 2 * threads * (PASS_TOKENS + 300));
            for texts in passes {
                prop_assert!(!texts.is_empty());
                prop_assert!(texts.len() == 1 || tokens(texts) <= PASS_TOKENS + 150);
            }
        }
    }
}
