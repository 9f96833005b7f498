//! `rag_search`: the chunks that answer a question best, with their source rows' keys.
//!
//! Two lists are made and fused by rank: of the chunks nearest to the question's vector, and of those that have its words,
//! by BM25 ([`words`]). Then the chunks themselves are read ([`statements`]). Everything runs with the caller's rights and
//! joins the source table in every statement, so row security and ordinary WHERE clauses of the source decide what can
//! be found and what is counted.

mod function;
mod statements;
mod words;

use crate::error::{invalid_parameter, Result};
use crate::functions::embed::embed_one;
use crate::models::catalog as models;
use crate::rag::catalog::{self, Index};
use crate::types::Vector;
use pg_rag_engine::rank::{reciprocal_rank_fusion, Fused, RankedList};
use pg_rag_protocol::message::Purpose;
use pgrx::JsonB;
use statements::Statements;
use std::collections::HashMap;

/// Most chunks that one search returns, and most that one list has.
const MAX_RESULTS: i32 = 1000;
/// Chunks of each list, unless the caller says otherwise; never fewer than are wanted.
const DEFAULT_CANDIDATES: i32 = 100;
/// The constant of rank fusion. The 60 of the paper is for many long lists; of two lists, one must be able to carry what it
/// has at its top: with 5, nDCG@10 of the benchmark's questions is .968, with 60 .964.
const DEFAULT_RRF_K: i32 = 5;

/// By what chunks are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Vectors alone: what means the same.
    Vector,
    /// Words alone.
    Text,
    /// Both, fused.
    Hybrid,
}

impl Mode {
    fn parse(name: &str) -> Result<Mode> {
        match name {
            "vector" => Ok(Mode::Vector),
            "text" => Ok(Mode::Text),
            "hybrid" => Ok(Mode::Hybrid),
            _ => Err(invalid_parameter(format!("mode must be \"vector\", \"text\" or \"hybrid\", not \"{name}\""))),
        }
    }
}

/// What a search is asked for, besides the question.
pub struct Options<'a> {
    pub k: i32,
    pub mode: &'a str,
    /// One boolean expression over the columns of the source table, in which `$1` is `where_args`. It runs with the
    /// caller's rights; it can do what the caller could do in any query.
    pub where_sql: Option<&'a str>,
    pub where_args: Option<JsonB>,
    /// The least cosine similarity of question and chunk, in every mode.
    pub min_score: Option<f32>,
    /// Chunks of each list.
    pub candidates: Option<i32>,
    /// The share of the vectors' list in the fused rank.
    pub vector_weight: f32,
    /// Most chunks of one row of the source table.
    pub per_source: Option<i32>,
    /// The constant of rank fusion: the smaller, the more the first places count.
    pub rrf_k: i32,
}

impl<'a> Options<'a> {
    /// The best `k` by both lists.
    pub fn hybrid(k: i32, where_sql: Option<&'a str>, where_args: Option<JsonB>, min_score: Option<f32>) -> Self {
        Self {
            k,
            mode: "hybrid",
            where_sql,
            where_args,
            min_score,
            candidates: None,
            vector_weight: 0.5,
            per_source: None,
            rrf_k: DEFAULT_RRF_K,
        }
    }
}

/// A found chunk.
pub struct Hit {
    /// That by which it is ranked: of vectors cosine similarity, of words BM25, of both the fused score as a share of the
    /// best possible, which a chunk has that is first in both lists.
    pub score: f32,
    pub source_key: serde_json::Value,
    pub chunk_seq: i32,
    pub chunk: String,
    pub char_start: i32,
    pub char_end: i32,
    /// Cosine distance of question and chunk.
    pub distance: f32,
    pub title: Option<String>,
    pub headings: Vec<String>,
    /// First and last page, where the text has pages.
    pub pages: Option<(i32, i32)>,
    pub vector_rank: Option<i32>,
    pub text_rank: Option<i32>,
}

impl Hit {
    fn metadata(&self) -> serde_json::Value {
        let mut metadata = serde_json::json!({ "title": self.title, "headings": self.headings });
        if let Some((first, last)) = self.pages {
            metadata["page"] = first.into();
            metadata["last_page"] = last.into();
        }
        metadata
    }
}

