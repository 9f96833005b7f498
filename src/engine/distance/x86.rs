//! AVX2 + FMA kernels: eight lanes, four accumulators (two per sum for cosine), the last `dimensions % 8` elements by
//! a masked load. Used only after the CPU was asked at run time.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Kernels;

/// The kernels of this file, if this CPU has AVX2 and FMA.
pub(super) fn detect() -> Option<Kernels> {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return None;
    }
    // SAFETY (of the four calls): the features the callees need were detected above, and these function pointers leave
    // this function on no other path.
    Some(Kernels {
        // SAFETY: see above.
        l2_squared: |a, b| unsafe { l2_squared(a, b) },
        // SAFETY: see above.
        inner_product: |a, b| unsafe { inner_product(a, b) },
        // SAFETY: see above.
        l1: |a, b| unsafe { l1(a, b) },
        // SAFETY: see above.
        cosine_sums: |a, b| unsafe { cosine_sums(a, b) },
    })
}

/// Eight lanes of which the first `count` are enabled.
#[target_feature(enable = "avx2,fma")]
fn lane_mask(count: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
}

/// The sum of the eight lanes.
#[target_feature(enable = "avx2,fma")]
fn horizontal_sum(v: __m256) -> f32 {
    let quad = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
}

/// Calls `step(lane group, a, b)` for every eight elements, the last ones padded with zeros, which add nothing to any
/// of the sums. Lane group counts up by one, so that a caller can spread its accumulators.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn for_each_eight(a: &[f32], b: &[f32], mut step: impl FnMut(usize, __m256, __m256)) {
    let length = a.len().min(b.len());
    let whole = length / 8;
    for group in 0..whole {
        // SAFETY: group * 8 + 8 <= length, which neither slice is shorter than; the loads are unaligned ones.
        let (x, y) =
            unsafe { (_mm256_loadu_ps(a.as_ptr().add(group * 8)), _mm256_loadu_ps(b.as_ptr().add(group * 8))) };
        step(group, x, y);
    }
    let rest = length % 8;
    if rest > 0 {
        let mask = lane_mask(rest);
        // SAFETY: only the first `rest` lanes are read, and whole * 8 + rest == length; masked lanes are not accessed.
        let (x, y) = unsafe {
            (_mm256_maskload_ps(a.as_ptr().add(whole * 8), mask), _mm256_maskload_ps(b.as_ptr().add(whole * 8), mask))
        };
        step(whole, x, y);
    }
}

#[target_feature(enable = "avx2,fma")]
fn total([s0, s1, s2, s3]: [__m256; 4]) -> f32 {
    horizontal_sum(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)))
}

#[target_feature(enable = "avx2,fma")]
fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    for_each_eight(a, b, |group, x, y| {
        let difference = _mm256_sub_ps(x, y);
        sums[group % 4] = _mm256_fmadd_ps(difference, difference, sums[group % 4]);
    });
    total(sums)
}

#[target_feature(enable = "avx2,fma")]
fn inner_product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    for_each_eight(a, b, |group, x, y| sums[group % 4] = _mm256_fmadd_ps(x, y, sums[group % 4]));
    total(sums)
}

#[target_feature(enable = "avx2,fma")]
fn l1(a: &[f32], b: &[f32]) -> f32 {
    let sign = _mm256_set1_ps(-0.0);
    let mut sums = [_mm256_setzero_ps(); 4];
    for_each_eight(a, b, |group, x, y| {
        let magnitude = _mm256_andnot_ps(sign, _mm256_sub_ps(x, y));
        sums[group % 4] = _mm256_add_ps(sums[group % 4], magnitude);
    });
    total(sums)
}

#[target_feature(enable = "avx2,fma")]
fn cosine_sums(a: &[f32], b: &[f32]) -> [f32; 3] {
    let zero = _mm256_setzero_ps();
    let mut sums = [[zero; 3]; 2];
    for_each_eight(a, b, |group, x, y| {
        let [product, norm_a, norm_b] = sums[group % 2];
        sums[group % 2] =
            [_mm256_fmadd_ps(x, y, product), _mm256_fmadd_ps(x, x, norm_a), _mm256_fmadd_ps(y, y, norm_b)];
    });
    let [first, second] = sums;
    [0, 1, 2].map(|i| horizontal_sum(_mm256_add_ps(first[i], second[i])))
}

