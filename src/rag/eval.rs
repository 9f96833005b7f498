//! `rag_eval`: how well an index finds what is known to be relevant, and how fast.

use crate::error::{error, invalid_parameter, required, OrError, Result};
use crate::rag::catalog::{self, Index};
use crate::rag::search::{search, Options};
use pg_rag_engine::evaluate::{mean, percentile, quality};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};
use std::time::Instant;

/// A question and the keys of the rows that answer it.
struct Case {
    question: String,
    relevant: Vec<serde_json::Value>,
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn rag_eval(
    index: Option<pg_sys::Oid>,
    testset: Option<pg_sys::Oid>,
    k: Option<i32>,
    mode: Option<&str>,
    vector_weight: Option<f32>,
    rrf_k: Option<i32>,
    rerank_model: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(questions, i32),
            name!(recall, f64),
            name!(precision, f64),
            name!(mrr, f64),
            name!(ndcg, f64),
            name!(avg_ms, f64),
            name!(p95_ms, f64),
        ),
    >,
> {
    let index = catalog::resolve(index)?;
    let k = required("k", k)?;
    let mode = required("mode", mode)?;
    let vector_weight = required("vector_weight", vector_weight)?;
    let rrf_k = required("rrf_k", rrf_k)?;
    let cases = read(&index, required("testset", testset)?)?;
    let (mut qualities, mut times_ms) = (Vec::with_capacity(cases.len()), Vec::with_capacity(cases.len()));
    for case in &cases {
        pgrx::check_for_interrupts!();
        // Rows are judged, so each is found once.
        let options = Options {
            mode,
            vector_weight,
            rrf_k,
            rerank_model,
            per_source: Some(1),
            ..Options::hybrid(k, None, None, None)
        };
        let began = Instant::now();
        let hits = search(&index, &[&case.question], &options)?;
        times_ms.push(began.elapsed().as_secs_f64() * 1000.0);
        let ranking: Vec<bool> = hits.iter().map(|hit| case.relevant.contains(&hit.source_key)).collect();
        qualities.push(quality(&ranking, case.relevant.len(), k as usize));
    }
    let mean_quality = mean(&qualities);
    Ok(TableIterator::once((
        cases.len() as i32,
        mean_quality.recall,
        mean_quality.precision,
        mean_quality.reciprocal_rank,
        mean_quality.ndcg,
        times_ms.iter().sum::<f64>() / times_ms.len() as f64,
        percentile(&mut times_ms, 0.95),
    )))
}

/// The questions of a table with the columns `question` and `relevant`; a question of which nothing is relevant says
/// nothing.
fn read(index: &Index, testset: pg_sys::Oid) -> Result<Vec<Case>> {
    let name = catalog::relation_name(testset);
    let rows: Vec<(String, serde_json::Value)> = Spi::connect(|client| {
        let query =
            format!("SELECT question::text, pg_catalog.to_jsonb(relevant) FROM {name} WHERE question IS NOT NULL");
        let rows = client.select(query.as_str(), None, &[]).or_error()?;
        rows.into_iter()
            .map(|row| {
                let relevant = row.get::<JsonB>(2).or_error()?.map_or(serde_json::Value::Null, |value| value.0);
                Ok((row.get::<String>(1).or_error()?.unwrap_or_default(), relevant))
            })
            .collect::<Result<_>>()
    })?;
    let mut cases = Vec::with_capacity(rows.len());
    for (question, relevant) in rows {
        let keys = match relevant {
            serde_json::Value::Null => continue,
            serde_json::Value::Array(keys) => keys,
            single => vec![single],
        };
        let relevant = keys.into_iter().map(|key| as_source_key(index, key)).collect::<Result<Vec<_>>>()?;
        if !relevant.is_empty() {
            cases.push(Case { question, relevant });
        }
    }
    if cases.is_empty() {
        return Err(error(
            PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
            format!("table \"{name}\" has no question with relevant rows"),
        )
        .set_hint("Each row needs a question, and in column \"relevant\" the keys of the rows that answer it."));
    }
    Ok(cases)
}

/// A key as `rag_search` gives it: an object by column. Where the key is one column, its value suffices.
fn as_source_key(index: &Index, key: serde_json::Value) -> Result<serde_json::Value> {
    match (key, index.key_columns.as_slice()) {
        (key @ serde_json::Value::Object(_), _) => Ok(key),
        (value, [column]) => Ok(serde_json::json!({ column: value })),
        (value, _) => Err(invalid_parameter(format!("{value} is not the key of a row of {}", index.source)).set_hint(
            format!("Keys of this index are objects like {{\"{}\": …}}.", index.key_columns.join("\": …, \"")),
        )),
    }
}
