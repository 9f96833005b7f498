//! Quantised weights: rows of ggml blocks, used as they lie in a GGUF file.
//!
//! A block holds 32 consecutive weights of a row (ggml's `block_q4_0`, `block_q4_1`, `block_q8_0`; little endian):
//!
//! | format | bytes | layout | weight |
//! |---|---|---|---|
//! | Q4_0 | 18 | `d: f16`, 16 bytes of nibbles | `d * (q - 8)` |
//! | Q4_1 | 20 | `d: f16`, `m: f16`, 16 bytes of nibbles | `d * q + m` |
//! | Q8_0 | 34 | `d: f16`, 32 × `i8` | `d * q` |
//!
//! The low nibbles of the 16 bytes are weights 0 to 15, the high nibbles are weights 16 to 31.
//!
//! For a product with one vector (decode), the vector is quantised once to 8 bits ([`QuantizedVector`]) and multiplied
//! in integers ([`dot_rows`]); for many vectors (prefill), the weights are expanded to f32 ([`dequantize`]) and go
//! through [`super::gemm`]. The functions here pick the kernel for the CPU at run time; those in [`scalar`] are the
//! definition that every other kernel is tested against.

use half::f16;

/// Weights per block.
pub const BLOCK_LEN: usize = 32;

/// The formats that have kernels. Everything else is converted to `Q8_0` when a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q8_0,
}

impl BlockFormat {
    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockFormat::Q4_0 => 18,
            BlockFormat::Q4_1 => 20,
            BlockFormat::Q8_0 => 34,
        }
    }

    /// Bytes of a row of `columns` weights, a multiple of [`BLOCK_LEN`].
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns / BLOCK_LEN * self.block_bytes()
    }
}

/// A vector in blocks of 32 signed bytes, each with its scale.
#[derive(Clone, Debug, Default)]
pub struct QuantizedVector {
    pub(super) values: Vec<i8>,
    /// Per block: the scale, and the scale times the sum of the block's values. The second meets the constant part of
    /// a weight (`m`, or `-8 d`), so kernels multiply both with one instruction.
    pub(super) scales: Vec<[f32; 2]>,
}

impl QuantizedVector {
    /// Replaces the contents by `vector`, whose length is a multiple of [`BLOCK_LEN`].
    pub fn quantize(&mut self, vector: &[f32]) {
        assert_eq!(vector.len() % BLOCK_LEN, 0, "vector does not consist of whole blocks");
        self.values.resize(vector.len(), 0);
        self.scales.resize(vector.len() / BLOCK_LEN, [0.0; 2]);
        let blocks = vector.chunks_exact(BLOCK_LEN).zip(self.values.chunks_exact_mut(BLOCK_LEN));
        for ((block, values), scales) in blocks.zip(&mut self.scales) {
            let scale = quantize_block(block, values);
            let sum: i32 = values.iter().map(|&value| i32::from(value)).sum();
            *scales = [scale, scale * sum as f32];
        }
    }

    /// Takes the multiples that [`QuantizedVector::quantize`] rounded to from `vector`, which leaves the rounding error.
    pub fn subtract_from(&self, vector: &mut [f32]) {
        assert_eq!(vector.len(), self.len(), "vectors differ in length");
        let blocks = vector.chunks_exact_mut(BLOCK_LEN).zip(self.values.chunks_exact(BLOCK_LEN));
        for ((block, values), [scale, _]) in blocks.zip(&self.scales) {
            for (number, &value) in block.iter_mut().zip(values) {
                *number -= scale * f32::from(value);
            }
        }
    }

    /// Elements of the vector.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Rounds a block to multiples of its largest magnitude / 127 and returns that step.
fn quantize_block(block: &[f32], values: &mut [i8]) -> f32 {
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (value, &number) in values.iter_mut().zip(block) {
        // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in the instructions of every CPU; the cast
        // saturates and turns NaN into 0.
        *value = (number * inverse + 12_582_912.0 - 12_582_912.0) as i8;
    }
    scale
}

/// Appends `row` to `out` as Q8_0 blocks. Its length must be a multiple of [`BLOCK_LEN`].
pub fn quantize_q8_0(row: &[f32], out: &mut Vec<u8>) {
    assert_eq!(row.len() % BLOCK_LEN, 0, "row does not consist of whole blocks");
    let mut values = [0_i8; BLOCK_LEN];
    for block in row.chunks_exact(BLOCK_LEN) {
        let scale = quantize_block(block, &mut values);
        out.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        out.extend(values.iter().map(|&value| value as u8));
    }
}

/// `y[i]` = row `i` of `rows` times `x`, for `y.len()` rows that follow each other without gaps.
pub fn dot_rows(format: BlockFormat, rows: &[u8], x: &QuantizedVector, y: &mut [f32]) {
    assert_eq!(rows.len(), format.row_bytes(x.len()) * y.len(), "weights are not one row per result");
    #[cfg(target_arch = "x86_64")]
    if super::quant_x86::dot_rows(format, rows, x, y) {
        return;
    }
    scalar::dot_rows(format, rows, x, y);
}

/// Expands whole blocks to f32; `out` has [`BLOCK_LEN`] elements for each.
pub fn dequantize(format: BlockFormat, blocks: &[u8], out: &mut [f32]) {
    assert_eq!(blocks.len(), format.row_bytes(out.len()), "result does not have the length of the weights");
    assert_eq!(out.len() % BLOCK_LEN, 0, "result does not consist of whole blocks");
    #[cfg(target_arch = "x86_64")]
    if super::quant_x86::dequantize(format, blocks, out) {
        return;
    }
    scalar::dequantize(format, blocks, out);
}

/// Portable kernels, and the definition of the others.
pub mod scalar {
    use super::{BlockFormat, QuantizedVector, BLOCK_LEN};

