//! Reading the weights of a BERT: names, shapes, and the forms that the runtime wants.
//!
//! A head of the attention takes whole panels of 16 columns: where its width is no multiple of 16, columns of zeros are
//! added to queries, keys and values, and inputs with zero weights to the projection that follows.

use super::attention::Heads;
use super::bert::{Bert, Layer};
use super::config::{BertShape, Dtype};
use super::kernels::Norm;
use super::lanes::{Block, LANES};
use super::linear::{Linear, Single};
use super::quantized::Quantized;
use crate::error::Result;
use crate::source::safetensors::Checkpoint;

impl Bert {
    /// Reads the weights. Tensors may carry the prefix `bert.`; layer normalisations may use the names gamma and beta.
    ///
    /// Errors: those of [`Checkpoint::read_f32`].
    pub fn load(shape: &BertShape, dtype: Dtype, checkpoint: &Checkpoint) -> Result<Self> {
        // Before memory is set aside for what the configuration says.
        Self::check(shape, checkpoint)?;
        Reader::new(shape, dtype, checkpoint, true).bert()
    }

    /// Checks that every weight is there with the right shape, without reading them.
    ///
    /// Errors: those of [`Checkpoint::expect`].
    pub fn check(shape: &BertShape, checkpoint: &Checkpoint) -> Result<()> {
        Reader::new(shape, Dtype::F32, checkpoint, false).bert().map(drop)
    }
}

/// Reads tensors by their names in the original implementation.
struct Reader<'a> {
    shape: &'a BertShape,
    dtype: Dtype,
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
    /// Without values, shapes are checked and all tensors stay empty.
    values: bool,
}

impl<'a> Reader<'a> {
    fn new(shape: &'a BertShape, dtype: Dtype, checkpoint: &'a Checkpoint, values: bool) -> Self {
        let prefixed = checkpoint.contains("bert.embeddings.word_embeddings.weight");
        Self { shape, dtype, checkpoint, prefix: if prefixed { "bert." } else { "" }, values }
    }

    fn bert(&self) -> Result<Bert> {
        let hidden = self.shape.hidden;
        let words = self.tensor("embeddings.word_embeddings.weight", &[self.shape.vocabulary, hidden])?;
        let mut positions = self.tensor("embeddings.position_embeddings.weight", &[self.shape.positions, hidden])?;
        let types = self.tensor("embeddings.token_type_embeddings.weight", &[self.shape.token_types, hidden])?;
        for position in positions.chunks_exact_mut(hidden.max(1)) {
            position.iter_mut().zip(&types).for_each(|(position, kind)| *position += kind);
        }
        let embedding_norm = self.norm("embeddings.LayerNorm")?;
        let heads = self.heads();
        let mut arena = Vec::new();
        if self.values && self.dtype == Dtype::F32 {
            // Not in large pages: those make no query faster, and a fresh process waits 100 ms and more for them.
            arena.reserve_exact(self.arena_blocks());
        }
        let mut layers = Vec::new();
        for index in 0..self.shape.layers {
            layers.push(self.layer(&format!("encoder.layer.{index}"), &mut arena)?);
        }
        Ok(Bert { shape: self.shape.clone(), heads, words, positions, embedding_norm, layers, arena })
    }

    fn heads(&self) -> Heads {
        Heads { count: self.shape.heads, panels: (self.shape.hidden / self.shape.heads).div_ceil(LANES) }
    }

    /// Blocks of the weights of all linear layers.
    fn arena_blocks(&self) -> usize {
        let BertShape { hidden, feed_forward, layers, .. } = *self.shape;
        let heads = self.heads();
        let head_panels = heads.count * heads.panels;
        let hidden_panels = hidden.div_ceil(LANES);
        let attention = 3 * head_panels * hidden + hidden_panels * head_panels * LANES;
        layers * (attention + feed_forward.div_ceil(LANES) * hidden + hidden_panels * feed_forward)
    }

