//! The forward pass of a decoder (Touvron et al., "LLaMA", 2023): RMS norm, grouped-query attention with rotated keys,
//! gated feed-forward, and what the families of [`super::config`] add to it: biases, norms of heads and of results, windows,
//! caps.
//!
//! A pass takes tokens of one or more sequences: a slice of a prompt, the next token of each of several sequences, a
//! token with guesses of the ones behind it. A token's logits and its place in the cache are the same, bit for bit, in
//! whatever pass it is computed, as long as the weights are blocks.

use super::attention;
use super::config::{Activation, Config};
use super::kv_cache::{HeadMut, KvCache};
use super::lora::{self, Adapter};
use super::matrix::{multiply, Input};
use super::rope::Rotation;
use super::weights::{Layer, Weights};
use crate::compute::elementwise::{add, gelu_multiply, rms_norm, rms_norm_in_place, silu_multiply, soft_cap};
use crate::compute::parts::Chunks;
use crate::compute::quant::activations::{round, XUnit};
use crate::compute::quant::UNIT;
use crate::compute::Pool;
use std::slice::from_ref;
use std::sync::{Mutex, PoisonError};

/// Most tokens of one pass: enough to use the weights well, few enough to react to a cancellation.
pub const SLICE_TOKENS: usize = 64;

/// Numbers below which a loop over rows stays on one thread.
const WORTH_A_HAND_OVER: usize = 8192;

/// Asked between layers: whether nobody wants the result any more. Prompts of large models take seconds per slice, and
/// a caller that has gone must not hold the compute threads for that long.
pub type Abandoned<'a> = &'a (dyn Fn() -> bool + Sync);

/// A sequence's part in a pass.
pub struct Run<'a> {
    pub cache: &'a mut KvCache,
    /// They follow the positions that are in the cache, and are appended.
    pub tokens: &'a [u32],
    /// How many of the last tokens to compute logits for.
    pub wanted: usize,
}

pub struct Network {
    pub config: Config,
    pub weights: Weights,
    pub adapter: Adapter,
    scratch: Mutex<Scratch>,
}

/// Buffers that stay between passes, so that a token allocates nothing.
#[derive(Default)]
struct Scratch {
    residual: Vec<f32>,
    normed: Input,
    qkv: Vec<f32>,
    attended: Input,
    gate_up: Vec<f32>,
    activated: Input,
    product: Vec<f32>,
    thin: Vec<f32>,
    /// One for each table of the configuration.
    rotations: Vec<Rotation>,
    attention: attention::Scratch,
}

impl Network {
    pub fn new(config: Config, weights: Weights) -> Self {
        Self::with_adapter(config, weights, Adapter::default())
    }

    pub fn with_adapter(config: Config, weights: Weights, adapter: Adapter) -> Self {
        Self { config, weights, adapter, scratch: Mutex::default() }
    }

    pub fn vocab_size(&self) -> usize {
        self.weights.embedding.rows()
    }

