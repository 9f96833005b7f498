//! Generation: prefill of a prompt as long as an answer's, and decoding after it.

use crate::measurement::Report;
use pg_rag_model::compute::Pool;
use pg_rag_model::decoder::{Decoder, Generation, Step};
use pg_rag_model::source::gguf_file;
use pg_rag_protocol::message::{ChatMessage, GenerateParams, Role};
use std::path::Path;
use std::sync::Arc;

/// Sentences of the prompt (about 1,000 tokens in all), and tokens to produce.
const PROMPT_SENTENCES: usize = 60;
const NEW_TOKENS: u32 = 64;

pub fn run(folder: &Path, threads: usize, repeat: usize, report: &mut Report) -> pg_rag_model::Result<()> {
    let pool = Pool::new(threads)?;
    let decoder = Arc::new(Decoder::load(&gguf_file(folder)?)?);
    let sentences: Vec<_> = (0..PROMPT_SENTENCES)
        .map(|at| format!("Section {at} explains how a table, an index and a snapshot work together."))
        .collect();
    let content = format!("{}\nSummarize this text at length.", sentences.join(" "));
    let prompt = decoder.prompt_tokens(&[ChatMessage { role: Role::User, content }])?;
    let params = GenerateParams {
        max_tokens: NEW_TOKENS,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repeat_penalty: 1.1,
        seed: 0,
        stop: Vec::new(),
    };
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        let mut generation = Generation::new(Arc::clone(&decoder), prompt.clone(), params.clone())?;
        while !matches!(generation.step(&pool, &|| false)?, Step::Finished(_)) {}
        let usage = generation.usage();
        prefill.push(f64::from(usage.prompt_tokens) * 1000.0 / f64::from(usage.prefill_ms));
        decode.push(f64::from(usage.completion_tokens) * 1000.0 / f64::from(usage.decode_ms));
    }
    for values in [&mut prefill, &mut decode] {
        values.sort_by(f64::total_cmp);
    }
    report.add(format!("generation, prefill of {} tokens", prompt.len()), prefill[repeat / 2], "tokens/s");
    report.add(format!("generation, decoding after {} tokens", prompt.len()), decode[repeat / 2], "tokens/s");
    Ok(())
}
