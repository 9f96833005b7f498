//! The weights of a decoder on the device, from those that are mapped ([`super::super::weights`]).
//!
//! Matrices with the same input are one layer; those of one type become one matrix. The device rotates dimension `i` with
//! `i + dims / 2` in all models: where a file pairs neighbours, the rows of queries and keys are put into that order here.

use super::super::config::{Config, Pairs};
use super::super::lora::LayerAdapter;
use super::super::matrix;
use super::super::tensors::Elements;
use super::super::weights;
use crate::accelerator::linear::{vector, Linear, Matrix};
use crate::adapter::Factors;
use crate::error::Result;
use candle_core::{Device, Tensor};
use std::slice::from_ref;

/// One transformer block.
#[derive(Clone)]
pub struct Layer {
    pub attention_norm: Tensor,
    /// Queries, keys and values.
    pub qkv: Linear,
    /// Of each head.
    pub q_norm: Option<Tensor>,
    pub k_norm: Option<Tensor>,
    pub attention_output: Linear,
    pub attention_post_norm: Option<Tensor>,
    pub feed_forward_norm: Tensor,
    /// Gate, then up.
    pub gate_up: Linear,
    pub down: Linear,
    pub feed_forward_post_norm: Option<Tensor>,
}

impl Layer {
    pub fn upload(device: &Device, config: &Config, layer: &weights::Layer) -> Result<Self> {
        let order = |row: usize| source_row(config, row);
        let as_it_is = |row: usize| row;
        let norm = |weights: &[f32]| vector(device, weights);
        let optional = |weights: &Option<Vec<f32>>| weights.as_deref().map(norm).transpose();
        // Of one head, so the order is that of the first one's rows.
        let head_norm = |weights: &Option<Vec<f32>>| {
            let ordered = weights.as_ref().map(|weights| (0..weights.len()).map(|at| weights[order(at)]).collect());
            optional(&ordered)
        };
        let qkv_bias: Option<Vec<f32>> =
            layer.qkv_bias.as_ref().map(|bias| (0..bias.len()).map(|row| bias[order(row)]).collect());
        let linear =
            |matrices: &[matrix::Matrix], bias: &Option<Vec<f32>>| upload(device, matrices, bias.as_deref(), &as_it_is);
        Ok(Self {
            attention_norm: norm(&layer.attention_norm)?,
            qkv: upload(device, &layer.qkv, qkv_bias.as_deref(), &order)?,
            q_norm: head_norm(&layer.q_norm)?,
            k_norm: head_norm(&layer.k_norm)?,
            attention_output: linear(from_ref(&layer.attention_output), &layer.attention_output_bias)?,
            attention_post_norm: optional(&layer.attention_post_norm)?,
            feed_forward_norm: norm(&layer.feed_forward_norm)?,
            gate_up: linear(&layer.gate_up, &layer.gate_up_bias)?,
            down: linear(from_ref(&layer.down), &layer.down_bias)?,
            feed_forward_post_norm: optional(&layer.feed_forward_post_norm)?,
        })
    }

    /// The same layer with the factors of an adapter.
    pub fn adapted(&self, device: &Device, config: &Config, adapter: &LayerAdapter) -> Result<Self> {
        let order = |row: usize| source_row(config, row);
        let qkv_len = config.q_len() + 2 * config.kv_len();
        let with = |linear: &Linear, outputs: usize, factors: &[(usize, Factors)], order: &dyn Fn(usize) -> usize| {
            match stacked(outputs, factors, order) {
                Some(Factors { rank, a, b }) => linear.with_low_rank(device, rank, &a, &b),
                None => Ok(linear.clone()),
            }
        };
        let as_it_is = |row: usize| row;
        Ok(Self {
            qkv: with(&self.qkv, qkv_len, &adapter.qkv, &order)?,
            attention_output: with(&self.attention_output, config.hidden, &adapter.attention_output, &as_it_is)?,
            gate_up: with(&self.gate_up, 2 * config.feed_forward, &adapter.gate_up, &as_it_is)?,
            down: with(&self.down, config.hidden, &adapter.down, &as_it_is)?,
            ..self.clone()
        })
    }
}

