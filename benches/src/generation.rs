//! Generation beside llama.cpp: reading a prompt of 1,000 tokens, and decoding behind 100 and 1,000 tokens of context.
//!
//! The peer is `benches/peers/generation.py`, run by the interpreter that PG_RAG_BENCH_PYTHON names, of a virtual environment
//! with llama-cpp-python. Both take the same token ids on as many threads, in turns.

use crate::measurement::{median_of, Report};
use crate::peer::Peer;
use pg_rag_model::compute::Pool;
use pg_rag_model::decoder::{Decoder, Generation, GenerationOptions, Step};
use pg_rag_model::source::gguf_file;
use pg_rag_protocol::message::{ChatMessage, GenerateParams, Role};
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Tokens of the long prompt, of the short one, and to produce.
const LONG: usize = 1000;
const SHORT: usize = 100;
const NEW_TOKENS: usize = 64;

/// Sequences that are decoded together.
const TOGETHER: usize = 4;

/// Without what has no counterpart in the peer.
const PLAIN: GenerationOptions = GenerationOptions { prefix_cache: false, speculation: false };

pub fn run(folder: &Path, threads: usize, repeat: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let pool = Pool::new(threads)?;
    let path = gguf_file(folder)?;
    let decoder = Arc::new(Decoder::load(&path)?);
    let mut ids = decoder.tokenizer().encode(&text(), false)?.ids;
    ids.truncate(LONG);
    let context = LONG + 2 * NEW_TOKENS;
    let setup = json!({"model": path, "threads": pool.threads(), "context": context});
    let mut peer = Peer::start("generation.py", &setup)?;

    let read = |ids: &[u32]| seconds_to_read(&decoder, &pool, ids, PLAIN);
    compare(report, &mut peer, repeat, &format!("generation, prefill of {LONG} tokens"), &mut || {
        let request = json!({"prefill": &ids});
        Ok((LONG as f64 / read(&ids)?.0, request, LONG as f64))
    })?;
    for len in [SHORT, LONG] {
        let ids = &ids[..len];
        compare(report, &mut peer, repeat, &format!("generation, decoding after {len} tokens"), &mut || {
            let request = json!({"decode": ids, "new_tokens": NEW_TOKENS});
            Ok((decode(&decoder, &pool, ids, PLAIN, 1)?, request, NEW_TOKENS as f64))
        })?;
    }
    own(&decoder, &pool, &ids, repeat, report)
}

/// What the peer is not asked for: several sequences at a time, a prompt that begins as the one before, guesses.
fn own(
    decoder: &Arc<Decoder>,
    pool: &Pool,
    ids: &[u32],
    repeat: usize,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let mut measure = |name: String, unit, work: &mut dyn FnMut() -> Result<f64, Box<dyn Error>>| {
        let values: Result<Vec<f64>, _> = (0..repeat).map(|_| work()).collect();
        values.map(|values| report.add(name, median_of(values), unit))
    };
    let name = format!("generation, decoding {TOGETHER} sequences after {SHORT} tokens");
    measure(name, "tokens/s", &mut || decode(decoder, pool, &ids[..SHORT], PLAIN, TOGETHER))?;
    let name = format!("generation, prefill of {LONG} tokens of which {} are known", LONG - SHORT);
    measure(name, "ms", &mut || {
        let mut other = ids.to_vec();
        other[LONG - SHORT..].reverse();
        decoder.set_prefix_cache_bytes(0);
        decoder.set_prefix_cache_bytes(1 << 30);
        let options = GenerationOptions { prefix_cache: true, ..PLAIN };
        seconds_to_read(decoder, pool, ids, options)?;
        Ok(seconds_to_read(decoder, pool, &other, options)?.0 * 1000.0)
    })?;
    // The answer is in the prompt.
    let content = format!("Repeat this text word by word:\n\n{}", &text()[..300]);
    let copied = decoder.prompt_tokens(&[ChatMessage { role: Role::User, content }])?;
    for (name, speculation) in [("without", false), ("with", true)] {
        let name = format!("generation, repeating a part of the prompt, {name} guesses");
        let options = GenerationOptions { speculation, ..PLAIN };
        measure(name, "tokens/s", &mut || decode(decoder, pool, &copied, options, 1))?;
    }
    Ok(())
}

