//! What a token's place does beside a vector that is added to it: the tables of rotations and of biases by distance.
//!
//! Rotations turn queries and keys ([`rotate`]); their columns lie so that a pair is in the same lane of two panels
//! (see [`super::weights`]). Biases are added to scores ([`super::attention`]); a table has one number for each distance
//! from key to query, so that what belongs to sixteen neighbouring keys is a run of sixteen numbers, and a window of
//! attention is a table of zeros with minus infinity around.
#![allow(unsafe_code)]

use super::lanes::{dispatch, Block, Lanes, LANES};

/// Distances beyond a window that a tile of attention can touch: its rows, and two panels of keys cut open.
const SLACK: usize = 2 * LANES;

/// How far each pair of columns of a head of `width` columns turns from one position to the next.
pub fn frequencies(theta: f32, width: usize) -> Vec<f32> {
    (0..width / 2).map(|at| 1.0 / theta.powf((2 * at) as f32 / width as f32)).collect()
}

/// Cosine and sine of a pair at a position.
pub fn factors(position: usize, frequency: f32) -> [f32; 2] {
    // In single precision like the reference: at far positions the rounding of the angle shows.
    let (sine, cosine) = f64::from(position as f32 * frequency).sin_cos();
    [cosine as f32, sine as f32]
}

/// Cosines and sines of all positions for one base of wave lengths.
pub struct Rotation {
    /// Panels of half a head.
    panels: usize,
    /// `[positions, panels]`, each the cosines and the sines.
    table: Vec<[Block; 2]>,
}

impl Rotation {
    /// For heads of `width` columns, and positions below `positions`.
    pub fn new(theta: f32, width: usize, positions: usize) -> Self {
        let frequencies = frequencies(theta, width);
        let panels = frequencies.len().div_ceil(LANES);
        let mut table = Vec::with_capacity(positions * panels);
        for position in 0..positions {
            for frequencies in frequencies.chunks(LANES) {
                let mut pair = [Block::ZERO; 2];
                for (lane, frequency) in frequencies.iter().enumerate() {
                    [pair[0].0[lane], pair[1].0[lane]] = factors(position, *frequency);
                }
                table.push(pair);
            }
        }
        Self { panels, table }
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&*self.table)
    }

    /// Turns one head's queries or keys, which have twice the panels of the table.
    pub fn turn(&self, head: &mut [Block], stride: usize, starts: &[usize]) {
        rotate(head, stride, starts, &self.table, self.panels);
    }
}

dispatch! {
    fn rotate(head: &mut [Block], stride: usize, starts: &[usize], table: &[[Block; 2]], panels: usize) = rotate_kernel;
}

#[inline(always)]
fn rotate_kernel<L: Lanes>(head: &mut [Block], stride: usize, starts: &[usize], table: &[[Block; 2]], panels: usize) {
    let (first, second) = head.split_at_mut(panels * stride);
    for panel in 0..panels {
        for sequence in starts.windows(2) {
            let rows = panel * stride + sequence[0]..panel * stride + sequence[1];
            let pairs = first[rows.clone()].iter_mut().zip(&mut second[rows]);
            for ((low, high), [cosine, sine]) in pairs.zip(table[panel..].iter().step_by(panels)) {
                let (a, b) = (L::load(low), L::load(high));
                let (cosine, sine) = (L::load(cosine), L::load(sine));
                a.mul(cosine).sub(b.mul(sine)).store(low);
                b.mul(cosine).add(a.mul(sine)).store(high);
            }
        }
    }
}

/// Numbers that are added to scores by distance.
pub struct Bias {
    /// Largest distances that attention reaches, to tokens before and to tokens behind, or all.
    pub before: Option<usize>,
    pub behind: Option<usize>,
    /// Distances from -reach to reach are in a row.
    reach: usize,
    /// One row for each head, or one for all.
    rows: Vec<Vec<f32>>,
}

