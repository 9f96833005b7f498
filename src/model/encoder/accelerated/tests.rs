//! The passes of a device (a GPU where there is one, else candle's processor device): every family against its reference
//! (tests/data/encoder_families) and against the processor's own passes.

use super::super::config::{EncoderOptions, RerankerOptions};
use super::super::engine::Engine;
use super::super::reranker::Reranker;
use super::super::Encoder;
use super::*;
use crate::accelerator::testing::accelerator;
use crate::compute::Pool;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};

const FAMILIES: [&str; 7] = ["distilbert", "xlm_roberta", "mpnet", "nomic_bert", "modernbert", "jina_bert", "qwen3"];
const RERANKERS: [&str; 3] = ["bert_pair", "xlm_roberta_pair", "modernbert_pair"];

/// Of numbers of about 1: what rounding makes of sums that are added up in another order.
const ROUNDING: f32 = 3e-5;

#[derive(Deserialize)]
struct Reference {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    text: String,
    query: Prepared,
    passage: Prepared,
    /// Rows of the last hidden state of the text without a prefix, by their numbers.
    #[serde(default)]
    hidden: BTreeMap<usize, Vec<f32>>,
}

#[derive(Deserialize)]
struct Prepared {
    ids: Vec<u32>,
    vector: Vec<f32>,
}

#[derive(Deserialize)]
struct PairReference {
    entries: Vec<PairEntry>,
}

#[derive(Deserialize)]
struct PairEntry {
    query: String,
    passages: Vec<String>,
    scores: Vec<f32>,
}

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/encoder_families").join(family)
}

fn reference<T: serde::de::DeserializeOwned>(family: &str) -> T {
    serde_json::from_slice(&std::fs::read(folder(family).join("reference.json")).unwrap()).unwrap()
}

fn load(family: &str, options: &str, accelerator: &Arc<Accelerator>) -> Encoder {
    let options = EncoderOptions::from_json(options).unwrap();
    Encoder::load_on(&folder(family), &options, Some(accelerator)).unwrap_or_else(|error| panic!("{family}: {error}"))
}

fn pool() -> Pool {
    Pool::new(1).unwrap()
}

/// The largest difference of two numbers, as a part of the largest of them.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1.0, |largest: f32, x| largest.max(x.abs()));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / largest
}

fn check_vectors(family: &str, encoder: &Encoder, limit: f32) {
    let entries = reference::<Reference>(family).entries;
    let texts: Vec<&Prepared> = entries.iter().flat_map(|entry| [&entry.query, &entry.passage]).collect();
    let batch: Vec<Vec<u32>> = texts.iter().map(|text| text.ids.clone()).collect();
    let lengths: Vec<usize> = batch.iter().map(Vec::len).collect();
    assert!(lengths.iter().max() > lengths.iter().min(), "{family}: nothing is padded");
    let together = encoder.embed(&batch, &pool()).unwrap();
    for ((text, ids), together) in texts.iter().zip(&batch).zip(together.chunks(encoder.dims())) {
        let alone = encoder.embed(from_ref(ids), &pool()).unwrap();
        for (what, vector) in [("alone", &alone[..]), ("in company", together)] {
            let off = difference(vector, &text.vector);
            assert!(off < limit, "{family}, {} tokens {what}: off by {off}", ids.len());
        }
    }
}

fn check_scores(family: &str, reranker: &Reranker, limit: f32) {
    for entry in reference::<PairReference>(family).entries {
        let query = reranker.segment(&entry.query).unwrap();
        let pair = |passage: &String| reranker.pair(&query, &reranker.segment(passage).unwrap());
        let pairs: Vec<Vec<u32>> = entry.passages.iter().map(pair).collect();
        let scores = reranker.score(&pairs, &pool(), &|| false).unwrap();
        let off = difference(&scores, &entry.scores);
        assert!(off < limit, "{family}: {scores:?}, not {:?}", entry.scores);
    }
}

#[test]
fn vectors_are_those_of_the_reference_alone_and_in_company() {
    for family in FAMILIES {
        check_vectors(family, &load(family, "", &accelerator()), ROUNDING);
    }
}

