//! Matrices on the device, and products of rows with them.
//!
//! Blocks of ggml stay blocks: the device multiplies them with rows that it rounds to 8 bits itself. Numbers keep their
//! type; rows and products are rounded to it, while sums are f32. For bf16 that is how such models are run everywhere. f16 does
//! not reach as far, and some models have rows that it cannot hold, so each row is scaled to numbers of at most 1 before it is
//! rounded, and its products back. Several matrices that take the same rows are one layer.

use crate::compute::dense::Element;
use crate::compute::quant::BlockFormat;
use crate::error::{ModelError, Result};
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Tensor};
use std::borrow::Cow;
use std::sync::Arc;

/// `[outputs, inputs]`, on the device.
#[derive(Clone)]
pub enum Matrix {
    Blocks(QMatMul),
    Numbers(Tensor),
}

impl Matrix {
    /// Uploads rows of blocks as they lie in a file. The rows are whole blocks.
    pub fn of_blocks(device: &Device, format: BlockFormat, [rows, columns]: [usize; 2], bytes: &[u8]) -> Result<Self> {
        let mut buffer = Vec::new();
        let bytes = Cow::Borrowed(at_even_address(bytes, &mut buffer));
        let storage = QStorage::from_data(bytes, device, ggml_type(format))?;
        Ok(Self::Blocks(QMatMul::QTensor(Arc::new(QTensor::new(storage, (rows, columns))?))))
    }

    /// Uploads rows of numbers as they lie in a file.
    pub fn of_numbers(device: &Device, element: Element, [rows, columns]: [usize; 2], bytes: &[u8]) -> Result<Self> {
        let kind = match element {
            Element::F32 => DType::F32,
            Element::F16 => DType::F16,
            Element::BF16 => DType::BF16,
        };
        let tensor = Tensor::from_raw_buffer(bytes, kind, &[rows, columns], device)?;
        // candle's processor device, which is for tests, does not multiply these.
        let widened = device.is_cpu() && kind == DType::BF16;
        Ok(Self::Numbers(if widened { tensor.to_dtype(DType::F32)? } else { tensor }))
    }

    /// Uploads numbers; as f16 where they may be `rounded`.
    pub fn of_f32(device: &Device, [rows, columns]: [usize; 2], numbers: &[f32], rounded: bool) -> Result<Self> {
        let tensor = Tensor::from_slice(numbers, (rows, columns), device)?;
        Ok(Self::Numbers(if rounded { tensor.to_dtype(DType::F16)? } else { tensor }))
    }

    /// `rows · matrixᵀ`, both f32.
    fn product(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Blocks(matrix) => matrix.forward(rows)?,
            Self::Numbers(matrix) if matrix.dtype() == DType::F16 => {
                // Rows of zeros stay zeros.
                let largest = rows.abs()?.max_keepdim(1)?.maximum(f32::MIN_POSITIVE)?;
                let scaled = rows.broadcast_div(&largest)?.to_dtype(DType::F16)?;
                scaled.matmul(&matrix.t()?)?.to_dtype(DType::F32)?.broadcast_mul(&largest)?
            }
            Self::Numbers(matrix) => rows.to_dtype(matrix.dtype())?.matmul(&matrix.t()?)?.to_dtype(DType::F32)?,
        })
    }
}

/// A linear layer: the outputs of its matrices one after the other, plus a bias, plus what an adapter adds.
#[derive(Clone)]
pub struct Linear {
    matrices: Vec<Matrix>,
    bias: Option<Tensor>,
    low_rank: Option<LowRank>,
}

/// Two thin factors (Hu et al., "LoRA", 2021), already turned for products with rows.
#[derive(Clone)]
struct LowRank {
    /// `[inputs, rank]`
    narrow: Tensor,
    /// `[rank, outputs]`
    widen: Tensor,
}

impl Linear {
    /// `bias` has a number for each output of all matrices.
    pub fn new(device: &Device, matrices: Vec<Matrix>, bias: Option<&[f32]>) -> Result<Self> {
        if matrices.is_empty() {
            return Err(ModelError::Internal("a layer without a matrix".into()));
        }
        Ok(Self { matrices, bias: bias.map(|bias| vector(device, bias)).transpose()?, low_rank: None })
    }

