//! `config.json` of a decoder, checked, and as the metadata of GGUF.

use crate::error::{ModelError, Result};
use crate::quantize::metadata::Metadata;
use serde_json::Value;
use std::path::Path;

/// Larger numbers of anything are not a model but a broken file.
const MOST: u64 = 1 << 24;

/// Families that are known, by what `config.json` calls them, with the architecture of GGUF.
const FAMILIES: [(&str, &str); 4] = [
    ("LlamaForCausalLM", "llama"),
    ("MistralForCausalLM", "llama"),
    ("Qwen2ForCausalLM", "qwen2"),
    ("Qwen3ForCausalLM", "qwen3"),
];

/// How positions are scaled beyond the context that a model was first trained with.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    None,
    Linear(f32),
    /// Llama 3: divisors of the frequencies.
    Divisors(Vec<f32>),
}

/// The hyperparameters that a GGUF file has.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub architecture: &'static str,
    pub layers: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: usize,
    pub scaling: Scaling,
    /// Whether the output shares the embedding, whatever is in the files.
    pub tied: bool,
    context_tokens: usize,
    window: Option<usize>,
    rope_base: f32,
    norm_epsilon: f32,
    license: Option<String>,
}

impl Config {
    /// Errors: `Unsupported` for another architecture, with those that there are, or a variant of one; `Corrupt`.
    pub fn read(path: &Path, json: &Value) -> Result<Self> {
        let class = json["architectures"][0].as_str().unwrap_or("none");
        let Some(&(_, architecture)) = FAMILIES.iter().find(|(known, _)| *known == class) else {
            let known: Vec<&str> = FAMILIES.iter().map(|(class, _)| *class).collect();
            return Err(ModelError::Unsupported(format!(
                "architecture \"{class}\" cannot be quantised from safetensors, but {} can",
                known.join(", ")
            )));
        };
        let optional = |key: &str| match &json[key] {
            Value::Null => Ok(None),
            value => match value.as_u64() {
                Some(number @ 1..=MOST) => Ok(Some(number as usize)),
                _ => Err(ModelError::corrupt(path, format!("\"{key}\" is {value}"))),
            },
        };
        let required =
            |key: &str| optional(key)?.ok_or_else(|| ModelError::corrupt(path, format!("\"{key}\" is missing")));
        if json["hidden_act"].as_str().is_some_and(|name| name != "silu") {
            return Err(ModelError::Unsupported(format!("activation {}", json["hidden_act"])));
        }
        let (hidden, heads) = (required("hidden_size")?, required("num_attention_heads")?);
        let head_dim = optional("head_dim")?.unwrap_or(hidden / heads);
        let windowed = json["use_sliding_window"].as_bool().unwrap_or(architecture == "llama");
        // Newer versions keep what concerns positions in one place.
        let rope = if json["rope_parameters"].is_object() { &json["rope_parameters"] } else { &json["rope_scaling"] };
        let rope_base = rope["rope_theta"].as_f64().or(json["rope_theta"].as_f64()).unwrap_or(10_000.0) as f32;
        let config = Self {
            architecture,
            layers: required("num_hidden_layers")?,
            hidden,
            feed_forward: required("intermediate_size")?,
            heads,
            kv_heads: optional("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocabulary: required("vocab_size")?,
            scaling: scaling(path, rope, rope_base, head_dim)?,
            tied: json["tie_word_embeddings"].as_bool() == Some(true),
            context_tokens: required("max_position_embeddings")?,
            window: optional("sliding_window")?.filter(|_| windowed),
            rope_base,
            norm_epsilon: json["rms_norm_eps"].as_f64().unwrap_or(1e-6) as f32,
            license: json["license"].as_str().map(str::to_owned),
        };
        if !config.heads.is_multiple_of(config.kv_heads) || !config.head_dim.is_multiple_of(2) || config.head_dim == 0 {
            return Err(ModelError::corrupt(path, "numbers of heads and dimensions do not fit each other"));
        }
        Ok(config)
    }

    /// Query heads that share a head of keys.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Adds the hyperparameters, and the name of the folder as the model's.
    pub fn describe(&self, dir: &Path, metadata: &mut Metadata) {
        let Self { architecture, .. } = self;
        metadata.set_text("general.architecture", architecture);
        metadata.set_text("general.type", "model");
        if let Some(name) = dir.file_name().and_then(|name| name.to_str()) {
            metadata.set_text("general.name", name);
        }
        if let Some(license) = &self.license {
            metadata.set_text("general.license", license);
        }
        let mut number = |key: &str, value: usize| metadata.set_u32(&format!("{architecture}.{key}"), value as u32);
        number("block_count", self.layers);
        number("context_length", self.context_tokens);
        number("embedding_length", self.hidden);
        number("feed_forward_length", self.feed_forward);
        number("attention.head_count", self.heads);
        number("attention.head_count_kv", self.kv_heads);
        number("attention.key_length", self.head_dim);
        number("attention.value_length", self.head_dim);
        number("rope.dimension_count", self.head_dim);
        number("vocab_size", self.vocabulary);
        if let Some(window) = self.window {
            number("attention.sliding_window", window);
        }
        metadata.set_f32(&format!("{architecture}.rope.freq_base"), self.rope_base);
        metadata.set_f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"), self.norm_epsilon);
        if let Scaling::Linear(factor) = self.scaling {
            metadata.set_text(&format!("{architecture}.rope.scaling.type"), "linear");
            metadata.set_f32(&format!("{architecture}.rope.scaling.factor"), factor);
        }
    }
}

fn scaling(path: &Path, rope: &Value, base: f32, head_dim: usize) -> Result<Scaling> {
    let kind = rope["rope_type"].as_str().or(rope["type"].as_str()).unwrap_or("default");
    let number = |key: &str| {
        let number = rope[key].as_f64().filter(|number| number.is_finite() && *number > 0.0);
        number.ok_or_else(|| ModelError::corrupt(path, format!("\"{key}\" of the positions is not a positive number")))
    };
    match kind {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear(number("factor")? as f32)),
        "llama3" => {
            let (factor, low, high) = (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
            let old_context = number("original_max_position_embeddings")?;
            if high <= low {
                return Err(ModelError::corrupt(path, "factors of the positions are in the wrong order"));
            }
            let divisor = |pair: usize| {
                let length = 2.0 * std::f64::consts::PI * f64::from(base).powf(2.0 * pair as f64 / head_dim as f64);
                // Waves that the old context holds many of stay, those that it does not hold once are stretched.
                let smooth = ((old_context / length - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
            };
            Ok(Scaling::Divisors((0..head_dim / 2).map(divisor).collect()))
        }
        other => Err(ModelError::Unsupported(format!("position scaling \"{other}\""))),
    }
}
