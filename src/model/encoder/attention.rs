//! Self-attention over packed sequences, fused: scores, softmax and weighted sum of a few queries at a time, so that no
//! matrix of scores exists and no padding is computed (Vaswani et al., 2017; the blocking follows the idea of Dao et
//! al., 2022, "FlashAttention", without its online softmax: encoder inputs are short enough to hold a row of scores).
//!
//! All matrices are in panels of 16 columns (see `product.rs`), and a head has whole panels. So the queries and values of
//! a head lie ready for the tiles of the matrix product; only its keys are turned around first. A head's part of the
//! result is a contiguous piece that no other head touches, which is how threads share the work.
#![allow(unsafe_code)]

use super::lanes::{dispatch, exp, Block, Lanes, LANES};
use super::positions::Bias;
use super::product::{row_groups, tile, with_rows, Panels};
use crate::compute::Crew;
use std::cell::RefCell;

/// Most rows of a tile, of all lanes.
const MAX_TILE_ROWS: usize = 14;

/// Heads of the attention of a model, each of so many panels.
#[derive(Clone, Copy)]
pub struct Heads {
    pub count: usize,
    /// Heads of keys and values: each is for `count / keys` neighbouring heads of queries.
    pub keys: usize,
    pub panels: usize,
}

impl Heads {
    /// Panels of queries, keys and values.
    pub fn qkv_panels(self) -> usize {
        (self.count + 2 * self.keys) * self.panels
    }
}

/// Attention of every token to all tokens of its own sequence.
///
/// - `qkv`: queries of all heads, then keys, then values; queries are already scaled by 1/√width.
/// - `bias`: what is added to scores by distance; where it has a window, only what is near is looked at.
/// - `starts`: first row of each sequence, and the number of rows at the end.
/// - `context`: the result, in panels of the same stride.
pub fn attention(
    crew: &mut Crew,
    heads: Heads,
    qkv: Panels<'_>,
    bias: Option<&Bias>,
    starts: &[usize],
    context: &mut [Block],
) {
    thread_local! {
        static SCRATCH: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
    }
    let head_blocks = heads.panels * qkv.stride;
    crew.for_chunks_mut(&mut context[..heads.count * head_blocks], head_blocks, |head, context| {
        SCRATCH.with_borrow_mut(|scratch| {
            for sequence in starts.windows(2) {
                attend(heads, head, qkv, bias, sequence[0], sequence[1] - sequence[0], context, scratch);
            }
        });
    });
}

