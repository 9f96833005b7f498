//! The [`Config`] of a GGUF file, from the metadata that llama.cpp's converters write.
//!
//! Numbers that these files leave out, because the program that they are made for knows them by family, are here.

use super::config::{Activation, Config, Family, LayerPlan, MOST};
use super::gguf::GgufFile;
use super::positions::yarn_magnitude;
use super::rope::Frequencies;
use super::tensors::{load_vector, Tensors};
use crate::error::{ModelError, Result};
use candle_core::quantized::gguf_file::Value;

/// Base of the positions in the layers of Gemma 3 that have a window.
pub const GEMMA3_LOCAL_BASE: f32 = 10_000.0;

impl Config {
    /// Errors: `Unsupported` for another architecture or a variant of it; `Corrupt` for missing or absurd numbers.
    pub fn from_gguf(file: &mut GgufFile) -> Result<Self> {
        let name = file.text("general.architecture").map(str::to_owned);
        let name = name.ok_or_else(|| file.corrupt("metadata has no text \"general.architecture\""))?;
        let family = Family::find(&Family::GGUF, &name)?;
        let keys = Keys { file, name: &name };
        if keys.count("expert_count")?.is_some() {
            return Err(ModelError::Unsupported("a mixture of experts".into()));
        }
        let (hidden, heads) = (keys.required("embedding_length")?, keys.required("attention.head_count")?);
        let kv_heads = keys.count("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = keys.count("attention.key_length")?.unwrap_or(hidden / heads);
        if keys.count("attention.value_length")?.is_some_and(|value_length| value_length != head_dim) {
            return Err(ModelError::Unsupported("keys and values of different length".into()));
        }
        let rope_dims = keys.count("rope.dimension_count")?.unwrap_or(head_dim);
        let count = Self::check_layers(keys.required("block_count")?, |reason| file.corrupt(reason))?;
        let cap = |key: &str, usual: f32| {
            let cap = keys.fraction(key)?.or((family == Family::Gemma2).then_some(usual));
            Ok::<_, ModelError>(cap.filter(|cap| *cap != 0.0))
        };
        let mut config = Self {
            family,
            layers: layers(&keys, family, count)?,
            hidden,
            feed_forward: keys.required("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            rope_dims,
            rope_pairs: family.gguf_pairs(),
            rope: Vec::new(),
            norm_epsilon: keys
                .fraction("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
            activation: if family.is_gemma() { Activation::Gelu } else { Activation::Silu },
            embedding_scale: if family.is_gemma() { (hidden as f32).sqrt() } else { 1.0 },
            score_scale: 0.0,
            score_cap: cap("attn_logit_softcapping", 50.0)?,
            logit_cap: cap("final_logit_softcapping", 30.0)?,
            context_tokens: keys.required("context_length")?,
        };
        let scale = keys.fraction("attention.scale")?.filter(|scale| *scale != 0.0);
        config.score_scale = scale.unwrap_or_else(|| config.gguf_score_scale());
        if rope_dims > head_dim {
            return Err(file.corrupt(format!("{rope_dims} of {head_dim} dimensions of a head cannot be rotated")));
        }
        let numbers = RopeNumbers::read(&keys, &config)?;
        config.rope.push(numbers.frequencies(file, &config)?);
        if let Some(base) = numbers.local_base {
            config.rope.push(Frequencies::plain(base, rope_dims));
        }
        config.check(|reason| file.corrupt(reason))?;
        Ok(config)
    }
}

/// The metadata under the name of the architecture.
struct Keys<'a> {
    file: &'a GgufFile,
    name: &'a str,
}

impl Keys<'_> {
    /// A number from 1 on, if it is there. For most of what is counted, 0 says that there is none.
    fn count(&self, key: &str) -> Result<Option<usize>> {
        match self.file.count(&format!("{}.{key}", self.name))? {
            Some(number) if number <= MOST => Ok((number > 0).then_some(number)),
            Some(number) => Err(self.file.corrupt(format!("\"{}.{key}\" is {number}", self.name))),
            None => Ok(None),
        }
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> ModelError {
        self.file.corrupt(format!("metadata has no number \"{}.{key}\"", self.name))
    }

    fn fraction(&self, key: &str) -> Result<Option<f32>> {
        self.file.fraction(&format!("{}.{key}", self.name))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.file.text(&format!("{}.{key}", self.name))
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.file.metadata().get(&format!("{}.{key}", self.name))
    }
}

/// What each layer sees, and which table rotates it.
fn layers(keys: &Keys, family: Family, count: usize) -> Result<Vec<LayerPlan>> {
    let window = keys.count("attention.sliding_window")?;
    let by_period = |period: Option<usize>| -> Vec<bool> {
        (1..=count).map(|number| period.is_none_or(|period| !number.is_multiple_of(period))).collect()
    };
    let windowed = match keys.value("attention.sliding_window_pattern") {
        Some(Value::Array(flags)) => {
            let flags: Option<Vec<bool>> = flags.iter().map(|flag| flag.to_bool().ok()).collect();
            let flags = flags.filter(|flags| flags.len() >= count);
            flags.ok_or_else(|| keys.file.corrupt("pattern of the layers with a window is not one flag for each"))?
        }
        Some(_) => by_period(keys.count("attention.sliding_window_pattern")?),
        None => by_period(family.gguf_period()),
    };
    let plan = |index: usize| {
        let window = window.filter(|_| windowed[index]);
        let rope = family.gguf_rope(index, window.is_some());
        LayerPlan { window, rope }
    };
    Ok((0..count).map(plan).collect())
}

/// What the metadata says of the positions; divisors are tensors.
struct RopeNumbers {
    base: f32,
    scaling: Scaling,
    magnitude: f32,
    original: Option<usize>,
    local_base: Option<f32>,
}

enum Scaling {
    Linear(f32),
    Yarn { factor: f32, betas: [f32; 2] },
}

impl RopeNumbers {
    fn read(keys: &Keys, config: &Config) -> Result<Self> {
        let legacy = keys.fraction("rope.scale_linear")?.filter(|scale| *scale != 0.0);
        let factor = keys.fraction("rope.scaling.factor")?.filter(|factor| *factor != 0.0).or(legacy).unwrap_or(1.0);
        let mut magnitude = keys.fraction("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let scaling = match keys.text("rope.scaling.type") {
            None | Some("none" | "longrope") => Scaling::Linear(legacy.unwrap_or(1.0)),
            Some("linear") => Scaling::Linear(factor),
            Some("yarn") => {
                let fast = keys.fraction("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0);
                let slow = keys.fraction("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0);
                magnitude *= yarn_magnitude(factor);
                Scaling::Yarn { factor, betas: [fast, slow] }
            }
            Some(other) => return Err(ModelError::Unsupported(format!("position scaling \"{other}\""))),
        };
        let local = config.layers.iter().any(|layer| layer.rope == Some(1));
        let local_base = keys.fraction("rope.freq_base_swa")?.unwrap_or(GEMMA3_LOCAL_BASE);
        Ok(Self {
            base: keys.fraction("rope.freq_base")?.unwrap_or(10_000.0),
            scaling,
            magnitude,
            original: keys.count("rope.scaling.original_context_length")?,
            local_base: local.then_some(local_base),
        })
    }

    /// The table, with the divisors of the tensors that there are.
    fn frequencies(&self, file: &mut GgufFile, config: &Config) -> Result<Frequencies> {
        let (dims, pairs) = (config.rope_dims, config.rope_dims / 2);
        let mut divisors = |name: &str| -> Result<Option<Vec<f32>>> {
            let Some(tensor) = file.find(name)? else { return Ok(None) };
            if tensor.shape != [pairs] {
                let found = &tensor.shape;
                return Err(file.corrupt(format!("tensor \"{name}\" has the shape {found:?} instead of [{pairs}]")));
            }
            let divisors = load_vector(&tensor);
            if divisors.iter().any(|divisor| !(divisor.is_finite() && *divisor > 0.0)) {
                return Err(file.corrupt(format!("tensor \"{name}\" holds numbers that are not positive")));
            }
            Ok(Some(divisors))
        };
        let llama3 = divisors("rope_freqs.weight")?;
        let short = divisors("rope_factors_short.weight")?;
        let long = divisors("rope_factors_long.weight")?;
        let original = self.original.unwrap_or(config.context_tokens);
        Ok(match (&self.scaling, short, long) {
            (_, Some(short), Some(long)) => {
                Frequencies::long_and_short(self.base, dims, [&short, &long], original, self.magnitude)
            }
            (Scaling::Yarn { factor, betas }, ..) => {
                Frequencies::yarn(self.base, dims, *factor, *betas, original as f32, self.magnitude)
            }
            (Scaling::Linear(scale), ..) => {
                let divisors = llama3.unwrap_or_else(|| vec![1.0; pairs]);
                Frequencies::divided(self.base, dims, *scale, &divisors).with_magnitude(self.magnitude)
            }
        })
    }
}