impl Bias {
    /// Attention to tokens at most `window` away.
    pub fn of_window(window: usize) -> Self {
        let reach = window + SLACK;
        let row =
            (0..2 * reach + 1).map(|at| if at.abs_diff(reach) <= window { 0.0 } else { f32::NEG_INFINITY }).collect();
        Self { before: Some(window), behind: Some(window), reach, rows: vec![row] }
    }

    /// Attention to a token itself and to those before it, of texts of at most `positions` tokens.
    pub fn causal(positions: usize) -> Self {
        let reach = positions + LANES;
        let row = (0..2 * reach + 1).map(|at| if at <= reach { 0.0 } else { f32::NEG_INFINITY }).collect();
        Self { before: None, behind: Some(0), reach, rows: vec![row] }
    }

    /// Biases that fall with distance, for texts of at most `positions` tokens.
    pub fn of_slopes(heads: usize, positions: usize) -> Self {
        let powers = |count: usize| (1..=count).map(move |index| 2_f64.powf(-8.0 * index as f64 / count as f64));
        // A power of two of heads has a geometric series of slopes; those beyond come from the next series.
        let lower = 1 << heads.ilog2();
        let slopes = powers(lower).chain(powers(2 * lower).step_by(2)).take(heads);
        let reach = positions + LANES;
        let row = |slope: f64| (0..2 * reach + 1).map(|at| -(slope as f32) * at.abs_diff(reach) as f32).collect();
        Self { before: None, behind: None, reach, rows: slopes.map(row).collect() }
    }

    /// Biases by groups of distances: exact ones up to a quarter of their number, then ever wider ones up to 128, as T5
    /// and MPNet have them. `table` is `[buckets, heads]`; it may be empty when only shapes are checked.
    pub fn of_buckets(table: &[f32], buckets: usize, heads: usize, positions: usize) -> Self {
        let reach = positions + LANES;
        let row = |head: usize| {
            let bias = |at: usize| table.get(bucket(reach, at, buckets) * heads + head).copied().unwrap_or(0.0);
            (0..2 * reach + 1).map(bias).collect()
        };
        Self { before: None, behind: None, reach, rows: (0..heads).map(row).collect() }
    }

    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|row| size_of_val(&**row)).sum()
    }

    /// What is added at each distance from `-most` to `most`, for each head or for all: rows of equal length, one after the
    /// other, and their number.
    pub fn by_distance(&self, most: usize) -> (Vec<f32>, usize) {
        let reached = |at: usize| {
            let limit = if at > most { self.behind } else { self.before };
            limit.is_none_or(|limit| at.abs_diff(most) <= limit)
        };
        // From where `-most` is in a row; before it begins, and behind it, nothing is reached.
        let number = |row: &[f32], at: usize| {
            let inside = (self.reach + at).checked_sub(most).and_then(|at| row.get(at));
            inside.copied().filter(|_| reached(at)).unwrap_or(f32::NEG_INFINITY)
        };
        let numbers = self.rows.iter().flat_map(|row| (0..2 * most + 1).map(move |at| number(row, at)));
        (numbers.collect(), self.rows.len())
    }

    /// What is added to the score of `query` with `key` and with the fifteen keys that follow.
    #[inline(always)]
    pub fn block(&self, head: usize, query: usize, key: usize) -> Block {
        let row = &self.rows[head % self.rows.len()];
        let at = self.reach + key - query;
        let mut block = Block::ZERO;
        block.0.copy_from_slice(&row[at..at + LANES]);
        block
    }
}

