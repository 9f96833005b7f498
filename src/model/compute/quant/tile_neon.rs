//! Tiles of one or two rows with NEON, with or without the products of four bytes in one instruction.
//!
//! Bytes are multiplied as signed ones. Those of Q8_0 reach beyond: they are multiplied without the 128 that they are raised
//! by, and have no offset then. Without the dot product two products are added in 16 bits, at most 2 · 128 · 127.
#![allow(unsafe_code)]

use super::activations::XUnit;
use super::panel::{Panel, PanelUnit};
use super::tile::Tile;
use super::Level;
use std::arch::aarch64::*;

/// Multiplies a panel with `rows` rows: 2 or 1.
pub fn multiply(level: Level, panel: &Panel, rows: usize, tile: Tile) {
    // SAFETY: the caller found the instructions, and made the tile of `rows` rows inside `x` and `y`.
    unsafe {
        if level == Level::NeonDot {
            with_dot_product(panel, rows, tile);
        } else {
            with_neon(panel, rows, tile);
        }
    }
}

/// # Safety
/// NEON and its dot product; see [`multiply_rows`].
#[target_feature(enable = "neon,dotprod")]
unsafe fn with_dot_product(panel: &Panel, rows: usize, tile: Tile) {
    // SAFETY: the caller's.
    unsafe { multiply_panel::<true>(panel, rows, tile) }
}

/// # Safety
/// NEON; see [`multiply_rows`].
#[target_feature(enable = "neon")]
unsafe fn with_neon(panel: &Panel, rows: usize, tile: Tile) {
    // SAFETY: the caller's.
    unsafe { multiply_panel::<false>(panel, rows, tile) }
}

/// # Safety
/// See [`multiply_rows`].
#[inline(always)]
unsafe fn multiply_panel<const DOT: bool>(panel: &Panel, rows: usize, tile: Tile) {
    let units = &panel.units;
    // SAFETY: the caller's.
    unsafe {
        match (rows, panel.halves, panel.largest > 127) {
            (2, false, false) => multiply_rows::<DOT, 2, false, false>(units, tile),
            (_, false, false) => multiply_rows::<DOT, 1, false, false>(units, tile),
            (2, false, true) => multiply_rows::<DOT, 2, false, true>(units, tile),
            (_, false, true) => multiply_rows::<DOT, 1, false, true>(units, tile),
            (2, true, false) => multiply_rows::<DOT, 2, true, false>(units, tile),
            (_, true, false) => multiply_rows::<DOT, 1, true, false>(units, tile),
            (2, true, true) => multiply_rows::<DOT, 2, true, true>(units, tile),
            (_, true, true) => multiply_rows::<DOT, 1, true, true>(units, tile),
        }
    }
}

/// Inlined into functions that have the instructions.
///
/// # Safety
/// The instructions; `T` rows of `tile.x` with as many units as the panel; `T` rows of `tile.columns` results.
#[inline(always)]
unsafe fn multiply_rows<const DOT: bool, const T: usize, const HALVES: bool, const RAISED: bool>(
    units: &[PanelUnit],
    tile: Tile,
) {
    let mut results = [[0.0_f32; 16]; T];
    if !tile.replace {
        for (t, row) in results.iter_mut().enumerate() {
            for (column, result) in row.iter_mut().enumerate().take(tile.columns) {
                // SAFETY: row `t` has `tile.columns` results.
                *result = unsafe { *tile.y.add(t * tile.y_stride + column) };
            }
        }
    }
    // SAFETY: arrays of sixteen floats; row `t` has a unit `index`.
    unsafe {
        let mut sums = results.map(|row| load(&row));
        for (index, unit) in units.iter().enumerate() {
            let x: [&XUnit; T] = std::array::from_fn(|t| &*tile.x.add(t * tile.x_stride + index));
            for half in 0..if HALVES { 2 } else { 1 } {
                let groups = if HALVES { 4 * half..4 * half + 4 } else { 0..8 };
                let dots = dots::<DOT, T, RAISED>(unit, x, groups);
                let (scales, offsets) = (load(&unit.scales[half]), load(&unit.offsets[half]));
                for t in 0..T {
                    let sum = if HALVES { x[t].half_sums[half] } else { x[t].sum };
                    for quad in 0..4 {
                        let factor = vmulq_n_f32(scales[quad], x[t].scale);
                        let mut total = vfmaq_f32(sums[t][quad], vcvtq_f32_s32(dots[t][quad]), factor);
                        if !RAISED {
                            total = vfmaq_n_f32(total, offsets[quad], sum);
                        }
                        sums[t][quad] = total;
                    }
                }
            }
        }
        for (row, sums) in results.iter_mut().zip(sums) {
            for (quad, sum) in row.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                vst1q_f32(quad.as_mut_ptr(), sum);
            }
        }
    }
    for (t, row) in results.iter().enumerate() {
        for (column, result) in row.iter().enumerate().take(tile.columns) {
            // SAFETY: row `t` has `tile.columns` results.
            unsafe { *tile.y.add(t * tile.y_stride + column) = *result };
        }
    }
}

