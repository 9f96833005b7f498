//! Every family of encoders against its reference implementation, on tiny models with random weights.
//!
//! Models and references are in tests/data/encoder_families, written by make_encoder_families.py beside it.

use pg_rag_model::compute::Pool;
use pg_rag_model::encoder::config::RerankerOptions;
use pg_rag_model::encoder::reranker::Reranker;
use pg_rag_model::encoder::{Encoder, EncoderOptions};
use pg_rag_model::{source, ModelError};
use pg_rag_protocol::message::{ModelKind, Purpose};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Folder, and the architecture that a registration shows.
const FAMILIES: [(&str, &str); 7] = [
    ("distilbert", "distilbert"),
    ("xlm_roberta", "xlm-roberta"),
    ("mpnet", "mpnet"),
    ("nomic_bert", "nomic_bert"),
    ("modernbert", "modernbert"),
    ("jina_bert", "jina_bert"),
    ("qwen3", "qwen3"),
];

/// Cross-encoders.
const RERANKERS: [(&str, &str); 3] =
    [("bert_pair", "bert"), ("xlm_roberta_pair", "xlm-roberta"), ("modernbert_pair", "modernbert")];

#[derive(Deserialize)]
struct Reference {
    max_tokens: usize,
    dims: usize,
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
    max_tokens: usize,
    entries: Vec<PairEntry>,
}

#[derive(Deserialize)]
struct PairEntry {
    query: String,
    passages: Vec<String>,
    scores: Vec<f32>,
    ids: Vec<Vec<u32>>,
    /// Of each token the segment, where the model knows any.
    types: Option<Vec<Vec<u32>>>,
}

fn pair_reference(family: &str) -> PairReference {
    serde_json::from_slice(&std::fs::read(folder(family).join("reference.json")).unwrap()).unwrap()
}

fn load_reranker(family: &str, options: &str) -> Reranker {
    let options = RerankerOptions::from_json(options).unwrap();
    Reranker::load(&folder(family), &options).unwrap_or_else(|error| panic!("{family}: {error}"))
}

/// The pair as the model takes it.
fn pair(reranker: &Reranker, query: &str, passage: &str) -> Vec<u32> {
    reranker.pair(&reranker.segment(query).unwrap(), &reranker.segment(passage).unwrap())
}

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/encoder_families").join(family).canonicalize().unwrap()
}

fn reference(family: &str) -> Reference {
    serde_json::from_slice(&std::fs::read(folder(family).join("reference.json")).unwrap()).unwrap()
}

fn load(family: &str, options: &str) -> Encoder {
    let options = EncoderOptions::from_json(options).unwrap();
    Encoder::load(&folder(family), &options).unwrap_or_else(|error| panic!("{family}: {error}"))
}

fn pool(threads: usize) -> Pool {
    Pool::new(threads).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The largest difference of two numbers, as a part of the largest of them.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1.0, |largest: f32, x| largest.max(x.abs()));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn token_ids_are_those_of_the_reference() {
    for (family, _) in FAMILIES {
        let (encoder, reference) = (load(family, ""), reference(family));
        assert_eq!((encoder.max_tokens(), encoder.dims()), (reference.max_tokens, reference.dims), "{family}");
        for entry in reference.entries {
            for (purpose, expected) in [(Purpose::Query, &entry.query), (Purpose::Passage, &entry.passage)] {
                let ids = encoder.prepare(&entry.text, purpose).unwrap();
                assert_eq!(ids, expected.ids, "{family}, {purpose:?} {:?}", entry.text);
                assert!(ids.len() <= reference.max_tokens);
            }
        }
    }
}

#[test]
fn vectors_are_those_of_the_reference() {
    for (family, _) in FAMILIES {
        let (encoder, reference) = (load(family, ""), reference(family));
        for entry in reference.entries {
            for expected in [&entry.query, &entry.passage] {
                let vector = encoder.embed(std::slice::from_ref(&expected.ids), &pool(1)).unwrap();
                let difference = difference(&vector, &expected.vector);
                assert!(difference < 3e-5, "{family}: off by {difference} for {:?}", entry.text);
            }
        }
    }
}

