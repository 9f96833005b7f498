//! The statements by which chunks are compared with their rows, and replaced.

use super::summaries::KnownSummaries;
use super::{Document, Known, KnownVectors, PendingChunk, Prepared};
use crate::error::{OrError, Result};
use crate::rag::catalog::{self, chunk_key_column, quote, Index};
use crate::rag::source;
use crate::types::Vector;
use pgrx::prelude::*;

/// Rows that are read, cut and embedded together: enough chunks for full batches, little enough to hold in memory.
const BATCH_ROWS: i64 = 16;

/// What [`Statements::read`] found for some keys.
pub struct Read {
    /// Rows that must be cut again.
    pub stale: Vec<Document>,
    /// Rows whose text is in the index as it is, if they were asked for.
    pub current: Vec<Document>,
    /// Keys that have chunks, or may have, but no row with a text.
    pub gone: Vec<String>,
}

/// The statements of one refresh, composed once.
pub struct Statements<'a> {
    index: &'a Index,
    fields: Vec<String>,
    pub select_stale: String,
    select_keys: String,
    /// Joins `c`, the chunk table, to `u.key`, the key as an array of texts.
    key_condition: String,
    insert: String,
    /// Chunk tables whose summaries are taken over: the own one, and that of the index which this one replaces.
    summarized: Vec<String>,
}

