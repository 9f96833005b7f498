//! AVX2: sixteen words; with AVX-VNNI, products are added by the instruction that multiplies.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::kernels::{product, Integer, Set, Words};

pub(super) struct Avx2;

impl Set for Avx2 {
    type Words = Sixteen<false>;

    #[target_feature(enable = "avx2")]
    unsafe fn enter<E: Integer>(a: &[E], code: &[u8]) -> i32 {
        // SAFETY: called by `enter`.
        unsafe { product::<Self::Words, E>(a, code) }
    }
}

pub(super) struct AvxVnni;

impl Set for AvxVnni {
    type Words = Sixteen<true>;

    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn enter<E: Integer>(a: &[E], code: &[u8]) -> i32 {
        // SAFETY: called by `enter`.
        unsafe { product::<Self::Words, E>(a, code) }
    }
}

/// `FUSED`: the CPU also has AVX-VNNI.
#[derive(Clone, Copy)]
pub(super) struct Sixteen<const FUSED: bool>(__m256i);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has AVX2, and
// AVX-VNNI if `FUSED`.
impl<const FUSED: bool> Words for Sixteen<FUSED> {
    const COUNT: usize = 16;
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: the caller's promise.
        Sixteen(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: the caller's promise.
        Sixteen(unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) })
    }

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        // SAFETY: see above.
        Sixteen(unsafe { _mm256_and_si256(self.0, mask.0) })
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sums: __m256i) -> __m256i {
        if FUSED {
            // SAFETY: see above.
            unsafe { _mm256_dpwssd_avx_epi32(sums, self.0, factor.0) }
        } else {
            // SAFETY: see above.
            unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(self.0, factor.0)) }
        }
    }

    #[inline(always)]
    fn add(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: registers of this set exist.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn total(sums: __m256i) -> i32 {
        // SAFETY: registers of this set exist.
        unsafe {
            let quad = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let pair = _mm_add_epi32(quad, _mm_unpackhi_epi64(quad, quad));
            _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<1>(pair)))
        }
    }
}
