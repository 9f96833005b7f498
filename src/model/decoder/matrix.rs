//! A weight matrix in one of the quantised formats that have kernels, mapped from the file or converted at load.

use super::gguf::{GgufFile, Tensor};
use super::mapped_file::MappedFile;
use crate::compute::gemm::gemm_strided;
use crate::compute::quant::{dequantize, dot_rows, quantize_q8_0, BlockFormat, QuantizedVector, BLOCK_LEN};
use crate::compute::Pool;
use crate::error::{ModelError, Result};
use candle_core::quantized::{ggml_file::qtensor_from_ggml, GgmlDType};
use candle_core::Device;
use std::ops::Range;
use std::sync::Arc;

/// Weights that are expanded at a time for a product with many vectors: 4 MiB as f32, which stays in the cache.
const PANEL_WEIGHTS: usize = 1 << 20;

/// Weights that are converted at a time when a model is loaded.
const CONVERT_WEIGHTS: usize = 1 << 22;

/// `rows × columns`; a row holds the weights of one output.
pub struct Matrix {
    format: BlockFormat,
    rows: usize,
    columns: usize,
    storage: Storage,
}

enum Storage {
    Mapped(Arc<MappedFile>, Range<usize>),
    Owned(Vec<u8>),
}

impl Matrix {
    /// Takes a two-dimensional tensor as it lies in the file if its format has kernels; converts it to Q8_0 if not.
    pub fn load(file: &GgufFile, tensor: Tensor) -> Result<Self> {
        let &[rows, columns] = tensor.shape.as_slice() else {
            return Err(file.corrupt(format!("a matrix has the shape {:?}", tensor.shape)));
        };
        if columns == 0 || !columns.is_multiple_of(BLOCK_LEN) {
            return Err(ModelError::Unsupported(format!("matrix with rows of {columns} weights")));
        }
        let (format, storage) = match tensor.element_type {
            GgmlDType::Q4_0 => (BlockFormat::Q4_0, Storage::Mapped(Arc::clone(&file.map), tensor.bytes)),
            GgmlDType::Q4_1 => (BlockFormat::Q4_1, Storage::Mapped(Arc::clone(&file.map), tensor.bytes)),
            GgmlDType::Q8_0 => (BlockFormat::Q8_0, Storage::Mapped(Arc::clone(&file.map), tensor.bytes)),
            _ => (BlockFormat::Q8_0, Storage::Owned(convert(file, &tensor, columns)?)),
        };
        Ok(Self { format, rows, columns, storage })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the weights, mapped or not.
    pub fn bytes(&self) -> usize {
        self.format.row_bytes(self.columns) * self.rows
    }

    fn row_range(&self, rows: Range<usize>) -> &[u8] {
        let row_bytes = self.format.row_bytes(self.columns);
        let all = match &self.storage {
            Storage::Mapped(map, range) => &map[range.clone()],
            Storage::Owned(bytes) => bytes,
        };
        &all[rows.start * row_bytes..rows.end * row_bytes]
    }

    /// Expands row `row` to `out`, which has as many elements as the matrix has columns.
    pub fn expand_row(&self, row: usize, out: &mut [f32]) {
        dequantize(self.format, self.row_range(row..row + 1), out);
    }

    /// `y = x · wᵀ` for `count` vectors (`x`: `count × columns`). Vector `i` of the result is
    /// `y[i * y_stride..][..rows]`. `panel` is scratch.
    pub fn multiply_many(
        &self,
        pool: &Pool,
        count: usize,
        x: &[f32],
        y: &mut [f32],
        y_stride: usize,
        panel: &mut Vec<f32>,
    ) {
        let panel_rows = (PANEL_WEIGHTS / self.columns).max(1);
        for start in (0..self.rows).step_by(panel_rows) {
            let end = (start + panel_rows).min(self.rows);
            panel.resize((end - start) * self.columns, 0.0);
            let chunk_rows = (end - start).div_ceil(4 * pool.threads());
            pool.for_chunks_mut(panel, chunk_rows * self.columns, |index, out| {
                let first = start + index * chunk_rows;
                dequantize(self.format, self.row_range(first..first + out.len() / self.columns), out);
            });
            gemm_strided(pool, count, end - start, self.columns, x, panel, &mut y[start..], y_stride);
        }
    }
}

/// Multiplies one vector with several matrices; `y` takes their results one after the other.
pub fn multiply_one(pool: &Pool, matrices: &[&Matrix], x: &QuantizedVector, y: &mut [f32]) {
    // Two chunks per thread balance the load when a core is busy with something else; a multiple of 4 rows suits the
    // kernels.
    let chunk_rows = y.len().div_ceil(2 * pool.threads()).next_multiple_of(4);
    pool.for_chunks_mut(y, chunk_rows, |index, mut y| {
        let mut skip = index * chunk_rows;
        for matrix in matrices {
            if skip >= matrix.rows {
                skip -= matrix.rows;
                continue;
            }
            let count = (matrix.rows - skip).min(y.len());
            let (part, rest) = y.split_at_mut(count);
            dot_rows(matrix.format, matrix.row_range(skip..skip + count), x, part);
            (skip, y) = (0, rest);
        }
    });
}

/// A tensor of any readable type as Q8_0 blocks, a few rows at a time.
fn convert(file: &GgufFile, tensor: &Tensor, columns: usize) -> Result<Vec<u8>> {
    let rows = tensor.shape[0];
    let mut blocks = Vec::new();
    let needed = BlockFormat::Q8_0.row_bytes(columns) * rows;
    if blocks.try_reserve_exact(needed).is_err() {
        return Err(ModelError::OutOfMemory(format!("a matrix needs {needed} bytes")));
    }
    let mut numbers = Vec::new();
    let step = (CONVERT_WEIGHTS / columns).max(1);
    for start in (0..rows).step_by(step) {
        expand(file, tensor, start..(start + step).min(rows), columns, &mut numbers)?;
        quantize_q8_0(&numbers, &mut blocks);
    }
    Ok(blocks)
}

/// Rows of a tensor of any readable type as f32.
fn expand(file: &GgufFile, tensor: &Tensor, rows: Range<usize>, columns: usize, out: &mut Vec<f32>) -> Result<()> {
    let row_bytes = columns / tensor.element_type.block_size() * tensor.element_type.type_size();
    let bytes = &file.map[tensor.bytes.start + rows.start * row_bytes..][..rows.len() * row_bytes];
    // A copy, because candle reads blocks through aligned pointers and a tensor may lie anywhere in a file.
    let aligned = bytes.to_vec();
    let expanded = qtensor_from_ggml(tensor.element_type, &aligned, vec![rows.len() * columns], &Device::Cpu)
        .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.to_vec1::<f32>())
        .map_err(|error| file.corrupt(error))?;
    *out = expanded;
    Ok(())
}

/// A one-dimensional tensor as f32.
pub fn load_vector(file: &GgufFile, tensor: &Tensor) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let len = tensor.shape.iter().product();
    expand(file, tensor, 0..1, len, &mut out)?;
    Ok(out)
}
