//! Attention of one new token over keys and values that are cached as f16.
//!
//! The query heads that share a key head are computed together, so keys and values are read and widened once. A long
//! cache is cut into spans that run in parallel; each gives a [`Partial`] softmax, and [`merge`] combines them exactly
//! (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).

use super::elementwise::exp_from_maximum;
use half::f16;

/// Floats that [`attend_span`] writes for `group` query heads of `head_dim` dimensions: per head the weighted sum of
/// values, the maximum and the sum of weights.
pub const fn partial_len(group: usize, head_dim: usize) -> usize {
    group * (head_dim + 2)
}

/// Attends from `queries` (`group × head_dim`) to a span of `keys` and `values` (`positions × head_dim` each).
///
/// `scale` multiplies the scores. `scores` is scratch. `partial` has [`partial_len`] floats. The span is not empty.
pub fn attend_span(
    queries: &[f32],
    head_dim: usize,
    keys: &[f16],
    values: &[f16],
    scale: f32,
    scores: &mut Vec<f32>,
    partial: &mut [f32],
) {
    let (group, positions) = (queries.len() / head_dim, keys.len() / head_dim);
    assert!(queries.len() == group * head_dim && keys.len() == positions * head_dim && values.len() == keys.len());
    assert!(positions > 0 && partial.len() == partial_len(group, head_dim));
    scores.clear();
    scores.resize(group * positions, 0.0);
    score(queries, head_dim, keys, scores);
    let (sums, statistics) = partial.split_at_mut(group * head_dim);
    for (scores, statistics) in scores.chunks_exact_mut(positions).zip(statistics.chunks_exact_mut(2)) {
        let (maximum, sum) = exp_from_maximum(scores, scale);
        statistics.copy_from_slice(&[maximum, sum]);
    }
    weigh(scores, head_dim, values, sums);
}

/// Combines the partials of all spans of one key head into `out` (`group × head_dim`).
pub fn merge(partials: &[f32], group: usize, head_dim: usize, out: &mut [f32]) {
    let len = partial_len(group, head_dim);
    for (head, out) in out.chunks_exact_mut(head_dim).enumerate().take(group) {
        let statistics = |partial: &[f32]| {
            let at = group * head_dim + 2 * head;
            (partial[at], partial[at + 1])
        };
        let maximum = partials.chunks_exact(len).map(|p| statistics(p).0).fold(f32::NEG_INFINITY, f32::max);
        out.fill(0.0);
        let mut total = 0.0;
        for partial in partials.chunks_exact(len) {
            let (span_maximum, sum) = statistics(partial);
            let factor = (span_maximum - maximum).exp();
            total += sum * factor;
            for (out, value) in out.iter_mut().zip(&partial[head * head_dim..]) {
                *out += value * factor;
            }
        }
        for out in out {
            *out /= total;
        }
    }
}

/// `scores[g][p]` = query `g` times key `p`.
fn score(queries: &[f32], head_dim: usize, keys: &[f16], scores: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::cached_attention_x86::score(queries, head_dim, keys, scores) {
        return;
    }
    scalar::score(queries, head_dim, keys, scores);
}

/// `sums[g]` = sum over `p` of `weights[g][p]` times value `p`.
fn weigh(weights: &[f32], head_dim: usize, values: &[f16], sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::cached_attention_x86::weigh(weights, head_dim, values, sums) {
        return;
    }
    scalar::weigh(weights, head_dim, values, sums);
}

/// Portable kernels, and the definition of the others.
pub(super) mod scalar {
    use half::f16;

    pub fn score(queries: &[f32], head_dim: usize, keys: &[f16], scores: &mut [f32]) {
        let positions = keys.len() / head_dim;
        for (query, scores) in queries.chunks_exact(head_dim).zip(scores.chunks_exact_mut(positions)) {
            for (key, score) in keys.chunks_exact(head_dim).zip(scores) {
                *score = query.iter().zip(key).map(|(q, k)| q * k.to_f32()).sum();
            }
        }
    }

    pub fn weigh(weights: &[f32], head_dim: usize, values: &[f16], sums: &mut [f32]) {
        let positions = values.len() / head_dim;
        for (weights, sums) in weights.chunks_exact(positions).zip(sums.chunks_exact_mut(head_dim)) {
            sums.fill(0.0);
            for (weight, value) in weights.iter().zip(values.chunks_exact(head_dim)) {
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum += weight * value.to_f32();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    #[test]
    fn spans_merge_to_plain_softmax_attention() {
        for (group, head_dim, positions) in
            [(1, 64, 1), (3, 64, 37), (4, 128, 50), (5, 80, 21), (2, 20, 9), (9, 64, 33)]
        {
            let queries = numbers(group * head_dim, 1);
            let to_half = |numbers: Vec<f32>| numbers.into_iter().map(f16::from_f32).collect::<Vec<_>>();
            let keys = to_half(numbers(positions * head_dim, 2));
            let values = to_half(numbers(positions * head_dim, 3));
            let (mut partials, mut scores) = (Vec::new(), Vec::new());
            for (keys, values) in keys.chunks(10 * head_dim).zip(values.chunks(10 * head_dim)) {
                let mut partial = vec![f32::NAN; partial_len(group, head_dim)];
                attend_span(&queries, head_dim, keys, values, 0.3, &mut scores, &mut partial);
                partials.extend(partial);
            }
            let mut out = vec![f32::NAN; group * head_dim];
            merge(&partials, group, head_dim, &mut out);

            for (query, out) in queries.chunks(head_dim).zip(out.chunks(head_dim)) {
                let dot = |key: &[f16]| query.iter().zip(key).map(|(q, k)| q * k.to_f32()).sum::<f32>();
                let weights: Vec<f32> = keys.chunks(head_dim).map(|key| (0.3 * dot(key)).exp()).collect();
                let total: f32 = weights.iter().sum();
                for (dimension, got) in out.iter().enumerate() {
                    let value = |position: usize| values[position * head_dim + dimension].to_f32();
                    let want = weights.iter().enumerate().map(|(p, w)| w * value(p)).sum::<f32>() / total;
                    assert!((got - want).abs() < 1e-4, "{group} heads of {head_dim}: {got} != {want}");
                }
            }
        }
    }
}
