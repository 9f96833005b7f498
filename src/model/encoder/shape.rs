//! From `config.json` to the plan of an encoder: sizes, and which of the known parts its layers are made of.
//!
//! All families are one transformer ([`super::transformer`]) that differs in a few choices: how a token knows its place,
//! where the normalisations are, what is between the two products of the feed-forward block, and which layers see only
//! their neighbourhood. [`Shape`] is those choices; what a configuration asks for beyond them is `Unsupported`.
//!
//! | family | place of a token | norms | feed-forward |
//! |---|---|---|---|
//! | BERT, DistilBERT, RoBERTa, XLM-RoBERTa | a vector for each position | after | plain |
//! | MPNet | the same, and a bias for each distance | after | plain |
//! | JinaBERT | a bias that falls with distance | after | gated |
//! | NomicBERT | rotation | after | gated |
//! | ModernBERT | rotation; most layers see a window | before | gated |
//! | Qwen3 (as embedding model) | rotation; only what comes before is seen | before, by length | gated |

use crate::error::{ModelError, Result};
use serde_json::Value;
use std::path::Path;

/// Activation between the two layers of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU, with the error function.
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    Relu,
    /// x · σ(x)
    Silu,
}

/// Whose names and layout the weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Bert,
    DistilBert,
    Roberta,
    MpNet,
    NomicBert,
    ModernBert,
    JinaBert,
    Qwen3,
}

/// Where the layer normalisations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// After a block is added to its input, which is what the next block sees (BERT).
    After,
    /// Before each block; sums are passed on as they are, and normalised at the end.
    Before,
}

/// What is added to the scores of attention by the distance of two tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistanceBias {
    /// Learned, for so many groups of distances (Raffel et al., 2020, "T5").
    Buckets(usize),
    /// Falls in a straight line, for each head with a slope of its own (Press et al., 2022, "ALiBi").
    Slopes,
}

/// What is of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerShape {
    /// Largest distance that attention reaches, or all.
    pub window: Option<usize>,
    /// Base of the wave lengths by which queries and keys are turned (Su et al., 2021, "RoFormer").
    pub theta: Option<f32>,
}

/// The plan of an encoder. All sizes are at least 1, but where said, and `heads` is a multiple of `key_heads`.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub family: Family,
    pub hidden: usize,
    pub heads: usize,
    /// Heads of keys and values, each for as many heads of queries.
    pub key_heads: usize,
    /// Columns of a head.
    pub head_width: usize,
    pub feed_forward: usize,
    pub vocabulary: usize,
    /// Longest input in tokens.
    pub positions: usize,
    /// Rows of the table of positions that belong to no token and come first; None where there is no table.
    pub skipped_positions: Option<usize>,
    /// Kinds of tokens, the first for a text alone; 0 where the model knows none.
    pub token_types: usize,
    pub layers: Vec<LayerShape>,
    pub distance_bias: Option<DistanceBias>,
    pub norms: Norms,
    /// Norms divide by the root of the mean square and take no mean away (Zhang and Sennrich, 2019, "RMSNorm").
    pub norms_by_length: bool,
    pub norm_epsilon: f32,
    pub norm_bias: bool,
    /// Queries and keys are normalised, head by head.
    pub head_norms: bool,
    /// Tokens see only what comes before them.
    pub causal: bool,
    pub attention_bias: bool,
    pub activation: Activation,
    /// The activated outputs of the feed-forward block are multiplied with as many others.
    pub gated: bool,
    pub expand_bias: bool,
    pub contract_bias: bool,
}

/// Values of `model_type` that are supported, as messages list them.
const SUPPORTED: &str = "bert, distilbert, roberta, xlm-roberta, camembert, mpnet, nomic_bert, modernbert, \
                         qwen3, and jina-embeddings-v2";
/// The longest input where nothing in the weights bounds it: tables by position are made for so many tokens.
const MOST_POSITIONS: usize = 1 << 15;
/// Far above every real size, and small enough that no product of two overflows.
const MOST: usize = 1 << 24;

