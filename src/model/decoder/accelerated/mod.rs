//! The forward pass of a decoder on a device: the same plan ([`super::config`]) as [`super::forward`] follows on the
//! processor, over tensors.
//!
//! The tokens of all sequences of a pass are rows of one matrix, so weights are read once; attention is of each sequence
//! ([`attention`]). Embeddings are looked up where the file is mapped, so a table that is not the output's, too, takes no
//! memory of the device. Only the logits come back.
//!
//! Beginnings of prompts are not kept here: reading them again costs a device little.
//!
//! Called by [`super::engine`]. A token's logits are those of the processor up to rounding; that depends on the company in a
//! pass, unlike there.

mod attention;
mod cache;
mod weights;

#[cfg(test)]
mod serving_tests;
#[cfg(test)]
mod tests;

pub use cache::AcceleratedCache;

use super::config::{Activation, Config, Pairs};
use super::forward::Abandoned;
use super::lora::Adapter;
use super::matrix::Matrix;
use super::rope::Rotation;
use crate::accelerator::linear::{vector, Linear};
use crate::accelerator::Accelerator;
use crate::error::Result;
use attention::{attend, soft_cap, views};
use candle_core::{DType, Device, Tensor};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb::rope_thd;
use std::slice::from_ref;
use std::sync::Arc;
use weights::{upload, Layer};

/// Most tokens of one pass: a device needs more than the processor to be busy.
pub const SLICE_TOKENS: usize = 256;

/// A sequence's part in a pass, as [`super::forward::Run`].
pub struct Run<'a> {
    pub cache: &'a mut AcceleratedCache,
    pub tokens: &'a [u32],
    pub wanted: usize,
}

/// A decoder's weights on a device.
pub struct AcceleratedNetwork {
    accelerator: Arc<Accelerator>,
    config: Config,
    /// On the processor.
    embedding: Matrix,
    layers: Vec<Layer>,
    output_norm: Tensor,
    output: Linear,
}

impl AcceleratedNetwork {
    /// Uploads the weights, a layer at a time, so that passes of other models need not wait for all of them.
    ///
    /// Errors: `OutOfMemory`; `Internal` for what the device could not do.
    pub fn new(accelerator: &Arc<Accelerator>, config: &Config, weights: &super::Weights) -> Result<Self> {
        let layer = |layer| accelerator.turn(|device| Layer::upload(device, config, layer));
        let layers = weights.layers.iter().map(layer).collect::<Result<_>>()?;
        accelerator.turn(|device| {
            Ok(Self {
                accelerator: Arc::clone(accelerator),
                config: config.clone(),
                embedding: weights.embedding.clone(),
                layers,
                output_norm: vector(device, &weights.output_norm)?,
                output: upload(device, from_ref(weights.output()), None, &|row| row)?,
            })
        })
    }

    /// The same decoder with an adapter; the two share their weights.
    pub fn with_adapter(&self, adapter: &Adapter) -> Result<Self> {
        let layers = self.accelerator.turn(|device| {
            let adapted = |(index, layer): (usize, &Layer)| match adapter.layer(index) {
                Some(adapter) => layer.adapted(device, &self.config, adapter),
                None => Ok(layer.clone()),
            };
            self.layers.iter().enumerate().map(adapted).collect::<Result<_>>()
        })?;
        Ok(Self {
            accelerator: Arc::clone(&self.accelerator),
            config: self.config.clone(),
            embedding: self.embedding.clone(),
            layers,
            output_norm: self.output_norm.clone(),
            output: self.output.clone(),
        })
    }

    /// As [`super::forward::Network::pass`]. The device gets its work ahead of doing it, so what it has got when the pass is
    /// abandoned is done all the same.
    ///
    /// Errors: `OutOfMemory`; `Internal` for what the device could not do. Caches are as they were.
    pub fn pass(&self, runs: &mut [Run], logits: &mut Vec<f32>, abandoned: Abandoned<'_>) -> Result<bool> {
        let Some(rows) = self.accelerator.turn(|device| self.forward(device, runs, abandoned))? else {
            return Ok(false);
        };
        for run in runs.iter_mut() {
            run.cache.advance(run.tokens.len());
        }
        if let Some(rows) = rows {
            *logits = rows;
        }
        Ok(true)
    }

    /// The logits of the wanted tokens, if there are any; None when it was abandoned.
    fn forward(&self, device: &Device, runs: &mut [Run], abandoned: Abandoned<'_>) -> Result<Option<Option<Vec<f32>>>> {
        for run in runs.iter_mut() {
            run.cache.reserve(device, run.tokens.len())?;
        }
        let Config { feed_forward, norm_epsilon: epsilon, activation, .. } = self.config;
        let mut stream = self.embed(device, runs)?;
        let rotations = self.rotations(device, runs)?;
        let windows = distinct(self.config.layers.iter().map(|plan| plan.window));
        let seen = windows.iter().map(|window| views(device, runs, *window)).collect::<Result<Vec<_>>>()?;
        for (index, (layer, plan)) in self.layers.iter().zip(&self.config.layers).enumerate() {
            if abandoned() {
                return Ok(None);
            }
            let normed = rms_norm(&stream, &layer.attention_norm, epsilon)?;
            let qkv = layer.qkv.apply(&normed)?;
            let queries = self.store(layer, index, plan.rope.and_then(|table| rotations.get(table)), &qkv, runs)?;
            let kind = windows.iter().position(|window| *window == plan.window).unwrap_or(0);
            let attended = attend(&self.config, runs, index, &seen[kind], &queries)?;
            let product = layer.attention_output.apply(&attended)?;
            stream = (stream + self.normed(product, &layer.attention_post_norm)?)?;

            let normed = rms_norm(&stream, &layer.feed_forward_norm, epsilon)?;
            let gate_up = layer.gate_up.apply(&normed)?;
            let gate = gate_up.narrow(1, 0, feed_forward)?;
            let gate = match activation {
                Activation::Silu => gate.silu()?,
                Activation::Gelu => gate.gelu()?,
            };
            let activated = (gate * gate_up.narrow(1, feed_forward, feed_forward)?)?;
            let product = layer.down.apply(&activated)?;
            stream = (stream + self.normed(product, &layer.feed_forward_post_norm)?)?;
        }
        Ok(Some(self.logits(device, runs, &stream)?))
    }

