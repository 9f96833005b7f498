//! AVX2 kernels for quantised weights; see [`super::quant`] for the formats.
//!
//! The products multiply bytes (`vpmaddubsw`: unsigned × signed, pairs added to i16). Nibbles are unsigned already; for
//! Q8_0 the sign of the weight moves to the vector. Neither can saturate: 2 · 15 · 127 and 2 · 128 · 127 fit into i16.
#![allow(unsafe_code)]

use super::quant::{BlockFormat, QuantizedVector, BLOCK_LEN};
use std::arch::x86_64::*;

/// Rows per pass over the vector: enough independent sums to hide the latency of the additions.
const ROWS: usize = 4;

fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// [`super::quant::dot_rows`]; false if the CPU lacks the instructions. Lengths are checked by the caller.
pub fn dot_rows(format: BlockFormat, rows: &[u8], x: &QuantizedVector, y: &mut [f32]) -> bool {
    if !available() {
        return false;
    }
    let row_bytes = format.row_bytes(x.len());
    assert!(x.len().is_multiple_of(BLOCK_LEN) && x.scales.len() * BLOCK_LEN == x.len());
    let groups = y.len() / ROWS * ROWS;
    let (grouped, single) = y.split_at_mut(groups);
    let (grouped_rows, single_rows) = rows.split_at(groups * row_bytes);
    // SAFETY: the CPU has the instructions. Each call gets exactly N rows of `row_bytes`, as many blocks as `x` has.
    unsafe {
        for (y, rows) in grouped.chunks_exact_mut(ROWS).zip(grouped_rows.chunks_exact((ROWS * row_bytes).max(1))) {
            y.copy_from_slice(&dot::<ROWS>(format, rows, row_bytes, x));
        }
        for (y, row) in single.iter_mut().zip(single_rows.chunks_exact(row_bytes.max(1))) {
            [*y] = dot::<1>(format, row, row_bytes, x);
        }
    }
    true
}

/// # Safety
/// AVX2, FMA and F16C; `rows.len() == N * row_bytes`; a row has as many blocks as `x`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<const N: usize>(format: BlockFormat, rows: &[u8], row_bytes: usize, x: &QuantizedVector) -> [f32; N] {
    // SAFETY: passed on from the caller.
    unsafe {
        match format {
            BlockFormat::Q4_0 => dot_blocks::<N, 0>(rows.as_ptr(), row_bytes, x),
            BlockFormat::Q4_1 => dot_blocks::<N, 1>(rows.as_ptr(), row_bytes, x),
            BlockFormat::Q8_0 => dot_blocks::<N, 2>(rows.as_ptr(), row_bytes, x),
        }
    }
}

/// `F`: 0 is Q4_0, 1 is Q4_1, 2 is Q8_0.
///
/// # Safety
/// See [`dot`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_blocks<const N: usize, const F: u8>(rows: *const u8, row_bytes: usize, x: &QuantizedVector) -> [f32; N] {
    let block_bytes = [18, 20, 34][F as usize];
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_ps(); N];
    let mut constants = [_mm_setzero_ps(); N];
    for index in 0..x.scales.len() {
        // SAFETY: `index` is a block of `x`, which has 32 values and a pair of scales for each.
        let (values, scales) = unsafe {
            let values = _mm256_loadu_si256(x.values.as_ptr().add(index * BLOCK_LEN).cast());
            (values, _mm_castsi128_ps(_mm_loadl_epi64(x.scales.as_ptr().add(index).cast())))
        };
        for n in 0..N {
            // SAFETY: block `index` of row `n` lies inside `rows`; reads stay inside its `block_bytes`: a 2 or 4 byte
            // header and the 16 or 32 bytes behind it.
            let (header, products) = unsafe {
                let block = rows.add(n * row_bytes + index * block_bytes);
                if F == 2 {
                    let weights = _mm256_loadu_si256(block.add(2).cast());
                    let magnitudes = _mm256_sign_epi8(weights, weights);
                    let products = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(values, weights));
                    (i32::from(block.cast::<u16>().read_unaligned()), products)
                } else {
                    let (header, nibbles) = if F == 1 {
                        (block.cast::<i32>().read_unaligned(), block.add(4))
                    } else {
                        let d = i32::from(block.cast::<u16>().read_unaligned());
                        (d | d << 16, block.add(2))
                    };
                    let bytes = _mm_loadu_si128(nibbles.cast());
                    let both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
                    let weights = _mm256_and_si256(both, _mm256_set1_epi8(15));
                    (header, _mm256_maddubs_epi16(weights, values))
                }
            };
            // Lane 0: scale of the products; lane 1: the part that does not depend on the single values.
            let factors = _mm_mul_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(header)), scales);
            let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(products, ones));
            sums[n] = _mm256_fmadd_ps(_mm256_broadcastss_ps(factors), products, sums[n]);
            if F != 2 {
                constants[n] = _mm_add_ps(constants[n], factors);
            }
        }
    }
    let mut result = [0.0; N];
    for n in 0..N {
        let constant = _mm_cvtss_f32(_mm_movehdup_ps(constants[n]));
        result[n] = horizontal_sum(sums[n]) + if F == 0 { -8.0 * constant } else { constant };
    }
    result
}

