//! What indexes rely on: the kernels of every instruction set agree to the last bit, bounds hold, any number and any
//! bytes give a distance, and codes stay what they are.

mod bits;
mod bounds;
mod extremes;
mod forms;
mod products;
mod sparse;
mod stability;

use super::{Codec, ElementType};
use crate::distance::Metric;

const QUANTISED_METRICS: [Metric; 4] = [Metric::L2, Metric::L2Squared, Metric::InnerProduct, Metric::Cosine];

fn codec(metric: Metric, dimensions: usize) -> Codec {
    Codec::new(metric, dimensions, ElementType::Single, 7)
}

fn encoded(codec: &Codec, vector: &[f32]) -> Vec<u8> {
    let mut code = vec![0xaa; codec.code_bytes()];
    codec.encode(vector, &mut code).unwrap();
    code
}

/// The distance in the codec's units, in `f64`, without anything that the codec uses.
fn true_distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum =
        |term: fn(f64, f64) -> f64| -> f64 { a.iter().zip(b).map(|(x, y)| term(f64::from(*x), f64::from(*y))).sum() };
    match metric {
        Metric::InnerProduct => -sum(|x, y| x * y),
        Metric::Cosine => {
            let norms = sum(|x, _| x * x).sqrt() * sum(|_, y| y * y).sqrt();
            // Rounding can carry the similarity past 1.
            1.0 - if norms > 0.0 { (sum(|x, y| x * y) / norms).min(1.0) } else { 0.0 }
        }
        Metric::L1 => sum(|x, y| (x - y).abs()),
        _ => sum(|x, y| (x - y) * (x - y)),
    }
}

/// Numbers between -1 and 1 with all digits in use.
fn elements(seed: u32, length: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}
