//! `rag_refresh`: bringing a chunk table up to date with its source.
//!
//! A row is cut again when the hash of what goes into its chunks has changed; a chunk is embedded again only if no
//! chunk of the same row had the same text before. The whole refresh is one transaction, so an error or a cancel
//! leaves the index as it was.

use crate::error::{OrError, Result};
use crate::functions::chunk::{chunk_all, ChunkRow, Chunking};
use crate::functions::embed::embed_all;
use crate::functions::tokens::html_to_markdown_all;
use crate::models::catalog::{self as models, Model};
use crate::pg::backend::require_writable;
use crate::rag::catalog::{self, chunk_key_column, quote, Index};
use crate::rag::progress::Report;
use crate::rag::source;
use crate::types::Vector;
use pg_rag_protocol::message::{Lane, Purpose};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::HashMap;

/// Rows that are read, cut and embedded together: enough chunks for full batches, little enough to hold in memory.
const BATCH_ROWS: i64 = 16;

/// What a refresh did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub rows: u64,
    pub chunks: u64,
    pub embedded: u64,
    pub removed_rows: u64,
}

/// A row of the source table that must be cut again.
struct Document {
    /// Key values in their text form, in the order of the key columns.
    key: Vec<String>,
    text: String,
    hash: Vec<u8>,
    /// Values of the columns that the template names.
    fields: Vec<(String, String)>,
}

/// A chunk with everything but its vector.
struct PendingChunk {
    row: ChunkRow,
    hash: Vec<u8>,
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
    let outcome = refresh(&index)?;
    Ok(TableIterator::once((
        outcome.rows as i64,
        outcome.chunks as i64,
        outcome.embedded as i64,
        outcome.removed_rows as i64,
    )))
}

