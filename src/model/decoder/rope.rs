//! Rotary position embedding (Su et al., "RoFormer", 2021) over neighbouring pairs of dimensions.
//!
//! Converters to GGUF reorder the rows of a llama model's query and key matrices so that the two dimensions of a pair
//! are neighbours; models in safetensors pair dimension `i` with `i + dims / 2` instead.

/// Cosine and sine of every pair for a run of positions.
pub struct Rotation {
    pairs: usize,
    factors: Vec<(f32, f32)>,
}

impl Rotation {
    /// `frequencies` are angles per position, one per pair. Computed once per run and used by every layer; angles are
    /// taken in f64 because a late position times a frequency has few fractional bits left in f32.
    pub fn new(frequencies: &[f32], first_position: usize, count: usize) -> Self {
        let factors = (first_position..first_position + count).flat_map(|position| {
            frequencies.iter().map(move |&frequency| {
                let (sin, cos) = (position as f64 * f64::from(frequency)).sin_cos();
                (cos as f32, sin as f32)
            })
        });
        Self { pairs: frequencies.len(), factors: factors.collect() }
    }

    /// Rotates the leading dimensions of every head of one token, the `index`-th of the run.
    pub fn apply(&self, index: usize, heads: &mut [f32], head_dim: usize) {
        let factors = &self.factors[index * self.pairs..(index + 1) * self.pairs];
        for head in heads.chunks_exact_mut(head_dim) {
            for (pair, &(cos, sin)) in head.chunks_exact_mut(2).zip(factors) {
                let (x, y) = (pair[0], pair[1]);
                pair[0] = x * cos - y * sin;
                pair[1] = x * sin + y * cos;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_depend_on_the_distance_only() {
        let frequencies: Vec<f32> = (0..4).map(|pair| 10_000_f32.powf(-2.0 * pair as f32 / 8.0)).collect();
        let score = |query_position: usize, key_position: usize| {
            let mut query: Vec<f32> = (0..8).map(|i| i as f32 - 3.0).collect();
            let mut key: Vec<f32> = (0..8).map(|i| (i * i) as f32 / 9.0 - 2.0).collect();
            Rotation::new(&frequencies, query_position, 1).apply(0, &mut query, 8);
            Rotation::new(&frequencies, key_position - 2, 3).apply(2, &mut key, 8);
            query.iter().zip(&key).map(|(q, k)| q * k).sum::<f32>()
        };
        assert!((score(7, 4) - score(3007, 3004)).abs() < 1e-3);
        assert!((score(7, 4) - score(7, 5)).abs() > 0.1);
    }

    #[test]
    fn dimensions_behind_the_rotated_ones_stay() {
        let mut head = [1.0, 2.0, 3.0, 4.0];
        Rotation::new(&[1.0], 5, 1).apply(0, &mut head, 4);
        assert_eq!(head[2..], [3.0, 4.0]);
        assert!((head[0] - (5.0_f32.cos() - 2.0 * 5.0_f32.sin())).abs() < 1e-6);
    }
}
