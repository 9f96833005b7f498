//! Rotary position embedding (Su et al., "RoFormer", 2021).
//!
//! Converters to GGUF reorder the rows of a llama model's query and key matrices so that the two dimensions of a pair
//! are neighbours; other families, and all models in safetensors, pair dimension `i` with `i + dims / 2`.
//!
//! How models reach beyond the positions they were first trained on is all in their [`Frequencies`].

use super::config::Pairs;

/// Angles per position of every rotated pair of dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    usual: Vec<f32>,
    /// Those of sequences that are longer than this.
    long: Option<(usize, Vec<f32>)>,
    /// What cosines and sines are multiplied by.
    magnitude: f32,
}

impl Frequencies {
    /// `base^(-2i / dims)`.
    pub fn plain(base: f32, dims: usize) -> Self {
        Self::divided(base, dims, 1.0, &vec![1.0; dims / 2])
    }

    /// The plain ones divided by `scale` (linear context extension) and by a divisor each (Llama 3's).
    pub fn divided(base: f32, dims: usize, scale: f32, divisors: &[f32]) -> Self {
        let frequency = |pair: usize| base.powf(-2.0 * pair as f32 / dims as f32);
        let scaled = |(pair, divisor): (usize, &f32)| frequency(pair) / (scale * divisor);
        Self { usual: divisors.iter().enumerate().map(scaled).collect(), long: None, magnitude: 1.0 }
    }

    /// What Llama 3's context extension divides by: long waves by `factor`, short ones by nothing, and those between the two
    /// limits, counted in waves per `original` positions, by something between.
    pub fn llama3_divisors(base: f32, dims: usize, factor: f32, limits: [f32; 2], original: f32) -> Vec<f32> {
        let [low, high] = limits;
        let divisor = |frequency: f32| {
            let waves = original * frequency / (2.0 * std::f32::consts::PI);
            if waves < low {
                factor
            } else if waves > high {
                1.0
            } else {
                let part = (waves - low) / (high - low);
                1.0 / ((1.0 - part) / factor + part)
            }
        };
        Self::plain(base, dims).usual.into_iter().map(divisor).collect()
    }

    /// YaRN (Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023): as Llama 3's, with
    /// a ramp over the dimensions and a magnitude.
    pub fn yarn(base: f32, dims: usize, factor: f32, betas: [f32; 2], original: f32, magnitude: f32) -> Self {
        let turns = |beta: f32| dims as f32 * (original / (beta * 2.0 * std::f32::consts::PI)).ln() / (2.0 * base.ln());
        let low = turns(betas[0]).floor().max(0.0);
        let high = turns(betas[1]).ceil().min(dims as f32 - 1.0);
        let width = if high == low { 0.001 } else { high - low };
        let divisor = |pair: usize| {
            let kept = 1.0 - ((pair as f32 - low) / width).clamp(0.0, 1.0);
            1.0 / ((1.0 - kept) / factor + kept)
        };
        let divisors: Vec<f32> = (0..dims / 2).map(divisor).collect();
        Self { magnitude, ..Self::divided(base, dims, 1.0, &divisors) }
    }

    /// Phi-3's: divisors for sequences of at most `original` tokens, and others for longer ones.
    pub fn long_and_short(base: f32, dims: usize, [short, long]: [&[f32]; 2], original: usize, magnitude: f32) -> Self {
        let long = Self::divided(base, dims, 1.0, long).usual;
        Self { long: Some((original, long)), magnitude, ..Self::divided(base, dims, 1.0, short) }
    }

    /// Multiplies cosines and sines by `magnitude` in addition.
    pub fn with_magnitude(mut self, magnitude: f32) -> Self {
        self.magnitude *= magnitude;
        self
    }

    pub fn pairs(&self) -> usize {
        self.usual.len()
    }

    /// All numbers, to be checked.
    pub fn all(&self) -> Vec<f32> {
        let long = self.long.iter().flat_map(|(_, long)| long);
        self.usual.iter().chain(long).copied().chain([self.magnitude]).collect()
    }

    pub fn long_from(&self) -> Option<usize> {
        self.long.as_ref().map(|(from, _)| *from)
    }

    fn of(&self, long: bool) -> &[f32] {
        match &self.long {
            Some((_, frequencies)) if long => frequencies,
            _ => &self.usual,
        }
    }
}

/// Factors of every rotated pair for a number of positions. For neighbours they are spread to the two dimensions: what
/// the dimension itself is multiplied with (the cosine), and the other one of its pair (the sine, negative for the
/// first).
#[derive(Default)]
pub struct Rotation {
    pairs: Option<Pairs>,
    dims: usize,
    own: Vec<f32>,
    other: Vec<f32>,
}

impl Rotation {
    /// Computes the factors of `positions`, each with whether its sequence is a long one. Angles are taken in f64 because
    /// a late position times a frequency has few fractional bits left in f32.
    pub fn set(&mut self, pairs: Pairs, table: &Frequencies, positions: impl Iterator<Item = (usize, bool)>) {
        self.pairs = Some(pairs);
        self.dims = 2 * table.pairs();
        self.own.clear();
        self.other.clear();
        for (position, long) in positions {
            for &frequency in table.of(long) {
                let (sin, cos) = (position as f64 * f64::from(frequency)).sin_cos();
                let (sin, cos) = (sin as f32 * table.magnitude, cos as f32 * table.magnitude);
                match pairs {
                    Pairs::Adjacent => {
                        self.own.extend([cos; 2]);
                        self.other.extend([-sin, sin]);
                    }
                    Pairs::Halves => {
                        self.own.push(cos);
                        self.other.push(sin);
                    }
                }
            }
        }
    }

