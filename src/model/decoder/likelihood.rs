//! How probable a model finds a text: what tells whether a quantised model still knows what the original knew.
//!
//! The text runs through in windows that overlap by half, and every token but the first counts once, with at least half a
//! window before it. Called by the server for `rag_quantization_report`, with a model of its own, so that generations do
//! not wait.

use super::forward::{Abandoned, Run, SLICE_TOKENS};
use super::kv_cache::KvCache;
use super::Decoder;
use crate::compute::Pool;
use crate::error::{ModelError, Result};

/// Tokens of a window, for models that take so many.
const WINDOW_TOKENS: usize = 512;

/// Sum of the logarithms of the probabilities of a text's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    pub log_probability: f64,
    /// Tokens that counted.
    pub tokens: u64,
}

impl Likelihood {
    /// As if the model had chosen among so many equally probable tokens each time. Infinite for no token.
    pub fn perplexity(&self) -> f64 {
        if self.tokens == 0 {
            return f64::INFINITY;
        }
        (-self.log_probability / self.tokens as f64).exp()
    }
}

impl Decoder {
    /// How probable the model finds `text`. `progress` is told how many tokens are done, and of how many.
    ///
    /// Errors: `InvalidInput` for a text of less than two tokens; `OutOfMemory`; `Cancelled` if it was abandoned.
    pub fn likelihood(
        &self,
        text: &str,
        pool: &Pool,
        progress: &dyn Fn(u64, u64),
        abandoned: Abandoned<'_>,
    ) -> Result<Likelihood> {
        let ids = self.tokenizer().encode_ids(text, false)?;
        // Every window begins as the model's texts do.
        let start = self.text_start.map_or(0, |_| 1);
        let window = self.context_tokens().min(WINDOW_TOKENS);
        if ids.len() < 2 || window < 4 {
            return Err(ModelError::InvalidInput("a text of less than two tokens has no probability".into()));
        }
        let room = window - start;
        let mut total = Likelihood::default();
        let mut cache = KvCache::new(&self.network.config, window)?;
        let (mut first, mut done) = (0, 1);
        while done < ids.len() {
            let end = ids.len().min(first + room);
            let tokens: Vec<u32> = self.text_start.into_iter().chain(ids[first..end].iter().copied()).collect();
            cache.rollback(0);
            self.each_logits(pool, &mut cache, &tokens, abandoned, |at, logits| {
                // What follows token `at` of the window.
                let next = first + (at + 1) - start;
                if next >= done && next < end {
                    total.log_probability += log_probability(&logits[..self.token_count], ids[next]);
                    total.tokens += 1;
                }
            })?;
            done = end;
            first = end.saturating_sub(room / 2);
            progress(done as u64, ids.len() as u64);
        }
        Ok(total)
    }

    /// Runs tokens behind those in the cache and hands the logits behind each to `each`, with the token's place.
    pub(super) fn each_logits(
        &self,
        pool: &Pool,
        cache: &mut KvCache,
        tokens: &[u32],
        abandoned: Abandoned<'_>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let mut logits = Vec::new();
        let mut at = 0;
        for tokens in tokens.chunks(SLICE_TOKENS) {
            let run = Run { cache: &mut *cache, tokens, wanted: tokens.len() };
            if !self.network.pass(pool, &mut [run], &mut logits, abandoned) {
                return Err(ModelError::Cancelled);
            }
            for row in logits.chunks_exact(self.vocab_size()).take(tokens.len()) {
                each(at, row);
                at += 1;
            }
        }
        Ok(())
    }

    /// The logits behind each of `tokens`, for tests of what changes weights.
    #[cfg(test)]
    pub(crate) fn all_logits(&self, pool: &Pool, tokens: &[u32]) -> Vec<Vec<f32>> {
        let mut cache = KvCache::new(&self.network.config, tokens.len()).unwrap();
        let mut rows = Vec::new();
        self.each_logits(pool, &mut cache, tokens, &|| false, |_, row| rows.push(row.to_vec())).unwrap();
        rows
    }
}

/// Logarithm of a token's probability.
fn log_probability(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - largest).exp())).sum();
    let own = logits.get(token as usize).copied().unwrap_or(f32::MIN);
    f64::from(own - largest) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;

    const TEXT: &str = "The capital of France is Paris. The capital of Germany is Berlin, and that of Italy is Rome. ";

    #[test]
    fn sense_is_more_probable_than_nonsense() {
        let pool = Pool::new(2).unwrap();
        let of = |text: &str| model().likelihood(text, &pool, &|_, _| {}, &|| false).unwrap();
        let sense = of(TEXT);
        let words: Vec<&str> = TEXT.split(' ').collect();
        let shuffled: Vec<&str> = (0..words.len()).map(|i| words[i * 7 % words.len()]).collect();
        assert!(sense.perplexity() < 15.0, "{sense:?}");
        assert!(of(&shuffled.join(" ")).perplexity() > 4.0 * sense.perplexity());
        assert_eq!(sense.tokens as usize + 1, model().tokenizer().encode_ids(TEXT, false).unwrap().len());
    }

    #[test]
    fn every_token_of_a_long_text_counts_once() {
        let pool = Pool::new(2).unwrap();
        let text = TEXT.repeat(40);
        let tokens = model().tokenizer().encode_ids(&text, false).unwrap().len();
        assert!(tokens > 700);
        let last = std::cell::Cell::new((0, 0));
        let long = model().likelihood(&text, &pool, &|done, total| last.set((done, total)), &|| false).unwrap();
        assert_eq!((long.tokens as usize, last.get()), (tokens - 1, (tokens as u64, tokens as u64)));
        // Repetition is easy to foresee.
        assert!(long.perplexity() < 2.0, "{long:?}");
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        let pool = Pool::new(1).unwrap();
        let of = |text: &str, abandoned: bool| model().likelihood(text, &pool, &|_, _| {}, &|| abandoned);
        assert!(matches!(of("", false), Err(ModelError::InvalidInput(_))));
        assert!(matches!(of(TEXT, true), Err(ModelError::Cancelled)));
    }
}
