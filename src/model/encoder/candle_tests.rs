//! The forward pass against candle-transformers, token by token: the real model, and small ones of random weights whose
//! sizes are multiples of nothing.
//!
//! Both compute in f32 and add in different orders. A sum of n products is off by √n · 2⁻²⁴ of its magnitude in the mean,
//! n being at most 1,536 here, six layers add up, and what a normalisation gives is about 1: so 1e-5 is what rounding
//! alone makes, and the limit is a few times that.

use super::shape::{Activation, Shape};
use super::transformer::{check_ids, Scratch, Transformer};
use super::*;
use crate::compute::Crew;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use std::collections::HashMap;
use std::path::PathBuf;

const LIMIT: f32 = 5e-5;

fn model_dir() -> PathBuf {
    let models = std::env::var_os("PG_RAG_MODELS").unwrap_or_else(|| "/usr/local/share/pg_rag/models".into());
    let dir = PathBuf::from(models).join("all-MiniLM-L6-v2");
    assert!(dir.is_dir(), "the test model {} is missing: run \"make models\"", dir.display());
    dir
}

fn candle(config: &str, weights: Vec<u8>) -> BertModel {
    let config: Config = serde_json::from_str(config).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).unwrap();
    BertModel::load(weights, &config).unwrap()
}

/// candle's hidden states of a batch that is padded to its longest text: for each text one row for each of its tokens.
fn hidden_by_candle(model: &BertModel, batch: &[Vec<u32>]) -> Vec<Vec<Vec<f32>>> {
    let longest = batch.iter().map(Vec::len).max().unwrap();
    let padded = |make: &dyn Fn(Option<&u32>) -> u32| {
        let numbers: Vec<u32> = batch.iter().flat_map(|ids| (0..longest).map(|at| make(ids.get(at)))).collect();
        Tensor::from_vec(numbers, (batch.len(), longest), &Device::Cpu).unwrap()
    };
    let (ids, mask) = (padded(&|id| id.copied().unwrap_or(0)), padded(&|id| u32::from(id.is_some())));
    let states = model.forward(&ids, &ids.zeros_like().unwrap(), Some(&mask)).unwrap();
    let mut states = states.to_vec3::<f32>().unwrap();
    states.iter_mut().zip(batch).for_each(|(states, ids)| states.truncate(ids.len()));
    states
}

/// Our hidden states of a batch in one pass, in the same form.
fn hidden(bert: &Transformer, crew: &mut Crew, batch: &[Vec<u32>]) -> Vec<Vec<Vec<f32>>> {
    let mut starts = vec![0];
    for ids in batch {
        check_ids(&bert.shape, ids).unwrap();
        starts.push(starts[starts.len() - 1] + ids.len());
    }
    let mut scratch = Scratch::default();
    let state = bert.forward(crew, batch, &starts, &mut scratch, &|| false).unwrap();
    let (width, mut rows) = (bert.shape.hidden, Vec::new());
    let texts = starts.windows(2).map(|text| {
        state.copy_rows(text[0]..text[1], width, &mut rows);
        rows.chunks_exact(width).map(<[f32]>::to_vec).collect()
    });
    texts.collect()
}

/// The largest difference, and the largest number that was compared.
fn distance(got: &[Vec<Vec<f32>>], want: &[Vec<Vec<f32>>]) -> (f32, f32) {
    assert_eq!(got.len(), want.len());
    let (mut worst, mut largest) = (0.0_f32, 0.0_f32);
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.len(), want.len(), "a row for each token");
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!(got.is_finite());
            worst = worst.max((got - want).abs());
            largest = largest.max(want.abs());
        }
    }
    (worst, largest)
}

/// Texts of very different lengths, so that most of candle's batch is padding.
fn batch(encoder: &Encoder) -> Vec<Vec<u32>> {
    let sentence = "A partial index contains entries only for those rows that satisfy its predicate; ";
    let texts = ["".to_owned(), "index".to_owned(), sentence.to_owned(), sentence.repeat(4), sentence.repeat(30)];
    texts.iter().map(|text| encoder.prepare(text, Purpose::Passage).unwrap()).collect()
}

#[test]
fn hidden_states_and_vectors_of_the_real_model_are_those_of_candle() {
    let dir = model_dir();
    let encoder = Encoder::load(&dir, &EncoderOptions::default()).unwrap();
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let candle = candle(&config, std::fs::read(dir.join("model.safetensors")).unwrap());
    let batch = batch(&encoder);
    let lengths: Vec<usize> = batch.iter().map(Vec::len).collect();
    assert!(lengths[0] == 2 && lengths[4] == 256, "{lengths:?}");
    let pool = Pool::new(2).unwrap();
    let Engine::Processor(passes) = &encoder.engine else { unreachable!("no device was given") };

    let want = hidden_by_candle(&candle, &batch);
    let together = pool.with_crew(|crew| hidden(&passes.transformer, crew, &batch));
    let (worst, largest) = distance(&together, &want);
    assert!(largest > 1.0 && worst < LIMIT, "off by {worst}, where numbers go to {largest}");
    for (ids, together) in batch.iter().zip(&together) {
        let single = std::slice::from_ref(ids);
        assert_eq!(&hidden(&passes.transformer, &mut Crew::alone(), single)[0], together, "alone and in company");
        let (worst, _) = distance(std::slice::from_ref(together), &hidden_by_candle(&candle, single));
        assert!(worst < LIMIT, "{} tokens alone: off by {worst}", ids.len());
    }

    // The model's vector: the mean of the token vectors, scaled to length 1.
    let vectors = encoder.embed(&batch, &pool).unwrap();
    for (states, vector) in want.iter().zip(vectors.chunks(384)) {
        let mean: Vec<f64> = (0..384).map(|at| states.iter().map(|state| f64::from(state[at])).sum()).collect();
        let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (got, want) in vector.iter().zip(&mean) {
            assert!((f64::from(*got) - want / length).abs() < 2e-6, "{got} in a vector, not {}", want / length);
        }
    }
}

