//! Models with smaller weights: from float weights or another quantisation to one self-contained GGUF file.
//!
//! From the bottom up:
//! - `search`, `pack`, `block`: weights to the blocks of ggml;
//! - [`tensor_type`], [`tensors`]: what tensors can be read in and written as, and where they come from;
//! - [`mix`]: which type each tensor of a model gets;
//! - [`metadata`], [`writer`]: the file;
//! - [`checkpoint`]: folders of safetensors as sources;
//! - [`convert`]: the way of a model through all of it;
//! - [`report`]: what that has changed.
//!
//! Called by the server for `rag_quantize_model` and `rag_quantization_report`.

mod block;
pub mod checkpoint;
pub mod convert;
pub mod metadata;
pub mod mix;
mod pack;
pub mod report;
mod search;
pub mod tensor_type;
pub mod tensors;
pub mod writer;

#[cfg(test)]
mod block_tests;
#[cfg(test)]
mod family_tests;
#[cfg(test)]
pub(crate) mod file_tests;

pub use convert::{planned_bytes, write, Model, Watch};
pub use mix::Mix;
pub use tensor_type::TensorType;
pub use writer::{remove_leftovers, Written};

use crate::error::{ModelError, Result};
use crate::source::gguf::{Header, Value};
use crate::source::Generator;
use metadata::Metadata;
use mix::Shape;
use std::path::Path;
use tensors::{GgufTensors, TensorSource};

/// Opens the generation model at `path`, a GGUF file, a folder with one, or a folder of safetensors, by its headers.
///
/// Errors: as for [`checkpoint::open`].
pub fn open(path: &Path) -> Result<Model> {
    let path = match Generator::find(path)? {
        Generator::Folder(dir) => return checkpoint::open(&dir),
        Generator::Gguf(path) => path,
    };
    let header = Header::read(&path)?;
    let mut metadata = Metadata::read(&path, &header)?;
    let tensors = GgufTensors::open(&path, &header)?;
    let architecture = header.text("general.architecture")?;
    let number = |key: &str| header.unsigned(&format!("{architecture}.{key}"));
    let heads = |key: &str| match header.metadata.get(&format!("{architecture}.{key}")) {
        // A number for each layer; what it decides may be off for such models.
        Some(Value::Array) | None => Ok(1),
        Some(_) => number(key),
    };
    let (all, kv) = (heads("attention.head_count")?, heads("attention.head_count_kv")?);
    let has_output = tensors.tensors().iter().any(|tensor| tensor.name == "output.weight");
    let shape = Shape { layers: number("block_count")?, group: all / kv.max(1), has_output };
    if !metadata.contains("tokenizer.ggml.model") {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let rows = tensors.tensors().iter().find(|tensor| tensor.name == "token_embd.weight");
        let rows = rows.ok_or_else(|| ModelError::corrupt(&path, "tensor \"token_embd.weight\" is missing"))?.rows();
        // The number of rows is that of a tensor in the file.
        checkpoint::vocabulary::describe(dir, rows as usize, &mut metadata)?;
    }
    Ok(Model { metadata, shape, tensors: Box::new(tensors) })
}
