//! The forward pass of a llama-architecture model (Touvron et al., "LLaMA", 2023): RMS norm, grouped-query attention with
//! rotated keys, gated feed-forward.
//!
//! [`Network::prefill`] takes a slice of tokens and computes in f32 with expanded weights; [`Network::decode`] takes one
//! token and computes in 8-bit integers with the weights as they are. Both append to the cache and agree up to the
//! rounding of the token's activations to 8 bits.

use super::attention::{attend_many, attend_one, Scratch};
use super::config::Config;
use super::kv_cache::KvCache;
use super::matrix::{multiply_one, Matrix};
use super::rope::Rotation;
use super::weights::{Layer, Weights};
use crate::compute::elementwise::{add, rms_norm, silu_multiply};
use crate::compute::quant::QuantizedVector;
use crate::compute::Pool;

/// Most tokens of one call of [`Network::prefill`]: enough to use the weights well, few enough to react to a
/// cancellation.
pub const SLICE_TOKENS: usize = 64;

/// Asked between layers: whether nobody wants the result any more. Prompts of large models take seconds per slice, and
/// a caller that has gone must not hold the compute threads for that long.
pub type Abandoned<'a> = &'a (dyn Fn() -> bool + Sync);

pub struct Network {
    pub config: Config,
    pub weights: Weights,
}

impl Network {
    pub fn vocab_size(&self) -> usize {
        self.weights.embedding.rows()
    }

    /// Runs `tokens` at the positions behind those in `cache` and appends them. Writes the logits of the last token to
    /// `logits` if it is given. The ids must be in the vocabulary and the cache have room.
    ///
    /// Returns `false`, with cache and logits as they were, when it was abandoned.
    pub fn prefill(
        &self,
        pool: &Pool,
        cache: &mut KvCache,
        tokens: &[u32],
        logits: Option<&mut Vec<f32>>,
        abandoned: Abandoned<'_>,
    ) -> bool {
        pool.enter(|| self.prefill_inside(pool, cache, tokens, logits, abandoned))
    }

