//! The statements of one search. Each joins the chunks to the rows that the caller may see and that satisfy the condition.

use super::{Hit, Scored};
use crate::error::{OrError, Result};
use crate::pg::{condition, expression};
use crate::rag::catalog::{self, literal, quote, Index};
use crate::types::Vector;
use pg_rag_engine::neighbors::Piece;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::JsonB;
use std::collections::{HashMap, HashSet};

/// The statements of a search, in which `$1` is the caller's `where_args`.
pub struct Statements<'a> {
    index: &'a Index,
    /// `source s JOIN chunks c`.
    from: String,
    has_condition: bool,
    /// The schema of the vector types.
    types: String,
    where_args: Option<&'a JsonB>,
}

impl<'a> Statements<'a> {
    pub fn new(index: &'a Index, where_sql: Option<&str>, where_args: Option<&'a JsonB>) -> Result<Self> {
        // In a query of its own, the condition sees the columns of the source table and nothing else. The line break
        // ends a comment at its end.
        let source = match where_sql {
            Some(condition) => {
                require_condition(index, condition)?;
                format!("(SELECT * FROM {} WHERE ({condition}\n))", index.source)
            }
            None => index.source.clone(),
        };
        let copies = conditions_on_copies(index, where_sql)?;
        let from = format!("{source} s JOIN {} c ON {}{copies}", index.chunks, index.join_condition());
        Ok(Self { index, from, has_condition: where_sql.is_some(), types: catalog::extension_schema()?, where_args })
    }

