//! Self-attention over packed sequences, fused: scores, softmax and weighted sum of a few queries at a time, so that no
//! matrix of scores exists and no padding is computed (Vaswani et al., 2017; the blocking follows the idea of Dao et
//! al., 2022, "FlashAttention", without its online softmax: encoder inputs are short enough to hold a row of scores).
//!
//! Work is split into blocks of query rows of one sequence. A block computes all heads of its rows, so its output is a
//! contiguous piece of the context matrix that no other block touches.
#![allow(unsafe_code)]

use super::lanes::{dispatch, exp, Lanes, LANES};
use crate::compute::Pool;
use std::cell::RefCell;

/// Query rows of a block. Each block packs the keys and values of its sequence once per head, which this amortises.
const BLOCK_ROWS: usize = 64;
/// Query rows computed together in registers.
const ROWS: usize = 4;
/// Keys, or dimensions of values, computed together in registers.
const PANEL: usize = 2 * LANES;

/// Sizes of the attention of a model.
#[derive(Clone, Copy)]
pub struct Heads {
    pub count: usize,
    pub width: usize,
}

impl Heads {
    fn hidden(self) -> usize {
        self.count * self.width
    }
}

/// Attention of every token to all tokens of its own sequence.
///
/// - `qkv`: `[tokens, 3 · hidden]`, the projections before their bias; queries are already scaled by 1/√width.
/// - `bias`: `[3 · hidden]`, added on the way.
/// - `starts`: first token of each sequence, and the number of tokens at the end.
/// - `context`: `[tokens, hidden]`, the result.
pub fn attention(pool: &Pool, heads: Heads, qkv: &[f32], bias: &[f32], starts: &[usize], context: &mut [f32]) {
    let hidden = heads.hidden();
    let mut blocks = Vec::new();
    let mut rest = context;
    for sequence in starts.windows(2) {
        let tokens = sequence[1] - sequence[0];
        let (mut rows, after) = rest.split_at_mut(tokens * hidden);
        rest = after;
        let qkv = &qkv[sequence[0] * 3 * hidden..sequence[1] * 3 * hidden];
        for first_row in (0..tokens).step_by(BLOCK_ROWS) {
            let (block, after) = rows.split_at_mut(BLOCK_ROWS.min(tokens - first_row) * hidden);
            rows = after;
            blocks.push((qkv, first_row, block));
        }
    }
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    pool.for_chunks_mut(&mut blocks, 1, |_, blocks| {
        SCRATCH.with_borrow_mut(|scratch| {
            for (qkv, first_row, block) in blocks {
                attend_block(heads, qkv, bias, *first_row, block, scratch);
            }
        });
    });
}

dispatch! {
    /// One block of query rows of one sequence, whose projections are `qkv`.
    fn attend_block(
        heads: Heads, qkv: &[f32], bias: &[f32], first_row: usize, output: &mut [f32], scratch: &mut Vec<f32>,
    ) = attend_block_kernel;
}

#[inline(always)]
fn attend_block_kernel<L: Lanes>(
    heads: Heads,
    qkv: &[f32],
    bias: &[f32],
    first_row: usize,
    output: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (hidden, width) = (heads.hidden(), heads.width);
    let tokens = qkv.len() / (3 * hidden);
    let padded_tokens = tokens.next_multiple_of(PANEL);
    let padded_width = width.next_multiple_of(PANEL);
    let sizes = [padded_tokens * width, tokens * padded_width, ROWS * padded_tokens, width * ROWS];
    scratch.clear();
    scratch.resize(sizes.iter().sum(), 0.0);
    let (keys, rest) = scratch.split_at_mut(sizes[0]);
    let (values, rest) = rest.split_at_mut(sizes[1]);
    let (scores, queries) = rest.split_at_mut(sizes[2]);

    for head in 0..heads.count {
        let at = head * width;
        pack_keys(keys, qkv, bias, hidden, hidden + at, width);
        pack_values(values, qkv, bias, hidden, 2 * hidden + at, width);
        for (group, output) in output.chunks_mut(ROWS * hidden).enumerate() {
            let rows = output.len() / hidden;
            for row in 0..ROWS {
                // A group that is not full computes its last row several times.
                let token = first_row + group * ROWS + row.min(rows - 1);
                let query = &qkv[token * 3 * hidden + at..][..width];
                for (column, (q, b)) in query.iter().zip(&bias[at..]).enumerate() {
                    queries[column * ROWS + row] = q + b;
                }
            }
            score::<L>(keys, queries, width, scores, padded_tokens);
            let mut scales = [0.0; ROWS];
            for (scale, scores) in scales.iter_mut().zip(scores.chunks_exact_mut(padded_tokens)) {
                *scale = softmax::<L>(scores, tokens);
            }
            for (panel, values) in values.chunks_exact(tokens * PANEL).enumerate() {
                let sums = weigh::<L>(values, scores, padded_tokens);
                let column = panel * PANEL;
                let columns = PANEL.min(width - column);
                for row in 0..rows {
                    let target = &mut output[row * hidden + at + column..][..columns];
                    for (value, sum) in target.iter_mut().zip(&sums[row]) {
                        *value = sum * scales[row];
                    }
                }
            }
        }
    }
}

