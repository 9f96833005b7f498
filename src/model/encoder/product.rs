//! The matrix product of the encoder: tiles of sums that stay in registers.
//!
//! Every matrix of activations lies in *panels* of 16 columns: all rows of the first 16 columns, one [`Block`] a row,
//! then all rows of the next 16. Weights lie in panels of 16 outputs, one block for each input. So the product of two
//! such matrices reads both in order and writes its result in the form that the next product reads; the same product
//! multiplies by weights, scores queries against keys, and weighs values by scores ([`super::attention`]).
//!
//! Blocking as in Goto and van de Geijn, 2008, "Anatomy of high-performance matrix multiplication", without packing:
//! a panel of weights stays in the processor's cache while the rows pass by.
#![allow(unsafe_code)]

use super::kernels::activate;
use super::lanes::{dispatch, fetch_ahead, Block, Lanes, LANES};
use super::shape::Activation;

/// A matrix in panels: row r of panel p is block p · `stride` + r.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub blocks: &'a [Block],
    pub stride: usize,
}

impl<'a> Panels<'a> {
    /// The same panels from a later row on.
    #[inline(always)]
    pub fn starting_at(self, row: usize) -> Self {
        Self { blocks: &self.blocks[row..], stride: self.stride }
    }

    /// Copies the first `columns` columns of some rows, one row after the other.
    pub fn copy_rows(self, rows: std::ops::Range<usize>, columns: usize, to: &mut Vec<f32>) {
        to.clear();
        for row in rows {
            for column in (0..columns).step_by(LANES) {
                let block = &self.blocks[column / LANES * self.stride + row];
                to.extend_from_slice(&block.0[..LANES.min(columns - column)]);
            }
        }
    }
}

dispatch! {
    /// output ← activation(input · weights + bias).
    ///
    /// - `weights`: `[panels, inputs]` blocks, `bias`: one block a panel.
    /// - `input`: its first `rows` rows and `inputs` columns.
    /// - `output`: `[panels, stride]` blocks, of which the first `rows` of each panel are written.
    pub fn multiply(
        weights: &[Block], inputs: usize, bias: &[Block], input: Panels<'_>, rows: usize,
        activation: Option<Activation>, output: &mut [Block], stride: usize,
    ) = multiply_kernel;
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn multiply_kernel<L: Lanes>(
    weights: &[Block],
    inputs: usize,
    bias: &[Block],
    input: Panels<'_>,
    rows: usize,
    activation: Option<Activation>,
    output: &mut [Block],
    stride: usize,
) {
    let together = L::TILE_PANELS;
    let mut rest = weights;
    for (output, bias) in output.chunks_mut(together * stride).zip(bias.chunks(together)) {
        let (weights, next) = rest.split_at(bias.len() * inputs);
        rest = next;
        let next = &next[..next.len().min(weights.len())];
        if bias.len() == 2 {
            let weights = [&weights[..inputs], &weights[inputs..]];
            multiply_rows::<L, 2>(weights, next, bias, input, inputs, rows, output, stride);
        } else {
            multiply_rows::<L, 1>([weights], next, bias, input, inputs, rows, output, stride);
        }
        if let Some(activation) = activation {
            for panel in output.chunks_mut(stride) {
                activate::<L>(&mut panel[..rows], activation);
            }
        }
    }
}

/// All rows for P panels. Meanwhile the `next` weights, which come from far, are called into the core's own cache.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn multiply_rows<L: Lanes, const P: usize>(
    weights: [&[Block]; P],
    next: &[Block],
    bias: &[Block],
    input: Panels<'_>,
    inputs: usize,
    rows: usize,
    output: &mut [Block],
    stride: usize,
) {
    for (row, count) in row_groups(rows, L::TILE_ROWS) {
        let input = input.starting_at(row);
        let next = &next[next.len() * row / rows..next.len() * (row + count) / rows];
        with_rows!(L, count, N => {
            let sums = tile::<L, N, P>(input, inputs, weights, next);
            for panel in 0..P {
                let bias = L::load(&bias[panel]);
                let output = &mut output[panel * stride + row..][..N];
                for (output, sums) in output.iter_mut().zip(&sums) {
                    sums[panel].add(bias).store(output);
                }
            }
        });
    }
}

/// Splits rows into as few groups as possible of at most `most` rows, of nearly equal size: first row and rows.
#[inline(always)]
pub fn row_groups(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let groups = rows.div_ceil(most);
    (0..groups).map(move |group| {
        let first = rows * group / groups;
        (first, rows * (group + 1) / groups - first)
    })
}

/// Runs a block of code with `$n` a constant: the number of rows, at most the rows of a tile of `$lanes`.
macro_rules! with_rows {
    ($lanes:ty, $count:expr, $n:ident => $body:block) => {
        $crate::encoder::product::with_rows!(@arms $lanes, $count, $n, $body, 14 13 12 11 10 9 8 7 6 5 4 3 2 1)
    };
    (@arms $lanes:ty, $count:expr, $n:ident, $body:block, $($rows:literal)*) => {
        match $count {
            $($rows if <$lanes as $crate::encoder::product::Tile>::ROWS >= $rows => {
                const $n: usize = $rows;
                $body
            })*
            // Groups are never larger than a tile.
            _ => {}
        }
    };
}
pub(crate) use with_rows;

