//! `rag_search`.

use super::{search, Options};
use crate::error::{required, Result};
use crate::rag::catalog;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB};

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)] // arguments and columns of the SQL function
fn rag_search(
    question: Option<&str>,
    index: Option<pg_sys::Oid>,
    k: Option<i32>,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    min_score: Option<f32>,
    mode: Option<&str>,
    candidates: Option<i32>,
    vector_weight: Option<f32>,
    per_source: Option<i32>,
    rrf_k: Option<i32>,
    rerank_model: Option<&str>,
    mmr_lambda: Option<f32>,
    neighbors: Option<i32>,
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
            name!(vector_rank, Option<i32>),
            name!(text_rank, Option<i32>),
            name!(metadata, JsonB),
            name!(rerank_score, Option<f32>),
        ),
    >,
> {
    let Some(question) = question else { return Ok(TableIterator::empty()) };
    let index = catalog::resolve(index)?;
    let options = Options {
        k: required("k", k)?,
        mode: required("mode", mode)?,
        where_sql,
        where_args,
        min_score,
        candidates,
        vector_weight: required("vector_weight", vector_weight)?,
        per_source,
        rrf_k: required("rrf_k", rrf_k)?,
        rerank_model,
        mmr_lambda,
        neighbors: required("neighbors", neighbors)?,
        only_texts: false,
    };
    let hits = search(&index, &[question], &options)?;
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
            hit.vector_rank,
            hit.text_rank,
            metadata,
            hit.rerank_score,
        )
    })))
}
