//! Rotary position embedding (Su et al., "RoFormer", 2021) over neighbouring pairs of dimensions.
//!
//! Converters to GGUF reorder the rows of a llama model's query and key matrices so that the two dimensions of a pair
//! are neighbours; models in safetensors pair dimension `i` with `i + dims / 2` instead.

/// Factors of every rotated dimension for a number of positions: what the dimension itself is multiplied with (the
/// cosine), and the other one of its pair (the sine, negative for the first).
#[derive(Default)]
pub struct Rotation {
    dims: usize,
    own: Vec<f32>,
    other: Vec<f32>,
}

impl Rotation {
    /// Computes the factors of `positions`; every layer uses them. `frequencies` are angles per position, one per pair.
    /// Angles are taken in f64 because a late position times a frequency has few fractional bits left in f32.
    pub fn set(&mut self, frequencies: &[f32], positions: impl Iterator<Item = usize>) {
        self.dims = 2 * frequencies.len();
        self.own.clear();
        self.other.clear();
        for position in positions {
            for &frequency in frequencies {
                let (sin, cos) = (position as f64 * f64::from(frequency)).sin_cos();
                self.own.extend([cos as f32; 2]);
                self.other.extend([-sin as f32, sin as f32]);
            }
        }
    }

    /// Rotates the leading dimensions of every head of one token, at the `index`-th of the positions.
    pub fn apply(&self, index: usize, heads: &mut [f32], head_dim: usize) {
        let range = index * self.dims..(index + 1) * self.dims;
        let (own, other) = (&self.own[range.clone()], &self.other[range]);
        for head in heads.chunks_exact_mut(head_dim) {
            rotate(&mut head[..self.dims], own, other);
        }
    }
}

fn rotate(head: &mut [f32], own: &[f32], other: &[f32]) {
    const LANES: usize = 8;
    let (whole, rest) = head.as_chunks_mut::<LANES>();
    let factors = own.as_chunks::<LANES>().0.iter().zip(other.as_chunks::<LANES>().0);
    for (numbers, (own, other)) in whole.iter_mut().zip(factors) {
        let [a, b, c, d, e, f, g, h] = *numbers;
        let swapped = [b, a, d, c, f, e, h, g];
        for i in 0..LANES {
            numbers[i] = numbers[i] * own[i] + swapped[i] * other[i];
        }
    }
    let done = own.len() - rest.len();
    for (pair, at) in rest.chunks_exact_mut(2).zip((done..).step_by(2)) {
        let (x, y) = (pair[0], pair[1]);
        pair[0] = x * own[at] + y * other[at];
        pair[1] = y * own[at + 1] + x * other[at + 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(frequencies: &[f32], position: usize, mut numbers: Vec<f32>, head_dim: usize) -> Vec<f32> {
        let mut rotation = Rotation::default();
        rotation.set(frequencies, [0, position].into_iter());
        rotation.apply(1, &mut numbers, head_dim);
        numbers
    }

    #[test]
    fn scores_depend_on_the_distance_only() {
        let frequencies: Vec<f32> = (0..5).map(|pair| 10_000_f32.powf(-2.0 * pair as f32 / 10.0)).collect();
        let score = |query_position: usize, key_position: usize| {
            let query = rotated(&frequencies, query_position, (0..10).map(|i| i as f32 - 3.0).collect(), 10);
            let key = (0..10).map(|i| (i * i) as f32 / 9.0 - 2.0).collect();
            let key = rotated(&frequencies, key_position, key, 10);
            query.iter().zip(&key).map(|(q, k)| q * k).sum::<f32>()
        };
        assert!((score(7, 4) - score(3007, 3004)).abs() < 1e-3);
        assert!((score(7, 4) - score(7, 5)).abs() > 0.1);
    }

    #[test]
    fn dimensions_behind_the_rotated_ones_stay() {
        let head = rotated(&[1.0], 5, vec![1.0, 2.0, 3.0, 4.0], 4);
        assert_eq!(head[2..], [3.0, 4.0]);
        assert!((head[0] - (5.0_f32.cos() - 2.0 * 5.0_f32.sin())).abs() < 1e-6);
        assert!((head[1] - (5.0_f32.sin() + 2.0 * 5.0_f32.cos())).abs() < 1e-6);
    }
}
