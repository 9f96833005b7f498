//! The BERT transformer (Devlin et al., 2018): weights from a checkpoint and the forward pass over packed sequences.
//!
//! The tokens of all sequences of a batch are rows of one matrix; nothing is padded. A layer is four matrix products
//! ([`super::linear`]) with everything between them
//! fused into single passes: [`super::attention`] and [`super::kernels`].

use super::attention::{attention, Heads};
use super::config::{Activation, BertShape};
use super::kernels::{add_bias_norm, bias_activation, Norm};
use super::linear::Linear;
use crate::compute::Pool;
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;

/// Rows per task of the loops that treat rows independently.
const TASK_ROWS: usize = 32;

struct Layer {
    /// Query, key and value projections in one; the queries carry the factor 1/√(head width).
    qkv: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    expand: Linear,
    contract: Linear,
    output_norm: Norm,
}

/// A loaded BERT.
pub struct Bert {
    shape: BertShape,
    /// `[vocabulary, hidden]`
    words: Vec<f32>,
    /// `[positions, hidden]`, with the vector of token type 0 added to each.
    positions: Vec<f32>,
    embedding_norm: Norm,
    layers: Vec<Layer>,
}

/// Buffers of a forward pass, kept between passes.
#[derive(Default)]
pub struct Scratch {
    hidden: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    projected: Vec<f32>,
    expanded: Vec<f32>,
    tiles: Vec<f32>,
}

impl Bert {
    /// Reads the weights. Tensors may carry the prefix `bert.`; layer normalisations may use the names gamma and beta.
    ///
    /// Errors: those of [`Checkpoint::read_f32`].
    pub fn load(shape: &BertShape, checkpoint: &Checkpoint) -> Result<Self> {
        Reader::new(shape, checkpoint, true).bert()
    }

    /// Checks that every weight is there with the right shape, without reading them.
    ///
    /// Errors: those of [`Checkpoint::expect`].
    pub fn check(shape: &BertShape, checkpoint: &Checkpoint) -> Result<()> {
        Reader::new(shape, checkpoint, false).bert().map(drop)
    }

    /// Bytes of the weights.
    pub fn resident_bytes(&self) -> usize {
        let layers: usize = self
            .layers
            .iter()
            .map(|layer| {
                let products = [&layer.qkv, &layer.attention_output, &layer.expand, &layer.contract];
                products.into_iter().map(Linear::len).sum::<usize>() + 4 * self.shape.hidden
            })
            .sum();
        (self.words.len() + self.positions.len() + 2 * self.shape.hidden + layers) * size_of::<f32>()
    }

    /// Last hidden state `[tokens, hidden]` of packed sequences, as a slice of `scratch`.
    ///
    /// - `ids`: token ids of all sequences, one after the other.
    /// - `starts`: first token of each sequence, and `ids.len()` at the end.
    ///
    /// Errors: `InvalidArgument` for an id outside the vocabulary or a sequence longer than the model's positions.
    pub fn forward<'s>(
        &self,
        pool: &Pool,
        ids: &[u32],
        starts: &[usize],
        scratch: &'s mut Scratch,
    ) -> Result<&'s [f32]> {
        let BertShape { hidden: width, feed_forward, .. } = self.shape;
        let tokens = ids.len();
        let Scratch { hidden, qkv, context, projected, expanded, tiles } = scratch;
        for (buffer, columns) in [
            (&mut *hidden, width),
            (&mut *qkv, 3 * width),
            (&mut *context, width),
            (&mut *projected, width),
            (&mut *expanded, feed_forward),
        ] {
            buffer.resize(tokens * columns, 0.0);
        }
        self.embed_tokens(ids, starts, hidden)?;
        let heads = Heads { count: self.shape.heads, width: width / self.shape.heads };
        for layer in &self.layers {
            layer.qkv.apply(pool, hidden, qkv, tiles);
            attention(pool, heads, qkv, &layer.qkv.bias, starts, context);
            layer.attention_output.apply(pool, context, projected, tiles);
            residual_norm(pool, hidden, projected, &layer.attention_output.bias, &layer.attention_norm);

            layer.expand.apply(pool, hidden, expanded, tiles);
            activate(pool, expanded, &layer.expand.bias, self.shape.activation);
            layer.contract.apply(pool, expanded, projected, tiles);
            residual_norm(pool, hidden, projected, &layer.contract.bias, &layer.output_norm);
        }
        Ok(hidden)
    }

    fn embed_tokens(&self, ids: &[u32], starts: &[usize], output: &mut [f32]) -> Result<()> {
        let width = self.shape.hidden;
        let nothing = vec![0.0; width];
        for sequence in starts.windows(2) {
            let length = sequence[1] - sequence[0];
            if length > self.shape.positions {
                let limit = self.shape.positions;
                return Err(ModelError::InvalidArgument(format!("text of {length} tokens, the model takes {limit}")));
            }
            for (position, token) in (sequence[0]..sequence[1]).enumerate() {
                let row = &mut output[token * width..][..width];
                let word = self.words.chunks_exact(width).nth(ids[token] as usize).ok_or_else(|| {
                    ModelError::InvalidArgument(format!("token id {} is not in the model's vocabulary", ids[token]))
                })?;
                row.copy_from_slice(word);
                let position = &self.positions[position * width..][..width];
                add_bias_norm(row, position, &nothing, &self.embedding_norm);
            }
        }
        Ok(())
    }
}

