//! What quantisation has changed, tensor by tensor.

use super::convert::{pieces, Model, Watch};
use super::tensors::Tensor;
use crate::error::{ModelError, Result};
use pg_rag_protocol::message::TensorReport;
use std::collections::HashMap;

/// Sums over the elements of a tensor.
#[derive(Default)]
struct Sums {
    squares: f64,
    other_squares: f64,
    products: f64,
    errors: f64,
    largest: f32,
}

impl Sums {
    fn add(&mut self, original: &[f32], other: &[f32]) {
        // Short sums in single precision, which are compiled to vector instructions.
        for (original, other) in original.chunks(1024).zip(other.chunks(1024)) {
            let mut sums = [0.0_f32; 4];
            for (x, y) in original.iter().zip(other) {
                let error = x - y;
                sums[0] += x * x;
                sums[1] += y * y;
                sums[2] += x * y;
                sums[3] += error * error;
                self.largest = self.largest.max(error.abs());
            }
            self.squares += f64::from(sums[0]);
            self.other_squares += f64::from(sums[1]);
            self.products += f64::from(sums[2]);
            self.errors += f64::from(sums[3]);
        }
    }

    /// 1 where both are zero.
    fn cosine(&self) -> f64 {
        let norms = (self.squares * self.other_squares).sqrt();
        if norms > 0.0 {
            self.products / norms
        } else {
            f64::from(u8::from(self.squares == self.other_squares))
        }
    }
}

/// Compares every tensor of `quantised` with that of `original`.
///
/// Errors: `InvalidArgument` for models that are not the same one; those of reading them; `Cancelled`.
pub fn compare(original: &Model, quantised: &Model, watch: &dyn Watch) -> Result<Vec<TensorReport>> {
    let originals: HashMap<&str, usize> =
        original.tensors.tensors().iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
    let total: u64 = quantised.tensors.tensors().iter().map(Tensor::elements).sum();
    let (mut reports, mut done) = (Vec::new(), 0);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (index, tensor) in quantised.tensors.tensors().iter().enumerate() {
        let found = originals.get(tensor.name.as_str()).copied();
        let found = found.filter(|&found| original.tensors.tensors()[found].dimensions == tensor.dimensions);
        let found = found.ok_or_else(|| {
            ModelError::InvalidArgument(format!("the original has no tensor \"{}\" of that shape", tensor.name))
        })?;
        let mut sums = Sums::default();
        for piece in pieces(tensor) {
            if watch.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            watch.progress(done, total);
            let elements = (piece.end - piece.start) * tensor.columns();
            before.resize(elements as usize, 0.0);
            after.resize(elements as usize, 0.0);
            original.tensors.read_rows(found, piece.start, &mut before)?;
            quantised.tensors.read_rows(index, piece.start, &mut after)?;
            sums.add(&before, &after);
            done += elements;
        }
        reports.push(TensorReport {
            name: tensor.name.clone(),
            original_kind: original.tensors.tensors()[found].kind.name().to_owned(),
            kind: tensor.kind.name().to_owned(),
            elements: tensor.elements(),
            bytes: tensor.kind.bytes(tensor.elements()),
            rmse: (sums.errors / tensor.elements() as f64).sqrt(),
            largest_error: f64::from(sums.largest),
            cosine: sums.cosine(),
        });
    }
    watch.progress(total, total);
    Ok(reports)
}
