//! The encoder's kernels at every level of instructions in every shape around their tiles, panels and blocks, against
//! sums in f64 or in whole numbers.

use super::attention::{attention, Heads};
use super::kernels::{add_norm, Norm};
use super::lanes::{blocks_of, limit::each_level, Block, LANES};
use super::linear::Single;
use super::product::Panels;
use super::quantized::{Codes, Quantized};
use crate::compute::Crew;

/// Rows of the largest tile, and one more.
const ROWS: usize = 15;

/// Two panels, and one more output.
const OUTPUTS: usize = 2 * LANES + 1;

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 32768.0 - 1.0).collect()
}

/// Whole numbers from -127 to 127, both of which every row of `width` begins with as far as it goes: their own codes in
/// 8 bits, with the scale 1.
fn codes(rows: usize, width: usize, seed: u32) -> Vec<f32> {
    let mut codes: Vec<f32> = numbers(rows * width, seed).iter().map(|x| (x * 127.0).round()).collect();
    for row in codes.chunks_mut(width) {
        let ends = [127.0, -127.0];
        row.iter_mut().zip(ends).for_each(|(code, end)| *code = end);
    }
    codes
}

/// `[rows, columns]` in panels, with a row of other numbers behind the last.
fn in_panels(values: &[f32], columns: usize, rows: usize) -> Vec<Block> {
    let stride = rows + 1;
    let mut blocks = vec![Block([f32::NAN; LANES]); columns.div_ceil(LANES) * stride];
    for (row, values) in values.chunks(columns).enumerate() {
        for (panel, block) in blocks_of(values).into_iter().enumerate() {
            blocks[panel * stride + row] = block;
        }
    }
    blocks
}

