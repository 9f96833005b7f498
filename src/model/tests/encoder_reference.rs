//! The encoder against sentence-transformers, on the real all-MiniLM-L6-v2.
//!
//! The reference is tests/data/minilm_reference.json, written by make_minilm_reference.py beside it. The model is looked
//! for in `$PG_RAG_MODELS`, by default /usr/local/share/pg_rag/models; without it the tests fail.

use pg_rag_model::compute::Pool;
use pg_rag_model::encoder::batch::plan_batches;
use pg_rag_model::encoder::{Encoder, EncoderOptions};
use pg_rag_model::{source, ModelError};
use pg_rag_protocol::message::{ModelKind, ModelRef, Purpose};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

#[derive(serde::Deserialize)]
struct Reference {
    max_tokens: usize,
    entries: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    text: String,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

fn reference() -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/minilm_reference.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn model_dir() -> PathBuf {
    let models = std::env::var_os("PG_RAG_MODELS").unwrap_or_else(|| "/usr/local/share/pg_rag/models".into());
    let dir = Path::new(&models).join("all-MiniLM-L6-v2");
    assert!(dir.is_dir(), "model folder {} is missing; `make models` puts it there", dir.display());
    dir
}

/// One copy for all tests.
fn encoder() -> &'static Encoder {
    static ENCODER: OnceLock<Encoder> = OnceLock::new();
    ENCODER.get_or_init(|| Encoder::load(&model_dir(), &EncoderOptions::default()).unwrap())
}

fn pool() -> Pool {
    Pool::new(2).unwrap()
}

