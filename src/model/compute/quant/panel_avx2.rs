//! Unpacking with AVX2, for all formats.
//!
//! Eight rows at a time: each gives a register of 32 quants, or of the eight factors of a block, and the eight registers
//! are transposed as 32-bit words.
#![allow(unsafe_code)]

use super::format::BlockFormat;
use super::panel::{PanelUnit, PANEL_ROWS};
use std::arch::x86_64::*;

const SIDE: usize = PANEL_ROWS / 2;

/// See [`super::panel::Panel::fill`], which has checked the lengths and that the CPU has AVX2, FMA and F16C.
pub fn fill(units: &mut [PanelUnit], format: BlockFormat, rows: &[u8], row_bytes: usize, first: usize) {
    let start = first / format.block_units() * format.block_bytes();
    let last = rows.len() / row_bytes - 1;
    for side in 0..2 {
        // A row that is not there is the last one again.
        let row = |index: usize| rows[(SIDE * side + index).min(last) * row_bytes + start..].as_ptr();
        let pointers: [*const u8; SIDE] = std::array::from_fn(row);
        // The next panel lies behind this one; see `panel_avx512`.
        let ahead = rows.as_ptr().wrapping_add((PANEL_ROWS + SIDE * side) * row_bytes + SIDE * start);
        // SAFETY: the caller found the instructions. Every row has as many whole blocks from its pointer on as the units
        // need.
        unsafe {
            match format {
                BlockFormat::Q4_0 => fill_simple::<Q4_0>(units, pointers, ahead, side),
                BlockFormat::Q4_1 => fill_simple::<Q4_1>(units, pointers, ahead, side),
                BlockFormat::Q5_0 => fill_simple::<Q5_0>(units, pointers, ahead, side),
                BlockFormat::Q5_1 => fill_simple::<Q5_1>(units, pointers, ahead, side),
                BlockFormat::Q8_0 => fill_simple::<Q8_0>(units, pointers, ahead, side),
                BlockFormat::Q2_K => fill_super::<Q2K>(units, pointers, ahead, side),
                BlockFormat::Q3_K => fill_super::<Q3K>(units, pointers, ahead, side),
                BlockFormat::Q4_K => fill_super::<Q4K>(units, pointers, ahead, side),
                BlockFormat::Q5_K => fill_super::<Q5K>(units, pointers, ahead, side),
                BlockFormat::Q6_K => fill_super::<Q6K>(units, pointers, ahead, side),
            }
        }
    }
}

/// A format with blocks of one unit.
trait Simple {
    const BYTES: usize;
    /// What is subtracted from `q`; `None` if the block has an offset of its own behind its scale.
    const ZERO: Option<f32>;
    /// # Safety
    /// AVX2; `block` is a whole block.
    unsafe fn quants(block: *const u8) -> __m256i;
}

/// A format with blocks of eight units.
trait Super {
    const BYTES: usize;
    /// What is subtracted from `q`; `None` if there are offsets.
    const ZERO: Option<f32>;
    const HALVES: bool;
    /// # Safety
    /// AVX2; `block` is a whole block, `unit` below 8.
    unsafe fn quants(block: *const u8, unit: usize) -> __m256i;
    /// Scales and offsets by unit, or by half: those of half 0 and 1 of unit 0, of unit 1 and so on.
    /// # Safety
    /// AVX2 and F16C; `block` is a whole block.
    unsafe fn factors(block: *const u8) -> ([__m256; 2], [__m256; 2]);
}

