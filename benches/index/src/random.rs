//! Repeatable random numbers: each is a function of a seed and a counter, so that any part of the data can be made alone.

use std::f64::consts::TAU;

/// A round of splitmix64 (Steele, Lea and Flood, 2014).
pub fn mix(seed: u64, counter: u64) -> u64 {
    let mut state = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// Fills `out` with standard normal numbers, in pairs by the method of Box and Muller.
pub fn normals(seed: u64, out: &mut [f32]) {
    let uniform = |counter| ((mix(seed, counter) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    for (pair, out) in out.chunks_mut(2).enumerate() {
        let counter = 2 * pair as u64;
        let radius = (-2.0 * uniform(counter).ln()).sqrt();
        let (sine, cosine) = (TAU * uniform(counter + 1)).sin_cos();
        for (out, value) in out.iter_mut().zip([radius * cosine, radius * sine]) {
            *out = value as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_their_moments() {
        let mut values = vec![0.0; 100_001];
        normals(7, &mut values);
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let variance = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }
}