    fn select<T>(
        &self,
        query: &str,
        arguments: Vec<DatumWithOid<'_>>,
        read: impl Fn(&pgrx::spi::SpiHeapTupleData<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let where_args = self.where_args.map(|value| JsonB(value.0.clone()));
        let mut all: Vec<DatumWithOid<'_>> = vec![where_args.into()];
        all.extend(arguments);
        Spi::connect(|client| {
            let rows = client.select(query, None, &all).or_error()?;
            rows.into_iter().map(|row| read(&row)).collect()
        })
    }

    /// The chunks nearest to a vector, with their cosine similarities.
    pub fn nearest(&self, vector: Vector, limit: i64) -> Result<Vec<Scored>> {
        let distance = format!("c.embedding OPERATOR({}.<=>) $2", self.types);
        let query = format!("SELECT c.chunk_id, {distance} FROM {} ORDER BY {distance} LIMIT $3", self.from);
        self.select(&query, vec![vector.into(), limit.into()], |row| {
            let id = row.get::<i64>(1).or_error()?.unwrap_or_default();
            Ok((id, 1.0 - row.get::<f64>(2).or_error()?.unwrap_or(f64::NAN)))
        })
    }

    /// Whether rows have to satisfy a condition.
    pub fn has_condition(&self) -> bool {
        self.has_condition
    }

    /// Chunks with one of the words of a `tsquery`, at most `limit`, with their lexemes in wire form. `all`: whether or not
    /// their rows are in the source, see [`Statements::visible`].
    pub fn having(&self, words: &str, limit: i64, all: bool) -> Result<Vec<(i64, Vec<u8>)>> {
        let of_chunks = format!("{} c", self.index.chunks);
        let query = format!(
            "SELECT c.chunk_id, pg_catalog.tsvectorsend(c.lexemes) FROM {}
              WHERE c.lexemes OPERATOR(pg_catalog.@@) $2::pg_catalog.tsquery LIMIT $3",
            if all { &of_chunks } else { &self.from }
        );
        self.select(&query, vec![words.into(), limit.into()], |row| {
            let id = row.get::<i64>(1).or_error()?.unwrap_or_default();
            Ok((id, row.get::<Vec<u8>>(2).or_error()?.unwrap_or_default()))
        })
    }

    /// Those of these chunks whose rows are in the source.
    pub fn visible(&self, ids: Vec<i64>) -> Result<HashSet<i64>> {
        let query = format!("SELECT c.chunk_id FROM {} WHERE c.chunk_id OPERATOR(pg_catalog.=) ANY ($2)", self.from);
        let found = self.select(&query, vec![ids.into()], |row| row.get::<i64>(1).or_error())?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Chunks with all that is returned of them but score and ranks, by their ids.
    pub fn read(&self, vector: Vector, ids: Vec<i64>, with_vectors: bool) -> Result<HashMap<i64, Hit>> {
        let index = self.index;
        let keys: Vec<_> = index.key_columns.iter().map(|key| format!("{}, s.{}", literal(key), quote(key))).collect();
        let title =
            index.title_column.as_ref().map_or_else(|| "NULL".to_owned(), |column| format!("s.{}", quote(column)));
        let query = format!(
            "SELECT pg_catalog.jsonb_build_object({keys}), c.chunk_seq, c.chunk, c.char_start, c.char_end,
                    c.embedding OPERATOR({types}.<=>) $2, {title}::text, c.headings, c.chunk_id, {own}, c.page, c.last_page,
                    c.summary_hash IS NOT NULL
               FROM {from} WHERE c.chunk_id OPERATOR(pg_catalog.=) ANY ($3)",
            keys = keys.join(", "),
            types = self.types,
            from = self.from,
            own = if with_vectors { "c.embedding".to_owned() } else { format!("NULL::{}.vector", self.types) },
        );
        let hits = self.select(&query, vec![vector.into(), ids.into()], |row| {
            let hit = Hit {
                score: f32::NAN,
                rerank_score: None,
                chunk_id: row.get::<i64>(9).or_error()?.unwrap_or_default(),
                source_key: row.get::<JsonB>(1).or_error()?.map_or(serde_json::Value::Null, |key| key.0),
                chunk_seq: row.get::<i32>(2).or_error()?.unwrap_or_default(),
                chunk: row.get::<String>(3).or_error()?.unwrap_or_default(),
                char_start: row.get::<i32>(4).or_error()?.unwrap_or_default(),
                char_end: row.get::<i32>(5).or_error()?.unwrap_or_default(),
                distance: row.get::<f64>(6).or_error()?.unwrap_or(f64::NAN) as f32,
                title: row.get::<String>(7).or_error()?,
                headings: row.get::<Vec<String>>(8).or_error()?.unwrap_or_default(),
                pages: match (row.get::<i32>(11).or_error()?, row.get::<i32>(12).or_error()?) {
                    (Some(first), Some(last)) => Some((first, last)),
                    _ => None,
                },
                is_summary: row.get::<bool>(13).or_error()?.unwrap_or_default(),
                vector_rank: None,
                text_rank: None,
                vector: row.get::<Vector>(10).or_error()?.map(Vector::into_elements).unwrap_or_default(),
            };
            Ok((hit.chunk_id, hit))
        })?;
        Ok(hits.into_iter().collect())
    }

    /// The `most` chunks of the text nearest to a vector under each of these summaries: summary, chunk.
    pub fn under(&self, vector: Vector, ids: Vec<i64>, most: i64) -> Result<Vec<(i64, i64)>> {
        let query = format!(
            "SELECT c.chunk_id, t.chunk_id
               FROM {from} CROSS JOIN LATERAL (
                        SELECT n.chunk_id, n.embedding OPERATOR({types}.<=>) $2 AS distance FROM {chunks} n
                         WHERE {same_row} AND n.summary_hash IS NULL
                           AND n.char_start OPERATOR(pg_catalog.<) c.char_end AND n.char_end OPERATOR(pg_catalog.>) c.char_start
                         -- Of one row: not what the index of the vectors is for.
                         ORDER BY (n.embedding OPERATOR({types}.<=>) $2) OPERATOR(pg_catalog.+) 0.0 LIMIT $4) t
              WHERE c.chunk_id OPERATOR(pg_catalog.=) ANY ($3) ORDER BY c.chunk_id, t.distance",
            from = self.from,
            types = self.types,
            chunks = self.index.chunks,
            same_row = self.same_row(),
        );
        self.select(&query, vec![vector.into(), ids.into(), most.into()], |row| {
            let id = |at: usize| -> Result<i64> { Ok(row.get::<i64>(at).or_error()?.unwrap_or_default()) };
            Ok((id(1)?, id(2)?))
        })
    }

    /// Joins chunks `n` to those of the same row.
    fn same_row(&self) -> String {
        let keys = self.index.key_columns.iter().map(|key| quote(&catalog::chunk_key_column(key)));
        keys.map(|key| format!("n.{key} OPERATOR(pg_catalog.=) c.{key}")).collect::<Vec<_>>().join(" AND ")
    }

    /// The chunks of the same row that are at most `reach` places from those with these ids: whose neighbour, place, chunk.
    pub fn around(&self, ids: Vec<i64>, reach: i32) -> Result<Vec<(i64, i32, Piece)>> {
        let query = format!(
            "SELECT c.chunk_id, n.chunk_seq, n.chunk, n.char_start, n.char_end
               FROM {from} JOIN {chunks} n ON {same_row}
              WHERE c.chunk_id OPERATOR(pg_catalog.=) ANY ($2) AND c.summary_hash IS NULL AND n.summary_hash IS NULL
                AND n.chunk_seq OPERATOR(pg_catalog.>=) (c.chunk_seq OPERATOR(pg_catalog.-) $3)
                AND n.chunk_seq OPERATOR(pg_catalog.<=) (c.chunk_seq OPERATOR(pg_catalog.+) $3)",
            from = self.from,
            chunks = self.index.chunks,
            same_row = self.same_row(),
        );
        self.select(&query, vec![ids.into(), reach.into()], |row| {
            let number = |at: usize| -> Result<i32> { Ok(row.get::<i32>(at).or_error()?.unwrap_or_default()) };
            let chars = number(4)? as usize..number(5)? as usize;
            let piece = Piece { text: row.get::<String>(3).or_error()?.unwrap_or_default(), chars };
            Ok((row.get::<i64>(1).or_error()?.unwrap_or_default(), number(2)?, piece))
        })
    }
}

/// Fails unless a condition is one expression, boolean, over the columns of the source table and no parameter but `$1`.
fn require_condition(index: &Index, condition: &str) -> Result<()> {
    let hint =
        "It is what could stand after WHERE, without the word. Values belong into where_args, which is $1 in it.";
    expression::parse_one("where_sql", condition).map_err(|failure| failure.set_hint(hint))?;
    // Analysed in a statement with one parameter: those that the searches have besides are none of its business.
    let query = format!("SELECT FROM {} WHERE ({condition}\n)", index.source);
    Spi::connect(|client| client.prepare(query.as_str(), &[PgBuiltInOids::JSONBOID.oid()]).map(drop)).or_error()
}

/// The parts of the condition that the chunk table's own columns can be tested for, each with AND before it: so the search
/// through the index of the vectors knows them. The condition itself is tested on the source all the same.
fn conditions_on_copies(index: &Index, where_sql: Option<&str>) -> Result<String> {
    let copies = index.filter_copies();
    let (Some(condition), false) = (where_sql, copies.is_empty()) else { return Ok(String::new()) };
    let chunks = catalog::read_one::<pgrx::pg_sys::Oid>(
        "SELECT pg_catalog.to_regclass($1)::oid",
        &[index.chunks.as_str().into()],
    )?;
    let Some(chunks) = chunks else { return Ok(String::new()) };
    let parts = condition::parts_over_copies(index.source_oid, condition, chunks, &copies)?;
    Ok(parts.iter().map(|part| format!(" AND {part}")).collect())
}
