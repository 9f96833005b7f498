//! AVX2 with FMA and F16C: eight lanes, and bits counted by looking up half a byte at a time.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::bits::Words;
use super::lanes::{Lanes, Load, Set, Work};

pub(super) struct Avx2;

impl Set for Avx2 {
    type Lanes = Eight;
    type Words = Bytes;

    #[target_feature(enable = "avx2,fma,f16c,popcnt")]
    unsafe fn enter<W: Work<Self, A, B>, A, B>(a: A, b: B) -> W::Output {
        // SAFETY: called by `enter`.
        unsafe { W::run(a, b) }
    }
}

const COUNT: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Eight(pub(super) __m256);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has AVX2, FMA and
// F16C.
impl Lanes for Eight {
    const COUNT: usize = COUNT;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        Eight(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn absolute(self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn total(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let quad = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
}

/// Eight enabled lanes before eight disabled ones: what starts `COUNT - n` into it enables the first `n`.
static LANE_MASKS: [i32; 2 * COUNT] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Load<f32> for Eight {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Eight(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: 0 < count < COUNT keeps the mask inside the table; lanes that are not enabled are not accessed.
        unsafe {
            let mask = _mm256_loadu_si256(LANE_MASKS.as_ptr().wrapping_add(COUNT - count).cast());
            Eight(_mm256_maskload_ps(from, mask))
        }
    }
}

impl Load<f16> for Eight {
    #[inline(always)]
    unsafe fn load(from: *const f16) -> Self {
        // SAFETY: the caller's promise.
        Eight(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
    }

    /// There is no masked load of 16 bits, so the elements are put together from two overlapping parts.
    #[inline(always)]
    unsafe fn load_first(from: *const f16, count: usize) -> Self {
        // SAFETY: each part is read from `first` or up to the end of the `count` elements, and is no longer than they are.
        let (low, high) = unsafe { first_halves(from.cast(), count) };
        // SAFETY: the caller's promise.
        Eight(unsafe { _mm256_cvtph_ps(_mm_set_epi64x(high as i64, low as i64)) })
    }
}

/// Fewer than eight halves from `from`, followed by zeros, as the two words of a register. Where the parts overlap they
/// are the same bits.
///
/// # Safety
/// `count` elements can be read, and `0 < count < 8`.
#[inline(always)]
unsafe fn first_halves(from: *const u16, count: usize) -> (u64, u64) {
    // SAFETY: the parts read start at `from` or end at `from + count`, and have at most `count` elements.
    unsafe {
        if count >= 4 {
            let last = from.wrapping_add(count - 4).cast::<u64>().read_unaligned();
            // Of the last four, 8 - count are in the first word: they are shifted out (all of them in two steps).
            let high = (last >> (8 * (8 - count))) >> (8 * (8 - count));
            (from.cast::<u64>().read_unaligned(), high)
        } else if count >= 2 {
            let last = u64::from(from.wrapping_add(count - 2).cast::<u32>().read_unaligned());
            (u64::from(from.cast::<u32>().read_unaligned()) | last << (16 * (count - 2)), 0)
        } else {
            (u64::from(from.read_unaligned()), 0)
        }
    }
}

/// 32 bytes; counts are kept per byte.
#[derive(Clone, Copy)]
pub(super) struct Bytes(__m256i);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has AVX2.
impl Words for Bytes {
    const BYTES: usize = 32;
    /// Eight bits at most in a byte each time, and a counter holds 255.
    const BURST: usize = 31;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        Bytes(unsafe { _mm256_setzero_si256() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Bytes(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { _mm256_and_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { _mm256_or_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn count(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let bits = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
            let nibble = _mm256_set1_epi8(15);
            let low = _mm256_shuffle_epi8(bits, _mm256_and_si256(self.0, nibble));
            let high = _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16::<4>(self.0), nibble));
            Bytes(_mm256_add_epi8(low, high))
        }
    }

    #[inline(always)]
    fn add_counts(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { _mm256_add_epi8(self.0, other.0) })
    }

    #[inline(always)]
    fn gather(self, narrow: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { _mm256_add_epi64(self.0, _mm256_sad_epu8(narrow.0, _mm256_setzero_si256())) })
    }

    #[inline(always)]
    fn total(self) -> u64 {
        // SAFETY: see above.
        unsafe {
            let pair = _mm_add_epi64(_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0));
            _mm_cvtsi128_si64(_mm_add_epi64(pair, _mm_unpackhi_epi64(pair, pair))) as u64
        }
    }
}
