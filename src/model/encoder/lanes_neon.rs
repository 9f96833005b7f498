//! The lanes of 64-bit Arm: [`Neon`], which every such processor has. See `lanes.rs` for who may use them.
#![allow(unsafe_code)]

use super::lanes::{Block, Lanes, LANES};
use std::arch::aarch64::*;

/// Sixteen lanes in four registers.
#[derive(Clone, Copy)]
pub struct Neon(pub(super) [float32x4_t; 4]);

impl Neon {
    /// Whether this processor runs these lanes.
    #[inline]
    pub fn detected() -> bool {
        std::arch::is_aarch64_feature_detected!("neon")
    }

    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(std::array::from_fn(|at| operation(self.0[at], other.0[at])))
    }
}

// SAFETY of every block: the type is only used after `detected`, in functions compiled for NEON; loads and stores stay
// inside the block behind the reference.
impl Lanes for Neon {
    // 24 sums, 4 registers of weights, 1 factor: of 32 registers.
    const TILE_ROWS: usize = 6;
    const TILE_PANELS: usize = 1;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: as above.
        Self([unsafe { vdupq_n_f32(value) }; 4])
    }
    #[inline(always)]
    fn load(from: &Block) -> Self {
        let quads = from.0.as_chunks::<4>().0;
        // SAFETY: as above.
        Self(std::array::from_fn(|at| unsafe { vld1q_f32(quads[at].as_ptr()) }))
    }
    #[inline(always)]
    fn store(self, to: &mut Block) {
        for (quad, register) in to.0.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            // SAFETY: as above.
            unsafe { vst1q_f32(quad.as_mut_ptr(), register) }
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        // SAFETY: as above.
        Self::splat(1.0).zip(self, |one, x| unsafe { vdivq_f32(one, x) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // The instruction for the maximum would give a NaN.
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        Self(self.0.map(|x| unsafe { vabsq_f32(x) }))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as above.
        Self(std::array::from_fn(|at| unsafe { vfmaq_f32(addend.0[at], self.0[at], factor.0[at]) }))
    }
    #[inline(always)]
    fn exp2_of_rounded(self) -> Self {
        // SAFETY: as above.
        Self(self.0.map(|x| unsafe {
            let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(x));
            vreinterpretq_f32_s32(vaddq_s32(exponent, vdupq_n_s32(0x3F80_0000)))
        }))
    }
    #[inline(always)]
    fn to_bytes(self) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        // SAFETY: as above; the store is of exactly the array.
        unsafe {
            let [a, b, c, d] = self.0.map(|x| vmovn_u32(vcvtnq_u32_f32(x)));
            let (low, high) = (vmovn_u16(vcombine_u16(a, b)), vmovn_u16(vcombine_u16(c, d)));
            vst1q_u8(bytes.as_mut_ptr(), vcombine_u8(low, high));
        }
        bytes
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: as above.
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: as above.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, b), vmaxq_f32(c, d))) }
    }
}
