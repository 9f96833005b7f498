//! What a decoder computes, layer by layer, as plain numbers: everything in which the families differ but the weights.
//!
//! [`super::gguf_config`] reads it from the metadata of a GGUF file, [`super::folder_config`] from a `config.json`; both
//! end with [`Config::check`]. [`super::forward`] follows it without asking for the family again.

use super::rope::Frequencies;
use crate::compute::quant::UNIT;
use crate::error::{ModelError, Result};

/// Larger numbers of anything are not a model but a broken file.
pub const MOST: usize = 1 << 24;
const MOST_LAYERS: usize = 1024;
const MOST_HEAD_DIM: usize = 4096;

/// SmolLM3 rotates nothing in every fourth layer.
const SMOLLM3_PERIOD: usize = 4;

/// Families of models with an arrangement of layers of their own. Mistral and SmolLM2 are arranged like Llama, and so is
/// every fine-tuned model like the one that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma,
    Gemma2,
    Gemma3,
    Phi3,
    SmolLm3,
}

impl Family {
    /// Names of architectures in GGUF files.
    pub const GGUF: [(&str, Self); 8] = [
        ("llama", Family::Llama),
        ("qwen2", Family::Qwen2),
        ("qwen3", Family::Qwen3),
        ("gemma", Family::Gemma),
        ("gemma2", Family::Gemma2),
        ("gemma3", Family::Gemma3),
        ("phi3", Family::Phi3),
        ("smollm3", Family::SmolLm3),
    ];

    /// Values of `model_type` in a `config.json`.
    pub const FOLDER: [(&str, Self); 10] = [
        ("llama", Family::Llama),
        ("mistral", Family::Llama),
        ("qwen2", Family::Qwen2),
        ("qwen3", Family::Qwen3),
        ("gemma", Family::Gemma),
        ("gemma2", Family::Gemma2),
        ("gemma3", Family::Gemma3),
        ("gemma3_text", Family::Gemma3),
        ("phi3", Family::Phi3),
        ("smollm3", Family::SmolLm3),
    ];

    /// The family called `name` in `names`. Errors: `Unsupported` with the names that there are.
    pub fn find(names: &[(&str, Self)], name: &str) -> Result<Self> {
        if let Some((_, family)) = names.iter().find(|(known, _)| *known == name) {
            return Ok(*family);
        }
        let known: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
        let known = known.join(", ");
        Err(ModelError::Unsupported(format!("architecture \"{name}\" (supported for generation: {known})")))
    }

    /// Its name in GGUF files.
    pub fn gguf_name(self) -> &'static str {
        Self::GGUF.iter().find(|(_, family)| *family == self).map_or("", |(name, _)| name)
    }

    /// What is rotated together in GGUF files.
    pub fn gguf_pairs(self) -> Pairs {
        match self {
            Family::Llama | Family::SmolLm3 => Pairs::Adjacent,
            _ => Pairs::Halves,
        }
    }

    /// Every so manieth layer sees everything in GGUF files that do not say so; `None` where windows are of all layers.
    pub fn gguf_period(self) -> Option<usize> {
        match self {
            Family::Gemma2 => Some(2),
            Family::Gemma3 => Some(6),
            _ => None,
        }
    }

    /// Which table rotates in a layer of a GGUF file, which do not say so.
    pub fn gguf_rope(self, index: usize, has_window: bool) -> Option<usize> {
        match self {
            Family::SmolLm3 if (index + 1).is_multiple_of(SMOLLM3_PERIOD) => None,
            Family::Gemma3 if has_window => Some(1),
            _ => Some(0),
        }
    }

    pub fn is_gemma(self) -> bool {
        matches!(self, Family::Gemma | Family::Gemma2 | Family::Gemma3)
    }

    /// Whether the results of attention and of the feed-forward part are normalised before they are added.
    pub fn has_post_norms(self) -> bool {
        matches!(self, Family::Gemma2 | Family::Gemma3)
    }

    /// Whether every head of queries and of keys is normalised.
    pub fn has_head_norms(self) -> bool {
        matches!(self, Family::Qwen3 | Family::Gemma3)
    }
}

/// Which two dimensions of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Neighbours.
    Adjacent,
    /// Dimension `i` and `i + dims / 2`.
    Halves,
}

/// What the gate of the feed-forward part goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// The approximation by a hyperbolic tangent.
    Gelu,
}

