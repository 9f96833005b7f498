//! Tests of finding, hashing and inspecting models, on small models written by the tests themselves.

use super::gguf::Header;
use super::*;
use crate::encoder::Encoder;
use ::safetensors::tensor::{Dtype, TensorView};
use std::sync::atomic::{AtomicU32, Ordering};

mod links;

/// A folder that disappears with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_rag-source-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        self.write(name, text.replace(from, to));
    }

    fn inspect(&self) -> Result<ModelInfo> {
        inspect(ModelKind::Embed, &self.0)
    }

    fn load(&self) -> Result<Encoder> {
        Encoder::load(&self.0, &EncoderOptions::default())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const HIDDEN: usize = 4;
const FEED_FORWARD: usize = 8;
const VOCABULARY: [&str; 6] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "row", "index"];

/// Names and shapes of the weights of a BERT with one layer.
fn weights() -> Vec<(String, Vec<usize>)> {
    let mut weights: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![VOCABULARY.len(), HIDDEN]),
        ("embeddings.position_embeddings.weight".into(), vec![16, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, HIDDEN]),
    ];
    let layer = "encoder.layer.0";
    for (name, outputs, inputs) in [
        ("attention.self.query", HIDDEN, HIDDEN),
        ("attention.self.key", HIDDEN, HIDDEN),
        ("attention.self.value", HIDDEN, HIDDEN),
        ("attention.output.dense", HIDDEN, HIDDEN),
        ("intermediate.dense", FEED_FORWARD, HIDDEN),
        ("output.dense", HIDDEN, FEED_FORWARD),
    ] {
        weights.push((format!("{layer}.{name}.weight"), vec![outputs, inputs]));
        weights.push((format!("{layer}.{name}.bias"), vec![outputs]));
    }
    let norms = ["embeddings".to_owned(), format!("{layer}.attention.output"), format!("{layer}.output")];
    for norm in norms {
        weights.push((format!("{norm}.LayerNorm.weight"), vec![HIDDEN]));
        weights.push((format!("{norm}.LayerNorm.bias"), vec![HIDDEN]));
    }
    weights
}

/// A safetensors file with these tensors; values depend on the name and the position only.
fn checkpoint(weights: &[(String, Vec<usize>)], kind: Dtype) -> Vec<u8> {
    let data: Vec<Vec<u8>> = weights
        .iter()
        .map(|(name, shape)| {
            let seed: u32 = name.trim_start_matches("bert.").bytes().map(u32::from).sum();
            let count: usize = shape.iter().product();
            // Multiples of 1/16 below 1, which every element type holds exactly.
            let values = (0..count as u32).map(|i| ((seed + i * 7) % 31) as f32 / 16.0 - 0.9375);
            match kind {
                Dtype::F16 => values.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect(),
                Dtype::BF16 => values.flat_map(|value| half::bf16::from_f32(value).to_le_bytes()).collect(),
                _ => values.flat_map(f32::to_le_bytes).collect(),
            }
        })
        .collect();
    let views = weights
        .iter()
        .zip(&data)
        .map(|((name, shape), data)| (name.clone(), TensorView::new(kind, shape.clone(), data).unwrap()));
    ::safetensors::serialize(views, None).unwrap()
}