    /// The factors for halves, of all positions one after the other: cosines and sines.
    pub fn factors(&self) -> [&[f32]; 2] {
        [&self.own, &self.other]
    }

    /// Rotates the leading dimensions of every head of one token, at the `index`-th of the positions.
    pub fn apply(&self, index: usize, heads: &mut [f32], head_dim: usize) {
        match self.pairs {
            Some(Pairs::Adjacent) => {
                let range = index * self.dims..(index + 1) * self.dims;
                let (own, other) = (&self.own[range.clone()], &self.other[range]);
                for head in heads.chunks_exact_mut(head_dim) {
                    rotate(&mut head[..self.dims], own, other);
                }
            }
            Some(Pairs::Halves) => {
                let half = self.dims / 2;
                let range = index * half..(index + 1) * half;
                let (cos, sin) = (&self.own[range.clone()], &self.other[range]);
                for head in heads.chunks_exact_mut(head_dim) {
                    let (first, second) = head[..self.dims].split_at_mut(half);
                    for (((x, y), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                        (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
                    }
                }
            }
            None => {}
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

/// The row of a matrix whose heads pair dimension `i` with `i + head_dim / 2` that becomes row `row` where neighbours are
/// paired.
pub fn rotated_row(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    head * head_dim + at / 2 + at % 2 * (head_dim / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_rotated_together_become_neighbours() {
        let rows: Vec<usize> = (0..16).map(|row| rotated_row(row, 8)).collect();
        assert_eq!(rows, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
    }

    fn rotated(pairs: Pairs, table: &Frequencies, position: usize, mut numbers: Vec<f32>, head_dim: usize) -> Vec<f32> {
        let mut rotation = Rotation::default();
        rotation.set(pairs, table, [(0, false), (position, false)].into_iter());
        rotation.apply(1, &mut numbers, head_dim);
        numbers
    }

    #[test]
    fn scores_depend_on_the_distance_only() {
        for pairs in [Pairs::Adjacent, Pairs::Halves] {
            let table = Frequencies::plain(1e4, 10);
            let score = |query_position: usize, key_position: usize| {
                let query = rotated(pairs, &table, query_position, (0..10).map(|i| i as f32 - 3.0).collect(), 10);
                let key = (0..10).map(|i| (i * i) as f32 / 9.0 - 2.0).collect();
                let key = rotated(pairs, &table, key_position, key, 10);
                query.iter().zip(&key).map(|(q, k)| q * k).sum::<f32>()
            };
            assert!((score(7, 4) - score(3007, 3004)).abs() < 1e-3);
            assert!((score(7, 4) - score(7, 5)).abs() > 0.1);
        }
    }

    #[test]
    fn dimensions_behind_the_rotated_ones_stay() {
        let table = Frequencies::plain(1e4, 2);
        for pairs in [Pairs::Adjacent, Pairs::Halves] {
            let head = rotated(pairs, &table, 5, vec![1.0, 2.0, 3.0, 4.0], 4);
            assert_eq!(head[2..], [3.0, 4.0]);
            assert!((head[0] - (5.0_f32.cos() - 2.0 * 5.0_f32.sin())).abs() < 1e-6);
            assert!((head[1] - (5.0_f32.sin() + 2.0 * 5.0_f32.cos())).abs() < 1e-6);
        }
    }

    #[test]
    fn halves_are_neighbours_in_another_order() {
        let table = Frequencies::plain(100.0, 8);
        let numbers: Vec<f32> = (0..8).map(|i| (i * i) as f32 - 9.0).collect();
        let adjacent: Vec<f32> = (0..8).map(|i| numbers[i / 2 + i % 2 * 4]).collect();
        let (halves, adjacent) =
            (rotated(Pairs::Halves, &table, 3, numbers, 8), rotated(Pairs::Adjacent, &table, 3, adjacent, 8));
        for i in 0..8 {
            assert!((adjacent[i] - halves[i / 2 + i % 2 * 4]).abs() < 1e-5);
        }
    }

    #[test]
    fn extensions_stretch_long_waves_and_keep_short_ones() {
        let plain = Frequencies::plain(5e5, 64).usual;
        let divisors = Frequencies::llama3_divisors(5e5, 64, 8.0, [1.0, 4.0], 8192.0);
        let llama3 = Frequencies::divided(5e5, 64, 1.0, &divisors).usual;
        let yarn = Frequencies::yarn(5e5, 64, 8.0, [32.0, 1.0], 8192.0, 1.2).usual;
        for table in [llama3, yarn] {
            assert_eq!(table[0], plain[0]);
            assert!((table[31] * 8.0 / plain[31] - 1.0).abs() < 1e-5);
            assert!(table.iter().zip(&plain).all(|(a, b)| *a <= *b * 1.000_01 && *a >= b / 8.000_1));
        }
        let linear = Frequencies::divided(5e5, 64, 4.0, &[1.0; 32]).usual;
        assert!(linear.iter().zip(&plain).all(|(a, b)| (a * 4.0 / b - 1.0).abs() < 1e-6));
    }
}
