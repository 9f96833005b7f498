//! `rerank` and `rerank_score`: how well passages answer a query, by a model that reads the two together.

use crate::error::{invalid_parameter, unexpected_response, Result};
use crate::models::catalog::{self, Model};
use crate::server::client;
use pg_rag_protocol::message::{Lane, Request, Response};
use pgrx::prelude::*;

/// One score for each passage, in one round trip; larger is better.
pub fn score_all(model: &Model, query: &str, passages: Vec<String>) -> Result<Vec<f32>> {
    if passages.is_empty() {
        return Ok(Vec::new());
    }
    let expected = passages.len();
    let request = Request::Rerank {
        model: model.reference.clone(),
        query: query.to_owned(),
        passages,
        lane: Lane::Interactive,
        caller: client::caller(),
    };
    match client::call(&request)? {
        Response::Scores { values, .. } if values.len() == expected => Ok(values),
        _ => Err(unexpected_response("one score for each passage")),
    }
}

#[pg_extern(sql = false)]
fn rerank_score(query: Option<&str>, document: Option<&str>, model: Option<&str>) -> Result<Option<f32>> {
    let (Some(query), Some(document)) = (query, document) else { return Ok(None) };
    let scores = score_all(&*catalog::reranker(model)?, query, vec![document.to_owned()])?;
    Ok(scores.first().copied())
}

/// The documents from the best to the worst, with their places in the array; NULL elements are left out.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn rerank(
    query: Option<&str>,
    documents: Option<Vec<Option<String>>>,
    top_n: Option<i32>,
    model: Option<&str>,
) -> Result<TableIterator<'static, (name!(ord, i32), name!(score, f32), name!(document, String))>> {
    let wanted = match top_n {
        None => usize::MAX,
        Some(top_n) => usize::try_from(top_n)
            .map_err(|_| invalid_parameter(format!("\"top_n\" must not be negative, but is {top_n}")))?,
    };
    let (Some(query), Some(documents)) = (query, documents) else { return Ok(TableIterator::empty()) };
    let model = catalog::reranker(model)?;
    let numbered = documents.into_iter().zip(1..).filter_map(|(document, ord)| Some((ord, document?)));
    let (places, texts): (Vec<i32>, Vec<String>) = numbered.unzip();
    let scores = score_all(&model, query, texts.clone())?;
    let mut rows: Vec<(i32, f32, String)> =
        places.into_iter().zip(scores).zip(texts).map(|((ord, score), document)| (ord, score, document)).collect();
    rows.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    rows.truncate(wanted);
    Ok(TableIterator::new(rows))
}
