//! Every family, from safetensors and from GGUF, against the logits of an independent implementation: the fixtures of
//! tests/data/make_decoder_families.py.

use super::*;
use crate::compute::Pool;
use flate2::read::GzDecoder;
use forward::Run;
use pg_rag_protocol::message::ModelKind;
use serde_json::{Map, Value};
use std::fs::{read, read_to_string, write};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The cache keeps keys and values as f16.
const TOLERANCE: f32 = 0.015;

#[derive(serde::Deserialize)]
pub struct Fixtures {
    pub ids: Vec<u32>,
    /// The position of `middle_logits`, and the length of the beginning that ends with `short_logits`.
    pub middle: usize,
    pub short: usize,
    pub cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
pub struct Case {
    pub name: String,
    pub config: Map<String, Value>,
    pub last_logits: Vec<f32>,
    pub middle_logits: Vec<f32>,
    pub short_logits: Vec<f32>,
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/decoder_families").join(name)
}

pub fn fixtures() -> Fixtures {
    serde_json::from_str(&read_to_string(data("cases.json")).unwrap()).unwrap()
}

pub fn unpacked(name: &str) -> Vec<u8> {
    let mut contents = Vec::new();
    GzDecoder::new(&read(data(name)).unwrap()[..]).read_to_end(&mut contents).unwrap();
    contents
}

/// A folder that disappears with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_rag-families-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// As transformers saves a model.
    pub fn safetensors(name: &str, config: &Map<String, Value>) -> Self {
        let folder = Self::new();
        write(folder.0.join("config.json"), serde_json::to_vec(config).unwrap()).unwrap();
        write(folder.0.join("tokenizer.json"), read(data("tokenizer.json")).unwrap()).unwrap();
        write(folder.0.join("model.safetensors"), unpacked(&format!("{name}.safetensors.gz"))).unwrap();
        folder
    }

    pub fn gguf(contents: &[u8]) -> Self {
        let folder = Self::new();
        write(folder.0.join("model.gguf"), contents).unwrap();
        folder
    }

    fn load(&self) -> Result<Decoder> {
        Decoder::load(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Logits of all tokens of a sequence that is read in slices, into a cache for `capacity` tokens.
fn logits(model: &Decoder, ids: &[u32], slices: &[usize], capacity: usize) -> Vec<Vec<f32>> {
    let pool = Pool::new(2).unwrap();
    let mut cache = KvCache::new(&model.network.config, capacity).unwrap();
    let (mut all, mut logits, mut rest) = (Vec::new(), Vec::new(), ids);
    let mut lengths = slices.iter().cycle();
    while !rest.is_empty() {
        let (tokens, later) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
        let run = Run { cache: &mut cache, tokens, wanted: tokens.len() };
        assert!(model.network.pass(&pool, &mut [run], &mut logits, &|| false));
        all.extend(logits.chunks_exact(model.vocab_size()).map(<[f32]>::to_vec));
        rest = later;
    }
    all
}

/// Largest difference, of as many as are wanted.
fn distance(got: &[f32], want: &[f32]) -> f32 {
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max)
}

pub fn check(fixtures: &Fixtures, case: &Case, model: &Decoder, kind: &str) {
    let Fixtures { ids, middle, short, .. } = fixtures;
    // At once; in slices; token by token; a prompt and then tokens one by one.
    for slices in [&[40][..], &[7], &[1], &[30, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]] {
        let got = logits(model, ids, slices, ids.len());
        for (at, want) in [(*middle, &case.middle_logits), (ids.len() - 1, &case.last_logits)] {
            // Those of a position in the middle are not those of a sequence that is short.
            if at == *middle && model.network.config.long_from().is_some() {
                continue;
            }
            let worst = distance(&got[at], want);
            assert!(worst < TOLERANCE, "{} ({kind}) by {slices:?}: logits of {at} are off by {worst}", case.name);
        }
    }
    let got = logits(model, &ids[..*short], &[9], *short);
    let worst = distance(&got[short - 1], &case.short_logits);
    assert!(worst < TOLERANCE, "{} ({kind}): logits of a short text are off by {worst}", case.name);
    let range = case.last_logits.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    assert!(range > 1.0, "{}: logits say nothing", case.name);
}

#[test]
fn every_family_gives_the_logits_of_the_reference() {
    let fixtures = fixtures();
    assert_eq!(fixtures.cases.len(), 12);
    for case in &fixtures.cases {
        let model =
            Folder::safetensors(&case.name, &case.config).load().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        check(&fixtures, case, &model, "safetensors");
        let folder = Folder::gguf(&unpacked(&format!("{}.gguf.gz", case.name)));
        let model = folder.load().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        check(&fixtures, case, &model, "GGUF");
    }
}

fn case<'a>(fixtures: &'a Fixtures, name: &str) -> &'a Case {
    fixtures.cases.iter().find(|case| case.name == name).unwrap()
}

