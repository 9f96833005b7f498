//! The tensors of a checkpoint under the names of GGUF, and what is done to them on the way.
//!
//! Llama's checkpoints pair the dimensions that are rotated together as `(i, i + n/2)`, GGUF's llama architecture as
//! `(2i, 2i + 1)`; so the rows of its queries and keys change places. The other families stay as they are.

use super::config::{Config, Scaling};
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use std::collections::HashSet;

/// Where a tensor's numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    Tensor(String),
    /// The rows of each head change places.
    Rotated {
        name: String,
        head_dim: usize,
    },
    Numbers(Vec<f32>),
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub origin: Origin,
}

/// The row of a checkpoint's matrix that becomes row `row`.
pub fn rotated_row(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    head * head_dim + at / 2 + at % 2 * (head_dim / 2)
}

/// Every tensor of the model, in the order in which it is written.
///
/// Errors: `Corrupt` for a missing tensor or a wrong shape; `Unsupported` for one that is not known.
pub fn plan(config: &Config, checkpoint: &Checkpoint) -> Result<Vec<Part>> {
    let mut planner = Planner { checkpoint, parts: Vec::new(), used: HashSet::new() };
    let (hidden, feed_forward) = (config.hidden, config.feed_forward);
    let (q_len, kv_len) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let head_dim = (config.architecture == "llama").then_some(config.head_dim);
    planner.add("model.embed_tokens.weight", "token_embd.weight", &[config.vocabulary, hidden], None)?;
    if config.tied {
        planner.used.insert("lm_head.weight".to_owned());
    } else if checkpoint.contains("lm_head.weight") {
        planner.add("lm_head.weight", "output.weight", &[config.vocabulary, hidden], None)?;
    }
    planner.add("model.norm.weight", "output_norm.weight", &[hidden], None)?;
    if let Scaling::Divisors(divisors) = &config.scaling {
        let (name, shape) = ("rope_freqs.weight".to_owned(), vec![divisors.len()]);
        planner.parts.push(Part { name, shape, origin: Origin::Numbers(divisors.clone()) });
    }
    for layer in 0..config.layers {
        let mut add = |from: &str, to: &str, shape: &[usize], rotated| {
            planner.add(&format!("model.layers.{layer}.{from}"), &format!("blk.{layer}.{to}"), shape, rotated)
        };
        add("input_layernorm.weight", "attn_norm.weight", &[hidden], None)?;
        add("self_attn.q_proj.weight", "attn_q.weight", &[q_len, hidden], head_dim)?;
        add("self_attn.k_proj.weight", "attn_k.weight", &[kv_len, hidden], head_dim)?;
        add("self_attn.v_proj.weight", "attn_v.weight", &[kv_len, hidden], None)?;
        if config.architecture == "qwen2" {
            add("self_attn.q_proj.bias", "attn_q.bias", &[q_len], None)?;
            add("self_attn.k_proj.bias", "attn_k.bias", &[kv_len], None)?;
            add("self_attn.v_proj.bias", "attn_v.bias", &[kv_len], None)?;
        }
        if config.architecture == "qwen3" {
            add("self_attn.q_norm.weight", "attn_q_norm.weight", &[config.head_dim], None)?;
            add("self_attn.k_norm.weight", "attn_k_norm.weight", &[config.head_dim], None)?;
        }
        add("self_attn.o_proj.weight", "attn_output.weight", &[hidden, q_len], None)?;
        add("post_attention_layernorm.weight", "ffn_norm.weight", &[hidden], None)?;
        add("mlp.gate_proj.weight", "ffn_gate.weight", &[feed_forward, hidden], None)?;
        add("mlp.up_proj.weight", "ffn_up.weight", &[feed_forward, hidden], None)?;
        add("mlp.down_proj.weight", "ffn_down.weight", &[hidden, feed_forward], None)?;
    }
    let unknown = |name: &&str| !planner.used.contains(*name) && !name.ends_with("rotary_emb.inv_freq");
    if let Some(name) = checkpoint.tensors().map(|(name, ..)| name).filter(unknown).min() {
        return Err(ModelError::Unsupported(format!(
            "tensor \"{name}\" is not part of the {} architecture",
            config.architecture
        )));
    }
    Ok(planner.parts)
}

struct Planner<'a> {
    checkpoint: &'a Checkpoint,
    parts: Vec<Part>,
    used: HashSet<String>,
}

impl Planner<'_> {
    fn add(&mut self, from: &str, to: &str, shape: &[usize], rotated: Option<usize>) -> Result<()> {
        self.checkpoint.expect(from, shape)?;
        self.used.insert(from.to_owned());
        let name = from.to_owned();
        let origin = match rotated {
            Some(head_dim) => Origin::Rotated { name, head_dim },
            None => Origin::Tensor(name),
        };
        self.parts.push(Part { name: to.to_owned(), shape: shape.to_vec(), origin });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_rotated_together_become_neighbours() {
        let rows: Vec<usize> = (0..16).map(|row| rotated_row(row, 8)).collect();
        assert_eq!(rows, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
    }
}
