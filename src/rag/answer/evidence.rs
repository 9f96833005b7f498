//! The sentences that a question is answered from, and those that an answer rests on.
//!
//! A sentence of the passages found bears on the question by what it means, the cosine of their vectors, and by the words
//! that both have. The best go into the prompt ([`find`]). Afterwards each sentence of the answer is tied to the sentence
//! of the prompt that has most of its words ([`Evidence::citations`]): so a citation is checked, not believed, and a model
//! too small to cite gets citations, too. An answer that no sentence supports is replaced by the best sentence, if one bears
//! on the question ([`Evidence::best`]): what cannot be checked is not told.

use crate::error::Result;
use crate::functions::embed::{embed_all, embed_one};
use crate::models::catalog as models;
use crate::rag::catalog::Index;
use crate::rag::lexemes::{self, decode};
use crate::rag::search::Hit;
use pg_rag_engine::context::{self, Sentence};
use pg_rag_engine::distance::Metric;
use pg_rag_engine::lexical::bm25;
use pg_rag_engine::prompt;
use pg_rag_protocol::message::{Lane, Purpose};
use std::collections::HashMap;
use std::ops::Range;

/// What all words of the question in one sentence count beside a cosine of 1.
const WORDS_WEIGHT: f64 = 0.5;
/// The share of an answer's words that a sentence has which supports it.
const LEAST_SUPPORT: f64 = 0.5;
/// With less than this, by cosine and words together, a sentence does not bear on the question: 97 % of 612 questions have a
/// better one among the passages that answer them, fewer than 5 of 100 among those of other articles (all-MiniLM-L6-v2).
const LEAST_RELEVANCE: f64 = 0.56;

/// A sentence that goes into the prompt.
pub struct Quote {
    /// Its passage's place among the hits.
    pub hit: usize,
    /// Bytes of the chunk.
    pub range: Range<usize>,
    pub text: String,
    /// How much it bears on the question: cosine, and the share of the question's words by weight.
    pub relevance: f64,
    /// Its lexemes in wire form.
    lexemes: Vec<u8>,
}

/// The sentences that go into the prompt, in the order of the passages.
pub struct Evidence {
    quotes: Vec<Quote>,
}

/// Words with their weights.
type Words = HashMap<Vec<u8>, f64>;

/// The `most` best sentences of the passages found, and those that they refer back to. `questions` are ways to put the
/// question: all of them count for the choice, the best of them for how much a sentence bears on it.
pub fn find(index: &Index, questions: &[String], hits: &[Hit], most: usize) -> Result<Evidence> {
    let passages: Vec<&str> = hits.iter().map(|hit| hit.chunk.as_str()).collect();
    let sentences = context::sentences(&passages);
    let texts: Vec<String> =
        sentences.iter().map(|sentence| passages[sentence.passage][sentence.range.clone()].to_owned()).collect();

    let model = models::embedding(Some(&index.model))?;
    let vectors = embed_all(&model, texts.clone(), Purpose::Passage, Lane::Interactive)?;
    let mut words = lexemes::of_texts(&index.fts_config, [questions, &texts[..]].concat())?;
    let of_sentences = words.split_off(questions.len());

    // Vectors of one model have the same dimensions.
    let distance = Metric::Cosine.kernel::<f32>();
    let (mut scores, mut relevance) = (vec![0.0; texts.len()], vec![f64::NEG_INFINITY; texts.len()]);
    for (question, words) in questions.iter().zip(&words) {
        let asked = embed_one(&model, question, Purpose::Query)?;
        let weights = weights(words, &of_sentences)?;
        for (at, (vector, bytes)) in vectors.iter().zip(&of_sentences).enumerate() {
            let score = 1.0 - distance(&asked, vector) + WORDS_WEIGHT * share_of(&weights, bytes)?;
            scores[at] += score;
            relevance[at] = relevance[at].max(score);
        }
    }
    let chosen = context::choose(&passages, &sentences, &scores, most);
    let quotes = chosen.into_iter().map(|at| {
        let Sentence { passage, range } = sentences[at].clone();
        let (text, lexemes) = (texts[at].clone(), of_sentences[at].clone());
        Quote { hit: passage, range, text, relevance: relevance[at], lexemes }
    });
    Ok(Evidence { quotes: quotes.collect() })
}

/// The question's words, weighed by how few of the sentences have them.
fn weights(question: &[u8], sentences: &[Vec<u8>]) -> Result<Words> {
    let mut having: HashMap<&[u8], f64> = HashMap::new();
    for bytes in sentences {
        decode(bytes)?.iter().for_each(|lexeme| *having.entry(lexeme.text).or_default() += 1.0);
    }
    let weight = |text: &[u8]| bm25::idf(sentences.len() as f64, having.get(text).copied().unwrap_or(0.0));
    Ok(decode(question)?.iter().map(|lexeme| (lexeme.text.to_vec(), weight(lexeme.text))).collect())
}

