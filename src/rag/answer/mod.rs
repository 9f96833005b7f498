//! `rag_ask`, `rag_answer`, `rag_answer_stream`, `rag_answer_from`, `rag_prompt` and `rag_answer_agg`: retrieve, choose the
//! sentences, pack, generate, cite.
//!
//! Passages are data: they stand numbered between fences that differ for every question and set of passages, and the
//! model server tokenises them with control tokens switched off. An answer is text and is never executed.

mod evidence;
mod function;
mod history;
mod spec;
mod templates;

use crate::error::Result;
use crate::functions::generate::Pieces;
use crate::models::catalog::{self as models, Model};
use crate::rag::catalog::{self, Index};
use crate::rag::search::{search, Hit, Options};
use evidence::{Citation, Evidence};
use history::{History, Standalone};
use pg_rag_engine::prompt;
use pgrx::{pg_sys, JsonB};
use spec::{AnswerSpec, Prompt};
use std::time::Instant;

/// What is answered when nothing was found; the model is not asked.
const NOTHING_FOUND: &str = "The sources do not answer this question.";

/// Why an answer ended that is a sentence of the sources, because they support nothing of what the model wrote.
const QUOTED: &str = "quoted";

/// Most sentences that a prompt may get.
const MAX_SENTENCES: i32 = 1000;

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
    rerank_model: Option<&'a str>,
    neighbors: i32,
    /// Sentences of the passages that go into the prompt; None: whole passages.
    context_sentences: Option<i32>,
    /// What was said before.
    history: Option<History>,
    model: Option<&'a str>,
    /// The body of a template.
    template: Option<String>,
    max_context_tokens: Option<i32>,
    max_tokens: i32,
    temperature: f32,
    seed: Option<i64>,
}

/// What was found for a question.
struct Found {
    index: Index,
    /// The question as one that stands alone: it is what is answered.
    question: String,
    /// The ways in which it was searched for.
    searched: Vec<String>,
    hits: Vec<Hit>,
}

/// A prompt with passages of the hits.
struct Posed {
    prompt: Prompt,
    /// The hits in the prompt, in the order of their numbers.
    used: Vec<usize>,
}

impl Question<'_> {
    /// Finds chunks.
    fn retrieve(&mut self, model: &Model) -> Result<Found> {
        let index = catalog::resolve(self.index)?;
        self.most_sentences()?;
        let standalone = match &self.history {
            Some(history) => history.standalone(model, &index.fts_config, self.question)?,
            None => Standalone::only(self.question),
        };
        let options = Options {
            mode: self.mode,
            rerank_model: self.rerank_model,
            neighbors: self.neighbors,
            // Citations are the source's own words.
            only_texts: true,
            ..Options::hybrid(self.k, self.where_sql, self.where_args.take(), self.min_score)
        };
        let ways: Vec<&str> = standalone.searched.iter().map(String::as_str).collect();
        let hits = search(&index, &ways, &options)?;
        Ok(Found { index, question: standalone.question, searched: standalone.searched, hits })
    }

    /// The sentences found that bear on the question.
    fn evidence(&self, found: &Found) -> Result<Evidence> {
        evidence::find(&found.index, &found.searched, &found.hits, self.most_sentences()?)
    }

    fn most_sentences(&self) -> Result<usize> {
        match self.context_sentences {
            Some(count) => Ok(catalog::require_count("context_sentences", count, MAX_SENTENCES)? as usize),
            None => Ok(usize::MAX),
        }
    }

    fn spec<'s>(&'s self, model: &'s Model, found: &'s Found) -> AnswerSpec<'s> {
        AnswerSpec {
            question: &found.question,
            model,
            template: self.template.as_deref(),
            max_context_tokens: self.max_context_tokens,
            max_tokens: self.max_tokens,
        }
    }

    /// What an answer has cost, and the question that it answers where that is not the one that was asked.
    fn usage(&self, found: &Found, mut usage: serde_json::Value) -> serde_json::Value {
        if self.history.is_some() {
            usage["question"] = found.question.as_str().into();
        }
        usage
    }

    /// The prompt of the sentences, or else of whole chunks.
    fn pose(&self, spec: &AnswerSpec<'_>, hits: &[Hit], sentences: Option<&Evidence>) -> Result<Posed> {
        let cut = match sentences {
            Some(evidence) => evidence.passages(hits),
            None => hits.iter().enumerate().map(|(at, hit)| (at, hit.chunk.clone())).collect(),
        };
        let (places, passages): (Vec<usize>, Vec<_>) =
            cut.into_iter().map(|(at, text)| (at, (hits[at].heading_line(), text))).unzip();
        let prompt = spec.prompt(passages)?;
        let used = prompt.used.iter().map(|&at| places[at]).collect();
        Ok(Posed { prompt, used })
    }
}

fn ask(mut asked: Question<'_>) -> Result<Answer> {
    let model = models::generation(asked.model)?;
    let started = Instant::now();
    let found = asked.retrieve(&model)?;
    let evidence = asked.evidence(&found)?;
    let retrieval_ms = started.elapsed().as_secs_f64() * 1000.0;
    if evidence.is_empty() {
        return Ok(Answer {
            text: NOTHING_FOUND.to_owned(),
            citations: serde_json::json!([]),
            sources: serde_json::json!([]),
            grounded: false,
            usage: asked.usage(
                &found,
                serde_json::json!({ "retrieval_ms": retrieval_ms, "prompt_tokens": 0, "completion_tokens": 0 }),
            ),
        });
    }
    let spec = asked.spec(&model, &found);
    let sentences = asked.context_sentences.and(Some(&evidence));
    let Posed { prompt, used } = asked.pose(&spec, &found.hits, sentences)?;
    let generated = spec.generate(&prompt, asked.temperature, asked.seed)?;
    let Found { index, hits, .. } = &found;
    let mut text = generated.text;
    let mut finish = generated.finish.as_str();
    let mut citations = evidence.citations(index, &text, &used)?;
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
    let usage = serde_json::json!({
        "retrieval_ms": retrieval_ms,
        "queue_ms": usage.queue_ms,
        "prefill_ms": usage.prefill_ms,
        "decode_ms": usage.decode_ms,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "passages": used.len(),
        "relevance": evidence.relevance(),
        "finish": finish,
    });
    Ok(Answer {
        grounded: is_supported && evidence.best(&used).is_some(),
        citations: citations.iter().map(|citation| hits[citation.quote.hit].as_citation(citation)).collect(),
        sources: sources.into(),
        usage: asked.usage(&found, usage),
        text,
    })
}

/// The answer piece by piece, as the model writes it.
fn ask_stream(mut asked: Question<'_>) -> Result<Box<dyn Iterator<Item = String>>> {
    let model = models::generation(asked.model)?;
    let found = asked.retrieve(&model)?;
    // Whole chunks need no sentences: nothing is cited here.
    let evidence = asked.context_sentences.map(|_| asked.evidence(&found)).transpose()?;
    if evidence.as_ref().map_or(found.hits.is_empty(), Evidence::is_empty) {
        return Ok(Box::new(std::iter::once(NOTHING_FOUND.to_owned())));
    }
    let spec = asked.spec(&model, &found);
    let prompt = asked.pose(&spec, &found.hits, evidence.as_ref())?.prompt;
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
