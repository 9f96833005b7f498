//! `rag_ask`, `rag_answer`, `rag_answer_from`, `rag_prompt` and `rag_answer_agg`: retrieve, pack, generate, cite.
//!
//! Passages are data: they stand numbered between fences that differ for every question and set of passages, and the
//! model server tokenises them with control tokens switched off. An answer is text and is never executed.

use crate::error::{error, from_prompt, invalid_parameter, required, unexpected_response, Result};
use crate::functions::generate::{generate_turn, Generated, SamplingArguments};
use crate::functions::tokens::tokenize_all;
use crate::models::catalog::{self as models, Model};
use crate::rag::search::{search, Hit};
use crate::rag::{catalog, search as retrieval};
use crate::server::client;
use pg_rag_engine::prompt::{self, Passage};
use pg_rag_protocol::message::{ChatMessage, Request, Response, Role};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};
use sha2::{Digest, Sha256};
use std::time::Instant;

/// What is answered when nothing was found; the model is not asked.
const NOTHING_FOUND: &str = "The sources do not answer this question.";

/// Tokens that a numbered, fenced passage costs beside its text.
const PASSAGE_OVERHEAD_TOKENS: usize = 24;

/// Least room for passages that is worth a prompt.
const MIN_CONTEXT_TOKENS: usize = 2 * PASSAGE_OVERHEAD_TOKENS;

/// What decides how a question is answered, besides its passages.
struct AnswerSpec<'a> {
    question: &'a str,
    model: &'a Model,
    template: Option<&'a str>,
    max_context_tokens: Option<i32>,
    max_tokens: i32,
}

/// A prompt that fits the model.
struct Prompt {
    messages: Vec<ChatMessage>,
    /// Indexes of the passages that are in it, in order.
    used: Vec<usize>,
    /// What the model's context leaves for the answer, at most `max_tokens`.
    answer_tokens: u32,
    /// The word between the passages.
    fence: String,
}

impl AnswerSpec<'_> {
    /// Packs as many `passages` as fit, in order, and renders the prompt.
    fn prompt(&self, passages: Vec<(Option<String>, String)>) -> Result<Prompt> {
        if self.max_tokens < 1 {
            return Err(invalid_parameter(format!("max_tokens must be at least 1, not {}", self.max_tokens)));
        }
        let fence = fence(self.question, &passages);
        let without_passages = self.messages(&[], &fence)?;
        let fixed_tokens = self.count(&without_passages)?;
        let context_tokens = self.model.max_tokens as usize;
        let answer_tokens = (self.max_tokens as usize).min(context_tokens.saturating_sub(fixed_tokens));
        let room = context_tokens.saturating_sub(fixed_tokens + answer_tokens);
        let budget = match self.max_context_tokens {
            Some(most) if most < MIN_CONTEXT_TOKENS as i32 => {
                return Err(invalid_parameter(format!(
                    "max_context_tokens must be at least {MIN_CONTEXT_TOKENS}, not {most}"
                )))
            }
            Some(most) => room.min(most as usize),
            None => room,
        };
        if budget < MIN_CONTEXT_TOKENS {
            return Err(error(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("question and answer leave no room for passages in the context of {context_tokens} tokens"),
            )
            .set_hint("Shorten the question, lower max_tokens, or use a model with a longer context."));
        }
        let passages = self.measured(passages)?;
        let packed = prompt::pack(&passages, budget, PASSAGE_OVERHEAD_TOKENS);
        let kept: Vec<Passage> = packed.iter().map(|packed| packed.apply(&passages)).collect();
        let messages = self.messages(&kept, &fence)?;
        Ok(Prompt {
            messages,
            used: packed.iter().map(|packed| packed.index).collect(),
            answer_tokens: answer_tokens as u32,
            fence,
        })
    }

    fn messages(&self, passages: &[Passage], fence: &str) -> Result<Vec<ChatMessage>> {
        let template = self.template.unwrap_or(prompt::DEFAULT_TEMPLATE);
        let user = prompt::render(self.question, passages, fence, template).map_err(from_prompt)?;
        Ok(vec![
            ChatMessage { role: Role::System, content: prompt::SYSTEM.to_owned() },
            ChatMessage { role: Role::User, content: user },
        ])
    }

    /// Tokens that the model would prefill for `messages`.
    fn count(&self, messages: &[ChatMessage]) -> Result<usize> {
        let request = Request::CountPrompt { model: self.model.reference.clone(), messages: messages.to_vec() };
        match client::call(&request)? {
            Response::Count(count) => Ok(count as usize),
            _ => Err(unexpected_response("a number of tokens")),
        }
    }

    /// Passages with their numbers of tokens, counted in one round trip.
    fn measured(&self, passages: Vec<(Option<String>, String)>) -> Result<Vec<Passage>> {
        let texts = passages.iter().map(|(_, content)| content.clone()).collect();
        let tokens = tokenize_all(self.model, texts)?;
        Ok(passages
            .into_iter()
            .zip(tokens)
            .map(|((title, content), tokens)| Passage { title, content, tokens: tokens.ids.len() })
            .collect())
    }

    fn generate(&self, prompt: &Prompt, temperature: f32, seed: Option<i64>) -> Result<Generated> {
        let mut params = SamplingArguments {
            max_tokens: Some(self.max_tokens),
            temperature: Some(temperature),
            top_p: Some(1.0),
            top_k: Some(0),
            repeat_penalty: Some(1.1),
            seed,
            stop: None,
            json_schema: None,
        }
        .params()?;
        params.max_tokens = params.max_tokens.min(prompt.answer_tokens);
        params.whole_sentences = true;
        let mut generated = generate_turn(self.model, prompt.messages.clone(), params)?;
        generated.text = prompt::strip_fences(&generated.text, &prompt.fence);
        Ok(generated)
    }
}

