//! Self-attention over packed sequences, fused: scores, softmax and weighted sum of a few queries at a time, so that no
//! matrix of scores exists and no padding is computed (Vaswani et al., 2017; the blocking follows the idea of Dao et
//! al., 2022, "FlashAttention", without its online softmax: encoder inputs are short enough to hold a row of scores).
//!
//! All matrices are in panels of 16 columns (see `product.rs`), and a head has whole panels. So the queries and values of
//! a head lie ready for the tiles of the matrix product; only its keys are turned around first. A head's part of the
//! result is a contiguous piece that no other head touches, which is how threads share the work.
#![allow(unsafe_code)]

use super::lanes::{dispatch, exp, Block, Lanes, LANES};
use super::product::{row_groups, tile, with_rows, Panels};
use crate::compute::Crew;
use std::cell::RefCell;

/// Most rows of a tile, of all lanes.
const MAX_TILE_ROWS: usize = 14;

/// Heads of the attention of a model, each of so many panels.
#[derive(Clone, Copy)]
pub struct Heads {
    pub count: usize,
    pub panels: usize,
}

/// Attention of every token to all tokens of its own sequence.
///
/// - `qkv`: queries of all heads, then keys, then values; queries are already scaled by 1/√width.
/// - `starts`: first row of each sequence, and the number of rows at the end.
/// - `context`: the result, in panels of the same stride.
pub fn attention(crew: &mut Crew, heads: Heads, qkv: Panels<'_>, starts: &[usize], context: &mut [Block]) {
    thread_local! {
        static SCRATCH: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
    }
    let head_blocks = heads.panels * qkv.stride;
    crew.for_chunks_mut(&mut context[..heads.count * head_blocks], head_blocks, |head, context| {
        SCRATCH.with_borrow_mut(|scratch| {
            for sequence in starts.windows(2) {
                attend(heads, head, qkv, sequence[0], sequence[1] - sequence[0], context, scratch);
            }
        });
    });
}

dispatch! {
    /// One head of one sequence of `tokens` rows from `start` on; `context` is the head's part of the result.
    fn attend(
        heads: Heads, head: usize, qkv: Panels<'_>, start: usize, tokens: usize, context: &mut [Block],
        scratch: &mut Vec<Block>,
    ) = attend_kernel;
}

#[inline(always)]
fn attend_kernel<L: Lanes>(
    heads: Heads,
    head: usize,
    qkv: Panels<'_>,
    start: usize,
    tokens: usize,
    context: &mut [Block],
    scratch: &mut Vec<Block>,
) {
    let stride = qkv.stride;
    let part = |which: usize| {
        let first_panel = (which * heads.count + head) * heads.panels;
        Panels { blocks: &qkv.blocks[first_panel * stride + start..], stride }
    };
    let (queries, values) = (part(0), part(2));
    let width = heads.panels * LANES;
    let key_panels = tokens.div_ceil(LANES);
    let key_blocks = key_panels * width;
    // Only grows, and everything in it is written before it is read.
    if scratch.len() < key_blocks + key_panels * MAX_TILE_ROWS {
        scratch.resize(key_blocks + key_panels * MAX_TILE_ROWS, Block::ZERO);
    }
    let (keys, scores) = scratch.split_at_mut(key_blocks);
    turn_keys(keys, part(1), tokens, heads.panels);

    for (row, count) in row_groups(tokens, L::TILE_ROWS) {
        with_rows!(L, count, N => {
            let queries = queries.starting_at(row);
            let scores = &mut scores[..key_panels * N];
            score::<L, N>(queries, keys, width, scores);
            let scales = softmax::<L, N>(scores, tokens);
            weigh::<L, N>(scores, values, tokens, &scales, &mut context[start + row..], stride, heads.panels);
        });
    }
}

/// Turns the keys of one head into panels of 16 keys, with one block for each dimension; keys past the last are zero.
#[inline(always)]
fn turn_keys(turned: &mut [Block], keys: Panels<'_>, tokens: usize, panels: usize) {
    let width = panels * LANES;
    for (at, turned) in turned.chunks_exact_mut(width).enumerate() {
        let first = at * LANES;
        let count = LANES.min(tokens - first);
        for (panel, turned) in turned.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let keys = &keys.blocks[panel * keys.stride + first..][..count];
            for (dimension, turned) in turned.iter_mut().enumerate() {
                for (lane, key) in turned.0.iter_mut().zip(keys) {
                    *lane = key.0[dimension];
                }
                turned.0[count..].fill(0.0);
            }
        }
    }
}

/// scores ← queries · keys, in panels of N rows.
#[inline(always)]
fn score<L: Lanes, const N: usize>(queries: Panels<'_>, keys: &[Block], width: usize, scores: &mut [Block]) {
    let together = L::TILE_PANELS;
    for (keys, scores) in keys.chunks(together * width).zip(scores.chunks_mut(together * N)) {
        if keys.len() == 2 * width {
            let sums = tile::<L, N, 2>(queries, width, [&keys[..width], &keys[width..]], &[]);
            for (row, [low, high]) in sums.into_iter().enumerate() {
                low.store(&mut scores[row]);
                high.store(&mut scores[N + row]);
            }
        } else {
            let sums = tile::<L, N, 1>(queries, width, [keys], &[]);
            for (score, [sum]) in scores.iter_mut().zip(sums) {
                sum.store(score);
            }
        }
    }
}

