//! Transformers of embedding models and cross-encoders on a device: the same plan ([`super::shape`]) as
//! [`super::transformer`] follows on the processor, over tensors.
//!
//! The tokens of all texts of a pass are rows of one matrix; texts are padded for attention alone ([`attention`]). What is
//! made of the last hidden state ([`Outcome`]) is made on the processor, as for its own passes.
//!
//! Called by [`super::engine`]. A text's vector is that of the processor up to rounding; here, that depends on the other
//! texts of a pass.

mod attention;
mod weights;

#[cfg(test)]
mod tests;

use super::config::Dtype;
use super::passes::{numbers, Interrupted, Outcome};
use super::shape::{Activation, Family, Norms, Shape};
use super::transformer::{check_ids, Transformer, SECOND};
use crate::accelerator::Accelerator;
use crate::decoder::Abandoned;
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use attention::Padding;
use candle_core::{Device, Tensor};
use candle_nn::rotary_emb::rope_thd;
use std::sync::Arc;
use weights::{Layer, Weights};

/// Tokens of one pass through the layers, padding included, unless a single text is longer: enough to keep a device busy,
/// few enough that a query does not wait long for those of a large model.
const PASS_TOKENS: usize = 1 << 12;

/// A transformer on a device.
pub struct AcceleratedPasses {
    accelerator: Arc<Accelerator>,
    shape: Shape,
    weights: Weights,
    /// Of a pass.
    pass_tokens: usize,
}

impl AcceleratedPasses {
    /// Reads the weights and uploads them. Errors: those of [`Transformer::load`], and of the device.
    pub fn load(shape: &Shape, dtype: Dtype, checkpoint: &Checkpoint, accelerator: &Arc<Accelerator>) -> Result<Self> {
        // Before memory is set aside for what the configuration says.
        Transformer::check(shape, checkpoint)?;
        let weights = Weights::upload(accelerator, shape, dtype, checkpoint)?;
        let accelerator = Arc::clone(accelerator);
        Ok(Self { accelerator, shape: shape.clone(), weights, pass_tokens: PASS_TOKENS })
    }

    /// Bytes of the weights, on the device.
    pub fn resident_bytes(&self) -> usize {
        self.weights.bytes
    }

    /// Whether the model knows a second type of tokens.
    pub fn knows_second(&self) -> bool {
        self.weights.second_type.is_some()
    }

    /// As [`super::passes::Passes::run_until`]. Errors: those of the device besides.
    pub fn run_until(
        &self,
        batch: &[Vec<u32>],
        outcome: &dyn Outcome,
        abandoned: Abandoned<'_>,
        urgent: Interrupted<'_>,
    ) -> Result<Vec<f32>> {
        batch.iter().try_for_each(|ids| check_ids(&self.shape, ids))?;
        let mut results = Vec::with_capacity(numbers(batch, outcome));
        let mut rest = batch;
        while !rest.is_empty() && (results.is_empty() || !urgent()) {
            let (texts, others) = rest.split_at(leading_texts(rest, self.pass_tokens));
            let pass = |device: &Device| self.forward(device, texts, abandoned);
            let Some(state) = self.accelerator.turn(pass)? else {
                return Err(ModelError::Cancelled);
            };
            let mut rows = &state[..];
            for text in texts {
                let (own, later) = rows.split_at(text.len() * self.shape.hidden);
                let start = results.len();
                results.resize(start + outcome.numbers(text.len()), 0.0);
                outcome.write(own, &mut results[start..]);
                rows = later;
            }
            rest = others;
        }
        Ok(results)
    }