#[cfg(test)]
mod tests {
    use super::super::{scalar, SCALAR};
    use super::*;
    use proptest::prelude::*;

    fn avx2() -> Option<Kernels> {
        detect()
    }

    /// Every sum of both kernel sets, with the magnitude their rounding errors are relative to.
    fn sums(kernels: &Kernels, a: &[f32], b: &[f32]) -> [f32; 6] {
        let [product, norm_a, norm_b] = (kernels.cosine_sums)(a, b);
        let pair = [(kernels.l2_squared)(a, b), (kernels.inner_product)(a, b), (kernels.l1)(a, b)];
        [pair[0], pair[1], pair[2], product, norm_a, norm_b]
    }

    fn assert_close(a: &[f32], b: &[f32]) {
        let Some(kernels) = avx2() else { return };
        let absolute_a: Vec<f32> = a.iter().map(|x| x.abs()).collect();
        let absolute_b: Vec<f32> = b.iter().map(|x| -x.abs()).collect();
        let magnitude = sums(&SCALAR, &absolute_a, &absolute_b).map(|x| f64::from(x.abs()));
        let (expected, actual) = (sums(&SCALAR, a, b), sums(&kernels, a, b));
        for i in 0..6 {
            let error = (f64::from(expected[i]) - f64::from(actual[i])).abs();
            assert!(
                error <= magnitude[i] * 1e-6 * (1.0 + a.len() as f64 / 16.0) + 1e-37,
                "sum {i} of {} dimensions: {} and {}",
                a.len(),
                expected[i],
                actual[i]
            );
        }
    }

    #[test]
    fn every_tail_length_agrees_with_scalar() {
        for length in (0..=67).chain([383, 384, 385, 767, 1000, 1536, 16_000]) {
            let a: Vec<f32> = (0..length).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
            let b: Vec<f32> = (0..length).map(|i| ((i * 53 % 89) as f32 - 40.0) / 3.0).collect();
            assert_close(&a, &b);
            // Unaligned starts.
            if length > 1 {
                assert_close(&a[1..], &b[..length - 1]);
            }
        }
    }

    #[test]
    fn one_special_element_in_any_lane_gives_the_scalar_class() {
        let Some(kernels) = avx2() else { return };
        for length in [1, 7, 8, 9, 33] {
            for position in 0..length {
                for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45, -1e-40] {
                    let mut a = vec![0.5; length];
                    let b = vec![1.0; length];
                    a[position] = special;
                    for (expected, actual) in sums(&SCALAR, &a, &b).into_iter().zip(sums(&kernels, &a, &b)) {
                        assert_eq!(expected.is_nan(), actual.is_nan());
                        assert_eq!(expected.is_infinite(), actual.is_infinite());
                        if expected.is_infinite() {
                            assert_eq!(expected, actual);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn subnormal_sums_are_not_flushed_to_zero() {
        let Some(kernels) = avx2() else { return };
        let a = [1e-40f32; 9];
        assert_eq!((kernels.l1)(&a, &[0.0; 9]), scalar::l1(&a, &[0.0; 9]));
        assert!((kernels.inner_product)(&a, &[1.0; 9]) > 0.0);
    }

    #[test]
    fn the_shorter_slice_bounds_what_is_read() {
        let Some(kernels) = avx2() else { return };
        assert_eq!((kernels.inner_product)(&[1.0; 20], &[1.0; 11]), 11.0);
        assert_eq!((kernels.l1)(&[1.0; 3], &[0.0; 90]), 3.0);
    }

    proptest! {
        #[test]
        fn random_vectors_agree_with_scalar_and_distances_are_symmetric(
            pairs in prop::collection::vec((-1e3f32..1e3, -1e3f32..1e3), 0..300)
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            assert_close(&a, &b);
            if let Some(kernels) = avx2() {
                prop_assert_eq!((kernels.l2_squared)(&a, &b), (kernels.l2_squared)(&b, &a));
                prop_assert_eq!((kernels.inner_product)(&a, &b), (kernels.inner_product)(&b, &a));
                prop_assert_eq!((kernels.l1)(&a, &b), (kernels.l1)(&b, &a));
            }
        }
    }
}
