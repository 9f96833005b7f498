//! Reading the configuration files of an embedding model: a folder as sentence-transformers writes it.
//!
//! | file | what it decides |
//! |---|---|
//! | `config.json` | architecture and sizes |
//! | `modules.json` | what follows the transformer: pooling, normalisation; without it: mean pooling only |
//! | `*/config.json` of the pooling module | how token vectors become one vector |
//! | `sentence_bert_config.json` | longest input, lower-casing |
//! | `config_sentence_transformers.json` | texts put before queries and passages |
//!
//! What the runtime cannot do exactly as the model says is `Unsupported`, naming it; nothing is approximated silently.
//! Called when a model is loaded or inspected.

use crate::error::{ModelError, Result};
use pg_rag_protocol::message::Purpose;
use serde::de::DeserializeOwned;
use serde::Deserialize;
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
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(json).map_err(|error| {
            let text = error.to_string();
            // Where in one line of JSON it is helps nobody.
            let what = text.split(" at line ").next().unwrap_or_default();
            ModelError::InvalidArgument(format!("options of an embedding model: {what}"))
        })
    }
}

/// Activation between the two layers of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU, with the error function.
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    Relu,
}

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

/// Sizes of a BERT encoder; all are at least 1 and `hidden` is a multiple of `heads`.
#[derive(Clone, Debug, PartialEq)]
pub struct BertShape {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub feed_forward: usize,
    pub vocabulary: usize,
    pub positions: usize,
    pub token_types: usize,
    pub activation: Activation,
    pub norm_epsilon: f32,
}

/// Everything but the weights and the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    pub architecture: String,
    pub bert: BertShape,
    /// Their results are concatenated; at least one.
    pub pooling: Vec<Pooling>,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// Longest input in tokens, with the special tokens; at most `bert.positions`.
    pub max_tokens: usize,
    /// Lower-case texts before tokenizing, beside what the tokenizer does.
    pub lower_case: bool,
    query_prefix: String,
    passage_prefix: String,
}

impl EncoderConfig {
    /// Reads the configuration files in `dir`.
    ///
    /// Errors: `Missing` (config.json), `Unreadable`, `Corrupt` naming the file, `Unsupported` naming what is,
    /// `InvalidArgument` for an option out of range.
    pub fn read(dir: &Path, options: &EncoderOptions) -> Result<Self> {
        let path = dir.join("config.json");
        let config: serde_json::Value = read_json(&path)?.ok_or_else(|| ModelError::Missing(path.clone()))?;
        let architecture = config.get("model_type").and_then(|value| value.as_str()).unwrap_or("").to_owned();
        if architecture != "bert" {
            return Err(ModelError::Unsupported(format!("embedding model of type \"{architecture}\"")));
        }
        let bert = BertShape::from_json(config, &path)?;
        let modules = Modules::read(dir)?;
        let sentence: SentenceConfig = read_json(&dir.join("sentence_bert_config.json"))?.unwrap_or_default();
        let tokenizer: TokenizerConfig = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let prompts: PromptConfig = read_json(&dir.join("config_sentence_transformers.json"))?.unwrap_or_default();

        let declared_tokens = sentence.max_seq_length.unwrap_or(match tokenizer.model_max_length {
            // "Unlimited" is written as 1e30.
            Some(length) if length >= 1.0 && length < bert.positions as f64 => length as usize,
            _ => bert.positions,
        });
        let mut max_tokens = declared_tokens.clamp(1, bert.positions);
        if let Some(wanted) = options.max_tokens {
            if wanted == 0 || wanted > max_tokens {
                let message = format!("\"max_tokens\" of the model must be from 1 to {max_tokens}, not {wanted}");
                return Err(ModelError::InvalidArgument(message));
            }
            max_tokens = wanted;
        }
        Ok(Self {
            architecture,
            bert,
            pooling: modules.pooling,
            normalize: modules.normalize,
            max_tokens,
            lower_case: sentence.do_lower_case,
            query_prefix: prompts.prefix(&options.query_prefix, &["query"]),
            passage_prefix: prompts.prefix(&options.passage_prefix, &["document", "passage", "corpus"]),
        })
    }

    /// Numbers in an output vector.
    pub fn dims(&self) -> usize {
        self.bert.hidden * self.pooling.len()
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
        let mut names = vec!["modules.json".to_owned()];
        names.extend(module_list(dir)?.into_iter().flatten().filter_map(|module| {
            (module.kind() == "Pooling" && !module.path.is_empty()).then(|| format!("{}/config.json", module.path))
        }));
        let others = ["sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"];
        names.extend(others.map(str::to_owned));
        names.retain(|name| dir.join(name).exists());
        Ok(names)
    }
}