/// Of the words' weight, the share of those that a text has; 0 of none.
fn share_of(words: &Words, text: &[u8]) -> Result<f64> {
    let all: f64 = words.values().sum();
    let found: f64 = decode(text)?.iter().filter_map(|lexeme| words.get(lexeme.text)).sum();
    Ok(if all > 0.0 { found / all } else { 0.0 })
}

impl Evidence {
    /// The passages cut down to the sentences: each hit's place with its text.
    pub fn passages(&self, hits: &[Hit]) -> Vec<(usize, String)> {
        self.quotes
            .chunk_by(|a, b| a.hit == b.hit)
            .map(|quotes| {
                let ranges: Vec<Range<usize>> = quotes.iter().map(|quote| quote.range.clone()).collect();
                (quotes[0].hit, context::joined(&hits[quotes[0].hit].chunk, &ranges))
            })
            .collect()
    }

    /// How much the best sentence bears on the question.
    pub fn relevance(&self) -> f64 {
        self.quotes.iter().map(|quote| quote.relevance).fold(0.0, f64::max)
    }

    /// What the sentences of an answer rest on. `used`: the hits that are in the prompt, in the order of their numbers.
    pub fn citations(&self, index: &Index, answer: &str, used: &[usize]) -> Result<Vec<Citation<'_>>> {
        let parts: Vec<String> =
            context::sentences(&[answer]).into_iter().map(|sentence| answer[sentence.range].to_owned()).collect();
        let of_parts = lexemes::of_texts(&index.fts_config, parts.clone())?;
        let mut citations: Vec<Citation<'_>> = Vec::new();
        for (at, (part, bytes)) in parts.iter().zip(&of_parts).enumerate() {
            let words: Words = decode(bytes)?
                .iter()
                .filter(|lexeme| !lexeme.text.iter().all(u8::is_ascii_digit) || !is_mark(part, lexeme.text))
                .map(|lexeme| (lexeme.text.to_vec(), 1.0))
                .collect();
            let named = prompt::citations(part, used.len());
            let mut best: Option<(f64, &Quote, usize)> = None;
            for quote in &self.quotes {
                let Some(place) = used.iter().position(|&hit| hit == quote.hit) else { continue };
                let mut support = share_of(&words, &quote.lexemes)?;
                // A passage that the model names is preferred to one with as many of the words.
                support += if named.contains(&(place + 1)) { 1e-3 } else { 0.0 };
                if best.is_none_or(|(most, ..)| support > most) {
                    best = Some((support, quote, place + 1));
                }
            }
            let Some((support, quote, number)) = best.filter(|(support, ..)| *support >= LEAST_SUPPORT) else {
                continue;
            };
            match citations.iter_mut().find(|citation| std::ptr::eq(citation.quote, quote)) {
                Some(citation) => citation.sentences.push(at + 1),
                None => citations.push(Citation { number, quote, sentences: vec![at + 1], support: support.min(1.0) }),
            }
        }
        // If the sources answer the question, all that the answer could be made of is quoted, so that a reader can judge.
        if self.best(used).is_some() {
            for quote in &self.quotes {
                let place = used.iter().position(|&hit| hit == quote.hit);
                let is_known = citations.iter().any(|citation| std::ptr::eq(citation.quote, quote));
                if let (Some(place), false) = (place, is_known) {
                    citations.push(Citation { number: place + 1, quote, sentences: Vec::new(), support: 0.0 });
                }
            }
        }
        Ok(citations)
    }

    /// The sentence that bears most on the question, if one does, as the answer of a model that gave none of its own.
    pub fn best(&self, used: &[usize]) -> Option<Citation<'_>> {
        let known = self.quotes.iter().filter_map(|quote| {
            let place = used.iter().position(|&hit| hit == quote.hit)?;
            (quote.relevance >= LEAST_RELEVANCE).then_some((quote, place + 1))
        });
        let (quote, number) = known.max_by(|(a, _), (b, _)| a.relevance.total_cmp(&b.relevance))?;
        Some(Citation { number, quote, sentences: vec![1], support: 1.0 })
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.quotes.is_empty()
    }
}

/// Whether a number is only the mark of a citation, as in `[2]`.
fn is_mark(sentence: &str, number: &[u8]) -> bool {
    std::str::from_utf8(number).is_ok_and(|number| sentence.contains(&format!("[{number}]")))
}

/// A sentence of the prompt that sentences of the answer rest on.
pub struct Citation<'a> {
    /// The passage's number in the prompt.
    pub number: usize,
    pub quote: &'a Quote,
    /// Sentences of the answer that rest on it, from 1.
    pub sentences: Vec<usize>,
    /// The share of the first one's words that the quote has.
    pub support: f64,
}