    /// A row for each token.
    fn embed(&self, device: &Device, runs: &[Run]) -> Result<Tensor> {
        let hidden = self.config.hidden;
        let count: usize = runs.iter().map(|run| run.tokens.len()).sum();
        let mut numbers = vec![0.0; count * hidden];
        let tokens = runs.iter().flat_map(|run| run.tokens);
        for (row, &token) in numbers.chunks_exact_mut(hidden).zip(tokens) {
            self.embedding.expand_row(token as usize, row);
            row.iter_mut().for_each(|number| *number *= self.config.embedding_scale);
        }
        Ok(Tensor::from_vec(numbers, (count, hidden), device)?)
    }

    /// Cosines and sines of all tokens, `[tokens, dims / 2]` each, for every table of the configuration.
    fn rotations(&self, device: &Device, runs: &[Run]) -> Result<Vec<[Tensor; 2]>> {
        let positions = |run: &Run| {
            let long = run.cache.is_long();
            (run.cache.len()..).take(run.tokens.len()).map(move |position| (position, long))
        };
        if self.config.rope_dims == 0 {
            return Ok(Vec::new());
        }
        let mut rotation = Rotation::default();
        let upload = |table| -> Result<[Tensor; 2]> {
            rotation.set(Pairs::Halves, table, runs.iter().flat_map(positions));
            let [cosines, sines] = rotation.factors();
            let half = self.config.rope_dims / 2;
            let tensor = |numbers: &[f32]| Tensor::from_slice(numbers, (numbers.len() / half, half), device);
            Ok([tensor(cosines)?, tensor(sines)?])
        };
        self.config.rope.iter().map(upload).collect()
    }

    /// Completes queries and keys (norm, rotation), puts keys and values into the caches, and returns the scaled queries.
    fn store(
        &self,
        layer: &Layer,
        index: usize,
        rotation: Option<&[Tensor; 2]>,
        qkv: &Tensor,
        runs: &[Run],
    ) -> Result<Tensor> {
        let Config { heads, kv_heads, head_dim, norm_epsilon, score_scale, .. } = self.config;
        let (q_len, kv_len) = (self.config.q_len(), self.config.kv_len());
        let count = qkv.dim(0)?;
        let part = |first: usize, len: usize, heads: usize, norm: &Option<Tensor>| -> Result<Tensor> {
            let mut part = qkv.narrow(1, first, len)?.reshape((count, heads, head_dim))?;
            if let Some(norm) = norm {
                part = rms_norm(&part, norm, norm_epsilon)?;
            }
            match rotation {
                Some(factors) => self.rotate(&part, factors),
                None => Ok(part),
            }
        };
        let queries = part(0, q_len, heads, &layer.q_norm)?;
        let keys = part(q_len, kv_len, kv_heads, &layer.k_norm)?.to_dtype(DType::F16)?;
        let values = qkv.narrow(1, q_len + kv_len, kv_len)?.to_dtype(DType::F16)?;
        let values = values.reshape((count, kv_heads, head_dim))?;
        let mut row = 0;
        for run in runs {
            let tokens = run.tokens.len();
            run.cache.store(index, &keys.narrow(0, row, tokens)?, &values.narrow(0, row, tokens)?)?;
            row += tokens;
        }
        Ok(queries.affine(f64::from(score_scale), 0.0)?)
    }

    /// Rotates the leading dimensions of every head of `[tokens, heads, dimensions]`.
    fn rotate(&self, numbers: &Tensor, [cosines, sines]: &[Tensor; 2]) -> Result<Tensor> {
        let Config { head_dim, rope_dims, .. } = self.config;
        let all = numbers.unsqueeze(0)?;
        if rope_dims == head_dim {
            return Ok(rope_thd(&all, cosines, sines)?.squeeze(0)?);
        }
        let turned = rope_thd(&all.narrow(3, 0, rope_dims)?.contiguous()?, cosines, sines)?;
        Ok(Tensor::cat(&[turned, all.narrow(3, rope_dims, head_dim - rope_dims)?], 3)?.squeeze(0)?)
    }

    /// Normalises a product where the family does so before it joins the stream.
    fn normed(&self, product: Tensor, norm: &Option<Tensor>) -> Result<Tensor> {
        match norm {
            Some(norm) => Ok(rms_norm(&product, norm, self.config.norm_epsilon)?),
            None => Ok(product),
        }
    }

    fn logits(&self, device: &Device, runs: &[Run], stream: &Tensor) -> Result<Option<Vec<f32>>> {
        let mut wanted: Vec<u32> = Vec::new();
        let mut end = 0;
        for run in runs {
            end += run.tokens.len();
            wanted.extend((end - run.wanted..end).map(|row| row as u32));
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let rows = stream.index_select(&Tensor::from_slice(&wanted, wanted.len(), device)?, 0)?;
        let normed = rms_norm(&rows, &self.output_norm, self.config.norm_epsilon)?;
        let mut logits = self.output.apply(&normed)?;
        if let Some(cap) = self.config.logit_cap {
            logits = soft_cap(&logits, cap)?;
        }
        Ok(Some(logits.flatten_all()?.to_vec1()?))
    }
}

/// Each once.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}
