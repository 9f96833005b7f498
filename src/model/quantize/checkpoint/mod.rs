//! A folder as Hugging Face's transformers save it (`config.json`, safetensors, `tokenizer.json`), read as if it were a
//! GGUF file. What the families are is known to the decoder, which reads such folders, too.
//!
//! - [`hyperparameters`]: the configuration to metadata;
//! - [`survey`]: which tensor is which, and what is done to its rows;
//! - [`vocabulary`]: `tokenizer.json` to metadata.

mod hyperparameters;
mod survey;
pub mod vocabulary;

use super::convert::Model;
use super::metadata::Metadata;
use super::mix::Shape;
use super::tensors::{Tensor, TensorSource};
use super::TensorType;
use crate::decoder::folder_config::FolderConfig;
use crate::decoder::rope::rotated_row;
use crate::error::{ModelError, Result};
use crate::source::license_of;
use crate::source::safetensors::Checkpoint;
use std::path::Path;
use survey::{Origin, Part};

/// Opens the model in `dir`.
///
/// Errors: `Missing`, `Unreadable`; `Corrupt` for a missing tensor or a wrong shape; `Unsupported`, naming what, for
/// another architecture, a tensor that is not part of it, or what GGUF cannot express.
pub fn open(dir: &Path) -> Result<Model> {
    let folder = FolderConfig::read(dir)?;
    let (checkpoint, parts) = survey::plan(dir, &folder)?;
    let rows = parts.iter().find(|part| part.name == "token_embd.weight").map_or(0, |part| part.shape[0]);
    let mut metadata = Metadata::default();
    hyperparameters::describe(&folder, rows, &mut metadata)?;
    metadata.set_text("general.type", "model");
    if let Some(name) = dir.file_name().and_then(|name| name.to_str()) {
        metadata.set_text("general.name", name);
    }
    if let Some(license) = license_of(dir) {
        metadata.set_text("general.license", &license);
    }
    vocabulary::describe(dir, rows, &mut metadata)?;
    let has_output = parts.iter().any(|part| part.name == "output.weight");
    let shape = Shape { layers: folder.config.layers.len() as u64, group: folder.config.group() as u64, has_output };
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
            Origin::Tensor { name, offset } => {
                read(name, first * columns..first * columns + out.len(), out)?;
                out.iter_mut().for_each(|number| *number += offset);
                Ok(())
            }
            // A vector is read as a whole.
            Origin::Rotated { name, head_dim } if part.shape.len() == 1 => {
                let mut numbers = vec![0.0; out.len()];
                read(name, 0..columns, &mut numbers)?;
                out.iter_mut().enumerate().for_each(|(row, out)| *out = numbers[rotated_row(row, *head_dim)]);
                Ok(())
            }
            Origin::Rotated { name, head_dim } => {
                for (index, row) in out.chunks_exact_mut(columns).enumerate() {
                    let from = rotated_row(first + index, *head_dim);
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