impl Shape {
    /// The plan that `config` describes, which comes from the file `path`.
    ///
    /// Errors: `Unsupported` naming what is; `Corrupt` naming a size that cannot be.
    pub fn from_json(config: &Value, path: &Path) -> Result<Self> {
        let fields = Fields { config, path };
        let shape = match fields.text("model_type").unwrap_or_default() {
            "bert" if fields.text("position_embedding_type") == Some("alibi") => jina_bert(&fields)?,
            "bert" => bert(&fields)?,
            "distilbert" => distilbert(&fields)?,
            "roberta" | "xlm-roberta" | "camembert" => roberta(&fields)?,
            "mpnet" => mpnet(&fields)?,
            "nomic_bert" => nomic_bert(&fields)?,
            "modernbert" => modernbert(&fields)?,
            "qwen3" => qwen3(&fields)?,
            other => {
                let message = format!("architecture \"{other}\" (supported ones are {SUPPORTED})");
                return Err(ModelError::Unsupported(message));
            }
        };
        fields.check(shape)
    }

    /// The architecture's name, as registrations show it.
    pub fn architecture(&self, config: &Value) -> String {
        match self.family {
            Family::JinaBert => "jina_bert".to_owned(),
            _ => config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned(),
        }
    }

    /// Whether queries and keys are turned by their positions.
    pub fn is_rotary(&self) -> bool {
        self.layers.iter().any(|layer| layer.theta.is_some())
    }
}

fn bert(fields: &Fields) -> Result<Shape> {
    if let Some(kind) = fields.text("position_embedding_type").filter(|kind| *kind != "absolute") {
        return Err(ModelError::Unsupported(format!("position embedding of type \"{kind}\"")));
    }
    if fields.flag("is_decoder", false) {
        return Err(ModelError::Unsupported("a BERT decoder as embedding model".to_owned()));
    }
    let layers = fields.size(&["num_hidden_layers"])?;
    let (vocabulary, positions) = (fields.size(&["vocab_size"])?, fields.size(&["max_position_embeddings"])?);
    let (hidden, heads) = (fields.size(&["hidden_size"])?, fields.size(&["num_attention_heads"])?);
    Ok(Shape {
        family: Family::Bert,
        hidden,
        heads,
        key_heads: heads,
        head_width: fields.even_width(hidden, heads)?,
        feed_forward: fields.size(&["intermediate_size"])?,
        vocabulary,
        positions,
        skipped_positions: Some(0),
        token_types: fields.size_or("type_vocab_size", 2)?,
        layers: fields.same_layers(layers, None)?,
        distance_bias: None,
        norms: Norms::After,
        norms_by_length: false,
        norm_epsilon: fields.number(&["layer_norm_eps"], 1e-12),
        norm_bias: true,
        head_norms: false,
        causal: false,
        attention_bias: true,
        activation: fields.activation(&["hidden_act"], "gelu")?,
        gated: false,
        expand_bias: true,
        contract_bias: true,
    })
}

fn distilbert(fields: &Fields) -> Result<Shape> {
    let layers = fields.size(&["n_layers"])?;
    let (hidden, heads) = (fields.size(&["dim"])?, fields.size(&["n_heads"])?);
    Ok(Shape {
        family: Family::DistilBert,
        hidden,
        heads,
        key_heads: heads,
        head_width: fields.even_width(hidden, heads)?,
        feed_forward: fields.size(&["hidden_dim"])?,
        vocabulary: fields.size(&["vocab_size"])?,
        positions: fields.size(&["max_position_embeddings"])?,
        skipped_positions: Some(0),
        token_types: 0,
        layers: fields.same_layers(layers, None)?,
        distance_bias: None,
        norms: Norms::After,
        norms_by_length: false,
        norm_epsilon: 1e-12,
        norm_bias: true,
        head_norms: false,
        causal: false,
        attention_bias: true,
        activation: fields.activation(&["activation"], "gelu")?,
        gated: false,
        expand_bias: true,
        contract_bias: true,
    })
}

fn roberta(fields: &Fields) -> Result<Shape> {
    let plain = bert(fields)?;
    // Positions are counted from behind the padding token's number.
    let skipped = fields.size_or("pad_token_id", 1)?.saturating_add(1);
    let positions = plain.positions.saturating_sub(skipped);
    let token_types = fields.size_or("type_vocab_size", 1)?;
    Ok(Shape { family: Family::Roberta, positions, skipped_positions: Some(skipped), token_types, ..plain })
}

