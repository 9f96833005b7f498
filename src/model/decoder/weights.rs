//! The tensors of a decoder, under the names that GGUF gives them.

use super::config::{Config, Family};
use super::matrix::Matrix;
use super::tensors::{expect, find, load_vector, Tensors};
use crate::error::{ModelError, Result};

/// One transformer block. Where two or three matrices multiply the same input, they are together; some families keep
/// them as one.
#[derive(Clone)]
pub struct Layer {
    pub attention_norm: Vec<f32>,
    /// Queries, keys and values.
    pub qkv: Vec<Matrix>,
    pub qkv_bias: Option<Vec<f32>>,
    /// Of each head.
    pub q_norm: Option<Vec<f32>>,
    pub k_norm: Option<Vec<f32>>,
    pub attention_output: Matrix,
    pub attention_output_bias: Option<Vec<f32>>,
    /// Of what attention gives, before it is added.
    pub attention_post_norm: Option<Vec<f32>>,
    pub feed_forward_norm: Vec<f32>,
    /// Gate, then up.
    pub gate_up: Vec<Matrix>,
    pub gate_up_bias: Option<Vec<f32>>,
    pub down: Matrix,
    pub down_bias: Option<Vec<f32>>,
    pub feed_forward_post_norm: Option<Vec<f32>>,
}

#[derive(Clone)]
pub struct Weights {
    pub embedding: Matrix,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    /// `None` when the output shares the embedding.
    pub output: Option<Matrix>,
}

impl Weights {
    /// Loads every tensor. Errors: `Corrupt` for a missing tensor or a wrong shape; `Unsupported` for a tensor that
    /// this runtime does not know, because ignoring it would give wrong answers.
    pub fn load(tensors: &mut dyn Tensors, config: &Config) -> Result<Self> {
        let name = tensors.own_name("token_embd.weight");
        let embedding = tensors.find("token_embd.weight")?;
        let embedding = embedding.ok_or_else(|| tensors.corrupt(format!("tensor \"{name}\" is missing")))?;
        let vocabulary = match embedding.shape.as_slice() {
            &[vocabulary, columns] if columns == config.hidden && vocabulary > 0 => vocabulary,
            shape => return Err(tensors.corrupt(format!("tensor \"{name}\" has the shape {shape:?}"))),
        };
        let embedding = Matrix::new(embedding)?;
        let layers = (0..config.layers.len()).map(|layer| Layer::load(tensors, config, layer));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let output = find(tensors, "output.weight", &[vocabulary, config.hidden])?.map(Matrix::new).transpose()?;
        let output_norm = norm(tensors, "output_norm.weight", config.hidden)?;
        if let Some(name) = tensors.unused() {
            return Err(ModelError::Unsupported(format!("tensor \"{name}\" is not part of the model's architecture")));
        }
        Ok(Self { embedding, layers, output_norm, output })
    }

    pub fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> usize {
        let bytes = |layer: &Layer| {
            let Layer { qkv, attention_output, gate_up, down, .. } = layer;
            let matrices = qkv.iter().chain(gate_up).chain([attention_output, down]);
            matrices.map(Matrix::bytes).sum::<usize>()
        };
        let layers: usize = self.layers.iter().map(bytes).sum();
        layers + self.embedding.bytes() + self.output.as_ref().map_or(0, Matrix::bytes)
    }
}

impl Layer {
    fn load(tensors: &mut dyn Tensors, config: &Config, layer: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, feed_forward, head_dim) = (config.hidden, config.feed_forward, config.head_dim);
        let (q_len, kv_len) = (config.q_len(), config.kv_len());
        let attention_parts = [("attn_q", q_len), ("attn_k", kv_len), ("attn_v", kv_len)];
        let (gate, up) = (("ffn_gate", feed_forward), ("ffn_up", feed_forward));
        let both = [("ffn_up", 2 * feed_forward)];
        let fused = config.family == Family::Phi3;
        let [q_norm, k_norm] = match config.family.has_head_norms() {
            true => [
                norm(tensors, &name("attn_q_norm.weight"), head_dim)?,
                norm(tensors, &name("attn_k_norm.weight"), head_dim)?,
            ]
            .map(Some),
            false => [None, None],
        };
        let [attention_post_norm, feed_forward_post_norm] = match config.family.has_post_norms() {
            true => [
                norm(tensors, &name("post_attention_norm.weight"), hidden)?,
                norm(tensors, &name("post_ffw_norm.weight"), hidden)?,
            ]
            .map(Some),
            false => [None, None],
        };
        let qkv_parts: &[(&str, usize)] = if fused { &[("attn_qkv", q_len + 2 * kv_len)] } else { &attention_parts };
        let gate_up_parts: &[(&str, usize)] = if fused { &both } else { &[gate, up] };
        Ok(Self {
            attention_norm: norm(tensors, &name("attn_norm.weight"), hidden)?,
            qkv: matrices(tensors, layer, qkv_parts, hidden)?,
            qkv_bias: biases(tensors, layer, qkv_parts, config.family == Family::Qwen2)?,
            q_norm,
            k_norm,
            attention_output: matrix(tensors, &name("attn_output.weight"), hidden, q_len)?,
            attention_output_bias: biases(tensors, layer, &[("attn_output", hidden)], false)?,
            attention_post_norm,
            feed_forward_norm: norm(tensors, &name("ffn_norm.weight"), hidden)?,
            gate_up: matrices(tensors, layer, gate_up_parts, hidden)?,
            gate_up_bias: biases(tensors, layer, gate_up_parts, false)?,
            down: matrix(tensors, &name("ffn_down.weight"), hidden, feed_forward)?,
            down_bias: biases(tensors, layer, &[("ffn_down", hidden)], false)?,
            feed_forward_post_norm,
        })
    }
}

fn matrix(tensors: &mut dyn Tensors, name: &str, rows: usize, columns: usize) -> Result<Matrix> {
    Matrix::new(expect(tensors, name, &[rows, columns])?)
}

fn matrices(tensors: &mut dyn Tensors, layer: usize, parts: &[(&str, usize)], columns: usize) -> Result<Vec<Matrix>> {
    parts.iter().map(|(part, rows)| matrix(tensors, &format!("blk.{layer}.{part}.weight"), *rows, columns)).collect()
}

/// The biases of matrices with the same input, one behind the other; zeros for those that have none, and nothing if
/// none has, unless the family cannot be without.
fn biases(
    tensors: &mut dyn Tensors,
    layer: usize,
    parts: &[(&str, usize)],
    required: bool,
) -> Result<Option<Vec<f32>>> {
    let (mut all, mut any) = (Vec::new(), false);
    for (part, len) in parts {
        let name = format!("blk.{layer}.{part}.bias");
        let tensor = match required {
            true => Some(expect(tensors, &name, &[*len])?),
            false => find(tensors, &name, &[*len])?,
        };
        match tensor {
            Some(tensor) => {
                all.extend(load_vector(&tensor));
                any = true;
            }
            None => all.resize(all.len() + len, 0.0),
        }
    }
    Ok(any.then_some(all))
}

fn norm(tensors: &mut dyn Tensors, name: &str, len: usize) -> Result<Vec<f32>> {
    let mut weights = load_vector(&expect(tensors, name, &[len])?);
    let offset = tensors.norm_offset();
    weights.iter_mut().for_each(|weight| *weight += offset);
    Ok(weights)
}
