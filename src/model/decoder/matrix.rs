//! A weight matrix, mapped from the file in the format that it has there.

use super::mapped_file::MappedFile;
use super::tensors::{Elements, Tensor};
use crate::adapter::Factors;
use crate::compute::dense;
use crate::compute::gemm::gemm_strided;
use crate::compute::parts::{Strip, Strips};
use crate::compute::quant::{self, Activations, Level, PANEL_ROWS};
use crate::compute::Pool;
use crate::error::{ModelError, Result};
use crate::quantize::TensorType;
use std::ops::Range;
use std::sync::Arc;

/// Weights that are expanded at a time for the product of a matrix of numbers with many vectors: 4 MiB as f32, which
/// stays in the cache.
const DENSE_PANEL_WEIGHTS: usize = 1 << 20;

/// From so many vectors on, expanding panels of a matrix of numbers pays.
const DENSE_PANEL_ROWS: usize = 17;

/// `rows × columns`; a row holds the weights of one output.
#[derive(Clone)]
pub struct Matrix {
    elements: Elements,
    rows: usize,
    columns: usize,
    bytes: Bytes,
}

/// Where the weights of a matrix are.
#[derive(Clone)]
enum Bytes {
    Mapped(Arc<MappedFile>, Range<usize>),
    Owned(Arc<[u8]>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map, range) => &map[range.clone()],
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// Vectors to be multiplied: as numbers, and rounded for the matrices of blocks.
#[derive(Default)]
pub struct Input {
    pub numbers: Vec<f32>,
    pub rounded: Activations,
}

impl Input {
    /// Makes room for `rows` vectors of `columns` numbers.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        self.numbers.resize(rows * columns, 0.0);
        self.rounded.resize(rows, columns);
    }
}

impl Matrix {
    /// Takes a two-dimensional tensor as it lies in the file. Errors: `Unsupported` for rows that are not whole units.
    pub fn new(tensor: Tensor) -> Result<Self> {
        let Tensor { name, shape, elements, map, bytes: range } = tensor;
        match *shape.as_slice() {
            [rows, columns] if columns > 0 && columns.is_multiple_of(quant::UNIT) => {
                Ok(Self { elements, rows, columns, bytes: Bytes::Mapped(map, range) })
            }
            _ => Err(ModelError::Unsupported(format!("tensor \"{name}\" of the shape {shape:?} as a matrix"))),
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn elements(&self) -> Elements {
        self.elements
    }

    /// The weights of an output as they lie in the file.
    pub fn row(&self, row: usize) -> &[u8] {
        self.row_range(row..row + 1)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.bytes.all().len()
    }

    /// This matrix with the product of two factors added, in memory of its own; `None` for one of blocks, which would have
    /// to be quantised again.
    pub fn merged(&self, factors: &Factors) -> Option<Self> {
        let Elements::Numbers(element) = self.elements else { return None };
        let mut bytes = vec![0; self.bytes()];
        let mut weights = vec![0.0; self.columns];
        for (row, out) in bytes.chunks_exact_mut(element.bytes() * self.columns).enumerate() {
            self.expand_row(row, &mut weights);
            factors.add_to_row(row, &mut weights);
            TensorType::Numbers(element).quantise(&weights, out);
        }
        Some(Self { bytes: Bytes::Owned(bytes.into()), ..self.clone() })
    }

    fn row_range(&self, rows: Range<usize>) -> &[u8] {
        let row_bytes = self.elements.row_bytes(self.columns);
        &self.bytes.all()[rows.start * row_bytes..rows.end * row_bytes]
    }

    /// Expands row `row` to `out`, which has as many elements as the matrix has columns.
    pub fn expand_row(&self, row: usize, out: &mut [f32]) {
        self.elements.expand(self.row_range(row..row + 1), out);
    }

    /// Multiplies rows from `first` on, one for each column of `y`.
    fn multiply_strip(&self, level: Level, first: usize, x: &Input, y: &mut Strip) {
        let weights = self.row_range(first..first + y.columns());
        match self.elements {
            Elements::Blocks(format) => quant::multiply(level, format, weights, &x.rounded, y),
            Elements::Numbers(element) => dense::multiply(element, weights, &x.numbers, self.columns, y),
        }
    }

    /// Multiplies expanded panels with many vectors.
    fn multiply_expanded(&self, pool: &Pool, count: usize, x: &[f32], y: &mut [f32], y_stride: usize) {
        let panel_rows = (DENSE_PANEL_WEIGHTS / self.columns).max(1);
        let mut panel = Vec::new();
        for start in (0..self.rows).step_by(panel_rows) {
            let end = (start + panel_rows).min(self.rows);
            panel.resize((end - start) * self.columns, 0.0);
            let chunk_rows = (end - start).div_ceil(4 * pool.threads());
            pool.for_chunks_mut(&mut panel, chunk_rows * self.columns, |index, out| {
                let first = start + index * chunk_rows;
                self.elements.expand(self.row_range(first..first + out.len() / self.columns), out);
            });
            gemm_strided(pool, count, end - start, self.columns, x, &panel, &mut y[start..], y_stride);
        }
    }
}

/// Multiplies `count` vectors with several matrices of the same width. Row `i` of `y`, of which there are `count`, takes
/// the results with vector `i`, those of one matrix after the other.
pub fn multiply(pool: &Pool, matrices: &[Matrix], count: usize, x: &Input, y: &mut [f32]) {
    let level = Level::best();
    let columns: usize = matrices.iter().map(|matrix| matrix.rows).sum();
    let numbers = |matrix: &Matrix| !level.suits_prompts() || matches!(matrix.elements, Elements::Numbers(_));
    if count >= DENSE_PANEL_ROWS && matrices.iter().any(numbers) {
        let mut start = 0;
        for matrix in matrices {
            matrix.multiply_expanded(pool, count, &x.numbers, &mut y[start..], columns);
            start += matrix.rows;
        }
        return;
    }
    let panels = columns.div_ceil(PANEL_ROWS);
    // Two strips per thread are even if both threads run; of many panels there are more strips, so that a core which is
    // busy with something else does not hold the others up for long.
    let shares = if panels > 128 * pool.threads() { 8 } else { 2 };
    let width = panels.div_ceil(shares * pool.threads()) * PANEL_ROWS;
    pool.for_parts(Strips::new(y, count, columns, columns, width), |index, mut strip| {
        let (mut at, end) = (index * width, index * width + strip.columns());
        let mut start = 0;
        for matrix in matrices {
            let here = end.min(start + matrix.rows).saturating_sub(at);
            if here > 0 {
                let offset = at - index * width;
                matrix.multiply_strip(level, at - start, x, &mut strip.part(offset, here));
                at += here;
            }
            start += matrix.rows;
        }
    });
}
