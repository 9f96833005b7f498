//! Sixteen numbers at a time: what the kernels of [`super`] are written in.
//!
//! One implementation per set of instructions. All methods are `unsafe` because they need those of their type.
#![allow(unsafe_code)]

use half::f16;

pub const LANES: usize = 16;

/// # Safety
/// Every method needs the CPU's instructions for the type; pointers are valid for 16 elements, aligned or not.
pub trait Lanes: Copy {
    unsafe fn splat(number: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_half(from: *const f16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// `self * factor + term`.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// The first `count` lanes, and `other` in those behind them.
    unsafe fn first(self, count: usize, other: Self) -> Self;
    /// `2^self` for a whole number from -126 to 0.
    unsafe fn exp2_whole(self) -> Self;
    /// The nearest whole number.
    unsafe fn round(self) -> Self;

    unsafe fn to_array(self) -> [f32; LANES] {
        let mut array = [0.0; LANES];
        // SAFETY: the array has 16 elements.
        unsafe { self.store(array.as_mut_ptr()) };
        array
    }
}

/// Plain Rust; the definition of the others.
#[derive(Clone, Copy)]
pub struct Portable([f32; LANES]);

impl Lanes for Portable {
    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        Self([number; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        // SAFETY: the caller's.
        let halves = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self(halves.map(crate::compute::quant::format::half_to_f32))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) };
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + term.0[i]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    unsafe fn first(self, count: usize, other: Self) -> Self {
        Self(std::array::from_fn(|i| if i < count { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        Self(self.0.map(|number| f32::from_bits(((number as i32 + 127) as u32) << 23)))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding 1.5 * 2^23 leaves no room for a fraction.
        Self(self.0.map(|number| number + 12_582_912.0 - 12_582_912.0))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{f16, Lanes};
    use std::arch::x86_64::*;

    /// AVX2, FMA and F16C: two registers of eight.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    /// AVX-512 F.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    macro_rules! pairwise {
        ($($name:ident = $intrinsic:ident;)+) => {
            $(#[inline(always)]
            unsafe fn $name(self, other: Self) -> Self {
                // SAFETY: the caller's.
                unsafe { Self($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
            })+
        };
    }

    impl Lanes for Avx2 {
        pairwise! { mul = _mm256_mul_ps; sub = _mm256_sub_ps; add = _mm256_add_ps; max = _mm256_max_ps; }
        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm256_set1_ps(number), _mm256_set1_ps(number)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_half(from: *const f16) -> Self {
            // SAFETY: the caller's.
            unsafe {
                let (low, high) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(8).cast()));
                Self(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1)) }
        }
        #[inline(always)]
        unsafe fn first(self, count: usize, other: Self) -> Self {
            // SAFETY: the caller's.
            unsafe {
                let count = _mm256_set1_epi32(count as i32);
                let low = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
                let high = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
                Self(
                    _mm256_blendv_ps(other.0, self.0, _mm256_castsi256_ps(low)),
                    _mm256_blendv_ps(other.1, self.1, _mm256_castsi256_ps(high)),
                )
            }
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            // SAFETY: the caller's.
            unsafe {
                let power = |number| {
                    let biased = _mm256_add_epi32(_mm256_cvtps_epi32(number), _mm256_set1_epi32(127));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
                };
                Self(power(self.0), power(self.1))
            }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm256_round_ps::<8>(self.0), _mm256_round_ps::<8>(self.1)) }
        }
    }

    macro_rules! single {
        ($($name:ident = $intrinsic:ident;)+) => {
            $(#[inline(always)]
            unsafe fn $name(self, other: Self) -> Self {
                // SAFETY: the caller's.
                unsafe { Self($intrinsic(self.0, other.0)) }
            })+
        };
    }

    impl Lanes for Avx512 {
        single! { mul = _mm512_mul_ps; sub = _mm512_sub_ps; add = _mm512_add_ps; max = _mm512_max_ps; }
        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm512_set1_ps(number)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn load_half(from: *const f16) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe { _mm512_storeu_ps(to, self.0) };
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, term.0)) }
        }
        #[inline(always)]
        unsafe fn first(self, count: usize, other: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm512_mask_blend_ps((1_u32 << count.min(16)).wrapping_sub(1) as u16, other.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            // SAFETY: the caller's.
            unsafe {
                let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
            }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            // SAFETY: the caller's.
            unsafe { Self(_mm512_roundscale_ps::<8>(self.0)) }
        }
    }
}

/// `e^x` for `x` up to 0, to about 2 units in the last place: `2^n · e^r` with |r| ≤ ln 2 / 2 and the Taylor polynomial of
/// degree 6 for `e^r`. Below -87 it is `e^-87`, 10^-38.
///
/// # Safety
/// The instructions of `L`.
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's.
    unsafe {
        let x = x.max(L::splat(-87.0));
        let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts, the first with few enough bits that n times it is exact.
        let r = n.mul_add(L::splat(-0.693_359_4), x);
        let r = n.mul_add(L::splat(2.121_944_4e-4), r);
        let mut p = L::splat(1.0 / 720.0);
        for term in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p.mul_add(r, L::splat(term));
        }
        p.mul(n.exp2_whole())
    }
}
