//! Where weights come from: the tensors of a model, read row by row as numbers.

use super::TensorType;
use crate::error::{ModelError, Result};
use crate::source::gguf::Header;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A tensor as it is called in GGUF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    /// Lengths, that of a row first.
    pub dimensions: Vec<u64>,
    /// The type that its elements have where they lie.
    pub kind: TensorType,
}

impl Tensor {
    /// Elements of a row.
    pub fn columns(&self) -> u64 {
        self.dimensions.first().copied().unwrap_or(1)
    }

    pub fn rows(&self) -> u64 {
        self.dimensions.iter().skip(1).product()
    }

    pub fn elements(&self) -> u64 {
        self.columns() * self.rows()
    }
}

/// A model's weights.
pub trait TensorSource {
    /// In the order in which they are written.
    fn tensors(&self) -> &[Tensor];

    /// Reads whole rows of a tensor as numbers, from row `first` on. They may be infinite or not numbers.
    fn read_rows(&self, tensor: usize, first: u64, out: &mut [f32]) -> Result<()>;

    /// Reads whole rows of a tensor as they lie there, in its own type, from row `first` on. `false` if that is not the
    /// way they are to be written.
    fn read_stored(&self, _tensor: usize, _first: u64, _out: &mut [u8]) -> Result<bool> {
        Ok(false)
    }
}

/// The tensors of a GGUF file.
pub struct GgufTensors {
    path: PathBuf,
    file: File,
    tensors: Vec<Tensor>,
    /// Where each tensor's data begins in the file.
    starts: Vec<u64>,
}

impl GgufTensors {
    /// Errors: `Unsupported`, naming the tensor, for elements of a type that cannot be read; `Corrupt` for rows that are
    /// not whole blocks.
    pub fn open(path: &Path, header: &Header) -> Result<Self> {
        let file = File::open(path).map_err(|error| ModelError::from_io(path, error))?;
        let (mut tensors, mut starts) = (Vec::new(), Vec::new());
        for tensor in &header.tensors {
            let kind = TensorType::named(tensor.element_type).ok_or_else(|| {
                ModelError::Unsupported(format!("elements of tensor \"{}\" ({})", tensor.name, tensor.element_type))
            })?;
            let tensor_of = Tensor { name: tensor.name.clone(), dimensions: tensor.dimensions.clone(), kind };
            if tensor_of.dimensions.contains(&0) {
                return Err(ModelError::corrupt(path, format!("tensor \"{}\" is empty", tensor.name)));
            }
            if !tensor_of.columns().is_multiple_of(kind.block_elements() as u64) {
                let reason = format!("rows of tensor \"{}\" do not consist of whole blocks", tensor.name);
                return Err(ModelError::corrupt(path, reason));
            }
            tensors.push(tensor_of);
            // The header was checked against the length of the file.
            starts.push(header.data_start + tensor.offset);
        }
        Ok(Self { path: path.to_owned(), file, tensors, starts })
    }
}

impl TensorSource for GgufTensors {
    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn read_rows(&self, tensor: usize, first: u64, out: &mut [f32]) -> Result<()> {
        let kind = self.tensors[tensor].kind;
        let mut bytes = vec![0; kind.bytes(out.len() as u64) as usize];
        self.read_stored(tensor, first, &mut bytes)?;
        kind.expand(&bytes, out);
        Ok(())
    }

    fn read_stored(&self, tensor: usize, first: u64, out: &mut [u8]) -> Result<bool> {
        let row_bytes = self.tensors[tensor].kind.bytes(self.tensors[tensor].columns());
        let start = self.starts[tensor] + first * row_bytes;
        self.file.read_exact_at(out, start).map_err(|error| ModelError::from_io(&self.path, error))?;
        Ok(true)
    }
}