fn mpnet(fields: &Fields) -> Result<Shape> {
    let plain = bert(fields)?;
    let buckets = fields.size_or("relative_attention_num_buckets", 32)?;
    if buckets != 32 {
        // The reference's layers use 32 whatever the configuration says.
        return Err(ModelError::Unsupported(format!("MPNet with {buckets} groups of distances")));
    }
    Ok(Shape {
        family: Family::MpNet,
        positions: plain.positions.saturating_sub(2),
        skipped_positions: Some(2),
        token_types: 0,
        distance_bias: Some(DistanceBias::Buckets(buckets)),
        ..plain
    })
}

fn jina_bert(fields: &Fields) -> Result<Shape> {
    let activation = match fields.text("feed_forward_type").unwrap_or("original") {
        "geglu" => Activation::Gelu,
        "reglu" => Activation::Relu,
        other => return Err(ModelError::Unsupported(format!("feed-forward block of type \"{other}\""))),
    };
    let layers = fields.size(&["num_hidden_layers"])?;
    let (hidden, heads) = (fields.size(&["hidden_size"])?, fields.size(&["num_attention_heads"])?);
    Ok(Shape {
        family: Family::JinaBert,
        hidden,
        heads,
        key_heads: heads,
        head_width: fields.even_width(hidden, heads)?,
        feed_forward: fields.size(&["intermediate_size"])?,
        vocabulary: fields.size(&["vocab_size"])?,
        positions: fields.size(&["max_position_embeddings"])?.min(MOST_POSITIONS),
        skipped_positions: None,
        token_types: fields.size_or("type_vocab_size", 2)?,
        layers: fields.same_layers(layers, None)?,
        distance_bias: Some(DistanceBias::Slopes),
        norms: Norms::After,
        norms_by_length: false,
        norm_epsilon: fields.number(&["layer_norm_eps"], 1e-12),
        norm_bias: true,
        head_norms: false,
        causal: false,
        attention_bias: true,
        activation,
        gated: true,
        expand_bias: false,
        contract_bias: true,
    })
}

/// Configurations come in two forms: that of the model's own code, and that of transformers.
fn nomic_bert(fields: &Fields) -> Result<Shape> {
    let unless = |name: &str, is_plain: bool| match is_plain {
        true => Ok(()),
        false => Err(ModelError::Unsupported(format!("NomicBERT with this \"{name}\""))),
    };
    unless("prenorm", !fields.flag("prenorm", false))?;
    unless("use_rms_norm", !fields.flag("use_rms_norm", false))?;
    unless("rotary_emb_fraction", fields.number(&["rotary_emb_fraction"], 1.0) == 1.0)?;
    unless("rotary_emb_interleaved", !fields.flag("rotary_emb_interleaved", false))?;
    unless("rotary_emb_scale_base", !fields.has("rotary_emb_scale_base"))?;
    unless("num_experts", fields.size_or("num_experts", 0)? == 0 || fields.size_or("moe_every_n_layers", 0)? == 0)?;
    let activation = match fields.text("activation_function") {
        Some("swiglu") => Activation::Silu,
        Some("geglu") => Activation::Gelu,
        Some(other) => return Err(ModelError::Unsupported(format!("activation \"{other}\" of NomicBERT"))),
        None => fields.activation(&["hidden_act"], "silu")?,
    };
    let mut positions = fields.size(&["max_position_embeddings", "n_positions"])?.min(MOST_POSITIONS);
    if fields.has("rotary_scaling_factor") {
        // Longer inputs change the wave lengths; up to this length they are the plain ones.
        positions = positions.min(fields.size(&["max_trained_positions"])?);
    }
    let theta = fields.theta("rope_parameters", None, &["rotary_emb_base"], 1000.0)?;
    let layers = fields.size(&["num_hidden_layers", "n_layer"])?;
    let (hidden, heads) = (fields.size(&["hidden_size", "n_embd"])?, fields.size(&["num_attention_heads", "n_head"])?);
    Ok(Shape {
        family: Family::NomicBert,
        hidden,
        heads,
        key_heads: heads,
        head_width: fields.even_width(hidden, heads)?,
        feed_forward: fields.size(&["intermediate_size", "n_inner"])?,
        vocabulary: fields.size(&["vocab_size"])?,
        positions,
        skipped_positions: None,
        token_types: fields.size_or("type_vocab_size", 2)?,
        layers: fields.same_layers(layers, Some(theta))?,
        distance_bias: None,
        norms: Norms::After,
        norms_by_length: false,
        norm_epsilon: fields.number(&["layer_norm_eps", "layer_norm_epsilon"], 1e-12),
        norm_bias: true,
        head_norms: false,
        causal: false,
        attention_bias: fields.flag("qkv_proj_bias", false),
        activation,
        gated: true,
        expand_bias: fields.flag("mlp_fc1_bias", false),
        contract_bias: fields.flag("mlp_fc2_bias", false),
    })
}