fn residual_norm(pool: &Pool, hidden: &mut [f32], addend: &[f32], bias: &[f32], norm: &Norm) {
    let task = TASK_ROWS * bias.len();
    pool.for_chunks_mut(hidden, task, |index, rows| {
        let addend = &addend[index * task..][..rows.len()];
        add_bias_norm(rows, addend, bias, norm);
    });
}

fn activate(pool: &Pool, rows: &mut [f32], bias: &[f32], activation: Activation) {
    pool.for_chunks_mut(rows, TASK_ROWS * bias.len(), |_, rows| bias_activation(rows, bias, activation));
}

/// Reads tensors by their names in the original implementation.
struct Reader<'a> {
    shape: &'a BertShape,
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
    /// Without values, shapes are checked and all tensors stay empty.
    values: bool,
}

impl<'a> Reader<'a> {
    fn new(shape: &'a BertShape, checkpoint: &'a Checkpoint, values: bool) -> Self {
        let prefixed = checkpoint.contains("bert.embeddings.word_embeddings.weight");
        Self { shape, checkpoint, prefix: if prefixed { "bert." } else { "" }, values }
    }

    fn bert(&self) -> Result<Bert> {
        let hidden = self.shape.hidden;
        let words = self.tensor("embeddings.word_embeddings.weight", &[self.shape.vocabulary, hidden])?;
        let mut positions = self.tensor("embeddings.position_embeddings.weight", &[self.shape.positions, hidden])?;
        let types = self.tensor("embeddings.token_type_embeddings.weight", &[self.shape.token_types, hidden])?;
        for position in positions.chunks_exact_mut(hidden) {
            position.iter_mut().zip(&types).for_each(|(position, kind)| *position += kind);
        }
        let embedding_norm = self.norm("embeddings.LayerNorm")?;
        let mut layers = Vec::new();
        for index in 0..self.shape.layers {
            layers.push(self.layer(&format!("encoder.layer.{index}"))?);
        }
        Ok(Bert { shape: self.shape.clone(), words, positions, embedding_norm, layers })
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

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Linear::new(&weight, self.tensor(&format!("{name}.bias"), &[outputs])?, inputs))
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let old_names = self.checkpoint.contains(&format!("{}{name}.gamma", self.prefix));
        let (weight, bias) = if old_names { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            weight: self.tensor(&format!("{name}.{weight}"), &[self.shape.hidden])?,
            bias: self.tensor(&format!("{name}.{bias}"), &[self.shape.hidden])?,
            epsilon: self.shape.norm_epsilon,
        })
    }

    fn layer(&self, name: &str) -> Result<Layer> {
        let BertShape { hidden, feed_forward, heads, .. } = *self.shape;
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for projection in ["query", "key", "value"] {
            self.append(&format!("{name}.attention.self.{projection}.weight"), &[hidden, hidden], &mut weight)?;
            self.append(&format!("{name}.attention.self.{projection}.bias"), &[hidden], &mut bias)?;
        }
        let scale = 1.0 / ((hidden / heads) as f32).sqrt();
        weight.iter_mut().take(hidden * hidden).for_each(|value| *value *= scale);
        bias.iter_mut().take(hidden).for_each(|value| *value *= scale);
        Ok(Layer {
            qkv: Linear::new(&weight, bias, hidden),
            attention_output: self.linear(&format!("{name}.attention.output.dense"), hidden, hidden)?,
            attention_norm: self.norm(&format!("{name}.attention.output.LayerNorm"))?,
            expand: self.linear(&format!("{name}.intermediate.dense"), feed_forward, hidden)?,
            contract: self.linear(&format!("{name}.output.dense"), hidden, feed_forward)?,
            output_norm: self.norm(&format!("{name}.output.LayerNorm"))?,
        })
    }
}
