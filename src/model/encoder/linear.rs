//! Linear layers with weights packed once, when the model is loaded.
//!
//! The general product of [`crate::compute::gemm`] repacks both operands in every call, which for a short query costs
//! far more than the arithmetic. Here the weights lie in panels of 16 outputs, in the order in which the inner loop
//! reads them, and the inputs are used where they are: a short query streams the weights once at the speed of the
//! memory, a batch runs at the speed of the multiplier (blocking as in Goto and van de Geijn, 2008, "Anatomy of
//! high-performance matrix multiplication", without their packing of the left operand).
#![allow(unsafe_code)]

use super::lanes::{dispatch, Lanes, LANES};
use crate::compute::Pool;

/// Outputs of a panel.
const PANEL: usize = 2 * LANES;
/// Rows computed together in registers.
const ROWS: usize = 6;
/// Inputs of a block: a panel's part of this length stays in the first-level cache while rows pass by.
const BLOCK_INPUTS: usize = 384;
/// Up to this many rows, threads share the outputs; beyond it, the rows.
const FEW_ROWS: usize = 64;
/// Most rows of a task.
const MAX_TASK_ROWS: usize = 96;
/// Panels of a task when threads share the outputs.
const TASK_PANELS: usize = 4;

/// Weights and bias of a linear layer. The bias is kept for the loop that follows the product.
pub struct Linear {
    inputs: usize,
    outputs: usize,
    /// `[outputs / PANEL, inputs, PANEL]`; outputs past the last are zero.
    packed: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Linear {
    /// Packs `weight`, which is `[outputs, inputs]`; `bias` has one number for each output.
    pub fn new(weight: &[f32], bias: Vec<f32>, inputs: usize) -> Self {
        let outputs = bias.len();
        let mut packed = vec![0.0; outputs.div_ceil(PANEL) * inputs * PANEL];
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let panel = &mut packed[output / PANEL * inputs * PANEL..];
            for (target, value) in panel.as_chunks_mut::<PANEL>().0.iter_mut().zip(row) {
                target[output % PANEL] = *value;
            }
        }
        Self { inputs, outputs, packed, bias }
    }

    /// Numbers that the layer holds.
    pub fn len(&self) -> usize {
        self.packed.len() + self.bias.len()
    }

    /// output ← input · weightᵀ, without the bias; `input` is `[rows, inputs]`, `output` is `[rows, outputs]`.
    ///
    /// `tiles` is a buffer that is kept between calls.
    pub fn apply(&self, pool: &Pool, input: &[f32], output: &mut [f32], tiles: &mut Vec<f32>) {
        let Self { inputs, outputs, .. } = *self;
        let rows = input.len() / inputs;
        if rows > FEW_ROWS {
            let task_rows = rows.div_ceil(4 * pool.threads()).next_multiple_of(ROWS).min(MAX_TASK_ROWS);
            pool.for_chunks_mut(output, task_rows * outputs, |task, output| {
                let rows = output.len() / outputs;
                multiply(&self.packed, &input[task * task_rows * inputs..][..rows * inputs], inputs, output, outputs);
            });
            return;
        }
        // Each panel's outputs are contiguous in `tiles`, so that tasks write to separate slices.
        let tile = rows * PANEL;
        tiles.resize(outputs.div_ceil(PANEL) * tile, 0.0);
        pool.for_chunks_mut(tiles, TASK_PANELS * tile, |task, tiles| {
            let panels = self.packed[task * TASK_PANELS * inputs * PANEL..].chunks_exact(inputs * PANEL);
            for (tile, panel) in tiles.chunks_exact_mut(tile).zip(panels) {
                multiply(panel, input, inputs, tile, PANEL);
            }
        });
        for (panel, tile) in tiles.chunks_exact(tile).enumerate() {
            let columns = PANEL.min(outputs - panel * PANEL);
            for (row, output) in tile.chunks_exact(PANEL).zip(output.chunks_exact_mut(outputs)) {
                output[panel * PANEL..][..columns].copy_from_slice(&row[..columns]);
            }
        }
    }
}

dispatch! {
    /// output ← input · panels; `output` is `[rows, outputs]` with as many outputs as the panels have, but for padding.
    fn multiply(panels: &[f32], input: &[f32], inputs: usize, output: &mut [f32], outputs: usize) = multiply_kernel;
}

