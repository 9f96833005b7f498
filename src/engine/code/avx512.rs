//! AVX-512: thirty-two words; with VNNI, products are added by the instruction that multiplies.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::kernels::{product, Integer, Set, Words};

pub(super) struct Avx512;

impl Set for Avx512 {
    type Words = ThirtyTwo<false>;

    #[target_feature(enable = "avx2,avx512f,avx512bw")]
    unsafe fn enter<E: Integer>(a: &[E], code: &[u8]) -> i32 {
        // SAFETY: called by `enter`.
        unsafe { product::<Self::Words, E>(a, code) }
    }
}

pub(super) struct Avx512Vnni;

impl Set for Avx512Vnni {
    type Words = ThirtyTwo<true>;

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
    unsafe fn enter<E: Integer>(a: &[E], code: &[u8]) -> i32 {
        // SAFETY: called by `enter`.
        unsafe { product::<Self::Words, E>(a, code) }
    }
}

/// `FUSED`: the CPU also has AVX-512 VNNI.
#[derive(Clone, Copy)]
pub(super) struct ThirtyTwo<const FUSED: bool>(__m512i);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has AVX-512 F and
// BW, and VNNI if `FUSED`.
impl<const FUSED: bool> Words for ThirtyTwo<FUSED> {
    const COUNT: usize = 32;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: the caller's promise.
        ThirtyTwo(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: the caller's promise.
        ThirtyTwo(unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        // SAFETY: see above.
        ThirtyTwo(unsafe { _mm512_and_si512(self.0, mask.0) })
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sums: __m512i) -> __m512i {
        if FUSED {
            // SAFETY: see above.
            unsafe { _mm512_dpwssd_epi32(sums, self.0, factor.0) }
        } else {
            // SAFETY: see above.
            unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(self.0, factor.0)) }
        }
    }

    #[inline(always)]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: registers of this set exist.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn total(sums: __m512i) -> i32 {
        // SAFETY: registers of this set exist.
        unsafe { _mm512_reduce_add_epi32(sums) }
    }
}
