//! The sums of byte products of 64-bit Arm: [`Neon`] and [`DotProduct`]. See `dots.rs` for who may use them.
#![allow(unsafe_code)]

use super::dots::{ByteBlock, Dots, IntBlock};
use super::lanes_neon;
use std::arch::aarch64::*;

/// The four values, without what they are raised by, in every quarter of a register.
#[inline(always)]
fn values_of(factors: [u8; 4]) -> int8x16_t {
    let values = u32::from_ne_bytes(factors) ^ u32::from_ne_bytes([0x80; 4]);
    // SAFETY: called by functions of the types below.
    unsafe { vreinterpretq_s8_u32(vdupq_n_u32(values)) }
}

#[inline(always)]
fn load(from: &IntBlock) -> [int32x4_t; 4] {
    let quads = from.0.as_chunks::<4>().0;
    // SAFETY: called by functions of the types below; loads stay inside the block behind the reference.
    std::array::from_fn(|at| unsafe { vld1q_s32(quads[at].as_ptr()) })
}

#[inline(always)]
fn weights_of(block: &ByteBlock) -> [int8x16_t; 4] {
    let rows = block.0.as_chunks::<16>().0;
    // SAFETY: as in `load`.
    std::array::from_fn(|at| unsafe { vreinterpretq_s8_u8(vld1q_u8(rows[at].as_ptr())) })
}

#[inline(always)]
fn to_lanes(sums: [int32x4_t; 4]) -> lanes_neon::Neon {
    // SAFETY: as in `values_of`.
    lanes_neon::Neon(sums.map(|sums| unsafe { vcvtq_f32_s32(sums) }))
}

/// Sixteen sums in four registers, by products of 16 bits: two of them, at most 2 · 127 · 127, are added before they are
/// widened.
#[derive(Clone, Copy)]
pub struct Neon([int32x4_t; 4]);

impl Neon {
    #[inline]
    pub fn detected() -> bool {
        lanes_neon::Neon::detected()
    }
}

// SAFETY of every block: the type is only used after `detected`, in functions compiled for NEON.
impl Dots for Neon {
    type Lanes = lanes_neon::Neon;
    const TILE_ROWS: usize = 4;
    const TILE_PANELS: usize = 1;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn load(from: &IntBlock) -> Self {
        Self(load(from))
    }
    #[inline(always)]
    fn add_products(self, factors: [u8; 4], weights: &ByteBlock) -> Self {
        let (values, weights) = (values_of(factors), weights_of(weights));
        // SAFETY: as above.
        Self(std::array::from_fn(|at| unsafe {
            let low = vmull_s8(vget_low_s8(weights[at]), vget_low_s8(values));
            let high = vmull_high_s8(weights[at], values);
            vpadalq_s16(self.0[at], vpaddq_s16(low, high))
        }))
    }
    #[inline(always)]
    fn to_lanes(self) -> Self::Lanes {
        to_lanes(self.0)
    }
}

/// Sixteen sums in four registers, by one instruction for four products each, which most processors since 2018 have.
#[derive(Clone, Copy)]
pub struct DotProduct([int32x4_t; 4]);

impl DotProduct {
    #[inline]
    pub fn detected() -> bool {
        std::arch::is_aarch64_feature_detected!("dotprod") && lanes_neon::Neon::detected()
    }
}

// SAFETY of every block: as for `Neon`, in functions compiled for the dot product too.
impl Dots for DotProduct {
    type Lanes = lanes_neon::Neon;
    const TILE_ROWS: usize = 6;
    const TILE_PANELS: usize = 1;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn load(from: &IntBlock) -> Self {
        Self(load(from))
    }
    #[inline(always)]
    fn add_products(mut self, factors: [u8; 4], weights: &ByteBlock) -> Self {
        let values = values_of(factors);
        for (sums, weights) in self.0.iter_mut().zip(weights_of(weights)) {
            // The intrinsic is not stable yet. The assembler is told of the instruction: in a build without optimisation
            // this function is none that was compiled for it.
            // SAFETY: as above; an instruction on registers.
            unsafe {
                std::arch::asm!(".arch_extension dotprod", "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) *sums,
                    in(vreg) weights, in(vreg) values, options(pure, nomem, nostack, preserves_flags));
            }
        }
        self
    }
    #[inline(always)]
    fn to_lanes(self) -> Self::Lanes {
        to_lanes(self.0)
    }
}
