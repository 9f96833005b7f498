//! NEON: eight words. The instruction for bytes times bytes (`sdot`) would need the query in bytes.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::kernels::{product, Integer, Set, Words};

pub(super) struct Neon;

impl Set for Neon {
    type Words = Eight;

    #[target_feature(enable = "neon")]
    unsafe fn enter<E: Integer>(a: &[E], code: &[u8]) -> i32 {
        // SAFETY: called by `enter`.
        unsafe { product::<Self::Words, E>(a, code) }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Eight(int16x8_t);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has NEON.
impl Words for Eight {
    const COUNT: usize = 8;
    type Sums = int32x4_t;

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: the caller's promise.
        Eight(unsafe { vld1q_s16(from) })
    }

    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: the caller's promise.
        Eight(unsafe { vmovl_s8(vld1_s8(from)) })
    }

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { vandq_s16(self.0, mask.0) })
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sums: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe {
            let low = vmlal_s16(sums, vget_low_s16(self.0), vget_low_s16(factor.0));
            vmlal_high_s16(low, self.0, factor.0)
        }
    }

    #[inline(always)]
    fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: registers of this set exist.
        unsafe { vaddq_s32(a, b) }
    }

    #[inline(always)]
    fn total(sums: int32x4_t) -> i32 {
        // SAFETY: registers of this set exist.
        unsafe { vaddvq_s32(sums) }
    }
}
