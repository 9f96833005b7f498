//! One answer in the making.

use super::forward::{Abandoned, DecodeScratch, SLICE_TOKENS};
use super::kv_cache::KvCache;
use super::sampler::Sampler;
use super::text_stream::TextStream;
use super::Decoder;
use crate::compute::Pool;
use crate::error::{ModelError, Result};
use pg_rag_protocol::message::{FinishReason, GenerateParams, Usage};
use std::sync::Arc;
use std::time::Instant;

/// What one [`Generation::step`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A slice of the prompt was read.
    Prefilling { done_tokens: usize, total_tokens: usize },
    /// A token was produced. The new text may be empty; it never splits a character and is never part of a stop text.
    Token(String),
    /// There is nothing more to do; the same for every further step.
    Finished(FinishReason),
    /// The caller wanted no more; nothing has changed.
    Abandoned,
}

/// A sequence: prompt, cache, sampler and the text so far.
///
/// It advances by [`Generation::step`] only, so whoever schedules several can interleave them, and dropping one
/// cancels it.
pub struct Generation {
    model: Arc<Decoder>,
    cache: KvCache,
    sampler: Sampler,
    stream: TextStream,
    scratch: DecodeScratch,
    /// The prompt, then the tokens produced.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    max_tokens: usize,
    logits: Vec<f32>,
    finish: Option<FinishReason>,
    usage: Usage,
}

impl Generation {
    /// Prepares to continue `prompt`. `params.max_tokens` is clipped to the room left in the model's context.
    ///
    /// Errors: `PromptTooLong` if there is no room for one token; `InvalidArgument` for an empty prompt, ids outside
    /// the vocabulary, or parameters out of range; `OutOfMemory`.
    pub fn new(model: Arc<Decoder>, prompt: Vec<u32>, params: GenerateParams) -> Result<Self> {
        let context_tokens = model.context_tokens();
        let Some(room) = context_tokens.checked_sub(prompt.len()).filter(|&room| room > 0) else {
            return Err(ModelError::PromptTooLong { prompt_tokens: prompt.len(), context_tokens });
        };
        if prompt.is_empty() {
            return Err(ModelError::InvalidArgument("a prompt needs at least one token".into()));
        }
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= model.vocab_size()) {
            return Err(ModelError::InvalidArgument(format!("token id {id} is not in the model's vocabulary")));
        }
        let max_tokens = match usize::try_from(params.max_tokens) {
            Ok(0) => return Err(ModelError::InvalidArgument("\"max_tokens\" must be 1 or more".into())),
            Ok(max_tokens) => max_tokens.min(room),
            Err(_) => room,
        };
        // The last token produced is not run through the model, so it needs no place in the cache.
        let cache = KvCache::new(&model.network.config, prompt.len() + max_tokens - 1)?;
        Ok(Self {
            cache,
            sampler: Sampler::new(&params)?,
            stream: TextStream::new(params.stop)?,
            scratch: DecodeScratch::default(),
            prompt_tokens: prompt.len(),
            tokens: prompt,
            max_tokens,
            logits: Vec::new(),
            finish: None,
            usage: Usage::default(),
            model,
        })
    }

    /// Reads one slice of the prompt or produces one token, unless it is abandoned on the way.
    pub fn step(&mut self, pool: &Pool, abandoned: Abandoned<'_>) -> Result<Step> {
        if let Some(reason) = self.finish {
            return Ok(Step::Finished(reason));
        }
        let start = Instant::now();
        let elapsed_ms = |start: Instant| start.elapsed().as_secs_f64() as f32 * 1000.0;
        if self.cache.len < self.prompt_tokens {
            let done = self.prefill_slice(pool, abandoned);
            self.usage.prefill_ms += elapsed_ms(start);
            if !done {
                return Ok(Step::Abandoned);
            }
            return Ok(Step::Prefilling { done_tokens: self.cache.len, total_tokens: self.prompt_tokens });
        }
        let step = self.produce(pool, abandoned);
        self.usage.decode_ms += elapsed_ms(start);
        step
    }

    /// Runs the next slice of the prompt. Slices are of equal size, so that none is too small to be efficient.
    /// `false` when it was abandoned.
    fn prefill_slice(&mut self, pool: &Pool, abandoned: Abandoned<'_>) -> bool {
        let start = self.cache.len;
        let left = self.prompt_tokens - start;
        let end = start + left.div_ceil(left.div_ceil(SLICE_TOKENS));
        let logits = (end == self.prompt_tokens).then_some(&mut self.logits);
        self.model.network.prefill(pool, &mut self.cache, &self.tokens[start..end], logits, abandoned)
    }

    fn produce(&mut self, pool: &Pool, abandoned: Abandoned<'_>) -> Result<Step> {
        if let Some(&last) = self.tokens[self.cache.len..].first() {
            let network = &self.model.network;
            if !network.decode(pool, &mut self.cache, last, &mut self.scratch, &mut self.logits, abandoned) {
                return Ok(Step::Abandoned);
            }
        }
        // Some models pad their matrices; what is behind the vocabulary is no token.
        let tokens = self.logits.len().min(self.model.token_count);
        let id = self.sampler.sample(&mut self.logits[..tokens], &self.tokens)?;
        if self.model.ends.contains(&id) {
            return Ok(self.end(FinishReason::EndOfTurn, String::new()));
        }
        self.tokens.push(id);
        let (text, stopped) = self.stream.push(self.model.tokenizer(), id)?;
        if stopped {
            return Ok(self.end(FinishReason::Stop, text));
        }
        if self.tokens.len() - self.prompt_tokens == self.max_tokens {
            return Ok(self.end(FinishReason::Length, text));
        }
        Ok(Step::Token(text))
    }

    /// Ends the sequence; text that is still to be handed out goes first.
    fn end(&mut self, reason: FinishReason, mut text: String) -> Step {
        self.finish = Some(reason);
        text.push_str(&self.stream.finish());
        if text.is_empty() {
            Step::Finished(reason)
        } else {
            Step::Token(text)
        }
    }

    /// All text so far.
    pub fn text(&self) -> &str {
        self.stream.text()
    }

    /// Cost so far; the time in the queue is the scheduler's to know.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens as u32,
            completion_tokens: (self.tokens.len() - self.prompt_tokens) as u32,
            ..self.usage
        }
    }
}