#[inline(always)]
fn multiply_kernel<L: Lanes>(panels: &[f32], input: &[f32], inputs: usize, output: &mut [f32], outputs: usize) {
    for first in (0..inputs).step_by(BLOCK_INPUTS) {
        let length = BLOCK_INPUTS.min(inputs - first);
        for (panel, weights) in panels.chunks_exact(inputs * PANEL).enumerate() {
            let weights = &weights[first * PANEL..][..length * PANEL];
            let columns = PANEL.min(outputs - panel * PANEL);
            let groups = output.chunks_mut(ROWS * outputs).zip(input.chunks(ROWS * inputs));
            for (output, input) in groups {
                let target = Target { output, stride: outputs, column: panel * PANEL, columns, add: first > 0 };
                match input.len() / inputs {
                    ROWS => multiply_rows::<L, ROWS>(weights, input, inputs, first, target),
                    5 => multiply_rows::<L, 5>(weights, input, inputs, first, target),
                    4 => multiply_rows::<L, 4>(weights, input, inputs, first, target),
                    3 => multiply_rows::<L, 3>(weights, input, inputs, first, target),
                    2 => multiply_rows::<L, 2>(weights, input, inputs, first, target),
                    _ => multiply_rows::<L, 1>(weights, input, inputs, first, target),
                }
            }
        }
    }
}

/// Where a few rows of one panel go.
struct Target<'a> {
    output: &'a mut [f32],
    stride: usize,
    column: usize,
    /// Columns that exist; the panel's others are padding.
    columns: usize,
    /// Add to what is there instead of replacing it.
    add: bool,
}

#[inline(always)]
fn multiply_rows<L: Lanes, const N: usize>(
    weights: &[f32],
    input: &[f32],
    inputs: usize,
    first: usize,
    target: Target<'_>,
) {
    let weights = weights.as_chunks::<LANES>().0.as_chunks::<2>().0;
    // Slices of the same length as `weights`, so that no access in the loop needs a check.
    let rows: [&[f32]; N] = std::array::from_fn(|row| &input[row * inputs + first..][..weights.len()]);
    let mut sums = [[L::splat(0.0); 2]; N];
    for (at, [low, high]) in weights.iter().enumerate() {
        let (low, high) = (L::load(low), L::load(high));
        for (sums, row) in sums.iter_mut().zip(rows) {
            let factor = L::splat(row[at]);
            sums[0] = low.mul_add(factor, sums[0]);
            sums[1] = high.mul_add(factor, sums[1]);
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        let output = &mut target.output[row * target.stride + target.column..][..target.columns];
        let mut values = [0.0; PANEL];
        if target.add {
            values[..output.len()].copy_from_slice(output);
        }
        for (values, sum) in values.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            sum.add(L::load(values)).store(values);
        }
        output.copy_from_slice(&values[..output.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 32768.0 - 1.0).collect()
    }

    fn exact(input: &[f32], weight: &[f32], inputs: usize) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        input.chunks(inputs).flat_map(|row| weight.chunks(inputs).map(move |output| dot(row, output))).collect()
    }

    #[test]
    fn products_of_all_shapes_agree_with_double_precision() {
        for threads in [1, 3] {
            let pool = Pool::new(threads).unwrap();
            let mut tiles = Vec::new();
            // Rows around the sizes of groups and of both ways to share the work; inputs across blocks; odd outputs.
            for (rows, outputs, inputs) in
                [(1, 1, 1), (5, 33, 7), (6, 16, 8), (64, 70, 12), (65, 17, 400), (200, 64, 385), (11, 48, 1000)]
            {
                let (input, weight) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
                let linear = Linear::new(&weight, vec![0.0; outputs], inputs);
                let mut output = vec![f32::NAN; rows * outputs];
                linear.apply(&pool, &input, &mut output, &mut tiles);
                for (got, want) in output.iter().zip(exact(&input, &weight, inputs)) {
                    assert!((f64::from(*got) - want).abs() < 1e-3, "{rows} × {outputs} × {inputs}: {got}, not {want}");
                }
            }
        }
    }

    #[test]
    fn dispatched_kernel_agrees_with_the_portable_one() {
        let (rows, outputs, inputs) = (13, 30, 50);
        let input = numbers(rows * inputs, 3);
        let linear = Linear::new(&numbers(outputs * inputs, 4), vec![0.0; outputs], inputs);
        let mut fast = vec![0.0; rows * outputs];
        let mut truth = fast.clone();
        multiply(&linear.packed, &input, inputs, &mut fast, outputs);
        multiply_kernel::<Portable>(&linear.packed, &input, inputs, &mut truth, outputs);
        assert!(fast.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