/// What distinguishes a layer from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerPlan {
    /// Positions that a token sees, its own included; `None` for all.
    pub window: Option<usize>,
    /// Which of the [`Config::rope`] tables rotates queries and keys; `None` for no rotation.
    pub rope: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub family: Family,
    pub layers: Vec<LayerPlan>,
    /// Width of the residual stream.
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Leading dimensions of a head that are rotated.
    pub rope_dims: usize,
    pub rope_pairs: Pairs,
    /// One table, or two where layers with a window have a base of their own.
    pub rope: Vec<Frequencies>,
    pub norm_epsilon: f32,
    pub activation: Activation,
    /// Embeddings are multiplied by this.
    pub embedding_scale: f32,
    /// Scores of attention are multiplied by this.
    pub score_scale: f32,
    /// Scores, or logits, are softly kept below this.
    pub score_cap: Option<f32>,
    pub logit_cap: Option<f32>,
    /// Positions the model was made for.
    pub context_tokens: usize,
}

impl Config {
    /// Checks the numbers against each other; `corrupt` makes the error of the file that they are from.
    pub fn check(&self, corrupt: impl Fn(String) -> ModelError) -> Result<()> {
        let Self { heads, kv_heads, head_dim, rope_dims, .. } = *self;
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(corrupt(format!("{heads} heads cannot share {kv_heads} heads of keys")));
        }
        if head_dim == 0 || head_dim > MOST_HEAD_DIM || rope_dims > head_dim || !rope_dims.is_multiple_of(2) {
            return Err(corrupt(format!("{rope_dims} of {head_dim} dimensions of a head cannot be rotated")));
        }
        let positive = |number: f32| number.is_finite() && number > 0.0;
        let frequencies = self.rope.iter().flat_map(|table| table.all());
        if !positive(self.norm_epsilon) || !frequencies.into_iter().all(positive) {
            return Err(corrupt("base or scale of the positions or epsilon of the norms is not positive".into()));
        }
        let caps = [self.score_cap, self.logit_cap].into_iter().flatten();
        if ![self.embedding_scale, self.score_scale].into_iter().chain(caps).all(positive) {
            return Err(corrupt("a scale or a cap is not positive".into()));
        }
        if self.rope.iter().any(|table| table.pairs() != rope_dims / 2) {
            return Err(corrupt("there is not one frequency for each rotated pair of dimensions".into()));
        }
        for (name, len) in [("hidden", self.hidden), ("feed-forward", self.feed_forward), ("attention", self.q_len())] {
            if !len.is_multiple_of(UNIT) {
                return Err(ModelError::Unsupported(format!("{name} size {len} is not a multiple of {UNIT}")));
            }
        }
        Ok(())
    }

    /// Checks a number of layers before anything is made for each of them.
    pub fn check_layers(count: usize, corrupt: impl Fn(String) -> ModelError) -> Result<usize> {
        if (1..=MOST_LAYERS).contains(&count) {
            Ok(count)
        } else {
            Err(corrupt(format!("{count} layers are not a model")))
        }
    }

    /// What scores of attention are multiplied by in GGUF files that do not say so.
    pub fn gguf_score_scale(&self) -> f32 {
        // The largest models of these two families scale by the width that a head would have if all filled the stream.
        let largest = matches!((self.family, self.layers.len()), (Family::Gemma2, 46) | (Family::Gemma3, 62));
        let scaled_dim = if largest { self.hidden / self.heads } else { self.head_dim };
        1.0 / (scaled_dim as f32).sqrt()
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

    /// Sequences of more tokens than this rotate by the long table; `None` where there is only one.
    pub fn long_from(&self) -> Option<usize> {
        self.rope.iter().find_map(Frequencies::long_from)
    }
}

#[cfg(test)]
impl Config {
    /// A plain configuration for tests of what needs one.
    pub fn plain(layers: usize, heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            family: Family::Llama,
            layers: vec![LayerPlan { window: None, rope: Some(0) }; layers],
            hidden: 64,
            feed_forward: 64,
            heads,
            kv_heads,
            head_dim,
            rope_dims: head_dim,
            rope_pairs: Pairs::Adjacent,
            rope: vec![Frequencies::plain(1e4, head_dim)],
            norm_epsilon: 1e-5,
            activation: Activation::Silu,
            embedding_scale: 1.0,
            score_scale: 1.0 / (head_dim as f32).sqrt(),
            score_cap: None,
            logit_cap: None,
            context_tokens: 100,
        }
    }
}
