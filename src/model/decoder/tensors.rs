//! Where a decoder's weights come from: the tensors of a GGUF file or of a folder with safetensors, under the names that
//! GGUF gives them.

use super::mapped_file::MappedFile;
use crate::compute::dense::Element;
use crate::compute::quant::BlockFormat;
use crate::error::{ModelError, Result};
use std::ops::Range;
use std::sync::Arc;

/// What a row of weights consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    Blocks(BlockFormat),
    Numbers(Element),
}

impl Elements {
    pub fn row_bytes(self, columns: usize) -> usize {
        match self {
            Elements::Blocks(format) => format.row_bytes(columns),
            Elements::Numbers(element) => element.bytes() * columns,
        }
    }

    pub fn expand(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Elements::Blocks(format) => format.expand(bytes, out),
            Elements::Numbers(element) => element.expand(bytes, out),
        }
    }
}

/// A tensor as it lies in a mapped file. Rows are contiguous; `shape` is outermost first.
pub struct Tensor {
    /// As the file calls it, for messages.
    pub name: String,
    pub shape: Vec<usize>,
    pub elements: Elements,
    pub map: Arc<MappedFile>,
    /// In the file, inside it and as long as the shape says.
    pub bytes: Range<usize>,
}

/// A model's tensors.
pub trait Tensors {
    /// The tensor that GGUF calls `name`, if the model has it.
    ///
    /// Errors: `Corrupt` for one that is not whole; `Unsupported` for elements without a kernel.
    fn find(&mut self, name: &str) -> Result<Option<Tensor>>;

    /// What the model calls this tensor, for messages.
    fn own_name(&self, name: &str) -> String;

    /// A [`ModelError::Corrupt`] for the model's file.
    fn corrupt(&self, reason: String) -> ModelError;

    /// What norms are stored without: some families keep the difference to 1, which converters to GGUF add.
    fn norm_offset(&self) -> f32;

    /// One of the tensors that have not been asked for: part of a variant of the architecture that is not known here.
    fn unused(&self) -> Option<String>;
}

/// A tensor that the model must have, with this shape. Errors: `Corrupt` naming it.
pub fn expect(tensors: &mut dyn Tensors, name: &str, shape: &[usize]) -> Result<Tensor> {
    match find(tensors, name, shape)? {
        Some(tensor) => Ok(tensor),
        None => Err(tensors.corrupt(format!("tensor \"{}\" is missing", tensors.own_name(name)))),
    }
}

/// A tensor that the model may have, with this shape if it does.
pub fn find(tensors: &mut dyn Tensors, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
    let Some(tensor) = tensors.find(name)? else { return Ok(None) };
    if tensor.shape != shape {
        let Tensor { name, shape: found, .. } = tensor;
        return Err(tensors.corrupt(format!("tensor \"{name}\" has the shape {found:?} instead of {shape:?}")));
    }
    Ok(Some(tensor))
}

/// The numbers of a tensor of one dimension.
pub fn load_vector(tensor: &Tensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.shape.iter().product()];
    tensor.elements.expand(&tensor.map[tensor.bytes.clone()], &mut out);
    out
}
