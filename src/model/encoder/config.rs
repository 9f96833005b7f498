//! Reading the configuration files of an embedding model: a folder as sentence-transformers writes it.
//!
//! | file | what it decides |
//! |---|---|
//! | `config.json` | architecture and sizes |
//! | `modules.json`, and the folders it names | what follows the transformer; without it: mean pooling only |
//! | `sentence_bert_config.json` | longest input, lower-casing |
//! | `config_sentence_transformers.json` | texts put before queries and passages |
//!
//! What the runtime cannot do exactly as the model says is `Unsupported`, naming it; nothing is approximated silently.
//! Called when a model is loaded or inspected.

use super::modules::{self, Modules};
use super::shape::Shape;
use crate::error::{ModelError, Result};
use pg_rag_protocol::message::Purpose;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Options of a registration that override what the model's folder says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderOptions {
    /// Put before a text that is searched for.
    pub query_prefix: Option<String>,
    /// Put before a text that is searched in.
    pub passage_prefix: Option<String>,
    /// Truncate inputs to this many tokens; at most what the model takes.
    pub max_tokens: Option<usize>,
    /// In what the weights of the linear layers are kept and multiplied.
    pub dtype: Dtype,
    /// Give only so many numbers of each vector, scaled to length 1 again if the model's are: for models that are trained
    /// so that the first ones tell most (Kusupati et al., 2022, "Matryoshka representation learning").
    pub dims: Option<usize>,
}

/// Options of the registration of a cross-encoder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RerankerOptions {
    /// Truncate pairs to this many tokens; at most what the model takes.
    pub max_tokens: Option<usize>,
    /// In what the weights of the linear layers are kept and multiplied.
    pub dtype: Dtype,
}

/// Numbers of the linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As exact as the model.
    #[default]
    F32,
    /// 8 bits, see [`super::quantized`]: faster, a quarter of the memory, vectors that differ a little.
    Int8,
}

impl EncoderOptions {
    /// Parses the options of a registration; the empty string means none.
    pub fn from_json(json: &str) -> Result<Self> {
        parse_options(json, "an embedding model")
    }
}

impl RerankerOptions {
    /// As [`EncoderOptions::from_json`].
    pub fn from_json(json: &str) -> Result<Self> {
        parse_options(json, "a reranking model")
    }
}

fn parse_options<T: Default + DeserializeOwned>(json: &str, what: &str) -> Result<T> {
    if json.trim().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(json).map_err(|error| {
        let text = error.to_string();
        // Where in one line of JSON it is helps nobody.
        let reason = text.split(" at line ").next().unwrap_or_default();
        ModelError::InvalidArgument(format!("options of {what}: {reason}"))
    })
}

/// What embedding models and cross-encoders have in common: the transformer, and what texts it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    pub architecture: String,
    pub shape: Shape,
    /// Longest input in tokens, with the special tokens; at most `shape.positions`.
    pub max_tokens: usize,
    /// Lower-case texts before tokenizing, beside what the tokenizer does.
    pub lower_case: bool,
    /// Whether the model is told which text of a pair a token is of, as far as it knows types of tokens.
    pub marks_second: bool,
}

impl TextConfig {
    /// Also gives what `config.json` holds. `wanted_tokens` is the option of that name.
    pub fn read(dir: &Path, wanted_tokens: Option<usize>) -> Result<(Self, Value)> {
        let path = dir.join("config.json");
        let config: Value = read_json(&path)?.ok_or_else(|| ModelError::Missing(path.clone()))?;
        let shape = Shape::from_json(&config, &path)?;
        let sentence: SentenceConfig = read_json(&dir.join("sentence_bert_config.json"))?.unwrap_or_default();
        let tokenizer: TokenizerConfig = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let declared_tokens = sentence.max_seq_length.unwrap_or(match tokenizer.model_max_length {
            // "Unlimited" is written as 1e30.
            Some(length) if length >= 1.0 && length < shape.positions as f64 => length as usize,
            _ => shape.positions,
        });
        let mut max_tokens = declared_tokens.clamp(1, shape.positions);
        if let Some(wanted) = wanted_tokens {
            if wanted == 0 || wanted > max_tokens {
                let message = format!("\"max_tokens\" of the model must be from 1 to {max_tokens}, not {wanted}");
                return Err(ModelError::InvalidArgument(message));
            }
            max_tokens = wanted;
        }
        let architecture = shape.architecture(&config);
        let inputs = tokenizer.model_input_names;
        let marks_second = inputs.is_none_or(|names| names.iter().any(|name| name == "token_type_ids"));
        let lower_case = sentence.do_lower_case;
        Ok((Self { architecture, shape, max_tokens, lower_case, marks_second }, config))
    }
}

/// Everything of an embedding model but the weights and the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    pub text: TextConfig,
    pub modules: Modules,
    /// Numbers that are kept of each vector.
    dims: usize,
    query_prefix: String,
    passage_prefix: String,
}

impl EncoderConfig {
    /// Reads the configuration files in `dir`.
    ///
    /// Errors: `Missing` (config.json), `Unreadable`, `Corrupt` naming the file, `Unsupported` naming what is,
    /// `InvalidArgument` for an option out of range.
    pub fn read(dir: &Path, options: &EncoderOptions) -> Result<Self> {
        let (text, _) = TextConfig::read(dir, options.max_tokens)?;
        let modules = Modules::read(dir, text.shape.hidden)?;
        let all_dims = modules.dims(text.shape.hidden);
        let dims = options.dims.unwrap_or(all_dims);
        if dims == 0 || dims > all_dims {
            let message = format!("\"dims\" of the model must be from 1 to {all_dims}, not {dims}");
            return Err(ModelError::InvalidArgument(message));
        }
        let prompts: PromptConfig = read_json(&dir.join("config_sentence_transformers.json"))?.unwrap_or_default();
        Ok(Self {
            text,
            modules,
            dims,
            query_prefix: prompts.prefix(&options.query_prefix, &["query"]),
            passage_prefix: prompts.prefix(&options.passage_prefix, &["document", "passage", "corpus"]),
        })
    }

    /// Numbers in an output vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// What the model wants before a text.
    pub fn prefix(&self, purpose: Purpose) -> &str {
        match purpose {
            Purpose::Query => &self.query_prefix,
            Purpose::Passage => &self.passage_prefix,
        }
    }

    /// Files beside `config.json`, the weights and the tokenizer that decide the vectors, as far as present.
    pub fn companion_files(dir: &Path) -> Result<Vec<String>> {
        let mut names = modules::files(dir)?;
        let others = ["sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"];
        names.extend(others.map(str::to_owned));
        names.retain(|name| dir.join(name).exists());
        Ok(names)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    model_input_names: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptConfig {
    prompts: HashMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl PromptConfig {
    /// The registration's own choice, else the first prompt of `names` that exists, else the default one.
    fn prefix(&self, chosen: &Option<String>, names: &[&str]) -> String {
        let named = || names.iter().find_map(|&name| self.prompts.get(name)?.clone());
        let default = || self.prompts.get(self.default_prompt_name.as_deref()?)?.clone();
        chosen.clone().or_else(named).or_else(default).unwrap_or_default()
    }
}

/// The parsed file, or `None` when it does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| ModelError::corrupt(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ModelError::from_io(path, error)),
    }
}
