//! Embedding: a batch of mixed lengths, and one short question.

use crate::measurement::{median, seconds, Report};
use pg_rag_model::compute::Pool;
use pg_rag_model::encoder::batch::plan_batches;
use pg_rag_model::encoder::{Encoder, EncoderOptions};
use pg_rag_protocol::message::Purpose;
use std::path::Path;

/// Texts of the mixed batch, and the tokens of one forward pass, as the server plans them.
const TEXTS: usize = 64;
const BATCH_TOKENS: usize = 2048;

pub fn run(folder: &Path, threads: usize, repeat: usize, report: &mut Report) -> pg_rag_model::Result<()> {
    let pool = Pool::new(threads)?;
    let encoder = Encoder::load(folder, &EncoderOptions::default())?;

    let inputs = mixed_texts()
        .iter()
        .map(|text| encoder.prepare(text, Purpose::Passage))
        .collect::<pg_rag_model::Result<Vec<_>>>()?;
    let tokens: usize = inputs.iter().map(Vec::len).sum();
    let lengths: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let batches: Vec<Vec<Vec<u32>>> = plan_batches(&lengths, BATCH_TOKENS)
        .into_iter()
        .map(|batch| batch.into_iter().map(|at| inputs[at].clone()).collect())
        .collect();
    let batch_s =
        median(repeat, || seconds(|| batches.iter().try_for_each(|batch| encoder.embed(batch, &pool).map(|_| ()))))?;
    report.add("embedding, mixed batch", tokens as f64 / batch_s, "tokens/s");

    let question = [encoder.prepare("How do I create a partial index?", Purpose::Query)?];
    let question_s = median(repeat * 10, || seconds(|| encoder.embed(&question, &pool)))?;
    report.add("embedding, one short question", question_s * 1000.0, "ms");
    Ok(())
}

/// Texts of 5 to 200 words, the same in every run.
fn mixed_texts() -> Vec<String> {
    const WORDS: [&str; 16] = [
        "index",
        "table",
        "row",
        "vacuum",
        "transaction",
        "the",
        "a",
        "of",
        "reads",
        "writes",
        "database",
        "query",
        "planner",
        "snapshot",
        "lock",
        "visible",
    ];
    (0..TEXTS)
        .map(|text| {
            let words = 5 + text * 195 / (TEXTS - 1);
            (0..words).map(|word| WORDS[(text * 7 + word * 5 + word / 16) % WORDS.len()]).collect::<Vec<_>>().join(" ")
        })
        .collect()
}
