//! `rag_refresh`: bringing a chunk table up to date with its source.
//!
//! A row is cut again when the hash of what goes into its chunks has changed; a chunk is embedded again only if no
//! chunk of the same row had the same text before. The whole refresh is one transaction, so an error or a cancel
//! leaves the index as it was.
//!
//! The steps are shared with `sync`, which takes them for some rows at a time: [`Statements::read`], [`prepare`],
//! [`embed`], [`Statements::store`]. Keys are handed around as the text of an array, `{"1","x"}`.

use crate::error::{OrError, Result};
use crate::functions::chunk::{chunk_all, ChunkRow, Chunking};
use crate::functions::embed::embed_all;
use crate::functions::tokens::html_to_markdown_all;
use crate::models::catalog::{self as models, Model};
use crate::pg::backend::require_writable;
use crate::pg::object_lock;
use crate::rag::catalog::{self, chunk_key_column, quote, Index};
use crate::rag::progress::Report;
use crate::rag::{source, sync};
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
#[derive(Clone)]
pub struct Document {
    /// Key values in the order of the key columns, as the text of an array.
    pub key: String,
    pub text: String,
    hash: String,
    /// Values of the columns that the template names.
    fields: Vec<(String, String)>,
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
    // Two refreshes at once would cut the same rows twice, and the worker could store older chunks; readers are not disturbed.
    sync::state::lock(index.view_oid, object_lock::Mode::Exclusive, true);
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
    let mut pending = cut(index, model, documents)?;
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

/// In hexadecimal digits.
fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`Statements::read`] found for some keys.
pub struct Read {
    /// Rows that must be cut again.
    pub stale: Vec<Document>,
    /// Keys that have chunks, or may have, but no row with a text.
    pub gone: Vec<String>,
}

/// The statements of one refresh, composed once.
pub struct Statements<'a> {
    index: &'a Index,
    fields: Vec<String>,
    select_stale: String,
    select_keys: String,
    /// Joins `c`, the chunk table, to `u.key`, the key as an array of texts.
    key_condition: String,
    insert: String,
}

