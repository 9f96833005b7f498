//! One answer in the making.

use super::engine::{Cache, Part};
use super::forward::Abandoned;
use super::json_schema::Constraint;
use super::sampler::Sampler;
use super::speculation::{Speculation, MOST_TOKENS};
use super::text_stream::TextStream;
use super::Decoder;
use crate::accelerator::same_error;
use crate::compute::Pool;
use crate::error::{ModelError, Result};
use pg_rag_protocol::message::{FinishReason, GenerateParams, Usage};
use std::sync::Arc;
use std::time::Instant;

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A slice of the prompt was read.
    Prefilling { done_tokens: usize, total_tokens: usize },
    /// One or more tokens were produced. The new text may be empty; it never splits a character and is never part of a
    /// stop text.
    Token(String),
    /// There is nothing more to do; the same for every further step.
    Finished(FinishReason),
    /// The caller wanted no more; nothing has changed.
    Abandoned,
}

/// How to generate. None of it changes which tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationOptions {
    /// Take the beginning of the prompt from the model's store if it is there, and leave it there.
    pub prefix_cache: bool,
    /// Guess tokens from the prompt where the most probable token is chosen always.
    pub speculation: bool,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self { prefix_cache: true, speculation: true }
    }
}

/// A sequence: prompt, cache, sampler and the text so far.
///
/// It advances by steps only, so whoever schedules several can interleave them or let them advance together, and
/// dropping one cancels it.
pub struct Generation {
    model: Arc<Decoder>,
    options: GenerationOptions,
    cache: Cache,
    sampler: Sampler,
    stream: TextStream,
    /// What an answer of a schema may go on with.
    constraint: Option<Constraint>,
    speculation: Speculation,
    /// The prompt, then the tokens produced.
    tokens: Vec<u32>,
    /// Tokens of the next pass: those of `tokens` that are not in the cache, or a slice of them, and guesses.
    input: Vec<u32>,
    prompt_tokens: usize,
    cached_tokens: usize,
    max_tokens: usize,
    /// The first token's step: the pass over the end of the prompt chose it.
    ready: Option<Step>,
    finish: Option<FinishReason>,
    usage: Usage,
}

impl Generation {
    /// [`Generation::with_options`] with the usual ones.
    pub fn new(model: Arc<Decoder>, prompt: Vec<u32>, params: GenerateParams) -> Result<Self> {
        Self::with_options(model, prompt, params, GenerationOptions::default())
    }

    /// Prepares to continue `prompt`. `params.max_tokens` is clipped to the room left in the model's context.
    ///
    /// Errors: `PromptTooLong` if there is no room for one token; `InvalidArgument` for an empty prompt, ids outside
    /// the vocabulary, or parameters out of range; `OutOfMemory`.
    pub fn with_options(
        model: Arc<Decoder>,
        prompt: Vec<u32>,
        params: GenerateParams,
        options: GenerationOptions,
    ) -> Result<Self> {
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
        let sampler = Sampler::new(&params)?;
        let constraint = model.constraint(&params)?;
        let whole_sentences = params.whole_sentences && constraint.is_none();
        let stream = TextStream::new(params.stop, whole_sentences)?;
        // The last token produced is not run through the model, so it needs no place in the cache.
        let mut cache = model.new_cache(prompt.len() + max_tokens - 1)?;
        if let (Cache::Processor(cache), true) = (&mut cache, options.prefix_cache) {
            // The last token is run in any case: its logits are wanted.
            model.prefixes.copy_to(&prompt[..prompt.len() - 1], cache);
        }
        Ok(Self {
            options,
            cached_tokens: cache.len(),
            cache,
            sampler,
            stream,
            constraint,
            speculation: Speculation::default(),
            prompt_tokens: prompt.len(),
            tokens: prompt,
            input: Vec::new(),
            max_tokens,
            ready: None,
            finish: None,
            usage: Usage::default(),
            model,
        })
    }

