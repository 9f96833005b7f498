//! `rag_refresh`: bringing a chunk table up to date with its source.
//!
//! A row is cut again when the hash of what goes into its chunks has changed; a chunk is embedded again only if no
//! chunk of the same row had the same text before. The whole refresh is one transaction, so an error or a cancel
//! leaves the index as it was.
//!
//! Summaries of pages take seconds each. Where a worker follows the table they are left to it ([`Summarize::Later`]), else they are
//! written here.
//!
//! The steps are shared with `sync`, which takes them for some rows at a time: [`Statements::read`], [`prepare`],
//! [`embed`], [`Statements::store`]; for summaries [`missing_summaries`], [`write_summary`], [`summary_chunks`],
//! [`Statements::add_summaries`]. Keys are handed around as the text of an array, `{"1","x"}`.

mod cut;
mod statements;
mod summaries;

use crate::error::{OrError, Result};
use crate::functions::chunk::ChunkRow;
use crate::functions::embed::Embedding;
use crate::models::catalog::{self as models, Model};
use crate::pg::backend::require_writable;
use crate::pg::object_lock;
use crate::rag::catalog::{self, Index};
use crate::rag::progress::Report;
use crate::rag::sync;
use pg_rag_protocol::message::{Lane, Purpose};
use pgrx::pg_sys;
use pgrx::prelude::*;
use sha2::Digest;
use std::collections::HashMap;
use summaries::Page;

pub use cut::StoredPage;
pub use statements::{array_text, Statements};
pub use summaries::{write as write_summary, KnownSummaries};

/// What a refresh did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub rows: u64,
    pub chunks: u64,
    pub embedded: u64,
    pub removed_rows: u64,
}

/// A row of the source table that must be cut again.
#[derive(Clone)]
pub struct Document {
    /// Key values in the order of the key columns, as the text of an array.
    pub key: String,
    pub text: String,
    hash: String,
    /// Values of the columns that the template names.
    fields: Vec<(String, String)>,
    /// Where the pages of the text start, as JSON.
    pages: Option<String>,
}

/// A chunk with everything but its vector.
pub struct PendingChunk {
    /// Place in the row, from 1; negative for summaries.
    seq: i32,
    row: ChunkRow,
    /// Of what is embedded, in hexadecimal digits.
    hash: String,
    /// What is embedded: the template, filled in.
    input: String,
    /// The vector, if a chunk with the same hash had it already.
    vector: Option<Vec<f32>>,
    /// Of what it is a summary of, if it is one.
    summary_hash: Option<String>,
}

/// What a document becomes.
pub struct Prepared {
    /// Chunks of its text, and the summaries that are known.
    pub chunks: Vec<PendingChunk>,
    /// Pages whose summary is not known.
    missing: Vec<Page>,
}

impl Prepared {
    /// How many summaries are still to be written.
    pub fn missing(&self) -> i32 {
        self.missing.len() as i32
    }
}

/// Who writes summaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summarize {
    /// This call.
    Now,
    /// The worker.
    Later,
}

