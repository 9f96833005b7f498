//! Every family from a folder of safetensors to one file: the file is what llama.cpp's converters would have written, and
//! the decoder that reads it answers like the folder. The fixtures are those of the decoder's tests.

use super::file_tests::{difference, quantised, Folder as Target};
use crate::compute::Pool;
use crate::decoder::family_tests::{check, fixtures, unpacked, Case, Folder};
use crate::decoder::Decoder;
use candle_core::quantized::gguf_file::{Content, Value};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

fn load(path: &Path) -> Decoder {
    Decoder::load(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_family_gives_the_logits_of_the_reference_as_a_file() {
    let (fixtures, target, pool) = (fixtures(), Target::new(), Pool::new(2).unwrap());
    let mut measured = Vec::new();
    for case in &fixtures.cases {
        let folder = Folder::safetensors(&case.name, &case.config);
        for kind in ["f32", "f16"] {
            check(&fixtures, case, &load(&quantised(&folder.0, kind, &target)), kind);
        }
        let original = load(&folder.0);
        let eight_bits = load(&quantised(&folder.0, "q8_0", &target));
        let [want, got] = [&original, &eight_bits].map(|decoder| decoder.all_logits(&pool, &fixtures.ids));
        let worst = got.iter().zip(&want).map(|(got, want)| difference(got, want)).fold(0.0, f32::max);
        measured.push((case.name.as_str(), worst));
    }
    // Weights that are powers of two make the most of every rounding of what they are multiplied by.
    assert!(measured.iter().all(|(_, worst)| *worst < 0.2), "{measured:?}");
    assert_eq!(measured.len(), 12);
}

/// A value as a text, numbers without their width.
fn text(value: &Value) -> String {
    match value {
        Value::F32(number) => format!("{number:.4e}"),
        Value::F64(number) => format!("{number:.4e}"),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::I32(number) => number.to_string(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join("\n"),
        other => format!("{other:?}"),
    }
}

/// The tensors of a file as bytes.
fn tensors(contents: &[u8]) -> BTreeMap<String, (String, Vec<u8>)> {
    let content = Content::read(&mut Cursor::new(contents)).unwrap();
    let tensor = |(name, info): (&String, &candle_core::quantized::gguf_file::TensorInfo)| {
        let elements: usize = info.shape.dims().iter().product();
        let bytes = elements / info.ggml_dtype.block_size() * info.ggml_dtype.type_size();
        let start = (content.tensor_data_offset + info.offset) as usize;
        let shape = format!("{:?} {:?}", info.shape, info.ggml_dtype);
        (name.clone(), (shape, contents[start..start + bytes].to_vec()))
    };
    content.tensor_infos.iter().map(tensor).collect()
}

fn check_file(case: &Case, ours: &[u8], theirs: &[u8]) {
    let [own, expected] = [ours, theirs].map(|contents| Content::read(&mut Cursor::new(contents)).unwrap().metadata);
    let mut compared = 0;
    for (key, value) in &expected {
        // The folders have no template, and nobody's name.
        if !key.starts_with("general.") && key != "tokenizer.chat_template" {
            let found = own.get(key).unwrap_or_else(|| panic!("{}: {key} is missing", case.name));
            assert_eq!(text(found), text(value), "{}: {key}", case.name);
            compared += 1;
        }
    }
    assert!(compared > 15, "{}: {compared} keys", case.name);
    assert_eq!(text(&own["general.architecture"]), text(&expected["general.architecture"]));

    let [own, expected] = [ours, theirs].map(tensors);
    assert_eq!(own.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", case.name);
    for (name, (shape, bytes)) in &expected {
        assert_eq!(&own[name].0, shape, "{}: {name}", case.name);
        if !name.starts_with("rope_") {
            assert!(&own[name].1 == bytes, "{}: {name} has other numbers", case.name);
            continue;
        }
        let numbers =
            |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect::<Vec<_>>();
        let near = |(own, expected): (&f32, &f32)| (own / expected - 1.0).abs() < 1e-4;
        assert!(numbers(&own[name].1).iter().zip(&numbers(bytes)).all(near), "{}: {name}", case.name);
    }
}

#[test]
fn a_file_is_what_the_converters_of_llama_cpp_write() {
    let (fixtures, target) = (fixtures(), Target::new());
    for case in &fixtures.cases {
        let folder = Folder::safetensors(&case.name, &case.config);
        let ours = std::fs::read(quantised(&folder.0, "f16", &target)).unwrap();
        check_file(case, &ours, &unpacked(&format!("{}.gguf.gz", case.name)));
    }
}

#[test]
fn what_gguf_has_no_key_for_is_refused_and_what_differs_from_the_usual_is_kept() {
    let (fixtures, target) = (fixtures(), Target::new());
    let change = |name: &str, key: &str, value: serde_json::Value| {
        let case = fixtures.cases.iter().find(|case| case.name == name).unwrap();
        let mut config = case.config.clone();
        config.insert(key.to_owned(), value);
        Folder::safetensors(name, &config)
    };
    for (name, key, value, named) in [
        ("smollm3", "no_rope_layers", serde_json::json!([1, 0, 1, 1]), "choice of layers with positions"),
        ("llama", "hidden_act", "gelu_pytorch_tanh".into(), "another activation"),
        ("llama", "partial_rotary_factor", 0.5.into(), "rotated in part"),
    ] {
        let folder = change(name, key, value);
        assert!(Decoder::load(&folder.0).is_ok(), "{key}");
        let error = super::open(&folder.0).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(named) && error.contains(name), "{key}: {error}");
    }
    let pool = Pool::new(2).unwrap();
    for (name, key, value) in [
        ("gemma2", "query_pre_attn_scalar", serde_json::json!(48)),
        ("gemma2", "attn_logit_softcapping", serde_json::Value::Null),
        ("gemma2", "layer_types", serde_json::json!(["full_attention", "sliding_attention"])),
        ("gemma3", "rope_local_base_freq", 250.0.into()),
        ("gemma3", "final_logit_softcapping", 2.0.into()),
        (
            "qwen2",
            "rope_scaling",
            serde_json::json!({"type": "yarn", "factor": 3.0, "attention_factor": 1.5, "beta_fast": 20.0, "original_max_position_embeddings": 16}),
        ),
        ("qwen2", "rope_parameters", serde_json::json!({"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0})),
        ("mistral", "sliding_window", 5.into()),
    ] {
        let folder = change(name, key, value);
        let [want, got] = [folder.0.clone(), quantised(&folder.0, "f32", &target)]
            .map(|path| load(&path).all_logits(&pool, &fixtures.ids));
        let worst = got.iter().zip(&want).map(|(got, want)| difference(got, want)).fold(0.0, f32::max);
        assert!(worst < 0.005, "{name}, {key}: {worst}");
    }
}