    /// See [`super::dot_rows`].
    pub fn dot_rows(format: BlockFormat, rows: &[u8], x: &QuantizedVector, y: &mut [f32]) {
        let row_bytes = format.row_bytes(x.len());
        for (row, y) in rows.chunks_exact(row_bytes.max(1)).zip(y) {
            let blocks = row.chunks_exact(format.block_bytes()).zip(x.values.chunks_exact(BLOCK_LEN));
            *y = blocks.zip(&x.scales).map(|((block, values), scales)| dot_block(format, block, values, *scales)).sum();
        }
    }

    fn dot_block(format: BlockFormat, block: &[u8], values: &[i8], [scale, scaled_sum]: [f32; 2]) -> f32 {
        let d = half_at(block, 0);
        match format {
            BlockFormat::Q4_0 => d * (nibble_dot(&block[2..], values) as f32 * scale - 8.0 * scaled_sum),
            BlockFormat::Q4_1 => d * scale * nibble_dot(&block[4..], values) as f32 + half_at(block, 2) * scaled_sum,
            BlockFormat::Q8_0 => {
                let dot: i32 = block[2..].iter().zip(values).map(|(&w, &v)| i32::from(w as i8) * i32::from(v)).sum();
                d * scale * dot as f32
            }
        }
    }

    fn nibble_dot(nibbles: &[u8], values: &[i8]) -> i32 {
        let (low, high) = values.split_at(BLOCK_LEN / 2);
        let pairs = nibbles.iter().zip(low.iter().zip(high));
        pairs.map(|(&byte, (&l, &h))| i32::from(byte & 15) * i32::from(l) + i32::from(byte >> 4) * i32::from(h)).sum()
    }

    /// See [`super::dequantize`].
    pub fn dequantize(format: BlockFormat, blocks: &[u8], out: &mut [f32]) {
        let blocks = blocks.chunks_exact(format.block_bytes()).zip(out.chunks_exact_mut(BLOCK_LEN));
        match format {
            BlockFormat::Q4_0 => blocks.for_each(|(block, out)| {
                let d = half_at(block, 0);
                expand_nibbles(&block[2..], d, -8.0 * d, out);
            }),
            BlockFormat::Q4_1 => {
                blocks.for_each(|(block, out)| expand_nibbles(&block[4..], half_at(block, 0), half_at(block, 2), out));
            }
            BlockFormat::Q8_0 => blocks.for_each(|(block, out)| {
                let d = half_at(block, 0);
                for (out, &byte) in out.iter_mut().zip(&block[2..34]) {
                    *out = d * f32::from(byte as i8);
                }
            }),
        }
    }

    fn expand_nibbles(nibbles: &[u8], scale: f32, offset: f32, out: &mut [f32]) {
        let (low, high) = out.split_at_mut(BLOCK_LEN / 2);
        for ((&byte, low), high) in nibbles[..16].iter().zip(low).zip(high) {
            *low = f32::from(byte & 15) * scale + offset;
            *high = f32::from(byte >> 4) * scale + offset;
        }
    }

    fn half_at(block: &[u8], at: usize) -> f32 {
        half_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
    }

    /// [`f16::to_f32`] without its call per number: shifts the fields into place and lets a multiplication by 2^112
    /// re-bias the exponent, which is exact for subnormal numbers too. Infinities and NaN keep their meaning.
    #[inline(always)]
    pub(crate) fn half_to_f32(bits: u16) -> f32 {
        let sign = u32::from(bits & 0x8000) << 16;
        let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        let magnitude = if bits & 0x7c00 == 0x7c00 { magnitude.to_bits() | 0x7f80_0000 } else { magnitude.to_bits() };
        f32::from_bits(magnitude | sign)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const FORMATS: [BlockFormat; 3] = [BlockFormat::Q4_0, BlockFormat::Q4_1, BlockFormat::Q8_0];

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *state >> 33
    }