/// What one round gives: our tokens per second, the peer's request, and the tokens of that.
type Round<'a> = &'a mut dyn FnMut() -> Result<(f64, serde_json::Value, f64), Box<dyn Error>>;

/// Measures both in turns, after a round to warm up.
fn compare(
    report: &mut Report,
    peer: &mut Option<Peer>,
    repeat: usize,
    name: &str,
    round: Round<'_>,
) -> Result<(), Box<dyn Error>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for index in 0..=repeat {
        let (rate, request, tokens) = round()?;
        let other = match peer {
            Some(peer) => Some(tokens / peer.seconds(&request)?),
            None => None,
        };
        if index > 0 {
            ours.push(rate);
            theirs.extend(other);
        }
    }
    let ours = median_of(ours);
    report.add(name, ours, "tokens/s");
    if !theirs.is_empty() {
        let theirs = median_of(theirs);
        report.add(format!("{name}, llama.cpp"), theirs, "tokens/s");
        report.add(format!("{name}, speed beside llama.cpp"), ours / theirs, "times");
    }
    Ok(())
}

fn greedy() -> GenerateParams {
    GenerateParams {
        max_tokens: NEW_TOKENS as u32,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repeat_penalty: 1.0,
        seed: 0,
        stop: Vec::new(),
        whole_sentences: false,
        json_schema: None,
    }
}

/// Seconds until the first token is known, and the generation.
fn seconds_to_read(
    decoder: &Arc<Decoder>,
    pool: &Pool,
    ids: &[u32],
    options: GenerationOptions,
) -> pg_rag_model::Result<(f64, Generation)> {
    let started = Instant::now();
    let mut generation = Generation::with_options(Arc::clone(decoder), ids.to_vec(), greedy(), options)?;
    while generation.is_prefilling() {
        generation.step(pool, &|| false)?;
    }
    Ok((started.elapsed().as_secs_f64(), generation))
}

/// Tokens per second of `count` equal sequences that advance together, their prompts not counted.
fn decode(
    decoder: &Arc<Decoder>,
    pool: &Pool,
    ids: &[u32],
    options: GenerationOptions,
    count: usize,
) -> Result<f64, Box<dyn Error>> {
    let mut generations = (0..count)
        .map(|_| seconds_to_read(decoder, pool, ids, options).map(|(_, generation)| generation))
        .collect::<pg_rag_model::Result<Vec<_>>>()?;
    let produced = |generations: &[Generation]| -> u32 {
        generations.iter().map(|generation| generation.usage().completion_tokens).sum()
    };
    let before = produced(&generations);
    let started = Instant::now();
    let mut going = true;
    while going {
        let mut together: Vec<&mut Generation> = generations.iter_mut().collect();
        let steps = Generation::step_together(&mut together, pool, &|| false);
        going = false;
        for step in steps {
            going |= !matches!(step?, Step::Finished(_));
        }
    }
    Ok(f64::from(produced(&generations) - before) / started.elapsed().as_secs_f64())
}

/// More than enough text, without much repetition, the same in every run.
fn text() -> String {
    const SUBJECTS: [&str; 8] =
        ["A table", "The planner", "Each index", "A snapshot", "The server", "A lock", "Every row", "The log"];
    const VERBS: [&str; 8] = ["reads", "writes", "needs", "finds", "keeps", "holds", "follows", "changes"];
    const OBJECTS: [&str; 9] = [
        "some pages of the file",
        "what others have left",
        "a version of the data",
        "the oldest transaction",
        "many small records",
        "its own memory",
        "an order of columns",
        "the statistics of last night",
        "a key that is unique",
    ];
    let pick = |words: &'static [&'static str], at: usize| words[at * 7919 % 104_729 % words.len()];
    (0..200)
        .map(|at| format!("{} {} {}. ", pick(&SUBJECTS, at), pick(&VERBS, at * 3 + 1), pick(&OBJECTS, at * 5 + 2)))
        .collect()
}
