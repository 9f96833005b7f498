//! Ranking by words: what a text search configuration makes of a question and of chunks, scored by BM25.
//!
//! PostgreSQL finds the chunks that hold a word, by an inverted index of lexemes, and says how often each occurs; it does
//! not know how rare a word is. So a search goes in three steps, of which the SQL layer does the reading:
//!
//! 1. the question becomes lexemes, and [`terms::selecting`] says which of them are rare enough to select rows by: a chunk
//!    that has only the common ones is not among the best, and reading all that have one would be reading the table;
//! 2. the rows that have any of these come with their lexemes ([`lexemes`] reads the wire form of a `tsvector`);
//! 3. [`bm25`] scores them by all lexemes of the question.

pub mod bm25;
pub mod lexemes;
pub mod terms;
