//! Summaries of pages, beside the chunks of their text.
//!
//! A summary is a chunk of its own kind: `summary_hash` is not NULL and says what it is of, `chunk_seq` is negative, and the
//! characters and the page are those of what it summarises. It is written once for a page, model and length: as long as the
//! hash is that of the page it is kept, whatever else of the row changes, and an index that is built anew takes it over.
//!
//! A text without pages is one page. Pages that are not much longer than their summary would be have none; pages of a row that
//! are equal have one.

use super::cut::fill_template;
use super::{sha256, Document, PendingChunk};
use crate::error::Result;
use crate::functions::chunk::ChunkRow;
use crate::functions::summarize::summarize_text;
use crate::functions::tokens::tokenize_all;
use crate::models::catalog::Model;
use crate::rag::catalog::{Index, Summaries};
use pg_rag_engine::summary::word_count;
use pg_rag_engine::text::PagedText;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// A page has a summary if it has more than so many times its words.
const LEAST_RATIO: usize = 2;

/// Of a page longer than this many prompts, as many parts are read: one row shall not keep a worker for an hour.
const MOST_PIECES: usize = 8;

/// Changes when summaries shall be written anew, because they are written in another way.
const VERSION: &str = "1";

/// A page that has a summary, or is to get one.
pub struct Page {
    text: String,
    /// Of all that decides what its summary is, in hexadecimal digits.
    pub hash: String,
    seq: i32,
    chars: Range<usize>,
    number: Option<i32>,
    name: Option<String>,
}

/// Summaries that rows have now, by the number of the row in a batch and the hash of the page.
pub type KnownSummaries = HashMap<(usize, String), String>;

/// The pages of a text that are long enough.
pub fn pages_of(text: &PagedText, summaries: &Summaries) -> Vec<Page> {
    let max_words = summaries.max_words.to_string();
    let least = LEAST_RATIO * summaries.max_words as usize;
    let mut seen = HashSet::new();
    let mut pages = Vec::new();
    for (span, place) in text.spans().into_iter().zip(1..) {
        let page = &text.text()[span.range];
        if word_count(page) <= least {
            continue;
        }
        let hash = sha256(&[VERSION, &summaries.model, &max_words, page].join("\n"));
        if seen.insert(hash.clone()) {
            pages.push(Page {
                text: page.to_owned(),
                hash,
                seq: -place,
                chars: span.char_range,
                number: span.number.map(|number| number as i32),
                name: span.name.map(str::to_owned),
            });
        }
    }
    pages
}

/// Has the model write the summary of a page.
pub fn write(writer: &Model, summaries: &Summaries, page: &Page) -> Result<String> {
    summarize_text(writer, &page.text, summaries.max_words as usize, MOST_PIECES)
}

/// Summaries as chunks, without vectors: each of the document at its place.
pub fn chunks(
    index: &Index,
    model: &Model,
    documents: &[Document],
    written: Vec<(usize, Page, String)>,
) -> Result<Vec<(usize, PendingChunk)>> {
    if written.is_empty() {
        return Ok(Vec::new());
    }
    let tokens = tokenize_all(model, written.iter().map(|(_, _, summary)| summary.clone()).collect())?;
    let chunk = |((at, page, summary), tokens): ((usize, Page, String), usize)| {
        let row = ChunkRow {
            content: summary,
            char_start: page.chars.start as i32,
            char_end: page.chars.end as i32,
            tokens: tokens as i32,
            headings: page.name.into_iter().collect(),
            pages: page.number.map(|number| (number, number)),
        };
        let input = fill_template(&index.template, &row, &documents[at].fields);
        let hash = sha256(&input);
        (at, PendingChunk { seq: page.seq, row, hash, input, vector: None, summary_hash: Some(page.hash) })
    };
    Ok(written.into_iter().zip(tokens.into_iter().map(|tokens| tokens.ids.len())).map(chunk).collect())
}