#[test]
fn hidden_states_are_those_of_the_reference_and_of_the_processor() {
    let mut rows = 0;
    for family in FAMILIES {
        let encoder = load(family, "", &accelerator());
        let processor = Encoder::load(&folder(family), &EncoderOptions::default()).unwrap();
        let entries = reference::<Reference>(family).entries;
        let batch: Vec<Vec<u32>> =
            entries.iter().map(|entry| encoder.prepare_tokens(&entry.text).unwrap().ids).collect();
        let hidden = encoder.embed_tokens(&batch, &pool(), &|| false).unwrap();
        let wanted = processor.embed_tokens(&batch, &pool(), &|| false).unwrap();
        let width = encoder.token_dims();
        for (got, want) in hidden.chunks(width).zip(wanted.chunks(width)) {
            let off = difference(got, want);
            assert!(off < 1e-4, "{family}: off by {off} from the processor");
        }
        assert_eq!(hidden.len(), wanted.len());
        let mut first = 0;
        for (entry, ids) in entries.iter().zip(&batch) {
            for (row, expected) in &entry.hidden {
                let off = difference(&hidden[(first + row) * width..][..width], expected);
                assert!(off < 1e-4, "{family}: off by {off} for {:?}", entry.text);
                rows += 1;
            }
            first += ids.len();
        }
    }
    assert!(rows > 100, "only {rows} rows were compared");
}

#[test]
fn scores_are_those_of_the_reference() {
    for family in RERANKERS {
        let options = RerankerOptions::default();
        check_scores(family, &Reranker::load_on(&folder(family), &options, Some(&accelerator())).unwrap(), ROUNDING);
    }
}

#[test]
fn half_precision_keeps_the_direction() {
    for family in FAMILIES {
        let whole = load(family, "", &accelerator());
        let half = load(family, r#"{"dtype": "int8"}"#, &accelerator());
        assert!(half.resident_bytes() < whole.resident_bytes());
        for entry in reference::<Reference>(family).entries {
            let vector = half.embed(from_ref(&entry.passage.ids), &pool()).unwrap();
            let off = difference(&vector, &entry.passage.vector);
            assert!(off > 0.0 && off < 0.01, "{family}: off by {off}");
        }
    }
}

/// The same encoder with passes of so many tokens.
fn with_passes_of(mut encoder: Encoder, tokens: usize) -> Encoder {
    let Engine::Device(passes) = &mut encoder.engine else { unreachable!("a device was given") };
    passes.pass_tokens = tokens;
    encoder
}

#[test]
fn batches_are_cut_into_passes_and_leading_texts_are_done_when_something_urgent_comes_up() {
    let encoder = load("modernbert", "", &accelerator());
    let texts: Vec<Vec<u32>> =
        reference::<Reference>("modernbert").entries.into_iter().map(|entry| entry.passage.ids).collect();
    let batch = [texts.clone(), texts].concat();
    let whole = encoder.embed(&batch, &pool()).unwrap();
    let encoder = with_passes_of(encoder, 64);
    for calm_passes in [0, 1, 3, usize::MAX] {
        let asked = AtomicUsize::new(0);
        let urgent = || asked.fetch_add(1, Ordering::Relaxed) >= calm_passes;
        let some = encoder.embed_until(&batch, &pool(), &|| false, &urgent).unwrap();
        assert!(!some.is_empty() && some.len().is_multiple_of(encoder.dims()));
        assert_eq!(some.len() < whole.len(), calm_passes < usize::MAX, "{calm_passes} calm passes");
        assert!(difference(&some, &whole[..some.len()]) < ROUNDING);
    }
}

#[test]
fn passes_take_what_fits_and_one_text_at_least() {
    let texts = |lengths: &[usize]| lengths.iter().map(|length| vec![0; *length]).collect::<Vec<_>>();
    assert_eq!(leading_texts(&texts(&[5, 5, 5, 5]), 15), 3);
    assert_eq!(leading_texts(&texts(&[2, 8, 2]), 16), 2);
    assert_eq!(leading_texts(&texts(&[99, 1]), 16), 1);
    assert_eq!(leading_texts(&texts(&[0, 0, 3]), 16), 3);
}

#[test]
fn what_nobody_waits_for_and_what_is_not_of_the_model_is_an_error() {
    let encoder = load("nomic_bert", "", &accelerator());
    let ids = &reference::<Reference>("nomic_bert").entries[0].passage.ids;
    let abandoned = encoder.embed_until(from_ref(ids), &pool(), &|| true, &|| false);
    assert!(matches!(abandoned, Err(ModelError::Cancelled)), "{abandoned:?}");
    let outside = encoder.embed(&[vec![2, 1 << 20, 3]], &pool());
    assert!(matches!(outside, Err(ModelError::InvalidArgument(_))), "{outside:?}");
    let too_long = encoder.embed(&[vec![2; 1 << 16]], &pool());
    assert!(matches!(too_long, Err(ModelError::InvalidArgument(_))), "{too_long:?}");
    assert!(encoder.embed(&[], &pool()).unwrap().is_empty());
    assert_eq!(encoder.embed(&[Vec::new()], &pool()).unwrap(), vec![0.0; encoder.dims()]);
    let mixed = encoder.embed(&[Vec::new(), ids.clone()], &pool()).unwrap();
    let alone = encoder.embed(from_ref(ids), &pool()).unwrap();
    assert!(difference(&mixed[encoder.dims()..], &alone) < ROUNDING);
}
