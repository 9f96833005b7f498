//! `rag_search`: the chunks nearest to a question, with their source rows' keys.
//!
//! Runs with the caller's rights and always joins the source table, so row security and ordinary WHERE clauses of the
//! source decide what can be found.

use crate::error::{required, OrError, Result};
use crate::functions::embed::embed_one;
use crate::models::catalog as models;
use crate::rag::catalog::{self, literal, quote, Index};
use crate::types::Vector;
use pg_rag_protocol::message::Purpose;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB};

/// Most chunks that one search returns.
const MAX_RESULTS: i32 = 1000;

/// A found chunk.
pub struct Hit {
    /// Cosine similarity of question and chunk, at most 1.
    pub score: f32,
    pub source_key: serde_json::Value,
    pub chunk_seq: i32,
    pub chunk: String,
    pub char_start: i32,
    pub char_end: i32,
    pub distance: f32,
    pub title: Option<String>,
    pub headings: Vec<String>,
}

impl Hit {
    fn metadata(&self) -> serde_json::Value {
        serde_json::json!({ "title": self.title, "headings": self.headings })
    }
}

/// The `k` chunks of `index` nearest to `question` whose source row satisfies `where_sql`, nearest first.
///
/// `where_sql` is one boolean expression over the columns of the source table, in which `$1` is `where_args`. It runs
/// with the caller's rights; it can do what the caller could do in any query.
pub fn search(
    index: &Index,
    question: &str,
    k: i32,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    min_score: Option<f32>,
) -> Result<Vec<Hit>> {
    let limit = catalog::require_count("k", k, MAX_RESULTS)?;
    let model = models::embedding(Some(&index.model))?;
    let vector = Vector::new(embed_one(&model, question, Purpose::Query)?)?;
    let query = statement(index, where_sql)?;
    Spi::connect(|client| {
        let rows = client.select(query.as_str(), None, &[where_args.into(), vector.into(), limit.into()]).or_error()?;
        let mut hits = Vec::with_capacity(rows.len());
        for row in rows {
            let distance = row.get::<f64>(6).or_error()?.unwrap_or(f64::NAN) as f32;
            let score = 1.0 - distance;
            if min_score.is_some_and(|least| score < least) {
                break;
            }
            hits.push(Hit {
                score,
                distance,
                source_key: row.get::<JsonB>(1).or_error()?.map_or(serde_json::Value::Null, |key| key.0),
                chunk_seq: row.get::<i32>(2).or_error()?.unwrap_or_default(),
                chunk: row.get::<String>(3).or_error()?.unwrap_or_default(),
                char_start: row.get::<i32>(4).or_error()?.unwrap_or_default(),
                char_end: row.get::<i32>(5).or_error()?.unwrap_or_default(),
                title: row.get::<String>(7).or_error()?,
                headings: row.get::<Vec<String>>(8).or_error()?.unwrap_or_default(),
            });
        }
        Ok(hits)
    })
}

/// The query: `$1` where_args, `$2` the question's vector, `$3` the number of rows.
fn statement(index: &Index, where_sql: Option<&str>) -> Result<String> {
    let types = catalog::extension_schema()?;
    let keys: Vec<_> = index.key_columns.iter().map(|key| format!("{}, s.{}", literal(key), quote(key))).collect();
    let title = index.title_column.as_ref().map_or_else(|| "NULL".to_owned(), |column| format!("s.{}", quote(column)));
    // In a query of its own, the condition sees the columns of the source table and nothing else. The line break ends
    // a comment at its end.
    let source = match where_sql {
        Some(condition) => format!("(SELECT * FROM {} WHERE ({condition}\n))", index.source),
        None => index.source.clone(),
    };
    Ok(format!(
        "SELECT pg_catalog.jsonb_build_object({keys}), c.chunk_seq, c.chunk, c.char_start, c.char_end,
                c.embedding OPERATOR({types}.<=>) $2, {title}::text, c.headings
           FROM {source} s JOIN {chunks} c ON {join}
          ORDER BY c.embedding OPERATOR({types}.<=>) $2
          LIMIT $3",
        keys = keys.join(", "),
        chunks = index.chunks,
        join = index.join_condition(),
    ))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn rag_search(
    question: Option<&str>,
    index: Option<pg_sys::Oid>,
    k: Option<i32>,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    min_score: Option<f32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(rank, i32),
            name!(score, f32),
            name!(source_key, JsonB),
            name!(chunk_seq, i32),
            name!(chunk, String),
            name!(char_start, i32),
            name!(char_end, i32),
            name!(distance, f32),
            name!(metadata, JsonB),
        ),
    >,
> {
    let Some(question) = question else { return Ok(TableIterator::empty()) };
    let index = catalog::resolve(index)?;
    let hits = search(&index, question, required("k", k)?, where_sql, where_args, min_score)?;
    Ok(TableIterator::new(hits.into_iter().enumerate().map(|(at, hit)| {
        let metadata = JsonB(hit.metadata());
        (
            at as i32 + 1,
            hit.score,
            JsonB(hit.source_key),
            hit.chunk_seq,
            hit.chunk,
            hit.char_start,
            hit.char_end,
            hit.distance,
            metadata,
        )
    })))
}