#[test]
fn what_distinguishes_a_family_changes_its_logits() {
    let fixtures = fixtures();
    for (name, key, value) in [
        ("mistral", "sliding_window", Value::Null),
        ("gemma2", "final_logit_softcapping", Value::Null),
        ("gemma2", "attn_logit_softcapping", Value::Null),
        ("gemma2", "query_pre_attn_scalar", 64.into()),
        ("gemma3", "sliding_window", 4.into()),
        ("smollm3", "no_rope_layers", [1, 1, 1, 1].into()),
        ("qwen3", "rms_norm_eps", 0.5.into()),
        ("phi3", "sliding_window", 10.into()),
        ("llama3", "rope_parameters", Value::Null),
    ] {
        let case = case(&fixtures, name);
        let mut config = case.config.clone();
        config.insert(key.to_owned(), value);
        let model = Folder::safetensors(name, &config).load().unwrap();
        let got = logits(&model, &fixtures.ids, &[40], 40);
        assert!(distance(&got[39], &case.last_logits) > 4.0 * TOLERANCE, "{name} does not need {key}");
    }
}

#[test]
fn shards_are_read_like_a_single_file() {
    let fixtures = fixtures();
    let case = case(&fixtures, "llama");
    let folder = Folder::safetensors("llama", &case.config);
    let whole = unpacked("llama.safetensors.gz");
    let tensors = ::safetensors::SafeTensors::deserialize(&whole).unwrap();
    let mut weight_map = Map::new();
    for (index, name) in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].iter().enumerate() {
        let part: Vec<_> = tensors.tensors().into_iter().enumerate().filter(|(n, _)| n % 2 == index).collect();
        weight_map.extend(part.iter().map(|(_, (tensor, _))| (tensor.clone(), Value::from(*name))));
        let part = part.into_iter().map(|(_, tensor)| tensor);
        write(folder.0.join(name), ::safetensors::serialize(part, None).unwrap()).unwrap();
    }
    std::fs::remove_file(folder.0.join("model.safetensors")).unwrap();
    let index = Map::from_iter([("weight_map".to_owned(), Value::Object(weight_map))]);
    write(folder.0.join("model.safetensors.index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    check(&fixtures, case, &folder.load().unwrap(), "shards");

    let info = crate::source::inspect(ModelKind::Generate, &folder.0).unwrap();
    let mut names: Vec<&str> = info.files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json"
        ]
    );
    assert_eq!((info.architecture.as_str(), info.max_tokens, info.quantization.as_str()), ("llama", 128, "F32"));
    let bytes = crate::source::memory_bytes(ModelKind::Generate, &folder.0).unwrap();
    assert_eq!(bytes, info.parameters * 4);
}

#[test]
fn folders_that_do_not_fit_together_are_told() {
    let fixtures = fixtures();
    let qwen2 = case(&fixtures, "qwen2");
    let change = |name: &str, key: &str, value: Value| {
        let mut config = case(&fixtures, name).config.clone();
        config.insert(key.to_owned(), value);
        config.remove("layer_types");
        Folder::safetensors(name, &config).load().err().unwrap_or_else(|| panic!("{key} loads")).to_string()
    };
    for (key, value, named) in [
        ("model_type", Value::from("mamba2"), "\"mamba2\" (supported for generation: llama, mistral, qwen2"),
        ("hidden_size", 96.into(), "\"model.embed_tokens.weight\" has the shape [264, 64]"),
        ("intermediate_size", 64.into(), "mlp.gate_proj.weight\" has the shape [96, 64] instead of [64, 64]"),
        ("num_hidden_layers", 3.into(), "\"model.layers.2.input_layernorm.weight\" is missing"),
        ("num_hidden_layers", 1.into(), "\"model.layers.1.input_layernorm.weight\" is not part"),
        ("num_hidden_layers", 1_000_000.into(), "1000000 layers"),
        ("num_attention_heads", 1e30.into(), "\"num_attention_heads\" is"),
        ("num_key_value_heads", 3.into(), "4 heads cannot share 3"),
        ("tie_word_embeddings", false.into(), "\"lm_head.weight\" is missing"),
        ("hidden_act", "relu".into(), "activation \"relu\""),
        ("quantization_config", Map::new().into(), "\"quantization_config\""),
        ("rms_norm_eps", (-1.0).into(), "not positive"),
    ] {
        let message = change("qwen2", key, value);
        assert!(message.contains(named), "{key}: {message}");
    }
    let message = change("phi3", "rope_scaling", serde_json::json!({"type": "dynamic", "factor": 2.0}));
    assert!(message.contains("position scaling \"dynamic\""), "{message}");

    let folder = Folder::safetensors("qwen2", &qwen2.config);
    let vocabulary = read_to_string(folder.0.join("tokenizer.json")).unwrap();
    let more = vocabulary.replacen("\"vocab\":{", "\"vocab\":{\"one more\":264,", 1);
    write(folder.0.join("tokenizer.json"), more).unwrap();
    let message = folder.load().err().unwrap().to_string();
    assert!(message.ends_with("vocabulary of 265 tokens has embeddings for 264"), "{message}");
    write(folder.0.join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(folder.load(), Err(ModelError::Corrupt { .. })));
    std::fs::remove_file(folder.0.join("tokenizer.json")).unwrap();
    assert!(matches!(folder.load(), Err(ModelError::Missing(_))));
    for name in ["config.json", "model.safetensors"] {
        let folder = Folder::safetensors("qwen2", &qwen2.config);
        let contents = read(folder.0.join(name)).unwrap();
        for bytes in [0, 7, contents.len() / 2, contents.len() - 1] {
            write(folder.0.join(name), &contents[..bytes]).unwrap();
            assert!(matches!(folder.load(), Err(ModelError::Corrupt { .. })), "{bytes} bytes of {name}");
        }
    }
    let pickle = Folder::new();
    write(pickle.0.join("pytorch_model.bin"), "").unwrap();
    assert!(matches!(pickle.load(), Err(ModelError::Unsupported(message)) if message.contains("pickle")));
}

