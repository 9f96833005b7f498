//! Eight f32 lanes at a time: the arithmetic under the encoder's kernels.
//!
//! A kernel is written once over [`Lanes`] and compiled twice: for [`Portable`], which is plain Rust, runs anywhere and
//! is what the tests compare with, and for AVX2 with FMA. [`dispatch!`] picks one at run time. The two differ only in
//! rounding, because FMA rounds once.
//!
//! The lanes for AVX2 must only be used inside a function compiled for AVX2 and FMA, after detection; `dispatch!` is
//! the only place that names them outside this file.
#![allow(unsafe_code)]

/// Number of lanes.
pub const LANES: usize = 8;

/// Eight numbers. The functions are inlined into kernels.
pub trait Lanes: Copy {
    fn splat(value: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// The larger of each pair; of a pair with a NaN, `other`.
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// self · factor + addend
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// 2ⁿ for lanes that hold n + [`ROUND`], n a whole number from -126 to 127.
    fn exp2_of_rounded(self) -> Self;

    /// The sum of the lanes, always added in the same order.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Adding 1.5 · 2²³ moves the whole part of a small number into the low bits of the mantissa, rounded to nearest.
pub const ROUND: f32 = 12_582_912.0;

/// eˣ with a relative error below 3e-7; arguments below -87 count as -87, so the result is never 0. For x up to 88.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; the Taylor polynomial of degree 7 of eʳ has a relative error below 1e-8 there.
#[inline(always)]
pub fn exp<L: Lanes>(x: L) -> L {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = L::splat(-87.0).max(x);
    let rounded = x.mul_add(L::splat(std::f32::consts::LOG2_E), L::splat(ROUND));
    let n = rounded.sub(L::splat(ROUND));
    let r = n.mul_add(L::splat(-LN2_HIGH), x);
    let r = n.mul_add(L::splat(-LN2_LOW), r);
    let mut power = L::splat(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        power = power.mul_add(r, L::splat(coefficient));
    }
    power.mul(rounded.exp2_of_rounded())
}

/// Lanes as an array.
#[derive(Clone, Copy)]
pub struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // Not f32::mul_add, which is a slow library call on a processor without FMA.
        self.mul(factor).add(addend)
    }
    #[inline(always)]
    fn exp2_of_rounded(self) -> Self {
        Self(self.0.map(|value| f32::from_bits((value.to_bits() << 23).wrapping_add(0x3F80_0000))))
    }
}

#[cfg(target_arch = "x86_64")]
pub mod avx2 {
    use super::{Lanes, LANES};
    use std::arch::x86_64::*;

    /// Whether this processor runs [`Avx2`].
    #[inline]
    pub fn detected() -> bool {
        std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
    }

    /// Lanes in a register.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);

    // SAFETY of every block: the type is only used after `detected`, in functions compiled for AVX2 and FMA; loads and
    // stores are unaligned ones of exactly the array behind the reference.
    impl Lanes for Avx2 {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }
        #[inline(always)]
        fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
        }
        #[inline(always)]
        fn exp2_of_rounded(self) -> Self {
            // SAFETY: as above.
            Self(unsafe {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
                _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3F80_0000)))
            })
        }
    }
}

/// `dispatch! { /// docs  pub fn name(arguments) = kernel; }` declares `name`, which runs `kernel::<L>` with the lanes
/// that suit the processor. The file that uses it needs `#![allow(unsafe_code)]`.
macro_rules! dispatch {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $kernel:ident;)*) => {$(
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $type),*) {
                    $kernel::<$crate::encoder::lanes::avx2::Avx2>($($argument),*)
                }
                if $crate::encoder::lanes::avx2::detected() {
                    // SAFETY: the processor has AVX2 and FMA.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            $kernel::<$crate::encoder::lanes::Portable>($($argument),*)
        }
    )*};
}
pub(crate) use dispatch;