/// The group of the distance `at - reach` from query to key.
fn bucket(reach: usize, at: usize, buckets: usize) -> usize {
    const FARTHEST: f32 = 128.0;
    let half = buckets / 2;
    let distance = at.abs_diff(reach);
    // Keys behind the query have the second half.
    let first = if at > reach { half } else { 0 };
    let exact = half / 2;
    if distance < exact {
        return first + distance;
    }
    let share = (distance as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln();
    first + (exact + (share * (half - exact) as f32) as usize).min(half - 1)
}

#[cfg(test)]
impl Bias {
    /// Whether attention of one token reaches the other.
    pub fn reaches(&self, query: usize, key: usize) -> bool {
        let distance = query.abs_diff(key);
        let most = if key > query { self.behind } else { self.before };
        most.is_none_or(|most| distance <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::limit::each_level;
    use super::*;

    #[test]
    fn slopes_of_six_heads_continue_the_series_of_four() {
        let bias = Bias::of_slopes(6, 10);
        let slopes: Vec<f32> = (0..6).map(|head| bias.block(head, 3, 4).0[0]).collect();
        assert_eq!(slopes, [-0.25, -0.0625, -0.015_625, -0.003_906_25, -0.5, -0.125]);
        assert_eq!(bias.block(0, 3, 0).0[..5], [-0.75, -0.5, -0.25, 0.0, -0.25]);
    }

    #[test]
    fn a_window_reaches_as_far_on_both_sides() {
        let bias = Bias::of_window(2);
        let row: Vec<f32> = (0..10).map(|key| bias.block(7, 5, key).0[0]).collect();
        assert_eq!(row.iter().map(|x| *x == 0.0).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 1, 1, 0, 0].map(|x| x == 1));
        assert!(row.iter().all(|x| *x == 0.0 || *x == f32::NEG_INFINITY));
    }

    #[test]
    fn numbers_by_distance_are_those_of_blocks() {
        let table: Vec<f32> = (0..64).map(|at| at as f32 / 7.0).collect();
        for bias in [Bias::of_window(3), Bias::causal(30), Bias::of_slopes(6, 30), Bias::of_buckets(&table, 32, 2, 30)]
        {
            for most in [0, 1, 9, 25] {
                let (numbers, rows) = bias.by_distance(most);
                assert_eq!(numbers.len(), rows * (2 * most + 1));
                for (at, number) in numbers.iter().enumerate() {
                    let (head, at) = (at / (2 * most + 1), at % (2 * most + 1));
                    let (query, key) = (most, at);
                    match bias.reaches(query, key) {
                        true => assert_eq!(*number, bias.block(head, query, key).0[0]),
                        false => assert_eq!(*number, f32::NEG_INFINITY),
                    }
                }
            }
        }
    }

    #[test]
    fn groups_of_distances_are_exact_near_and_wide_far() {
        let groups = |range: std::ops::Range<usize>| range.map(|at| bucket(200, at, 32)).collect::<Vec<_>>();
        assert_eq!(groups(200..209), [0, 17, 18, 19, 20, 21, 22, 23, 24]);
        assert_eq!(groups(195..200), [5, 4, 3, 2, 1]);
        assert_eq!((bucket(200, 200 - 127, 32), bucket(200, 0, 32), bucket(200, 400, 32)), (15, 15, 31));
    }

    #[test]
    fn turning_keeps_lengths_and_depends_on_the_distance_only() {
        let (width, stride) = (36, 9);
        let rotation = Rotation::new(100.0, width, 9);
        let starts = [0, 2, 9];
        each_level(|| {
            // The same pair of numbers everywhere: what the turned rows have in common is a matter of their positions.
            let mut head = vec![Block([0.0; LANES]); 4 * stride];
            for row in 0..9 {
                for column in 0..width / 2 {
                    head[column / LANES * stride + row].0[column % LANES] = 1.0 + column as f32 / 9.0;
                    head[(2 + column / LANES) * stride + row].0[column % LANES] = 0.5 - column as f32 / 11.0;
                }
            }
            rotation.turn(&mut head, stride, &starts);
            let dot = |a: usize, b: usize| {
                let blocks = (0..4).flat_map(|panel| (0..LANES).map(move |lane| (panel, lane)));
                blocks.map(|(p, l)| f64::from(head[p * stride + a].0[l] * head[p * stride + b].0[l])).sum::<f64>()
            };
            assert!((dot(0, 0) - dot(8, 8)).abs() < 1e-3);
            assert!((dot(0, 1) - dot(7, 8)).abs() < 1e-3 && (dot(2, 5) - dot(4, 7)).abs() < 1e-3);
            assert!((dot(2, 5) - dot(2, 6)).abs() > 1e-2);
        });
    }
}
