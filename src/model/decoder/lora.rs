//! LoRA adapters on a loaded base.
//!
//! A decoder with an adapter shares everything with its base that the adapter does not change: the mapped weights, the
//! tokenizer, the template. Matrices of numbers get the product of the adapter's factors added once, in memory of their
//! own. Matrices of blocks stay as they are, and the factors are applied to every vector (two thin products), since adding
//! them would mean to quantise again; so do all on a device, where the base's matrices are shared. Keys and values depend on
//! the adapter, so each has a prefix cache of its own.

use super::config::{Config, Pairs};
use super::json_schema::Schemas;
use super::matrix::Matrix;
use super::prefix_cache::{PrefixCache, DEFAULT_BYTES};
use super::rope::rotated_row;
use super::weights::Layer;
use super::{Decoder, Network};
use crate::adapter::{AdapterFiles, Base, Factors, Target};
use crate::compute::dense::dot;
use crate::compute::parts::{Chunks, Strip, Strips};
use crate::compute::Pool;
use crate::error::Result;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Multiplications below which a product is computed on one thread.
const WORTH_A_HAND_OVER: usize = 1 << 16;

/// The factors of the matrices that stay as they are.
#[derive(Default)]
pub struct Adapter {
    layers: Vec<LayerAdapter>,
}

/// Of one layer, by what is multiplied: each with the first output in the row of results.
#[derive(Default)]
pub struct LayerAdapter {
    pub qkv: Vec<(usize, Factors)>,
    pub attention_output: Vec<(usize, Factors)>,
    pub gate_up: Vec<(usize, Factors)>,
    pub down: Vec<(usize, Factors)>,
}

impl Adapter {
    /// The factors of a layer, if the adapter has any.
    pub fn layer(&self, index: usize) -> Option<&LayerAdapter> {
        self.layers.get(index)
    }

    fn bytes(&self) -> usize {
        let all = |layer: &LayerAdapter| {
            let parts = [&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down];
            parts.into_iter().flatten().map(|(_, factors)| factors.a.len() + factors.b.len()).sum::<usize>()
        };
        self.layers.iter().map(all).sum::<usize>() * size_of::<f32>()
    }
}

/// Adds the products of factors and vectors to the results `y`, rows of `stride` numbers. `thin` is scratch.
pub fn add(pool: &Pool, factors: &[(usize, Factors)], x: &[f32], y: &mut [f32], stride: usize, thin: &mut Vec<f32>) {
    for (first, Factors { rank, a, b }) in factors {
        let (inputs, outputs) = (a.len() / rank, b.len() / rank);
        let count = x.len() / inputs;
        thin.resize(count * rank, 0.0);
        let share = (count * rank).div_ceil(2 * pool.threads());
        let narrow = |index: usize, thin: &mut [f32]| {
            for (at, out) in thin.iter_mut().enumerate() {
                let (row, factor) = ((index * share + at) / rank, (index * share + at) % rank);
                *out = dot(&a[factor * inputs..][..inputs], &x[row * inputs..][..inputs]);
            }
        };
        let width = outputs.div_ceil(2 * pool.threads());
        if count * rank * (inputs + outputs) < WORTH_A_HAND_OVER {
            pool.for_parts_here(Chunks::new(thin, share), narrow);
        } else {
            pool.for_parts(Chunks::new(thin, share), narrow);
        }
        let strips = Strips::new(&mut y[*first..], count, stride, outputs, width);
        let widen = |index: usize, mut strip: Strip<'_>| {
            for (row, thin) in thin.chunks_exact(*rank).enumerate() {
                let factors = b[index * width * rank..].chunks_exact(*rank);
                strip.row_mut(row).iter_mut().zip(factors).for_each(|(out, b)| *out += dot(b, thin));
            }
        };
        if count * rank * (inputs + outputs) < WORTH_A_HAND_OVER {
            pool.for_parts_here(strips, widen);
        } else {
            pool.for_parts(strips, widen);
        }
    }
}

impl Base for Config {
    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn shape(&self, target: Target) -> (usize, usize) {
        match target {
            Target::Q => (self.q_len(), self.hidden),
            Target::K | Target::V => (self.kv_len(), self.hidden),
            Target::AttentionOutput => (self.hidden, self.q_len()),
            Target::Gate | Target::Up => (self.feed_forward, self.hidden),
            Target::Down => (self.hidden, self.feed_forward),
        }
    }
}

