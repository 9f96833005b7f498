//! AVX2 and F16C kernels for attention over an f16 cache; see [`super::cached_attention`].
#![allow(unsafe_code)]

use half::f16;
use std::arch::x86_64::*;

/// Query heads per pass; more would not leave registers for their sums.
const HEADS: usize = 4;

fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// `scores[g][p]` = query `g` times key `p`; false if the CPU or the head size is not the kernel's.
pub fn score(queries: &[f32], head_dim: usize, keys: &[f16], scores: &mut [f32]) -> bool {
    if !available() || head_dim == 0 || !head_dim.is_multiple_of(8) {
        return false;
    }
    let positions = keys.len() / head_dim;
    assert!(queries.len().is_multiple_of(head_dim) && scores.len() == queries.len() / head_dim * positions);
    let passes = queries.chunks(HEADS * head_dim).zip(scores.chunks_mut((HEADS * positions).max(1)));
    for (queries, scores) in passes {
        // SAFETY: the CPU has the instructions; `N` is the number of queries in the chunk and of rows of scores.
        unsafe {
            match queries.len() / head_dim {
                1 => score_heads::<1>(queries, head_dim, keys, scores),
                2 => score_heads::<2>(queries, head_dim, keys, scores),
                3 => score_heads::<3>(queries, head_dim, keys, scores),
                _ => score_heads::<4>(queries, head_dim, keys, scores),
            }
        }
    }
    true
}

/// # Safety
/// AVX2, FMA and F16C; `queries.len() == N * head_dim`, a multiple of 8; `scores.len() == N * (keys.len() / head_dim)`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn score_heads<const N: usize>(queries: &[f32], head_dim: usize, keys: &[f16], scores: &mut [f32]) {
    let positions = keys.len() / head_dim;
    for (position, key) in keys.chunks_exact(head_dim).enumerate() {
        let mut sums = [_mm256_setzero_ps(); N];
        for at in (0..head_dim).step_by(8) {
            // SAFETY: `at + 8 <= head_dim`, the length of the key and of each of the N queries.
            unsafe {
                let key = _mm256_cvtph_ps(_mm_loadu_si128(key.as_ptr().add(at).cast()));
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_fmadd_ps(key, _mm256_loadu_ps(queries.as_ptr().add(n * head_dim + at)), *sum);
                }
            }
        }
        for (n, &sum) in sums.iter().enumerate() {
            let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            scores[n * positions + position] = _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
        }
    }
}

/// `sums[g]` = sum over `p` of `weights[g][p]` times value `p`; false if the CPU or the head size is not the kernel's.
pub fn weigh(weights: &[f32], head_dim: usize, values: &[f16], sums: &mut [f32]) -> bool {
    if !available() || head_dim == 0 || !head_dim.is_multiple_of(16) {
        return false;
    }
    let positions = values.len() / head_dim;
    assert!(sums.len().is_multiple_of(head_dim) && weights.len() == sums.len() / head_dim * positions);
    let passes = weights.chunks((HEADS * positions).max(1)).zip(sums.chunks_mut(HEADS * head_dim));
    for (weights, sums) in passes {
        // SAFETY: the CPU has the instructions; `N` is the number of rows of sums in the chunk and of weights.
        unsafe {
            match sums.len() / head_dim {
                1 => weigh_heads::<1>(weights, head_dim, values, sums),
                2 => weigh_heads::<2>(weights, head_dim, values, sums),
                3 => weigh_heads::<3>(weights, head_dim, values, sums),
                _ => weigh_heads::<4>(weights, head_dim, values, sums),
            }
        }
    }
    true
}

/// # Safety
/// AVX2, FMA and F16C; `sums.len() == N * head_dim`, a multiple of 16; `weights.len() == N * (values.len() / head_dim)`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn weigh_heads<const N: usize>(weights: &[f32], head_dim: usize, values: &[f16], sums: &mut [f32]) {
    let positions = values.len() / head_dim;
    for at in (0..head_dim).step_by(16) {
        let mut low = [_mm256_setzero_ps(); N];
        let mut high = [_mm256_setzero_ps(); N];
        for position in 0..positions {
            // SAFETY: `at + 16 <= head_dim`, the length of every value; there are N rows of `positions` weights.
            unsafe {
                let value = values.as_ptr().add(position * head_dim + at);
                let first = _mm256_cvtph_ps(_mm_loadu_si128(value.cast()));
                let second = _mm256_cvtph_ps(_mm_loadu_si128(value.add(8).cast()));
                for n in 0..N {
                    let weight = _mm256_broadcast_ss(&*weights.as_ptr().add(n * positions + position));
                    low[n] = _mm256_fmadd_ps(weight, first, low[n]);
                    high[n] = _mm256_fmadd_ps(weight, second, high[n]);
                }
            }
        }
        for n in 0..N {
            // SAFETY: `at + 16 <= head_dim`, the length of each of the N sums.
            unsafe {
                let sum = sums.as_mut_ptr().add(n * head_dim + at);
                _mm256_storeu_ps(sum, low[n]);
                _mm256_storeu_ps(sum.add(8), high[n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cached_attention::scalar;
    use super::*;

    #[test]
    fn vector_kernels_equal_scalar_kernels() {
        if !available() {
            return;
        }
        let numbers = |count: usize| (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
        for (group, head_dim, positions) in [(1, 16, 1), (2, 64, 5), (3, 64, 30), (7, 128, 11), (8, 80, 6)] {
            let rows: Vec<f16> = numbers(positions * head_dim).map(f16::from_f32).collect();
            let queries: Vec<f32> = numbers(group * head_dim).collect();
            let (mut want, mut got) = (vec![0.0; group * positions], vec![f32::NAN; group * positions]);
            scalar::score(&queries, head_dim, &rows, &mut want);
            assert!(score(&queries, head_dim, &rows, &mut got));
            assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-3));
            let (mut want, mut got) = (vec![0.0; group * head_dim], vec![f32::NAN; group * head_dim]);
            let weights: Vec<f32> = numbers(group * positions).collect();
            scalar::weigh(&weights, head_dim, &rows, &mut want);
            assert!(weigh(&weights, head_dim, &rows, &mut got));
            assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-3));
        }
        assert!(!score(&[0.0; 20], 20, &[f16::ZERO; 20], &mut [0.0]));
    }
}
