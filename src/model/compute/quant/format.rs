//! Block formats of ggml, little endian, as they lie in a GGUF file.
//!
//! All formats are seen as units of 32 consecutive weights of a row: a weight is `scale * q + offset` with a small
//! unsigned `q`. In the formats with blocks of 16 the two halves of a unit have scales and offsets of their own.
//!
//! | format | units | bytes | layout | weight |
//! |---|---|---|---|---|
//! | Q4_0 | 1 | 18 | `d`, 16 × nibbles | `d (q - 8)` |
//! | Q4_1 | 1 | 20 | `d`, `m`, 16 × nibbles | `d q + m` |
//! | Q5_0 | 1 | 22 | `d`, 32 fifth bits, 16 × nibbles | `d (q - 16)` |
//! | Q5_1 | 1 | 24 | `d`, `m`, 32 fifth bits, 16 × nibbles | `d q + m` |
//! | Q8_0 | 1 | 34 | `d`, 32 × `i8` | `d (q - 128)` with `q` = byte + 128 |
//! | Q2_K | 8 | 84 | 16 × (scale, min), 64 × 4 pairs of bits, `d`, `dmin` | `d s q - dmin m` |
//! | Q3_K | 8 | 110 | 32 × 8 third bits, 64 × 4 pairs of bits, 16 scales of 6 bits, `d` | `d (s - 32) (q - 4)` |
//! | Q4_K | 8 | 144 | `d`, `dmin`, 8 × (scale, min) of 6 bits, 128 × nibbles | `d s q - dmin m` |
//! | Q5_K | 8 | 176 | `d`, `dmin`, 8 × (scale, min) of 6 bits, 32 × 8 fifth bits, 128 × nibbles | `d s q - dmin m` |
//! | Q6_K | 8 | 210 | 128 × nibbles, 64 × 4 pairs of bits, 16 × `i8` scales, `d` | `d s (q - 32)` |
//!
//! `d`, `m` and `dmin` are f16.

/// Weights per unit.
pub const UNIT: usize = 32;

/// A block format.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// 32 weights: weight `i` is `scales[i / 16] * q[i] + offsets[i / 16]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unit {
    pub q: [u8; UNIT],
    pub scales: [f32; 2],
    pub offsets: [f32; 2],
}

impl BlockFormat {
    pub const ALL: [Self; 10] = [
        BlockFormat::Q4_0,
        BlockFormat::Q4_1,
        BlockFormat::Q5_0,
        BlockFormat::Q5_1,
        BlockFormat::Q8_0,
        BlockFormat::Q2_K,
        BlockFormat::Q3_K,
        BlockFormat::Q4_K,
        BlockFormat::Q5_K,
        BlockFormat::Q6_K,
    ];

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockFormat::Q4_0 => 18,
            BlockFormat::Q4_1 => 20,
            BlockFormat::Q5_0 => 22,
            BlockFormat::Q5_1 => 24,
            BlockFormat::Q8_0 => 34,
            BlockFormat::Q2_K => 84,
            BlockFormat::Q3_K => 110,
            BlockFormat::Q4_K => 144,
            BlockFormat::Q5_K => 176,
            BlockFormat::Q6_K => 210,
        }
    }

    /// Units per block.
    pub const fn block_units(self) -> usize {
        match self {
            BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q8_0 => 1,
            _ => 8,
        }
    }

    /// Bytes of a row of `columns` weights, which are whole blocks.
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns / UNIT / self.block_units() * self.block_bytes()
    }

    /// Whether the halves of a unit have scales of their own.
    pub const fn halves(self) -> bool {
        matches!(self, BlockFormat::Q2_K | BlockFormat::Q3_K | BlockFormat::Q6_K)
    }

    /// The largest `q`.
    pub const fn largest(self) -> u8 {
        match self {
            BlockFormat::Q2_K => 3,
            BlockFormat::Q3_K => 7,
            BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q4_K => 15,
            BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q5_K => 31,
            BlockFormat::Q6_K => 63,
            BlockFormat::Q8_0 => 255,
        }
    }

    /// Unit `index` of a row.
    pub fn unit(self, row: &[u8], index: usize) -> Unit {
        let (block, unit) = (index / self.block_units(), index % self.block_units());
        let block = &row[block * self.block_bytes()..][..self.block_bytes()];
        let (scales, offsets) = self.factors(block, unit);
        Unit { q: self.quants(block, unit), scales, offsets }
    }

    /// `q` of every weight of a unit.
    fn quants(self, block: &[u8], unit: usize) -> [u8; UNIT] {
        // The K formats keep 128 weights together; `quarter` of them is the unit.
        let (half, quarter) = (unit / 4, unit % 4);
        let nibble = |bytes: &[u8], i: usize| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 };
        let bit = |bytes: &[u8], i: usize| bytes[i / 8] >> (i % 8) & 1;
        std::array::from_fn(|i| match self {
            BlockFormat::Q4_0 => nibble(&block[2..], i),
            BlockFormat::Q4_1 => nibble(&block[4..], i),
            BlockFormat::Q5_0 => nibble(&block[6..], i) | bit(&block[2..6], i) << 4,
            BlockFormat::Q5_1 => nibble(&block[8..], i) | bit(&block[4..8], i) << 4,
            BlockFormat::Q8_0 => block[2 + i] ^ 0x80,
            BlockFormat::Q2_K => block[16 + 32 * half + i] >> (2 * quarter) & 3,
            BlockFormat::Q3_K => block[32 + 32 * half + i] >> (2 * quarter) & 3 | (block[i] >> unit & 1) << 2,
            BlockFormat::Q4_K => block[16 + 32 * (unit / 2) + i] >> (4 * (unit % 2)) & 15,
            BlockFormat::Q5_K => {
                block[48 + 32 * (unit / 2) + i] >> (4 * (unit % 2)) & 15 | (block[16 + i] >> unit & 1) << 4
            }
            BlockFormat::Q6_K => {
                let low = block[64 * half + 32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 15;
                low | (block[128 + 32 * half + i] >> (2 * quarter) & 3) << 4
            }
        })
    }

    /// Scales and offsets of the halves of a unit.
    pub fn factors(self, block: &[u8], unit: usize) -> ([f32; 2], [f32; 2]) {
        let both = |scale: f32, offset: f32| ([scale; 2], [offset; 2]);
        match self {
            BlockFormat::Q4_0 => both(half_at(block, 0), -8.0 * half_at(block, 0)),
            BlockFormat::Q5_0 => both(half_at(block, 0), -16.0 * half_at(block, 0)),
            BlockFormat::Q8_0 => both(half_at(block, 0), -128.0 * half_at(block, 0)),
            BlockFormat::Q4_1 | BlockFormat::Q5_1 => both(half_at(block, 0), half_at(block, 2)),
            BlockFormat::Q2_K => {
                let (d, minimum) = (half_at(block, 80), half_at(block, 82));
                let pair = &block[2 * unit..2 * unit + 2];
                let of = |half: usize| (d * f32::from(pair[half] & 15), -minimum * f32::from(pair[half] >> 4));
                ([of(0).0, of(1).0], [of(0).1, of(1).1])
            }
            BlockFormat::Q3_K => {
                let d = half_at(block, 108);
                let scales = [2 * unit, 2 * unit + 1].map(|at| d * f32::from(q3_scale(&block[96..108], at)));
                (scales, scales.map(|scale| -4.0 * scale))
            }
            BlockFormat::Q4_K | BlockFormat::Q5_K => {
                let (scale, minimum) = q4_scale(&block[4..16], unit);
                both(half_at(block, 0) * f32::from(scale), -half_at(block, 2) * f32::from(minimum))
            }
            BlockFormat::Q6_K => {
                let d = half_at(block, 208);
                let scales = [2 * unit, 2 * unit + 1].map(|at| d * f32::from(block[192 + at] as i8));
                (scales, scales.map(|scale| -32.0 * scale))
            }
        }
    }

    /// Expands a whole row to f32.
    pub fn expand(self, row: &[u8], out: &mut [f32]) {
        assert_eq!(row.len(), self.row_bytes(out.len()), "result does not have the length of the row");
        for (index, out) in out.chunks_exact_mut(UNIT).enumerate() {
            let Unit { q, scales, offsets } = self.unit(row, index);
            for (i, (out, q)) in out.iter_mut().zip(q).enumerate() {
                *out = scales[i / 16] * f32::from(q) + offsets[i / 16];
            }
        }
    }
}