    /// Last hidden state, `[tokens, hidden]`, of texts one after the other; None when it is abandoned, about which it asks
    /// before each layer.
    fn forward(&self, device: &Device, texts: &[Vec<u32>], abandoned: Abandoned<'_>) -> Result<Option<Vec<f32>>> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        if lengths.iter().all(|length| *length == 0) {
            return Ok(Some(Vec::new()));
        }
        let padding = Padding::new(device, self.shape.heads, &self.weights.biases, &lengths)?;
        let mut hidden = self.embed(device, texts)?;
        let normed = self.weights.embedding_norm.apply(&hidden)?;
        // What the next block sees, which is the sum itself where norms come after.
        let mut input = normed.clone();
        if self.shape.family != Family::Qwen3 {
            hidden = normed;
        }
        for layer in &self.weights.layers {
            if abandoned() {
                return Ok(None);
            }
            let attended = self.attend(layer, &padding, &input)?;
            hidden = (hidden + layer.attention_output.apply(&attended)?)?;
            input = layer.attention_norm.apply(&hidden)?;
            if self.shape.norms == Norms::After {
                hidden = input.clone();
            }
            hidden = (hidden + layer.contract.apply(&self.expanded(layer, &input)?)?)?;
            input = layer.output_norm.apply(&hidden)?;
            if self.shape.norms == Norms::After {
                hidden = input.clone();
            }
        }
        Ok(Some(input.flatten_all()?.to_vec1()?))
    }

    /// Words, positions and types, added up.
    fn embed(&self, device: &Device, texts: &[Vec<u32>]) -> Result<Tensor> {
        let tokens = || texts.iter().flatten();
        let indexes = |numbers: Vec<u32>| {
            let count = numbers.len();
            Tensor::from_vec(numbers, count, device)
        };
        let words = self.weights.words.index_select(&indexes(tokens().map(|id| id & !SECOND).collect())?, 0)?;
        let mut sum = if self.shape.skipped_positions.is_some() {
            let positions = texts.iter().flat_map(|text| 0..text.len() as u32).collect();
            (words + self.weights.positions.index_select(&indexes(positions)?, 0)?)?
        } else {
            words.broadcast_add(&self.weights.positions)?
        };
        if let (Some(second), true) = (&self.weights.second_type, tokens().any(|id| id & SECOND != 0)) {
            let marks: Vec<f32> = tokens().map(|id| (id >> 31) as f32).collect();
            let marks = Tensor::from_slice(&marks, (marks.len(), 1), device)?;
            sum = (sum + marks.broadcast_mul(&second.unsqueeze(0)?)?)?;
        }
        Ok(sum)
    }

    fn attend(&self, layer: &Layer, padding: &Padding, input: &Tensor) -> Result<Tensor> {
        let Shape { heads, key_heads, head_width: width, .. } = self.shape;
        let qkv = padding.pad(&layer.qkv.apply(input)?)?;
        let (texts, longest, _) = qkv.dims3()?;
        let part = |first: usize, heads: usize| -> Result<Tensor> {
            Ok(qkv.narrow(2, first * width, heads * width)?.reshape((texts, longest, heads, width))?)
        };
        let (mut queries, mut keys) = (part(0, heads)?, part(heads, key_heads)?);
        let values = part(heads + key_heads, key_heads)?;
        if let Some([of_queries, of_keys]) = &layer.head_norms {
            (queries, keys) = (of_queries.apply(&queries)?, of_keys.apply(&keys)?);
        }
        if let Some([cosines, sines]) = layer.rotation.map(|at| &self.weights.rotations[at]) {
            let (cosines, sines) = (cosines.narrow(0, 0, longest)?, sines.narrow(0, 0, longest)?);
            let turned = |numbers: &Tensor| rope_thd(&numbers.contiguous()?, &cosines, &sines);
            (queries, keys) = (turned(&queries)?, turned(&keys)?);
        }
        padding.attend(layer.bias, &[queries, keys, values])
    }

    /// The first part of the feed-forward block.
    fn expanded(&self, layer: &Layer, input: &Tensor) -> Result<Tensor> {
        let Shape { feed_forward, activation, gated, .. } = self.shape;
        let all = layer.expand.apply(input)?;
        let activated = if gated { all.narrow(1, 0, feed_forward)? } else { all.clone() };
        let activated = match activation {
            Activation::Gelu => activated.gelu_erf()?,
            Activation::GeluTanh => activated.gelu()?,
            Activation::Relu => activated.relu()?,
            Activation::Silu => activated.silu()?,
        };
        match gated {
            true => Ok((activated * all.narrow(1, feed_forward, feed_forward)?)?),
            false => Ok(activated),
        }
    }
}

/// How many of the first texts one pass takes: at most `tokens`, padded, or one text.
fn leading_texts(texts: &[Vec<u32>], tokens: usize) -> usize {
    let mut longest = 0;
    let fits = texts.iter().enumerate().take_while(|(before, text)| {
        longest = longest.max(text.len());
        (before + 1) * longest <= tokens
    });
    fits.count().max(1)
}