fn modernbert(fields: &Fields) -> Result<Shape> {
    if fields.has("rope_scaling") {
        return Err(ModelError::Unsupported("ModernBERT with scaled positions".to_owned()));
    }
    let count = fields.size(&["num_hidden_layers"])?;
    let every = fields.size_or("global_attn_every_n_layers", 3)?.max(1);
    let global = fields.theta("rope_parameters", Some("full_attention"), &["global_rope_theta"], 160_000.0)?;
    let local = fields.theta("rope_parameters", Some("sliding_attention"), &["local_rope_theta"], 10_000.0)?;
    // The window counts both directions.
    let window = fields.size_or("local_attention", 128)? / 2;
    let mut layers = fields.same_layers(count, Some(global))?;
    let kinds = fields.config.get("layer_types").and_then(Value::as_array);
    if let Some(kinds) = kinds.filter(|kinds| kinds.len() != count) {
        return Err(fields.corrupt(format!("\"layer_types\" has {} entries for {count} layers", kinds.len())));
    }
    for (index, layer) in layers.iter_mut().enumerate() {
        let kind = kinds.and_then(|kinds| kinds[index].as_str());
        let is_global = match kind {
            Some("full_attention") => true,
            Some("sliding_attention") => false,
            Some(other) => return Err(ModelError::Unsupported(format!("layer of type \"{other}\""))),
            None => index.is_multiple_of(every),
        };
        if !is_global {
            *layer = LayerShape { window: Some(window), theta: Some(local) };
        }
    }
    let (hidden, heads) = (fields.size(&["hidden_size"])?, fields.size(&["num_attention_heads"])?);
    Ok(Shape {
        family: Family::ModernBert,
        hidden,
        heads,
        key_heads: heads,
        head_width: fields.even_width(hidden, heads)?,
        feed_forward: fields.size(&["intermediate_size"])?,
        vocabulary: fields.size(&["vocab_size"])?,
        positions: fields.size(&["max_position_embeddings"])?.min(MOST_POSITIONS),
        skipped_positions: None,
        token_types: 0,
        layers,
        distance_bias: None,
        norms: Norms::Before,
        norms_by_length: false,
        norm_epsilon: fields.number(&["norm_eps"], 1e-5),
        norm_bias: fields.flag("norm_bias", false),
        head_norms: false,
        causal: false,
        attention_bias: fields.flag("attention_bias", false),
        activation: fields.activation(&["hidden_activation"], "gelu")?,
        gated: true,
        expand_bias: fields.flag("mlp_bias", false),
        contract_bias: fields.flag("mlp_bias", false),
    })
}

/// The decoder of that name, whose last token's state is a text's vector.
fn qwen3(fields: &Fields) -> Result<Shape> {
    if fields.flag("use_sliding_window", false) || fields.has("rope_scaling") {
        return Err(ModelError::Unsupported("Qwen3 with windows of attention or scaled positions".to_owned()));
    }
    let (hidden, heads) = (fields.size(&["hidden_size"])?, fields.size(&["num_attention_heads"])?);
    let head_width = match fields.size_or("head_dim", 0)? {
        0 => hidden / heads,
        width => width,
    };
    let theta = fields.theta("rope_parameters", None, &["rope_theta"], 10_000.0)?;
    let layers = fields.size(&["num_hidden_layers"])?;
    Ok(Shape {
        family: Family::Qwen3,
        hidden,
        heads,
        key_heads: fields.size(&["num_key_value_heads"])?,
        head_width,
        feed_forward: fields.size(&["intermediate_size"])?,
        vocabulary: fields.size(&["vocab_size"])?,
        positions: fields.size(&["max_position_embeddings"])?.min(MOST_POSITIONS),
        skipped_positions: None,
        token_types: 0,
        layers: fields.same_layers(layers, Some(theta))?,
        distance_bias: None,
        norms: Norms::Before,
        norms_by_length: true,
        norm_epsilon: fields.number(&["rms_norm_eps"], 1e-6),
        norm_bias: false,
        head_norms: true,
        causal: true,
        attention_bias: fields.flag("attention_bias", false),
        activation: fields.activation(&["hidden_act"], "silu")?,
        gated: true,
        expand_bias: false,
        contract_bias: false,
    })
}