/// The best chunks of `index` for `question`, best first: `k` of them, if so many can be found.
pub fn search(index: &Index, question: &str, options: &Options<'_>) -> Result<Vec<Hit>> {
    let mode = Mode::parse(options.mode)?;
    let limit = catalog::require_count("k", options.k, MAX_RESULTS)?;
    let candidates = match options.candidates {
        Some(count) => catalog::require_count("candidates", count, MAX_RESULTS)?,
        None => i64::from(DEFAULT_CANDIDATES),
    }
    .max(limit);
    let per_source = match options.per_source {
        Some(count) => catalog::require_count("per_source", count, MAX_RESULTS)? as usize,
        None => usize::MAX,
    };
    if !(0.0..=1.0).contains(&options.vector_weight) {
        return Err(invalid_parameter(format!("vector_weight must be between 0 and 1, not {}", options.vector_weight)));
    }
    let model = models::embedding(Some(&index.model))?;
    let vector = embed_one(&model, question, Purpose::Query)?;
    let statements = Statements::new(index, options.where_sql, options.where_args.as_ref())?;

    let by_vector = match mode {
        Mode::Text => Vec::new(),
        _ => statements.nearest(Vector::new(vector.clone())?, candidates)?,
    };
    let by_words = match mode {
        Mode::Vector => Vec::new(),
        _ => words::best(index, &statements, question, candidates as usize)?,
    };
    let ranking = match mode {
        Mode::Vector => alone(by_vector, 0),
        Mode::Text => alone(by_words, 1),
        Mode::Hybrid => fused(&by_vector, &by_words, f64::from(options.vector_weight), f64::from(options.rrf_k))?,
    };
    take(&statements, Vector::new(vector)?, &ranking, limit as usize, per_source, options.min_score)
}

/// A chunk and the score that a list gives it.
type Scored = (i64, f64);

/// One list as a ranking; `place`: 0 for that of vectors, 1 for that of words.
fn alone(list: Vec<Scored>, place: usize) -> Vec<Fused<i64>> {
    let ranked = |(at, (id, score)): (usize, Scored)| {
        let mut ranks = vec![None, None];
        ranks[place] = Some(at + 1);
        Fused { id, score, ranks }
    };
    list.into_iter().enumerate().map(ranked).collect()
}

fn fused(by_vector: &[Scored], by_words: &[Scored], vector_weight: f64, rrf_k: f64) -> Result<Vec<Fused<i64>>> {
    let ids = |list: &[Scored]| list.iter().map(|&(id, _)| id).collect::<Vec<_>>();
    let (near, worded) = (ids(by_vector), ids(by_words));
    let lists =
        [RankedList { ids: &near, weight: vector_weight }, RankedList { ids: &worded, weight: 1.0 - vector_weight }];
    let mut fused = reciprocal_rank_fusion(&lists, rrf_k).map_err(|failure| invalid_parameter(failure.to_string()))?;
    // As a share of what a chunk has that is first in both.
    fused.iter_mut().for_each(|entry| entry.score *= rrf_k + 1.0);
    Ok(fused)
}

/// Reads the chunks of the ranking, until there are `limit` that may be returned.
fn take(
    statements: &Statements<'_>,
    vector: Vector,
    ranking: &[Fused<i64>],
    limit: usize,
    per_source: usize,
    min_score: Option<f32>,
) -> Result<Vec<Hit>> {
    let mut hits = Vec::with_capacity(limit.min(ranking.len()));
    let mut of_source: HashMap<String, usize> = HashMap::new();
    let elements = vector.into_elements();
    let step = if per_source == usize::MAX && min_score.is_none() { limit } else { 2 * limit };
    for batch in ranking.chunks(step) {
        let ids = batch.iter().map(|entry| entry.id).collect();
        let mut rows = statements.read(Vector::new(elements.clone())?, ids)?;
        for entry in batch {
            let Some(mut hit) = rows.remove(&entry.id) else { continue };
            if min_score.is_some_and(|least| 1.0 - hit.distance < least) {
                continue;
            }
            let taken = of_source.entry(hit.source_key.to_string()).or_default();
            if *taken >= per_source {
                continue;
            }
            *taken += 1;
            hit.score = entry.score as f32;
            let rank = |place: usize| entry.ranks.get(place).copied().flatten().map(|rank| rank as i32);
            (hit.vector_rank, hit.text_rank) = (rank(0), rank(1));
            hits.push(hit);
            if hits.len() == limit {
                return Ok(hits);
            }
        }
    }
    Ok(hits)
}