/// Refreshes `index` in the current transaction.
pub fn refresh(index: &Index) -> Result<Outcome> {
    let model = models::embedding(Some(&index.model))?;
    // Two refreshes at once would cut the same rows twice; readers are not disturbed.
    Spi::run(&format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", index.chunks)).or_error()?;
    let statements = Statements::new(index)?;
    let mut outcome = Outcome { removed_rows: statements.remove_orphans()?, ..Outcome::default() };

    let total = statements.count_stale()?;
    if total == 0 {
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
    Spi::run(&format!("ANALYZE {}", index.chunks)).or_error()?;
    Ok(outcome)
}

/// Cuts, embeds and stores a batch of documents. Returns the numbers of chunks stored and of chunks embedded.
fn process(index: &Index, model: &Model, statements: &Statements, documents: &[Document]) -> Result<(u64, u64)> {
    let mut pending = cut(index, model, documents)?;
    for (document, chunks) in documents.iter().zip(pending.iter_mut()) {
        let known = statements.known_vectors(document)?;
        for chunk in chunks {
            chunk.vector = known.get(&chunk.hash).cloned();
        }
    }
    let inputs: Vec<String> =
        pending.iter().flatten().filter(|chunk| chunk.vector.is_none()).map(|chunk| chunk.input.clone()).collect();
    let embedded = inputs.len() as u64;
    let mut vectors = embed_all(model, inputs, Purpose::Passage, Lane::Bulk)?.into_iter();
    let mut stored = 0;
    for (document, chunks) in documents.iter().zip(pending) {
        statements.delete_chunks(document)?;
        for (seq, chunk) in chunks.into_iter().enumerate() {
            let vector = chunk.vector.or_else(|| vectors.next()).unwrap_or_default();
            statements.insert(document, seq as i32 + 1, &chunk.row, chunk.hash, vector)?;
            stored += 1;
        }
    }
    Ok((stored, embedded))
}

/// Cuts the documents: HTML is turned into Markdown first.
fn cut(index: &Index, model: &Model, documents: &[Document]) -> Result<Vec<Vec<PendingChunk>>> {
    let mut texts: Vec<String> = documents.iter().map(|document| document.text.clone()).collect();
    let html: Vec<usize> = (0..texts.len()).filter(|&at| looks_like_html(&texts[at])).collect();
    if !html.is_empty() {
        let converted = html_to_markdown_all(html.iter().map(|&at| std::mem::take(&mut texts[at])).collect())?;
        for (&at, markdown) in html.iter().zip(converted) {
            texts[at] = markdown;
        }
    }
    let mut rows: Vec<Vec<ChunkRow>> = Vec::with_capacity(texts.len());
    rows.resize_with(texts.len(), Vec::new);
    for strategy in ["recursive", "sentence", "markdown"] {
        let at: Vec<usize> = (0..texts.len())
            .filter(|&at| match index.strategy.as_str() {
                "auto" => strategy == if html.contains(&at) { "markdown" } else { "recursive" },
                chosen => strategy == chosen,
            })
            .collect();
        if at.is_empty() {
            continue;
        }
        let chunking = Chunking::new(strategy, index.size, index.overlap, &index.unit)?;
        let inputs: Vec<String> = at.iter().map(|&at| texts[at].clone()).collect();
        for (&at, chunks) in at.iter().zip(chunk_all(model, &inputs, &chunking)?) {
            rows[at] = chunks;
        }
    }
    Ok(documents
        .iter()
        .zip(rows)
        .map(|(document, rows)| {
            rows.into_iter()
                .map(|row| {
                    let input = fill_template(&index.template, &row, &document.fields);
                    PendingChunk { hash: sha256(&input), input, row, vector: None }
                })
                .collect()
        })
        .collect())
}

/// Whether a text is an HTML document, told by how it begins.
fn looks_like_html(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // An XML declaration or comments may come first.
    loop {
        let end = match rest {
            _ if rest.starts_with("<?xml") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            _ => break,
        };
        match rest.split_once(end) {
            Some((_, after)) => rest = after.trim_start(),
            None => return false,
        }
    }
    let start = |prefix: &str| rest.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    start("<!doctype html") || start("<html")
}

/// Replaces `{chunk}`, `{headings}` and `{column}`. One pass: braces in the values stay as they are.
fn fill_template(template: &str, chunk: &ChunkRow, fields: &[(String, String)]) -> String {
    let mut filled = String::with_capacity(template.len() + chunk.content.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        match name {
            "chunk" => filled.push_str(&chunk.content),
            "headings" => filled.push_str(&chunk.headings.join(" > ")),
            name => filled.push_str(fields.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)),
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

fn sha256(text: &str) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).to_vec()
}

/// The statements of one refresh, composed once.
struct Statements<'a> {
    index: &'a Index,
    fields: Vec<String>,
    select_stale: String,
    key_condition: String,
    insert: String,
}

impl<'a> Statements<'a> {
    fn new(index: &'a Index) -> Result<Self> {
        let fields = source::template_columns(&index.template, index.source_oid)?;
        let types = catalog::extension_schema()?;
        // What goes into the chunks: the text, and the columns that the template names.
        let hashed: Vec<_> = std::iter::once(&index.column)
            .chain(&fields)
            .map(|column| format!("coalesce(s.{}::text, '')", quote(column)))
            .collect();
        let hash = format!(
            "pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws(E'\\x1f', {}), 'UTF8'))",
            hashed.join(", ")
        );
        let key_texts: Vec<_> = index.key_columns.iter().map(|key| format!("s.{}::text", quote(key))).collect();
        let field_texts: Vec<_> =
            fields.iter().map(|column| format!("coalesce(s.{}::text, '')", quote(column))).collect();
        let column = quote(&index.column);
        let join = index.join_condition();
        let select_stale = format!(
            "SELECT ARRAY[{keys}]::text[], s.{column}::text, {hash}, ARRAY[{fields}]::text[]
               FROM {source} s
              WHERE s.{column} OPERATOR(pg_catalog.~) '\\S'
                AND NOT EXISTS (SELECT FROM {chunks} c
                                 WHERE {join} AND c.source_hash OPERATOR(pg_catalog.=) {hash})",
            keys = key_texts.join(", "),
            fields = field_texts.join(", "),
            source = index.source,
            chunks = index.chunks,
        );
        // Keys are bound as one array of texts; comparing the column's own type lets the key index be used.
        let key_condition = index
            .key_columns
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let name = quote(&chunk_key_column(key));
                let kind = catalog::column_type(&index.chunks, &chunk_key_column(key))?;
                Ok(format!("{name} OPERATOR(pg_catalog.=) (($1::text[])[{}])::{kind}", at + 1))
            })
            .collect::<Result<Vec<_>>>()?
            .join(" AND ");
        let key_names: Vec<_> = index.key_columns.iter().map(|key| quote(&chunk_key_column(key))).collect();
        let key_values = index
            .key_columns
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let kind = catalog::column_type(&index.chunks, &chunk_key_column(key))?;
                Ok(format!("(($1::text[])[{}])::{kind}", at + 1))
            })
            .collect::<Result<Vec<_>>>()?;
        let insert = format!(
            "INSERT INTO {chunks} ({keys}, chunk_seq, chunk, char_start, char_end, tokens, headings, source_hash,
                                   chunk_hash, embedding)
             VALUES ({values}, $2, $3, $4, $5, $6, $7, $8, $9, $10::{types}.vector)",
            chunks = index.chunks,
            keys = key_names.join(", "),
            values = key_values.join(", ")
        );
        Ok(Self { index, fields, select_stale, key_condition, insert })
    }

    /// Deletes the chunks of rows that are gone or whose text became NULL or blank. Returns the number of such rows.
    fn remove_orphans(&self) -> Result<u64> {
        let keys: Vec<_> = self.index.key_columns.iter().map(|key| quote(&chunk_key_column(key))).collect();
        let removed = Spi::get_one::<i64>(&format!(
            "WITH removed AS (
                 DELETE FROM {chunks} c
                  WHERE NOT EXISTS (SELECT FROM {source} s
                                     WHERE {join} AND s.{column} OPERATOR(pg_catalog.~) '\\S')
                  RETURNING {keys})
             SELECT pg_catalog.count(*) FROM (SELECT DISTINCT {keys} FROM removed) r",
            chunks = self.index.chunks,
            source = self.index.source,
            join = self.index.join_condition(),
            column = quote(&self.index.column),
            keys = keys.join(", ")
        ));
        Ok(removed.or_error()?.unwrap_or_default() as u64)
    }

    fn count_stale(&self) -> Result<i64> {
        let count = Spi::get_one::<i64>(&format!("SELECT pg_catalog.count(*) FROM ({}) stale", self.select_stale));
        Ok(count.or_error()?.unwrap_or_default())
    }

    fn fetch(&self, cursor: &str) -> Result<Vec<Document>> {
        Spi::connect(|client| {
            let mut cursor = client.find_cursor(cursor).or_error()?;
            let rows = cursor.fetch(BATCH_ROWS).or_error()?;
            let documents = rows
                .into_iter()
                .map(|row| {
                    let values = row.get::<Vec<String>>(4).or_error()?.unwrap_or_default();
                    Ok(Document {
                        key: row.get::<Vec<String>>(1).or_error()?.unwrap_or_default(),
                        text: row.get::<String>(2).or_error()?.unwrap_or_default(),
                        hash: row.get::<Vec<u8>>(3).or_error()?.unwrap_or_default(),
                        fields: self.fields.iter().cloned().zip(values).collect(),
                    })
                })
                .collect();
            cursor.detach_into_name();
            documents
        })
    }

    /// Vectors of the chunks that the row has now, by the hash of what was embedded.
    fn known_vectors(&self, document: &Document) -> Result<HashMap<Vec<u8>, Vec<f32>>> {
        let query = format!("SELECT chunk_hash, embedding FROM {} WHERE {}", self.index.chunks, self.key_condition);
        Spi::connect(|client| {
            let rows = client.select(query.as_str(), None, &[document.key.clone().into()]).or_error()?;
            rows.into_iter()
                .map(|row| {
                    let hash = row.get::<Vec<u8>>(1).or_error()?.unwrap_or_default();
                    let vector = row.get::<Vector>(2).or_error()?.map(Vector::into_elements).unwrap_or_default();
                    Ok((hash, vector))
                })
                .collect()
        })
    }

    fn delete_chunks(&self, document: &Document) -> Result<()> {
        let delete = format!("DELETE FROM {} WHERE {}", self.index.chunks, self.key_condition);
        Spi::run_with_args(&delete, &[document.key.clone().into()]).or_error()
    }

    fn insert(&self, document: &Document, seq: i32, row: &ChunkRow, hash: Vec<u8>, vector: Vec<f32>) -> Result<()> {
        let vector = Vector::new(vector)?;
        Spi::run_with_args(
            &self.insert,
            &[
                document.key.clone().into(),
                seq.into(),
                row.content.as_str().into(),
                row.char_start.into(),
                row.char_end.into(),
                row.tokens.into(),
                row.headings.clone().into(),
                document.hash.clone().into(),
                hash.into(),
                vector.into(),
            ],
        )
        .or_error()
    }
}