/// A whole embedding model.
fn tiny_model() -> Folder {
    let folder = Folder::new();
    folder.write(
        "config.json",
        r#"{"model_type": "bert", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 8, "vocab_size": 6, "max_position_embeddings": 16, "hidden_act": "gelu"}"#,
    );
    folder.write(
        "modules.json",
        r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#,
    );
    folder.write("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}"#);
    folder.write("sentence_bert_config.json", r#"{"max_seq_length": 8}"#);
    let vocabulary: HashMap<_, _> = VOCABULARY.iter().zip(0..).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    folder.write("tokenizer.json", tokenizer.to_string());
    folder.write("model.safetensors", checkpoint(&weights(), Dtype::F32));
    folder
}

fn embed(folder: &Folder, text: &str) -> Vec<f32> {
    let encoder = folder.load().unwrap();
    let ids = encoder.prepare(text, pg_rag_protocol::message::Purpose::Passage).unwrap();
    encoder.embed(&[ids], &crate::compute::Pool::new(1).unwrap()).unwrap()
}

/// The file and the reason of a `Corrupt` error.
fn corrupt<T>(result: Result<T>) -> (String, String) {
    match result.err() {
        Some(ModelError::Corrupt { path, reason }) => {
            (path.file_name().unwrap().to_string_lossy().into_owned(), reason)
        }
        other => panic!("not a corrupt file: {other:?}"),
    }
}

#[test]
fn a_small_model_is_described_and_loaded() {
    let folder = tiny_model();
    let info = folder.inspect().unwrap();
    assert_eq!((info.dimensions, info.max_tokens, info.quantization.as_str()), (4, 8, "F32"));
    assert_eq!(info.files.len(), 6);
    let encoder = folder.load().unwrap();
    let ids = encoder.prepare("row index row row row row row row row row", pg_rag_protocol::message::Purpose::Query);
    assert_eq!(ids.unwrap(), [2, 4, 5, 4, 4, 4, 4, 3]);
    assert_eq!(embed(&folder, "row").len(), 4);
}

#[test]
fn element_types_names_and_shards_do_not_change_the_vectors() {
    let folder = tiny_model();
    let expected = embed(&folder, "index row");
    assert!(expected.iter().all(|value| value.is_finite()));
    for kind in [Dtype::F16, Dtype::BF16] {
        folder.write("model.safetensors", checkpoint(&weights(), kind));
        assert_eq!(embed(&folder, "index row"), expected, "{kind:?}");
        assert_eq!(folder.inspect().unwrap().quantization, format!("{kind:?}"));
    }
    let prefixed: Vec<_> = weights().into_iter().map(|(name, shape)| (format!("bert.{name}"), shape)).collect();
    folder.write("model.safetensors", checkpoint(&prefixed, Dtype::F32));
    assert_eq!(embed(&folder, "index row"), expected);

    std::fs::remove_file(folder.0.join("model.safetensors")).unwrap();
    let all = weights();
    let (first, second) = all.split_at(5);
    folder.write("model-1.safetensors", checkpoint(first, Dtype::F32));
    folder.write("model-2.safetensors", checkpoint(second, Dtype::F32));
    let shard_of = |part: &[(String, Vec<usize>)], file: &str| -> Vec<(String, String)> {
        part.iter().map(|(name, _)| (name.clone(), file.to_owned())).collect()
    };
    let map: HashMap<_, _> =
        shard_of(first, "model-1.safetensors").into_iter().chain(shard_of(second, "model-2.safetensors")).collect();
    folder.write("model.safetensors.index.json", serde_json::json!({ "weight_map": map }).to_string());
    assert_eq!(embed(&folder, "index row"), expected);
    let names: Vec<_> = folder.inspect().unwrap().files.into_iter().map(|file| file.name).collect();
    assert_eq!(names[..3], ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]);

    folder.edit("model.safetensors.index.json", "model-2", "../model-2");
    assert!(matches!(folder.load(), Err(ModelError::InvalidArgument(_))));
}

#[test]
fn every_truncation_of_the_weights_is_corrupt() {
    let folder = tiny_model();
    let whole = std::fs::read(folder.0.join("model.safetensors")).unwrap();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        folder.write("model.safetensors", &whole[..length]);
        assert_eq!(corrupt(folder.inspect()).0, "model.safetensors");
        assert_eq!(corrupt(folder.load()).0, "model.safetensors");
    }
    folder.write("model.safetensors", [whole.as_slice(), b"x"].concat());
    assert_eq!(corrupt(folder.inspect()).0, "model.safetensors");
    // A header that claims 2^63 bytes must not be believed.
    folder.write("model.safetensors", [0xff; 64]);
    assert_eq!(corrupt(folder.inspect()).0, "model.safetensors");
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_corrupt() {
    let folder = tiny_model();
    let mut missing = weights();
    missing.remove(4);
    folder.write("model.safetensors", checkpoint(&missing, Dtype::F32));
    assert!(corrupt(folder.inspect()).1.contains("\"encoder.layer.0.attention.self.query.bias\" is missing"));
    assert!(corrupt(folder.load()).1.contains("\"encoder.layer.0.attention.self.query.bias\" is missing"));

    let folder = tiny_model();
    folder.edit("config.json", "\"vocab_size\": 6", "\"vocab_size\": 7");
    assert!(corrupt(folder.inspect()).1.contains("\"embeddings.word_embeddings.weight\" has shape [6, 4]"));

    // Sizes that the weights do not have are refused before memory is set aside for them.
    let folder = tiny_model();
    folder.edit("config.json", "\"hidden_size\": 4", "\"hidden_size\": 16777216");
    assert!(corrupt(folder.load()).1.contains("has shape"));

    let folder = tiny_model();
    let mut bytes = checkpoint(&weights(), Dtype::F32);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.write("model.safetensors", bytes);
    assert!(corrupt(folder.load()).1.contains("not a finite number"));
}

#[test]
fn bad_configurations_are_corrupt() {
    for (file, from, to) in [
        ("config.json", "{\"model_type\"", "{\"model_type"),
        ("config.json", "\"hidden_size\": 4", "\"hidden_size\": 0"),
        ("config.json", "\"hidden_size\": 4", "\"hidden_size\": 18446744073709551615"),
        ("config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 3"),
        ("config.json", "\"hidden_size\": 4,", ""),
        ("modules.json", "[", ""),
        ("sentence_bert_config.json", "8", "-8"),
    ] {
        let folder = tiny_model();
        folder.edit(file, from, to);
        assert_eq!(corrupt(folder.inspect()).0, file);
        assert_eq!(corrupt(folder.load()).0, file);
    }
    let folder = tiny_model();
    folder.edit("tokenizer.json", "WordPiece", "WordSalad");
    assert_eq!(corrupt(folder.load()).0, "tokenizer.json");
}

#[test]
fn what_cannot_be_run_is_unsupported_and_named() {
    for (file, from, to, named) in [
        ("config.json", "\"bert\"", "\"deberta-v2\"", "\"deberta-v2\" (supported ones are bert, distilbert"),
        ("config.json", "\"gelu\"", "\"mish\"", "mish"),
        ("modules.json", "models.Normalize", "models.WordWeights", "WordWeights"),
        ("modules.json", "models.Transformer", "models.CLIPModel", "CLIPModel"),
        ("1_Pooling/config.json", "{", "{\"include_prompt\": false, ", "prompt"),
        ("1_Pooling/config.json", "{", "{\"pooling_mode\": \"best\", ", "best"),
    ] {
        let folder = tiny_model();
        folder.edit(file, from, to);
        for result in [folder.inspect().map(drop), folder.load().map(drop)] {
            match result {
                Err(ModelError::Unsupported(message)) => assert!(message.contains(named), "{message}"),
                other => panic!("{file} with {to}: {other:?}"),
            }
        }
    }
}

#[test]
fn pickles_are_refused_and_named() {
    let folder = tiny_model();
    std::fs::remove_file(folder.0.join("model.safetensors")).unwrap();
    folder.write("pytorch_model.bin", [0x80, 2]);
    for result in [folder.inspect().map(drop), folder.load().map(drop)] {
        match result {
            Err(ModelError::Unsupported(message)) => {
                assert!(["pytorch_model.bin", "pickle", "safetensors"].iter().all(|word| message.contains(word)));
            }
            other => panic!("{other:?}"),
        }
    }
    // Beside the weights they are nobody's business.
    folder.write("model.safetensors", checkpoint(&weights(), Dtype::F32));
    assert!(folder.load().is_ok());
}

#[test]
fn a_tokenizer_with_more_tokens_than_vectors_is_corrupt() {
    let folder = tiny_model();
    folder.edit("tokenizer.json", "\"index\":5", "\"index\":5,\"vacuum\":6");
    for reason in [corrupt(folder.inspect()), corrupt(folder.load())] {
        assert_eq!(reason.0, "tokenizer.json");
        assert!(reason.1.contains("7 tokens") && reason.1.contains("vectors for 6"), "{}", reason.1);
    }
}

#[test]
fn a_dense_layer_follows_pooling() {
    let folder = tiny_model();
    folder.edit("modules.json", "2_Normalize", "2_Dense");
    folder.edit("modules.json", "models.Normalize", "models.Dense");
    let dense = r#"{"in_features": 4, "out_features": 3, "bias": true, "activation_function": "torch.nn.Tanh"}"#;
    folder.write("2_Dense/config.json", dense);
    let layer = [("linear.weight".to_owned(), vec![3, 4]), ("linear.bias".to_owned(), vec![3])];
    folder.write("2_Dense/model.safetensors", checkpoint(&layer, Dtype::F32));
    let info = folder.inspect().unwrap();
    assert_eq!((info.dimensions, info.files.len()), (3, 8));
    let vector = embed(&folder, "row");
    assert!(vector.len() == 3 && vector.iter().all(|value| value.abs() < 1.0));
    for (from, to, file) in [
        ("\"in_features\": 4", "\"in_features\": 5", "modules.json"),
        ("\"out_features\": 3", "\"out_features\": 2", "model.safetensors"),
        ("\"out_features\": 3", "\"out_features\": 4000000000", "config.json"),
    ] {
        folder.write("2_Dense/config.json", dense.replace(from, to));
        assert_eq!((corrupt(folder.inspect()).0, corrupt(folder.load()).0), (file.to_owned(), file.to_owned()));
    }
    folder.write("2_Dense/config.json", dense.replace("Tanh", "Wish"));
    assert!(matches!(folder.load(), Err(ModelError::Unsupported(message)) if message.contains("Wish")));
    folder.write("2_Dense/config.json", dense);
    std::fs::remove_file(folder.0.join("2_Dense/model.safetensors")).unwrap();
    folder.write("2_Dense/pytorch_model.bin", "");
    assert!(matches!(folder.load(), Err(ModelError::Unsupported(message)) if message.contains("pickle")));
}

#[test]
fn an_embedding_model_is_no_reranking_model() {
    let folder = tiny_model();
    match inspect(ModelKind::Rerank, &folder.0) {
        Err(ModelError::Unsupported(message)) => assert!(message.contains("no head for scores"), "{message}"),
        other => panic!("{other:?}"),
    }
    folder.edit("config.json", "{", "{\"architectures\": [\"BertForSequenceClassification\"], ");
    match inspect(ModelKind::Rerank, &folder.0) {
        Err(ModelError::Unsupported(message)) => assert!(message.contains("2 scores"), "{message}"),
        other => panic!("{other:?}"),
    }
    folder.edit("config.json", "{", "{\"num_labels\": 1, ");
    assert!(corrupt(inspect(ModelKind::Rerank, &folder.0)).1.contains("pooler.dense.weight\" is missing"));
}

#[test]
fn pooling_without_normalisation_and_of_several_modes() {
    let folder = tiny_model();
    folder.edit("1_Pooling/config.json", "{", "{\"pooling_mode\": [\"cls\", \"mean\"], ");
    assert_eq!(folder.inspect().unwrap().dimensions, 8);
    assert_eq!(embed(&folder, "row").len(), 8);
    std::fs::remove_file(folder.0.join("modules.json")).unwrap();
    let vector = embed(&folder, "row");
    assert_eq!(vector.len(), 4);
    let length: f32 = vector.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() > 1e-3);
}