    fn prefill_inside(
        &self,
        pool: &Pool,
        cache: &mut KvCache,
        tokens: &[u32],
        logits: Option<&mut Vec<f32>>,
        abandoned: Abandoned<'_>,
    ) -> bool {
        let Config { hidden, feed_forward, head_dim, norm_epsilon, .. } = self.config;
        let (q_len, kv_len) = (self.config.q_len(), self.config.kv_len());
        let qkv_len = q_len + 2 * kv_len;
        let (count, first) = (tokens.len(), cache.len);
        let rotation = Rotation::new(&self.weights.rope_frequencies, first, count);
        let mut residual = vec![0.0; count * hidden];
        for (row, &token) in residual.chunks_exact_mut(hidden).zip(tokens) {
            self.weights.embedding.expand_row(token as usize, row);
        }
        let mut normed = vec![0.0; count * hidden];
        let mut qkv = vec![0.0; count * qkv_len];
        let mut attended = vec![0.0; count * q_len];
        let mut gate = vec![0.0; count * feed_forward];
        let mut up = vec![0.0; count * feed_forward];
        let (mut panel, mut scratch) = (Vec::new(), Scratch::default());
        let norm = |residual: &[f32], weight: &[f32], normed: &mut [f32]| {
            for (out, x) in normed.chunks_exact_mut(hidden).zip(residual.chunks_exact(hidden)) {
                rms_norm(x, weight, norm_epsilon, out);
            }
        };
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if abandoned() {
                return false;
            }
            norm(&residual, &layer.attention_norm, &mut normed);
            for (matrix, at) in [(&layer.q, 0), (&layer.k, q_len), (&layer.v, q_len + kv_len)] {
                matrix.multiply_many(pool, count, &normed, &mut qkv[at..], qkv_len, &mut panel);
            }
            for (token, row) in qkv.chunks_exact_mut(qkv_len).enumerate() {
                rotation.apply(token, &mut row[..q_len + kv_len], head_dim);
                let (keys, values) = row[q_len..].split_at(kv_len);
                cache.store(index, first + token, keys, values);
            }
            attend_many(pool, &self.config, cache, index, first, count, &qkv, qkv_len, &mut scratch, &mut attended);
            layer.attention_output.multiply_many(pool, count, &attended, &mut normed, hidden, &mut panel);
            add(&mut residual, &normed);

            norm(&residual, &layer.feed_forward_norm, &mut normed);
            layer.gate.multiply_many(pool, count, &normed, &mut gate, feed_forward, &mut panel);
            layer.up.multiply_many(pool, count, &normed, &mut up, feed_forward, &mut panel);
            pool.for_chunks_mut(&mut gate, feed_forward * count.div_ceil(pool.threads()), |chunk, gate| {
                let at = chunk * feed_forward * count.div_ceil(pool.threads());
                silu_multiply(gate, &up[at..at + gate.len()]);
            });
            layer.down.multiply_many(pool, count, &gate, &mut normed, hidden, &mut panel);
            add(&mut residual, &normed);
        }
        cache.len += count;
        if let (Some(logits), Some(last)) = (logits, residual.chunks_exact(hidden).next_back()) {
            let (mut quantized, normed) = (QuantizedVector::default(), &mut normed[..hidden]);
            self.predict(pool, last, &mut quantized, normed, logits);
            // The first token of an answer sets its course, so it is chosen from exact logits: the error of rounding
            // the vector is multiplied as well.
            quantized.subtract_from(normed);
            quantized.quantize(normed);
            let mut correction = vec![0.0; logits.len()];
            multiply_one(pool, &[self.weights.output()], &quantized, &mut correction);
            add(logits, &correction);
        }
        true
    }

    /// Runs one token at the position behind those in `cache`, appends it and writes its logits. The id must be in the
    /// vocabulary and the cache have room.
    ///
    /// Returns `false`, with cache and logits as they were, when it was abandoned.
    pub fn decode(
        &self,
        pool: &Pool,
        cache: &mut KvCache,
        token: u32,
        scratch: &mut DecodeScratch,
        logits: &mut Vec<f32>,
        abandoned: Abandoned<'_>,
    ) -> bool {
        pool.enter(|| self.decode_inside(pool, cache, token, scratch, logits, abandoned))
    }

    fn decode_inside(
        &self,
        pool: &Pool,
        cache: &mut KvCache,
        token: u32,
        scratch: &mut DecodeScratch,
        logits: &mut Vec<f32>,
        abandoned: Abandoned<'_>,
    ) -> bool {
        let Config { hidden, feed_forward, norm_epsilon, .. } = self.config;
        let rotation = Rotation::new(&self.weights.rope_frequencies, cache.len, 1);
        let DecodeScratch { residual, normed, qkv, attended, gate_up, partials, quantized } = scratch;
        residual.resize(hidden, 0.0);
        normed.resize(hidden, 0.0);
        qkv.resize(self.config.q_len() + 2 * self.config.kv_len(), 0.0);
        attended.resize(self.config.q_len(), 0.0);
        gate_up.resize(2 * feed_forward, 0.0);
        self.weights.embedding.expand_row(token as usize, residual);
        let mut multiply = |matrices: &[&Matrix], x: &[f32], y: &mut [f32]| {
            quantized.quantize(x);
            multiply_one(pool, matrices, quantized, y);
        };
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if abandoned() {
                return false;
            }
            let Layer { q, k, v, attention_output, gate, up, down, .. } = layer;
            rms_norm(residual, &layer.attention_norm, norm_epsilon, normed);
            multiply(&[q, k, v], normed, qkv);
            self.attend(pool, cache, index, &rotation, qkv, partials, attended);
            multiply(&[attention_output], attended, normed);
            add(residual, normed);

            rms_norm(residual, &layer.feed_forward_norm, norm_epsilon, normed);
            multiply(&[gate, up], normed, gate_up);
            let (gate, up) = gate_up.split_at_mut(feed_forward);
            silu_multiply(gate, up);
            multiply(&[down], gate, normed);
            add(residual, normed);
        }
        cache.len += 1;
        self.predict(pool, residual, quantized, normed, logits);
        true
    }

    /// Rotates and stores one token's keys and attends to it and all before it.
    #[allow(clippy::too_many_arguments)]
    fn attend(
        &self,
        pool: &Pool,
        cache: &mut KvCache,
        layer: usize,
        rotation: &Rotation,
        qkv: &mut [f32],
        partials: &mut Vec<f32>,
        attended: &mut [f32],
    ) {
        let (q_len, kv_len) = (self.config.q_len(), self.config.kv_len());
        rotation.apply(0, &mut qkv[..q_len + kv_len], self.config.head_dim);
        let (queries, keys_and_values) = qkv.split_at(q_len);
        let (keys, values) = keys_and_values.split_at(kv_len);
        let position = cache.len;
        cache.store(layer, position, keys, values);
        attend_one(pool, &self.config, cache, layer, position + 1, queries, partials, attended);
    }

    /// Logits of the token after the one whose residual stream this is.
    fn predict(
        &self,
        pool: &Pool,
        residual: &[f32],
        quantized: &mut QuantizedVector,
        normed: &mut [f32],
        logits: &mut Vec<f32>,
    ) {
        rms_norm(residual, &self.weights.output_norm, self.config.norm_epsilon, normed);
        quantized.quantize(normed);
        logits.resize(self.vocab_size(), 0.0);
        multiply_one(pool, &[self.weights.output()], quantized, logits);
    }
}

/// Buffers of [`Network::decode`], kept between tokens.
#[derive(Default)]
pub struct DecodeScratch {
    residual: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    partials: Vec<f32>,
    quantized: QuantizedVector,
}
