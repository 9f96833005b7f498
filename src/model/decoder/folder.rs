//! A model folder with safetensors: the tensors under the names that transformers gives them, mapped as they lie.

use super::config::Family;
use super::folder_config::FolderConfig;
use super::mapped_file::MappedFile;
use super::tensors::{Elements, Tensor, Tensors};
use crate::compute::dense::Element;
use crate::error::{ModelError, Result};
use crate::source::safetensors::{Checkpoint, Place};
use safetensors::tensor::Dtype;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the text model may be in a checkpoint, the usual place first. Models that also see keep it further inside.
const PREFIXES: [&str; 3] = ["model.", "language_model.model.", "model.language_model."];

/// Tensors of parts that have nothing to do with text, and numbers that are computed from the configuration.
const IGNORED: [&str; 6] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "rotary_emb.inv_freq",
    "model.embed_positions",
];

pub struct FolderTensors {
    dir: PathBuf,
    checkpoint: Checkpoint,
    maps: HashMap<PathBuf, Arc<MappedFile>>,
    family: Family,
    prefix: &'static str,
    /// The output shares the embedding.
    tied: bool,
    unused: HashSet<String>,
}

impl FolderTensors {
    /// Opens the checkpoint in `dir` and validates every header.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` for a truncated file, a bad header, or a tensor in two shards.
    pub fn open(dir: &Path, config: &FolderConfig) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        let is_there = |prefix: &&&str| checkpoint.contains(&format!("{prefix}embed_tokens.weight"));
        let prefix = PREFIXES.iter().find(is_there).copied().unwrap_or(PREFIXES[0]);
        let ignored = |name: &str| IGNORED.iter().any(|part| name.starts_with(part) || name.ends_with(part));
        let names = checkpoint.tensors().map(|(name, ..)| name);
        let unused: HashSet<String> = names.filter(|name| !ignored(name)).map(str::to_owned).collect();
        let family = config.config.family;
        Ok(Self { dir: dir.to_owned(), checkpoint, maps: HashMap::new(), family, prefix, tied: config.tied, unused })
    }

    /// The files, for those who read them piece by piece.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    fn map(&mut self, path: &Path) -> Result<Arc<MappedFile>> {
        if let Some(map) = self.maps.get(path) {
            return Ok(Arc::clone(map));
        }
        let map = Arc::new(MappedFile::open(path)?);
        self.maps.insert(path.to_owned(), Arc::clone(&map));
        Ok(map)
    }
}

impl Tensors for FolderTensors {
    fn find(&mut self, name: &str) -> Result<Option<Tensor>> {
        let own_name = self.own_name(name);
        self.unused.remove(&own_name);
        if name == "output.weight" {
            if self.tied {
                return Ok(None);
            }
            if !self.checkpoint.contains(&own_name) {
                return Err(self.corrupt(format!("tensor \"{own_name}\" is missing")));
            }
        }
        let Some(Place { path, element_type, shape, bytes }) = self.checkpoint.place(&own_name) else {
            return Ok(None);
        };
        let element = match element_type {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::BF16,
            other => return Err(ModelError::Unsupported(format!("elements of tensor \"{own_name}\" ({other:?})"))),
        };
        let (path, shape) = (path.to_owned(), shape.to_vec());
        let map = self.map(&path)?;
        // The file may have been replaced since its header was read.
        if bytes.end > map.len() {
            return Err(ModelError::corrupt(path, format!("tensor \"{own_name}\" lies outside the file")));
        }
        Ok(Some(Tensor { name: own_name, shape, elements: Elements::Numbers(element), map, bytes }))
    }

    fn own_name(&self, name: &str) -> String {
        let prefix = self.prefix;
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        if let Some((layer, part)) = layer {
            let (part, kind) = part.rsplit_once('.').unwrap_or((part, "weight"));
            return format!("{prefix}layers.{layer}.{}.{kind}", layer_part(self.family, part));
        }
        match name {
            "token_embd.weight" => format!("{prefix}embed_tokens.weight"),
            "output_norm.weight" => format!("{prefix}norm.weight"),
            // The output is beside the model that it belongs to.
            "output.weight" if prefix == "language_model.model." => "language_model.lm_head.weight".to_owned(),
            "output.weight" => "lm_head.weight".to_owned(),
            other => other.to_owned(),
        }
    }

    fn corrupt(&self, reason: String) -> ModelError {
        ModelError::corrupt(&self.dir, reason)
    }

    fn norm_offset(&self) -> f32 {
        if self.family.is_gemma() {
            1.0
        } else {
            0.0
        }
    }

    fn unused(&self) -> Option<String> {
        self.unused.iter().min().cloned()
    }
}

/// What transformers calls a part of a layer.
fn layer_part(family: Family, part: &str) -> &str {
    match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_qkv" => "self_attn.qkv_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" if family.has_post_norms() => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "post_attention_norm" => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" if family == Family::Phi3 => "mlp.gate_up_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => other,
    }
}
