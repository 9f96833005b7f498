//! `embed`, `embed_query` and `embed_tokens`.
//!
//! A memo of the last texts makes repeated evaluation cheap: a STABLE call is evaluated once per row of a result.

use crate::error::{unexpected_response, Result};
use crate::models::catalog::{self, Model};
use crate::server::client::{self, Exchange};
use crate::types::Vector;
use pg_rag_protocol::message::{Lane, Purpose, Request, Response};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::VecDeque;

/// Texts that a backend remembers the vectors of.
const MEMO_ENTRIES: usize = 64;

/// Longer texts are not remembered: they come from rows, not from questions.
const MEMO_TEXT_BYTES: usize = 4096;

struct Remembered {
    model: String,
    purpose: Purpose,
    text: String,
    vector: Vec<f32>,
}

thread_local! {
    /// Most recently used first. A model's name is bound to its files, so an entry never goes stale.
    static MEMO: RefCell<VecDeque<Remembered>> = const { RefCell::new(VecDeque::new()) };
}

fn recall(model: &str, purpose: Purpose, text: &str) -> Option<Vec<f32>> {
    MEMO.with_borrow_mut(|memo| {
        let at =
            memo.iter().position(|entry| entry.purpose == purpose && entry.text == text && entry.model == model)?;
        let entry = memo.remove(at)?;
        let vector = entry.vector.clone();
        memo.push_front(entry);
        Some(vector)
    })
}

fn remember(model: &str, purpose: Purpose, text: &str, vector: &[f32]) {
    if text.len() > MEMO_TEXT_BYTES {
        return;
    }
    MEMO.with_borrow_mut(|memo| {
        memo.truncate(MEMO_ENTRIES - 1);
        memo.push_front(Remembered {
            model: model.to_owned(),
            purpose,
            text: text.to_owned(),
            vector: vector.to_vec(),
        });
    });
}

/// Texts on their way through a model.
pub struct Embedding {
    /// None without a text.
    exchange: Option<Exchange>,
    texts: usize,
    dimensions: u32,
}

impl Embedding {
    /// Sends texts to the model.
    pub fn start(model: &Model, texts: Vec<String>, purpose: Purpose, lane: Lane) -> Result<Self> {
        let (count, dimensions) = (texts.len(), model.dimensions);
        let request = Request::Embed { model: model.reference.clone(), texts, purpose, lane, caller: client::caller() };
        let exchange = if count > 0 { Some(Exchange::start(&request)?) } else { None };
        Ok(Self { exchange, texts: count, dimensions })
    }

    /// Waits for the vectors, in the order of the texts.
    pub fn finish(self) -> Result<Vec<Vec<f32>>> {
        let Some(exchange) = self.exchange else { return Ok(Vec::new()) };
        match exchange.finish()? {
            Response::Embeddings { dimensions, values, .. }
                if dimensions == self.dimensions
                    && values.len() == self.texts * dimensions as usize
                    && dimensions > 0 =>
            {
                Ok(values.chunks_exact(dimensions as usize).map(<[f32]>::to_vec).collect())
            }
            _ => Err(unexpected_response("one vector for each text")),
        }
    }
}

/// The vectors of texts, in their order.
pub fn embed_all(model: &Model, texts: Vec<String>, purpose: Purpose, lane: Lane) -> Result<Vec<Vec<f32>>> {
    Embedding::start(model, texts, purpose, lane)?.finish()
}

/// One text on its way through a model, unless its vector is in the memo.
pub struct EmbeddingOfOne<'a> {
    model: &'a str,
    text: &'a str,
    purpose: Purpose,
    state: State,
}

enum State {
    Known(Vec<f32>),
    Underway(Embedding),
}

impl<'a> EmbeddingOfOne<'a> {
    pub fn start(model: &'a Model, text: &'a str, purpose: Purpose) -> Result<Self> {
        let state = match recall(&model.reference.name, purpose, text) {
            Some(vector) => State::Known(vector),
            None => State::Underway(Embedding::start(model, vec![text.to_owned()], purpose, Lane::Interactive)?),
        };
        Ok(Self { model: &model.reference.name, text, purpose, state })
    }