    /// Runs the tokens and appends them to their caches. Replaces `logits` by a row for every wanted token, in order. The
    /// ids must be in the vocabulary and the caches have room.
    ///
    /// Returns `false`, with caches and logits as they were, when it was abandoned.
    pub fn pass(&self, pool: &Pool, runs: &mut [Run], logits: &mut Vec<f32>, abandoned: Abandoned<'_>) -> bool {
        // A panic while the scratch is in use leaves numbers in it that the next pass writes anew.
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = &mut *scratch;
        let Config { hidden, feed_forward, .. } = self.config;
        let (q_len, kv_len) = (self.config.q_len(), self.config.kv_len());
        let qkv_len = q_len + 2 * kv_len;
        let count: usize = runs.iter().map(|run| run.tokens.len()).sum();

        scratch.residual.resize(count * hidden, 0.0);
        let tokens = runs.iter().flat_map(|run| run.tokens);
        for (row, &token) in scratch.residual.chunks_exact_mut(hidden).zip(tokens) {
            self.weights.embedding.expand_row(token as usize, row);
            if self.config.embedding_scale != 1.0 {
                row.iter_mut().for_each(|number| *number *= self.config.embedding_scale);
            }
        }
        scratch.rotations.resize_with(self.config.rope.len(), Rotation::default);
        for (rotation, table) in scratch.rotations.iter_mut().zip(&self.config.rope) {
            let positions = |run: &Run| {
                let long = run.cache.is_long();
                (run.cache.len()..).take(run.tokens.len()).map(move |position| (position, long))
            };
            rotation.set(self.config.rope_pairs, table, runs.iter().flat_map(positions));
        }
        scratch.normed.resize(count, hidden);
        scratch.qkv.resize(count * qkv_len, 0.0);
        scratch.attended.resize(count, q_len);
        scratch.gate_up.resize(count * 2 * feed_forward, 0.0);
        scratch.activated.resize(count, feed_forward);
        scratch.product.resize(count * hidden, 0.0);
        let Scratch { residual, normed, qkv, attended, gate_up, activated, product, thin, rotations, attention } =
            scratch;

        for (index, layer) in self.weights.layers.iter().enumerate() {
            if abandoned() {
                return false;
            }
            let added = if index == 0 { None } else { Some(&product[..]) };
            self.norm(pool, residual, added, &layer.attention_norm, normed);
            multiply(pool, &layer.qkv, count, normed, qkv);
            let adapter = self.adapter.layer(index);
            if let Some(adapter) = adapter {
                lora::add(pool, &adapter.qkv, &normed.numbers, qkv, qkv_len, thin);
            }
            self.rotate_and_store(pool, runs, index, layer, rotations, qkv);
            attention::attend(pool, &self.config, runs, index, qkv, qkv_len, attention, &mut attended.numbers);
            by_rows(pool, q_len, &mut attended.numbers, &mut attended.rounded, |_, numbers, units| {
                round(numbers, units)
            });
            multiply(pool, from_ref(&layer.attention_output), count, attended, product);
            if let Some(adapter) = adapter {
                lora::add(pool, &adapter.attention_output, &attended.numbers, product, hidden, thin);
            }
            self.finish_product(pool, &layer.attention_output_bias, &layer.attention_post_norm, product);

            self.norm(pool, residual, Some(product), &layer.feed_forward_norm, normed);
            multiply(pool, &layer.gate_up, count, normed, gate_up);
            if let Some(adapter) = adapter {
                lora::add(pool, &adapter.gate_up, &normed.numbers, gate_up, 2 * feed_forward, thin);
            }
            if let Some(bias) = &layer.gate_up_bias {
                gate_up.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
            }
            let activation = self.config.activation;
            by_rows(pool, feed_forward, &mut activated.numbers, &mut activated.rounded, |row, numbers, units| {
                let (gate, up) = gate_up[2 * row * feed_forward..][..2 * feed_forward].split_at(feed_forward);
                numbers.copy_from_slice(gate);
                match activation {
                    Activation::Silu => silu_multiply(numbers, up),
                    Activation::Gelu => gelu_multiply(numbers, up),
                }
                round(numbers, units);
            });
            multiply(pool, from_ref(&layer.down), count, activated, product);
            if let Some(adapter) = adapter {
                lora::add(pool, &adapter.down, &activated.numbers, product, hidden, thin);
            }
            self.finish_product(pool, &layer.down_bias, &layer.feed_forward_post_norm, product);
        }
        for run in runs.iter_mut() {
            run.cache.advance(run.tokens.len());
        }
        // Only the wanted rows go on.
        let (mut wanted, mut row) = (0, 0);
        for run in runs.iter() {
            row += run.tokens.len();
            for row in row - run.wanted..row {
                residual.copy_within(row * hidden..(row + 1) * hidden, wanted * hidden);
                product.copy_within(row * hidden..(row + 1) * hidden, wanted * hidden);
                wanted += 1;
            }
        }
        if wanted > 0 {
            normed.resize(wanted, hidden);
            let (residual, product) = (&mut residual[..wanted * hidden], &product[..wanted * hidden]);
            self.norm(pool, residual, Some(product), &self.weights.output_norm, normed);
            logits.resize(wanted * self.vocab_size(), 0.0);
            multiply(pool, from_ref(self.weights.output()), wanted, normed, logits);
            if let Some(cap) = self.config.logit_cap {
                let part = logits.len().div_ceil(2 * pool.threads()).max(1);
                pool.for_parts(Chunks::new(logits, part), |_, logits| soft_cap(logits, cap));
            }
        }
        true
    }

    /// Adds `added` to the residual stream and normalises the sum, row by row.
    fn norm(&self, pool: &Pool, residual: &mut [f32], added: Option<&[f32]>, weight: &[f32], out: &mut Input) {
        let (hidden, epsilon) = (self.config.hidden, self.config.norm_epsilon);
        let rows = rows_per_part(pool, residual.len(), hidden);
        let units = Chunks::new(out.rounded.units_mut(), rows * hidden / UNIT);
        let parts = (Chunks::new(residual, rows * hidden), Chunks::new(&mut out.numbers, rows * hidden), units);
        pool.for_parts(parts, |index, (residual, numbers, units)| {
            if let Some(added) = added {
                add(residual, &added[index * rows * hidden..][..residual.len()]);
            }
            for (residual, numbers) in residual.chunks_exact(hidden).zip(numbers.chunks_exact_mut(hidden)) {
                rms_norm(residual, weight, epsilon, numbers);
            }
            round(numbers, units);
        });
    }

