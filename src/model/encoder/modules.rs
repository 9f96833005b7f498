//! What follows the transformer: the modules of a folder as sentence-transformers writes it.
//!
//! `modules.json` lists them in order, each with a folder of its own: pooling, dense layers, normalisation. What is not
//! among these is `Unsupported`, naming it.

use super::config::read_json;
use super::head::HeadActivation;
use super::shape::Activation;
use crate::error::{ModelError, Result};
use crate::source::{inside, safetensors::Checkpoint};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// One way to make a text's vector from its token vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Cls,
    Max,
    Mean,
    /// Sum divided by the square root of the number of tokens.
    MeanSqrtLength,
    /// Mean in which token i has the weight i + 1.
    WeightedMean,
    LastToken,
}

impl Pooling {
    /// The names in the order in which sentence-transformers concatenates several.
    const NAMES: [(&'static str, &'static str, Pooling); 6] = [
        ("cls", "pooling_mode_cls_token", Pooling::Cls),
        ("max", "pooling_mode_max_tokens", Pooling::Max),
        ("mean", "pooling_mode_mean_tokens", Pooling::Mean),
        ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrtLength),
        ("weightedmean", "pooling_mode_weightedmean_tokens", Pooling::WeightedMean),
        ("lasttoken", "pooling_mode_lasttoken", Pooling::LastToken),
    ];
}

/// A linear layer that follows pooling.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseConfig {
    /// Its folder in the model's.
    pub folder: String,
    pub inputs: usize,
    pub outputs: usize,
    pub bias: bool,
    pub activation: HeadActivation,
}

/// What makes one vector of a text's last hidden state.
#[derive(Clone, Debug, PartialEq)]
pub struct Modules {
    /// Their results are concatenated; at least one.
    pub pooling: Vec<Pooling>,
    /// In order; each takes what the one before gives.
    pub dense: Vec<DenseConfig>,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
}

/// One entry of modules.json.
#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    class: String,
}

impl Module {
    /// Class name without its Python package, which has changed over the versions of sentence-transformers.
    fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }
}

fn module_list(dir: &Path) -> Result<Option<Vec<Module>>> {
    read_json(&dir.join("modules.json"))
}

/// Names of the files that decide what follows the transformer, as far as present.
pub fn files(dir: &Path) -> Result<Vec<String>> {
    let mut names = vec!["modules.json".to_owned()];
    for module in module_list(dir)?.into_iter().flatten().filter(|module| !module.path.is_empty()) {
        if matches!(module.kind(), "Pooling" | "Dense") {
            names.push(format!("{}/config.json", module.path));
        }
        if module.kind() == "Dense" {
            let weights = Checkpoint::file_names(&inside(dir, &module.path)?)?;
            names.extend(weights.into_iter().map(|name| format!("{}/{name}", module.path)));
        }
    }
    Ok(names)
}

impl Modules {
    /// Reads `modules.json` and what it names; `hidden` is the width of the last hidden state.
    pub fn read(dir: &Path, hidden: usize) -> Result<Self> {
        let Some(modules) = module_list(dir)? else {
            // What sentence-transformers does with a plain transformer.
            return Ok(Self { pooling: vec![Pooling::Mean], dense: Vec::new(), normalize: false });
        };
        let path = dir.join("modules.json");
        let mut read = Self { pooling: Vec::new(), dense: Vec::new(), normalize: false };
        for (position, module) in modules.iter().enumerate() {
            match (position, module.kind()) {
                (0, "Transformer") if module.path.is_empty() => {}
                (1, "Pooling") => read.pooling = read_pooling(&inside(dir, &module.path)?)?,
                (2.., "Dense") if !read.normalize => read.dense.push(read_dense(dir, &module.path)?),
                (2.., "Normalize") => read.normalize = true,
                // Only active in training.
                (2.., "Dropout") => {}
                (_, kind) => {
                    let message = format!("module \"{kind}\" at position {position} of an embedding model");
                    return Err(ModelError::Unsupported(message));
                }
            }
        }
        if read.pooling.is_empty() {
            return Err(ModelError::corrupt(path, "no pooling module"));
        }
        let mut width = hidden * read.pooling.len();
        for dense in &read.dense {
            if dense.inputs != width {
                let reason = format!("\"{}\" takes {} numbers, but gets {width}", dense.folder, dense.inputs);
                return Err(ModelError::corrupt(path, reason));
            }
            width = dense.outputs;
        }
        Ok(read)
    }