/// Uploads matrices with the same input; row `i` of all of them together is their row `order(i)`, which is of the same
/// matrix.
pub fn upload(
    device: &Device,
    matrices: &[matrix::Matrix],
    bias: Option<&[f32]>,
    order: &dyn Fn(usize) -> usize,
) -> Result<Linear> {
    let mut uploaded = Vec::new();
    let mut first = 0;
    for group in matrices.chunk_by(|a, b| a.elements() == b.elements()) {
        let (elements, columns) = (group[0].elements(), group[0].columns());
        let rows: usize = group.iter().map(matrix::Matrix::rows).sum();
        let mut bytes = Vec::with_capacity(group.iter().map(matrix::Matrix::bytes).sum());
        for matrix in group {
            for row in first..first + matrix.rows() {
                bytes.extend_from_slice(matrix.row(order(row) - first));
            }
            first += matrix.rows();
        }
        uploaded.push(match elements {
            Elements::Blocks(format) => Matrix::of_blocks(device, format, [rows, columns], &bytes)?,
            Elements::Numbers(element) => Matrix::of_numbers(device, element, [rows, columns], &bytes)?,
        });
    }
    Linear::new(device, uploaded, bias)
}

/// The row of queries, keys and values, as they are in the file, that becomes row `row` on the device.
fn source_row(config: &Config, row: usize) -> usize {
    if config.rope_pairs == Pairs::Halves || row >= config.q_len() + config.kv_len() {
        return row;
    }
    let (head, at) = (row / config.head_dim, row % config.head_dim);
    let half = config.rope_dims / 2;
    let source = match at {
        at if at >= config.rope_dims => at,
        at if at < half => 2 * at,
        at => 2 * (at - half) + 1,
    };
    head * config.head_dim + source
}

/// The factors of several matrices as one pair: those that narrow below each other, those that widen in their own rows and
/// columns among zeros. Each comes with its first output.
fn stacked(outputs: usize, factors: &[(usize, Factors)], order: &dyn Fn(usize) -> usize) -> Option<Factors> {
    let rank: usize = factors.iter().map(|(_, factors)| factors.rank).sum();
    if rank == 0 {
        return None;
    }
    let a = factors.iter().flat_map(|(_, factors)| factors.a.iter().copied()).collect();
    let mut b = vec![0.0; outputs * rank];
    let mut column = 0;
    for (first, Factors { rank: own, b: widen, .. }) in factors {
        let own_rows = *first..first + widen.len() / own;
        for (row, out) in b.chunks_exact_mut(rank).enumerate() {
            let source = order(row);
            if own_rows.contains(&source) {
                out[column..column + own].copy_from_slice(&widen[(source - first) * own..][..*own]);
            }
        }
        column += own;
    }
    Some(Factors { rank, a, b })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_are_rotated_together_come_apart() {
        let mut config = Config::plain(1, 2, 1, 8);
        let rows: Vec<usize> = (0..32).map(|row| source_row(&config, row)).collect();
        // Two heads of queries, one of keys; values stay.
        assert_eq!(rows[..8], [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!(rows[16..24], [16, 18, 20, 22, 17, 19, 21, 23]);
        assert_eq!(rows[24..], [24, 25, 26, 27, 28, 29, 30, 31]);
        config.rope_dims = 4;
        let rows: Vec<usize> = (8..16).map(|row| source_row(&config, row)).collect();
        assert_eq!(rows, [8, 10, 9, 11, 12, 13, 14, 15]);
        config.rope_pairs = Pairs::Halves;
        assert!((0..32).all(|row| source_row(&config, row) == row));
    }

    #[test]
    fn factors_of_two_matrices_become_one_pair() {
        let factors = [
            (0, Factors { rank: 1, a: vec![1.0, 2.0], b: vec![10.0, 20.0] }),
            (3, Factors { rank: 2, a: vec![3.0, 4.0, 5.0, 6.0], b: vec![7.0, 8.0] }),
        ];
        let swapped = |row: usize| if row < 2 { 1 - row } else { row };
        let pair = stacked(4, &factors, &swapped).unwrap();
        assert_eq!((pair.rank, pair.a), (3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert_eq!(pair.b, [20.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 8.0]);
        assert!(stacked(4, &[], &swapped).is_none());
    }
}
