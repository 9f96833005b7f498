//! `rag_search`: the chunks that answer a question best, with their source rows' keys.
//!
//! Two lists are made and fused by rank: of the chunks nearest to the question's vector, and of those that have its words,
//! by BM25 ([`words`]). Then the best chunks are read ([`statements`]), ranked anew by a model that reads them, thinned out
//! where they say the same ([`select`]), replaced by the text that they summarise where they are summaries and an answer is to be
//! made of them ([`summaries`]), and extended by their neighbours ([`neighbors`]), as the caller asks. Everything
//! runs with the caller's rights and joins the source table in every statement, so row security and ordinary WHERE clauses
//! of the source decide what can be found and what is counted.

mod function;
mod neighbors;
mod options;
mod select;
mod statements;
mod summaries;
mod words;

pub use options::Options;

use crate::error::{invalid_parameter, Result};
use crate::functions::embed::EmbeddingOfOne;
use crate::models::catalog as models;
use crate::rag::catalog::Index;
use crate::types::Vector;
use options::{Mode, Plan};
use pg_rag_engine::rank::{reciprocal_rank_fusion, Fused, RankedList};
use pg_rag_protocol::message::Purpose;
use statements::Statements;

/// Most chunks that one search returns, and most that one list has.
const MAX_RESULTS: i32 = 1000;
/// Chunks of each list, unless the caller says otherwise; never fewer than are wanted.
const DEFAULT_CANDIDATES: i32 = 100;
/// The constant of rank fusion. The 60 of the paper is for many long lists; of two lists, one must be able to carry what it
/// has at its top: with 5, nDCG@10 of the benchmark's questions is .968, with 60 .964.
const DEFAULT_RRF_K: i32 = 5;
/// Chunks that a reranker reads, unless the caller gives a number of candidates.
const RERANKED: i64 = 50;

/// A found chunk.
pub struct Hit {
    /// That by which it is ranked: of vectors cosine similarity, of words BM25, of both the fused score as a share of the
    /// best possible, which a chunk has that is first in both lists, with a reranker its score.
    pub score: f32,
    /// What the reranker says, if there is one.
    pub rerank_score: Option<f32>,
    pub chunk_id: i64,
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
    /// Whether it was written by a model, of the characters and the page that it is said to have.
    pub is_summary: bool,
    pub vector_rank: Option<i32>,
    pub text_rank: Option<i32>,
    /// The chunk's vector, where chunks are compared with one another; else empty.
    pub vector: Vec<f32>,
}

impl Hit {
    fn metadata(&self) -> serde_json::Value {
        let mut metadata = serde_json::json!({ "title": self.title, "headings": self.headings });
        if let Some((first, last)) = self.pages {
            metadata["page"] = first.into();
            metadata["last_page"] = last.into();
        }
        if self.is_summary {
            metadata["summary"] = true.into();
        }
        metadata
    }
}

/// The best chunks of `index` for a question, best first: `k` of them, if so many can be found. The question may be put in
/// several ways, the most telling first: then what is found by any of them is fused.
pub fn search(index: &Index, questions: &[&str], options: &Options<'_>) -> Result<Vec<Hit>> {
    let plan = Plan::of(options)?;
    let Some(&question) = questions.first() else { return Ok(Vec::new()) };
    let model = models::embedding(Some(&index.model))?;
    let statements = Statements::new(index, options.where_sql, options.where_args.as_ref())?;

    let mut lists = Vec::with_capacity(questions.len());
    let mut of_question = Vec::new();
    for &question in questions {
        // The model works while words are looked for.
        let embedding = EmbeddingOfOne::start(&model, question, Purpose::Query)?;
        let by_words = match plan.mode {
            Mode::Vector => Vec::new(),
            _ => words::best(index, &statements, question, plan.candidates as usize)?,
        };
        let vector = embedding.finish()?;
        if of_question.is_empty() {
            of_question.clone_from(&vector);
        }
        let by_vector = match plan.mode {
            Mode::Text => Vec::new(),
            _ => statements.nearest(Vector::new(vector)?, plan.candidates)?,
        };
        lists.push((by_vector, by_words));
    }
    let vector = of_question;
    let ranking = match (plan.mode, lists.as_mut_slice()) {
        (Mode::Vector, [(only, _)]) => alone(std::mem::take(only), 0),
        (Mode::Text, [(_, only)]) => alone(std::mem::take(only), 1),
        _ => fused(&lists, &plan)?,
    };
    let mut hits = select::best(&statements, &plan, question, &vector, &ranking)?;
    if options.only_texts && index.summaries.is_some() {
        hits = summaries::replaced(&statements, &plan, &vector, hits)?;
    }
    if plan.neighbors > 0 {
        neighbors::extend(&statements, &mut hits, plan.neighbors)?;
    }
    Ok(hits)
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

/// The lists by vectors and by words of each way to put the question, as one ranking.
fn fused(lists: &[(Vec<Scored>, Vec<Scored>)], plan: &Plan) -> Result<Vec<Fused<i64>>> {
    let ids = |list: &[Scored]| list.iter().map(|&(id, _)| id).collect::<Vec<_>>();
    let lists: Vec<_> = lists.iter().map(|(near, worded)| (ids(near), ids(worded))).collect();
    let of_vectors = match plan.mode {
        Mode::Vector => 1.0,
        Mode::Text => 0.0,
        Mode::Hybrid => plan.vector_weight,
    };
    let share = 1.0 / lists.len().max(1) as f64;
    let weighted: Vec<RankedList<'_, i64>> = lists
        .iter()
        .flat_map(|(near, worded)| {
            [
                RankedList { ids: near, weight: share * of_vectors },
                RankedList { ids: worded, weight: share * (1.0 - of_vectors) },
            ]
        })
        .collect();
    let mut fused =
        reciprocal_rank_fusion(&weighted, plan.rrf_k).map_err(|failure| invalid_parameter(failure.to_string()))?;
    // As a share of what a chunk has that is first in all.
    fused.iter_mut().for_each(|entry| entry.score *= plan.rrf_k + 1.0);
    Ok(fused)
}
