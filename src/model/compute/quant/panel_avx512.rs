//! Unpacking with AVX-512, for the formats of the smallest models.
//!
//! The nibbles of 16 rows are transposed as they are, four bytes at a time, and split into low and high ones after that:
//! half as much to move.
#![allow(unsafe_code)]

use super::format::BlockFormat;
use super::panel::{PanelUnit, PANEL_ROWS};
use std::arch::x86_64::*;

/// See [`super::panel::Panel::fill`], which has checked the lengths; `false` for a format that has no kernel here.
pub fn fill(units: &mut [PanelUnit], format: BlockFormat, rows: &[u8], row_bytes: usize, first: usize) -> bool {
    // SAFETY: the caller found AVX-512. Every row has the blocks `first..first + units.len()`.
    unsafe {
        match format {
            BlockFormat::Q4_0 => fill_blocks::<0>(units, rows, row_bytes, first),
            BlockFormat::Q4_1 => fill_blocks::<1>(units, rows, row_bytes, first),
            BlockFormat::Q8_0 => fill_blocks::<2>(units, rows, row_bytes, first),
            _ => return false,
        }
    }
    true
}

/// `F`: 0 is Q4_0, 1 is Q4_1, 2 is Q8_0.
///
/// # Safety
/// AVX-512 F and BW; 1 to 16 rows, each with the blocks `first..first + units.len()`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn fill_blocks<const F: u8>(units: &mut [PanelUnit], rows: &[u8], row_bytes: usize, first: usize) {
    let block_bytes = [18, 20, 34][F as usize];
    // A row that is not there is the last one again.
    let last = rows.len() / row_bytes - 1;
    let mut offsets = [0_i32; PANEL_ROWS];
    for (row, offset) in offsets.iter_mut().enumerate() {
        *offset = (row.min(last) * row_bytes) as i32;
    }
    // SAFETY: the array has 16 numbers.
    let gather = unsafe { _mm512_loadu_si512(offsets.as_ptr().cast()) };
    let low_nibbles = _mm512_set1_epi8(15);
    // Sixteen rows are sixteen streams, too many for the processor to foresee. The next panel lies behind this one, so a
    // part of it is asked for with each unit. (Asking for what is not there does nothing.)
    let step = PANEL_ROWS * block_bytes;
    let ahead = rows.as_ptr().wrapping_add(PANEL_ROWS * row_bytes);
    for (index, unit) in units.iter_mut().enumerate() {
        for line in (0..step).step_by(64) {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add((first + index) * step + line).cast());
        }
        // SAFETY: the block is inside each row; its first four bytes are gathered, and below, 16 bytes at `at` are read.
        unsafe {
            let block = rows.as_ptr().add((first + index) * block_bytes);
            let header = _mm512_i32gather_epi32::<1>(gather, block.cast());
            let d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(header));
            let offset = match F {
                0 => _mm512_mul_ps(d, _mm512_set1_ps(-8.0)),
                1 => _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(header))),
                _ => _mm512_mul_ps(d, _mm512_set1_ps(-128.0)),
            };
            _mm512_store_ps(unit.scales[0].as_mut_ptr(), d);
            _mm512_store_ps(unit.offsets[0].as_mut_ptr(), offset);
            let quants = unit.quants.as_mut_ptr().cast::<__m512i>();
            if F == 2 {
                let flip = _mm512_set1_epi8(-128);
                for half in 0..2 {
                    let four = transpose(block.add(2 + 16 * half), &offsets);
                    for (k, bytes) in four.into_iter().enumerate() {
                        _mm512_store_si512(quants.add(4 * half + k), _mm512_xor_si512(bytes, flip));
                    }
                }
            } else {
                let four = transpose(block.add(block_bytes - 16), &offsets);
                for (k, bytes) in four.into_iter().enumerate() {
                    _mm512_store_si512(quants.add(k), _mm512_and_si512(bytes, low_nibbles));
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low_nibbles);
                    _mm512_store_si512(quants.add(4 + k), high);
                }
            }
        }
    }
}

/// 16 bytes from `at` of each row, as four registers: register `k` has bytes `4 k..4 k + 4` of row `r` in lane `r`.
///
/// # Safety
/// AVX-512 F; `at` plus each offset is followed by 16 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn transpose(at: *const u8, offsets: &[i32; PANEL_ROWS]) -> [__m512i; 4] {
    let mut columns = [_mm512_setzero_si512(); 4];
    for (j, column) in columns.iter_mut().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let row = |row: usize| _mm_loadu_si128(at.offset(offsets[row] as isize).cast());
            let two = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(row(j)), row(4 + j));
            *column = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(two, row(8 + j)), row(12 + j));
        }
    }
    let [a, b, c, d] = columns;
    let (ab_low, cd_low) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}