fn prepare(text: &str) -> Vec<u32> {
    encoder().prepare(text, Purpose::Passage).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn token_ids_are_those_of_the_reference() {
    for entry in reference().entries {
        assert_eq!(prepare(&entry.text), entry.ids, "text {:?}", entry.text);
    }
}

#[test]
fn vectors_are_those_of_the_reference() {
    let entries = reference().entries;
    let batch: Vec<_> = entries.iter().map(|entry| prepare(&entry.text)).collect();
    let vectors = encoder().embed(&batch, &pool()).unwrap();
    assert_eq!(encoder().dims(), 384);
    assert_eq!(vectors.len(), entries.len() * 384);
    for (entry, vector) in entries.iter().zip(vectors.chunks(384)) {
        let cosine = cosine(vector, &entry.vector);
        assert!(cosine > 0.999_999, "cosine {cosine} for {:?}", entry.text);
        let difference = largest_difference(vector, &entry.vector);
        assert!(difference < 2e-6, "off by {difference} for {:?}", entry.text);
    }
}

#[test]
fn a_vector_does_not_depend_on_the_rest_of_the_batch() {
    let texts: Vec<_> = reference().entries.into_iter().map(|entry| prepare(&entry.text)).collect();
    let pool = pool();
    // Three copies do not fit into one pass through the layers.
    let batch = [texts.clone(), texts.clone(), texts.clone()].concat();
    let together = encoder().embed(&batch, &pool).unwrap();
    let single_thread = Pool::new(1).unwrap();
    for (index, text) in batch.iter().enumerate() {
        let alone = encoder().embed(std::slice::from_ref(text), &single_thread).unwrap();
        assert_eq!(alone, together[index * 384..][..384], "text {index}");
    }
}

#[test]
fn planned_batches_give_the_same_vectors_in_the_original_order() {
    let texts: Vec<_> = reference().entries.into_iter().map(|entry| prepare(&entry.text)).collect();
    let pool = pool();
    let direct = encoder().embed(&texts, &pool).unwrap();
    let lengths: Vec<_> = texts.iter().map(Vec::len).collect();
    for batch in plan_batches(&lengths, 100) {
        let members: Vec<_> = batch.iter().map(|&index| texts[index].clone()).collect();
        let vectors = encoder().embed(&members, &pool).unwrap();
        for (vector, index) in vectors.chunks(384).zip(batch) {
            assert!(largest_difference(vector, &direct[index * 384..][..384]) < 1e-5);
        }
    }
}

#[test]
fn truncation_keeps_the_closing_token() {
    let long = "word ".repeat(10_000);
    let ids = prepare(&long);
    assert_eq!(ids.len(), reference().max_tokens);
    assert_eq!((ids[0], ids[1], ids[254], ids[255]), (101, ids[2], ids[1], 102));

    let options = EncoderOptions { max_tokens: Some(5), ..Default::default() };
    let short = Encoder::load(&model_dir(), &options).unwrap();
    assert_eq!(short.max_tokens(), 5);
    assert_eq!(short.prepare(&long, Purpose::Query).unwrap(), [101, ids[1], ids[1], ids[1], 102]);
}

#[test]
fn the_beginning_of_a_long_text_gives_the_ids_of_the_whole() {
    let texts: Vec<_> = reference().entries.into_iter().map(|entry| entry.text).collect();
    let separators = [" ", "\n", "", "-", "\u{200b}", "\u{3000}"];
    for (turn, separator) in separators.iter().enumerate() {
        let mut texts = texts.clone();
        texts.rotate_left(turn * 3);
        let long = texts.join(separator).repeat(4);
        let whole = encoder().tokenizer().encode_ids(&long, false).unwrap();
        let ids = prepare(&long);
        assert_eq!(ids[1..255], whole[..254], "separator {separator:?}");
    }
}

#[test]
fn eight_bits_keep_the_meaning() {
    let options = EncoderOptions::from_json(r#"{"dtype": "int8"}"#).unwrap();
    let quantized = Encoder::load(&model_dir(), &options).unwrap();
    assert!(quantized.resident_bytes() < 60_000_000);
    let entries = reference().entries;
    let batch: Vec<_> = entries.iter().map(|entry| prepare(&entry.text)).collect();
    let vectors = quantized.embed(&batch, &pool()).unwrap();
    for (entry, vector) in entries.iter().zip(vectors.chunks(384)) {
        let cosine = cosine(vector, &entry.vector);
        assert!(cosine > 0.985, "cosine {cosine} for {:?}", entry.text);
    }
    for (ids, vector) in batch.iter().zip(vectors.chunks(384)) {
        assert_eq!(quantized.embed(std::slice::from_ref(ids), &Pool::new(1).unwrap()).unwrap(), vector);
    }
}

#[test]
fn empty_text_is_embedded() {
    assert_eq!(prepare(""), [101, 102]);
    let vector = encoder().embed(&[prepare("")], &pool()).unwrap();
    assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(encoder().embed(&[], &pool()).unwrap().is_empty());
}

#[test]
fn prefixes_of_the_registration_are_put_before_the_text() {
    let options = EncoderOptions::from_json(r#"{"query_prefix": "query: "}"#).unwrap();
    let encoder = Encoder::load(&model_dir(), &options).unwrap();
    assert_eq!(encoder.prepare("vacuum", Purpose::Query).unwrap(), prepare("query: vacuum"));
    assert_eq!(encoder.prepare("vacuum", Purpose::Passage).unwrap(), prepare("vacuum"));
}

#[test]
fn special_tokens_in_a_text_are_data() {
    let ids = prepare("before [SEP] after [CLS] [PAD]");
    assert_eq!(ids.iter().filter(|id| [0, 101, 102].contains(*id)).count(), 2);
    assert_eq!(encoder().tokenizer().encode_template("a [SEP]").unwrap(), [1037, 102]);
}

#[test]
fn offsets_are_bytes_of_the_original_text() {
    // Normalisation changes the length of all of these: accents are stripped, letters lower-cased, characters dropped.
    let text = "Ünïcödé Cafe\u{301} İstanbul 数据 🐘 zero\u{200b}width [SEP] end";
    let tokens = encoder().tokenizer().encode(text, true).unwrap();
    assert_eq!((tokens.starts[0], tokens.ends[0]), (0, 0));
    let last = tokens.ids.len() - 1;
    assert_eq!((tokens.starts[last], tokens.ends[last]), (text.len() as u32, text.len() as u32));
    let piece = |index: usize| &text[tokens.starts[index] as usize..tokens.ends[index] as usize];
    let pieces: Vec<_> = (0..=last).map(piece).collect();
    assert!(tokens.starts.windows(2).all(|pair| pair[0] <= pair[1]), "{pieces:?}");
    assert_eq!(pieces[1..].concat().chars().next(), Some('Ü'));
    for expected in ["数", "据", "end", "["] {
        assert!(pieces.contains(&expected), "no {expected:?} in {pieces:?}");
    }
    let unicode = tokens.starts.iter().zip(&tokens.ends).take_while(|(_, &end)| end <= 12);
    assert_eq!(unicode.map(|(&start, &end)| &text[start as usize..end as usize]).collect::<String>(), "Ünïcödé");
    let ids = encoder().tokenizer().encode_ids(text, true).unwrap();
    assert_eq!(ids, tokens.ids);
}

#[test]
fn decode_returns_text_and_refuses_unknown_ids() {
    let tokenizer = encoder().tokenizer();
    let ids = prepare("partial indexes are smaller");
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "partial indexes are smaller");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "[CLS] partial indexes are smaller [SEP]");
    assert!(matches!(tokenizer.decode(&[101, 30522], true), Err(ModelError::InvalidArgument(_))));
    assert_eq!(tokenizer.token_id("[SEP]"), Some(102));
}

#[test]
fn ids_that_are_not_the_models_are_refused() {
    let refused = |ids: Vec<u32>| matches!(encoder().embed(&[ids], &pool()), Err(ModelError::InvalidArgument(_)));
    assert!(refused(vec![101, 30522, 102]));
    assert!(refused(vec![101, u32::MAX, 102]));
    assert!(refused(vec![101; 513]));
    // The encoder still works.
    assert_eq!(encoder().embed(&[prepare("index")], &pool()).unwrap().len(), 384);
}

#[test]
fn inspection_describes_the_model() {
    let info = source::inspect(ModelKind::Embed, &model_dir()).unwrap();
    assert_eq!((info.architecture.as_str(), info.dimensions, info.max_tokens), ("bert", 384, 256));
    assert_eq!((info.parameters, info.quantization.as_str()), (22_713_216, "F32"));
    assert_eq!(info.size_bytes, 90_868_376);
    let names: Vec<_> = info.files.iter().map(|file| file.name.as_str()).collect();
    for name in ["model.safetensors", "tokenizer.json", "config.json", "modules.json", "1_Pooling/config.json"] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let path = model_dir().to_str().unwrap().to_owned();
    let model = ModelRef {
        name: "m".into(),
        kind: ModelKind::Embed,
        path,
        files: info.files,
        options_json: "{}".into(),
        base: None,
        remote: None,
    };
    source::verify(&model).unwrap();
    assert!(encoder().resident_bytes() > 90_000_000 && encoder().resident_bytes() < 91_000_000);
}

#[test]
fn inspection_describes_a_gguf_file() {
    let folder = model_dir().with_file_name("SmolLM2-135M-Instruct");
    let info = source::inspect(ModelKind::Generate, &folder).unwrap();
    assert_eq!((info.architecture.as_str(), info.max_tokens, info.dimensions), ("llama", 8192, 0));
    assert_eq!((info.quantization.as_str(), info.size_bytes), ("Q4_1", 98_362_432));
    assert_eq!(info.parameters, 134_515_008);
    assert_eq!(info.files.len(), 1);
    let file = folder.join(&info.files[0].name);
    assert_eq!(source::inspect(ModelKind::Generate, &file).unwrap(), info);
}