/// What became of a batch of documents.
#[derive(Default)]
pub struct Processed {
    pub chunks: u64,
    pub embedded: u64,
    /// Keys of documents with summaries that are still to be written, and how many these are.
    pub unfinished: Vec<(String, i32)>,
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn rag_refresh(
    index: pg_sys::Oid,
) -> Result<
    TableIterator<'static, (name!(rows, i64), name!(chunks, i64), name!(embedded, i64), name!(removed_rows, i64))>,
> {
    require_writable(c"rag_refresh()");
    let index = catalog::find(index)?;
    catalog::require_ownership(index.view_oid)?;
    let outcome = refresh(index.view_oid)?;
    Ok(TableIterator::once((
        outcome.rows as i64,
        outcome.chunks as i64,
        outcome.embedded as i64,
        outcome.removed_rows as i64,
    )))
}

/// Refreshes the index of this view in the current transaction.
pub fn refresh(view: pg_sys::Oid) -> Result<Outcome> {
    // Two refreshes at once would cut the same rows twice, and the worker could store older chunks; readers are not disturbed.
    sync::state::lock(view, object_lock::Mode::Exclusive, true);
    // Looked up under the lock: `rag_reindex` may have put other chunks behind the index before.
    let index = &catalog::find(view)?;
    let model = models::embedding(Some(&index.model))?;
    let statements = Statements::new(index)?;
    let mut outcome = Outcome { removed_rows: statements.remove_orphans()?, ..Outcome::default() };

    let total = statements.count_stale()?;
    if total == 0 {
        sync::state::note_refreshed(index.view_oid)?;
        return Ok(outcome);
    }
    let when = if sync::state::is_async(index.view_oid)? { Summarize::Later } else { Summarize::Now };
    let mut report = Report::start(&index.view, total as u64)?;
    let cursor = Spi::connect(|client| client.open_cursor(statements.select_stale.as_str(), &[]).detach_into_name());
    loop {
        let documents = statements.fetch(&cursor)?;
        if documents.is_empty() {
            break;
        }
        let done = process(index, &model, &statements, &documents, when)?;
        outcome.rows += documents.len() as u64;
        outcome.chunks += done.chunks;
        outcome.embedded += done.embedded;
        sync::leave_summaries(index.view_oid, done.unfinished)?;
        report.advance(documents.len() as u64, done.chunks, done.embedded)?;
    }
    Spi::connect(|client| client.find_cursor(&cursor).map(drop)).or_error()?;
    report.finish()?;
    sync::state::note_refreshed(index.view_oid)?;
    Spi::run(&format!("ANALYZE {}", index.chunks)).or_error()?;
    Ok(outcome)
}

/// Cuts, embeds and stores a batch of documents.
pub fn process(
    index: &Index,
    model: &Model,
    statements: &Statements,
    documents: &[Document],
    when: Summarize,
) -> Result<Processed> {
    let known = statements.known(documents)?;
    let mut prepared = prepare(index, model, documents, &known)?;
    if when == Summarize::Now {
        write_missing(index, model, documents, &mut prepared)?;
    }
    let embedded = embed(model, prepared.iter_mut().flat_map(|document| &mut document.chunks))?;
    let keyed = documents.iter().zip(&prepared).map(|(document, prepared)| (document.key.clone(), prepared.missing()));
    let unfinished = keyed.filter(|&(_, missing)| missing > 0).collect();
    let chunks = statements.store(documents, prepared)?;
    Ok(Processed { chunks, embedded, unfinished })
}

/// Writes the summaries that are missing.
fn write_missing(index: &Index, model: &Model, documents: &[Document], prepared: &mut [Prepared]) -> Result<()> {
    let Some(options) = &index.summaries else { return Ok(()) };
    if prepared.iter().all(|document| document.missing.is_empty()) {
        return Ok(());
    }
    let writer = models::generation(Some(&options.model))?;
    let mut written = Vec::new();
    for (at, document) in prepared.iter_mut().enumerate() {
        for page in std::mem::take(&mut document.missing) {
            pgrx::check_for_interrupts!();
            let summary = write_summary(&writer, options, &page)?;
            written.push((at, page, summary));
        }
    }
    for (at, chunk) in summaries::chunks(index, model, documents, written)? {
        prepared[at].chunks.push(chunk);
    }
    Ok(())
}

/// Pages whose summary is not known, of documents whose text is in the index. Asks the model server, but not PostgreSQL.
pub fn missing_summaries(index: &Index, documents: &[Document], known: &KnownSummaries) -> Result<Vec<Vec<Page>>> {
    let mut pages = cut::pages(index, documents)?;
    for (at, pages) in pages.iter_mut().enumerate() {
        pages.retain(|page| !known.contains_key(&(at, page.hash.clone())));
    }
    Ok(pages)
}

/// Summaries of a document as chunks with their vectors.
pub fn summary_chunks(
    index: &Index,
    model: &Model,
    document: &Document,
    written: Vec<(Page, String)>,
) -> Result<Vec<PendingChunk>> {
    let written = written.into_iter().map(|(page, summary)| (0, page, summary)).collect();
    let chunks = summaries::chunks(index, model, std::slice::from_ref(document), written)?;
    let mut chunks: Vec<PendingChunk> = chunks.into_iter().map(|(_, chunk)| chunk).collect();
    embed(model, &mut chunks)?;
    Ok(chunks)
}

/// Vectors that rows have now, by the number of the row in a batch and the hash of what was embedded.
pub type KnownVectors = HashMap<(usize, String), Vec<f32>>;

/// What rows have now that need not be made again.
pub struct Known {
    vectors: KnownVectors,
    summaries: KnownSummaries,
}

/// Cuts the documents, and gives chunks that are known already their vectors. Asks the model server, but not PostgreSQL.
pub fn prepare(index: &Index, model: &Model, documents: &[Document], known: &Known) -> Result<Vec<Prepared>> {
    let mut prepared = Vec::with_capacity(documents.len());
    let mut written = Vec::new();
    for (at, (chunks, pages)) in cut::cut(index, model, documents)?.into_iter().enumerate() {
        let mut missing = Vec::new();
        for page in pages {
            match known.summaries.get(&(at, page.hash.clone())) {
                Some(summary) => written.push((at, page, summary.clone())),
                None => missing.push(page),
            }
        }
        prepared.push(Prepared { chunks, missing });
    }
    for (at, chunk) in summaries::chunks(index, model, documents, written)? {
        prepared[at].chunks.push(chunk);
    }
    if !known.vectors.is_empty() {
        for (at, document) in prepared.iter_mut().enumerate() {
            for chunk in &mut document.chunks {
                chunk.vector = known.vectors.get(&(at, chunk.hash.clone())).cloned();
            }
        }
    }
    Ok(prepared)
}

/// Embeds the chunks that have no vector. Returns how many these were.
pub fn embed<'a>(model: &Model, chunks: impl IntoIterator<Item = &'a mut PendingChunk>) -> Result<u64> {
    let mut chunks: Vec<_> = chunks.into_iter().collect();
    let vectors = start_embedding(model, chunks.iter().map(|chunk| &**chunk))?.finish()?;
    let embedded = vectors.len() as u64;
    take_vectors(chunks.iter_mut().map(|chunk| &mut **chunk), vectors);
    Ok(embedded)
}

/// Sends the chunks that have no vector to the model.
pub fn start_embedding<'a>(model: &Model, chunks: impl IntoIterator<Item = &'a PendingChunk>) -> Result<Embedding> {
    let without = chunks.into_iter().filter(|chunk| chunk.vector.is_none());
    Embedding::start(model, without.map(|chunk| chunk.input.clone()).collect(), Purpose::Passage, Lane::Bulk)
}

/// Gives the chunks that have no vector theirs, which came in the same order.
pub fn take_vectors<'a>(chunks: impl IntoIterator<Item = &'a mut PendingChunk>, vectors: Vec<Vec<f32>>) {
    let without = chunks.into_iter().filter(|chunk| chunk.vector.is_none());
    without.zip(vectors).for_each(|(chunk, vector)| chunk.vector = Some(vector));
}

/// In hexadecimal digits.
fn sha256(text: &str) -> String {
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