    /// Reads one slice of the prompt or produces a token, or several, unless it is abandoned on the way.
    pub fn step(&mut self, pool: &Pool, abandoned: Abandoned<'_>) -> Result<Step> {
        let mut steps = Self::step_together(&mut [self], pool, abandoned);
        steps.pop().unwrap_or_else(|| Err(ModelError::Internal("a generation made no step".into())))
    }

    /// Lets several generations of one model advance by a step each, in one pass that reads the weights once. Each gets
    /// what [`Generation::step`] would give it. If the pass is abandoned, so is the step of each.
    ///
    /// Generations of another model than the first one's get an error and do not change; so do all if a device fails.
    pub fn step_together(generations: &mut [&mut Self], pool: &Pool, abandoned: Abandoned<'_>) -> Vec<Result<Step>> {
        let start = Instant::now();
        let Some(model) = generations.first().map(|generation| Arc::clone(&generation.model)) else {
            return Vec::new();
        };
        let takes_part = |generation: &Self| {
            generation.finish.is_none() && generation.ready.is_none() && Arc::ptr_eq(&generation.model, &model)
        };
        let mut parts = Vec::with_capacity(generations.len());
        for generation in generations.iter_mut().filter(|generation| takes_part(generation)) {
            let wanted = generation.prepare();
            let Self { cache, input, .. } = &mut **generation;
            parts.push(Part { cache, tokens: input, wanted });
        }
        let mut logits = model.logits();
        let done = if parts.is_empty() { Ok(true) } else { model.pass(pool, &mut parts, &mut logits, abandoned) };
        drop(parts);
        let pass_ms = start.elapsed().as_secs_f64() as f32 * 1000.0;

        let mut rows = logits.chunks_exact_mut(model.vocab_size());
        let mut steps = Vec::with_capacity(generations.len());
        for generation in generations.iter_mut() {
            steps.push(if let Some(step) = generation.ready.take() {
                Ok(step)
            } else if let Some(reason) = generation.finish {
                Ok(Step::Finished(reason))
            } else if !Arc::ptr_eq(&generation.model, &model) {
                Err(ModelError::Internal("generations of several models in one pass".into()))
            } else {
                match &done {
                    Ok(done) => generation.conclude(*done, pass_ms, &mut rows),
                    Err(error) => Err(same_error(error)),
                }
            });
        }
        steps
    }

    /// Whether the prompt, or a part of it, is still to be read.
    pub fn is_prefilling(&self) -> bool {
        self.cache.len() < self.prompt_tokens
    }

    /// Puts the tokens of the next pass into `input` and returns of how many the logits are wanted.
    fn prepare(&mut self) -> usize {
        let start = self.cache.len();
        self.input.clear();
        if self.is_prefilling() {
            // Slices are of equal size, so that none is too small to be efficient.
            let left = self.prompt_tokens - start;
            let end = start + left.div_ceil(left.div_ceil(self.model.slice_tokens()));
            self.input.extend_from_slice(&self.tokens[start..end]);
            return usize::from(end == self.prompt_tokens);
        }
        self.input.extend_from_slice(&self.tokens[start..]);
        if self.options.speculation && self.sampler.is_greedy() {
            // The token that the last guess leads to is the last one to be produced at most.
            let most = self.max_tokens - (self.tokens.len() - self.prompt_tokens) - 1;
            self.speculation.guess(&self.tokens, most.min(MOST_TOKENS), &mut self.input);
        }
        self.input.len()
    }

