//! `rag_ask`, `rag_answer`, `rag_answer_stream`, `rag_answer_from`, `rag_prompt` and `rag_answer_agg`: retrieve, choose the
//! sentences, pack, generate, cite.
//!
//! Passages are data: they stand numbered between fences that differ for every question and set of passages, and the
//! model server tokenises them with control tokens switched off. An answer is text and is never executed.

mod evidence;
mod function;

use crate::error::{error, from_prompt, invalid_parameter, unexpected_response, Result};
use crate::functions::generate::{generate_turn, Generated, Pieces, SamplingArguments};
use crate::functions::tokens::tokenize_all;
use crate::models::catalog::{self as models, Model};
use crate::rag::catalog::{self, Index};
use crate::rag::search::{search, Hit, Options};
use crate::server::client;
use evidence::{Citation, Evidence};
use pg_rag_engine::prompt::{self, Passage};
use pg_rag_protocol::message::{ChatMessage, GenerateParams, Request, Response, Role};
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};
use sha2::{Digest, Sha256};
use std::time::Instant;

/// What is answered when nothing was found; the model is not asked.
const NOTHING_FOUND: &str = "The sources do not answer this question.";

/// Tokens that a numbered, fenced passage costs beside its text.
const PASSAGE_OVERHEAD_TOKENS: usize = 24;

/// Least room for passages that is worth a prompt.
const MIN_CONTEXT_TOKENS: usize = 2 * PASSAGE_OVERHEAD_TOKENS;

/// Why an answer ended that is a sentence of the sources, because they support nothing of what the model wrote.
const QUOTED: &str = "quoted";

/// Most sentences that a prompt may get.
const MAX_SENTENCES: i32 = 1000;

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

    fn params(&self, prompt: &Prompt, temperature: f32, seed: Option<i64>) -> Result<GenerateParams> {
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
        Ok(params)
    }

    fn generate(&self, prompt: &Prompt, temperature: f32, seed: Option<i64>) -> Result<Generated> {
        let params = self.params(prompt, temperature, seed)?;
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

/// The arguments of `rag_ask` and `rag_answer`.
struct Question<'a> {
    question: &'a str,
    index: Option<pg_sys::Oid>,
    k: i32,
    mode: &'a str,
    where_sql: Option<&'a str>,
    where_args: Option<JsonB>,
    min_score: Option<f32>,
    /// Sentences of the passages that go into the prompt; None: whole passages.
    context_sentences: Option<i32>,
    model: Option<&'a str>,
    template: Option<&'a str>,
    max_context_tokens: Option<i32>,
    max_tokens: i32,
    temperature: f32,
    seed: Option<i64>,
}

/// What was found for a question.
struct Found {
    index: Index,
    hits: Vec<Hit>,
    evidence: Evidence,
}

/// A prompt with passages of the hits.
struct Posed {
    prompt: Prompt,
    /// The hits in the prompt, in the order of their numbers.
    used: Vec<usize>,
}

impl<'a> Question<'a> {
    /// Finds chunks, and the sentences in them that bear on the question.
    fn retrieve(&mut self) -> Result<Found> {
        let index = catalog::resolve(self.index)?;
        let most = match self.context_sentences {
            Some(count) => catalog::require_count("context_sentences", count, MAX_SENTENCES)? as usize,
            None => usize::MAX,
        };
        let options = Options {
            mode: self.mode,
            ..Options::hybrid(self.k, self.where_sql, self.where_args.take(), self.min_score)
        };
        let hits = search(&index, self.question, &options)?;
        let evidence = evidence::find(&index, self.question, &hits, most)?;
        Ok(Found { index, hits, evidence })
    }

    fn spec<'m>(&self, model: &'m Model) -> AnswerSpec<'m>
    where
        'a: 'm,
    {
        AnswerSpec {
            question: self.question,
            model,
            template: self.template,
            max_context_tokens: self.max_context_tokens,
            max_tokens: self.max_tokens,
        }
    }

    /// The prompt, of the sentences or of whole chunks.
    fn pose(&self, spec: &AnswerSpec<'_>, found: &Found) -> Result<Posed> {
        let cut = match self.context_sentences {
            Some(_) => found.evidence.passages(&found.hits),
            None => found.hits.iter().enumerate().map(|(at, hit)| (at, hit.chunk.clone())).collect(),
        };
        let (places, passages): (Vec<usize>, Vec<_>) =
            cut.into_iter().map(|(at, text)| (at, (found.hits[at].heading_line(), text))).unzip();
        let prompt = spec.prompt(passages)?;
        let used = prompt.used.iter().map(|&at| places[at]).collect();
        Ok(Posed { prompt, used })
    }
}

