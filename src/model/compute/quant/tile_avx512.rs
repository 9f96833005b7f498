//! Tiles of up to eight rows with AVX-512 and its byte products (`vpdpbusd`).
//!
//! Weights are the unsigned operand. A lane is a row of the panel; four bytes of an activation are broadcast to all. The
//! high bytes are summed first; the sum is shifted, and the low bytes are added to it.
#![allow(unsafe_code)]

use super::activations::XUnit;
use super::panel::{Panel, PanelUnit};
use super::tile::Tile;
use std::arch::x86_64::*;

/// Multiplies a panel with `rows` rows: 8, 4, 2 or 1.
pub fn multiply(panel: &Panel, rows: usize, tile: Tile) {
    // SAFETY: the caller found AVX-512 with VNNI, and made the tile of `rows` rows inside `x` and `y`.
    unsafe {
        match (rows, panel.halves) {
            (8, false) => multiply_rows::<8, false>(&panel.units, tile),
            (4, false) => multiply_rows::<4, false>(&panel.units, tile),
            (2, false) => multiply_rows::<2, false>(&panel.units, tile),
            (_, false) => multiply_rows::<1, false>(&panel.units, tile),
            (8, true) => multiply_rows::<8, true>(&panel.units, tile),
            (4, true) => multiply_rows::<4, true>(&panel.units, tile),
            (2, true) => multiply_rows::<2, true>(&panel.units, tile),
            (_, true) => multiply_rows::<1, true>(&panel.units, tile),
        }
    }
}

/// # Safety
/// AVX-512 with VNNI; `T` rows of `tile.x` with as many units as the panel; `T` rows of `tile.columns` results.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn multiply_rows<const T: usize, const HALVES: bool>(units: &[PanelUnit], tile: Tile) {
    let mask = (1_u32 << tile.columns).wrapping_sub(1) as u16;
    let mut sums = [_mm512_setzero_ps(); T];
    if !tile.replace {
        for (t, sum) in sums.iter_mut().enumerate() {
            // SAFETY: row `t` of the results has as many numbers as the mask has bits.
            *sum = unsafe { _mm512_maskz_loadu_ps(mask, tile.y.add(t * tile.y_stride)) };
        }
    }
    for (index, unit) in units.iter().enumerate() {
        // SAFETY: row `t` has a unit `index`; it is read as eight groups of four bytes in each of its two arrays.
        unsafe {
            let x: [*const XUnit; T] = std::array::from_fn(|t| tile.x.add(t * tile.x_stride + index));
            for half in 0..if HALVES { 2 } else { 1 } {
                let groups = if HALVES { 4 * half..4 * half + 4 } else { 0..8 };
                let mut dots = [_mm512_setzero_si512(); T];
                for k in groups.clone() {
                    let weights = _mm512_load_si512(unit.quants[k].as_ptr().cast());
                    for t in 0..T {
                        let bytes = (&raw const (*x[t]).high).cast::<i32>().add(k).read_unaligned();
                        dots[t] = _mm512_dpbusd_epi32(dots[t], weights, _mm512_set1_epi32(bytes));
                    }
                }
                for dot in &mut dots {
                    *dot = _mm512_slli_epi32::<8>(*dot);
                }
                for k in groups {
                    let weights = _mm512_load_si512(unit.quants[k].as_ptr().cast());
                    for t in 0..T {
                        let bytes = (&raw const (*x[t]).low).cast::<i32>().add(k).read_unaligned();
                        dots[t] = _mm512_dpbusd_epi32(dots[t], weights, _mm512_set1_epi32(bytes));
                    }
                }
                let scale = _mm512_load_ps(unit.scales[half].as_ptr());
                let offset = _mm512_load_ps(unit.offsets[half].as_ptr());
                for t in 0..T {
                    let factor = _mm512_mul_ps(scale, _mm512_set1_ps((*x[t]).scale));
                    let sum = if HALVES { (*x[t]).half_sums[half] } else { (*x[t]).sum };
                    sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), factor, sums[t]);
                    sums[t] = _mm512_fmadd_ps(offset, _mm512_set1_ps(sum), sums[t]);
                }
            }
        }
    }
    for (t, sum) in sums.into_iter().enumerate() {
        // SAFETY: row `t` of the results has as many numbers as the mask has bits.
        unsafe { _mm512_mask_storeu_ps(tile.y.add(t * tile.y_stride), mask, sum) };
    }
}
