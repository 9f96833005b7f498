//! Vocabularies of every kind against the ids of the libraries that models are made with: the fixture of
//! tests/data/make_gguf_tokenizers.py.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    texts: Vec<String>,
    byte_level: ByteLevel,
    sentence_piece: Vec<SentencePiece>,
    word_piece: WordPiece,
}

#[derive(Deserialize)]
struct ByteLevel {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
    ids: HashMap<String, Vec<Vec<u32>>>,
}

#[derive(Deserialize)]
struct SentencePiece {
    tokens: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
    prefix: bool,
    ids: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct WordPiece {
    tokens: Vec<String>,
    types: Vec<i32>,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../../../tests/data/gguf_tokenizers.json")).unwrap()
}

fn texts_of(texts: &[String]) -> Value {
    Value::Array(texts.iter().cloned().map(Value::String).collect())
}

fn metadata(model: &str, tokens: &[String], types: &[i32]) -> Metadata {
    Metadata::from([
        ("tokenizer.ggml.model".into(), Value::String(model.into())),
        ("tokenizer.ggml.tokens".into(), texts_of(tokens)),
        ("tokenizer.ggml.token_type".into(), Value::Array(types.iter().copied().map(Value::I32).collect())),
    ])
}

fn load(metadata: &Metadata) -> Result<ModelTokenizer> {
    ModelTokenizer::from_gguf(Path::new("/nowhere/model.gguf"), metadata)
}

#[test]
fn byte_level_ids_equal_the_reference_for_every_splitter() {
    let Fixture { texts, byte_level, .. } = fixture();
    assert_eq!(byte_level.ids.len(), 6);
    for (pre, ids) in &byte_level.ids {
        let mut metadata = metadata("gpt2", &byte_level.tokens, &byte_level.types);
        metadata.insert("tokenizer.ggml.pre".into(), Value::String(pre.clone()));
        metadata.insert("tokenizer.ggml.merges".into(), texts_of(&byte_level.merges));
        let loaded = load(&metadata).unwrap();
        assert_eq!(loaded.add_bos, matches!(pre.as_str(), "llama-bpe" | "tekken"));
        for (text, want) in texts.iter().zip(ids) {
            let got = loaded.tokenizer.encode_ids(text, false).unwrap();
            assert_eq!(&got, want, "{pre}: {text:?}");
            // Qwen's texts are composed first.
            if pre != "qwen2" {
                assert_eq!(&loaded.tokenizer.decode(&got, false).unwrap(), text);
            }
        }
    }
}

#[test]
fn sentence_piece_ids_equal_the_reference() {
    let Fixture { texts, sentence_piece, .. } = fixture();
    for SentencePiece { tokens, types, scores, prefix, ids } in &sentence_piece {
        let mut metadata = metadata("llama", tokens, types);
        metadata.insert("tokenizer.ggml.scores".into(), Value::Array(scores.iter().copied().map(Value::F32).collect()));
        metadata.insert("tokenizer.ggml.bos_token_id".into(), Value::U32(1));
        metadata.insert("tokenizer.ggml.eos_token_id".into(), Value::U32(2));
        if !prefix {
            metadata.insert("tokenizer.ggml.add_space_prefix".into(), Value::Bool(false));
        }
        let loaded = load(&metadata).unwrap();
        assert_eq!((loaded.add_bos, loaded.bos, loaded.ends.as_slice()), (true, Some(1), &[2][..]));
        for (text, want) in texts.iter().zip(ids) {
            let got = loaded.tokenizer.encode_ids(text, false).unwrap();
            assert_eq!(&got, want, "{prefix}: {text:?}");
            assert!(!got.iter().any(|id| types[*id as usize] == 3), "{text:?} forges a control token");
            // The character for spaces is one.
            assert_eq!(loaded.tokenizer.decode(&got, false).unwrap(), text.replace('▁', " "));
        }
        for key in ["scores", "tokens"] {
            let mut broken = metadata.clone();
            broken.insert(format!("tokenizer.ggml.{key}"), Value::Array(vec![Value::F32(1.0)]));
            assert!(matches!(load(&broken), Err(ModelError::Corrupt { .. })), "{key}");
        }
    }
}

#[test]
fn word_piece_ids_equal_the_reference() {
    let WordPiece { tokens, types, texts, ids } = fixture().word_piece;
    let loaded = load(&metadata("bert", &tokens, &types)).unwrap();
    for (text, want) in texts.iter().zip(&ids) {
        assert_eq!(&loaded.tokenizer.encode_ids(text, true).unwrap(), want, "{text:?}");
    }
}
