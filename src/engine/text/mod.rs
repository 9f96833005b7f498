//! Cutting a text into chunks for embedding: under a budget of tokens or characters, at the best boundaries the text
//! offers, with exact offsets.
//!
//! - `measure`: how much of the budget a byte range takes, answered from one tokenisation of the whole text.
//! - `boundary`: where a text can be cut, found once: blocks, lines, sentences, words.
//! - `markdown`: the same for Markdown, with its sections and headings.
//! - `chunker`: the choice among them.
//! - `pages`: chunks of documents with pages.

mod boundary;
mod chunker;
mod markdown;
mod measure;
mod pages;

pub(crate) use boundary::{ends_sentence, sentence_starts};
pub use chunker::{chunk, Chunk, ChunkError, ChunkOptions, Strategy};
pub use measure::{CharMeasure, Measure, TokenMeasure};
pub use pages::{chunk_pages, PageChunk, PageMark, PageSpan, PageText, PagedText};
