//! The [`Config`] of a model folder, from its `config.json` as transformers writes it.
//!
//! Values that these files may leave out are those of the family's configuration class. Older files keep the positions'
//! numbers in `rope_theta` and `rope_scaling`, newer ones in `rope_parameters`; both are read.

use super::config::{Activation, Config, Family, LayerPlan, Pairs, MOST};
use super::positions::{yarn_magnitude, Positions, Scaling};
use super::rope::Frequencies;
use crate::error::{ModelError, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// File name of a model's configuration.
pub const CONFIG_FILE: &str = "config.json";

/// Longer files are no configurations.
const MAX_BYTES: u64 = 16 << 20;

/// The JSON objects in a model's folder are small; larger ones are refused before they are read.
///
/// Errors: `Missing`, `Unreadable`; `Corrupt` for what is not an object.
pub fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let from_io = |error| ModelError::from_io(path, error);
    let bytes = std::fs::metadata(path).map_err(from_io)?.len();
    if bytes > MAX_BYTES {
        return Err(ModelError::corrupt(path, format!("file of {bytes} bytes is too large")));
    }
    let bytes = std::fs::read(path).map_err(from_io)?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::corrupt(path, error))
}

/// A `config.json`, and where the tensors of its text model are.
pub struct FolderConfig {
    pub config: Config,
    /// What the tables in `config` are made of.
    pub positions: Positions,
    /// `model_type`.
    pub name: String,
    /// Whether the output shares the embedding, whatever is in the files.
    pub tied: bool,
    /// `eos_token_id`.
    pub ends: Vec<u32>,
}

impl FolderConfig {
    /// Reads the configuration of the model in `dir`.
    ///
    /// Errors: `Unsupported` for another architecture or a variant of it; `Corrupt` for missing or absurd numbers.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG_FILE);
        let root = read_object(&path)?;
        let name = root.get("model_type").and_then(Value::as_str);
        let name = name.ok_or_else(|| ModelError::corrupt(&path, "there is no text \"model_type\""))?;
        let family = Family::find(&Family::FOLDER, name)?;
        if root.get("quantization_config").is_some_and(|value| !value.is_null()) {
            return Err(ModelError::Unsupported("quantised weights in safetensors (\"quantization_config\")".into()));
        }
        let text = root.get("text_config").and_then(Value::as_object).unwrap_or(&root);
        let object = Object { path: &path, map: text };
        let (config, positions) = config(&object, family, name)?;
        config.check(|reason| ModelError::corrupt(&path, reason))?;
        let flag = |map: &Map<String, Value>| map.get("tie_word_embeddings").and_then(Value::as_bool);
        let tied = flag(text).or(flag(&root));
        let tied = tied.unwrap_or(family.is_gemma() || family == Family::SmolLm3);
        let ends = token_ids(text.get("eos_token_id").or(root.get("eos_token_id")));
        Ok(Self { config, positions, name: name.to_owned(), tied, ends })
    }
}

/// One id, or several.
pub fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A JSON object of the file at `path`.
#[derive(Clone, Copy)]
struct Object<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn corrupt(&self, reason: impl std::fmt::Display) -> ModelError {
        ModelError::corrupt(PathBuf::from(self.path), reason)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        match number.filter(|number| (1..=MOST).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.corrupt(format!("\"{key}\" is {value}"))),
        }
    }

    fn required(&self, key: &str, usual: Option<usize>) -> Result<usize> {
        self.count(key)?.or(usual).ok_or_else(|| self.corrupt(format!("there is no number \"{key}\"")))
    }

    fn fraction(&self, key: &str) -> Result<Option<f32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().map(|number| number as f32).filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.corrupt(format!("\"{key}\" is {value}"))),
        }
    }

    fn required_fraction(&self, key: &str) -> Result<f32> {
        self.fraction(key)?.ok_or_else(|| self.corrupt(format!("there is no number \"{key}\"")))
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    fn object(&self, key: &str) -> Option<Object<'a>> {
        Some(Object { path: self.path, map: self.get(key)?.as_object()? })
    }

    /// As many elements of an array as there are layers.
    fn per_layer(&self, key: &str, layers: usize) -> Result<Option<&'a [Value]>> {
        match self.get(key).map(Value::as_array) {
            None => Ok(None),
            Some(Some(values)) if values.len() >= layers => Ok(Some(&values[..layers])),
            Some(_) => Err(self.corrupt(format!("\"{key}\" is not a list of an element for each layer"))),
        }
    }
}