/// # Safety
/// AVX2, FMA and F16C; each row has `units.len()` blocks.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill_simple<F: Simple>(units: &mut [PanelUnit], rows: [*const u8; SIDE], ahead: *const u8, side: usize) {
    for (index, unit) in units.iter_mut().enumerate() {
        prefetch(ahead.wrapping_add(index * SIDE * F::BYTES), SIDE * F::BYTES);
        let mut quants = [_mm256_setzero_si256(); SIDE];
        let (mut scales, mut offsets) = ([0_u16; SIDE], [0_u16; SIDE]);
        for row in 0..SIDE {
            // SAFETY: the block is inside the row, and not shorter than four bytes.
            unsafe {
                let block = rows[row].add(index * F::BYTES);
                quants[row] = F::quants(block);
                let header = block.cast::<u32>().read_unaligned();
                (scales[row], offsets[row]) = (header as u16, (header >> 16) as u16);
            }
        }
        // SAFETY: arrays of eight numbers; a side of an aligned array of 16 is aligned to 32 bytes.
        unsafe {
            store_quants(unit, quants, side);
            let scale = _mm256_cvtph_ps(_mm_loadu_si128(scales.as_ptr().cast()));
            let offset = match F::ZERO {
                Some(zero) => _mm256_mul_ps(scale, _mm256_set1_ps(-zero)),
                None => _mm256_cvtph_ps(_mm_loadu_si128(offsets.as_ptr().cast())),
            };
            _mm256_store_ps(unit.scales[0].as_mut_ptr().add(SIDE * side), scale);
            _mm256_store_ps(unit.offsets[0].as_mut_ptr().add(SIDE * side), offset);
        }
    }
}

/// # Safety
/// AVX2, FMA and F16C; each row has `units.len() / 8` blocks.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill_super<F: Super>(units: &mut [PanelUnit], rows: [*const u8; SIDE], ahead: *const u8, side: usize) {
    for (index, units) in units.chunks_exact_mut(8).enumerate() {
        prefetch(ahead.wrapping_add(index * SIDE * F::BYTES), SIDE * F::BYTES);
        let (mut scales, mut offsets) = ([[_mm256_setzero_ps(); SIDE]; 2], [[_mm256_setzero_ps(); SIDE]; 2]);
        for row in 0..SIDE {
            // SAFETY: the block is inside the row.
            let (scale, offset) = unsafe { F::factors(rows[row].add(index * F::BYTES)) };
            for part in 0..2 {
                (scales[part][row], offsets[part][row]) = (scale[part], offset[part]);
            }
        }
        for part in 0..if F::HALVES { 2 } else { 1 } {
            let scales = transpose(scales[part].map(|scales| _mm256_castps_si256(scales)));
            let offsets = transpose(offsets[part].map(|offsets| _mm256_castps_si256(offsets)));
            for at in 0..8 {
                let (unit, half) = if F::HALVES { (4 * part + at / 2, at % 2) } else { (at, 0) };
                let scale = _mm256_castsi256_ps(scales[at]);
                let offset = match F::ZERO {
                    Some(zero) => _mm256_mul_ps(scale, _mm256_set1_ps(-zero)),
                    None => _mm256_castsi256_ps(offsets[at]),
                };
                // SAFETY: a side of an aligned array of 16 numbers is aligned to 32 bytes.
                unsafe {
                    _mm256_store_ps(units[unit].scales[half].as_mut_ptr().add(SIDE * side), scale);
                    _mm256_store_ps(units[unit].offsets[half].as_mut_ptr().add(SIDE * side), offset);
                }
            }
        }
        for (number, unit) in units.iter_mut().enumerate() {
            let mut quants = [_mm256_setzero_si256(); SIDE];
            for row in 0..SIDE {
                // SAFETY: the block is inside the row.
                quants[row] = unsafe { F::quants(rows[row].add(index * F::BYTES), number) };
            }
            // SAFETY: AVX2.
            unsafe { store_quants(unit, quants, side) };
        }
    }
}

/// Asks the memory for `bytes` bytes from `at` on. Asking for what is not there does nothing.
#[inline(always)]
fn prefetch(at: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        // SAFETY: every x86-64 CPU has the instruction, and it does not access memory.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(line).cast()) };
    }
}

/// # Safety
/// AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_quants(unit: &mut PanelUnit, quants: [__m256i; SIDE], side: usize) {
    for (out, four) in unit.quants.iter_mut().zip(transpose(quants)) {
        // SAFETY: a side of 64 aligned bytes is aligned to 32 bytes.
        unsafe { _mm256_store_si256(out.as_mut_ptr().add(32 * side).cast(), four) };
    }
}

