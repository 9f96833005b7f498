//! A folder as Hugging Face's transformers save it (`config.json`, safetensors, `tokenizer.json`), read as if it were a
//! GGUF file.
//!
//! - [`config`]: `config.json` to metadata;
//! - [`names`]: which tensor is which, and what is done to its rows;
//! - [`vocabulary`]: `tokenizer.json` to metadata.

mod config;
mod names;
pub mod vocabulary;

use super::convert::Model;
use super::metadata::Metadata;
use super::mix::Shape;
use super::tensors::{Tensor, TensorSource};
use super::TensorType;
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use config::Config;
pub use names::rotated_row;
use names::{Origin, Part};
use std::path::Path;

/// A file of JSON larger than this is not a configuration.
const MOST_JSON_BYTES: u64 = 256 << 20;

/// Opens the model in `dir`.
///
/// Errors: `Missing`, `Unreadable`; `Corrupt` for a missing tensor or a wrong shape; `Unsupported`, naming what, for
/// another architecture, a tensor that is not part of it, or a tokenizer that GGUF cannot express.
pub fn open(dir: &Path) -> Result<Model> {
    let path = dir.join("config.json");
    let config = Config::read(&path, &read_json(&path)?)?;
    let checkpoint = Checkpoint::open(dir)?;
    let parts = names::plan(&config, &checkpoint)?;
    let mut metadata = Metadata::default();
    config.describe(dir, &mut metadata);
    let rows = parts.iter().find(|part| part.name == "token_embd.weight").map_or(0, |part| part.shape[0]);
    vocabulary::describe(dir, rows, &mut metadata)?;
    let has_output = parts.iter().any(|part| part.name == "output.weight");
    let shape = Shape { layers: config.layers as u64, group: config.group() as u64, has_output };
    let tensors = parts
        .iter()
        .map(|part| Tensor {
            name: part.name.clone(),
            dimensions: part.shape.iter().rev().map(|&length| length as u64).collect(),
            // As what they are read.
            kind: TensorType::F32,
        })
        .collect();
    Ok(Model { metadata, shape, tensors: Box::new(CheckpointTensors { checkpoint, parts, tensors }) })
}

/// A file of JSON; `Corrupt` if it is something else.
fn read_json(path: &Path) -> Result<serde_json::Value> {
    let length = std::fs::metadata(path).map_err(|error| ModelError::from_io(path, error))?.len();
    if length > MOST_JSON_BYTES {
        return Err(ModelError::corrupt(path, format!("file of {length} bytes is not a configuration")));
    }
    let bytes = std::fs::read(path).map_err(|error| ModelError::from_io(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::corrupt(path, error))
}

/// The tensors of a checkpoint under the names of GGUF.
struct CheckpointTensors {
    checkpoint: Checkpoint,
    parts: Vec<Part>,
    tensors: Vec<Tensor>,
}

impl TensorSource for CheckpointTensors {
    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn read_rows(&self, tensor: usize, first: u64, out: &mut [f32]) -> Result<()> {
        let part = &self.parts[tensor];
        let columns = *part.shape.last().unwrap_or(&1);
        let first = first as usize;
        let read = |origin: &str, elements: std::ops::Range<usize>, out: &mut [f32]| {
            let mut values = Vec::new();
            self.checkpoint.read_part_f32(origin, &part.shape, elements, &mut values)?;
            if values.len() != out.len() {
                return Err(ModelError::Internal(format!("tensor \"{origin}\" was not read in its length")));
            }
            out.copy_from_slice(&values);
            Ok(())
        };
        match &part.origin {
            Origin::Tensor(name) => read(name, first * columns..first * columns + out.len(), out),
            Origin::Rotated { name, head_dim } => {
                for (index, row) in out.chunks_exact_mut(columns).enumerate() {
                    let from = names::rotated_row(first + index, *head_dim);
                    read(name, from * columns..(from + 1) * columns, row)?;
                }
                Ok(())
            }
            Origin::Numbers(numbers) => {
                out.copy_from_slice(&numbers[first * columns..first * columns + out.len()]);
                Ok(())
            }
        }
    }
}
