//! Weights that are numbers, not blocks: F32, F16 and BF16, as they lie in a GGUF file.
//!
//! A row is widened once and multiplied with every vector, so the result for a vector does not depend on the others. For
//! many vectors, [`super::gemm`] with widened panels is faster.
#![allow(unsafe_code)]

use super::parts::Strip;
use super::quant::format::half_to_f32;
use std::cell::RefCell;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    BF16,
}

impl Element {
    pub const fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::BF16 => 2,
        }
    }

    /// Widens numbers; `out` has an element for each.
    pub fn expand(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), self.bytes() * out.len(), "result does not have the length of the numbers");
        match self {
            Element::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Element::BF16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
            Element::F16 => expand_f16(bytes, out),
        }
    }
}

fn expand_f16(bytes: &[u8], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
        // SAFETY: the CPU has the instructions.
        return unsafe { expand_f16_x86(bytes, out) };
    }
    expand_f16_portable(bytes, out);
}

fn expand_f16_portable(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = half_to_f32(u16::from_le_bytes(*bytes));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn expand_f16_x86(bytes: &[u8], out: &mut [f32]) {
    use std::arch::x86_64::*;
    let whole = out.len() / 8 * 8;
    for (bytes, out) in bytes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<8>().0) {
        // SAFETY: eight numbers on both sides.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(bytes.as_ptr().cast()))) };
    }
    expand_f16_portable(&bytes[2 * whole..], &mut out[whole..]);
}

thread_local! {
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Multiplies rows of weights with all vectors of `x`, on this thread: `weights` has a row for each column of `y`, `x` a
/// vector of `len` numbers for each row.
pub fn multiply(element: Element, weights: &[u8], x: &[f32], len: usize, y: &mut Strip) {
    let row_bytes = element.bytes() * len;
    assert_eq!(weights.len(), row_bytes * y.columns(), "weights are not one row per column of the result");
    assert_eq!(x.len(), len * y.rows(), "result does not have a row for each vector");
    ROW.with_borrow_mut(|row| {
        row.resize(len, 0.0);
        for (column, weights) in weights.chunks_exact(row_bytes.max(1)).enumerate() {
            element.expand(weights, row);
            for (index, x) in x.chunks_exact(len.max(1)).enumerate() {
                y.row_mut(index)[column] = dot(row, x);
            }
        }
    });
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has the instructions.
        return unsafe { dot_avx2(a, b) };
    }
    dot_body(a, b)
}

/// [`dot_body`] compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    dot_body(a, b)
}

#[inline(always)]
fn dot_body(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [0.0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::super::parts::{Parts, Strips};
    use super::*;
    use half::{bf16, f16};

    fn encode(element: Element, numbers: &[f32]) -> Vec<u8> {
        let bytes = |number: &f32| match element {
            Element::F32 => number.to_le_bytes().to_vec(),
            Element::F16 => f16::from_f32(*number).to_le_bytes().to_vec(),
            Element::BF16 => bf16::from_f32(*number).to_le_bytes().to_vec(),
        };
        numbers.iter().flat_map(bytes).collect()
    }

    #[test]
    fn products_equal_those_in_f64() {
        for element in [Element::F32, Element::F16, Element::BF16] {
            for (rows, columns, len) in [(1, 1, 1), (3, 5, 70), (2, 33, 576)] {
                let number = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
                let weights = encode(element, &(0..columns * len).map(number).collect::<Vec<_>>());
                let mut expanded = vec![0.0; columns * len];
                element.expand(&weights, &mut expanded);
                assert!(expanded.iter().enumerate().all(|(i, got)| (got - number(i)).abs() < 0.01));
                let x: Vec<f32> = (0..rows * len).map(|i| number(i + 5)).collect();
                let mut y = vec![f32::NAN; rows * columns];
                let strips = Strips::new(&mut y, rows, columns, columns, columns);
                // SAFETY: the only strip, taken once.
                multiply(element, &weights, &x, len, &mut unsafe { strips.part(0) });
                for (index, got) in y.iter().enumerate() {
                    let terms = expanded[index % columns * len..].iter().zip(&x[index / columns * len..]).take(len);
                    let want: f64 = terms.map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    assert!((f64::from(*got) - want).abs() < 1e-3, "{element:?}: {got} != {want}");
                }
            }
        }
    }

    #[test]
    fn vectors_of_every_length_are_widened_and_multiplied() {
        let number = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
        for len in 0..=130 {
            let (a, b): (Vec<f32>, Vec<f32>) = (0..len).map(|i| (number(i), number(i + 77))).unzip();
            let want: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            for got in [dot(&a, &b), dot_body(&a, &b)] {
                assert!((f64::from(got) - want).abs() < 1e-5, "{len} numbers: {got}, not {want}");
            }
            for element in [Element::F32, Element::F16, Element::BF16] {
                let mut widened = vec![f32::NAN; len + 1];
                element.expand(&encode(element, &a), &mut widened[..len]);
                let want = a.iter().map(|&number| match element {
                    Element::F32 => number,
                    Element::F16 => f16::from_f32(number).to_f32(),
                    Element::BF16 => bf16::from_f32(number).to_f32(),
                });
                assert!(widened.iter().zip(want).all(|(got, want)| *got == want), "{len} of {element:?}");
                assert!(widened[len].is_nan());
            }
        }
    }

    #[test]
    fn halves_widen_exactly() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let (mut got, mut want) = (vec![0.0; 65536], vec![0.0; 65536]);
        expand_f16(&bytes, &mut got);
        expand_f16_portable(&bytes, &mut want);
        assert!(got.iter().zip(&want).all(|(got, want)| got == want || got.is_nan() && want.is_nan()));
    }
}