/// # Safety
/// NEON.
#[inline(always)]
unsafe fn load(numbers: &[f32; 16]) -> [float32x4_t; 4] {
    let quads = numbers.as_chunks::<4>().0;
    // SAFETY: four numbers each.
    std::array::from_fn(|quad| unsafe { vld1q_f32(quads[quad].as_ptr()) })
}

/// Integer products of the `groups` of four weights of all rows with the units `x`.
///
/// # Safety
/// The instructions.
#[inline(always)]
unsafe fn dots<const DOT: bool, const T: usize, const RAISED: bool>(
    unit: &PanelUnit,
    x: [&XUnit; T],
    groups: std::ops::Range<usize>,
) -> [[int32x4_t; 4]; T] {
    // SAFETY: a quarter of a group is sixteen bytes of weights.
    unsafe {
        let zero = vdupq_n_s32(0);
        let (mut high, mut low) = ([[zero; 4]; T], [[zero; 4]; T]);
        for k in groups {
            let quarters = unit.quants[k].as_chunks::<16>().0;
            let weights: [int8x16_t; 4] = std::array::from_fn(|quad| {
                let weights = vld1q_u8(quarters[quad].as_ptr());
                vreinterpretq_s8_u8(if RAISED { veorq_u8(weights, vdupq_n_u8(128)) } else { weights })
            });
            for t in 0..T {
                let (upper, lower) = (four(&x[t].high, k), four(&x[t].low, k));
                for quad in 0..4 {
                    high[t][quad] = add_products::<DOT>(high[t][quad], weights[quad], upper);
                    low[t][quad] = add_products::<DOT>(low[t][quad], weights[quad], lower);
                }
            }
        }
        for (high, low) in high.as_flattened_mut().iter_mut().zip(low.as_flattened()) {
            *high = vaddq_s32(vshlq_n_s32::<8>(*high), *low);
        }
        high
    }
}

/// The `k`-th four bytes, in every quarter of a register.
///
/// # Safety
/// NEON.
#[inline(always)]
unsafe fn four(bytes: &[i8; 32], k: usize) -> int8x16_t {
    let four = bytes.as_chunks::<4>().0[k].map(|byte| byte as u8);
    // SAFETY: the caller's.
    unsafe { vreinterpretq_s8_u32(vdupq_n_u32(u32::from_ne_bytes(four))) }
}

/// Adds the products of bytes to four sums, four products each.
///
/// # Safety
/// NEON; the dot product, if `DOT`.
#[inline(always)]
unsafe fn add_products<const DOT: bool>(mut sums: int32x4_t, weights: int8x16_t, values: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's; an instruction on registers.
    unsafe {
        if DOT {
            // The intrinsic is not stable yet. The assembler is told of the instruction: in a build without optimisation
            // this function is none that was compiled for it.
            std::arch::asm!(".arch_extension dotprod", "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sums,
                in(vreg) weights, in(vreg) values, options(pure, nomem, nostack, preserves_flags));
            sums
        } else {
            let first = vmull_s8(vget_low_s8(weights), vget_low_s8(values));
            vpadalq_s16(sums, vpaddq_s16(first, vmull_high_s8(weights, values)))
        }
    }
}