    /// Takes the results of a pass: the logits of the wanted tokens, from `rows`.
    fn conclude<'a>(
        &mut self,
        done: bool,
        pass_ms: f32,
        rows: &mut impl Iterator<Item = &'a mut [f32]>,
    ) -> Result<Step> {
        let read = self.cache.len() - if done { self.input.len() } else { 0 };
        if read >= self.prompt_tokens {
            self.usage.decode_ms += pass_ms;
        } else {
            self.usage.prefill_ms += pass_ms;
        }
        if !done {
            return Ok(Step::Abandoned);
        }
        if self.is_prefilling() {
            return Ok(Step::Prefilling { done_tokens: self.cache.len(), total_tokens: self.prompt_tokens });
        }
        let first = read < self.prompt_tokens;
        if let (Cache::Processor(cache), true) = (&self.cache, first && self.options.prefix_cache) {
            self.model.prefixes.keep(&self.tokens[..self.prompt_tokens], cache);
        }
        let guesses = if first { 0..0 } else { 1..self.input.len() };
        let step = self.produce(guesses, rows)?;
        if first {
            self.ready = Some(step);
            return Ok(Step::Prefilling { done_tokens: self.prompt_tokens, total_tokens: self.prompt_tokens });
        }
        Ok(step)
    }

    /// Chooses a token from the logits of the last one, and as many more as were guessed right. `guesses` is where the
    /// guesses are in the input; there is a row for the token before them and one for each.
    fn produce<'a>(
        &mut self,
        guesses: std::ops::Range<usize>,
        rows: &mut impl Iterator<Item = &'a mut [f32]>,
    ) -> Result<Step> {
        let (mut text, mut right, mut over) = (String::new(), 0, false);
        let mut failure = None;
        for (index, row) in rows.take(guesses.len() + 1).enumerate() {
            if over {
                // What the model says after a wrong guess, or after the end, means nothing.
                continue;
            }
            match self.choose(row, &mut text) {
                Ok(id) => {
                    let guessed = self.input.get(guesses.start + index).filter(|_| index < guesses.len());
                    over = self.finish.is_some() || guessed != Some(&id);
                    right += usize::from(guessed == Some(&id));
                }
                // The rows that are left are not those of another generation.
                Err(error) => (over, failure) = (true, Some(error)),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        self.speculation.learn(guesses.len(), right);
        // The last token has not been run, and wrong guesses have.
        self.cache.rollback(self.tokens.len() - 1);
        match self.finish {
            Some(reason) if text.is_empty() => Ok(Step::Finished(reason)),
            _ => Ok(Step::Token(text)),
        }
    }

    /// Chooses a token from its logits and accepts it.
    fn choose(&mut self, row: &mut [f32], text: &mut String) -> Result<u32> {
        // Some models pad their matrices; what is behind the vocabulary is no token.
        let tokens = row.len().min(self.model.token_count);
        let logits = &mut row[..tokens];
        if let Some(constraint) = &mut self.constraint {
            constraint.mask(logits)?;
        }
        let id = self.sampler.sample(logits, &self.tokens)?;
        self.accept(id, text)?;
        Ok(id)
    }

    /// Appends a token and its text, or ends the sequence.
    fn accept(&mut self, id: u32, text: &mut String) -> Result<()> {
        if self.model.ends.contains(&id) {
            self.end(FinishReason::EndOfTurn, text);
            return Ok(());
        }
        let over = match &mut self.constraint {
            Some(constraint) => {
                constraint.accept(id)?;
                constraint.is_over()
            }
            None => false,
        };
        self.tokens.push(id);
        let (piece, stopped) = self.stream.push(self.model.tokenizer(), id)?;
        text.push_str(&piece);
        if stopped {
            self.end(FinishReason::Stop, text);
        } else if over {
            self.end(FinishReason::EndOfTurn, text);
        } else if self.tokens.len() - self.prompt_tokens == self.max_tokens {
            if let Some(constraint) = &mut self.constraint {
                if !constraint.is_complete()? {
                    return Err(ModelError::JsonCut(self.max_tokens));
                }
            }
            self.end(FinishReason::Length, text);
        }
        Ok(())
    }

    /// Ends the sequence; text that is still to be handed out goes first.
    fn end(&mut self, reason: FinishReason, text: &mut String) {
        self.finish = Some(reason);
        text.push_str(&self.stream.finish(reason == FinishReason::Length));
    }

    /// All text so far.
    pub fn text(&self) -> &str {
        self.stream.text()
    }

    /// Tokens of the prompt that were taken from the model's store instead of being read.
    pub fn cached_tokens(&self) -> usize {
        self.cached_tokens
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
