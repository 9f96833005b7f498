//! What a search is asked for besides the question, as SQL gives it, and checked.

use super::{DEFAULT_CANDIDATES, DEFAULT_RRF_K, MAX_RESULTS, RERANKED};
use crate::error::{invalid_parameter, Result};
use crate::models::catalog::{self as models, Model};
use crate::rag::catalog;
use pgrx::JsonB;
use std::rc::Rc;

/// Most chunks on each side of one that is found. A context of 8192 tokens holds some forty chunks in all.
const MAX_NEIGHBORS: i32 = 20;

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

/// The arguments of a search.
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
    /// A model that reads the question together with each of the best chunks and ranks them anew.
    pub rerank_model: Option<&'a str>,
    /// What relevance counts beside being different from what is above, from 0 to 1; None: nothing else counts.
    pub mmr_lambda: Option<f32>,
    /// Chunks of the same row that each found one is extended by, on both sides.
    pub neighbors: i32,
    /// What a summary is found for is returned in the words of the text itself.
    pub only_texts: bool,
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
            rerank_model: None,
            mmr_lambda: None,
            neighbors: 0,
            only_texts: false,
        }
    }
}

/// The same, checked.
pub struct Plan {
    pub mode: Mode,
    pub limit: usize,
    /// Chunks of each list.
    pub candidates: i64,
    pub vector_weight: f64,
    pub rrf_k: f64,
    pub min_score: Option<f32>,
    pub per_source: usize,
    pub reranker: Option<Rc<Model>>,
    /// How many of the best the reranker reads.
    pub reranked: usize,
    pub mmr_lambda: Option<f64>,
    pub neighbors: i32,
}

impl Plan {
    pub fn of(options: &Options<'_>) -> Result<Self> {
        let mode = Mode::parse(options.mode)?;
        let limit = catalog::require_count("k", options.k, MAX_RESULTS)?;
        let candidates = match options.candidates {
            Some(count) => Some(catalog::require_count("candidates", count, MAX_RESULTS)?),
            None => None,
        };
        let per_source = match options.per_source {
            Some(count) => catalog::require_count("per_source", count, MAX_RESULTS)? as usize,
            None => usize::MAX,
        };
        let share = |name: &str, value: f32| {
            if (0.0..=1.0).contains(&value) {
                Ok(f64::from(value))
            } else {
                Err(invalid_parameter(format!("{name} must be between 0 and 1, not {value}")))
            }
        };
        if !(0..=MAX_NEIGHBORS).contains(&options.neighbors) {
            return Err(invalid_parameter(format!(
                "neighbors must be between 0 and {MAX_NEIGHBORS}, not {}",
                options.neighbors
            )));
        }
        Ok(Self {
            mode,
            limit: limit as usize,
            candidates: candidates.unwrap_or(i64::from(DEFAULT_CANDIDATES)).max(limit),
            vector_weight: share("vector_weight", options.vector_weight)?,
            rrf_k: f64::from(options.rrf_k),
            min_score: options.min_score,
            per_source,
            reranker: options.rerank_model.map(|name| models::reranker(Some(name))).transpose()?,
            reranked: candidates.unwrap_or(RERANKED).max(limit) as usize,
            mmr_lambda: options.mmr_lambda.map(|lambda| share("mmr_lambda", lambda)).transpose()?,
            neighbors: options.neighbors,
        })
    }
}