/// Writes a number of the metadata, which follows its key and type.
fn set_number(bytes: &mut [u8], key: &str, number: u32) {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

#[test]
fn gguf_files_that_do_not_fit_together_are_told() {
    let number = |name: &str, key: &str, number: u32| {
        let mut contents = unpacked(&format!("{name}.gguf.gz"));
        set_number(&mut contents, key, number);
        Folder::gguf(&contents).load().err().unwrap_or_else(|| panic!("{key} loads")).to_string()
    };
    for (name, key, value, named) in [
        ("qwen3", "qwen3.block_count", 1_000_000, "1000000 layers"),
        ("qwen3", "qwen3.block_count", 3, "\"blk.2.attn_q_norm.weight\" is missing"),
        ("qwen3", "qwen3.block_count", 1, "\"blk.1.attn_k.weight\" is not part"),
        ("qwen3", "qwen3.embedding_length", 96, "\"token_embd.weight\" has the shape [264, 64]"),
        ("qwen3", "qwen3.feed_forward_length", u32::MAX, "\"qwen3.feed_forward_length\" is 4294967295"),
        ("qwen3", "qwen3.attention.head_count", 0, "no number \"qwen3.attention.head_count\""),
        ("qwen3", "qwen3.attention.head_count_kv", 3, "4 heads cannot share 3"),
        ("qwen3", "qwen3.attention.key_length", 64, "keys and values of different length"),
        ("llama", "llama.rope.dimension_count", 18, "18 of 16 dimensions"),
        ("llama3", "llama.rope.dimension_count", 30, "\"rope_freqs.weight\" has the shape [16] instead of [15]"),
    ] {
        let message = number(name, key, value);
        assert!(message.contains(named), "{key}: {message}");
    }
    let renamed = |name: &str, from: &str, to: &str| {
        let mut contents = unpacked(&format!("{name}.gguf.gz"));
        let at = contents.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        contents[at..at + from.len()].copy_from_slice(to.as_bytes());
        Folder::gguf(&contents).load().err().unwrap_or_else(|| panic!("{to} loads")).to_string()
    };
    for (name, from, to, named) in [
        ("qwen2", "blk.1.attn_k.bias", "blk.1.attn_k.bios", "\"blk.1.attn_k.bias\" is missing"),
        ("gemma2", "blk.0.post_ffw_norm", "blk.0.past_ffw_norm", "\"blk.0.post_ffw_norm.weight\" is missing"),
        ("phi3", "blk.1.ffn_up.weight", "blk.1.ffn_op.weight", "\"blk.1.ffn_up.weight\" is missing"),
        ("qwen2", "\u{4}\0\0\0\0\0\0\0yarn", "\u{4}\0\0\0\0\0\0\0darn", "position scaling \"darn\""),
        (
            "gemma",
            "\u{5}\0\0\0\0\0\0\0gemma",
            "\u{5}\0\0\0\0\0\0\0gamma",
            "\"gamma\" (supported for generation: llama, qwen2",
        ),
    ] {
        let message = renamed(name, from, to);
        assert!(message.contains(named), "{to}: {message}");
    }
    let contents = unpacked("gemma3.gguf.gz");
    for bytes in (0..contents.len()).step_by(997) {
        let error = Folder::gguf(&contents[..bytes]).load().err().unwrap();
        assert!(matches!(error, ModelError::Corrupt { .. }), "{bytes} bytes: {error}");
    }
}