#[test]
fn hidden_states_are_those_of_the_reference() {
    let mut rows = 0;
    for (family, _) in FAMILIES {
        let (encoder, reference) = (load(family, ""), reference(family));
        for entry in reference.entries {
            let tokens = encoder.prepare_tokens(&entry.text).unwrap();
            let hidden = encoder.embed_tokens(std::slice::from_ref(&tokens.ids), &pool(2), &|| false).unwrap();
            assert_eq!(hidden.len(), tokens.ids.len() * encoder.token_dims());
            for (row, expected) in &entry.hidden {
                let row = &hidden[row * encoder.token_dims()..][..encoder.token_dims()];
                let difference = difference(row, expected);
                assert!(difference < 1e-4, "{family}: off by {difference} for {:?}", entry.text);
                rows += 1;
            }
        }
    }
    assert!(rows > 100, "only {rows} rows were compared");
}

#[test]
fn a_batch_gives_each_text_what_it_gets_alone() {
    for (family, _) in FAMILIES {
        for options in ["", r#"{"dtype": "int8"}"#] {
            let encoder = load(family, options);
            let texts: Vec<Vec<u32>> = reference(family).entries.into_iter().map(|entry| entry.passage.ids).collect();
            let batch = [texts.clone(), texts.clone(), texts].concat();
            let together = encoder.embed(&batch, &pool(2)).unwrap();
            for (ids, vector) in batch.iter().zip(together.chunks(encoder.dims())) {
                let alone = encoder.embed(std::slice::from_ref(ids), &pool(1)).unwrap();
                assert_eq!(alone, vector, "{family}");
            }
        }
    }
}