    fn append(&self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<()> {
        let name = format!("{}{name}", self.prefix);
        match self.values {
            true => self.checkpoint.read_f32(&name, shape, values),
            false => self.checkpoint.expect(&name, shape),
        }
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.append(name, shape, &mut values)?;
        Ok(values)
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize, arena: &mut Vec<Block>) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(self.packed(&weight, &self.tensor(&format!("{name}.bias"), &[outputs])?, inputs, arena))
    }

    fn packed(&self, weight: &[f32], bias: &[f32], inputs: usize, arena: &mut Vec<Block>) -> Linear {
        match self.dtype {
            Dtype::F32 => Linear::Single(Single::new(weight, bias, inputs, arena)),
            Dtype::Int8 => Linear::Quantized(Quantized::new(weight, bias, inputs)),
        }
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let old_names = self.checkpoint.contains(&format!("{}{name}.gamma", self.prefix));
        let (weight, bias) = if old_names { ("gamma", "beta") } else { ("weight", "bias") };
        let weight = self.tensor(&format!("{name}.{weight}"), &[self.shape.hidden])?;
        let bias = self.tensor(&format!("{name}.{bias}"), &[self.shape.hidden])?;
        Ok(Norm::new(&weight, &bias, self.shape.norm_epsilon))
    }

    /// The weights of queries, keys and values, each head padded to whole panels; queries scaled.
    fn qkv(&self, name: &str, arena: &mut Vec<Block>) -> Result<Linear> {
        let hidden = self.shape.hidden;
        let width = hidden / self.shape.heads;
        let padded = self.heads().panels * LANES;
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for projection in ["query", "key", "value"] {
            let part = self.tensor(&format!("{name}.{projection}.weight"), &[hidden, hidden])?;
            let part_bias = self.tensor(&format!("{name}.{projection}.bias"), &[hidden])?;
            let scale = if projection == "query" { 1.0 / (width as f32).sqrt() } else { 1.0 };
            for (rows, biases) in part.chunks_exact(width * hidden).zip(part_bias.chunks_exact(width)) {
                weight.extend(rows.iter().map(|value| value * scale));
                weight.resize(weight.len() + (padded - width) * hidden, 0.0);
                bias.extend(biases.iter().map(|value| value * scale));
                bias.resize(bias.len() + padded - width, 0.0);
            }
        }
        Ok(self.packed(&weight, &bias, hidden, arena))
    }

    /// The projection of the attention's result, whose heads are padded to whole panels.
    fn attention_output(&self, name: &str, arena: &mut Vec<Block>) -> Result<Linear> {
        let hidden = self.shape.hidden;
        let width = hidden / self.shape.heads;
        let padded = self.heads().panels * LANES;
        let weight = self.tensor(&format!("{name}.weight"), &[hidden, hidden])?;
        let bias = self.tensor(&format!("{name}.bias"), &[hidden])?;
        let mut wide = Vec::with_capacity(hidden * self.shape.heads * padded);
        for head in weight.chunks_exact(width) {
            wide.extend_from_slice(head);
            wide.resize(wide.len() + padded - width, 0.0);
        }
        Ok(self.packed(&wide, &bias, self.shape.heads * padded, arena))
    }

    fn layer(&self, name: &str, arena: &mut Vec<Block>) -> Result<Layer> {
        let BertShape { hidden, feed_forward, .. } = *self.shape;
        Ok(Layer {
            qkv: self.qkv(&format!("{name}.attention.self"), arena)?,
            attention_output: self.attention_output(&format!("{name}.attention.output.dense"), arena)?,
            attention_norm: self.norm(&format!("{name}.attention.output.LayerNorm"))?,
            expand: self.linear(&format!("{name}.intermediate.dense"), feed_forward, hidden, arena)?,
            contract: self.linear(&format!("{name}.output.dense"), hidden, feed_forward, arena)?,
            output_norm: self.norm(&format!("{name}.output.LayerNorm"))?,
        })
    }
}