impl BertShape {
    fn from_json(config: serde_json::Value, path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            hidden_size: usize,
            num_hidden_layers: usize,
            num_attention_heads: usize,
            intermediate_size: usize,
            vocab_size: usize,
            max_position_embeddings: usize,
            #[serde(default = "two")]
            type_vocab_size: usize,
            #[serde(default = "gelu")]
            hidden_act: String,
            #[serde(default = "bert_epsilon")]
            layer_norm_eps: f32,
            position_embedding_type: Option<String>,
            #[serde(default)]
            is_decoder: bool,
        }
        fn two() -> usize {
            2
        }
        fn gelu() -> String {
            "gelu".to_owned()
        }
        fn bert_epsilon() -> f32 {
            1e-12
        }
        let raw: Raw = serde_json::from_value(config).map_err(|error| ModelError::corrupt(path, error))?;
        let activation = match raw.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(ModelError::Unsupported(format!("activation \"{other}\""))),
        };
        if let Some(kind) = raw.position_embedding_type.filter(|kind| kind != "absolute") {
            return Err(ModelError::Unsupported(format!("position embedding of type \"{kind}\"")));
        }
        if raw.is_decoder {
            return Err(ModelError::Unsupported("a BERT decoder as embedding model".to_owned()));
        }
        let sizes = [
            ("hidden_size", raw.hidden_size),
            ("num_hidden_layers", raw.num_hidden_layers),
            ("num_attention_heads", raw.num_attention_heads),
            ("intermediate_size", raw.intermediate_size),
            ("vocab_size", raw.vocab_size),
            ("max_position_embeddings", raw.max_position_embeddings),
            ("type_vocab_size", raw.type_vocab_size),
        ];
        // Far above every real model, and small enough that no product of two sizes overflows.
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=1 << 24).contains(size)) {
            return Err(ModelError::corrupt(path, format!("\"{name}\" is {size}")));
        }
        if !raw.hidden_size.is_multiple_of(raw.num_attention_heads) {
            let reason = format!("{} heads do not divide {} dimensions", raw.num_attention_heads, raw.hidden_size);
            return Err(ModelError::corrupt(path, reason));
        }
        if !(raw.layer_norm_eps > 0.0 && raw.layer_norm_eps < 1.0) {
            return Err(ModelError::corrupt(path, format!("\"layer_norm_eps\" is {}", raw.layer_norm_eps)));
        }
        Ok(Self {
            hidden: raw.hidden_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            feed_forward: raw.intermediate_size,
            vocabulary: raw.vocab_size,
            positions: raw.max_position_embeddings,
            token_types: raw.type_vocab_size,
            activation,
            norm_epsilon: raw.layer_norm_eps,
        })
    }
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

struct Modules {
    pooling: Vec<Pooling>,
    normalize: bool,
}

impl Modules {
    fn read(dir: &Path) -> Result<Self> {
        let Some(modules) = module_list(dir)? else {
            // What sentence-transformers does with a plain transformer.
            return Ok(Self { pooling: vec![Pooling::Mean], normalize: false });
        };
        let path = dir.join("modules.json");
        let mut pooling = Vec::new();
        let mut normalize = false;
        for (position, module) in modules.iter().enumerate() {
            match (position, module.kind()) {
                (0, "Transformer") if module.path.is_empty() => {}
                (1, "Pooling") => pooling = read_pooling(&crate::source::inside(dir, &module.path)?)?,
                (2.., "Normalize") => normalize = true,
                // Only active in training.
                (2.., "Dropout") => {}
                (_, kind) => {
                    let message = format!("module \"{kind}\" at position {position} of an embedding model");
                    return Err(ModelError::Unsupported(message));
                }
            }
        }
        if pooling.is_empty() {
            return Err(ModelError::corrupt(path, "no pooling module"));
        }
        Ok(Self { pooling, normalize })
    }
}

fn read_pooling(dir: &Path) -> Result<Vec<Pooling>> {
    let path = dir.join("config.json");
    let config: serde_json::Value = read_json(&path)?.ok_or_else(|| ModelError::Missing(path.clone()))?;
    if config.get("include_prompt").and_then(|value| value.as_bool()) == Some(false) {
        return Err(ModelError::Unsupported("pooling without the tokens of the prompt".to_owned()));
    }
    // Newer versions name the mode or list several, older ones have a flag for each.
    let named: Vec<&str> = match config.get("pooling_mode") {
        Some(serde_json::Value::String(name)) => vec![name],
        Some(serde_json::Value::Array(names)) => names.iter().map(|name| name.as_str().unwrap_or("")).collect(),
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
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| ModelError::corrupt(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ModelError::from_io(path, error)),
    }
}