    /// The same layer with the product of two factors added to its matrices: `widen · narrow`, where `narrow` is
    /// `[rank, inputs]` and `widen` is `[outputs, rank]`.
    pub fn with_low_rank(&self, device: &Device, rank: usize, narrow: &[f32], widen: &[f32]) -> Result<Self> {
        let turned = |numbers: &[f32], rows: usize, columns: usize| -> Result<Tensor> {
            Ok(Tensor::from_slice(numbers, (rows, columns), device)?.t()?.contiguous()?)
        };
        let narrow = turned(narrow, rank, narrow.len() / rank)?;
        let widen = turned(widen, widen.len() / rank, rank)?;
        Ok(Self { low_rank: Some(LowRank { narrow, widen }), ..self.clone() })
    }

    /// Rows of outputs for rows of inputs.
    pub fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        let mut outputs = match self.matrices.as_slice() {
            [matrix] => matrix.product(rows)?,
            matrices => {
                let products = matrices.iter().map(|matrix| matrix.product(rows)).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&products, 1)?
            }
        };
        if let Some(LowRank { narrow, widen }) = &self.low_rank {
            outputs = (outputs + rows.matmul(narrow)?.matmul(widen)?)?;
        }
        if let Some(bias) = &self.bias {
            outputs = outputs.broadcast_add(bias)?;
        }
        Ok(outputs)
    }
}

/// Uploads numbers that lie in a row.
pub fn vector(device: &Device, numbers: &[f32]) -> Result<Tensor> {
    Ok(Tensor::from_slice(numbers, numbers.len(), device)?)
}

/// candle reads blocks as structures, which must lie at even addresses. Files keep to that; what has been put together in
/// memory does so by chance.
fn at_even_address<'a>(bytes: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    if bytes.as_ptr().addr().is_multiple_of(2) {
        return bytes;
    }
    buffer.resize(bytes.len() + 1, 0);
    let start = buffer.as_ptr().addr() % 2;
    buffer[start..start + bytes.len()].copy_from_slice(bytes);
    &buffer[start..start + bytes.len()]
}

