//! Summaries that were found, replaced by what they summarise: an answer quotes the source, and not what a model wrote of it.

use super::options::Plan;
use super::statements::Statements;
use super::Hit;
use crate::error::Result;
use crate::types::Vector;
use std::collections::{HashMap, HashSet};

/// Chunks that a summary is replaced by: those nearest to the question.
const TEXTS: i64 = 2;

/// The hits, each summary among them replaced by chunks of its page, in its place; as many as are wanted at most.
pub fn replaced(statements: &Statements<'_>, plan: &Plan, vector: &[f32], hits: Vec<Hit>) -> Result<Vec<Hit>> {
    let summaries: Vec<i64> = hits.iter().filter(|hit| hit.is_summary).map(|hit| hit.chunk_id).collect();
    if summaries.is_empty() {
        return Ok(hits);
    }
    let mut under: HashMap<i64, Vec<i64>> = HashMap::new();
    for (summary, text) in statements.under(Vector::new(vector.to_vec())?, summaries, TEXTS)? {
        under.entry(summary).or_default().push(text);
    }
    // Chunks that were found themselves keep their places.
    let mut taken: HashSet<i64> = hits.iter().map(|hit| hit.chunk_id).collect();
    let wanted: Vec<i64> = under.values().flatten().copied().filter(|id| !taken.contains(id)).collect();
    let mut texts = statements.read(Vector::new(vector.to_vec())?, wanted, false)?;
    let mut all = Vec::with_capacity(hits.len());
    for hit in hits {
        if !hit.is_summary {
            all.push(hit);
            continue;
        }
        for id in under.remove(&hit.chunk_id).unwrap_or_default() {
            let Some(text) = texts.remove(&id).filter(|_| taken.insert(id)) else { continue };
            if plan.min_score.is_some_and(|least| 1.0 - text.distance < least) {
                continue;
            }
            let (score, rerank_score) = (hit.score, hit.rerank_score);
            all.push(Hit { score, rerank_score, vector_rank: hit.vector_rank, text_rank: hit.text_rank, ..text });
        }
    }
    all.truncate(plan.limit);
    Ok(all)
}