#[test]
fn eight_bits_keep_the_direction() {
    for (family, _) in FAMILIES {
        let encoder = load(family, r#"{"dtype": "int8"}"#);
        for entry in reference(family).entries {
            let vector = encoder.embed(std::slice::from_ref(&entry.passage.ids), &pool(1)).unwrap();
            let cosine = cosine(&vector, &entry.passage.vector);
            assert!(cosine > 0.99, "{family}: cosine {cosine} for {:?}", entry.text);
        }
    }
}

#[test]
fn tokens_have_the_ranges_of_the_text_that_they_stand_for() {
    for (family, _) in FAMILIES {
        let encoder = load(family, "");
        let text = "How do I create a partial index?";
        let tokens = encoder.prepare_tokens(text).unwrap();
        assert_eq!((tokens.starts.len(), tokens.ends.len()), (tokens.ids.len(), tokens.ids.len()));
        let mut ranges: Vec<(u32, u32)> = tokens.starts.iter().copied().zip(tokens.ends.iter().copied()).collect();
        // The mark before the first word, which is not in the text, may stand for the word's first letter.
        ranges.dedup();
        let pieces: Vec<&str> = ranges.iter().map(|&(start, end)| &text[start as usize..end as usize]).collect();
        assert_eq!(pieces[pieces.len() - 1], "", "{family}");
        assert_eq!(pieces.concat().replace(' ', ""), text.replace(' ', ""), "{family}: {pieces:?}");
        let last = tokens.ids.len() - 1;
        assert_eq!((tokens.starts[last], tokens.ends[last]), (text.len() as u32, text.len() as u32));
        let long = encoder.prepare_tokens(&"row ".repeat(500)).unwrap();
        assert_eq!(long.ids.len(), encoder.max_tokens());
        assert_eq!((long.starts.len(), long.ends.len()), (long.ids.len(), long.ids.len()));
    }
}

#[test]
fn the_first_numbers_are_scaled_to_length_one_again() {
    let (whole, short) = (load("mpnet", ""), load("mpnet", r#"{"dims": 10}"#));
    assert_eq!((whole.dims(), short.dims()), (24, 10));
    for entry in reference("mpnet").entries {
        let ids = std::slice::from_ref(&entry.passage.ids);
        let (whole, short) = (whole.embed(ids, &pool(1)).unwrap(), short.embed(ids, &pool(1)).unwrap());
        let length = whole[..10].iter().map(|x| x * x).sum::<f32>().sqrt();
        let expected: Vec<f32> = whole[..10].iter().map(|x| x / length).collect();
        assert!(difference(&short, &expected) < 1e-6);
    }
    // Without normalisation in the model there is none after the cut.
    let (whole, short) = (load("distilbert", ""), load("distilbert", r#"{"dims": 7}"#));
    let ids = [whole.prepare("partial index", Purpose::Query).unwrap()];
    assert_eq!(whole.embed(&ids, &pool(1)).unwrap()[..7], short.embed(&ids, &pool(1)).unwrap());
    for wrong in [r#"{"dims": 0}"#, r#"{"dims": 25}"#] {
        let options = EncoderOptions::from_json(wrong).unwrap();
        let error = Encoder::load(&folder("mpnet"), &options).err().unwrap();
        assert!(matches!(&error, ModelError::InvalidArgument(message) if message.contains("from 1 to 24")), "{error}");
    }
}

#[test]
fn special_tokens_in_a_text_are_data() {
    for (family, _) in FAMILIES {
        let encoder = load(family, "");
        let plain = encoder.prepare("", Purpose::Passage).unwrap();
        let prefixed: Vec<u32> = encoder.tokenizer().encode_ids("", true).unwrap();
        assert!((1..=2).contains(&prefixed.len()) && !plain.is_empty(), "{family}");
        for text in ["a [SEP] b [CLS] c [PAD]", "a </s> b <s> c <pad>", "</s>", "x<pad>", "[SEP]"] {
            let ids = encoder.tokenizer().encode_ids(text, false).unwrap();
            assert!(!ids.iter().any(|id| prefixed.contains(id)), "{family}: {text} became {ids:?}");
        }
    }
}

#[test]
fn a_pass_that_nobody_waits_for_is_given_up() {
    let encoder = load("modernbert", "");
    let batch: Vec<Vec<u32>> = reference("modernbert").entries.into_iter().map(|entry| entry.passage.ids).collect();
    for threads in [1, 3] {
        let outcome = encoder.embed_until(&batch, &pool(threads), &|| true, &|| false);
        assert!(matches!(outcome, Err(ModelError::Cancelled)), "{outcome:?}");
    }
    assert!(encoder.embed_until(&batch, &pool(2), &|| false, &|| false).is_ok());
}

#[test]
fn leading_texts_are_done_when_something_urgent_comes_up() {
    let encoder = load("modernbert", "");
    let texts: Vec<Vec<u32>> = reference("modernbert").entries.into_iter().map(|entry| entry.passage.ids).collect();
    let batch: Vec<Vec<u32>> = texts.iter().cycle().take(2000 / texts[0].len().max(4)).cloned().collect();
    let whole = encoder.embed(&batch, &pool(2)).unwrap();
    for threads in [1, 2, 3] {
        for calm_passes in [0, 1, 3, usize::MAX] {
            let asked = AtomicUsize::new(0);
            let urgent = || asked.fetch_add(1, Ordering::SeqCst) >= calm_passes;
            let some = encoder.embed_until(&batch, &pool(threads), &|| false, &urgent).unwrap();
            assert!(!some.is_empty() && some.len().is_multiple_of(encoder.dims()));
            assert_eq!(
                some.len() < whole.len(),
                calm_passes < usize::MAX,
                "{threads} threads, {calm_passes} calm passes"
            );
            assert_eq!(some, whole[..some.len()]);
        }
    }
}

#[test]
fn inspection_names_the_architecture() {
    for (family, architecture) in FAMILIES {
        let (info, reference) = (source::inspect(ModelKind::Embed, &folder(family)).unwrap(), reference(family));
        assert_eq!(info.architecture, architecture);
        assert_eq!((info.dimensions, info.max_tokens), (reference.dims as u32, reference.max_tokens as u32));
        assert_eq!(info.quantization, "F16");
        let names: Vec<&str> = info.files.iter().map(|file| file.name.as_str()).collect();
        let mut expected = vec!["model.safetensors", "tokenizer.json", "config.json", "modules.json"];
        if family == "distilbert" {
            expected.extend(["2_Dense/config.json", "2_Dense/model.safetensors"]);
        }
        assert!(expected.iter().all(|name| names.contains(name)), "{family}: {names:?}");
    }
}

#[test]
fn pairs_are_cut_and_marked_as_by_the_reference() {
    for (family, _) in RERANKERS {
        let (reranker, reference) = (load_reranker(family, ""), pair_reference(family));
        assert_eq!(reranker.max_tokens(), reference.max_tokens);
        for entry in reference.entries {
            for (at, passage) in entry.passages.iter().enumerate() {
                let ids = pair(&reranker, &entry.query, passage);
                let plain: Vec<u32> = ids.iter().map(|id| id & !(1 << 31)).collect();
                assert_eq!(plain, entry.ids[at], "{family}: {:?} with {passage:?}", entry.query);
                if let Some(types) = &entry.types {
                    let marks: Vec<u32> = ids.iter().map(|id| id >> 31).collect();
                    assert_eq!(marks, types[at], "{family}: {:?} with {passage:?}", entry.query);
                }
            }
        }
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    for (family, _) in RERANKERS {
        let (reranker, reference) = (load_reranker(family, ""), pair_reference(family));
        for entry in reference.entries {
            let pairs: Vec<_> = entry.passages.iter().map(|passage| pair(&reranker, &entry.query, passage)).collect();
            let scores = reranker.score(&pairs, &pool(2), &|| false).unwrap();
            let difference = difference(&scores, &entry.scores);
            assert!(difference < 3e-5, "{family}: {scores:?}, not {:?}", entry.scores);
            for (pair, score) in pairs.iter().zip(scores) {
                assert_eq!(reranker.score(std::slice::from_ref(pair), &pool(1), &|| false).unwrap(), [score]);
            }
        }
    }
}

#[test]
fn scores_in_eight_bits_are_near() {
    // What random weights lose at most is 0.08, of scores that are not squeezed between 0 and 1.
    for (family, _) in RERANKERS {
        let reranker = load_reranker(family, r#"{"dtype": "int8"}"#);
        for entry in pair_reference(family).entries {
            let pairs: Vec<_> = entry.passages.iter().map(|passage| pair(&reranker, &entry.query, passage)).collect();
            let scores = reranker.score(&pairs, &pool(1), &|| false).unwrap();
            for (score, expected) in scores.iter().zip(&entry.scores) {
                assert!((score - expected).abs() < 0.12, "{family}: {scores:?}, not {:?}", entry.scores);
            }
        }
    }
}

#[test]
fn cross_encoders_are_described_and_refuse_what_is_not_theirs() {
    for (family, architecture) in RERANKERS {
        let info = source::inspect(ModelKind::Rerank, &folder(family)).unwrap();
        assert_eq!((info.architecture.as_str(), info.dimensions), (architecture, 0));
        assert_eq!(info.max_tokens as usize, pair_reference(family).max_tokens);
    }
    let options = r#"{"max_tokens": 20}"#;
    let reranker = load_reranker("bert_pair", options);
    assert_eq!(pair(&reranker, "index", &"row ".repeat(100)).len(), 20);
    for wrong in [r#"{"query_prefix": "x"}"#, r#"{"dims": 3}"#] {
        assert!(matches!(RerankerOptions::from_json(wrong), Err(ModelError::InvalidArgument(_))), "{wrong}");
    }
    let out_of_range = reranker.score(&[vec![2, 400, 3]], &pool(1), &|| false);
    assert!(matches!(out_of_range, Err(ModelError::InvalidArgument(_))), "{out_of_range:?}");
    let abandoned = reranker.score(&[vec![2, 5, 3]], &pool(1), &|| true);
    assert!(matches!(abandoned, Err(ModelError::Cancelled)), "{abandoned:?}");
}

#[test]
fn the_beginning_of_a_long_text_gives_the_ids_of_the_whole() {
    for (family, _) in FAMILIES {
        let encoder = load(family, r#"{"query_prefix": ""}"#);
        let texts: Vec<String> = reference(family).entries.into_iter().map(|entry| entry.text).collect();
        for (turn, separator) in [" ", "  ", "\n", " \u{301}", "", "\u{3000}", "\u{a0} ", "- "].iter().enumerate() {
            let mut texts = texts.clone();
            texts.rotate_left(turn);
            let long = texts.join(separator).repeat(9);
            let whole = encoder.tokenizer().encode_ids(&long, true).unwrap();
            let ids = encoder.prepare(&long, Purpose::Query).unwrap();
            assert_eq!(ids.len(), encoder.max_tokens());
            let inner = ids.len() - 1;
            assert_eq!(ids[..inner], whole[..inner], "{family}, separator {separator:?}");
        }
    }
}