/// What an operation leaves in its output, row by row; rows behind the last must be as they were.
fn output(columns: usize, rows: usize, operation: impl FnOnce(&mut [Block])) -> Vec<Vec<f32>> {
    let stride = rows + 1;
    let mut blocks = vec![Block([f32::NAN; LANES]); columns.div_ceil(LANES) * stride];
    operation(&mut blocks);
    assert!(blocks.chunks(stride).all(|panel| panel[rows].0.iter().all(|x| x.is_nan())), "a row too many is written");
    (0..rows).map(|row| (0..columns).map(|at| blocks[at / LANES * stride + row].0[at % LANES]).collect()).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Products of all rows up to a tile and one more with outputs up to two panels and one more.
fn check_products(inputs: usize, rows: &[usize], outputs: &[usize]) {
    let (input, weight, bias) = (numbers(ROWS * inputs, 1), numbers(OUTPUTS * inputs, 2), numbers(OUTPUTS, 3));
    let (code_input, code_weight) = (codes(ROWS, inputs, 4), codes(OUTPUTS, inputs, 5));
    for &outputs in outputs {
        let mut arena = Vec::new();
        let single = Single::new(&weight[..outputs * inputs], &bias[..outputs], inputs, &mut arena);
        // Whole numbers too, so that the results are exact.
        let code_bias: Vec<f32> = (0..outputs).map(|at| at as f32 - 9.0).collect();
        let quantized = Quantized::new(&code_weight[..outputs * inputs], &code_bias, inputs);
        for &rows in rows {
            let stride = rows + 1;
            let floats = in_panels(&input[..rows * inputs], inputs, rows);
            let integers = in_panels(&code_input[..rows * inputs], inputs, rows);
            each_level(|| {
                let crew = &mut Crew::alone();
                let panels = Panels { blocks: &floats, stride };
                let got = output(outputs, rows, |to| single.apply(&arena, crew, panels, rows, None, to));
                for (got, x) in got.iter().zip(input.chunks(inputs)) {
                    for ((got, w), bias) in got.iter().zip(weight.chunks(inputs)).zip(&bias) {
                        let want = dot(w, x) + f64::from(*bias);
                        let error = (f64::from(*got) - want).abs();
                        assert!(error < 1e-4, "{rows} × {outputs} × {inputs}: {got}, not {want}");
                    }
                }
                let panels = Panels { blocks: &integers, stride };
                let scratch = &mut Codes::default();
                let got = output(outputs, rows, |to| quantized.apply(crew, panels, rows, None, to, scratch));
                for (got, x) in got.iter().zip(code_input.chunks(inputs)) {
                    for ((got, w), bias) in got.iter().zip(code_weight.chunks(inputs)).zip(&code_bias) {
                        let want = dot(w, x) + f64::from(*bias);
                        assert_eq!(f64::from(*got), want, "{rows} × {outputs} × {inputs} in 8 bits");
                    }
                }
            });
        }
    }
}

#[test]
fn products_of_every_number_of_rows_and_outputs() {
    let all_rows: Vec<usize> = (1..=ROWS).collect();
    let all_outputs: Vec<usize> = (1..=OUTPUTS).collect();
    check_products(37, &all_rows, &all_outputs);
}

#[test]
fn products_of_every_number_of_inputs() {
    // To two panels of f32 and over a block of codes, which is 64 inputs.
    for inputs in (1..=2 * LANES + 1).chain([62, 63, 64, 65, 66, 67, 68, 69, 129]) {
        check_products(inputs, &[1, 2, 7, ROWS], &[1, LANES, OUTPUTS]);
    }
}

#[test]
fn attention_of_every_length_and_width_of_heads() {
    for panels in 1..=4 {
        let heads = Heads { count: 2, keys: 2, panels };
        let width = panels * LANES;
        for tokens in (1..=2 * LANES + 3).chain([47, 48, 49, 63, 64, 65]) {
            let columns = 3 * heads.count * width;
            let values = numbers(tokens * columns, 7);
            let blocks = in_panels(&values, columns, tokens);
            let at = |row: usize, column: usize| f64::from(values[row * columns + column]);
            let hidden = heads.count * width;
            let mut want = vec![vec![0.0; hidden]; tokens];
            for (row, want) in want.iter_mut().enumerate() {
                for head in 0..heads.count {
                    let of_head = head * width..(head + 1) * width;
                    let score = |key: usize| of_head.clone().map(|c| at(row, c) * at(key, hidden + c)).sum::<f64>();
                    let weights: Vec<f64> = (0..tokens).map(|key| score(key).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for column in of_head {
                        let sum: f64 =
                            weights.iter().enumerate().map(|(key, w)| w * at(key, 2 * hidden + column)).sum();
                        want[column] = sum / total;
                    }
                }
            }
            each_level(|| {
                let qkv = Panels { blocks: &blocks, stride: tokens + 1 };
                let got =
                    output(hidden, tokens, |to| attention(&mut Crew::alone(), heads, qkv, None, &[0, tokens], to));
                for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
                    let error = (f64::from(*got) - want).abs();
                    assert!(error < 1e-4, "{tokens} tokens, {panels} panels: {got}, not {want}");
                }
            });
        }
    }
}

#[test]
fn normalisation_of_every_width() {
    const COUNT: usize = 3;
    for width in 1..=3 * LANES + 1 {
        let (weight, bias) = (numbers(width, 1), numbers(width, 2));
        let norm = Norm::new(&weight, &bias, 1e-3);
        let (input, addend) = (numbers(COUNT * width, 3), numbers(COUNT * width, 4));
        let addends = in_panels(&addend, width, COUNT);
        each_level(|| {
            let got = output(width, COUNT, |to| {
                for (to, from) in to.iter_mut().zip(in_panels(&input, width, COUNT)) {
                    *to = from;
                }
                add_norm(to, &addends, COUNT + 1, COUNT, &norm);
            });
            for ((got, input), addend) in got.iter().zip(input.chunks(width)).zip(addend.chunks(width)) {
                let sums: Vec<f64> = input.iter().zip(addend).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
                let mean = sums.iter().sum::<f64>() / width as f64;
                let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                for (at, got) in got.iter().enumerate() {
                    let scaled = (sums[at] - mean) / (variance + 1e-3).sqrt();
                    let want = scaled * f64::from(weight[at]) + f64::from(bias[at]);
                    assert!((f64::from(*got) - want).abs() < 1e-5, "width {width}: {got}, not {want}");
                }
            }
        });
    }
}
