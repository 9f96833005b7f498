//! LoRA adapters as PEFT saves them (Hu et al., "LoRA", 2021): for some matrices of a base model, two thin factors whose
//! product is added to the matrix.
//!
//! A folder has `adapter_config.json` and `adapter_model.safetensors`; nothing else is read, and a pickle is refused. An
//! adapter is checked against the base that it is for: every factor must belong to a matrix that the base has, and have
//! its shape. The decoder applies it ([`crate::decoder`]).

mod config;
#[cfg(test)]
mod tests;

pub use config::{AdapterConfig, CONFIG_FILE, WEIGHTS_FILE};

use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Matrices of a layer that an adapter can change, by their names in PEFT, with those in GGUF.
const TARGETS: [(&str, Target); 7] = [
    ("self_attn.q_proj", Target::Q),
    ("self_attn.k_proj", Target::K),
    ("self_attn.v_proj", Target::V),
    ("self_attn.o_proj", Target::AttentionOutput),
    ("mlp.gate_proj", Target::Gate),
    ("mlp.up_proj", Target::Up),
    ("mlp.down_proj", Target::Down),
];

/// A matrix of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Q,
    K,
    V,
    AttentionOutput,
    Gate,
    Up,
    Down,
}

/// What a base model says about its matrices.
pub trait Base {
    fn layers(&self) -> usize;
    /// Outputs and inputs of a matrix.
    fn shape(&self, target: Target) -> (usize, usize);
}

/// An adapter's folder with sound headers.
pub struct AdapterFiles {
    dir: PathBuf,
    config: AdapterConfig,
    checkpoint: Checkpoint,
}

/// The two factors of one matrix: `scale · b · a` is added to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    pub rank: usize,
    /// `rank × inputs`
    pub a: Vec<f32>,
    /// `outputs × rank`, multiplied with the scale.
    pub b: Vec<f32>,
}

impl AdapterFiles {
    /// Opens the adapter in `dir` by its headers.
    ///
    /// Errors: `Missing`, `Unreadable`, `Corrupt`; `Unsupported` for a pickle and for options that are not known here.
    pub fn open(dir: &Path) -> Result<Self> {
        let config = AdapterConfig::read(dir)?;
        if !dir.join(WEIGHTS_FILE).exists() && dir.join(config::PICKLE_FILE).exists() {
            return Err(ModelError::Unsupported(format!(
                "adapter in \"{}\" is a pickle, which can run code; it must be saved as safetensors",
                config::PICKLE_FILE
            )));
        }
        let checkpoint = Checkpoint::open_file(dir.join(WEIGHTS_FILE))?;
        Ok(Self { dir: dir.to_owned(), config, checkpoint })
    }

    /// Names of the files of an adapter.
    pub fn file_names() -> [String; 2] {
        [CONFIG_FILE, WEIGHTS_FILE].map(str::to_owned)
    }

    pub fn rank(&self) -> usize {
        self.config.rank
    }

    /// Parameters of the adapter.
    pub fn parameters(&self) -> u64 {
        self.checkpoint.tensors().map(|(.., elements)| elements).sum()
    }

    pub fn size_bytes(&self) -> u64 {
        self.checkpoint.size_bytes()
    }

    /// The matrices that the adapter changes, by layer, with the beginning of the names of their factors.
    ///
    /// Errors: `Unsupported` for a tensor that is not one of two factors of a known matrix; `Corrupt` for one of a layer
    /// that the base does not have, a wrong shape, or a factor without the other.
    pub fn check(&self, base: &dyn Base) -> Result<BTreeMap<(usize, Target), String>> {
        let path = self.dir.join(WEIGHTS_FILE);
        let mut found: BTreeSet<(usize, Target, String)> = BTreeSet::new();
        for (name, ..) in self.checkpoint.tensors() {
            let (layer, target, stem) =
                parse(name).ok_or_else(|| ModelError::Unsupported(format!("tensor \"{name}\" of an adapter")))?;
            if layer >= base.layers() {
                let reason = format!("tensor \"{name}\" is for a layer that the base, with {}, has not", base.layers());
                return Err(ModelError::corrupt(&path, reason));
            }
            found.insert((layer, target, stem.to_owned()));
        }
        if found.is_empty() {
            return Err(ModelError::corrupt(&path, "file has no factors"));
        }
        let mut matrices = BTreeMap::new();
        for (layer, target, stem) in found {
            let (outputs, inputs) = base.shape(target);
            self.checkpoint.expect(&format!("{stem}.lora_A.weight"), &[self.config.rank, inputs])?;
            self.checkpoint.expect(&format!("{stem}.lora_B.weight"), &[outputs, self.config.rank])?;
            if matrices.insert((layer, target), stem).is_some() {
                return Err(ModelError::corrupt(&path, format!("layer {layer} has factors of {target:?} twice")));
            }
        }
        Ok(matrices)
    }

    /// Reads the factors of every matrix that the adapter changes. Errors: as for [`AdapterFiles::check`].
    pub fn load(&self, base: &dyn Base) -> Result<BTreeMap<(usize, Target), Factors>> {
        let rank = self.config.rank;
        let mut all = BTreeMap::new();
        for ((layer, target), stem) in self.check(base)? {
            let (outputs, inputs) = base.shape(target);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            self.checkpoint.read_f32(&format!("{stem}.lora_A.weight"), &[rank, inputs], &mut a)?;
            self.checkpoint.read_f32(&format!("{stem}.lora_B.weight"), &[outputs, rank], &mut b)?;
            b.iter_mut().for_each(|number| *number *= self.config.scale);
            all.insert((layer, target), Factors { rank, a, b });
        }
        Ok(all)
    }
}

impl Factors {
    /// Puts the outputs in another order: row `i` becomes what row `from(i)` was.
    pub fn permute(&mut self, from: impl Fn(usize) -> usize) {
        let rows = self.b.len() / self.rank;
        self.b = (0..rows).flat_map(|row| &self.b[from(row) * self.rank..][..self.rank]).copied().collect();
    }

    /// Adds the product of the factors to a row of the matrix.
    pub fn add_to_row(&self, row: usize, weights: &mut [f32]) {
        let factors = &self.b[row * self.rank..][..self.rank];
        for (factor, a) in factors.iter().zip(self.a.chunks_exact(weights.len())) {
            weights.iter_mut().zip(a).for_each(|(weight, a)| *weight += factor * a);
        }
    }
}

/// Layer, matrix and stem of `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
fn parse(name: &str) -> Option<(usize, Target, &str)> {
    let stem = name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"))?;
    let (layer, matrix) = stem.strip_prefix("base_model.model.model.layers.")?.split_once('.')?;
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == matrix)?;
    Some((layer.parse().ok()?, *target, stem))
}