impl<'a> Statements<'a> {
    pub fn new(index: &'a Index) -> Result<Self> {
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
        let hex = format!("pg_catalog.encode({hash}, 'hex')");
        let field_texts: Vec<_> =
            fields.iter().map(|column| format!("coalesce(s.{}::text, '')", quote(column))).collect();
        let column = quote(&index.column);
        let join = index.join_condition();
        let select_stale = format!(
            "SELECT ARRAY[{keys}]::text[]::text, s.{column}::text, {hex}, ARRAY[{fields}]::text[]
               FROM {source} s
              WHERE s.{column} OPERATOR(pg_catalog.~) '\\S'
                AND NOT EXISTS (SELECT FROM {chunks} c
                                 WHERE {join} AND c.source_hash OPERATOR(pg_catalog.=) {hash})",
            keys = key_texts.join(", "),
            fields = field_texts.join(", "),
            source = index.source,
            chunks = index.chunks,
        );
        // Keys are bound as texts; comparing the column's own type lets the key index be used.
        let typed_keys = index
            .key_columns
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let kind = catalog::column_type(&index.chunks, &chunk_key_column(key))?;
                Ok(format!("(u.key[{}])::{kind}", at + 1))
            })
            .collect::<Result<Vec<_>>>()?;
        let condition = |alias: &str, names: Vec<String>| {
            let pairs: Vec<_> = names
                .iter()
                .zip(&typed_keys)
                .map(|(name, value)| format!("{alias}.{} OPERATOR(pg_catalog.=) {value}", quote(name)))
                .collect();
            pairs.join(" AND ")
        };
        let key_condition = condition("c", index.key_columns.iter().map(|key| chunk_key_column(key)).collect());
        let select_keys = format!(
            "SELECT u.text, s.{column}::text, {hex}, ARRAY[{fields}]::text[],
                    coalesce(s.{column} OPERATOR(pg_catalog.~) '\\S', false),
                    EXISTS (SELECT FROM {chunks} c
                             WHERE {key_condition} AND c.source_hash OPERATOR(pg_catalog.=) {hash})
               FROM (SELECT k AS text, k::text[] AS key FROM pg_catalog.unnest($1::text[]) k) u
               LEFT JOIN {source} s ON {source_condition}",
            fields = field_texts.join(", "),
            chunks = index.chunks,
            source = index.source,
            source_condition = condition("s", index.key_columns.clone()),
        );
        let key_names: Vec<_> = index.key_columns.iter().map(|key| quote(&chunk_key_column(key))).collect();
        let insert = format!(
            "INSERT INTO {chunks} ({keys}, chunk_seq, chunk, char_start, char_end, tokens, headings, source_hash,
                                   chunk_hash, embedding)
             SELECT {values}, u.seq, u.chunk, u.char_start, u.char_end, u.tokens, u.headings, u.source_hash,
                    u.chunk_hash, u.embedding
               FROM (SELECT t.key::text[] AS key, t.seq, t.chunk, t.char_start, t.char_end, t.tokens,
                            t.headings::text[] AS headings, pg_catalog.decode(t.source_hash, 'hex') AS source_hash,
                            pg_catalog.decode(t.chunk_hash, 'hex') AS chunk_hash, t.embedding
                       FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::integer[], $6::integer[],
                                   $7::text[], $8::text[], $9::text[], $10::{types}.vector[])
                            t(key, seq, chunk, char_start, char_end, tokens, headings, source_hash, chunk_hash, embedding)
                     OFFSET 0) u",
            chunks = index.chunks,
            keys = key_names.join(", "),
            values = typed_keys.join(", ")
        );
        Ok(Self { index, fields, select_stale, select_keys, key_condition, insert })
    }

    /// Looks at the rows with these keys.
    pub fn read(&self, keys: &[String]) -> Result<Read> {
        let mut read = Read { stale: Vec::new(), gone: Vec::new() };
        Spi::connect(|client| -> Result<()> {
            let rows = client.select(self.select_keys.as_str(), None, &[keys.to_vec().into()]).or_error()?;
            for row in rows {
                let has_text = row.get::<bool>(5).or_error()?.unwrap_or_default();
                let is_current = row.get::<bool>(6).or_error()?.unwrap_or_default();
                if !has_text {
                    read.gone.push(row.get::<String>(1).or_error()?.unwrap_or_default());
                } else if !is_current {
                    read.stale.push(self.document(&row)?);
                }
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// A document from the first four columns of a row.
    fn document(&self, row: &pgrx::spi::SpiHeapTupleData<'_>) -> Result<Document> {
        let values = row.get::<Vec<String>>(4).or_error()?.unwrap_or_default();
        Ok(Document {
            key: row.get::<String>(1).or_error()?.unwrap_or_default(),
            text: row.get::<String>(2).or_error()?.unwrap_or_default(),
            hash: row.get::<String>(3).or_error()?.unwrap_or_default(),
            fields: self.fields.iter().cloned().zip(values).collect(),
        })
    }

    /// Deletes the chunks of rows that are gone or whose text became NULL or blank. Returns the number of such rows.
    pub fn remove_orphans(&self) -> Result<u64> {
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
            let documents = rows.into_iter().map(|row| self.document(&row)).collect();
            cursor.detach_into_name();
            documents
        })
    }

    /// Vectors of the chunks that these rows have now.
    pub fn known_vectors(&self, documents: &[Document]) -> Result<KnownVectors> {
        let keys: Vec<String> = documents.iter().map(|document| document.key.clone()).collect();
        let query = format!(
            "SELECT u.number, pg_catalog.encode(c.chunk_hash, 'hex'), c.embedding
               FROM (SELECT number, k::text[] AS key FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY t(k, number)) u
               JOIN {} c ON {}",
            self.index.chunks, self.key_condition
        );
        Spi::connect(|client| {
            let rows = client.select(query.as_str(), None, &[keys.into()]).or_error()?;
            rows.into_iter()
                .map(|row| {
                    let number = row.get::<i64>(1).or_error()?.unwrap_or(1) as usize;
                    let hash = row.get::<String>(2).or_error()?.unwrap_or_default();
                    let vector = row.get::<Vector>(3).or_error()?.map(Vector::into_elements).unwrap_or_default();
                    Ok(((number - 1, hash), vector))
                })
                .collect()
        })
    }

    /// Deletes the chunks of these rows.
    pub fn delete(&self, keys: Vec<String>) -> Result<()> {
        let delete = format!(
            "DELETE FROM {} c USING (SELECT k::text[] AS key FROM pg_catalog.unnest($1::text[]) k) u WHERE {}",
            self.index.chunks, self.key_condition
        );
        Spi::run_with_args(&delete, &[keys.into()]).or_error()
    }

    /// Replaces the chunks of these documents. Returns how many there are now.
    pub fn store(&self, documents: &[Document], pending: Vec<Vec<PendingChunk>>) -> Result<u64> {
        self.delete(documents.iter().map(|document| document.key.clone()).collect())?;
        let mut rows = Rows::default();
        for (document, chunks) in documents.iter().zip(pending) {
            for (at, chunk) in chunks.into_iter().enumerate() {
                rows.push(document, at as i32 + 1, chunk)?;
            }
        }
        let stored = rows.keys.len() as u64;
        if stored > 0 {
            rows.insert(&self.insert)?;
        }
        Ok(stored)
    }
}

/// Rows of a chunk table, by column.
#[derive(Default)]
struct Rows {
    keys: Vec<String>,
    seqs: Vec<i32>,
    chunks: Vec<String>,
    starts: Vec<i32>,
    ends: Vec<i32>,
    tokens: Vec<i32>,
    headings: Vec<String>,
    source_hashes: Vec<String>,
    chunk_hashes: Vec<String>,
    vectors: Vec<Vector>,
}

impl Rows {
    fn push(&mut self, document: &Document, seq: i32, chunk: PendingChunk) -> Result<()> {
        self.vectors.push(Vector::new(chunk.vector.unwrap_or_default())?);
        self.keys.push(document.key.clone());
        self.seqs.push(seq);
        self.chunks.push(chunk.row.content);
        self.starts.push(chunk.row.char_start);
        self.ends.push(chunk.row.char_end);
        self.tokens.push(chunk.row.tokens);
        self.headings.push(array_text(&chunk.row.headings));
        self.source_hashes.push(document.hash.clone());
        self.chunk_hashes.push(chunk.hash);
        Ok(())
    }

    fn insert(self, statement: &str) -> Result<()> {
        Spi::run_with_args(
            statement,
            &[
                self.keys.into(),
                self.seqs.into(),
                self.chunks.into(),
                self.starts.into(),
                self.ends.into(),
                self.tokens.into(),
                self.headings.into(),
                self.source_hashes.into(),
                self.chunk_hashes.into(),
                self.vectors.into(),
            ],
        )
        .or_error()
    }
}

/// Texts as PostgreSQL reads an array of them.
pub fn array_text<T: AsRef<str>>(values: &[T]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| element_text(value.as_ref())).collect();
    format!("{{{}}}", quoted.join(","))
}

/// One element: quoted unless it is a number or a word, so that a key has one form, whoever writes it.
fn element_text(value: &str) -> String {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_plain && !value.is_empty() && !value.eq_ignore_ascii_case("null") {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
