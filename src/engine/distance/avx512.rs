//! AVX-512: sixteen lanes, ends of slices by masks, and bits counted eight words at a time where the CPU can.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::avx2::{Bytes, Eight};
use super::bits::Words;
use super::lanes::{Lanes, Load, Set, Work};

/// Without an instruction that counts bits in a register: as AVX2 does it.
pub(super) struct Avx512;

impl Set for Avx512 {
    type Lanes = Sixteen;
    type Words = Bytes;

    #[target_feature(enable = "avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512vl")]
    unsafe fn enter<W: Work<Self, A, B>, A, B>(a: A, b: B) -> W::Output {
        // SAFETY: called by `enter`.
        unsafe { W::run(a, b) }
    }
}

/// With it.
pub(super) struct Avx512Popcnt;

impl Set for Avx512Popcnt {
    type Lanes = Sixteen;
    type Words = Octet;

    #[target_feature(enable = "avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    unsafe fn enter<W: Work<Self, A, B>, A, B>(a: A, b: B) -> W::Output {
        // SAFETY: called by `enter`.
        unsafe { W::run(a, b) }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Sixteen(__m512);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has AVX-512.
impl Lanes for Sixteen {
    const COUNT: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        Sixteen(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Sixteen(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        // SAFETY: see above.
        Sixteen(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn absolute(self) -> Self {
        // SAFETY: see above.
        Sixteen(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: see above.
        Sixteen(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn total(self) -> f32 {
        // SAFETY: see above; the permutation swaps the halves of the register.
        let (low, high) = unsafe {
            (_mm512_castps512_ps256(self.0), _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b11_10>(self.0, self.0)))
        };
        Eight(low).add(Eight(high)).total()
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
}

/// The first `count` of sixteen lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    (1 << count) - 1
}

impl Load<f32> for Sixteen {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Sixteen(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's promise; lanes that are not enabled are not accessed.
        Sixteen(unsafe { _mm512_maskz_loadu_ps(first(count), from) })
    }
}

impl Load<f16> for Sixteen {
    #[inline(always)]
    unsafe fn load(from: *const f16) -> Self {
        // SAFETY: the caller's promise.
        Sixteen(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f16, count: usize) -> Self {
        // SAFETY: the caller's promise; lanes that are not enabled are not accessed.
        Sixteen(unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(count), from.cast())) })
    }
}

/// Eight words of 64 bits, which are also the counters.
#[derive(Clone, Copy)]
pub(super) struct Octet(__m512i);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has AVX-512 with
// VPOPCNTDQ.
impl Words for Octet {
    const BYTES: usize = 64;
    const BURST: usize = usize::MAX;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        Octet(unsafe { _mm512_setzero_si512() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Octet(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: see above.
        Octet(unsafe { _mm512_and_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: see above.
        Octet(unsafe { _mm512_or_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: see above.
        Octet(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn count(self) -> Self {
        // SAFETY: see above.
        Octet(unsafe { _mm512_popcnt_epi64(self.0) })
    }

    #[inline(always)]
    fn add_counts(self, other: Self) -> Self {
        // SAFETY: see above.
        Octet(unsafe { _mm512_add_epi64(self.0, other.0) })
    }

    #[inline(always)]
    fn gather(self, narrow: Self) -> Self {
        self.add_counts(narrow)
    }

    #[inline(always)]
    fn total(self) -> u64 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_epi64(self.0) as u64 }
    }
}