/// The 6-bit scale of 16 weights of Q3_K: low nibbles in the first 8 bytes, high bits in the last 4.
fn q3_scale(scales: &[u8], at: usize) -> i8 {
    let low = if at < 8 { scales[at] & 15 } else { scales[at - 8] >> 4 };
    let high = scales[8 + at % 4] >> (2 * (at / 4)) & 3;
    (low | high << 4) as i8 - 32
}

/// The 6-bit scale and minimum of 32 weights of Q4_K and Q5_K: the first four are bytes' low bits, the others are put
/// together from nibbles of the last four bytes and the high bits of the first eight.
fn q4_scale(scales: &[u8], at: usize) -> (u8, u8) {
    if at < 4 {
        (scales[at] & 63, scales[at + 4] & 63)
    } else {
        (scales[at + 4] & 15 | scales[at - 4] >> 6 << 4, scales[at + 4] >> 4 | scales[at] >> 6 << 4)
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// [`f16::to_f32`] without its call per number: shifts the fields into place and lets a multiplication by 2^112
/// re-bias the exponent, which is exact for subnormal numbers too. Infinities and NaN keep their meaning.
#[inline(always)]
pub fn half_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let magnitude = if bits & 0x7c00 == 0x7c00 { magnitude.to_bits() | 0x7f80_0000 } else { magnitude.to_bits() };
    f32::from_bits(magnitude | sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn half_conversion_equals_reference_for_every_bit_pattern() {
        for bits in 0..=u16::MAX {
            let (got, want) = (half_to_f32(bits), f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{bits:#06x}: {got} != {want}");
        }
    }

    #[test]
    fn units_follow_the_definition() {
        let mut block = vec![0_u8; 20];
        block[0..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[2..4].copy_from_slice(&f16::from_f32(-2.0).to_le_bytes());
        block[4] = 0x3f;
        block[19] = 0xa0;
        let mut out = [0.0; 32];
        BlockFormat::Q4_1.expand(&block, &mut out);
        assert_eq!((out[0], out[16], out[15], out[31], out[1]), (5.5, -0.5, -2.0, 3.0, -2.0));
        let mut block = block[..2].to_vec();
        block.extend([0x3f; 16]);
        BlockFormat::Q4_0.expand(&block, &mut out);
        assert_eq!((out[0], out[16]), (3.5, -2.5));
        block.truncate(2);
        block.extend([0x80; 32]);
        BlockFormat::Q8_0.expand(&block, &mut out);
        assert_eq!(out, [-64.0; 32]);
    }
}