impl<'a> Statements<'a> {
    pub fn new(index: &'a Index) -> Result<Self> {
        let fields = source::template_columns(&index.template, index.source_oid)?;
        let types = catalog::extension_schema()?;
        // What goes into the chunks: the text, the columns that the template names, and what is kept beside them.
        let hashed: Vec<_> = std::iter::once(&index.column)
            .chain(&fields)
            .chain(&index.filter_columns)
            .chain(&index.pages_column)
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
        let pages =
            index.pages_column.as_ref().map_or_else(|| "NULL".to_owned(), |pages| format!("s.{}", quote(pages)));
        let row_condition = index.row_condition();
        let join = index.join_condition();
        let select_stale = format!(
            "SELECT ARRAY[{keys}]::text[]::text, s.{column}::text, {hex}, ARRAY[{fields}]::text[], {pages}::text
               FROM {source} s
              WHERE {row_condition}
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
            "SELECT u.text, s.{column}::text, {hex}, ARRAY[{fields}]::text[], {pages}::text,
                    coalesce({row_condition}, false),
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
        // Values of filter columns are those that the row has now: a row that has changed since it was read comes again.
        let copies = index.filter_copies();
        let (filter_names, filter_values): (Vec<_>, Vec<_>) = copies
            .iter()
            .map(|(column, copy)| (format!(", {}", quote(copy)), format!(", s.{}", quote(column))))
            .unzip();
        let row = match copies.is_empty() {
            true => String::new(),
            false => format!("JOIN {} s ON {}", index.source, condition("s", index.key_columns.clone())),
        };
        let insert = format!(
            "INSERT INTO {chunks} ({keys}, chunk_seq, chunk, char_start, char_end, tokens, headings, source_hash,
                                   chunk_hash, embedding, page, last_page, summary_hash{filter_names})
             SELECT {values}, u.seq, u.chunk, u.char_start, u.char_end, u.tokens, u.headings, u.source_hash,
                    u.chunk_hash, u.embedding, u.page, u.last_page, u.summary_hash{filter_values}
               FROM (SELECT t.key::text[] AS key, t.seq, t.chunk, t.char_start, t.char_end, t.tokens,
                            t.headings::text[] AS headings, pg_catalog.decode(t.source_hash, 'hex') AS source_hash,
                            pg_catalog.decode(t.chunk_hash, 'hex') AS chunk_hash, t.embedding, t.page, t.last_page,
                            pg_catalog.decode(t.summary_hash, 'hex') AS summary_hash
                       FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::integer[], $6::integer[],
                                   $7::text[], $8::text[], $9::text[], $10::{types}.vector[], $11::integer[], $12::integer[],
                                   $13::text[])
                            t(key, seq, chunk, char_start, char_end, tokens, headings, source_hash, chunk_hash, embedding,
                              page, last_page, summary_hash)
                     OFFSET 0) u {row}",
            chunks = index.chunks,
            keys = key_names.join(", "),
            values = typed_keys.join(", "),
            filter_names = filter_names.concat(),
            filter_values = filter_values.concat(),
        );
        Ok(Self { index, fields, select_stale, select_keys, key_condition, insert, summarized: summarized(index) })
    }

    /// Looks at the rows with these keys.
    pub fn read(&self, keys: &[String], with_current: bool) -> Result<Read> {
        let mut read = Read { stale: Vec::new(), current: Vec::new(), gone: Vec::new() };
        Spi::connect(|client| -> Result<()> {
            let rows = client.select(self.select_keys.as_str(), None, &[keys.to_vec().into()]).or_error()?;
            for row in rows {
                let has_text = row.get::<bool>(6).or_error()?.unwrap_or_default();
                let is_current = row.get::<bool>(7).or_error()?.unwrap_or_default();
                if !has_text {
                    read.gone.push(row.get::<String>(1).or_error()?.unwrap_or_default());
                } else if !is_current {
                    read.stale.push(self.document(&row)?);
                } else if with_current {
                    read.current.push(self.document(&row)?);
                }
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// A document from the first five columns of a row.
    fn document(&self, row: &pgrx::spi::SpiHeapTupleData<'_>) -> Result<Document> {
        let values = row.get::<Vec<String>>(4).or_error()?.unwrap_or_default();
        Ok(Document {
            key: row.get::<String>(1).or_error()?.unwrap_or_default(),
            text: row.get::<String>(2).or_error()?.unwrap_or_default(),
            hash: row.get::<String>(3).or_error()?.unwrap_or_default(),
            fields: self.fields.iter().cloned().zip(values).collect(),
            pages: row.get::<String>(5).or_error()?,
        })
    }

    /// Deletes the chunks of rows that are gone, are indexed no more, or have no text any more. Returns the number of such
    /// rows.
    pub fn remove_orphans(&self) -> Result<u64> {
        let keys: Vec<_> = self.index.key_columns.iter().map(|key| quote(&chunk_key_column(key))).collect();
        let removed = Spi::get_one::<i64>(&format!(
            "WITH removed AS (
                 DELETE FROM {chunks} c
                  WHERE NOT EXISTS (SELECT FROM {source} s
                                     WHERE {join} AND {row})
                  RETURNING {keys})
             SELECT pg_catalog.count(*) FROM (SELECT DISTINCT {keys} FROM removed) r",
            chunks = self.index.chunks,
            source = self.index.source,
            join = self.index.join_condition(),
            row = self.index.row_condition(),
            keys = keys.join(", ")
        ));
        Ok(removed.or_error()?.unwrap_or_default() as u64)
    }

    pub fn count_stale(&self) -> Result<i64> {
        let count = Spi::get_one::<i64>(&format!("SELECT pg_catalog.count(*) FROM ({}) stale", self.select_stale));
        Ok(count.or_error()?.unwrap_or_default())
    }

    pub fn fetch(&self, cursor: &str) -> Result<Vec<Document>> {
        Spi::connect(|client| {
            let mut cursor = client.find_cursor(cursor).or_error()?;
            let rows = cursor.fetch(BATCH_ROWS).or_error()?;
            let documents = rows.into_iter().map(|row| self.document(&row)).collect();
            cursor.detach_into_name();
            documents
        })
    }

    /// What these rows have now that need not be made again.
    pub fn known(&self, documents: &[Document]) -> Result<Known> {
        Ok(Known { vectors: self.known_vectors(documents)?, summaries: self.known_summaries(documents)? })
    }

    /// The summaries that these rows have in the index.
    pub fn own_summaries(&self, documents: &[Document]) -> Result<KnownSummaries> {
        self.summaries_in(self.summarized.get(..1).unwrap_or_default(), documents)
    }

    /// The same, and those that they have in the index which this one replaces.
    pub fn known_summaries(&self, documents: &[Document]) -> Result<KnownSummaries> {
        self.summaries_in(&self.summarized, documents)
    }

    fn summaries_in(&self, tables: &[String], documents: &[Document]) -> Result<KnownSummaries> {
        let mut known = KnownSummaries::new();
        if documents.is_empty() {
            return Ok(known);
        }
        let keys: Vec<String> = documents.iter().map(|document| document.key.clone()).collect();
        for chunks in tables {
            let query = format!(
                "SELECT u.number, pg_catalog.encode(c.summary_hash, 'hex'), c.chunk
                   FROM (SELECT number, k::text[] AS key FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY t(k, number)) u
                   JOIN {chunks} c ON {} WHERE c.summary_hash IS NOT NULL",
                self.key_condition
            );
            Spi::connect(|client| -> Result<()> {
                for row in client.select(query.as_str(), None, &[keys.clone().into()]).or_error()? {
                    let number = row.get::<i64>(1).or_error()?.unwrap_or(1) as usize;
                    let hash = row.get::<String>(2).or_error()?.unwrap_or_default();
                    known.insert((number - 1, hash), row.get::<String>(3).or_error()?.unwrap_or_default());
                }
                Ok(())
            })?;
        }
        Ok(known)
    }

    /// Vectors of the chunks that these rows have now.
    fn known_vectors(&self, documents: &[Document]) -> Result<KnownVectors> {
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
    pub fn store(&self, documents: &[Document], prepared: Vec<Prepared>) -> Result<u64> {
        self.delete(documents.iter().map(|document| document.key.clone()).collect())?;
        let mut rows = Rows::default();
        for (document, prepared) in documents.iter().zip(prepared) {
            for chunk in prepared.chunks {
                rows.push(document, chunk)?;
            }
        }
        let stored = rows.keys.len() as u64;
        if stored > 0 {
            rows.insert(&self.insert)?;
        }
        Ok(stored)
    }

    /// Adds summaries to the chunks of a document.
    pub fn add_summaries(&self, document: &Document, chunks: Vec<PendingChunk>) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::default();
        for chunk in chunks {
            rows.push(document, chunk)?;
        }
        rows.insert(&self.insert)
    }
}

/// Chunk tables with summaries that an index may take over.
fn summarized(index: &Index) -> Vec<String> {
    if index.summaries.is_none() {
        return Vec::new();
    }
    let replaced = index.replaces.and_then(|view| catalog::find(view).ok());
    // Another key finds other rows.
    let replaced = replaced.filter(|old| old.key_columns == index.key_columns).map(|old| old.chunks);
    std::iter::once(index.chunks.clone()).chain(replaced).collect()
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
    pages: Vec<Option<i32>>,
    last_pages: Vec<Option<i32>>,
    summary_hashes: Vec<Option<String>>,
}

impl Rows {
    fn push(&mut self, document: &Document, chunk: PendingChunk) -> Result<()> {
        self.vectors.push(Vector::new(chunk.vector.unwrap_or_default())?);
        self.keys.push(document.key.clone());
        self.seqs.push(chunk.seq);
        self.chunks.push(chunk.row.content);
        self.starts.push(chunk.row.char_start);
        self.ends.push(chunk.row.char_end);
        self.tokens.push(chunk.row.tokens);
        self.headings.push(array_text(&chunk.row.headings));
        self.source_hashes.push(document.hash.clone());
        self.chunk_hashes.push(chunk.hash);
        self.pages.push(chunk.row.pages.map(|(first, _)| first));
        self.last_pages.push(chunk.row.pages.map(|(_, last)| last));
        self.summary_hashes.push(chunk.summary_hash);
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
                self.pages.into(),
                self.last_pages.into(),
                self.summary_hashes.into(),
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