fn config(object: &Object, family: Family, name: &str) -> Result<(Config, Positions)> {
    // The configuration class of Gemma 3 has values for all of these, and files leave them out.
    let usual = |number: usize| (family == Family::Gemma3).then_some(number);
    let hidden = object.required("hidden_size", usual(2304))?;
    let heads = object.required("num_attention_heads", usual(8))?;
    let head_dim = match object.count("head_dim")? {
        Some(head_dim) => head_dim,
        None if family.is_gemma() => 256,
        None => hidden / heads,
    };
    let count = object.required("num_hidden_layers", usual(26))?;
    let count = Config::check_layers(count, |reason| object.corrupt(reason))?;
    let context_tokens = object.required("max_position_embeddings", usual(131_072))?;
    let layers = layers(object, family, name, count)?;
    let (positions, reach) = positions(object, family, &layers, head_dim, context_tokens)?;
    let scaled_dim = match family {
        Family::Gemma2 | Family::Gemma3 => object.fraction("query_pre_attn_scalar")?.unwrap_or(256.0),
        _ => head_dim as f32,
    };
    // A missing key has the family's usual value, an explicit null says that there is none.
    let cap = |key: &str, usual: f32| match object.map.contains_key(key) {
        true => object.fraction(key),
        false => Ok((family == Family::Gemma2).then_some(usual)),
    };
    let config = Config {
        family,
        layers,
        hidden,
        feed_forward: object.required("intermediate_size", usual(9216))?,
        heads,
        kv_heads: object.count("num_key_value_heads")?.or(usual(4)).unwrap_or(heads),
        head_dim,
        rope_dims: positions.dims,
        rope_pairs: Pairs::Halves,
        rope: positions.tables(),
        norm_epsilon: object.fraction("rms_norm_eps")?.unwrap_or(1e-6),
        activation: activation(object, family)?,
        embedding_scale: if family.is_gemma() { (hidden as f32).sqrt() } else { 1.0 },
        score_scale: 1.0 / scaled_dim.sqrt(),
        score_cap: cap("attn_logit_softcapping", 50.0)?,
        logit_cap: cap("final_logit_softcapping", 30.0)?,
        context_tokens: reach,
    };
    Ok((config, positions))
}

fn activation(object: &Object, family: Family) -> Result<Activation> {
    let name = object.text("hidden_activation").or(object.text("hidden_act"));
    match name {
        None if family.is_gemma() => Ok(Activation::Gelu),
        // The first files of Gemma say "gelu" and mean the approximation, with which the models were trained.
        Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::Gelu),
        Some("gelu") if family.is_gemma() => Ok(Activation::Gelu),
        None | Some("silu" | "swish") => Ok(Activation::Silu),
        Some(other) => Err(ModelError::Unsupported(format!("activation \"{other}\""))),
    }
}

/// What each layer sees, and which table rotates it.
fn layers(object: &Object, family: Family, name: &str, count: usize) -> Result<Vec<LayerPlan>> {
    let window = match object.map.get("sliding_window") {
        Some(_) => object.count("sliding_window")?,
        None if matches!(name, "mistral" | "gemma2" | "gemma3" | "gemma3_text") => Some(4096),
        None => None,
    };
    let switchable = matches!(family, Family::Qwen2 | Family::Qwen3 | Family::SmolLm3);
    let window = window.filter(|_| !switchable || object.flag("use_sliding_window"));
    let kinds = object.per_layer("layer_types", count)?;
    let no_rope = object.per_layer("no_rope_layers", count)?;
    let period = match family {
        Family::Gemma2 => Some(2),
        Family::Gemma3 => Some(object.count("sliding_window_pattern")?.unwrap_or(6)),
        _ => None,
    };
    let first_window = if switchable { object.count("max_window_layers")?.unwrap_or(28) } else { 0 };
    let interval = object.count("no_rope_layer_interval")?.unwrap_or(4);
    let plan = |index: usize| {
        let windowed = match kinds.map(|kinds| kinds[index].as_str()) {
            Some(Some("sliding_attention")) => true,
            Some(Some("full_attention")) => false,
            Some(other) => {
                let other = other.unwrap_or("?");
                return Err(ModelError::Unsupported(format!("layers of type \"{other}\"")));
            }
            None => match period {
                Some(period) => !(index + 1).is_multiple_of(period),
                None => index >= first_window,
            },
        };
        let window = window.filter(|_| windowed);
        let rope = match (family, no_rope) {
            (Family::SmolLm3, Some(flags)) => (flags[index].as_u64() != Some(0)).then_some(0),
            (Family::SmolLm3, None) => (!(index + 1).is_multiple_of(interval)).then_some(0),
            (Family::Gemma3, _) => Some(usize::from(windowed)),
            _ => Some(0),
        };
        Ok(LayerPlan { window, rope })
    };
    (0..count).map(plan).collect()
}

