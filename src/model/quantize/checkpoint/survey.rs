//! Which tensors a model folder has, what GGUF calls them, and what is done to their numbers on the way.
//!
//! [`Weights::load`] is the only one that knows the tensors of a family. It is asked to load the model, which reads nothing
//! but small vectors, and what it finds is written down; so a folder is checked as if it were to answer, and a file has what
//! a decoder reads.

use super::hyperparameters::divisors;
use crate::decoder::config::Pairs;
use crate::decoder::folder::FolderTensors;
use crate::decoder::folder_config::FolderConfig;
use crate::decoder::tensors::{Tensor, Tensors};
use crate::decoder::weights::Weights;
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use std::path::Path;

/// Where a tensor's numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A tensor of the checkpoint, with a number added to each of its own.
    Tensor {
        name: String,
        offset: f32,
    },
    /// The rows of each head change places.
    Rotated {
        name: String,
        head_dim: usize,
    },
    Numbers(Vec<f32>),
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub origin: Origin,
}

/// Every tensor of the model in `dir`, in the order in which it is written.
///
/// Errors: those of loading the model.
pub fn plan(dir: &Path, folder: &FolderConfig) -> Result<(Checkpoint, Vec<Part>)> {
    let tensors = FolderTensors::open(dir, folder)?;
    let norm_offset = tensors.norm_offset();
    let mut survey = Survey { tensors, found: Vec::new() };
    Weights::load(&mut survey, &folder.config)?;
    let Survey { tensors, found } = survey;
    let adjacent = folder.config.family.gguf_pairs() == Pairs::Adjacent;
    let mut parts = Vec::new();
    for (name, origin, shape) in found {
        let rotated = adjacent && ["attn_q.", "attn_k."].iter().any(|part| name.contains(part));
        let origin = match rotated {
            true => Origin::Rotated { name: origin, head_dim: folder.config.head_dim },
            false if name.ends_with("_norm.weight") => Origin::Tensor { name: origin, offset: norm_offset },
            false => Origin::Tensor { name: origin, offset: 0.0 },
        };
        parts.push(Part { name, shape, origin });
    }
    parts.extend(divisors(&folder.positions).into_iter().map(|(name, divisors)| Part {
        name: name.to_owned(),
        shape: vec![divisors.len()],
        origin: Origin::Numbers(divisors.to_vec()),
    }));
    Ok((tensors.into_checkpoint(), parts))
}

/// Writes down what is found.
struct Survey {
    tensors: FolderTensors,
    /// In GGUF's name and the folder's, with the shape.
    found: Vec<(String, String, Vec<usize>)>,
}

impl Tensors for Survey {
    fn find(&mut self, name: &str) -> Result<Option<Tensor>> {
        let tensor = self.tensors.find(name)?;
        if let Some(Tensor { name: origin, shape, .. }) = &tensor {
            self.found.push((name.to_owned(), origin.clone(), shape.clone()));
        }
        Ok(tensor)
    }

    fn own_name(&self, name: &str) -> String {
        self.tensors.own_name(name)
    }

    fn corrupt(&self, reason: String) -> ModelError {
        self.tensors.corrupt(reason)
    }

    fn norm_offset(&self) -> f32 {
        self.tensors.norm_offset()
    }

    fn unused(&self) -> Option<String> {
        self.tensors.unused()
    }
}