/// Word `i` of register `j` becomes word `j` of register `i`.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    // Pairs of rows by word, then fours of rows by word; a register has two words, one in each lane.
    let pairs = |a, b, c, d| {
        let (ab_low, cd_low) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab_low, cd_low),
            _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    };
    let ([a, b, c, d], [e, f, g, h]) = (pairs(a, b, c, d), pairs(e, f, g, h));
    [
        _mm256_permute2x128_si256::<0x20>(a, e),
        _mm256_permute2x128_si256::<0x20>(b, f),
        _mm256_permute2x128_si256::<0x20>(c, g),
        _mm256_permute2x128_si256::<0x20>(d, h),
        _mm256_permute2x128_si256::<0x31>(a, e),
        _mm256_permute2x128_si256::<0x31>(b, f),
        _mm256_permute2x128_si256::<0x31>(c, g),
        _mm256_permute2x128_si256::<0x31>(d, h),
    ]
}

/// 16 bytes of nibbles: the low ones, then the high ones.
///
/// # Safety
/// AVX2; 16 bytes.
#[inline(always)]
unsafe fn nibbles(at: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let bytes = _mm_loadu_si128(at.cast());
        _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes), _mm256_set1_epi8(15))
    }
}

/// Bit `i` of four bytes as 16 or 0 in byte `i`.
///
/// # Safety
/// AVX2; four bytes.
#[inline(always)]
unsafe fn fifth_bits(at: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let spread = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
        let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(at.cast::<i32>().read_unaligned()), spread);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit), _mm256_set1_epi8(16))
    }
}

/// 32 bytes, each shifted right by `count` and reduced to the bits of `mask`.
///
/// # Safety
/// AVX2; 32 bytes.
#[inline(always)]
unsafe fn field(at: *const u8, count: usize, mask: i8) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let shifted = _mm256_srl_epi16(_mm256_loadu_si256(at.cast()), _mm_cvtsi32_si128(count as i32));
        _mm256_and_si256(shifted, _mm256_set1_epi8(mask))
    }
}

/// # Safety
/// F16C; two bytes.
#[inline(always)]
unsafe fn half(at: *const u8) -> __m256 {
    // SAFETY: the caller's.
    unsafe { _mm256_cvtph_ps(_mm_set1_epi16(at.cast::<i16>().read_unaligned())) }
}

/// 16 bytes with a sign as floats.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn signed(bytes: __m128i) -> [__m256; 2] {
    // SAFETY: the caller's.
    unsafe {
        let words = [_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))];
        [_mm256_cvtepi32_ps(words[0]), _mm256_cvtepi32_ps(words[1])]
    }
}

/// # Safety
/// AVX.
#[inline(always)]
unsafe fn times(factor: __m256, numbers: [__m256; 2]) -> [__m256; 2] {
    // SAFETY: the caller's.
    unsafe { [_mm256_mul_ps(factor, numbers[0]), _mm256_mul_ps(factor, numbers[1])] }
}

macro_rules! simple {
    ($name:ident, $bytes:literal, $zero:expr, |$block:ident| $quants:expr) => {
        #[allow(non_camel_case_types)]
        struct $name;
        impl Simple for $name {
            const BYTES: usize = $bytes;
            const ZERO: Option<f32> = $zero;
            #[inline(always)]
            unsafe fn quants($block: *const u8) -> __m256i {
                // SAFETY: the caller's; the block has that many bytes.
                unsafe { $quants }
            }
        }
    };
}

simple!(Q4_0, 18, Some(8.0), |block| nibbles(block.add(2)));
simple!(Q4_1, 20, None, |block| nibbles(block.add(4)));
simple!(Q5_0, 22, Some(16.0), |block| _mm256_or_si256(nibbles(block.add(6)), fifth_bits(block.add(2))));
simple!(Q5_1, 24, None, |block| _mm256_or_si256(nibbles(block.add(8)), fifth_bits(block.add(4))));
simple!(Q8_0, 34, Some(128.0), |block| {
    _mm256_xor_si256(_mm256_loadu_si256(block.add(2).cast()), _mm256_set1_epi8(-128))
});

