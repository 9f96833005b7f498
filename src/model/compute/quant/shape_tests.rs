//! Every format at every level of instructions in every shape around those that the kernels are made for: rows of a panel
//! and one more, vectors of a tile and one more, rows of one block to several panels' chunks.
//!
//! The truth is the sum of the expanded weights times the vector in f64; `tests.rs` compares the expansion with candle's.

use super::panel::CHUNK_UNITS;
use super::tests::{product, random_blocks, random_vector};
use super::*;

/// Rows of the largest tile.
const TILE_ROWS: usize = 8;

/// Weights, vectors, and all sums of products with the sum of the magnitudes of their terms.
struct Case {
    format: BlockFormat,
    len: usize,
    weights: Vec<u8>,
    vectors: Vec<f32>,
    /// By vector and row of the weights.
    truth: Vec<Vec<(f64, f64)>>,
}

impl Case {
    fn new(format: BlockFormat, blocks: usize, columns: usize, rows: usize) -> Self {
        let len = blocks * format.block_units() * UNIT;
        let weights = random_blocks(format, blocks * columns, 11 + blocks as u64);
        let vectors = random_vector(rows * len, 5);
        let mut expanded = vec![0.0; columns * len];
        format.expand(&weights, &mut expanded);
        let dot = |w: &[f32], x: &[f32]| {
            let terms = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            terms.fold((0.0, 0.0), |(sum, all), term| (sum + term, all + term.abs()))
        };
        let truth = vectors.chunks(len).map(|x| expanded.chunks(len).map(|w| dot(w, x)).collect());
        let truth = truth.collect();
        Self { format, len, weights, vectors, truth }
    }

    /// The products of the first `columns` rows with the first `rows` vectors are those of the truth.
    fn check(&self, columns: usize, rows: usize) {
        let row_bytes = self.format.row_bytes(self.len);
        let mut x = Activations::default();
        x.set(&self.vectors[..rows * self.len], self.len);
        for level in Level::all() {
            let got = product(level, self.format, &self.weights[..columns * row_bytes], &x, columns);
            for (got, truth) in got.chunks(columns).zip(&self.truth) {
                for (got, (want, magnitude)) in got.iter().zip(truth) {
                    let error = (f64::from(*got) - want).abs();
                    let Self { format, len, .. } = self;
                    // As in `tests.rs`: half a step in each number, all of one sign.
                    assert!(
                        error <= 2e-4 * magnitude,
                        "{level:?} {format:?} {rows}x{len}x{columns}: {got}, not {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn rows_of_a_panel_and_one_more_times_vectors_of_a_tile_and_one_more() {
    for format in BlockFormat::ALL {
        let case = Case::new(format, 2, PANEL_ROWS + 1, TILE_ROWS + 1);
        for columns in 1..=PANEL_ROWS + 1 {
            for rows in 1..=TILE_ROWS + 1 {
                case.check(columns, rows);
            }
        }
    }
}

#[test]
fn rows_of_one_block_to_several_chunks() {
    for format in BlockFormat::ALL {
        // Around the chunks into which long rows are cut, in blocks.
        let chunk = CHUNK_UNITS / format.block_units();
        for blocks in [1, 2, 3, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 1] {
            let case = Case::new(format, blocks, PANEL_ROWS + 3, 3);
            for (columns, rows) in [(1, 1), (PANEL_ROWS, 2), (PANEL_ROWS + 3, 3)] {
                case.check(columns, rows);
            }
        }
    }
}

#[test]
fn all_that_the_processor_has_is_tested() {
    let levels = Level::all();
    assert!(levels.contains(&Level::Portable) && levels.contains(&Level::best()));
    eprintln!("levels of instructions: {levels:?}");
}
