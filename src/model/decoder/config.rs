//! Hyperparameters of a llama-architecture model, read from GGUF metadata and checked against each other.

use super::gguf::GgufFile;
use crate::compute::quant::UNIT;
use crate::error::{ModelError, Result};

/// Larger numbers of anything are not a model but a broken file.
const MOST: usize = 1 << 24;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Leading dimensions of a head that are rotated.
    pub rope_dims: usize,
    pub rope_base: f32,
    /// Positions are divided by this (linear context extension).
    pub rope_scale: f32,
    pub norm_epsilon: f32,
    /// Positions the model was made for.
    pub context_tokens: usize,
}

impl Config {
    /// Errors: `Unsupported` for another architecture or a variant of it; `Corrupt` for missing or absurd numbers.
    pub fn read(file: &GgufFile) -> Result<Self> {
        match file.text("general.architecture") {
            Some("llama") => {}
            Some(other) => return Err(ModelError::Unsupported(format!("architecture \"{other}\""))),
            None => return Err(file.corrupt("metadata has no text \"general.architecture\"")),
        }
        let optional = |key: &str| match file.count(&format!("llama.{key}"))? {
            Some(number) if (1..=MOST).contains(&number) => Ok(Some(number)),
            Some(number) => Err(file.corrupt(format!("\"llama.{key}\" is {number}"))),
            None => Ok(None),
        };
        let required =
            |key: &str| optional(key)?.ok_or_else(|| file.corrupt(format!("metadata has no number \"llama.{key}\"")));
        if file.count("llama.expert_count")?.is_some_and(|experts| experts > 0) {
            return Err(ModelError::Unsupported("a mixture of experts".into()));
        }
        let (hidden, heads) = (required("embedding_length")?, required("attention.head_count")?);
        let kv_heads = optional("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = optional("attention.key_length")?.unwrap_or(hidden / heads);
        if optional("attention.value_length")?.is_some_and(|value_length| value_length != head_dim) {
            return Err(ModelError::Unsupported("keys and values of different length".into()));
        }
        let trained_context = required("context_length")?;
        // Inside its window, sliding attention is plain attention; beyond it, the model is not supported.
        let window = optional("attention.sliding_window")?.unwrap_or(trained_context);
        let config = Self {
            layers: required("block_count")?,
            hidden,
            feed_forward: required("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            rope_dims: optional("rope.dimension_count")?.unwrap_or(head_dim),
            rope_base: file.fraction("llama.rope.freq_base")?.unwrap_or(10_000.0),
            rope_scale: rope_scale(file)?,
            norm_epsilon: file
                .fraction("llama.attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| file.corrupt("metadata has no number \"llama.attention.layer_norm_rms_epsilon\""))?,
            context_tokens: trained_context.min(window),
        };
        config.check(file)?;
        Ok(config)
    }

    fn check(&self, file: &GgufFile) -> Result<()> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv_heads) = (self.heads, self.kv_heads);
            return Err(file.corrupt(format!("{heads} heads cannot share {kv_heads} heads of keys")));
        }
        if self.head_dim == 0 || self.rope_dims > self.head_dim || !self.rope_dims.is_multiple_of(2) {
            let (rotated, head_dim) = (self.rope_dims, self.head_dim);
            return Err(file.corrupt(format!("{rotated} of {head_dim} dimensions of a head cannot be rotated")));
        }
        if !(self.rope_base > 0.0 && self.rope_scale > 0.0 && self.norm_epsilon > 0.0) {
            return Err(file.corrupt("base or scale of the positions or epsilon of the norms is not positive"));
        }
        for (name, len) in [("hidden", self.hidden), ("feed-forward", self.feed_forward), ("attention", self.q_len())] {
            if !len.is_multiple_of(UNIT) {
                return Err(ModelError::Unsupported(format!("{name} size {len} is not a multiple of {UNIT}")));
            }
        }
        Ok(())
    }

    /// Floats of the queries of one token.
    pub fn q_len(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Floats of the keys, or of the values, of one token.
    pub fn kv_len(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads that share a head of keys.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// What positions are divided by. The scale of Llama 3 is not here: converters write it as tensor `rope_freqs.weight`.
fn rope_scale(file: &GgufFile) -> Result<f32> {
    let legacy = file.fraction("llama.rope.scale_linear")?;
    match file.text("llama.rope.scaling.type") {
        None | Some("none") => Ok(legacy.unwrap_or(1.0)),
        Some("linear") => Ok(file.fraction("llama.rope.scaling.factor")?.or(legacy).unwrap_or(1.0)),
        Some(other) => Err(ModelError::Unsupported(format!("position scaling \"{other}\""))),
    }
}