/// Packs the keys of one head as panels `[tokens / PANEL][width][PANEL]`; keys past the last token are zero.
#[inline(always)]
fn pack_keys(keys: &mut [f32], qkv: &[f32], bias: &[f32], hidden: usize, at: usize, width: usize) {
    let tokens = qkv.len() / (3 * hidden);
    let bias = &bias[at..at + width];
    for (panel, keys) in keys.chunks_exact_mut(width * PANEL).enumerate() {
        let first = panel * PANEL;
        for lane in 0..PANEL.min(tokens - first) {
            let key = &qkv[(first + lane) * 3 * hidden + at..][..width];
            for ((target, k), b) in keys.as_chunks_mut::<PANEL>().0.iter_mut().zip(key).zip(bias) {
                target[lane] = k + b;
            }
        }
    }
}

/// Packs the values of one head as panels `[width / PANEL][tokens][PANEL]`; columns past the width are zero.
#[inline(always)]
fn pack_values(values: &mut [f32], qkv: &[f32], bias: &[f32], hidden: usize, at: usize, width: usize) {
    let tokens = qkv.len() / (3 * hidden);
    for (panel, values) in values.chunks_exact_mut(tokens * PANEL).enumerate() {
        let column = panel * PANEL;
        let columns = PANEL.min(width - column);
        let bias = &bias[at + column..][..columns];
        for (token, target) in values.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let value = &qkv[token * 3 * hidden + at + column..][..columns];
            for ((target, v), b) in target.iter_mut().zip(value).zip(bias) {
                *target = v + b;
            }
        }
    }
}

/// scores[row][key] ← queries[·][row] · keys[·][key]
#[inline(always)]
fn score<L: Lanes>(keys: &[f32], queries: &[f32], width: usize, scores: &mut [f32], padded_tokens: usize) {
    for (panel, keys) in keys.chunks_exact(width * PANEL).enumerate() {
        let mut sums = [[L::splat(0.0); 2]; ROWS];
        for (key, query) in panel_rows(keys).iter().zip(queries.as_chunks::<ROWS>().0) {
            accumulate(&mut sums, key, query);
        }
        for (row, sums) in sums.into_iter().enumerate() {
            store_panel(sums, &mut scores[row * padded_tokens + panel * PANEL..]);
        }
    }
}

/// The sums over tokens of scores[row][token] · values[token][·], for one panel of columns.
#[inline(always)]
fn weigh<L: Lanes>(values: &[f32], scores: &[f32], padded_tokens: usize) -> [[f32; PANEL]; ROWS] {
    let (a, rest) = scores.split_at(padded_tokens);
    let (b, rest) = rest.split_at(padded_tokens);
    let (c, d) = rest.split_at(padded_tokens);
    let mut sums = [[L::splat(0.0); 2]; ROWS];
    for ((((value, a), b), c), d) in panel_rows(values).iter().zip(a).zip(b).zip(c).zip(d) {
        accumulate(&mut sums, value, &[*a, *b, *c, *d]);
    }
    let mut result = [[0.0; PANEL]; ROWS];
    for (result, sums) in result.iter_mut().zip(sums) {
        store_panel(sums, result);
    }
    result
}

/// sums[row] ← sums[row] + factors[row] · panel
#[inline(always)]
fn accumulate<L: Lanes>(sums: &mut [[L; 2]; ROWS], [low, high]: &[[f32; LANES]; 2], factors: &[f32; ROWS]) {
    let (low, high) = (L::load(low), L::load(high));
    for (sums, factor) in sums.iter_mut().zip(factors) {
        let factor = L::splat(*factor);
        sums[0] = low.mul_add(factor, sums[0]);
        sums[1] = high.mul_add(factor, sums[1]);
    }
}

