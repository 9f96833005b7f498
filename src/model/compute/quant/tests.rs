//! Every format at every level of instructions, against candle's expansion and products in f64.

use super::*;
use crate::compute::parts::{Parts, Strips};
use candle_core::quantized::{ggml_file::qtensor_from_ggml, GgmlDType};
use candle_core::Device;
use half::f16;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *state >> 33
}

/// Blocks with every bit pattern in the weights and scales between -1 and 1.
pub(super) fn random_blocks(format: BlockFormat, blocks: usize, mut state: u64) -> Vec<u8> {
    let halves: &[usize] = match format {
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => &[0],
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4_K | BlockFormat::Q5_K => &[0, 2],
        BlockFormat::Q2_K => &[80, 82],
        BlockFormat::Q3_K => &[108],
        BlockFormat::Q6_K => &[208],
    };
    let mut bytes = Vec::new();
    for _ in 0..blocks {
        let start = bytes.len();
        bytes.extend((0..format.block_bytes()).map(|_| random(&mut state) as u8));
        for at in halves {
            let scale = f16::from_f32((random(&mut state) % 2001) as f32 / 1000.0 - 1.0);
            bytes[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

pub(super) fn random_vector(len: usize, mut state: u64) -> Vec<f32> {
    (0..len).map(|_| (random(&mut state) % 20001) as f32 / 1000.0 - 10.0).collect()
}

pub(super) fn product(level: Level, format: BlockFormat, weights: &[u8], x: &Activations, columns: usize) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.rows() * columns];
    let strips = Strips::new(&mut y, x.rows(), columns, columns, columns);
    #[allow(unsafe_code)]
    // SAFETY: the only strip, taken once.
    let mut strip = unsafe { strips.part(0) };
    multiply(level, format, weights, x, &mut strip);
    y
}

#[test]
fn expansion_equals_that_of_candle() {
    for format in BlockFormat::ALL {
        let (blocks, kind) = (random_blocks(format, 9, 5), candle_type(format));
        let len = 9 * format.block_units() * UNIT;
        let mut got = vec![0.0; len];
        format.expand(&blocks, &mut got);
        let want = qtensor_from_ggml(kind, &blocks, vec![len], &Device::Cpu).unwrap();
        let want = want.dequantize(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "{format:?}, weight {at}: {got} != {want}");
        }
    }
}

fn candle_type(format: BlockFormat) -> GgmlDType {
    match format {
        BlockFormat::Q4_0 => GgmlDType::Q4_0,
        BlockFormat::Q4_1 => GgmlDType::Q4_1,
        BlockFormat::Q5_0 => GgmlDType::Q5_0,
        BlockFormat::Q5_1 => GgmlDType::Q5_1,
        BlockFormat::Q8_0 => GgmlDType::Q8_0,
        BlockFormat::Q2_K => GgmlDType::Q2K,
        BlockFormat::Q3_K => GgmlDType::Q3K,
        BlockFormat::Q4_K => GgmlDType::Q4K,
        BlockFormat::Q5_K => GgmlDType::Q5K,
        BlockFormat::Q6_K => GgmlDType::Q6K,
    }
}

#[test]
pub(super) fn products_equal_those_of_expanded_weights_in_f64() {
    for format in BlockFormat::ALL {
        // One panel and several, with a tail; one chunk of columns and several, with a tail.
        for (blocks, columns, rows) in [(1, 1, 1), (3, 15, 2), (2, 17, 5), (5, 40, 9), (40, 3, 3), (18, 16, 13)] {
            let len = blocks * format.block_units() * UNIT;
            let weights = random_blocks(format, blocks * columns, 7 + blocks as u64);
            let vectors = random_vector(rows * len, 3);
            let mut x = Activations::default();
            x.set(&vectors, len);
            let mut expanded = vec![0.0; columns * len];
            format.expand(&weights, &mut expanded);
            for level in Level::all() {
                let got = product(level, format, &weights, &x, columns);
                for (index, got) in got.iter().enumerate() {
                    let (row, column) = (index / columns, index % columns);
                    let terms = expanded[column * len..][..len].iter().zip(&vectors[row * len..]);
                    let terms = terms.map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (want, magnitude) = terms.fold((0.0, 0.0), |(sum, all), term| (sum + term, all + term.abs()));
                    let error = (f64::from(*got) - want).abs();
                    // The worst is an error of half a step in each number, all of one sign.
                    assert!(error <= 2e-4 * magnitude, "{level:?} {format:?} {rows}x{len}x{columns}: {got} != {want}");
                }
            }
        }
    }
}

#[test]
fn the_result_of_a_row_does_not_depend_on_the_others() {
    for format in BlockFormat::ALL {
        let len = 8 * 9 * UNIT;
        let weights = random_blocks(format, len / UNIT / format.block_units() * 20, 1);
        let vectors = random_vector(15 * len, 2);
        for level in Level::all() {
            let mut x = Activations::default();
            x.set(&vectors, len);
            let together = product(level, format, &weights, &x, 20);
            for (vector, together) in vectors.chunks(len).zip(together.chunks(20)) {
                x.set(vector, len);
                assert_eq!(product(level, format, &weights, &x, 20), together, "{level:?} {format:?}");
            }
        }
    }
}

#[test]
fn extreme_bytes_do_not_overflow() {
    for format in BlockFormat::ALL {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let len = format.block_units() * UNIT;
            let mut block = vec![byte; format.block_bytes()];
            let zeros = random_blocks(format, 1, 0);
            for at in 0..block.len() {
                // Scales as in random blocks: f16 of these bytes may be no numbers.
                let header = match format {
                    BlockFormat::Q2_K => at >= 80,
                    BlockFormat::Q3_K => at >= 108,
                    BlockFormat::Q6_K => at >= 208,
                    _ => at < 4,
                };
                if header {
                    block[at] = zeros[at];
                }
            }
            for sign in [1.0, -1.0] {
                let vector: Vec<f32> = (0..len).map(|i| if i % 3 == 0 { sign * 0.996 } else { sign }).collect();
                let mut x = Activations::default();
                x.set(&vector, len);
                let mut expanded = vec![0.0; len];
                format.expand(&block, &mut expanded);
                let want: f64 = expanded.iter().zip(&vector).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                let magnitude: f64 = expanded.iter().map(|w| f64::from(w.abs())).sum();
                for level in Level::all() {
                    let got = f64::from(product(level, format, &block, &x, 1)[0]);
                    assert!((got - want).abs() <= 1e-4 * magnitude, "{level:?} {format:?} {byte:#x}: {got} != {want}");
                }
            }
        }
    }
}
