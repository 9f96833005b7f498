//! Models in every element type: a small one of random weights, beside the same weights as plain numbers.

use super::tests::model_path;
use super::*;
use crate::compute::Pool;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use forward::Run;
use std::fs::File;
use std::path::PathBuf;

const HIDDEN: usize = 256;
const FEED_FORWARD: usize = 512;
const LAYERS: usize = 2;

/// Random numbers around 0, the same for the same seed.
pub(super) fn random(rows: usize, columns: usize, seed: usize) -> Tensor {
    let numbers: Vec<f32> = (0..rows * columns)
        .map(|i| {
            let hash =
                (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9));
            let hash = (hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((hash >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.2
        })
        .collect();
    Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap()
}

/// Writes a model with matrices of type `element`, or of the numbers that these stand for as F32.
fn write(name: &str, element: GgmlDType, expanded: bool) -> PathBuf {
    let original = Content::read(&mut File::open(model_path()).unwrap()).unwrap();
    let mut metadata = original.metadata;
    for (key, number) in [
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FEED_FORWARD),
        ("block_count", LAYERS),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", HIDDEN / 4),
    ] {
        metadata.insert(format!("llama.{key}"), Value::U32(number as u32));
    }
    let quantize = |tensor: &Tensor, element| {
        let quantized = QTensor::quantize(tensor, element).unwrap();
        match expanded && element != GgmlDType::F32 {
            true => QTensor::quantize(&quantized.dequantize(&Device::Cpu).unwrap(), GgmlDType::F32).unwrap(),
            false => quantized,
        }
    };
    // The embedding is large, so it is the same in all.
    let embedding = QTensor::quantize(&random(49152, HIDDEN, 99), GgmlDType::Q8_0).unwrap();
    let ones =
        || QTensor::quantize(&Tensor::ones(HIDDEN, candle_core::DType::F32, &Device::Cpu).unwrap(), GgmlDType::F32);
    let mut tensors =
        vec![("token_embd.weight".to_owned(), embedding), ("output_norm.weight".to_owned(), ones().unwrap())];
    for layer in 0..LAYERS {
        for (index, (part, rows, columns)) in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN / 2, HIDDEN),
            ("attn_v", HIDDEN / 2, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FEED_FORWARD, HIDDEN),
            ("ffn_up", FEED_FORWARD, HIDDEN),
            ("ffn_down", HIDDEN, FEED_FORWARD),
        ]
        .into_iter()
        .enumerate()
        {
            let matrix = quantize(&random(rows, columns, 10 * layer + index), element);
            tensors.push((format!("blk.{layer}.{part}.weight"), matrix));
        }
        for part in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{layer}.{part}.weight"), ones().unwrap()));
        }
    }
    let path = std::env::temp_dir().join(format!("pg_rag_{}_{name}.gguf", std::process::id()));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    path
}

/// Logits of a prompt's last token, once read at a time and once token by token.
fn logits(path: &PathBuf) -> [Vec<f32>; 2] {
    let (model, pool) = (Decoder::load(path).unwrap(), Pool::new(2).unwrap());
    std::fs::remove_file(path).unwrap();
    let ids: Vec<u32> = (0..40).map(|i| 100 + 7 * i).collect();
    [40, 1].map(|step| {
        let mut cache = KvCache::new(&model.network.config, ids.len()).unwrap();
        let mut logits = Vec::new();
        for tokens in ids.chunks(step) {
            let run = Run { cache: &mut cache, tokens, wanted: 1 };
            assert!(model.network.pass(&pool, &mut [run], &mut logits, &|| false));
        }
        logits
    })
}

#[test]
fn every_element_type_gives_the_logits_of_the_numbers_it_stands_for() {
    for element in [
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let [want, _] = logits(&write(&format!("{element:?}_numbers"), element, true));
        let [whole, single] = logits(&write(&format!("{element:?}"), element, false));
        let range = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        for got in [whole, single] {
            let worst = got.iter().zip(&want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
            assert!(range > 0.1 && worst < 2e-3 * range, "{element:?}: off by {worst} where logits go to {range}");
        }
    }
}
