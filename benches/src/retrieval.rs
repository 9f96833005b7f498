//! What 8-bit weights cost in retrieval: recall and nDCG of both number formats over documents and questions with known
//! answers.
//!
//! The folder has `documents.jsonl` (id, title, text) and `questions.jsonl` (question, relevant: ids of documents).

use crate::measurement::Report;
use pg_rag_engine::evaluate::{self, Quality};
use pg_rag_model::compute::Pool;
use pg_rag_model::encoder::batch::plan_batches;
use pg_rag_model::encoder::{Dtype, Encoder, EncoderOptions};
use pg_rag_protocol::message::Purpose;
use std::collections::HashSet;
use std::error::Error;
use std::path::Path;

/// Documents that a search returns.
const DEPTH: usize = 10;
const BATCH_TOKENS: usize = 1024;

struct Question {
    text: String,
    relevant: HashSet<String>,
}

pub fn run(model: &Path, data: &Path, threads: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let pool = Pool::new(threads)?;
    let (mut ids, mut documents, mut questions) = (Vec::new(), Vec::new(), Vec::new());
    for document in lines(&data.join("documents.jsonl"))? {
        ids.push(text(&document["id"]));
        documents.push(text(&document["text"]));
    }
    for question in lines(&data.join("questions.jsonl"))? {
        let relevant = question["relevant"].as_array().ok_or("a question without relevant documents")?;
        questions.push(Question { text: text(&question["question"]), relevant: relevant.iter().map(text).collect() });
    }
    println!("retrieval: {} questions over {} documents", questions.len(), documents.len());
    let question_texts: Vec<String> = questions.iter().map(|question| question.text.clone()).collect();
    let mut exact: Vec<f32> = Vec::new();
    for (name, dtype) in [("f32", Dtype::F32), ("int8", Dtype::Int8)] {
        let encoder = Encoder::load(model, &EncoderOptions { dtype, ..Default::default() })?;
        let vectors = embed(&encoder, &pool, &documents, Purpose::Passage)?;
        let asked = embed(&encoder, &pool, &question_texts, Purpose::Query)?;
        let Quality { recall, ndcg, .. } = quality(&encoder, &ids, &vectors, &questions, &asked);
        report.add(format!("retrieval, recall@{DEPTH}, {name}"), recall, "");
        report.add(format!("retrieval, nDCG@{DEPTH}, {name}"), ndcg, "");
        if exact.is_empty() {
            exact = vectors;
            continue;
        }
        let dims = encoder.dims();
        let cosines: Vec<f64> = exact.chunks(dims).zip(vectors.chunks(dims)).map(|(a, b)| dot(a, b)).collect();
        let mean = cosines.iter().sum::<f64>() / cosines.len().max(1) as f64;
        report.add("retrieval, cosine of f32 with int8, mean", mean, "");
        report.add("retrieval, cosine of f32 with int8, least", cosines.into_iter().fold(1.0, f64::min), "");
    }
    Ok(())
}

/// Means over the questions.
fn quality(encoder: &Encoder, ids: &[String], vectors: &[f32], questions: &[Question], asked: &[f32]) -> Quality {
    let dims = encoder.dims();
    let of = |(question, vector): (&Question, &[f32])| {
        let mut found: Vec<(f64, &String)> =
            vectors.chunks(dims).map(|document| dot(vector, document)).zip(ids).collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let ranking: Vec<bool> = found.iter().take(DEPTH).map(|(_, id)| question.relevant.contains(*id)).collect();
        evaluate::quality(&ranking, question.relevant.len(), DEPTH)
    };
    evaluate::mean(&questions.iter().zip(asked.chunks(dims)).map(of).collect::<Vec<_>>())
}

fn embed(encoder: &Encoder, pool: &Pool, texts: &[String], purpose: Purpose) -> pg_rag_model::Result<Vec<f32>> {
    let inputs = texts.iter().map(|text| encoder.prepare(text, purpose)).collect::<pg_rag_model::Result<Vec<_>>>()?;
    let lengths: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let dims = encoder.dims();
    let mut vectors = vec![0.0; inputs.len() * dims];
    for batch in plan_batches(&lengths, BATCH_TOKENS) {
        let members: Vec<_> = batch.iter().map(|&at| inputs[at].clone()).collect();
        for (vector, at) in encoder.embed(&members, pool)?.chunks(dims).zip(batch) {
            vectors[at * dims..][..dims].copy_from_slice(vector);
        }
    }
    Ok(vectors)
}

pub fn lines(path: &Path) -> Result<Vec<serde_json::Value>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Ids may be numbers.
pub fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
