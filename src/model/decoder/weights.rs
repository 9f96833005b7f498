//! The tensors of a llama-architecture model under the names that GGUF gives them.

use super::config::Config;
use super::gguf::GgufFile;
use super::matrix::{load_vector, Matrix};
use crate::error::{ModelError, Result};

/// One transformer block.
#[derive(Clone)]
pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub q: Matrix,
    pub k: Matrix,
    pub v: Matrix,
    pub attention_output: Matrix,
    pub feed_forward_norm: Vec<f32>,
    pub gate: Matrix,
    pub up: Matrix,
    pub down: Matrix,
}

#[derive(Clone)]
pub struct Weights {
    pub embedding: Matrix,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    /// `None` when the output shares the embedding.
    pub output: Option<Matrix>,
    /// Angle per position of every rotated pair of dimensions.
    pub rope_frequencies: Vec<f32>,
}

impl Weights {
    /// Loads every tensor. Errors: `Corrupt` for a missing tensor or a wrong shape; `Unsupported` for a tensor that
    /// this runtime does not know, because ignoring it would give wrong answers.
    pub fn load(file: &mut GgufFile, config: &Config) -> Result<Self> {
        let embedding = file.find("token_embd.weight")?;
        let embedding = embedding.ok_or_else(|| file.corrupt("tensor \"token_embd.weight\" is missing"))?;
        let vocabulary = match embedding.shape.as_slice() {
            &[vocabulary, columns] if columns == config.hidden && vocabulary > 0 => vocabulary,
            shape => return Err(file.corrupt(format!("tensor \"token_embd.weight\" has the shape {shape:?}"))),
        };
        let embedding = Matrix::load(file, embedding)?;
        let layers = (0..config.layers).map(|layer| Layer::load(file, config, layer)).collect::<Result<Vec<_>>>()?;
        let output = match file.find("output.weight")? {
            Some(_) => Some(matrix(file, "output.weight", vocabulary, config.hidden)?),
            None => None,
        };
        let output_norm = vector(file, "output_norm.weight", config.hidden)?;
        let rope_frequencies = rope_frequencies(file, config)?;
        if let Some(name) = file.unused_tensor() {
            return Err(ModelError::Unsupported(format!("tensor \"{name}\" is not part of the llama architecture")));
        }
        Ok(Self { embedding, layers, output_norm, output, rope_frequencies })
    }

    pub fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> usize {
        let layer = |layer: &Layer| {
            let Layer { q, k, v, attention_output, gate, up, down, .. } = layer;
            [q, k, v, attention_output, gate, up, down].iter().map(|matrix| matrix.bytes()).sum::<usize>()
        };
        let layers: usize = self.layers.iter().map(layer).sum();
        layers + self.embedding.bytes() + self.output.as_ref().map_or(0, Matrix::bytes)
    }
}

impl Layer {
    fn load(file: &mut GgufFile, config: &Config, layer: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let (hidden, feed_forward) = (config.hidden, config.feed_forward);
        let (q_len, kv_len) = (config.q_len(), config.kv_len());
        Ok(Self {
            attention_norm: vector(file, &name("attn_norm"), hidden)?,
            q: matrix(file, &name("attn_q"), q_len, hidden)?,
            k: matrix(file, &name("attn_k"), kv_len, hidden)?,
            v: matrix(file, &name("attn_v"), kv_len, hidden)?,
            attention_output: matrix(file, &name("attn_output"), hidden, q_len)?,
            feed_forward_norm: vector(file, &name("ffn_norm"), hidden)?,
            gate: matrix(file, &name("ffn_gate"), feed_forward, hidden)?,
            up: matrix(file, &name("ffn_up"), feed_forward, hidden)?,
            down: matrix(file, &name("ffn_down"), hidden, feed_forward)?,
        })
    }
}

fn matrix(file: &mut GgufFile, name: &str, rows: usize, columns: usize) -> Result<Matrix> {
    let tensor = file.tensor(name, &[rows, columns])?;
    Matrix::load(file, tensor)
}

fn vector(file: &mut GgufFile, name: &str, len: usize) -> Result<Vec<f32>> {
    let tensor = file.tensor(name, &[len])?;
    load_vector(file, &tensor)
}

/// `base^(-2i / dims)`, divided by the scale and by `rope_freqs.weight` (Llama 3's context extension).
fn rope_frequencies(file: &mut GgufFile, config: &Config) -> Result<Vec<f32>> {
    let pairs = config.rope_dims / 2;
    let divisors = match file.find("rope_freqs.weight")? {
        Some(_) => vector(file, "rope_freqs.weight", pairs)?,
        None => vec![1.0; pairs],
    };
    if divisors.iter().any(|divisor| !(divisor.is_finite() && *divisor > 0.0)) {
        return Err(file.corrupt("tensor \"rope_freqs.weight\" holds numbers that are not positive"));
    }
    let frequency = |pair: usize| config.rope_base.powf(-2.0 * pair as f32 / config.rope_dims as f32);
    let scaled = |(pair, divisor)| frequency(pair) / (config.rope_scale * divisor);
    Ok(divisors.into_iter().enumerate().map(scaled).collect())
}
