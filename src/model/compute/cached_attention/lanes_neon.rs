//! [`Lanes`] of 64-bit Arm.
#![allow(unsafe_code)]

use super::lanes::Lanes;
use half::f16;
use std::arch::aarch64::*;
use std::arch::asm;

/// NEON: four registers of four.
#[derive(Clone, Copy)]
pub struct Neon([float32x4_t; 4]);

macro_rules! by_quads {
    ($($name:ident = $intrinsic:ident;)+) => {
        $(#[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: the caller's.
            Self(std::array::from_fn(|quad| unsafe { $intrinsic(self.0[quad], other.0[quad]) }))
        })+
    };
}

impl Lanes for Neon {
    by_quads! { mul = vmulq_f32; sub = vsubq_f32; add = vaddq_f32; }
    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        // SAFETY: the caller's.
        Self([unsafe { vdupq_n_f32(number) }; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; four numbers each.
        Self(std::array::from_fn(|quad| unsafe { vld1q_f32(from.add(4 * quad)) }))
    }
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        // The intrinsic wants a type that is not stable yet.
        // SAFETY: the caller's; four halves each, and an instruction on registers.
        Self(std::array::from_fn(|quad| unsafe {
            let halves = vld1_u16(from.add(4 * quad).cast());
            let singles: float32x4_t;
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) singles, in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags));
            singles
        }))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (quad, numbers) in self.0.into_iter().enumerate() {
            // SAFETY: the caller's; four numbers each.
            unsafe { vst1q_f32(to.add(4 * quad), numbers) };
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: the caller's.
        Self(std::array::from_fn(|quad| unsafe { vfmaq_f32(term.0[quad], self.0[quad], factor.0[quad]) }))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the caller's.
        Self(std::array::from_fn(|quad| unsafe {
            vbslq_f32(vcgtq_f32(self.0[quad], other.0[quad]), self.0[quad], other.0[quad])
        }))
    }
    #[inline(always)]
    unsafe fn first(self, count: usize, other: Self) -> Self {
        const LANES: [u32; 4] = [0, 1, 2, 3];
        // SAFETY: the caller's; an array of four numbers.
        Self(std::array::from_fn(|quad| unsafe {
            let left = vdupq_n_u32(count.saturating_sub(4 * quad) as u32);
            vbslq_f32(vcltq_u32(vld1q_u32(LANES.as_ptr()), left), self.0[quad], other.0[quad])
        }))
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        // SAFETY: the caller's.
        Self(self.0.map(|numbers| unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(numbers), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: the caller's.
        Self(self.0.map(|numbers| unsafe { vrndnq_f32(numbers) }))
    }
}
