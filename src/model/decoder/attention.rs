//! Causal attention of new tokens over the cache; the new tokens' keys and values are in it already.
//!
//! One token ([`attend_one`]) reads the f16 cache directly. A slice of tokens ([`attend_many`]) widens the cache of a
//! layer once and multiplies blocks of queries with it, parallel over blocks and heads.

use super::config::Config;
use super::kv_cache::KvCache;
use crate::compute::cached_attention::{attend_span, merge, partial_len};
use crate::compute::elementwise::exp_from_maximum;
use crate::compute::gemm::{gemm_serial, Right};
use crate::compute::Pool;
use half::slice::HalfFloatSliceExt;
use std::cell::RefCell;

/// Positions per parallel piece of [`attend_one`].
const SPAN: usize = 256;

/// Queries per parallel piece of [`attend_many`].
const BLOCK: usize = 64;

thread_local! {
    /// Scores of the piece that a compute thread works on; kept because they are the same size again and again.
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Factor of the scores: 1 / sqrt(head_dim).
fn scale(config: &Config) -> f32 {
    1.0 / (config.head_dim as f32).sqrt()
}

/// Attention of the token at the last of `positions` positions. `queries` and `out` are `heads × head_dim`; `partials`
/// is scratch.
#[allow(clippy::too_many_arguments)]
pub fn attend_one(
    pool: &Pool,
    config: &Config,
    cache: &KvCache,
    layer: usize,
    positions: usize,
    queries: &[f32],
    partials: &mut Vec<f32>,
    out: &mut [f32],
) {
    let group_len = config.group() * config.head_dim;
    let len = partial_len(config.group(), config.head_dim);
    let spans = positions.div_ceil(SPAN);
    partials.resize(config.kv_heads * spans * len, 0.0);
    let piece = |index: usize, partial: &mut [f32]| {
        let (head, start) = (index / spans, index % spans * SPAN);
        let end = (start + SPAN).min(positions);
        let queries = &queries[head * group_len..(head + 1) * group_len];
        let (keys, values) = (cache.keys(layer, head, start, end), cache.values(layer, head, start, end));
        SCORES.with_borrow_mut(|scores| {
            attend_span(queries, config.head_dim, keys, values, scale(config), scores, partial);
        });
    };
    if positions < SPAN / 4 {
        // Too little work to wake another thread for.
        partials.chunks_exact_mut(len).enumerate().for_each(|(index, partial)| piece(index, partial));
    } else {
        pool.for_chunks_mut(partials, len, piece);
    }
    for (partials, out) in partials.chunks_exact(spans * len).zip(out.chunks_exact_mut(group_len)) {
        merge(partials, config.group(), config.head_dim, out);
    }
}

/// Buffers of [`attend_many`].
#[derive(Default)]
pub struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    blocks: Vec<f32>,
}

/// Attention of `count` tokens of which the first is at position `first`. Row `i` of the queries is
/// `queries[i * query_stride..][..heads * head_dim]`; `out` is `count × heads × head_dim`.
#[allow(clippy::too_many_arguments)]
pub fn attend_many(
    pool: &Pool,
    config: &Config,
    cache: &KvCache,
    layer: usize,
    first: usize,
    count: usize,
    queries: &[f32],
    query_stride: usize,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (head_dim, heads, positions) = (config.head_dim, config.heads, first + count);
    let head_len = positions * head_dim;
    scratch.keys.resize(config.kv_heads * head_len, 0.0);
    scratch.values.resize(config.kv_heads * head_len, 0.0);
    pool.for_chunks_mut(&mut scratch.keys, head_len, |head, out| {
        cache.keys(layer, head, 0, positions).convert_to_f32_slice(out);
    });
    pool.for_chunks_mut(&mut scratch.values, head_len, |head, out| {
        cache.values(layer, head, 0, positions).convert_to_f32_slice(out);
    });
    let (keys, values) = (&scratch.keys, &scratch.values);
    scratch.blocks.resize(count.div_ceil(BLOCK) * heads * BLOCK * head_dim, 0.0);
    pool.for_chunks_mut(&mut scratch.blocks, BLOCK * head_dim, |index, out| {
        // The last blocks see the most keys, so they go first: no thread is left with a large piece at the end.
        let (block, head) = (count.div_ceil(BLOCK) - 1 - index / heads, index % heads);
        let start = block * BLOCK;
        let rows = BLOCK.min(count - start);
        let visible = first + start + rows;
        let kv_start = head / config.group() * head_len;
        let keys = &keys[kv_start..][..visible * head_dim];
        let values = &values[kv_start..][..visible * head_dim];
        let queries = &queries[start * query_stride + head * head_dim..];
        let out = &mut out[..rows * head_dim];
        SCORES.with_borrow_mut(|scores| {
            scores.resize(rows * visible, 0.0);
            gemm_serial(rows, visible, head_dim, queries, query_stride, keys, Right::Transposed, scores);
            for (row, scores) in scores.chunks_exact_mut(visible).enumerate() {
                let (seen, future) = scores.split_at_mut(first + start + row + 1);
                let (_, sum) = exp_from_maximum(seen, scale(config));
                let inverse = 1.0 / sum;
                seen.iter_mut().for_each(|weight| *weight *= inverse);
                future.fill(0.0);
            }
            gemm_serial(rows, head_dim, visible, scores, visible, values, Right::Plain, out);
        });
    });
    let blocks = &scratch.blocks;
    for (token, out) in out.chunks_exact_mut(heads * head_dim).enumerate() {
        let block = count.div_ceil(BLOCK) - 1 - token / BLOCK;
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let from = ((block * heads + head) * BLOCK + token % BLOCK) * head_dim;
            out.copy_from_slice(&blocks[from..from + head_dim]);
        }
    }
}
