//! The way of a model through the quantiser: planned, then read, quantised and written some rows at a time.
//!
//! Never more than a few MiB of weights are in memory, whatever the size of the model. Whoever waits is asked between
//! pieces whether he still does.

use super::metadata::Metadata;
use super::mix::{Mix, Shape};
use super::tensors::{Tensor, TensorSource};
use super::writer::{GgufWriter, Planned, Written};
use super::TensorType;
use crate::error::{ModelError, Result};
use std::path::Path;

/// Weights that are read and quantised at a time.
const PIECE_WEIGHTS: u64 = 1 << 20;

/// Whoever waits for long work.
pub trait Watch: Sync {
    /// Told from time to time how far the work is, in units of its own.
    fn progress(&self, done: u64, total: u64);
    /// Whether nobody wants the result any more.
    fn is_cancelled(&self) -> bool;
}

/// A model that can be written as GGUF.
pub struct Model {
    pub metadata: Metadata,
    pub shape: Shape,
    pub tensors: Box<dyn TensorSource>,
}

/// Writes `model` with the types of `mix` into a file in `dir` called after `name`, with `threads` threads.
///
/// Errors: those of reading the model; `Corrupt` for a weight that is not a finite number; `Unsupported` for one that the
/// type cannot represent; `Unwritable`; `Cancelled`. Nothing is left in `dir` then.
pub fn write(model: &Model, mix: Mix, dir: &Path, name: &str, threads: usize, watch: &dyn Watch) -> Result<Written> {
    let tensors = model.tensors.tensors();
    let plan = plan(model, mix);
    let mut metadata = model.metadata.clone();
    metadata.set_u32("general.quantization_version", 2);
    metadata.set_u32("general.file_type", mix.file_type);
    let total: u64 = tensors.iter().map(Tensor::elements).sum();
    let mut writer = GgufWriter::create(dir, name, &metadata, &plan)?;
    let mut done = 0;
    for (index, (tensor, planned)) in tensors.iter().zip(&plan).enumerate() {
        for piece in pieces(tensor) {
            if watch.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            watch.progress(done, total);
            let elements = (piece.end - piece.start) * tensor.columns();
            let mut bytes = vec![0; planned.kind.bytes(elements) as usize];
            let stored = planned.kind == tensor.kind && model.tensors.read_stored(index, piece.start, &mut bytes)?;
            if !stored {
                let mut numbers = vec![0.0; elements as usize];
                model.tensors.read_rows(index, piece.start, &mut numbers)?;
                check(tensor, planned.kind, &numbers)?;
                quantise(planned.kind, &numbers, &mut bytes, threads);
            }
            writer.write(&bytes)?;
            done += elements;
        }
        writer.end_tensor()?;
    }
    watch.progress(total, total);
    writer.finish()
}

fn plan(model: &Model, mix: Mix) -> Vec<Planned> {
    let planned = |tensor: &Tensor| Planned {
        name: tensor.name.clone(),
        dimensions: tensor.dimensions.clone(),
        kind: mix.type_of(tensor, &model.shape),
    };
    model.tensors.tensors().iter().map(planned).collect()
}

/// Bytes of the tensors of `model` in the types of `mix`.
pub fn planned_bytes(model: &Model, mix: Mix) -> u64 {
    plan(model, mix).iter().map(Planned::bytes).sum()
}

/// The rows of a tensor in pieces.
pub fn pieces(tensor: &Tensor) -> impl Iterator<Item = std::ops::Range<u64>> {
    let (rows, step) = (tensor.rows(), (PIECE_WEIGHTS / tensor.columns().max(1)).max(1));
    (0..rows).step_by(step as usize).map(move |first| first..rows.min(first + step))
}

fn check(tensor: &Tensor, kind: TensorType, numbers: &[f32]) -> Result<()> {
    // Not `max`, which leaves out what is not a number.
    let largest = kind.largest();
    if numbers.iter().fold(true, |sound, x| sound & (x.abs() <= largest)) {
        return Ok(());
    }
    let name = &tensor.name;
    Err(match numbers.iter().find(|x| x.is_nan() || x.abs() > largest) {
        Some(x) if x.is_finite() => {
            ModelError::Unsupported(format!("weight {x} of tensor \"{name}\" in {}", kind.name()))
        }
        _ => ModelError::InvalidInput(format!("tensor \"{name}\" has an element that is not a finite number")),
    })
}

/// Quantises rows on several threads.
fn quantise(kind: TensorType, numbers: &[f32], bytes: &mut [u8], threads: usize) {
    let blocks = numbers.len() / kind.block_elements();
    let share = blocks.div_ceil(threads.max(1)).max(1) * kind.block_elements();
    let share_bytes = kind.bytes(share as u64) as usize;
    let mut shares = numbers.chunks(share).zip(bytes.chunks_mut(share_bytes));
    let first = shares.next();
    std::thread::scope(|scope| {
        for (numbers, bytes) in shares {
            scope.spawn(move || kind.quantise(numbers, bytes));
        }
        if let Some((numbers, bytes)) = first {
            kind.quantise(numbers, bytes);
        }
    });
}
