//! What files of the llama architecture may ask for besides what the real test model does: small models of random weights
//! against candle-transformers, or against another way to say the same.
//!
//! Weights are F32, so only keys and values are rounded, to f16.

use super::candle_tests::{distance, logits_of, Truth};
use super::format_tests::random;
use super::tests::model_path;
use super::*;
use crate::compute::Pool;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::llama::{Llama3RopeConfig, Llama3RopeType};
use std::fs::File;
use std::path::PathBuf;

const HIDDEN: usize = 256;
const FEED_FORWARD: usize = 512;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
/// Of a head, where the file does not say something else.
const HEAD_DIM: usize = HIDDEN / HEADS;
const VOCABULARY: usize = 49152;

/// Of logits, relative to their range.
const LIMIT: f32 = 2e-3;

fn q8(tensor: &Tensor) -> QTensor {
    QTensor::quantize(tensor, GgmlDType::Q8_0).unwrap()
}

fn f32s(tensor: &Tensor) -> QTensor {
    QTensor::quantize(tensor, GgmlDType::F32).unwrap()
}

/// A file that is removed with this.
struct Model(PathBuf);

impl Drop for Model {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a model with the matrices of `matrix`, which is given a name, rows and columns, and more of the other things.
fn write(
    name: &str,
    more: &[(&str, Value)],
    more_tensors: Vec<(String, QTensor)>,
    matrix: impl Fn(&str, usize, Tensor) -> Tensor,
) -> Model {
    let mut metadata = Content::read(&mut File::open(model_path()).unwrap()).unwrap().metadata;
    for (key, number) in [
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FEED_FORWARD),
        ("block_count", LAYERS),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("rope.dimension_count", HEAD_DIM),
    ] {
        metadata.insert(format!("llama.{key}"), Value::U32(number as u32));
    }
    metadata.extend(more.iter().map(|(key, value)| (format!("llama.{key}"), value.clone())));
    let ones = || f32s(&Tensor::ones(HIDDEN, DType::F32, &Device::Cpu).unwrap());
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), q8(&random(VOCABULARY, HIDDEN, 99))),
        ("output_norm.weight".to_owned(), ones()),
    ];
    tensors.extend(more_tensors);
    for layer in 0..LAYERS {
        for (index, (part, rows, columns)) in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
            ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FEED_FORWARD, HIDDEN),
            ("ffn_up", FEED_FORWARD, HIDDEN),
            ("ffn_down", HIDDEN, FEED_FORWARD),
        ]
        .into_iter()
        .enumerate()
        {
            let numbers = random(rows, columns, 10 * layer + index);
            tensors.push((format!("blk.{layer}.{part}.weight"), f32s(&matrix(part, layer, numbers))));
        }
        for part in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{layer}.{part}.weight"), ones()));
        }
    }
    let path = std::env::temp_dir().join(format!("pg_rag_{}_{name}.gguf", std::process::id()));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    Model(path)
}

fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| 100 + (i * 7919) % 40_000).collect()
}

/// Logits are near, in relation to what they range over.
fn expect_near(got: &[f32], want: &[f32], what: &str) {
    let range = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    let off = distance(got, want);
    assert!(range > 0.1 && off < LIMIT * range, "{what}: off by {off} where logits go to {range}");
}

/// The logits at the end of each slice are those of candle.
fn expect_those_of_candle(model: &Model, scaling: Option<Llama3RopeConfig>, slices: &[&[u32]]) -> Vec<f32> {
    let truth = Truth::load(&model.0, scaling);
    let decoder = Decoder::load(&model.0).unwrap();
    let (mut cache, mut position) = (truth.new_cache(), 0);
    let logits = logits_of(&decoder, slices, &Pool::new(2).unwrap());
    for (slice, got) in slices.iter().zip(&logits) {
        let want = truth.logits(slice, position, &mut cache);
        position += slice.len();
        expect_near(got, &want, &format!("after {position} tokens"));
    }
    logits.last().unwrap().clone()
}

#[test]
fn an_output_of_its_own_is_used() {
    let output = random(VOCABULARY, HIDDEN, 98);
    let untied = write("untied", &[], vec![("output.weight".into(), q8(&output))], |_, _, numbers| numbers);
    let tied = write("tied", &[], Vec::new(), |_, _, numbers| numbers);
    let prompt = ids(20);
    let slices: Vec<&[u32]> = vec![&prompt[..18], &prompt[18..19], &prompt[19..]];
    let [untied, tied] = [untied, tied].map(|model| expect_those_of_candle(&model, None, &slices));
    assert!(distance(&untied, &tied) > 0.1);
}

