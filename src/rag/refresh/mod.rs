//! `rag_refresh`: bringing a chunk table up to date with its source.
//!
//! A row is cut again when the hash of what goes into its chunks has changed; a chunk is embedded again only if no
//! chunk of the same row had the same text before. The whole refresh is one transaction, so an error or a cancel
//! leaves the index as it was.
//!
//! The steps are shared with `sync`, which takes them for some rows at a time: [`Statements::read`], [`prepare`],
//! [`embed`], [`Statements::store`]. Keys are handed around as the text of an array, `{"1","x"}`.

mod cut;
mod statements;

use crate::error::{OrError, Result};
use crate::functions::chunk::ChunkRow;
use crate::functions::embed::embed_all;
use crate::models::catalog::{self as models, Model};
use crate::pg::backend::require_writable;
use crate::pg::object_lock;
use crate::rag::catalog::{self, Index};
use crate::rag::progress::Report;
use crate::rag::sync;
use pg_rag_protocol::message::{Lane, Purpose};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::HashMap;

pub use cut::StoredPage;
pub use statements::{array_text, Statements};

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
    row: ChunkRow,
    /// Of what is embedded, in hexadecimal digits.
    hash: String,
    /// What is embedded: the template, filled in.
    input: String,
    /// The vector, if a chunk with the same hash had it already.
    vector: Option<Vec<f32>>,
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
    let mut report = Report::start(&index.view, total as u64)?;
    let cursor = Spi::connect(|client| client.open_cursor(statements.select_stale.as_str(), &[]).detach_into_name());
    loop {
        let documents = statements.fetch(&cursor)?;
        if documents.is_empty() {
            break;
        }
        let (chunks, embedded) = process(index, &model, &statements, &documents)?;
        outcome.rows += documents.len() as u64;
        outcome.chunks += chunks;
        outcome.embedded += embedded;
        report.advance(documents.len() as u64, chunks, embedded)?;
    }
    Spi::connect(|client| client.find_cursor(&cursor).map(drop)).or_error()?;
    report.finish()?;
    sync::state::note_refreshed(index.view_oid)?;
    Spi::run(&format!("ANALYZE {}", index.chunks)).or_error()?;
    Ok(outcome)
}

/// Cuts, embeds and stores a batch of documents. Returns the numbers of chunks stored and of chunks embedded.
pub fn process(index: &Index, model: &Model, statements: &Statements, documents: &[Document]) -> Result<(u64, u64)> {
    let known = statements.known_vectors(documents)?;
    let mut pending = prepare(index, model, documents, &known)?;
    let embedded = embed(model, &mut pending)?;
    let stored = statements.store(documents, pending)?;
    Ok((stored, embedded))
}

/// Vectors that rows have now, by the number of the row in a batch and the hash of what was embedded.
pub type KnownVectors = HashMap<(usize, String), Vec<f32>>;

/// Cuts the documents, and gives chunks that are known already their vectors. Asks the model server, but not PostgreSQL.
pub fn prepare(
    index: &Index,
    model: &Model,
    documents: &[Document],
    known: &KnownVectors,
) -> Result<Vec<Vec<PendingChunk>>> {
    let mut pending = cut::cut(index, model, documents)?;
    if !known.is_empty() {
        for (at, chunks) in pending.iter_mut().enumerate() {
            for chunk in chunks {
                chunk.vector = known.get(&(at, chunk.hash.clone())).cloned();
            }
        }
    }
    Ok(pending)
}

/// Embeds the chunks that have no vector. Returns how many these were.
pub fn embed(model: &Model, pending: &mut [Vec<PendingChunk>]) -> Result<u64> {
    let inputs: Vec<String> =
        pending.iter().flatten().filter(|chunk| chunk.vector.is_none()).map(|chunk| chunk.input.clone()).collect();
    let embedded = inputs.len() as u64;
    let mut vectors = embed_all(model, inputs, Purpose::Passage, Lane::Bulk)?.into_iter();
    for chunk in pending.iter_mut().flatten().filter(|chunk| chunk.vector.is_none()) {
        chunk.vector = vectors.next();
    }
    Ok(embedded)
}
