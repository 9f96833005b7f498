//! `chunk`: a text in pieces that fit a model.
//!
//! The server tokenises the whole text once; the engine then measures any piece by counting token starts.

use crate::error::{from_chunk, invalid_parameter, required, Result};
use crate::functions::tokens::tokenize_all;
use crate::models::catalog::{self, Model};
use pg_rag_engine::text::{self, CharMeasure, Chunk, ChunkOptions, Measure, PagedText, Strategy, TokenMeasure};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

/// What `size` and `overlap` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Token,
    Char,
}

/// How to cut a text.
#[derive(Clone, Debug)]
pub struct Chunking {
    pub options: ChunkOptions,
    pub unit: Unit,
}

impl Chunking {
    /// Checks the words and numbers that a user wrote.
    pub fn new(strategy: &str, size: i32, overlap: i32, unit: &str) -> Result<Self> {
        let strategy = match strategy {
            "recursive" => Strategy::Recursive,
            "sentence" => Strategy::Sentence,
            "markdown" => Strategy::Markdown,
            _ => {
                return Err(invalid_parameter(format!("chunking strategy \"{strategy}\" is not known"))
                    .set_hint("Use \"recursive\", \"sentence\" or \"markdown\"."))
            }
        };
        let unit = match unit {
            "token" => Unit::Token,
            "char" => Unit::Char,
            _ => {
                return Err(invalid_parameter(format!("chunking unit \"{unit}\" is not known"))
                    .set_hint("Use \"token\" or \"char\"."))
            }
        };
        if size < 1 {
            return Err(invalid_parameter(format!("chunk size must be at least 1, not {size}")));
        }
        if overlap < 0 || overlap >= size {
            return Err(invalid_parameter(format!(
                "chunk overlap must be at least 0 and less than the chunk size, not {overlap}"
            )));
        }
        Ok(Self { options: ChunkOptions { strategy, size: size as usize, overlap: overlap as usize }, unit })
    }
}

/// One piece of a text.
pub struct ChunkRow {
    pub content: String,
    pub char_start: i32,
    pub char_end: i32,
    pub tokens: i32,
    pub headings: Vec<String>,
    /// First and last page, of a text that has pages.
    pub pages: Option<(i32, i32)>,
}

impl ChunkRow {
    fn new(text: &str, chunk: Chunk, tokens: &TokenMeasure, pages: Option<(i32, i32)>) -> Self {
        Self {
            content: text[chunk.range.clone()].to_owned(),
            char_start: chunk.char_range.start as i32,
            char_end: chunk.char_range.end as i32,
            tokens: tokens.size(chunk.range) as i32,
            headings: chunk.headings,
            pages,
        }
    }
}

/// The chunks of each text, tokenised in one round trip.
pub fn chunk_all(model: &Model, texts: &[String], chunking: &Chunking) -> Result<Vec<Vec<ChunkRow>>> {
    let tokens = tokenize_all(model, texts.to_vec())?;
    texts
        .iter()
        .zip(tokens)
        .map(|(text, tokens)| {
            pgrx::check_for_interrupts!();
            let token_measure = TokenMeasure::new(tokens.starts, tokens.ends);
            let chunks = match chunking.unit {
                Unit::Token => text::chunk(text, &token_measure, &chunking.options),
                Unit::Char => text::chunk(text, &CharMeasure::new(text), &chunking.options),
            };
            let chunks = chunks.map_err(from_chunk)?.into_iter();
            Ok(chunks.map(|chunk| ChunkRow::new(text, chunk, &token_measure, None)).collect())
        })
        .collect()
}

/// The same of texts with pages.
pub fn chunk_all_paged(model: &Model, texts: &[PagedText], chunking: &Chunking) -> Result<Vec<Vec<ChunkRow>>> {
    let tokens = tokenize_all(model, texts.iter().map(|text| text.text().to_owned()).collect())?;
    texts
        .iter()
        .zip(tokens)
        .map(|(paged, tokens)| {
            pgrx::check_for_interrupts!();
            let token_measure = TokenMeasure::new(tokens.starts, tokens.ends);
            let chunks = match chunking.unit {
                Unit::Token => text::chunk_pages(paged, &token_measure, &chunking.options),
                Unit::Char => text::chunk_pages(paged, &CharMeasure::new(paged.text()), &chunking.options),
            };
            let rows = chunks.map_err(from_chunk)?.into_iter().map(|found| {
                let pages = (found.first_page as i32, found.last_page as i32);
                let pages = (!paged.is_without_pages()).then_some(pages);
                ChunkRow::new(paged.text(), found.chunk, &token_measure, pages)
            });
            Ok(rows.collect())
        })
        .collect()
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn chunk(
    input: Option<&str>,
    strategy: Option<&str>,
    size: Option<i32>,
    overlap: Option<i32>,
    unit: Option<&str>,
    model: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(seq, i32),
            name!(content, String),
            name!(char_start, i32),
            name!(char_end, i32),
            name!(tokens, i32),
            name!(headings, Vec<String>),
        ),
    >,
> {
    let chunking = Chunking::new(
        required("strategy", strategy)?,
        required("size", size)?,
        required("overlap", overlap)?,
        required("unit", unit)?,
    )?;
    let Some(input) = input else { return Ok(TableIterator::empty()) };
    let model = match model {
        Some(name) => catalog::lookup(name)?,
        None => catalog::embedding(None)?,
    };
    let rows = chunk_all(&model, &[input.to_owned()], &chunking)?.pop().unwrap_or_default();
    Ok(TableIterator::new(
        rows.into_iter().enumerate().map(|(index, row)| {
            (index as i32 + 1, row.content, row.char_start, row.char_end, row.tokens, row.headings)
        }),
    ))
}