/// Numbers around 0, the same for the same seed.
fn random(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The sizes of a small BERT.
struct Sizes {
    hidden: usize,
    layers: usize,
    feed_forward: usize,
    vocabulary: usize,
    positions: usize,
    token_types: usize,
}

/// The weights of a BERT of these sizes by their names.
fn weights(shape: &Sizes) -> HashMap<String, Tensor> {
    let Sizes { hidden, feed_forward, .. } = *shape;
    let mut weights = HashMap::new();
    let mut put = |name: String, sizes: &[usize], scale: f32, offset: f32| {
        let seed = weights.len() as u32;
        let numbers = random(sizes.iter().product(), seed).iter().map(|x| x * scale + offset).collect();
        weights.insert(name, Tensor::from_vec::<_, f32>(numbers, sizes, &Device::Cpu).unwrap());
    };
    for (table, rows) in [("word", shape.vocabulary), ("position", shape.positions), ("token_type", shape.token_types)]
    {
        put(format!("embeddings.{table}_embeddings.weight"), &[rows, hidden], 1.0, 0.0);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..shape.layers {
        for (name, outputs, inputs) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", feed_forward, hidden),
            ("output.dense", hidden, feed_forward),
        ] {
            let name = format!("encoder.layer.{layer}.{name}");
            put(format!("{name}.weight"), &[outputs, inputs], 2.0 / (inputs as f32).sqrt(), 0.0);
            put(format!("{name}.bias"), &[outputs], 0.5, 0.0);
        }
        norms.extend(["attention.output", "output"].map(|part| format!("encoder.layer.{layer}.{part}.LayerNorm")));
    }
    for name in norms {
        put(format!("{name}.weight"), &[hidden], 0.3, 1.0);
        put(format!("{name}.bias"), &[hidden], 0.3, 0.0);
    }
    weights
}

#[test]
fn models_of_odd_sizes_are_those_of_candle() {
    let pool = Pool::new(3).unwrap();
    // Heads narrower than a panel, of one panel, wider than one and not two; layers that end within a panel.
    for (hidden_size, heads, feed_forward, activation) in [
        (24, 3, 50, Activation::Gelu),
        (48, 3, 96, Activation::GeluTanh),
        (40, 2, 72, Activation::Relu),
        (100, 2, 33, Activation::Gelu),
    ] {
        let sizes =
            Sizes { hidden: hidden_size, layers: 3, feed_forward, vocabulary: 97, positions: 70, token_types: 2 };
        let name = match activation {
            Activation::GeluTanh => "geluapproximate",
            Activation::Relu => "relu",
            _ => "gelu",
        };
        let config = format!(
            r#"{{"vocab_size": 97, "hidden_size": {hidden_size}, "num_hidden_layers": 3, "num_attention_heads": {heads},
                "intermediate_size": {feed_forward}, "hidden_act": "{name}", "hidden_dropout_prob": 0.0,
                "max_position_embeddings": 70, "type_vocab_size": 2, "initializer_range": 0.02,
                "layer_norm_eps": 1e-5, "pad_token_id": 0}}"#
        );
        // The name that transformers and we have for it.
        let ours = config.replace("geluapproximate", "gelu_new").replacen('{', r#"{"model_type": "bert", "#, 1);
        let shape = Shape::from_json(&serde_json::from_str(&ours).unwrap(), Path::new("config.json")).unwrap();
        assert_eq!(shape.activation, activation);
        let dir = std::env::temp_dir().join(format!("pg_rag_{}_bert_{hidden_size}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("model.safetensors");
        candle_core::safetensors::save(&weights(&sizes), &file).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let [single, quantized] = [Dtype::F32, Dtype::Int8]
            .map(|dtype| Transformer::load(&shape, dtype, &Checkpoint::open(&dir).unwrap()).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
        let candle = candle(&config, bytes);
        let batch: Vec<Vec<u32>> =
            [1_u32, 2, 15, 16, 17, 33, 70].map(|count| (0..count).map(|at| (at * 31 + count) % 97).collect()).to_vec();
        let want = hidden_by_candle(&candle, &batch);
        lanes::limit::each_level(|| {
            let (worst, largest) = distance(&hidden(&single, &mut Crew::alone(), &batch), &want);
            assert!(largest > 1.0 && worst < LIMIT, "{hidden_size} wide: off by {worst} of {largest}");
            // Eight bits are off by half a step of 1/127 in each number, which is 1 % of the state after three layers.
            let rows = hidden(&quantized, &mut Crew::alone(), &batch);
            for (got, want) in rows.iter().flatten().zip(want.iter().flatten()) {
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
                let cosine = dot(got, want) / (dot(got, got) * dot(want, want)).sqrt();
                assert!(cosine > 0.99, "{hidden_size} wide, in 8 bits: cosine {cosine}");
            }
        });
        let (worst, _) = distance(&pool.with_crew(|crew| hidden(&single, crew, &batch)), &want);
        assert!(worst < LIMIT, "{hidden_size} wide, three threads: off by {worst}");
    }
}