/// How positions are rotated, and how many the model takes.
fn positions(
    object: &Object,
    family: Family,
    layers: &[LayerPlan],
    head_dim: usize,
    context_tokens: usize,
) -> Result<(Positions, usize)> {
    let parameters = object.object("rope_parameters");
    // By kind of layer, where they differ.
    let part = |kind: &str| parameters.and_then(|parameters| parameters.object(kind));
    let (global, local) = (part("full_attention").or(parameters), part("sliding_attention"));
    let scaling = global.or(object.object("rope_scaling"));
    let share = object.fraction("partial_rotary_factor")?;
    let share = match (share, global) {
        (None, Some(global)) => global.fraction("partial_rotary_factor")?,
        (share, _) => share,
    };
    let dims = (head_dim as f32 * share.unwrap_or(1.0)) as usize;
    if dims == 0 || dims > head_dim || !dims.is_multiple_of(2) || head_dim > MOST {
        return Err(object.corrupt(format!("{dims} of {head_dim} dimensions of a head cannot be rotated")));
    }
    let usual_base = match family {
        Family::Gemma3 => 1e6,
        Family::SmolLm3 => 2e6,
        _ => 1e4,
    };
    let base_of = |part: Option<Object>| part.map_or(Ok(None), |part| part.fraction("rope_theta"));
    let base = base_of(global)?.or(object.fraction("rope_theta")?).unwrap_or(usual_base);
    let (scaling, reach) = match scaling {
        Some(scaling) => read_scaling(object, &scaling, base, dims, context_tokens)?,
        None => (Scaling::Linear(1.0), context_tokens),
    };
    let local_base = match layers.iter().any(|layer| layer.rope == Some(1)) {
        true => Some(base_of(local)?.or(object.fraction("rope_local_base_freq")?).unwrap_or(1e4)),
        false => None,
    };
    Ok((Positions { base, dims, scaling, local_base }, reach))
}

/// What `scaling` describes, and how many positions it reaches.
fn read_scaling(
    object: &Object,
    scaling: &Object,
    base: f32,
    dims: usize,
    context_tokens: usize,
) -> Result<(Scaling, usize)> {
    let factor = || scaling.required_fraction("factor");
    let original = |key: &str| match scaling.count(key)? {
        Some(original) => Ok(Some(original)),
        None => object.count(key),
    };
    let original = original("original_max_position_embeddings")?;
    match scaling.text("rope_type").or(scaling.text("type")) {
        None | Some("default") => Ok((Scaling::Linear(1.0), context_tokens)),
        Some("linear") => Ok((Scaling::Linear(factor()?), context_tokens)),
        Some("llama3") => {
            let original = original.ok_or_else(|| scaling.corrupt("\"rope_scaling\" lacks its original context"))?;
            let limits =
                [scaling.required_fraction("low_freq_factor")?, scaling.required_fraction("high_freq_factor")?];
            let divisors = Frequencies::llama3_divisors(base, dims, factor()?, limits, original as f32);
            Ok((Scaling::Divisors(divisors), context_tokens))
        }
        Some("yarn") => {
            if scaling.get("mscale").or(scaling.get("mscale_all_dim")).is_some() {
                return Err(ModelError::Unsupported("position scaling \"yarn\" with \"mscale\"".into()));
            }
            let (factor, original) = (factor()?, original.unwrap_or(context_tokens));
            let betas = [scaling.fraction("beta_fast")?.unwrap_or(32.0), scaling.fraction("beta_slow")?.unwrap_or(1.0)];
            let magnitude = scaling.fraction("attention_factor")?.unwrap_or(yarn_magnitude(factor));
            let reach = ((original as f32 * factor) as usize).clamp(context_tokens, MOST);
            Ok((Scaling::Yarn { factor, betas, original, magnitude }, reach))
        }
        Some("longrope" | "su") => {
            let original = original.unwrap_or(context_tokens);
            let [short, long] = ["short_factor", "long_factor"].map(|key| divisors(scaling, key, dims / 2));
            let (short, long) = (short?, long?);
            let stretch = match original == context_tokens {
                true => scaling.fraction("factor")?.unwrap_or(1.0),
                false => context_tokens as f32 / original as f32,
            };
            let usual = if stretch > 1.0 { (1.0 + stretch.ln() / (original as f32).ln()).sqrt() } else { 1.0 };
            let magnitude = scaling.fraction("attention_factor")?.unwrap_or(usual);
            Ok((Scaling::ShortAndLong { short, long, original, magnitude }, context_tokens))
        }
        Some(other) => Err(ModelError::Unsupported(format!("position scaling \"{other}\""))),
    }
}

fn divisors(scaling: &Object, key: &str, pairs: usize) -> Result<Vec<f32>> {
    let numbers = scaling.get(key).and_then(Value::as_array);
    let numbers: Option<Vec<f32>> =
        numbers.and_then(|numbers| numbers.iter().map(|number| number.as_f64().map(|number| number as f32)).collect());
    let numbers = numbers.filter(|numbers| numbers.len() == pairs);
    numbers.ok_or_else(|| scaling.corrupt(format!("\"{key}\" is not a list of {pairs} numbers")))
}
