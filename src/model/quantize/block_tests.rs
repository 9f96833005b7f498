//! Blocks hold what was put into them, and come as near to the weights as they can.

use super::TensorType;
use crate::compute::quant::{BlockFormat, UNIT};

/// Numbers of a normal distribution, always the same.
pub fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    // A sum of twelve uniform numbers is near enough.
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

fn round_trip(format: BlockFormat, x: &[f32]) -> Vec<f32> {
    let kind = TensorType::Blocks(format);
    let mut bytes = vec![0xff; kind.bytes(x.len() as u64) as usize];
    kind.quantise(x, &mut bytes);
    let mut out = vec![0.0; x.len()];
    kind.expand(&bytes, &mut out);
    out
}

fn rms(x: impl Iterator<Item = f32>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for x in x {
        sum += f64::from(x) * f64::from(x);
        count += 1.0;
    }
    (sum / count).sqrt()
}

/// Root of the mean squared error, relative to the weights.
fn error(format: BlockFormat, x: &[f32]) -> f64 {
    let out = round_trip(format, x);
    rms(x.iter().zip(&out).map(|(x, out)| x - out)) / rms(x.iter().copied())
}

/// What is measured here with three per cent to spare. The reference implementation makes errors of 0.084, 0.0765, 0.0419,
/// 0.0372, 0.0052, 0.292, 0.148, 0.0700, 0.0355 and 0.0173 on such numbers.
const MOST: [(BlockFormat, f64); 10] = [
    (BlockFormat::Q4_0, 0.0813),
    (BlockFormat::Q4_1, 0.0716),
    (BlockFormat::Q5_0, 0.0406),
    (BlockFormat::Q5_1, 0.0346),
    (BlockFormat::Q8_0, 0.0054),
    (BlockFormat::Q2_K, 0.279),
    (BlockFormat::Q3_K, 0.1466),
    (BlockFormat::Q4_K, 0.0730),
    (BlockFormat::Q5_K, 0.0368),
    (BlockFormat::Q6_K, 0.0179),
];

#[test]
fn errors_are_those_that_a_format_must_make() {
    for (format, most) in MOST {
        for scale in [1.0, 1e-3, 50.0] {
            let x: Vec<f32> = normal(64 * 256, 1).iter().map(|x| x * scale).collect();
            let error = error(format, &x);
            assert!(error < most, "{format:?} at {scale}: {error}");
        }
    }
}

#[test]
fn what_blocks_can_represent_comes_back_unchanged() {
    for format in BlockFormat::ALL {
        // Small whole numbers with both ends of the range in every group, so that the step is 1.
        let high = i32::from(format.largest()).min(254);
        let zero = match format {
            BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q2_K | BlockFormat::Q4_K | BlockFormat::Q5_K => 0,
            BlockFormat::Q8_0 => 127,
            _ => (high + 1) / 2,
        };
        let number = |i: usize| match i % 16 {
            0 => 0,
            1 => high,
            i => (i as i32 * 7919) % (high + 1),
        };
        let x: Vec<f32> = (0..2 * 256).map(|i| (number(i) - zero) as f32).collect();
        let out = round_trip(format, &x);
        let worst = x.iter().zip(&out).map(|(x, out)| (x - out).abs()).fold(0.0, f32::max);
        // The factors of the K formats are rounded to half precision.
        assert!(worst <= 0.02 * f32::from(format.largest().min(64)), "{format:?}: {worst}");
    }
}

#[test]
fn odd_weights_give_finite_blocks() {
    let zeros = vec![0.0; 256];
    let equal = vec![0.37; 256];
    let negative = vec![-2.5; 256];
    let tiny: Vec<f32> = normal(256, 2).iter().map(|x| x * 1e-12).collect();
    let mut one = vec![0.0; 256];
    one[77] = -1.0;
    let largest: Vec<f32> =
        (0..256).map(|i| if i % 2 == 0 { super::pack::LARGEST } else { -super::pack::LARGEST }).collect();
    for format in BlockFormat::ALL {
        assert_eq!(round_trip(format, &zeros), zeros, "{format:?}");
        for x in [&equal, &negative, &one, &largest] {
            let error = error(format, x);
            assert!(error < 0.05, "{format:?}: {error} for {:?}", &x[..2]);
        }
        assert!(round_trip(format, &tiny).iter().all(|x| x.abs() < 1e-6), "{format:?}");
    }
}

#[test]
fn a_large_weight_spoils_its_own_group_only() {
    let mut x = normal(256, 3);
    x[0] = 100.0;
    for format in [BlockFormat::Q4_0, BlockFormat::Q5_1, BlockFormat::Q8_0, BlockFormat::Q6_K, BlockFormat::Q5_K] {
        let out = round_trip(format, &x);
        let rest = rms(x[UNIT..].iter().zip(&out[UNIT..]).map(|(x, out)| x - out));
        assert!(rest < 0.7 && (out[0] - 100.0).abs() < 7.0, "{format:?}: {rest}");
    }
}
