//! Running batches: which texts go through the layers together, on which thread, and what becomes of their token
//! vectors.
//!
//! Embedding, scores and token vectors differ only in what is made of a text's last hidden state, which the callers
//! ([`super::Encoder`], [`super::reranker::Reranker`]) say with [`Outcome`].

use super::config::Dtype;
use super::transformer::{check_ids, Scratch, Transformer};
use crate::compute::{Crew, Pool};
use crate::decoder::Abandoned;
use crate::error::{ModelError, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Tokens of one pass through the layers, unless a single text is longer. Bounds the buffers and keeps the rows of a
/// pass in a core's own cache from one step of a layer to the next; enough to make up for reading all weights.
pub const PASS_TOKENS: usize = 256;
/// With fewer tokens for each thread, all threads work on one pass: reading the weights is what takes the time then.
/// Measured with all-MiniLM-L6-v2.
fn min_tokens_alone(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 32,
        Dtype::Int8 => 16,
    }
}

/// A pass to come, or behind us.
struct Part<'b, 'v> {
    texts: &'b [Vec<u32>],
    results: &'v mut [f32],
    done: bool,
}

/// Asked before a pass begins.
pub type Interrupted<'a> = &'a (dyn Fn() -> bool + Sync);

/// What is made of a text's last hidden state.
pub trait Outcome: Sync {
    /// Numbers that a text of so many tokens gives.
    fn numbers(&self, tokens: usize) -> usize;
    /// Writes them; `rows` is the last hidden state, `[tokens, hidden]`.
    fn write(&self, rows: &[f32], result: &mut [f32]);
}

/// A transformer and the buffers of its passes.
pub struct Passes {
    pub transformer: Transformer,
    min_tokens_alone: usize,
    /// Buffers of earlier passes, for the next ones: one for each thread that has run a pass.
    scratch: Mutex<Vec<Scratch>>,
}

impl Passes {
    /// `transformer` has weights of type `dtype`.
    pub fn new(transformer: Transformer, dtype: Dtype) -> Self {
        Self { transformer, min_tokens_alone: min_tokens_alone(dtype), scratch: Mutex::default() }
    }

    /// The outcomes of all texts of `batch`, one after the other. No pass begins once something is `urgent`: then these are
    /// the outcomes of the leading texts only, of one at least.
    ///
    /// Errors: `InvalidArgument` for ids that the model does not have; `Cancelled` when it is abandoned.
    pub fn run_until(
        &self,
        batch: &[Vec<u32>],
        pool: &Pool,
        outcome: &dyn Outcome,
        abandoned: Abandoned<'_>,
        urgent: Interrupted<'_>,
    ) -> Result<Vec<f32>> {
        batch.iter().try_for_each(|ids| check_ids(&self.transformer.shape, ids))?;
        let mut results = vec![0.0; numbers(batch, outcome)];
        // Once one pass has been abandoned all are: what they compute is of no use.
        let given_up = AtomicBool::new(false);
        let abandoned: Abandoned<'_> = &|| {
            if !given_up.load(Ordering::Relaxed) && abandoned() {
                given_up.store(true, Ordering::Relaxed);
            }
            given_up.load(Ordering::Relaxed)
        };
        let done = pool.with_crew(|crew| {
            let threads = crew.threads();
            let parts = split_evenly(batch, threads, self.min_tokens_alone);
            let (mut passes, rest) = plan(batch, parts, &mut results, outcome);
            crew.for_chunks_mut(&mut passes, 1, |index, passes| {
                for pass in passes {
                    pass.done = index < threads || !urgent();
                    if pass.done {
                        self.pass(&mut Crew::alone(), pass.texts, pass.results, outcome, abandoned);
                    }
                }
            });
            // Another thread may have begun a later pass before this came up; its texts are done again.
            let leading = passes.iter().take_while(|pass| pass.done).map(|pass| pass.texts.len()).sum();
            let all = leading + rest.texts.len() == batch.len();
            if rest.texts.is_empty() || !all || leading > 0 && urgent() {
                return leading;
            }
            self.pass(crew, rest.texts, rest.results, outcome, abandoned);
            batch.len()
        });
        results.truncate(numbers(&batch[..done], outcome));
        match given_up.load(Ordering::Relaxed) {
            true => Err(ModelError::Cancelled),
            false => Ok(results),
        }
    }

    /// One pass through the layers, and the outcomes of its texts.
    fn pass(
        &self,
        crew: &mut Crew,
        texts: &[Vec<u32>],
        mut results: &mut [f32],
        outcome: &dyn Outcome,
        abandoned: Abandoned<'_>,
    ) {
        let mut starts = vec![0];
        for text in texts {
            starts.push(starts[starts.len() - 1] + text.len());
        }
        let idle = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = idle().pop().unwrap_or_default();
        if let Some(state) = self.transformer.forward(crew, texts, &starts, &mut scratch, abandoned) {
            let mut rows = Vec::new();
            for text in starts.windows(2) {
                state.copy_rows(text[0]..text[1], self.transformer.shape.hidden, &mut rows);
                let (result, others) = results.split_at_mut(outcome.numbers(text[1] - text[0]));
                outcome.write(&rows, result);
                results = others;
            }
        }
        idle().push(scratch);
    }
}

pub fn numbers(texts: &[Vec<u32>], outcome: &dyn Outcome) -> usize {
    texts.iter().map(|text| outcome.numbers(text.len())).sum()
}

/// The passes that threads run alone, over the leading texts of a batch as [`split_evenly`] has cut them, and one over the
/// rest for all threads together.
fn plan<'b, 'v>(
    batch: &'b [Vec<u32>],
    parts: Vec<&'b [Vec<u32>]>,
    mut results: &'v mut [f32],
    outcome: &dyn Outcome,
) -> (Vec<Part<'b, 'v>>, Part<'b, 'v>) {
    let mut passes = Vec::new();
    for texts in parts {
        let (part, others) = results.split_at_mut(numbers(texts, outcome));
        passes.push(Part { texts, results: part, done: false });
        results = others;
    }
    let texts = &batch[passes.iter().map(|pass| pass.texts.len()).sum()..];
    (passes, Part { texts, results, done: false })
}

/// Neighbouring texts, for passes of about the same number of tokens: as many for each thread, at most [`PASS_TOKENS`] as
/// far as texts allow. Texts at the end may remain, and all of a batch that has fewer than `min_tokens` for each thread.
fn split_evenly(batch: &[Vec<u32>], threads: usize, min_tokens: usize) -> Vec<&[Vec<u32>]> {
    let tokens: usize = batch.iter().map(Vec::len).sum();
    if tokens < threads * min_tokens {
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
    // A long text in the last round would keep the other threads waiting, for longer than working together costs. Who was
    // done first with the round before has begun earlier, so a last round may be less even than an only one.
    let (most, of) = if passes.len() > threads { (3, 2) } else { (9, 8) };
    let sizes = passes.iter().rev().take(threads).map(|texts| texts.iter().map(Vec::len).sum::<usize>());
    if sizes.clone().max().unwrap_or(0) * threads * of > sizes.sum::<usize>() * most {
        passes.truncate(passes.len() - threads);
    }
    passes
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
            let passes = split_evenly(&batch, threads, 32);
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
