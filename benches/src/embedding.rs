//! Embedding: 2,000 texts of mixed lengths, and one short question, in both number formats; beside sentence-transformers
//! and onnxruntime where a Python with them is given ([`crate::peers`]).
//!
//! All sides get the same token ids, so tokenising is no part of the figures. They take turns, pass by pass, and a ratio
//! is of medians of one run.

use crate::measurement::{median, median_of, seconds, Report};
use crate::peers::Peers;
use pg_rag_model::compute::Pool;
use pg_rag_model::encoder::batch::plan_batches;
use pg_rag_model::encoder::{Dtype, Encoder, EncoderOptions};
use pg_rag_model::source;
use pg_rag_protocol::message::{ModelKind, Purpose};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

const TEXTS: usize = 2000;
/// Words of the shortest and of the longest text; each doubling between them is as common as any other.
const WORDS: (f64, f64) = (6.0, 250.0);
/// Tokens of one call, as the server plans them.
const BATCH_TOKENS: usize = 1024;
/// Questions in a row, of which one turn is the median.
const QUESTIONS: usize = 20;

/// Before each turn.
const PAUSE: Duration = Duration::from_millis(300);

/// Whoever computes vectors: a format of our own, or a peer.
struct Side<'a> {
    name: String,
    texts: Box<dyn FnMut() -> Result<f64, Box<dyn Error>> + 'a>,
    question: Box<dyn FnMut() -> Result<f64, Box<dyn Error>> + 'a>,
}

pub fn run(folder: &Path, threads: usize, repeat: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let pool = Pool::new(threads)?;
    let load = |dtype| Encoder::load(folder, &EncoderOptions { dtype, ..Default::default() });
    let (single, int8) = (load(Dtype::F32)?, load(Dtype::Int8)?);
    for (name, dtype) in [("f32", Dtype::F32), ("int8", Dtype::Int8)] {
        let load_s = median(repeat, || seconds(|| load(dtype)))?;
        report.add(format!("embedding, loading the model, {name}"), load_s * 1000.0, "ms");
    }
    let hash_s = median(repeat, || seconds(|| source::inspect(ModelKind::Embed, folder)))?;
    report.add("embedding, hashing the model's files", hash_s * 1000.0, "ms");

    let mut inputs = Vec::with_capacity(TEXTS);
    for text in mixed_texts() {
        inputs.push(single.prepare(&text, Purpose::Passage)?);
    }
    let lengths: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let tokens: usize = lengths.iter().sum();
    println!("embedding: {TEXTS} texts of {:?} to {:?} tokens", lengths.iter().min(), lengths.iter().max());
    let batches: Vec<Vec<Vec<u32>>> = plan_batches(&lengths, BATCH_TOKENS)
        .into_iter()
        .map(|batch| batch.into_iter().map(|at| inputs[at].clone()).collect())
        .collect();
    let question = [single.prepare("How do I create a partial index?", Purpose::Query)?];

    let peers = Peers::start(folder, pool.threads(), &inputs, &question[0])?;
    let mut sides: Vec<Side<'_>> = Vec::new();
    for (name, encoder) in [("pg_rag", &single), ("pg_rag int8", &int8)] {
        let (batches, question, pool) = (&batches, &question, &pool);
        sides.push(Side {
            name: name.to_owned(),
            texts: Box::new(move || {
                Ok(seconds(|| batches.iter().try_for_each(|batch| encoder.embed(batch, pool).map(drop)))?)
            }),
            question: Box::new(move || Ok(seconds(|| encoder.embed(question, pool))?)),
        });
        let ours = encoder.embed(question, pool)?;
        for peer in peers.iter().flat_map(|peers| &peers.names) {
            let theirs = peers.as_ref().map(|peers| peers.vector(peer)).transpose()?.unwrap_or_default();
            report.add(format!("embedding, cosine of {name} with {peer}"), cosine(&ours, &theirs), "");
        }
    }
    for peer in peers.iter().flat_map(|peers| &peers.names) {
        let Some(peers) = &peers else { continue };
        sides.push(Side {
            name: peer.clone(),
            texts: Box::new(move || peers.seconds("texts", peer)),
            question: Box::new(move || peers.seconds("question", peer)),
        });
    }

    let texts_s = medians(&mut sides, repeat, |side| (side.texts)())?;
    let rates: Vec<f64> = texts_s.iter().map(|time| tokens as f64 / time).collect();
    add(report, "2,000 texts", &sides, &rates, "tokens/s");
    let question_s = medians(&mut sides, repeat, |side| {
        let times = (0..QUESTIONS).map(|_| (side.question)()).collect::<Result<Vec<_>, _>>()?;
        Ok(median_of(times))
    })?;
    add(report, "one question", &sides, &question_s.iter().map(|time| time * 1000.0).collect::<Vec<_>>(), "ms");
    Ok(())
}

/// The median time of each side over `repeat` turns, after one that does not count.
fn medians(
    sides: &mut [Side<'_>],
    repeat: usize,
    mut turn: impl FnMut(&mut Side<'_>) -> Result<f64, Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut times = vec![Vec::new(); sides.len()];
    for round in 0..=repeat {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            // Threads of the side before spin for a while before they sleep.
            std::thread::sleep(PAUSE);
            let time = turn(side)?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    Ok(times.into_iter().map(median_of).collect())
}

/// Every side's figure, and the ratios of ours to those of peers that compute in the same format.
fn add(report: &mut Report, what: &str, sides: &[Side<'_>], figures: &[f64], unit: &'static str) {
    for (side, figure) in sides.iter().zip(figures) {
        report.add(format!("embedding, {what}, {}", side.name), *figure, unit);
    }
    let int8 = |side: &Side<'_>| side.name.ends_with("int8");
    for (ours, our_figure) in sides.iter().zip(figures).take(2) {
        for (peer, figure) in sides.iter().zip(figures).skip(2).filter(|(peer, _)| int8(peer) == int8(ours)) {
            report.add(format!("embedding, {what}, {} to {}", ours.name, peer.name), our_figure / figure, "×");
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Texts of all lengths in mixed order, the same in every run.
fn mixed_texts() -> Vec<String> {
    const VOCABULARY: &str =
        "index table row vacuum transaction the a of reads writes database query planner snapshot \
        lock visible page buffer when each column value is are not with from that which may into before after only \
        between key order scan plan cost memory disk cache user role view function type text number date time zone \
        server client process signal error value, name. (see above) first last every other";
    let vocabulary: Vec<&str> = VOCABULARY.split(' ').collect();
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..TEXTS)
        .map(|_| {
            let share = (random() % 10_000) as f64 / 10_000.0;
            let words = WORDS.0 * (WORDS.1 / WORDS.0).powf(share);
            (0..words as usize).map(|_| vocabulary[random() % vocabulary.len()]).collect::<Vec<_>>().join(" ")
        })
        .collect()
}