/// A configuration and the file that it comes from.
struct Fields<'a> {
    config: &'a Value,
    path: &'a Path,
}

impl Fields<'_> {
    fn corrupt(&self, reason: String) -> ModelError {
        ModelError::corrupt(self.path, reason)
    }

    /// Whether the field is there and is not null.
    fn has(&self, name: &str) -> bool {
        self.config.get(name).is_some_and(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.config.get(name).and_then(Value::as_str)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.config.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    fn number(&self, names: &[&str], default: f32) -> f32 {
        names.iter().find_map(|name| self.config.get(name)?.as_f64()).map_or(default, |number| number as f32)
    }

    /// The first of the fields that is there; at least 1.
    fn size(&self, names: &[&str]) -> Result<usize> {
        let Some(name) = names.iter().find(|name| self.has(name)) else {
            return Err(self.corrupt(format!("\"{}\" is missing", names[0])));
        };
        match self.size_or(name, 0)? {
            0 => Err(self.corrupt(format!("\"{name}\" is 0"))),
            size => Ok(size),
        }
    }

    fn size_or(&self, name: &str, default: usize) -> Result<usize> {
        let Some(value) = self.config.get(name).filter(|value| !value.is_null()) else { return Ok(default) };
        match value.as_u64() {
            Some(size) if size <= MOST as u64 => Ok(size as usize),
            _ => Err(self.corrupt(format!("\"{name}\" is {value}"))),
        }
    }

    fn activation(&self, names: &[&str], default: &str) -> Result<Activation> {
        match names.iter().find_map(|name| self.text(name)).unwrap_or(default) {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            "silu" | "swish" => Ok(Activation::Silu),
            other => Err(ModelError::Unsupported(format!("activation \"{other}\""))),
        }
    }

    /// The base of rotations: from an object of transformers, perhaps one for each type of layer, or from a field.
    fn theta(&self, object: &str, kind: Option<&str>, names: &[&str], default: f32) -> Result<f32> {
        let parameters = self.config.get(object).filter(|value| !value.is_null());
        let parameters = match kind {
            Some(kind) => parameters.and_then(|value| value.get(kind)),
            None => parameters,
        };
        if let Some(kind) = parameters.and_then(|value| value.get("rope_type")?.as_str()).filter(|it| *it != "default")
        {
            return Err(ModelError::Unsupported(format!("rotation of type \"{kind}\"")));
        }
        let given = parameters.and_then(|value| value.get("rope_theta")?.as_f64()).map(|theta| theta as f32);
        let theta = given.unwrap_or_else(|| self.number(names, default));
        match theta.is_finite() && theta >= 1.0 {
            true => Ok(theta),
            false => Err(self.corrupt(format!("base of the rotations is {theta}"))),
        }
    }

    /// Width of heads that share the dimensions evenly.
    fn even_width(&self, hidden: usize, heads: usize) -> Result<usize> {
        match hidden.is_multiple_of(heads) {
            true => Ok(hidden / heads),
            false => Err(self.corrupt(format!("{heads} heads do not divide {hidden} dimensions"))),
        }
    }

    fn same_layers(&self, count: usize, theta: Option<f32>) -> Result<Vec<LayerShape>> {
        match count {
            1..=1024 => Ok(vec![LayerShape { window: None, theta }; count]),
            _ => Err(self.corrupt(format!("{count} layers"))),
        }
    }

    /// What must hold for every family.
    fn check(&self, shape: Shape) -> Result<Shape> {
        if !shape.heads.is_multiple_of(shape.key_heads) {
            return Err(self.corrupt(format!("{} heads of keys for {} heads", shape.key_heads, shape.heads)));
        }
        if shape.is_rotary() && !shape.head_width.is_multiple_of(2) {
            return Err(self.corrupt(format!("heads of {} dimensions cannot be turned", shape.head_width)));
        }
        if shape.positions == 0 {
            return Err(self.corrupt("there is no position for a token".to_owned()));
        }
        match shape.norm_epsilon > 0.0 && shape.norm_epsilon < 1.0 {
            true => Ok(shape),
            false => Err(self.corrupt(format!("\"layer_norm_eps\" is {}", shape.norm_epsilon))),
        }
    }
}