#[inline]
#[target_feature(enable = "avx2")]
fn horizontal_sum(v: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// [`super::quant::dequantize`]; false if the CPU lacks the instructions.
pub fn dequantize(format: BlockFormat, blocks: &[u8], out: &mut [f32]) -> bool {
    if !available() {
        return false;
    }
    assert!(blocks.len() == format.row_bytes(out.len()) && out.len().is_multiple_of(BLOCK_LEN));
    // SAFETY: the CPU has the instructions; there is a block for every 32 elements of `out`.
    unsafe {
        match format {
            BlockFormat::Q4_0 => dequantize_blocks::<0>(blocks, out),
            BlockFormat::Q4_1 => dequantize_blocks::<1>(blocks, out),
            BlockFormat::Q8_0 => dequantize_blocks::<2>(blocks, out),
        }
    }
    true
}

/// `F` as in [`dot_blocks`].
///
/// # Safety
/// AVX2, FMA and F16C; whole blocks, and 32 elements of `out` for each.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dequantize_blocks<const F: u8>(blocks: &[u8], out: &mut [f32]) {
    let block_bytes = [18, 20, 34][F as usize];
    for (block, out) in blocks.chunks_exact(block_bytes).zip(out.chunks_exact_mut(BLOCK_LEN)) {
        let half = |at: usize| {
            let bits = i32::from(u16::from_le_bytes([block[at], block[at + 1]]));
            _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
        };
        let scale = half(0);
        let offset = match F {
            0 => _mm256_mul_ps(scale, _mm256_set1_ps(-8.0)),
            1 => half(2),
            _ => _mm256_setzero_ps(),
        };
        // SAFETY: the block has 32 bytes behind its header, or 16 of nibbles.
        let (low, high) = unsafe {
            if F == 2 {
                (_mm_loadu_si128(block.as_ptr().add(2).cast()), _mm_loadu_si128(block.as_ptr().add(18).cast()))
            } else {
                let nibbles = _mm_loadu_si128(block.as_ptr().add(block_bytes - 16).cast());
                let mask = _mm_set1_epi8(15);
                (_mm_and_si128(nibbles, mask), _mm_and_si128(_mm_srli_epi16(nibbles, 4), mask))
            }
        };
        for (index, bytes) in [low, _mm_srli_si128(low, 8), high, _mm_srli_si128(high, 8)].into_iter().enumerate() {
            // Nibbles are not negative, so extending their sign changes nothing.
            let numbers = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
            // SAFETY: `out` has 32 elements.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(8 * index), _mm256_fmadd_ps(numbers, scale, offset)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quant::scalar;
    use super::super::quant::tests::{random_blocks, random_vector, FORMATS};
    use super::*;

    #[test]
    fn vector_kernels_equal_scalar_kernels() {
        if !available() {
            return;
        }
        for format in FORMATS {
            for (columns, count) in [(32, 1), (64, 3), (96, 4), (576, 7), (1536, 9)] {
                let rows = random_blocks(format, columns / BLOCK_LEN * count, columns as u64);
                let mut x = QuantizedVector::default();
                x.quantize(&random_vector(columns, 11));
                let (mut want, mut got) = (vec![0.0; count], vec![f32::NAN; count]);
                scalar::dot_rows(format, &rows, &x, &mut want);
                assert!(dot_rows(format, &rows, &x, &mut got));
                for (got, want) in got.iter().zip(&want) {
                    let tolerance = 1e-4 * (columns as f32) + 1e-4 * want.abs();
                    assert!((got - want).abs() < tolerance, "{format:?} {columns}x{count}: {got} != {want}");
                }
                let (mut want, mut got) = (vec![0.0; columns * count], vec![f32::NAN; columns * count]);
                scalar::dequantize(format, &rows, &mut want);
                assert!(dequantize(format, &rows, &mut got));
                assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 2e-6 * want.abs().max(1.0)));
            }
        }
    }

    #[test]
    fn extreme_bytes_do_not_saturate() {
        if !available() {
            return;
        }
        for byte in [0x80, 0x7f, 0xff] {
            let mut row = vec![byte; 34];
            row[..2].copy_from_slice(&half::f16::ONE.to_le_bytes());
            for number in [1.0, -1.0] {
                let mut x = QuantizedVector::default();
                x.quantize(&[number; 32]);
                let (mut want, mut got) = ([0.0], [0.0]);
                scalar::dot_rows(BlockFormat::Q8_0, &row, &x, &mut want);
                assert!(dot_rows(BlockFormat::Q8_0, &row, &x, &mut got));
                assert!((got[0] - want[0]).abs() < 0.01, "{byte}: {} != {}", got[0], want[0]);
            }
        }
    }
}