/// The rows of a packed panel.
#[inline(always)]
fn panel_rows(panel: &[f32]) -> &[[[f32; LANES]; 2]] {
    panel.as_chunks::<LANES>().0.as_chunks::<2>().0
}

#[inline(always)]
fn store_panel<L: Lanes>(sums: [L; 2], to: &mut [f32]) {
    for (sum, to) in sums.into_iter().zip(to.as_chunks_mut::<LANES>().0) {
        sum.store(to);
    }
}

/// Replaces the first `tokens` scores by e^(score - largest) and the others by 0; returns 1 / their sum.
#[inline(always)]
fn softmax<L: Lanes>(scores: &mut [f32], tokens: usize) -> f32 {
    scores[tokens..].fill(f32::NEG_INFINITY);
    let mut largest = L::splat(f32::NEG_INFINITY);
    for scores in scores.as_chunks::<LANES>().0 {
        largest = L::load(scores).max(largest);
    }
    let largest = L::splat(largest.largest());
    let mut sum = L::splat(0.0);
    for scores in scores.as_chunks_mut::<LANES>().0 {
        // Scores past the last token become e^-87, which changes no sum in f32.
        let power = exp(L::load(scores).sub(largest));
        power.store(scores);
        sum = sum.add(power);
    }
    scores[tokens..].fill(0.0);
    1.0 / sum.sum()
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 22) as f32 - 2.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The definition, in double precision.
    fn reference(heads: Heads, qkv: &[f32], bias: &[f32], starts: &[usize]) -> Vec<f64> {
        let hidden = heads.hidden();
        let at = |token: usize, column: usize| f64::from(qkv[token * 3 * hidden + column]) + f64::from(bias[column]);
        let mut context = vec![0.0; starts[starts.len() - 1] * hidden];
        for sequence in starts.windows(2) {
            for row in sequence[0]..sequence[1] {
                for head in 0..heads.count {
                    let columns = head * heads.width..(head + 1) * heads.width;
                    let weights: Vec<f64> = (sequence[0]..sequence[1])
                        .map(|key| columns.clone().map(|c| at(row, c) * at(key, hidden + c)).sum::<f64>().exp())
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for column in columns {
                        let sum: f64 =
                            weights.iter().zip(sequence[0]..).map(|(w, key)| w * at(key, 2 * hidden + column)).sum();
                        context[row * hidden + column] = sum / total;
                    }
                }
            }
        }
        context
    }

    #[test]
    fn packed_sequences_attend_only_to_themselves() {
        let pool = Pool::new(2).unwrap();
        // Widths with and without a rest in the panels; lengths around the sizes of groups, panels and blocks.
        for width in [32, 5, 24] {
            let heads = Heads { count: 3, width };
            let starts = [0, 1, 1, 5, 22, 22 + 64, 22 + 64 + 131];
            let tokens = starts[starts.len() - 1];
            let qkv = noise(tokens * 9 * width, 1);
            let bias = noise(9 * width, 2);
            let mut context = vec![f32::NAN; tokens * heads.hidden()];
            attention(&pool, heads, &qkv, &bias, &starts, &mut context);
            let exact = reference(heads, &qkv, &bias, &starts);
            let worst = context.iter().zip(&exact).map(|(x, y)| (f64::from(*x) - y).abs()).fold(0.0, f64::max);
            assert!(worst < 5e-5, "width {width}: off by {worst}");
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let heads = Heads { count: 1, width: 8 };
        let mut qkv = vec![0.0; 3 * 24];
        for token in 0..3 {
            qkv[token * 24] = 1e3;
            qkv[token * 24 + 8] = 1e3 * token as f32;
            qkv[token * 24 + 16] = token as f32;
        }
        let mut context = vec![0.0; 24];
        attention(&Pool::new(1).unwrap(), heads, &qkv, &[0.0; 24], &[0, 3], &mut context);
        assert!([0, 8, 16].iter().all(|&i| (context[i] - 2.0).abs() < 1e-6), "{context:?}");
    }

    #[test]
    fn dispatched_kernel_agrees_with_the_portable_one() {
        let heads = Heads { count: 2, width: 12 };
        let qkv = noise(37 * 3 * heads.hidden(), 3);
        let bias = noise(3 * heads.hidden(), 4);
        let mut fast = vec![0.0; 30 * heads.hidden()];
        let mut truth = fast.clone();
        attend_block(heads, &qkv, &bias, 7, &mut fast, &mut Vec::new());
        attend_block_kernel::<Portable>(heads, &qkv, &bias, 7, &mut truth, &mut Vec::new());
        assert!(fast.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