/// What a matrix is called in a GGUF file.
pub fn tensor_name(layer: usize, target: Target) -> String {
    let part = match target {
        Target::Q => "attn_q",
        Target::K => "attn_k",
        Target::V => "attn_v",
        Target::AttentionOutput => "attn_output",
        Target::Gate => "ffn_gate",
        Target::Up => "ffn_up",
        Target::Down => "ffn_down",
    };
    format!("blk.{layer}.{part}.weight")
}

/// `None` where several matrices are kept as one.
fn matrix_of(layer: &mut Layer, target: Target) -> Option<&mut Matrix> {
    let (qkv, gate_up) = (layer.qkv.as_mut_slice(), layer.gate_up.as_mut_slice());
    match (target, qkv, gate_up) {
        (Target::Q, [q, _, _], _) => Some(q),
        (Target::K, [_, k, _], _) => Some(k),
        (Target::V, [_, _, v], _) => Some(v),
        (Target::AttentionOutput, ..) => Some(&mut layer.attention_output),
        (Target::Gate, _, [gate, _]) => Some(gate),
        (Target::Up, _, [_, up]) => Some(up),
        (Target::Down, ..) => Some(&mut layer.down),
        _ => None,
    }
}

impl Decoder {
    /// This model with the adapter in `dir`; the two share what they have in common.
    ///
    /// Errors: as for [`AdapterFiles::open`] and [`AdapterFiles::load`]; those of a device.
    pub fn with_adapter(&self, dir: &Path) -> Result<Self> {
        let config = self.network.config.clone();
        let mut weights = self.network.weights.clone();
        let mut adapter = Adapter { layers: config.layers.iter().map(|_| LayerAdapter::default()).collect() };
        let mut merged_bytes = 0;
        for ((index, target), mut factors) in AdapterFiles::open(dir)?.load(&config)? {
            // Where neighbours are rotated together, the rows of queries and keys lie in the order of GGUF.
            if matches!(target, Target::Q | Target::K) && config.rope_pairs == Pairs::Adjacent {
                factors.permute(|row| rotated_row(row, config.head_dim));
            }
            let mergeable =
                if self.accelerated.is_none() { matrix_of(&mut weights.layers[index], target) } else { None };
            if let Some(matrix) = mergeable {
                if let Some(merged) = matrix.merged(&factors) {
                    merged_bytes += merged.bytes();
                    *matrix = merged;
                    continue;
                }
            }
            let layer = &mut adapter.layers[index];
            match target {
                Target::Q => layer.qkv.push((0, factors)),
                Target::K => layer.qkv.push((config.q_len(), factors)),
                Target::V => layer.qkv.push((config.q_len() + config.kv_len(), factors)),
                Target::AttentionOutput => layer.attention_output.push((0, factors)),
                Target::Gate => layer.gate_up.push((0, factors)),
                Target::Up => layer.gate_up.push((config.feed_forward, factors)),
                Target::Down => layer.down.push((0, factors)),
            }
        }
        let resident_bytes = (merged_bytes + adapter.bytes()) as u64;
        let prefixes = PrefixCache::new(&config, DEFAULT_BYTES);
        let accelerated = self.accelerated.as_ref().map(|network| network.with_adapter(&adapter)).transpose()?;
        Ok(Self {
            network: Network::with_adapter(config, weights, adapter),
            accelerated,
            tokenizer: Arc::clone(&self.tokenizer),
            template: Arc::clone(&self.template),
            token_count: self.token_count,
            text_start: self.text_start,
            schemas: Schemas::default(),
            ends: self.ends.clone(),
            resident_bytes,
            prefixes,
            logits: Mutex::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kv_cache::KvCache;
    use super::super::tests::{finish, greedy};
    use super::super::{Generation, GenerationOptions};
    use super::*;
    use crate::quantize::file_tests::{data, difference, quantised, reference, Folder};

    /// The largest difference from the logits of the merged reference.
    fn worst(decoder: &Decoder, want: &[Vec<f32>]) -> f32 {
        let reference = reference();
        let rows = decoder.all_logits(&Pool::new(2).unwrap(), &reference.ids);
        let pairs = reference.positions.iter().zip(want);
        pairs.map(|(&at, want)| difference(&rows[at], want)).fold(0.0, f32::max)
    }

    #[test]
    fn an_adapter_gives_what_the_merged_reference_gives() {
        let (folder, reference) = (Folder::new(), reference());
        let most = [
            ("folder", true, 0.03),
            ("f32", true, 0.005),
            ("bf16", true, 0.03),
            ("q8_0", false, 0.12),
            ("q5_1", false, 0.4),
        ];
        let mut measured = Vec::new();
        for (kind, merged, most) in most {
            let base = match kind {
                // Its rows lie in another order.
                "folder" => Decoder::load(&data("tiny_llama")).unwrap(),
                kind => Decoder::load(&quantised(&data("tiny_llama"), kind, &folder)).unwrap(),
            };
            for (name, want) in [("tiny_llama_lora", &reference.lora), ("tiny_llama_rslora", &reference.rslora)] {
                let adapted = base.with_adapter(&data(name)).unwrap();
                let used = adapted.network.adapter.layers.iter().any(|layer| !layer.qkv.is_empty());
                assert_eq!(used, !merged, "{kind}");
                assert!(adapted.resident_bytes() > 0 && adapted.resident_bytes() < base.resident_bytes());
                measured.push((kind, name, worst(&adapted, want), worst(&base, want), most));
            }
            assert!(worst(&base, &reference.base) < most, "{kind}: the base has changed");
        }
        // The adapters say something quite different from the base.
        let right = |(_, _, with, without, most): &(&str, &str, f32, f32, f32)| with < most && *without > 0.3;
        assert!(measured.iter().all(right), "{measured:?}");
    }

    #[test]
    fn factors_applied_to_vectors_give_what_the_merged_matrix_gives() {
        // A base of blocks, and the numbers that these stand for.
        let folder = Folder::new();
        let blocks = quantised(&data("tiny_llama"), "q5_0", &folder);
        let numbers = quantised(&blocks, "f32", &folder);
        let load = |path: &Path| Decoder::load(path).unwrap().with_adapter(&data("tiny_llama_rslora")).unwrap();
        let (applied, merged) = (load(&blocks), load(&numbers));
        let ids = reference().ids;
        let pool = Pool::new(2).unwrap();
        let rows = applied.all_logits(&pool, &ids).into_iter().zip(merged.all_logits(&pool, &ids));
        for (applied, merged) in rows {
            assert!(difference(&applied, &merged) < 0.005, "{}", difference(&applied, &merged));
        }
    }

    #[test]
    fn a_token_has_the_same_logits_in_any_company() {
        let folder = Folder::new();
        let base = Decoder::load(&quantised(&data("tiny_llama"), "q4_0", &folder)).unwrap();
        let adapted = base.with_adapter(&data("tiny_llama_rslora")).unwrap();
        let ids = reference().ids;
        let pool = Pool::new(2).unwrap();
        let together = adapted.all_logits(&pool, &ids);
        let mut cache = KvCache::new(&adapted.network.config, ids.len()).unwrap();
        for (at, id) in ids.iter().enumerate() {
            let same = |_, row: &[f32]| assert_eq!(row, together[at], "token {at}");
            adapted.each_logits(&pool, &mut cache, &[*id], &|| false, same).unwrap();
        }
    }

    #[test]
    fn adapters_share_the_base_and_not_their_caches() {
        let folder = Folder::new();
        let base = Arc::new(Decoder::load(&quantised(&data("tiny_llama"), "q8_0", &folder)).unwrap());
        let one = Arc::new(base.with_adapter(&data("tiny_llama_lora")).unwrap());
        let two = Arc::new(base.with_adapter(&data("tiny_llama_rslora")).unwrap());
        let pool = Pool::new(2).unwrap();
        let ids = reference().ids;
        let answer = |model: &Arc<Decoder>, prefix_cache: bool| {
            let options = GenerationOptions { prefix_cache, ..GenerationOptions::default() };
            let generation = Generation::with_options(model.clone(), ids.clone(), greedy(12), options).unwrap();
            finish(generation, &pool).0
        };
        let alone: Vec<String> = [&base, &one, &two].map(|model| answer(model, false)).to_vec();
        assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2], "{alone:?}");
        for _ in 0..2 {
            assert_eq!([&base, &one, &two].map(|model| answer(model, true)).to_vec(), alone);
        }
        assert!(one.prefix_cache_bytes() > 0 && one.prefix_cache_bytes() == two.prefix_cache_bytes());
        drop(base);
        assert_eq!(answer(&one, true), alone[1]);
    }
}
