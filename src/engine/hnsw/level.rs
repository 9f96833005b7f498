//! The level of a node, from a seed and a number: drawn once per node, the same on every machine.

use super::page::MAX_LEVEL;

/// The level of the `index`-th node, with `P(level >= l) = m^-l` (Malkov and Yashunin, 2018, section 4.1).
pub fn level_of(seed: u64, index: u64, m: u16) -> u8 {
    // The 53 upper bits, as a number in (0, 1].
    let uniform = ((mix(seed ^ mix(index)) >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let level = -uniform.ln() / f64::from(m.max(2)).ln();
    (level as u8).min(MAX_LEVEL)
}

/// The finaliser of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::level_of;
    use crate::test_scale::scaled;

    #[test]
    fn levels_thin_out_by_m() {
        for m in [2u16, 16, 100] {
            let levels: Vec<u8> = (0..scaled(200_000, 2_000)).map(|index| level_of(42, index, m)).collect();
            for least in 1..3u8 {
                let share = levels.iter().filter(|&&level| level >= least).count() as f64 / levels.len() as f64;
                let expected = f64::from(m).powi(-i32::from(least));
                let deviation = (expected * (1.0 - expected) / levels.len() as f64).sqrt();
                assert!((share - expected).abs() < 5.0 * deviation + 1e-9, "m {m} level {least}: {share}");
            }
        }
    }
}
