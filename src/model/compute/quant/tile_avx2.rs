//! Tiles of one or two rows with AVX2, with or without byte products in one instruction (AVX-VNNI).
//!
//! Plain AVX2 multiplies bytes in pairs to 16 bits (`vpmaddubsw`, unsigned × signed). How many pairs can be added before
//! they are widened depends on the largest weight: a sum of `STEPS` must not exceed `2 · 128 · largest · STEPS`. Bytes of
//! Q8_0 are too large even for one; their sign moves to the activation, which makes them at most 128.
#![allow(unsafe_code)]

use super::activations::XUnit;
use super::panel::{Panel, PanelUnit};
use super::tile::Tile;
use super::Level;
use std::arch::x86_64::*;

/// `STEPS` for byte products in one instruction, and for weights with a sign.
const VNNI: usize = 100;
const SIGNED: usize = 101;

/// Multiplies a panel with `rows` rows: 2 or 1.
pub fn multiply(level: Level, panel: &Panel, rows: usize, tile: Tile) {
    // SAFETY: the caller found the instructions, and made the tile of `rows` rows inside `x` and `y`.
    unsafe {
        match (level, panel.largest) {
            (Level::AvxVnni, _) => multiply_vnni(panel, rows, tile),
            (_, 0..=15) => multiply_avx2::<4>(panel, rows, tile),
            (_, 16..=63) => multiply_avx2::<2>(panel, rows, tile),
            _ => multiply_avx2::<SIGNED>(panel, rows, tile),
        }
    }
}

/// # Safety
/// AVX2, FMA and AVX-VNNI; see [`multiply_rows`].
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn multiply_vnni(panel: &Panel, rows: usize, tile: Tile) {
    // SAFETY: the caller's.
    unsafe {
        match (rows, panel.halves) {
            (2, false) => multiply_rows::<VNNI, 2, false>(&panel.units, tile),
            (_, false) => multiply_rows::<VNNI, 1, false>(&panel.units, tile),
            (2, true) => multiply_rows::<VNNI, 2, true>(&panel.units, tile),
            (_, true) => multiply_rows::<VNNI, 1, true>(&panel.units, tile),
        }
    }
}

/// # Safety
/// AVX2 and FMA; see [`multiply_rows`]. `STEPS` fits the largest weight.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_avx2<const STEPS: usize>(panel: &Panel, rows: usize, tile: Tile) {
    // SAFETY: the caller's.
    unsafe {
        match (rows, panel.halves) {
            (2, false) => multiply_rows::<STEPS, 2, false>(&panel.units, tile),
            (_, false) => multiply_rows::<STEPS, 1, false>(&panel.units, tile),
            (2, true) => multiply_rows::<STEPS, 2, true>(&panel.units, tile),
            (_, true) => multiply_rows::<STEPS, 1, true>(&panel.units, tile),
        }
    }
}