/// Replaces the first `tokens` scores of every row by e^(score - largest); returns 1 / their sum of every row.
#[inline(always)]
fn softmax<L: Lanes, const N: usize>(scores: &mut [Block], tokens: usize) -> [f32; N] {
    let rest = (tokens - 1) % LANES + 1;
    let last = scores.len() - N;
    for score in &mut scores[last..] {
        // Scores past the last token become e^-87, which changes no sum in f32, and are not read.
        score.0[rest..].fill(f32::NEG_INFINITY);
    }
    let mut scales = [0.0; N];
    for (row, scale) in scales.iter_mut().enumerate() {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for at in (row..scores.len()).step_by(N) {
            largest = L::load(&scores[at]).max(largest);
        }
        let largest = L::splat(largest.largest());
        let mut sum = L::splat(0.0);
        for at in (row..scores.len()).step_by(N) {
            let power = exp(L::load(&scores[at]).sub(largest));
            power.store(&mut scores[at]);
            sum = sum.add(power);
        }
        *scale = 1.0 / sum.sum();
    }
    scales
}

/// context ← the sums over tokens of scores · values, each row times its scale.
#[inline(always)]
fn weigh<L: Lanes, const N: usize>(
    scores: &[Block],
    values: Panels<'_>,
    tokens: usize,
    scales: &[f32; N],
    context: &mut [Block],
    stride: usize,
    panels: usize,
) {
    let scores = Panels { blocks: scores, stride: N };
    let value = |panel: usize| &values.blocks[panel * values.stride..][..tokens];
    let mut panel = 0;
    while panel < panels {
        if L::TILE_PANELS == 2 && panel + 1 < panels {
            let sums = tile::<L, N, 2>(scores, tokens, [value(panel), value(panel + 1)], &[]);
            for (row, ([low, high], scale)) in sums.into_iter().zip(scales).enumerate() {
                let scale = L::splat(*scale);
                low.mul(scale).store(&mut context[panel * stride + row]);
                high.mul(scale).store(&mut context[(panel + 1) * stride + row]);
            }
            panel += 2;
        } else {
            let sums = tile::<L, N, 1>(scores, tokens, [value(panel)], &[]);
            for (row, ([sum], scale)) in sums.into_iter().zip(scales).enumerate() {
                sum.mul(L::splat(*scale)).store(&mut context[panel * stride + row]);
            }
            panel += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::limit::each_level;
    use super::*;
    use crate::compute::Pool;

    fn noise(count: usize, seed: u32) -> Vec<Block> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 22) as f32 - 2.0
        };
        (0..count).map(|_| Block(std::array::from_fn(|_| next()))).collect()
    }

    /// The definition, in double precision: `[rows, columns]`.
    fn reference(heads: Heads, qkv: Panels<'_>, starts: &[usize]) -> Vec<Vec<f64>> {
        let width = heads.panels * LANES;
        let hidden = heads.count * width;
        let at = |row: usize, column: usize| f64::from(qkv.blocks[column / LANES * qkv.stride + row].0[column % LANES]);
        let mut context = vec![vec![0.0; hidden]; starts[starts.len() - 1]];
        for sequence in starts.windows(2) {
            for (row, context) in context.iter_mut().enumerate().take(sequence[1]).skip(sequence[0]) {
                for head in 0..heads.count {
                    let columns = head * width..(head + 1) * width;
                    let weights: Vec<f64> = (sequence[0]..sequence[1])
                        .map(|key| columns.clone().map(|c| at(row, c) * at(key, hidden + c)).sum::<f64>().exp())
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for column in columns {
                        let sum: f64 =
                            weights.iter().zip(sequence[0]..).map(|(w, key)| w * at(key, 2 * hidden + column)).sum();
                        context[column] = sum / total;
                    }
                }
            }
        }
        context
    }

    #[test]
    fn packed_sequences_attend_only_to_themselves() {
        let pool = Pool::new(2).unwrap();
        // Lengths around the sizes of tiles and panels; an empty sequence.
        let starts = [0, 1, 1, 5, 18, 33, 65, 65 + 131];
        let (rows, stride) = (starts[starts.len() - 1], 201);
        for panels in [1, 2, 3] {
            let heads = Heads { count: 3, panels };
            let blocks = noise(3 * heads.count * panels * stride, 1);
            let qkv = Panels { blocks: &blocks, stride };
            let want = reference(heads, qkv, &starts);
            let check = |crew: &mut Crew| {
                let mut context = vec![Block([f32::NAN; LANES]); heads.count * panels * stride];
                attention(crew, heads, qkv, &starts, &mut context);
                for (row, want) in want.iter().enumerate() {
                    for (column, want) in want.iter().enumerate() {
                        let got = f64::from(context[column / LANES * stride + row].0[column % LANES]);
                        assert!((got - want).abs() < 1e-4, "{panels} panels, row {row}: {got}, not {want}");
                    }
                }
                assert!(
                    context.chunks(stride).all(|panel| panel[rows].0[0].is_nan()),
                    "rows past the last are touched"
                );
            };
            each_level(|| check(&mut Crew::alone()));
            pool.with_crew(|crew| check(crew));
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let heads = Heads { count: 1, panels: 1 };
        let row = |query: f32, key: f32, value: f32| (query, key, value);
        // Scores of 40,000 and 0: all the weight is on the first token.
        let rows = [row(200.0, 200.0, 1.0), row(200.0, 0.0, 9.0)];
        let mut blocks = vec![Block::ZERO; 6];
        for (at, (query, key, value)) in rows.into_iter().enumerate() {
            blocks[at].0[0] = query;
            blocks[2 + at].0[0] = key;
            blocks[4 + at].0[0] = value;
        }
        let qkv = Panels { blocks: &blocks, stride: 2 };
        each_level(|| {
            let mut context = vec![Block::ZERO; 2];
            attention(&mut Crew::alone(), heads, qkv, &[0, 2], &mut context);
            assert!(context.iter().all(|row| (row.0[0] - 1.0).abs() < 1e-6), "{context:?}");
        });
    }
}