    pub fn finish(self) -> Result<Vec<f32>> {
        let embedding = match self.state {
            State::Known(vector) => return Ok(vector),
            State::Underway(embedding) => embedding,
        };
        let vector = embedding.finish()?.into_iter().next().ok_or_else(|| unexpected_response("a vector"))?;
        remember(self.model, self.purpose, self.text, &vector);
        Ok(vector)
    }
}

/// The vector of one text, from the memo if it is there.
pub fn embed_one(model: &Model, text: &str, purpose: Purpose) -> Result<Vec<f32>> {
    EmbeddingOfOne::start(model, text, purpose)?.finish()
}

#[pg_extern(sql = false)]
fn embed(input: &str) -> Result<Vector> {
    embed_one(&*catalog::embedding(None)?, input, Purpose::Passage).and_then(Vector::new)
}

#[pg_extern(sql = false)]
fn embed_with_model(input: &str, model: &str) -> Result<Vector> {
    embed_one(&*catalog::embedding(Some(model))?, input, Purpose::Passage).and_then(Vector::new)
}

/// NULL elements give NULL vectors.
#[pg_extern(sql = false)]
fn embed_batch(inputs: Vec<Option<String>>, model: &str) -> Result<Vec<Option<Vector>>> {
    let model = catalog::embedding(Some(model))?;
    let texts = inputs.iter().flatten().cloned().collect();
    let mut vectors = embed_all(&model, texts, Purpose::Passage, Lane::Interactive)?.into_iter();
    inputs.iter().map(|input| input.as_ref().and_then(|_| vectors.next()).map(Vector::new).transpose()).collect()
}

#[pg_extern(sql = false)]
fn embed_query(input: &str) -> Result<Vector> {
    embed_one(&*catalog::embedding(None)?, input, Purpose::Query).and_then(Vector::new)
}

#[pg_extern(sql = false)]
fn embed_query_with_model(input: &str, model: &str) -> Result<Vector> {
    embed_one(&*catalog::embedding(Some(model))?, input, Purpose::Query).and_then(Vector::new)
}

/// A row for each token: its place among all, its spelling, the characters of the text that it stands for, and its vector.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn embed_tokens(
    input: &str,
    model: &str,
) -> Result<
    TableIterator<
        'static,
        (name!(seq, i32), name!(token, String), name!(char_start, i32), name!(char_end, i32), name!(embedding, Vector)),
    >,
> {
    let model = catalog::embedding(Some(model))?;
    let request =
        Request::EmbedTokens { model: model.reference.clone(), text: input.to_owned(), caller: client::caller() };
    let unexpected = || unexpected_response("one vector for each token");
    let Response::TokenEmbeddings { dimensions, values, tokens, spellings } = client::call(&request)? else {
        return Err(unexpected());
    };
    let (width, count) = (dimensions as usize, tokens.ids.len());
    let complete = [tokens.starts.len(), tokens.ends.len(), spellings.len()].iter().all(|length| *length == count);
    if width == 0 || !complete || values.len() != count * width {
        return Err(unexpected());
    }
    // Offsets ascend but for tokens that share a character, so the characters up to each are counted from the last one.
    let (mut bytes, mut characters) = (0, 0);
    let mut character_at = |offset: u32| {
        let offset = (offset as usize).min(input.len());
        if offset < bytes {
            (bytes, characters) = (0, 0);
        }
        characters += input.get(bytes..offset).map_or(0, |piece| piece.chars().count());
        bytes = offset;
        characters as i32
    };
    let mut rows = Vec::with_capacity(count);
    for (index, (spelling, vector)) in spellings.into_iter().zip(values.chunks_exact(width)).enumerate() {
        let (start, end) = (character_at(tokens.starts[index]), character_at(tokens.ends[index]));
        rows.push((index as i32 + 1, spelling, start, end, Vector::new(vector.to_vec())?));
    }
    Ok(TableIterator::new(rows))
}