/// Rows that the tiles of an implementation have.
pub trait Tile {
    const ROWS: usize;
}

impl<L: Lanes> Tile for L {
    const ROWS: usize = L::TILE_ROWS;
}

/// The first N rows of input · weights, for P panels of weights. Each has `inputs` blocks, and so many columns of the
/// input are read. `next` is fetched ahead, bit by bit.
#[inline(always)]
pub fn tile<L: Lanes, const N: usize, const P: usize>(
    input: Panels<'_>,
    inputs: usize,
    weights: [&[Block]; P],
    mut next: &[Block],
) -> [[L; P]; N] {
    let mut sums = [[L::splat(0.0); P]; N];
    let at_a_time = next.len().div_ceil(inputs.div_ceil(LANES));
    let weights = weights.map(|weights| &weights[..inputs]);
    for first in (0..inputs).step_by(LANES) {
        let rows: &[Block] = &input.blocks[first / LANES * input.stride..][..N];
        let count = LANES.min(inputs - first);
        let (ahead, later) = next.split_at(at_a_time.min(next.len()));
        fetch_ahead(ahead);
        next = later;
        if count == LANES {
            let weights = weights.map(|weights| &weights[first..first + LANES]);
            for at in 0..LANES {
                accumulate(&mut sums, rows, at, weights, at);
            }
        } else {
            for at in 0..count {
                accumulate(&mut sums, rows, at, weights, first + at);
            }
        }
    }
    sums
}

/// sums[row][panel] ← sums[row][panel] + rows[row][column] · weights[panel][input]
#[inline(always)]
fn accumulate<L: Lanes, const N: usize, const P: usize>(
    sums: &mut [[L; P]; N],
    rows: &[Block],
    column: usize,
    weights: [&[Block]; P],
    input: usize,
) {
    let weights = weights.map(|weights| L::load(&weights[input]));
    for (sums, row) in sums.iter_mut().zip(rows) {
        let factor = L::splat(row.0[column]);
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum = weight.mul_add(factor, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{blocks_of, limit::each_level};
    use super::super::linear::Single;
    use super::*;
    use crate::compute::{Crew, Pool};

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 32768.0 - 1.0).collect()
    }

    /// `[rows, columns]` in panels; what is not of the matrix is not a number, but for the lanes past the last column.
    fn in_panels(values: &[f32], columns: usize, stride: usize) -> Vec<Block> {
        let mut blocks = vec![Block([f32::NAN; LANES]); columns.div_ceil(LANES) * stride];
        for (row, values) in values.chunks(columns).enumerate() {
            for (panel, block) in blocks_of(values).into_iter().enumerate() {
                blocks[panel * stride + row] = block;
            }
        }
        blocks
    }

    #[test]
    fn products_of_all_shapes_agree_with_double_precision() {
        // Rows around the tiles of all lanes, inputs and outputs around the panels.
        for (rows, outputs, inputs) in
            [(1, 1, 1), (2, 33, 7), (5, 16, 16), (6, 40, 33), (7, 17, 400), (14, 64, 48), (15, 70, 12), (43, 48, 385)]
        {
            let (input, weight) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
            let bias = numbers(outputs, 3);
            let stride = rows + 2;
            let panels = in_panels(&input, inputs, stride);
            let mut arena = vec![Block::ZERO; 3];
            let linear = Single::new(&weight, &bias, inputs, &mut arena);
            let check = |crew: &mut Crew| {
                let mut output = vec![Block([f32::NAN; LANES]); outputs.div_ceil(LANES) * stride];
                linear.apply(&arena, crew, Panels { blocks: &panels, stride }, rows, None, &mut output);
                for row in 0..rows {
                    for column in 0..outputs {
                        let pairs = input[row * inputs..][..inputs].iter().zip(&weight[column * inputs..]);
                        let sum: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        let want = sum + f64::from(bias[column]);
                        let got = f64::from(output[column / LANES * stride + row].0[column % LANES]);
                        assert!((got - want).abs() < 1e-3, "{rows} × {outputs} × {inputs}: {got}, not {want}");
                    }
                }
                assert!(output.chunks(stride).all(|panel| panel[rows].0[0].is_nan()), "rows past the last are touched");
            };
            each_level(|| check(&mut Crew::alone()));
            Pool::new(3).unwrap().with_crew(|crew| check(crew));
        }
    }

    #[test]
    fn activations_follow_the_bias() {
        let mut arena = Vec::new();
        let linear = Single::new(&[1.0, -1.0], &[0.5, 0.5], 1, &mut arena);
        let input = Panels { blocks: &[Block([2.0; LANES])], stride: 1 };
        let mut output = [Block::ZERO];
        linear.apply(&arena, &mut Crew::alone(), input, 1, Some(Activation::Relu), &mut output);
        assert_eq!(output[0].0[..3], [2.5, 0.0, 0.0]);
    }

    #[test]
    fn groups_of_rows_are_whole_and_even() {
        for rows in 0..200 {
            let groups: Vec<_> = row_groups(rows, 14).collect();
            assert_eq!(groups.len(), rows.div_ceil(14));
            let mut next = 0;
            for (first, count) in groups {
                assert!(first == next && (1..=14).contains(&count) && (rows < 14 || count >= 7));
                next += count;
            }
            assert_eq!(next, rows);
        }
    }
}