    /// Adds the bias to each row of a product, or normalises it, where the family does so before it joins the stream.
    fn finish_product(&self, pool: &Pool, bias: &Option<Vec<f32>>, post_norm: &Option<Vec<f32>>, product: &mut [f32]) {
        if bias.is_none() && post_norm.is_none() {
            return;
        }
        let Config { hidden, norm_epsilon, .. } = self.config;
        let rows = rows_per_part(pool, product.len(), hidden);
        pool.for_parts(Chunks::new(product, rows * hidden), |_, part| {
            for row in part.chunks_exact_mut(hidden) {
                if let Some(bias) = bias {
                    add(row, bias);
                }
                if let Some(weight) = post_norm {
                    rms_norm_in_place(row, weight, norm_epsilon);
                }
            }
        });
    }

    /// Completes queries and keys (bias, norm, rotation), scales the queries, and puts keys and values into the caches.
    fn rotate_and_store(
        &self,
        pool: &Pool,
        runs: &mut [Run],
        index: usize,
        layer: &Layer,
        rotations: &[Rotation],
        qkv: &mut [f32],
    ) {
        let Config { head_dim, norm_epsilon, score_scale: scale, .. } = self.config;
        let rotation = self.config.layers[index].rope.map(|table| &rotations[table]);
        let (q_len, kv_len) = (self.config.q_len(), self.config.kv_len());
        let qkv_len = q_len + 2 * kv_len;
        let rows = rows_per_part(pool, qkv.len(), qkv_len);
        let norms = [(0..q_len, &layer.q_norm), (q_len..q_len + kv_len, &layer.k_norm)];
        pool.for_parts(Chunks::new(qkv, rows * qkv_len), |part_index, part| {
            for (row, qkv) in part.chunks_exact_mut(qkv_len).enumerate() {
                if let Some(bias) = &layer.qkv_bias {
                    add(qkv, bias);
                }
                for (range, weight) in &norms {
                    if let Some(weight) = weight {
                        let heads = qkv[range.clone()].chunks_exact_mut(head_dim);
                        heads.for_each(|head| rms_norm_in_place(head, weight, norm_epsilon));
                    }
                }
                if let Some(rotation) = rotation {
                    rotation.apply(part_index * rows + row, &mut qkv[..q_len + kv_len], head_dim);
                }
                qkv[..q_len].iter_mut().for_each(|number| *number *= scale);
            }
        });
        let mut row = 0;
        for run in runs {
            let (first, count) = (run.cache.len(), run.tokens.len());
            assert!(first + count <= run.cache.capacity(), "the cache has no room for {count} more tokens");
            let (keys, values) = run.cache.heads_mut(index);
            let qkv = &qkv[row * qkv_len..(row + count) * qkv_len];
            let store = |head: usize, (keys, values): (&mut [_], &mut [_])| {
                let mut cache = HeadMut { keys, values, head_dim };
                for (token, qkv) in qkv.chunks_exact(qkv_len).enumerate() {
                    let key = &qkv[q_len + head * head_dim..][..head_dim];
                    cache.store(first + token, key, &qkv[q_len + kv_len + head * head_dim..][..head_dim]);
                }
            };
            if count * kv_len < WORTH_A_HAND_OVER {
                pool.for_parts_here((keys, values), store);
            } else {
                pool.for_parts((keys, values), store);
            }
            row += count;
        }
    }
}

/// Rows that a part of a loop over rows of `len` numbers gets, of `total` numbers in all.
fn rows_per_part(pool: &Pool, total: usize, len: usize) -> usize {
    let rows = total / len.max(1);
    if total < WORTH_A_HAND_OVER {
        rows.max(1)
    } else {
        rows.div_ceil(2 * pool.threads()).max(1)
    }
}

/// Calls `work` with every row of `numbers` and the units that it is rounded to.
fn by_rows(
    pool: &Pool,
    len: usize,
    numbers: &mut [f32],
    rounded: &mut crate::compute::quant::Activations,
    work: impl Fn(usize, &mut [f32], &mut [XUnit]) + Sync,
) {
    let rows = rows_per_part(pool, numbers.len(), len);
    let parts = (Chunks::new(numbers, rows * len), Chunks::new(rounded.units_mut(), rows * len / UNIT));
    pool.for_parts(parts, |index, (numbers, units)| {
        let pairs = numbers.chunks_exact_mut(len).zip(units.chunks_exact_mut(len / UNIT));
        for (row, (numbers, units)) in pairs.enumerate() {
            work(index * rows + row, numbers, units);
        }
    });
}
