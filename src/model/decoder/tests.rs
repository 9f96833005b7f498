//! The real model (SmolLM2-135M-Instruct, Q4_1).

use super::*;
use crate::compute::Pool;
use crate::error::ModelError;
use forward::DecodeScratch;
use kv_cache::KvCache;
use pg_rag_protocol::message::{FinishReason, GenerateParams, Role};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

fn model_path() -> PathBuf {
    let models = std::env::var_os("PG_RAG_MODELS").unwrap_or_else(|| "/usr/local/share/pg_rag/models".into());
    let path = PathBuf::from(models).join("SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "the test model {} is missing: run \"make models\"", path.display());
    path
}

fn model() -> Arc<Decoder> {
    static MODEL: OnceLock<Arc<Decoder>> = OnceLock::new();
    Arc::clone(MODEL.get_or_init(|| Arc::new(Decoder::load(&model_path()).unwrap())))
}

fn greedy(max_tokens: u32) -> GenerateParams {
    GenerateParams {
        max_tokens,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repeat_penalty: 1.0,
        seed: 1,
        stop: Vec::new(),
    }
}

fn user(content: &str) -> Vec<ChatMessage> {
    vec![ChatMessage { role: Role::User, content: content.into() }]
}

/// Runs a generation to its end.
fn finish(mut generation: Generation, pool: &Pool) -> (String, FinishReason, Generation) {
    let mut streamed = String::new();
    loop {
        match generation.step(pool).unwrap() {
            Step::Prefilling { .. } => {}
            Step::Token(text) => streamed.push_str(&text),
            Step::Finished(reason) => {
                assert_eq!(streamed, generation.text());
                return (streamed, reason, generation);
            }
        }
    }
}

fn answer(question: &str, params: GenerateParams) -> (String, FinishReason, Generation) {
    let prompt = model().prompt_tokens(&user(question)).unwrap();
    finish(Generation::new(model(), prompt, params).unwrap(), &Pool::new(2).unwrap())
}

#[test]
fn throwaway_speed() {
    let pool = Pool::new(2).unwrap();
    let text = "PostgreSQL evaluates the condition of a partial index for every row that is inserted. ".repeat(60);
    let mut ids = model().tokenizer().encode_ids(&text, false).unwrap();
    ids.truncate(1000);
    for _ in 0..3 {
        let mut generation = Generation::new(model(), ids.clone(), greedy(100)).unwrap();
        while !matches!(generation.step(&pool).unwrap(), Step::Finished(_)) {}
        let u = generation.usage();
        println!(
            "prefill {} tok {:.0} tok/s; decode {} tok {:.1} tok/s",
            u.prompt_tokens,
            u.prompt_tokens as f32 / u.prefill_ms * 1000.0,
            u.completion_tokens,
            u.completion_tokens as f32 / u.decode_ms * 1000.0
        );
    }
}

#[test]
fn greedy_answer_is_sensible_and_repeatable() {
    let (text, reason, generation) = answer("What is the capital of France?", greedy(40));
    assert!(text.contains("Paris"), "{text}");
    assert_eq!(reason, FinishReason::EndOfTurn);
    let usage = generation.usage();
    assert_eq!(usage.prompt_tokens as usize, model().prompt_tokens(&user("What is the capital of France?")).unwrap().len());
    assert!(usage.completion_tokens > 0 && usage.prefill_ms > 0.0 && usage.decode_ms > 0.0);
    assert_eq!(answer("What is the capital of France?", greedy(40)).0, text);
}