#[test]
fn options_of_the_registration_are_checked() {
    let folder = tiny_model();
    let load = |json: &str| Encoder::load(&folder.0, &EncoderOptions::from_json(json)?);
    assert_eq!(load(r#"{"max_tokens": 6}"#).unwrap().max_tokens(), 6);
    assert_eq!(load("").unwrap().max_tokens(), 8);
    assert!(load(r#"{"dtype": "f32"}"#).is_ok() && load(r#"{"dtype": "int8"}"#).is_ok());
    let bad_type = r#"{"dtype": "int4"}"#;
    let bad_size = r#"{"max_tokens": 9}"#;
    for bad in [bad_size, r#"{"max_tokens": 0}"#, r#"{"max_token": 6}"#, "[1", "{\"query_prefix\": 1}", bad_type] {
        assert!(matches!(load(bad), Err(ModelError::InvalidArgument(_))), "{bad}");
    }
    match load(bad_type) {
        Err(ModelError::InvalidArgument(message)) => {
            assert!(["int4", "f32", "int8"].iter().all(|word| message.contains(word)), "{message}");
        }
        _ => panic!("an unknown dtype is accepted"),
    }
}

#[test]
fn prompts_of_the_model_and_of_the_registration() {
    let folder = tiny_model();
    folder.write("config_sentence_transformers.json", r#"{"prompts": {"query": "index ", "document": null}}"#);
    let ids = |options: &str, purpose| {
        let encoder = Encoder::load(&folder.0, &EncoderOptions::from_json(options).unwrap()).unwrap();
        encoder.prepare("row", purpose).unwrap()
    };
    use pg_rag_protocol::message::Purpose::{Passage, Query};
    assert_eq!(ids("{}", Query), [2, 5, 4, 3]);
    assert_eq!(ids("{}", Passage), [2, 4, 3]);
    assert_eq!(ids(r#"{"query_prefix": "", "passage_prefix": "row "}"#, Query), [2, 4, 3]);
    assert_eq!(ids(r#"{"query_prefix": "", "passage_prefix": "row "}"#, Passage), [2, 4, 4, 3]);
}

#[test]
fn missing_and_unreadable_files_are_told_apart() {
    let nowhere = Path::new("/nonexistent/model");
    assert!(matches!(inspect(ModelKind::Embed, nowhere), Err(ModelError::Missing(_))));
    assert!(matches!(inspect(ModelKind::Generate, nowhere), Err(ModelError::Missing(_))));
    assert!(matches!(inspect(ModelKind::Embed, Path::new("model")), Err(ModelError::InvalidArgument(_))));
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = tiny_model();
        std::fs::remove_file(folder.0.join(name)).unwrap();
        assert!(matches!(folder.inspect(), Err(ModelError::Missing(path)) if path.ends_with(name)), "{name}");
        // A folder in its place cannot be read, whoever tries.
        std::fs::create_dir(folder.0.join(name)).unwrap();
        match folder.inspect() {
            Err(ModelError::Unreadable { path, .. }) => assert!(path.ends_with(name)),
            other => panic!("{name}: {other:?}"),
        }
    }
    let folder = tiny_model();
    let file = folder.0.join("config.json");
    assert!(matches!(inspect(ModelKind::Embed, &file), Err(ModelError::InvalidArgument(_))));
}

#[test]
fn changed_files_are_noticed() {
    let folder = tiny_model();
    let model = ModelRef {
        name: "tiny".into(),
        kind: ModelKind::Embed,
        path: folder.0.to_str().unwrap().into(),
        files: folder.inspect().unwrap().files,
        options_json: String::new(),
        base: None,
        remote: None,
    };
    verify(&model).unwrap();
    assert_eq!(load_verified(&model, || folder.load()).unwrap().dims(), 4);

    let tokenizer = std::fs::read(folder.0.join("tokenizer.json")).unwrap();
    folder.edit("tokenizer.json", "index", "table");
    assert!(matches!(verify(&model), Err(ModelError::Changed { path, .. }) if path.ends_with("tokenizer.json")));
    // The change is told, whether loading succeeds or fails over it.
    for result in [
        load_verified(&model, || folder.load().map(drop)),
        load_verified(&model, || Err(ModelError::Internal("broken".into()))),
    ] {
        assert!(matches!(result, Err(ModelError::Changed { .. })));
    }
    folder.write("tokenizer.json", tokenizer);
    verify(&model).unwrap();

    let prompts = "config_sentence_transformers.json";
    folder.write(prompts, r#"{"prompts": {"query": "index "}}"#);
    assert!(matches!(verify(&model), Err(ModelError::Changed { path, .. }) if path.ends_with(prompts)));
    std::fs::remove_file(folder.0.join(prompts)).unwrap();

    std::fs::remove_file(folder.0.join("config.json")).unwrap();
    assert!(matches!(verify(&model), Err(ModelError::Missing(path)) if path.ends_with("config.json")));

    let mut outside = model.clone();
    outside.files[0].name = "../secret".into();
    assert!(matches!(verify(&outside), Err(ModelError::InvalidArgument(_))));
}

fn gguf_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A GGUF file with a little of every kind of metadata and two tensors.
fn tiny_gguf() -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend(4_u64.to_le_bytes());
    gguf_text(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    gguf_text(&mut bytes, "llama");
    gguf_text(&mut bytes, "llama.context_length");
    bytes.extend(4_u32.to_le_bytes());
    bytes.extend(512_u32.to_le_bytes());
    gguf_text(&mut bytes, "tokenizer.ggml.tokens");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    gguf_text(&mut bytes, "a");
    gguf_text(&mut bytes, "bc");
    gguf_text(&mut bytes, "tokenizer.ggml.scores");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(6_u32.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend([0; 8]);
    for (name, shape, kind, offset) in [("a.weight", [64_u64, 2], 3_u32, 0_u64), ("b.weight", [4, 1], 0, 96)] {
        gguf_text(&mut bytes, name);
        bytes.extend(2_u32.to_le_bytes());
        shape.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 96 + 16, 0);
    bytes
}

#[test]
fn a_gguf_file_is_described_and_found_in_its_folder() {
    let folder = Folder::new();
    folder.write("tiny.gguf", tiny_gguf());
    let info = inspect(ModelKind::Generate, &folder.0).unwrap();
    assert_eq!((info.architecture.as_str(), info.max_tokens, info.parameters), ("llama", 512, 132));
    assert_eq!(info.quantization, "Q4_1");
    assert_eq!(inspect(ModelKind::Generate, &folder.0.join("tiny.gguf")).unwrap(), info);

    folder.write("tokenizer.json", "{}");
    let names: Vec<_> =
        inspect(ModelKind::Generate, &folder.0).unwrap().files.into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["tiny.gguf", "tokenizer.json"]);

    folder.write("other.GGUF", tiny_gguf());
    match inspect(ModelKind::Generate, &folder.0) {
        Err(ModelError::InvalidArgument(message)) => assert!(message.contains("other.GGUF, tiny.gguf"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(gguf_file(&Folder::new().0), Err(ModelError::Missing(_))));
}

#[test]
fn every_truncation_of_a_gguf_file_is_corrupt() {
    let folder = Folder::new();
    let whole = tiny_gguf();
    for length in 0..whole.len() {
        folder.write("tiny.gguf", &whole[..length]);
        corrupt(Header::read(&folder.0.join("tiny.gguf")));
    }
}

#[test]
fn a_hostile_gguf_header_is_an_error_and_not_an_allocation() {
    let folder = Folder::new();
    let path = folder.0.join("tiny.gguf");
    let whole = tiny_gguf();
    // Every place where a length, a count or an offset can stand, with the largest number there is.
    for at in 4..whole.len() - 8 {
        let mut bytes = whole.clone();
        bytes[at..at + 8].fill(0xff);
        folder.write("tiny.gguf", bytes);
        match Header::read(&path) {
            // Names, unused values and data may be anything.
            Ok(_) | Err(ModelError::Corrupt { .. } | ModelError::Unsupported(_)) => {}
            Err(other) => panic!("at {at}: {other:?}"),
        }
    }
}