/// A word for the fences, different for every question and set of passages, so that no document can be written to
/// contain it; the same for the same call, so that greedy answers repeat.
fn fence(question: &str, passages: &[(Option<String>, String)]) -> String {
    let mut hash = Sha256::new();
    hash.update(question);
    for (_, content) in passages {
        hash.update([0]);
        hash.update(content);
    }
    hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An answer with everything that `rag_ask` returns.
struct Answer {
    text: String,
    citations: serde_json::Value,
    sources: serde_json::Value,
    grounded: bool,
    usage: serde_json::Value,
}

#[allow(clippy::too_many_arguments)] // the arguments of the SQL functions
fn ask(
    question: &str,
    index: Option<pg_sys::Oid>,
    k: i32,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: i32,
    temperature: f32,
    seed: Option<i64>,
    min_score: Option<f32>,
) -> Result<Answer> {
    let index = catalog::resolve(index)?;
    let model = models::generation(model)?;
    let started = Instant::now();
    let hits = search(&index, question, k, where_sql, where_args, min_score)?;
    let retrieval_ms = started.elapsed().as_secs_f64() * 1000.0;
    if hits.is_empty() {
        return Ok(Answer {
            text: NOTHING_FOUND.to_owned(),
            citations: serde_json::json!([]),
            sources: serde_json::json!([]),
            grounded: false,
            usage: serde_json::json!({ "retrieval_ms": retrieval_ms, "prompt_tokens": 0, "completion_tokens": 0 }),
        });
    }
    let spec = AnswerSpec { question, model: &model, template, max_context_tokens, max_tokens };
    let passages = hits.iter().map(|hit| (hit.heading_line(), hit.chunk.clone())).collect();
    let prompt = spec.prompt(passages)?;
    let generated = spec.generate(&prompt, temperature, seed)?;
    let used: Vec<&Hit> = prompt.used.iter().map(|&at| &hits[at]).collect();
    let cited = prompt::citations(&generated.text, used.len());
    let citations: Vec<_> = cited
        .iter()
        .map(|&number| {
            let hit = used[number - 1];
            serde_json::json!({ "number": number, "source_key": hit.source_key, "chunk_seq": hit.chunk_seq,
                                "title": hit.title })
        })
        .collect();
    let sources: Vec<_> = used.iter().enumerate().map(|(at, hit)| hit.as_source(at + 1)).collect();
    let usage = generated.usage;
    Ok(Answer {
        grounded: !citations.is_empty(),
        citations: citations.into(),
        sources: sources.into(),
        usage: serde_json::json!({
            "retrieval_ms": retrieval_ms,
            "queue_ms": usage.queue_ms,
            "prefill_ms": usage.prefill_ms,
            "decode_ms": usage.decode_ms,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "passages": used.len(),
            "finish": generated.finish.as_str(),
        }),
        text: generated.text,
    })
}

impl retrieval::Hit {
    /// What stands above the passage in the prompt: its document, and the headings it lies under.
    fn heading_line(&self) -> Option<String> {
        let mut parts: Vec<&str> = self.title.iter().chain(&self.headings).map(String::as_str).collect();
        parts.dedup(); // a page's title is often its first heading
        (!parts.is_empty()).then(|| parts.join(" > "))
    }

    fn as_source(&self, number: usize) -> serde_json::Value {
        serde_json::json!({
            "number": number,
            "score": self.score,
            "source_key": self.source_key,
            "chunk_seq": self.chunk_seq,
            "title": self.title,
            "headings": self.headings,
            "chunk": self.chunk,
            "char_start": self.char_start,
            "char_end": self.char_end,
        })
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)] // arguments and columns of the SQL function
fn rag_ask(
    question: Option<&str>,
    index: Option<pg_sys::Oid>,
    k: Option<i32>,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    seed: Option<i64>,
    min_score: Option<f32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(answer, String),
            name!(citations, JsonB),
            name!(sources, JsonB),
            name!(grounded, bool),
            name!(usage, JsonB),
        ),
    >,
> {
    let Some(question) = question else { return Ok(TableIterator::empty()) };
    let answer = ask(
        question,
        index,
        required("k", k)?,
        where_sql,
        where_args,
        model,
        template,
        max_context_tokens,
        required("max_tokens", max_tokens)?,
        required("temperature", temperature)?,
        seed,
        min_score,
    )?;
    Ok(TableIterator::once((
        answer.text,
        JsonB(answer.citations),
        JsonB(answer.sources),
        answer.grounded,
        JsonB(answer.usage),
    )))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn rag_answer(
    question: Option<&str>,
    index: Option<pg_sys::Oid>,
    k: Option<i32>,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    seed: Option<i64>,
    min_score: Option<f32>,
) -> Result<Option<String>> {
    let Some(question) = question else { return Ok(None) };
    let answer = ask(
        question,
        index,
        required("k", k)?,
        where_sql,
        where_args,
        model,
        template,
        max_context_tokens,
        required("max_tokens", max_tokens)?,
        required("temperature", temperature)?,
        seed,
        min_score,
    )?;
    Ok(Some(answer.text))
}

/// Passages given by the caller; NULLs are left out.
fn given_passages(context: Option<Vec<Option<String>>>) -> Vec<(Option<String>, String)> {
    context.into_iter().flatten().flatten().map(|content| (None, content)).collect()
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn rag_answer_from(
    question: Option<&str>,
    context: Option<Vec<Option<String>>>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    seed: Option<i64>,
) -> Result<Option<String>> {
    let Some(question) = question else { return Ok(None) };
    let max_tokens = required("max_tokens", max_tokens)?;
    let model = models::generation(model)?;
    let spec = AnswerSpec { question, model: &model, template, max_context_tokens, max_tokens };
    answer_from(&spec, given_passages(context), required("temperature", temperature)?, seed).map(Some)
}

fn answer_from(
    spec: &AnswerSpec<'_>,
    passages: Vec<(Option<String>, String)>,
    temperature: f32,
    seed: Option<i64>,
) -> Result<String> {
    if passages.is_empty() {
        return Ok(NOTHING_FOUND.to_owned());
    }
    let prompt = spec.prompt(passages)?;
    Ok(spec.generate(&prompt, temperature, seed)?.text)
}

#[pg_extern(sql = false)]
fn rag_prompt(
    question: Option<&str>,
    context: Option<Vec<Option<String>>>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
) -> Result<Option<String>> {
    let Some(question) = question else { return Ok(None) };
    let max_tokens = required("max_tokens", max_tokens)?;
    let model = models::generation(model)?;
    let spec = AnswerSpec { question, model: &model, template, max_context_tokens, max_tokens };
    let prompt = spec.prompt(given_passages(context))?;
    let turns: Vec<_> =
        prompt.messages.iter().map(|message| format!("{}:\n{}", message.role.as_str(), message.content)).collect();
    Ok(Some(turns.join("\n\n")))
}

/// Final function of `rag_answer_agg`: the state holds the question, then the passages.
#[pg_extern(sql = false)]
fn answer_finish(state: Option<Vec<Option<String>>>) -> Result<Option<String>> {
    let mut state = state.unwrap_or_default().into_iter();
    let Some(Some(question)) = state.next() else { return Ok(None) };
    let model = models::generation(None)?;
    let spec =
        AnswerSpec { question: &question, model: &model, template: None, max_context_tokens: None, max_tokens: 200 };
    answer_from(&spec, given_passages(Some(state.collect())), 0.0, None).map(Some)
}