/// Inlined into functions that have the instructions.
///
/// # Safety
/// The instructions; `T` rows of `tile.x` with as many units as the panel; `T` rows of `tile.columns` results.
#[inline(always)]
unsafe fn multiply_rows<const STEPS: usize, const T: usize, const HALVES: bool>(units: &[PanelUnit], tile: Tile) {
    let mut sums = [[[0.0_f32; 8]; 2]; T];
    if !tile.replace {
        for (t, sums) in sums.iter_mut().enumerate() {
            for (column, sum) in sums.as_flattened_mut().iter_mut().enumerate().take(tile.columns) {
                // SAFETY: row `t` has `tile.columns` results.
                *sum = unsafe { *tile.y.add(t * tile.y_stride + column) };
            }
        }
    }
    #[allow(clippy::needless_range_loop)] // it indexes an array in each row
    for side in 0..2 {
        // SAFETY: arrays of eight floats; row `t` has a unit `index`.
        unsafe {
            let mut side_sums = [_mm256_setzero_ps(); T];
            for t in 0..T {
                side_sums[t] = _mm256_loadu_ps(sums[t][side].as_ptr());
            }
            for (index, unit) in units.iter().enumerate() {
                let mut x = [tile.x; T];
                for (t, x) in x.iter_mut().enumerate() {
                    *x = tile.x.add(t * tile.x_stride + index);
                }
                for half in 0..if HALVES { 2 } else { 1 } {
                    let (first, groups) = if HALVES { (4 * half, 4) } else { (0, 8) };
                    let dots = dots::<STEPS, T>(unit, side, x, first, groups);
                    let scale = _mm256_load_ps(unit.scales[half].as_ptr().add(8 * side));
                    let offset = _mm256_load_ps(unit.offsets[half].as_ptr().add(8 * side));
                    for t in 0..T {
                        let factor = _mm256_mul_ps(scale, _mm256_set1_ps((*x[t]).scale));
                        side_sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), factor, side_sums[t]);
                        if STEPS != SIGNED {
                            let sum = if HALVES { (*x[t]).half_sums[half] } else { (*x[t]).sum };
                            side_sums[t] = _mm256_fmadd_ps(offset, _mm256_set1_ps(sum), side_sums[t]);
                        }
                    }
                }
            }
            for t in 0..T {
                _mm256_storeu_ps(sums[t][side].as_mut_ptr(), side_sums[t]);
            }
        }
    }
    for (t, sums) in sums.iter().enumerate() {
        for (column, sum) in sums.as_flattened().iter().enumerate().take(tile.columns) {
            // SAFETY: row `t` has `tile.columns` results.
            unsafe { *tile.y.add(t * tile.y_stride + column) = *sum };
        }
    }
}

/// Integer products of `4 * groups` weights of eight rows, with the units `x`.
///
/// # Safety
/// The instructions; valid units.
#[inline(always)]
unsafe fn dots<const STEPS: usize, const T: usize>(
    unit: &PanelUnit,
    side: usize,
    x: [*const XUnit; T],
    first: usize,
    groups: usize,
) -> [__m256i; T] {
    // SAFETY: groups are below 8; a group is 32 bytes of weights on a side, and four bytes in each array of a unit.
    unsafe {
        let zero = _mm256_setzero_si256();
        let ones = _mm256_set1_epi16(1);
        let (mut high, mut low) = ([zero; T], [zero; T]);
        let steps = if STEPS > 4 { 1 } else { STEPS };
        for start in (first..first + groups).step_by(steps) {
            let (mut high_pairs, mut low_pairs) = ([zero; T], [zero; T]);
            for k in start..start + steps {
                let weights = _mm256_load_si256(unit.quants[k].as_ptr().add(32 * side).cast());
                let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
                for t in 0..T {
                    let h = _mm256_set1_epi32((&raw const (*x[t]).high).cast::<i32>().add(k).read_unaligned());
                    let l = _mm256_set1_epi32((&raw const (*x[t]).low).cast::<i32>().add(k).read_unaligned());
                    if STEPS == VNNI {
                        high[t] = _mm256_dpbusd_avx_epi32(high[t], weights, h);
                        low[t] = _mm256_dpbusd_avx_epi32(low[t], weights, l);
                    } else if STEPS == SIGNED {
                        let magnitude = _mm256_abs_epi8(signed);
                        high_pairs[t] = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(h, signed));
                        low_pairs[t] = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(l, signed));
                    } else {
                        high_pairs[t] = _mm256_add_epi16(high_pairs[t], _mm256_maddubs_epi16(weights, h));
                        low_pairs[t] = _mm256_add_epi16(low_pairs[t], _mm256_maddubs_epi16(weights, l));
                    }
                }
            }
            if STEPS != VNNI {
                for t in 0..T {
                    high[t] = _mm256_add_epi32(high[t], _mm256_madd_epi16(high_pairs[t], ones));
                    low[t] = _mm256_add_epi32(low[t], _mm256_madd_epi16(low_pairs[t], ones));
                }
            }
        }
        for t in 0..T {
            high[t] = _mm256_add_epi32(_mm256_slli_epi32::<8>(high[t]), low[t]);
        }
        high
    }
}