fn ggml_type(format: BlockFormat) -> GgmlDType {
    match format {
        BlockFormat::Q4_0 => GgmlDType::Q4_0,
        BlockFormat::Q4_1 => GgmlDType::Q4_1,
        BlockFormat::Q5_0 => GgmlDType::Q5_0,
        BlockFormat::Q5_1 => GgmlDType::Q5_1,
        BlockFormat::Q8_0 => GgmlDType::Q8_0,
        BlockFormat::Q2_K => GgmlDType::Q2K,
        BlockFormat::Q3_K => GgmlDType::Q3K,
        BlockFormat::Q4_K => GgmlDType::Q4K,
        BlockFormat::Q5_K => GgmlDType::Q5K,
        BlockFormat::Q6_K => GgmlDType::Q6K,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::testing::device;
    use crate::quantize::TensorType;

    const INPUTS: usize = 256;

    /// Numbers between -1 and 1.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|at| (((at + 31 * seed) * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// The definition, in f64: `[rows, outputs]`.
    fn expected(rows: &[f32], weights: &[f32], inputs: usize) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        rows.chunks(inputs).flat_map(|row| weights.chunks(inputs).map(move |weights| dot(row, weights))).collect()
    }

    fn expect_near(got: &Tensor, want: &[f64], limit: f64, what: &str) {
        let got: Vec<f32> = got.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(got.len(), want.len(), "{what}");
        let worst = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs()).fold(0.0, f64::max);
        assert!(worst < limit, "{what}: off by {worst}");
    }

    #[test]
    fn every_format_of_blocks_is_multiplied() {
        let (outputs, device) = (5, device());
        for format in BlockFormat::ALL {
            let mut bytes = vec![0; outputs * format.row_bytes(INPUTS)];
            let source = numbers(outputs * INPUTS, 1);
            for (row, out) in source.chunks(INPUTS).zip(bytes.chunks_mut(format.row_bytes(INPUTS))) {
                TensorType::Blocks(format).quantise(row, out);
            }
            let mut weights = vec![0.0; outputs * INPUTS];
            for (row, out) in bytes.chunks(format.row_bytes(INPUTS)).zip(weights.chunks_mut(INPUTS)) {
                format.expand(row, out);
            }
            let matrix = Matrix::of_blocks(&device, format, [outputs, INPUTS], &bytes).unwrap();
            for count in [1, 3, 9] {
                let rows = numbers(count * INPUTS, 2);
                let want = expected(&rows, &weights, INPUTS);
                let rows = Tensor::from_vec(rows, (count, INPUTS), &device).unwrap();
                // Rows are rounded to 8 bits, half a step of 1/127 at most, which adds up over 256 of them by chance.
                expect_near(&matrix.product(&rows).unwrap(), &want, 0.25, &format!("{format:?}, {count} rows"));
            }
        }
    }

    #[test]
    fn rows_that_f16_cannot_hold_are_multiplied() {
        let device = device();
        let weights = numbers(4 * 64, 1);
        let matrix = Matrix::of_f32(&device, [4, 64], &weights, true).unwrap();
        let mut rows = numbers(4 * 64, 2);
        for (row, scale) in rows.chunks_exact_mut(64).zip([1e6, 0.0, 1e-9, 1.0]) {
            row.iter_mut().for_each(|number| *number *= scale);
        }
        let want = expected(&rows, &weights, 64);
        let rows = Tensor::from_vec(rows, (4, 64), &device).unwrap();
        let got: Vec<f32> = matrix.product(&rows).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for ((got, want), scale) in got.chunks(4).zip(want.chunks(4)).zip([1e6, 0.0, 1e-9, 1.0]) {
            let off = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs()).fold(0.0, f64::max);
            assert!(off <= 0.02 * scale, "{got:?}, not {want:?}");
        }
    }

    #[test]
    fn blocks_at_odd_addresses_are_taken() {
        let format = BlockFormat::Q8_0;
        let mut bytes = vec![0; 1 + format.row_bytes(INPUTS)];
        let odd = usize::from(bytes.as_ptr().addr().is_multiple_of(2));
        let numbers = numbers(INPUTS, 3);
        let range = odd..odd + format.row_bytes(INPUTS);
        TensorType::Blocks(format).quantise(&numbers, &mut bytes[range.clone()]);
        assert!(!bytes[range.clone()].as_ptr().addr().is_multiple_of(2));
        let matrix = Matrix::of_blocks(&device(), format, [1, INPUTS], &bytes[range]).unwrap();
        let rows = Tensor::from_slice(&numbers, (1, INPUTS), &device()).unwrap();
        expect_near(&matrix.product(&rows).unwrap(), &expected(&numbers, &numbers, INPUTS), 0.5, "a row with itself");
    }

    #[test]
    fn numbers_of_every_type_with_bias_and_low_rank() {
        let device = device();
        let (rows, first, second) = (numbers(3 * 64, 1), numbers(5 * 64, 2), numbers(2 * 64, 3));
        let (narrow, widen, bias) = (numbers(2 * 64, 4), numbers(7 * 2, 5), numbers(7, 6));
        let weights = [first.clone(), second.clone()].concat();
        // Of each row and each output, the sum over the rank.
        let thin = expected(&rows, &narrow, 64);
        let added = |row: usize, output: usize| {
            (0..2).map(|at| thin[2 * row + at] * f64::from(widen[2 * output + at])).sum::<f64>()
        };
        let want: Vec<f64> = expected(&rows, &weights, 64)
            .into_iter()
            .enumerate()
            .map(|(at, plain)| plain + added(at / 7, at % 7) + f64::from(bias[at % 7]))
            .collect();
        let tensor = Tensor::from_slice(&rows, (3, 64), &device).unwrap();
        for (element, limit) in [(Element::F32, 1e-4), (Element::F16, 0.02), (Element::BF16, 0.1)] {
            let mut bytes = vec![0; element.bytes() * first.len()];
            TensorType::Numbers(element).quantise(&first, &mut bytes);
            let first = Matrix::of_numbers(&device, element, [5, 64], &bytes).unwrap();
            let second = Matrix::of_f32(&device, [2, 64], &second, element == Element::F16).unwrap();
            let linear = Linear::new(&device, vec![first, second], Some(&bias)).unwrap();
            let adapted = linear.with_low_rank(&device, 2, &narrow, &widen).unwrap();
            expect_near(&adapted.apply(&tensor).unwrap(), &want, limit, &format!("{element:?}"));
            let plain: Vec<f32> = linear.apply(&tensor).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let differ = plain.iter().zip(&want).any(|(plain, want)| (f64::from(*plain) - want).abs() > 0.5);
            assert!(differ, "the factors add nothing");
        }
    }
}