    /// Numbers in a vector, of a transformer with a hidden state of this width.
    pub fn dims(&self, hidden: usize) -> usize {
        self.dense.last().map_or(hidden * self.pooling.len(), |dense| dense.outputs)
    }
}

fn read_pooling(dir: &Path) -> Result<Vec<Pooling>> {
    let path = dir.join("config.json");
    let config: Value = read_json(&path)?.ok_or_else(|| ModelError::Missing(path.clone()))?;
    if config.get("include_prompt").and_then(|value| value.as_bool()) == Some(false) {
        return Err(ModelError::Unsupported("pooling without the tokens of the prompt".to_owned()));
    }
    // Newer versions name the mode or list several, older ones have a flag for each.
    let named: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().unwrap_or("")).collect(),
        Some(_) => return Err(ModelError::corrupt(path, "\"pooling_mode\" is neither a name nor a list of names")),
        None => {
            let flag = |key: &str| config.get(key).and_then(|value| value.as_bool()).unwrap_or(false);
            Pooling::NAMES.iter().filter(|(_, key, _)| flag(key)).map(|(name, ..)| *name).collect()
        }
    };
    if named.is_empty() {
        return Ok(vec![Pooling::Mean]);
    }
    named
        .into_iter()
        .map(|name| match Pooling::NAMES.iter().find(|(known, ..)| *known == name) {
            Some(&(_, _, mode)) => Ok(mode),
            None => Err(ModelError::Unsupported(format!("pooling mode \"{name}\""))),
        })
        .collect()
}

fn read_dense(dir: &Path, folder: &str) -> Result<DenseConfig> {
    #[derive(Deserialize)]
    struct Raw {
        in_features: usize,
        out_features: usize,
        #[serde(default = "yes")]
        bias: bool,
        activation_function: Option<String>,
        module_input_name: Option<String>,
        module_output_name: Option<String>,
    }
    fn yes() -> bool {
        true
    }
    let path = inside(dir, folder)?.join("config.json");
    let raw: Raw = read_json(&path)?.ok_or_else(|| ModelError::Missing(path.clone()))?;
    for name in [&raw.module_input_name, &raw.module_output_name].into_iter().flatten() {
        if name != "sentence_embedding" {
            return Err(ModelError::Unsupported(format!("dense layer over \"{name}\"")));
        }
    }
    // Far above every real size.
    let sizes = [raw.in_features, raw.out_features];
    if let Some(size) = sizes.into_iter().find(|size| !(1..=1 << 20).contains(size)) {
        return Err(ModelError::corrupt(path, format!("dense layer of {size} numbers")));
    }
    Ok(DenseConfig {
        folder: folder.to_owned(),
        inputs: raw.in_features,
        outputs: raw.out_features,
        bias: raw.bias,
        activation: activation(raw.activation_function.as_deref().unwrap_or("Tanh"))?,
    })
}

/// The activation that a class of PyTorch is.
pub fn activation(class: &str) -> Result<HeadActivation> {
    match class.rsplit('.').next().unwrap_or_default() {
        "Identity" => Ok(HeadActivation::None),
        "Tanh" => Ok(HeadActivation::Tanh),
        "Sigmoid" => Ok(HeadActivation::Sigmoid),
        "GELU" => Ok(HeadActivation::Of(Activation::Gelu)),
        "ReLU" => Ok(HeadActivation::Of(Activation::Relu)),
        "SiLU" => Ok(HeadActivation::Of(Activation::Silu)),
        _ => Err(ModelError::Unsupported(format!("activation \"{class}\""))),
    }
}