#[test]
fn positions_beyond_4096_are_those_of_candle() {
    let model = write("long", &[], Vec::new(), |_, _, numbers| numbers);
    let prompt = ids(4700);
    let mut slices: Vec<&[u32]> = prompt[..4090].chunks(409).collect();
    slices.extend(prompt[4090..4100].chunks(1));
    slices.extend(prompt[4100..].chunks(300));
    expect_those_of_candle(&model, None, &slices);
}

#[test]
fn the_scaled_positions_of_llama_3_are_those_of_candle() {
    let base = 10_000.0_f32;
    // So small that positions of the test lie on both sides.
    let scaling = Llama3RopeConfig {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
        rope_type: Llama3RopeType::Llama3,
    };
    // As the converter of llama.cpp writes them: what each frequency is divided by.
    let divisor = |pair: usize| {
        let wavelength = 2.0 * std::f32::consts::PI * base.powf(2.0 * pair as f32 / HEAD_DIM as f32);
        let ratio = scaling.original_max_position_embeddings as f32 / wavelength;
        let Llama3RopeConfig { factor, low_freq_factor: low, high_freq_factor: high, .. } = scaling;
        match ratio {
            ratio if ratio > high => 1.0,
            ratio if ratio < low => factor,
            ratio => {
                let smooth = (ratio - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        }
    };
    let divisors: Vec<f32> = (0..HEAD_DIM / 2).map(divisor).collect();
    assert!(divisors.iter().any(|d| *d > 1.0 && *d < 8.0) && divisors[0] == 1.0, "{divisors:?}");
    let tensor = f32s(&Tensor::from_vec(divisors, HEAD_DIM / 2, &Device::Cpu).unwrap());
    let more = [("rope.freq_base", Value::F32(base))];
    let scaled = write("llama3", &more, vec![("rope_freqs.weight".into(), tensor)], |_, _, numbers| numbers);
    let plain = write("llama2", &more, Vec::new(), |_, _, numbers| numbers);
    let prompt = ids(200);
    let slices: Vec<&[u32]> = prompt[..190].chunks(95).chain(prompt[190..].chunks(1)).collect();
    let scaled = expect_those_of_candle(&scaled, Some(scaling), &slices);
    let plain = expect_those_of_candle(&plain, None, &slices);
    assert!(distance(&scaled, &plain) > 0.01, "scaling changes something");
}

/// Puts rows of zeros behind every head's rows.
fn wider_heads(numbers: &Tensor, heads: usize, wide: usize) -> Tensor {
    let (rows, columns) = numbers.dims2().unwrap();
    let heads_apart = numbers.reshape((heads, rows / heads, columns)).unwrap();
    let zeros = Tensor::zeros((heads, wide - rows / heads, columns), DType::F32, &Device::Cpu).unwrap();
    Tensor::cat(&[heads_apart, zeros], 1).unwrap().reshape((heads * wide, columns)).unwrap()
}

#[test]
fn heads_may_be_wider_than_their_share_of_the_stream() {
    const WIDE: usize = 96;
    let narrow = write("narrow", &[], Vec::new(), |_, _, numbers| numbers);
    // The same model said in another way: dimensions of zeros, which are not rotated, and queries that make up for the
    // scale of wider heads.
    let more = [("attention.key_length", Value::U32(WIDE as u32)), ("attention.value_length", Value::U32(WIDE as u32))];
    let wide = write("wide", &more, Vec::new(), |part, _, numbers| match part {
        "attn_q" => wider_heads(&(numbers * (WIDE as f64 / HEAD_DIM as f64).sqrt()).unwrap(), HEADS, WIDE),
        "attn_k" | "attn_v" => wider_heads(&numbers, KV_HEADS, WIDE),
        "attn_output" => {
            wider_heads(&numbers.t().unwrap().contiguous().unwrap(), HEADS, WIDE).t().unwrap().contiguous().unwrap()
        }
        _ => numbers,
    });
    let prompt = ids(70);
    let slices: Vec<&[u32]> = vec![&prompt[..60], &prompt[60..61], &prompt[61..69], &prompt[69..]];
    let want = expect_those_of_candle(&narrow, None, &slices);
    let decoder = Decoder::load(&wide.0).unwrap();
    let got = logits_of(&decoder, &slices, &Pool::new(2).unwrap());
    expect_near(got.last().unwrap(), &want, "heads of 96 dimensions");
}