macro_rules! super_block {
    ($name:ident, $bytes:literal, $zero:expr, $halves:literal, |$block:ident, $unit:ident| $quants:expr, $factors:expr) => {
        struct $name;
        impl Super for $name {
            const BYTES: usize = $bytes;
            const ZERO: Option<f32> = $zero;
            const HALVES: bool = $halves;
            #[inline(always)]
            unsafe fn quants($block: *const u8, $unit: usize) -> __m256i {
                // SAFETY: the caller's; the block has that many bytes.
                unsafe { $quants }
            }
            #[inline(always)]
            unsafe fn factors($block: *const u8) -> ([__m256; 2], [__m256; 2]) {
                // SAFETY: the caller's; the block has that many bytes.
                unsafe { $factors }
            }
        }
    };
}

super_block!(Q2K, 84, None, true, |block, unit| field(block.add(16 + 32 * (unit / 4)), 2 * (unit % 4), 3), {
    let pairs = _mm_loadu_si128(block.cast());
    let low = _mm_set1_epi8(15);
    let (scales, minima) = (_mm_and_si128(pairs, low), _mm_and_si128(_mm_srli_epi16::<4>(pairs), low));
    let negative = _mm256_sub_ps(_mm256_setzero_ps(), half(block.add(82)));
    (times(half(block.add(80)), signed(scales)), times(negative, signed(minima)))
});
super_block!(
    Q3K,
    110,
    Some(4.0),
    true,
    |block, unit| {
        let low = field(block.add(32 + 32 * (unit / 4)), 2 * (unit % 4), 3);
        _mm256_or_si256(low, _mm256_slli_epi16::<2>(field(block, unit, 1)))
    },
    {
        let word = |at: usize| block.add(96 + at).cast::<u32>().read_unaligned();
        let (a, b, high) = (word(0), word(4), word(8));
        let put = |low: u32, shift: u32| (low & 0x0f0f_0f0f | (high >> shift & 0x0303_0303) << 4) as i32;
        let bytes = _mm_set_epi32(put(b >> 4, 6), put(a >> 4, 4), put(b, 2), put(a, 0));
        let scales = times(half(block.add(108)), signed(_mm_sub_epi8(bytes, _mm_set1_epi8(32))));
        (scales, scales)
    }
);
super_block!(
    Q4K,
    144,
    None,
    false,
    |block, unit| field(block.add(16 + 32 * (unit / 2)), 4 * (unit % 2), 15),
    six_bits(block)
);
super_block!(
    Q5K,
    176,
    None,
    false,
    |block, unit| {
        let low = field(block.add(48 + 32 * (unit / 2)), 4 * (unit % 2), 15);
        _mm256_or_si256(low, _mm256_slli_epi16::<4>(field(block.add(16), unit, 1)))
    },
    six_bits(block)
);
super_block!(
    Q6K,
    210,
    Some(32.0),
    true,
    |block, unit| {
        let (half, quarter) = (unit / 4, unit % 4);
        let low = field(block.add(64 * half + 32 * (quarter % 2)), 4 * (quarter / 2), 15);
        _mm256_or_si256(low, _mm256_slli_epi16::<4>(field(block.add(128 + 32 * half), 2 * quarter, 3)))
    },
    {
        let scales = times(half(block.add(208)), signed(_mm_loadu_si128(block.add(192).cast())));
        (scales, scales)
    }
);

/// Scales and minima of Q4_K and Q5_K: eight of each in 12 bytes behind `d` and `dmin`.
///
/// # Safety
/// AVX2 and F16C; 16 bytes.
#[inline(always)]
unsafe fn six_bits(block: *const u8) -> ([__m256; 2], [__m256; 2]) {
    // SAFETY: the caller's.
    unsafe {
        let word = |at: usize| block.add(4 + at).cast::<u32>().read_unaligned();
        let (a, b, c) = (word(0), word(4), word(8));
        let low = 0x3f3f_3f3f;
        let scales = [a & low, c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4];
        let minima = [b & low, c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4];
        let floats = |words: [u32; 2]| {
            let bytes = _mm_set_epi32(0, 0, words[1] as i32, words[0] as i32);
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
        };
        let negative = _mm256_sub_ps(_mm256_setzero_ps(), half(block.add(2)));
        let none = _mm256_setzero_ps();
        ([_mm256_mul_ps(half(block), floats(scales)), none], [_mm256_mul_ps(negative, floats(minima)), none])
    }
}