    /// Blocks with every bit pattern in the weights and scales between -1 and 1.
    pub fn random_blocks(format: BlockFormat, blocks: usize, mut state: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..blocks {
            let start = bytes.len();
            bytes.extend((0..format.block_bytes()).map(|_| random(&mut state) as u8));
            for at in [0, 2].into_iter().take(if format == BlockFormat::Q4_1 { 2 } else { 1 }) {
                let scale = f16::from_f32((random(&mut state) % 2001) as f32 / 1000.0 - 1.0);
                bytes[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        bytes
    }

    pub fn random_vector(len: usize, mut state: u64) -> Vec<f32> {
        (0..len).map(|_| (random(&mut state) % 20001) as f32 / 1000.0 - 10.0).collect()
    }

    #[test]
    fn half_conversion_equals_reference_for_every_bit_pattern() {
        for bits in 0..=u16::MAX {
            let (got, want) = (scalar::half_to_f32(bits), f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{bits:#06x}: {got} != {want}");
        }
    }

    #[test]
    fn dequantized_blocks_follow_the_definition() {
        let mut block = vec![0_u8; 20];
        block[0..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[2..4].copy_from_slice(&f16::from_f32(-2.0).to_le_bytes());
        block[4] = 0x3f;
        block[19] = 0xa0;
        let mut out = [0.0; 32];
        scalar::dequantize(BlockFormat::Q4_1, &block, &mut out);
        assert_eq!((out[0], out[16], out[15], out[31], out[1]), (5.5, -0.5, -2.0, 3.0, -2.0));
        let mut block = block[..2].to_vec();
        block.extend([0x3f; 16]);
        scalar::dequantize(BlockFormat::Q4_0, &block, &mut out);
        assert_eq!((out[0], out[16]), (3.5, -2.5));
        block.truncate(2);
        block.extend([0x80; 32]);
        scalar::dequantize(BlockFormat::Q8_0, &block, &mut out);
        assert_eq!(out, [-64.0; 32]);
    }

    #[test]
    fn scalar_dot_equals_dequantized_product() {
        for format in FORMATS {
            for columns in [32, 96, 576] {
                let (x, rows) = (random_vector(columns, 9), random_blocks(format, columns / 32 * 5, 3));
                let mut quantized = QuantizedVector::default();
                quantized.quantize(&x);
                let mut weights = vec![0.0; columns * 5];
                scalar::dequantize(format, &rows, &mut weights);
                let mut y = [0.0; 5];
                scalar::dot_rows(format, &rows, &quantized, &mut y);
                for (y, weights) in y.iter().zip(weights.chunks(columns)) {
                    let want: f32 = weights.iter().zip(&x).map(|(w, x)| w * x).sum();
                    let magnitude: f32 = weights.iter().zip(&x).map(|(w, x)| (w * x).abs()).sum();
                    assert!((y - want).abs() < 0.01 * magnitude, "{format:?}, {columns} columns: {y} != {want}");
                }
            }
        }
    }

    #[test]
    fn q8_0_keeps_numbers_within_half_a_step() {
        let row = random_vector(128, 5);
        let mut bytes = Vec::new();
        quantize_q8_0(&row, &mut bytes);
        let mut back = vec![0.0; 128];
        dequantize(BlockFormat::Q8_0, &bytes, &mut back);
        for (numbers, back) in row.chunks(32).zip(back.chunks(32)) {
            let step = numbers.iter().fold(0.0_f32, |a, b| a.max(b.abs())) / 127.0;
            for (number, back) in numbers.iter().zip(back) {
                assert!((number - back).abs() <= 0.6 * step, "{number} became {back}");
            }
        }
    }

    #[test]
    fn a_second_pass_over_the_rounding_error_gives_nearly_the_exact_product() {
        let (vector, row) = (random_vector(576, 8), random_blocks(BlockFormat::Q8_0, 18, 4));
        let mut weights = vec![0.0; 576];
        dequantize(BlockFormat::Q8_0, &row, &mut weights);
        let want: f64 = weights.iter().zip(&vector).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        let (mut rest, mut quantized, mut sum) = (vector, QuantizedVector::default(), 0.0);
        let mut errors = Vec::new();
        for _ in 0..2 {
            quantized.quantize(&rest);
            quantized.subtract_from(&mut rest);
            let mut y = [0.0];
            dot_rows(BlockFormat::Q8_0, &row, &quantized, &mut y);
            sum += y[0];
            errors.push((f64::from(sum) - want).abs());
        }
        assert!(errors[1] < 0.1 * errors[0], "{errors:?}");
    }

    #[test]
    fn vectors_of_zeros_and_of_non_numbers_quantize_without_trouble() {
        let mut quantized = QuantizedVector::default();
        quantized.quantize(&[0.0; 32]);
        assert_eq!((quantized.values[0], quantized.scales[0]), (0, [0.0, 0.0]));
        quantized.quantize(&[f32::NAN; 64]);
        assert_eq!(quantized.len(), 64);
    }
}
