//! NEON, which every 64-bit Arm CPU of a server has: four lanes, and bits counted per byte.
//!
//! Halves are converted by the two base instructions themselves; their intrinsics want a newer vector type.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::bits::Words;
use super::lanes::{Lanes, Load, Set, Work};

pub(super) struct Neon;

impl Set for Neon {
    type Lanes = Four;
    type Words = Bytes;

    #[target_feature(enable = "neon")]
    unsafe fn enter<W: Work<Self, A, B>, A, B>(a: A, b: B) -> W::Output {
        // SAFETY: called by `enter`.
        unsafe { W::run(a, b) }
    }
}

const COUNT: usize = 4;

#[derive(Clone, Copy)]
pub(super) struct Four(float32x4_t);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has NEON.
impl Lanes for Four {
    const COUNT: usize = COUNT;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        Four(unsafe { vdupq_n_f32(0.0) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Four(unsafe { vaddq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        // SAFETY: see above.
        Four(unsafe { vsubq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn absolute(self) -> Self {
        // SAFETY: see above.
        Four(unsafe { vabsq_f32(self.0) })
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: see above.
        Four(unsafe { vfmaq_f32(sum.0, self.0, factor.0) })
    }

    #[inline(always)]
    fn total(self) -> f32 {
        // SAFETY: see above.
        unsafe { vaddvq_f32(self.0) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        let halves: uint16x4_t;
        // SAFETY: an instruction on registers, and the caller's promise.
        unsafe {
            asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) self.0,
                options(pure, nomem, nostack, preserves_flags));
            vst1_u16(to.cast(), halves);
        }
    }
}

/// Four halves.
#[inline(always)]
fn widen(halves: uint16x4_t) -> Four {
    let lanes: float32x4_t;
    // SAFETY: an instruction on registers that every CPU with the type of the argument has.
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) lanes, in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    Four(lanes)
}

impl Load<f32> for Four {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Four(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut elements = [0.0; COUNT];
        for (i, element) in elements.iter_mut().enumerate().take(count) {
            // SAFETY: i < count.
            *element = unsafe { from.wrapping_add(i).read_unaligned() };
        }
        // SAFETY: the array has as many elements as are read.
        Four(unsafe { vld1q_f32(elements.as_ptr()) })
    }
}

impl Load<f16> for Four {
    #[inline(always)]
    unsafe fn load(from: *const f16) -> Self {
        // SAFETY: the caller's promise.
        widen(unsafe { vld1_u16(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f16, count: usize) -> Self {
        let mut elements = [0u16; COUNT];
        for (i, element) in elements.iter_mut().enumerate().take(count) {
            // SAFETY: i < count.
            *element = unsafe { from.cast::<u16>().wrapping_add(i).read_unaligned() };
        }
        // SAFETY: the array has as many elements as are read.
        widen(unsafe { vld1_u16(elements.as_ptr()) })
    }
}

/// Sixteen bytes; counts are kept per byte.
#[derive(Clone, Copy)]
pub(super) struct Bytes(uint8x16_t);

// SAFETY (of the functions without a contract of their own): a value of this type exists, so the CPU has NEON.
impl Words for Bytes {
    const BYTES: usize = 16;
    /// Eight bits at most in a byte each time, and a counter holds 255.
    const BURST: usize = 31;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        Bytes(unsafe { vdupq_n_u8(0) })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Bytes(unsafe { vld1q_u8(from) })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { vandq_u8(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { vorrq_u8(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { veorq_u8(self.0, other.0) })
    }

    #[inline(always)]
    fn count(self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { vcntq_u8(self.0) })
    }

    #[inline(always)]
    fn add_counts(self, other: Self) -> Self {
        // SAFETY: see above.
        Bytes(unsafe { vaddq_u8(self.0, other.0) })
    }

    #[inline(always)]
    fn gather(self, narrow: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let wide = vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(narrow.0)));
            Bytes(vreinterpretq_u8_u64(vaddq_u64(vreinterpretq_u64_u8(self.0), wide)))
        }
    }

    #[inline(always)]
    fn total(self) -> u64 {
        // SAFETY: see above.
        unsafe { vaddvq_u64(vreinterpretq_u64_u8(self.0)) }
    }
}