fn ask(mut asked: Question<'_>) -> Result<Answer> {
    let model = models::generation(asked.model)?;
    let started = Instant::now();
    let found = asked.retrieve()?;
    let retrieval_ms = started.elapsed().as_secs_f64() * 1000.0;
    if found.evidence.is_empty() {
        return Ok(Answer {
            text: NOTHING_FOUND.to_owned(),
            citations: serde_json::json!([]),
            sources: serde_json::json!([]),
            grounded: false,
            usage: serde_json::json!({ "retrieval_ms": retrieval_ms, "prompt_tokens": 0, "completion_tokens": 0 }),
        });
    }
    let spec = asked.spec(&model);
    let Posed { prompt, used } = asked.pose(&spec, &found)?;
    let generated = spec.generate(&prompt, asked.temperature, asked.seed)?;
    let Found { index, hits, evidence } = found;
    let mut text = generated.text;
    let mut finish = generated.finish.as_str();
    let mut citations = evidence.citations(&index, &text, &used)?;
    let mut is_supported = citations.iter().any(|citation| !citation.sentences.is_empty());
    if let (false, Some(best)) = (is_supported, evidence.best(&used)) {
        text = format!("{} [{}]", best.quote.text, best.number);
        finish = QUOTED;
        citations.retain(|citation| !std::ptr::eq(citation.quote, best.quote));
        citations.insert(0, best);
        is_supported = true;
    }
    let sources: Vec<_> = used.iter().enumerate().map(|(at, &hit)| hits[hit].as_source(at + 1)).collect();
    let usage = generated.usage;
    Ok(Answer {
        grounded: is_supported && evidence.best(&used).is_some(),
        citations: citations.iter().map(|citation| hits[citation.quote.hit].as_citation(citation)).collect(),
        sources: sources.into(),
        usage: serde_json::json!({
            "retrieval_ms": retrieval_ms,
            "queue_ms": usage.queue_ms,
            "prefill_ms": usage.prefill_ms,
            "decode_ms": usage.decode_ms,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "passages": used.len(),
            "relevance": evidence.relevance(),
            "finish": finish,
        }),
        text,
    })
}

/// The answer piece by piece, as the model writes it.
fn ask_stream(mut asked: Question<'_>) -> Result<Box<dyn Iterator<Item = String>>> {
    let model = models::generation(asked.model)?;
    let found = asked.retrieve()?;
    if found.evidence.is_empty() {
        return Ok(Box::new(std::iter::once(NOTHING_FOUND.to_owned())));
    }
    let spec = asked.spec(&model);
    let prompt = asked.pose(&spec, &found)?.prompt;
    let mut params = spec.params(&prompt, asked.temperature, asked.seed)?;
    // Else each piece would wait for the end of its sentence.
    params.whole_sentences = false;
    let fence = prompt.fence;
    let pieces = Pieces::start(&model, prompt.messages, params)?;
    Ok(Box::new(prompt::without_fences(pieces, fence)))
}

impl Hit {
    /// What stands above the passage in the prompt: its document, and the headings it lies under.
    fn heading_line(&self) -> Option<String> {
        let mut parts: Vec<&str> = self.title.iter().chain(&self.headings).map(String::as_str).collect();
        parts.dedup(); // a page's title is often its first heading
        (!parts.is_empty()).then(|| parts.join(" > "))
    }

    /// A sentence of this chunk that the answer rests on. Characters are counted in the text that was indexed.
    fn as_citation(&self, citation: &Citation<'_>) -> serde_json::Value {
        let quote = citation.quote;
        let before = self.chunk[..quote.range.start].chars().count() as i32;
        let char_start = self.char_start + before;
        serde_json::json!({
            "number": citation.number,
            "sentences": citation.sentences,
            "quote": quote.text,
            "support": (citation.support * 1000.0).round() / 1000.0,
            "source_key": self.source_key,
            "chunk_seq": self.chunk_seq,
            "title": self.title,
            "char_start": char_start,
            "char_end": char_start + quote.text.chars().count() as i32,
        })
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
