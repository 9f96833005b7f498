//! What the families call their weights, and how they lay them out.
//!
//! One table for each family, of the names in the original implementation; [`super::weights`] reads by it. A name in a
//! layer follows the layer's own.

use super::shape::Family;

/// Names of all weights of a family, without `.weight` and `.bias`.
pub struct Names {
    /// May stand before all names.
    pub prefixes: &'static [&'static str],
    pub words: &'static str,
    pub positions: &'static str,
    pub types: &'static str,
    pub embedding_norm: &'static str,
    /// Biases by groups of distances.
    pub distances: &'static str,
    /// Before the number of a layer.
    pub layer: &'static str,
    /// Norms of queries and of keys.
    pub head_norms: [&'static str; 2],
    pub qkv: Qkv,
    pub attention_output: &'static str,
    pub expand: Expand,
    pub contract: &'static str,
    pub norms: LayerNorms,
}

/// Queries, keys and values.
pub enum Qkv {
    Separate([&'static str; 3]),
    /// One below the other.
    Fused(&'static str),
}

/// The first part of the feed-forward block.
pub enum Expand {
    Plain(&'static str),
    /// What is activated, and what it is multiplied with.
    Pair(&'static str, &'static str),
    /// The two in one, what is activated first.
    Fused(&'static str),
}

pub enum LayerNorms {
    /// After attention, and after the feed-forward block.
    After(&'static str, &'static str),
    /// Before the two, of which the first layer has only the second, or the one that is called the embeddings'; and the last
    /// of all, which is of no layer.
    Before(&'static str, &'static str, &'static str),
}

impl Names {
    pub fn of(family: Family) -> Self {
        match family {
            Family::Bert => BERT,
            Family::Roberta => Self { prefixes: &["roberta."], ..BERT },
            Family::DistilBert => Self {
                prefixes: &["distilbert."],
                layer: "transformer.layer",
                qkv: Qkv::Separate(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
                attention_output: "attention.out_lin",
                expand: Expand::Plain("ffn.lin1"),
                contract: "ffn.lin2",
                norms: LayerNorms::After("sa_layer_norm", "output_layer_norm"),
                ..BERT
            },
            Family::MpNet => Self {
                prefixes: &["mpnet."],
                qkv: Qkv::Separate(["attention.attn.q", "attention.attn.k", "attention.attn.v"]),
                attention_output: "attention.attn.o",
                norms: LayerNorms::After("attention.LayerNorm", "output.LayerNorm"),
                ..BERT
            },
            Family::JinaBert => Self {
                expand: Expand::Fused("mlp.gated_layers"),
                contract: "mlp.wo",
                norms: LayerNorms::After("attention.output.LayerNorm", "mlp.layernorm"),
                ..BERT
            },
            Family::NomicBert => Self {
                prefixes: &["nomic_bert.", "bert."],
                embedding_norm: "emb_ln",
                layer: "encoder.layers",
                qkv: Qkv::Fused("attn.Wqkv"),
                attention_output: "attn.out_proj",
                expand: Expand::Pair("mlp.fc12", "mlp.fc11"),
                contract: "mlp.fc2",
                norms: LayerNorms::After("norm1", "norm2"),
                ..BERT
            },
            Family::ModernBert => Self {
                prefixes: &["model."],
                words: "embeddings.tok_embeddings",
                embedding_norm: "embeddings.norm",
                layer: "layers",
                qkv: Qkv::Fused("attn.Wqkv"),
                attention_output: "attn.Wo",
                expand: Expand::Fused("mlp.Wi"),
                contract: "mlp.Wo",
                norms: LayerNorms::Before("attn_norm", "mlp_norm", "final_norm"),
                ..BERT
            },
            Family::Qwen3 => Self {
                prefixes: &["model."],
                words: "embed_tokens",
                // Of the first layer, which has one here: what it takes is not normalised before.
                embedding_norm: "layers.0.input_layernorm",
                layer: "layers",
                qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                attention_output: "self_attn.o_proj",
                expand: Expand::Pair("mlp.gate_proj", "mlp.up_proj"),
                contract: "mlp.down_proj",
                norms: LayerNorms::Before("input_layernorm", "post_attention_layernorm", "norm"),
                ..BERT
            },
        }
    }
}

const BERT: Names = Names {
    prefixes: &["bert."],
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    types: "embeddings.token_type_embeddings",
    embedding_norm: "embeddings.LayerNorm",
    distances: "encoder.relative_attention_bias",
    layer: "encoder.layer",
    head_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    qkv: Qkv::Separate(["attention.self.query", "attention.self.key", "attention.self.value"]),
    attention_output: "attention.output.dense",
    expand: Expand::Plain("intermediate.dense"),
    contract: "output.dense",
    norms: LayerNorms::After("attention.output.LayerNorm", "output.LayerNorm"),
};
