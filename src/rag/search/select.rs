//! From a ranking to the chunks that are returned: read, filtered, ranked anew where that is asked for.
//!
//! Without a reranker and without diversity, chunks are read from the top until there are enough. With one of them, a pool
//! of the best is read first, since the last of it may become the first.

use super::options::Plan;
use super::statements::Statements;
use super::Hit;
use crate::error::Result;
use crate::functions::rerank::score_all;
use crate::types::Vector;
use pg_rag_engine::distance::Metric;
use pg_rag_engine::diversity::{maximal_marginal_relevance, on_scale_of};
use pg_rag_engine::rank::Fused;
use std::collections::HashMap;

/// What is returned already, as far as it keeps others out.
struct Admission {
    per_source: usize,
    neighbors: i32,
    /// Places in their rows of the chunks taken, by row.
    taken: HashMap<String, Vec<i32>>,
}

impl Admission {
    fn of(plan: &Plan) -> Self {
        Self { per_source: plan.per_source, neighbors: plan.neighbors, taken: HashMap::new() }
    }

    /// Whether a chunk may join those taken: few of a row, and none that a neighbour brings along anyway.
    fn admit(&mut self, hit: &Hit) -> bool {
        let of_row = self.taken.entry(hit.source_key.to_string()).or_default();
        let brings = |seq: i32| seq > 0 && hit.chunk_seq > 0 && (seq - hit.chunk_seq).abs() <= self.neighbors;
        let is_there = self.neighbors > 0 && of_row.iter().any(|&seq| brings(seq));
        let is_admitted = of_row.len() < self.per_source && !is_there;
        if is_admitted {
            of_row.push(hit.chunk_seq);
        }
        is_admitted
    }
}

/// The best chunks of a ranking, `plan.limit` of them if there are so many.
pub fn best(
    statements: &Statements<'_>,
    plan: &Plan,
    question: &str,
    vector: &[f32],
    ranking: &[Fused<i64>],
) -> Result<Vec<Hit>> {
    let mut admission = Admission::of(plan);
    if plan.reranker.is_none() && plan.mmr_lambda.is_none() {
        return read(statements, plan, vector, ranking, plan.limit, |hit| admission.admit(hit));
    }
    let wanted = if plan.reranker.is_some() { plan.reranked } else { (plan.candidates as usize).max(plan.limit) };
    let mut pool = read(statements, plan, vector, ranking, wanted, |_| true)?;
    if let Some(model) = &plan.reranker {
        let scores = score_all(model, question, pool.iter().map(|hit| hit.chunk.clone()).collect())?;
        for (hit, score) in pool.iter_mut().zip(scores) {
            (hit.score, hit.rerank_score) = (score, Some(score));
        }
        // Stable: equal scores stay in the order they had.
        pool.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
    let order = match plan.mmr_lambda {
        Some(lambda) => diverse(&pool, lambda, plan.limit, |hit| admission.admit(hit)),
        None => (0..pool.len()).filter(|&at| admission.admit(&pool[at])).take(plan.limit).collect(),
    };
    let mut pool: Vec<Option<Hit>> = pool.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| pool[at].take()).collect())
}

/// The order by maximal marginal relevance over the chunks' own vectors.
fn diverse(pool: &[Hit], lambda: f64, limit: usize, mut admit: impl FnMut(&Hit) -> bool) -> Vec<usize> {
    let scores: Vec<f64> = pool.iter().map(|hit| f64::from(hit.score)).collect();
    let cosines: Vec<f64> = pool.iter().map(|hit| 1.0 - f64::from(hit.distance)).collect();
    let distance = Metric::Cosine.kernel::<f32>();
    let similarity = |a: usize, b: usize| 1.0 - distance(&pool[a].vector, &pool[b].vector);
    let relevance = on_scale_of(&scores, &cosines);
    maximal_marginal_relevance(&relevance, similarity, lambda, limit, |at| admit(&pool[at]))
}

/// Reads the chunks of the ranking, until there are `limit` that may be returned.
fn read(
    statements: &Statements<'_>,
    plan: &Plan,
    vector: &[f32],
    ranking: &[Fused<i64>],
    limit: usize,
    mut admit: impl FnMut(&Hit) -> bool,
) -> Result<Vec<Hit>> {
    let mut hits = Vec::with_capacity(limit.min(ranking.len()));
    let is_selective = plan.per_source != usize::MAX || plan.min_score.is_some() || plan.neighbors > 0;
    let step = if is_selective { 2 * limit } else { limit };
    for batch in ranking.chunks(step) {
        let ids = batch.iter().map(|entry| entry.id).collect();
        let mut rows = statements.read(Vector::new(vector.to_vec())?, ids, plan.mmr_lambda.is_some())?;
        for entry in batch {
            let Some(mut hit) = rows.remove(&entry.id) else { continue };
            if plan.min_score.is_some_and(|least| 1.0 - hit.distance < least) || !admit(&hit) {
                continue;
            }
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