dispatch! {
    /// One head of one sequence of `tokens` rows from `start` on; `context` is the head's part of the result.
    fn attend(
        heads: Heads, head: usize, qkv: Panels<'_>, bias: Option<&Bias>, start: usize, tokens: usize,
        context: &mut [Block], scratch: &mut Vec<Block>,
    ) = attend_kernel;
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn attend_kernel<L: Lanes>(
    heads: Heads,
    head: usize,
    qkv: Panels<'_>,
    bias: Option<&Bias>,
    start: usize,
    tokens: usize,
    context: &mut [Block],
    scratch: &mut Vec<Block>,
) {
    let stride = qkv.stride;
    let part = |head: usize| Panels { blocks: &qkv.blocks[head * heads.panels * stride + start..], stride };
    let key_head = head / (heads.count / heads.keys);
    let (queries, values) = (part(head), part(heads.count + heads.keys + key_head));
    let width = heads.panels * LANES;
    let key_panels = tokens.div_ceil(LANES);
    let key_blocks = key_panels * width;
    // Only grows, and everything in it is written before it is read.
    if scratch.len() < key_blocks + key_panels * MAX_TILE_ROWS {
        scratch.resize(key_blocks + key_panels * MAX_TILE_ROWS, Block::ZERO);
    }
    let (keys, scores) = scratch.split_at_mut(key_blocks);
    turn_keys(keys, part(heads.count + key_head), tokens, heads.panels);

    for (row, count) in row_groups(tokens, L::TILE_ROWS) {
        let (before, behind) = bias.map_or((None, None), |bias| (bias.before, bias.behind));
        let first_panel = before.map_or(0, |before| row.saturating_sub(before) / LANES);
        let last_panel = behind.map_or(key_panels, |behind| (row + count + behind).div_ceil(LANES).min(key_panels));
        let first_key = first_panel * LANES;
        let (keys, values) = (&keys[first_panel * width..last_panel * width], values.starting_at(first_key));
        let near = tokens.min(last_panel * LANES) - first_key;
        with_rows!(L, count, N => {
            let queries = queries.starting_at(row);
            let scores = &mut scores[..(last_panel - first_panel) * N];
            score::<L, N>(queries, keys, width, scores);
            if let Some(bias) = bias {
                add_bias::<L, N>(scores, bias, head, row, first_key);
            }
            let scales = softmax::<L, N>(scores, near);
            weigh::<L, N>(scores, values, near, &scales, &mut context[start + row..], stride, heads.panels);
        });
    }
}

/// Adds what belongs to the distances of N queries from `row` on and keys from `first_key` on.
#[inline(always)]
fn add_bias<L: Lanes, const N: usize>(scores: &mut [Block], bias: &Bias, head: usize, row: usize, first_key: usize) {
    for (panel, scores) in scores.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        for (query, score) in scores.iter_mut().enumerate() {
            let addend = bias.block(head, row + query, first_key + panel * LANES);
            L::load(score).add(L::load(&addend)).store(score);
        }
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
    fn reference(heads: Heads, qkv: Panels<'_>, bias: Option<&Bias>, starts: &[usize]) -> Vec<Vec<f64>> {
        let width = heads.panels * LANES;
        let hidden = heads.count * width;
        let at = |row: usize, column: usize| f64::from(qkv.blocks[column / LANES * qkv.stride + row].0[column % LANES]);
        let mut context = vec![vec![0.0; hidden]; starts[starts.len() - 1]];
        for sequence in starts.windows(2) {
            for (row, context) in context.iter_mut().enumerate().take(sequence[1]).skip(sequence[0]) {
                for head in 0..heads.count {
                    let columns = head * width..(head + 1) * width;
                    let added = |key: usize| match bias {
                        Some(bias) if bias.reaches(row, key) => {
                            f64::from(bias.block(head, row - sequence[0], key - sequence[0]).0[0])
                        }
                        Some(_) => f64::NEG_INFINITY,
                        None => 0.0,
                    };
                    let score = |key: usize| columns.clone().map(|c| at(row, c) * at(key, hidden + c)).sum::<f64>();
                    let weights: Vec<f64> =
                        (sequence[0]..sequence[1]).map(|key| (score(key) + added(key)).exp()).collect();
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
        let biases = [
            None,
            Some(Bias::of_slopes(3, 131)),
            Some(Bias::of_window(3)),
            Some(Bias::of_window(40)),
            Some(Bias::causal(131)),
        ];
        for (panels, bias) in [1, 2, 3].into_iter().flat_map(|panels| biases.iter().map(move |bias| (panels, bias))) {
            let (heads, bias) = (Heads { count: 3, keys: 3, panels }, bias.as_ref());
            let blocks = noise(3 * heads.count * panels * stride, 1);
            let qkv = Panels { blocks: &blocks, stride };
            let want = reference(heads, qkv, bias, &starts);
            let check = |crew: &mut Crew| {
                let mut context = vec![Block([f32::NAN; LANES]); heads.count * panels * stride];
                attention(crew, heads, qkv, bias, &starts, &mut context);
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
    fn several_heads_share_keys() {
        let (starts, stride) = ([0, 21], 23);
        let shared = Heads { count: 4, keys: 2, panels: 1 };
        let blocks = noise(shared.qkv_panels() * stride, 5);
        // The same with a copy of keys and values for each head.
        let part = |head: usize| &blocks[head * stride..][..stride];
        let copied: Vec<&[Block]> = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7].into_iter().map(part).collect();
        let copied = copied.concat();
        let attended = |heads: Heads, blocks: &[Block]| {
            let mut context = vec![Block::ZERO; 4 * stride];
            attention(&mut Crew::alone(), heads, Panels { blocks, stride }, None, &starts, &mut context);
            context
        };
        assert_eq!(attended(shared, &blocks), attended(Heads { keys: 4, ..shared }, &copied));
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let heads = Heads { count: 1, keys: 1, panels: 1 };
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
            attention(&mut Crew::alone(), heads, qkv, None, &[0, 2], &mut context);
            assert!(context.iter().all(|row| (row.0[0] - 1.0).abs() < 1e-6), "{context:?}");
        });
    }
}
