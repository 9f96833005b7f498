//! Plans of the configurations that well-known models have on the Hub, in the forms of their time.

use super::shape::*;
use crate::error::ModelError;
use serde_json::{json, Value};
use std::path::Path;

fn shape(config: &Value) -> Result<Shape, ModelError> {
    Shape::from_json(config, Path::new("config.json"))
}

fn unsupported(config: &Value) -> String {
    match shape(config) {
        Err(ModelError::Unsupported(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// `config` with another value for a field.
fn with(config: &Value, name: &str, value: Value) -> Value {
    let mut config = config.clone();
    config[name] = value;
    config
}

/// As nomic-embed-text-v1.5 has it, with the names of GPT-2.
fn nomic() -> Value {
    json!({
        "model_type": "nomic_bert", "activation_function": "swiglu", "layer_norm_epsilon": 1e-12,
        "max_trained_positions": 2048, "mlp_fc1_bias": false, "mlp_fc2_bias": false, "n_embd": 768, "n_head": 12,
        "n_inner": 3072, "n_layer": 12, "n_positions": 8192, "prenorm": false, "qkv_proj_bias": false,
        "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false,
        "rotary_emb_scale_base": null, "rotary_scaling_factor": null, "type_vocab_size": 2, "use_rms_norm": false,
        "vocab_size": 30528,
    })
}

#[test]
fn nomic_by_its_own_names() {
    let plan = shape(&nomic()).unwrap();
    assert_eq!((plan.hidden, plan.heads, plan.head_width, plan.feed_forward), (768, 12, 64, 3072));
    assert_eq!((plan.positions, plan.layers.len(), plan.token_types), (8192, 12, 2));
    assert_eq!(plan.layers[7], LayerShape { window: None, theta: Some(1000.0) });
    assert_eq!((plan.activation, plan.gated, plan.attention_bias), (Activation::Silu, true, false));
    assert!(matches!(plan.norms, Norms::After));
    // Where longer inputs would change the wave lengths, they are cut.
    assert_eq!(shape(&with(&nomic(), "rotary_scaling_factor", json!(2))).unwrap().positions, 2048);
    for (name, value) in [
        ("prenorm", json!(true)),
        ("rotary_emb_fraction", json!(0.5)),
        ("rotary_emb_interleaved", json!(true)),
        ("activation_function", json!("gelu")),
    ] {
        assert!(unsupported(&with(&nomic(), name, value)).contains(if name.starts_with('a') { "gelu" } else { name }));
    }
    let experts = with(&with(&nomic(), "num_experts", json!(8)), "moe_every_n_layers", json!(2));
    assert!(unsupported(&experts).contains("num_experts"));
}

#[test]
fn modernbert_with_a_global_layer_every_third() {
    let config = json!({
        "model_type": "modernbert", "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
        "hidden_activation": "gelu", "hidden_size": 768, "intermediate_size": 1152, "local_attention": 128,
        "local_rope_theta": 10000.0, "max_position_embeddings": 8192, "norm_eps": 1e-5, "num_attention_heads": 12,
        "num_hidden_layers": 22, "vocab_size": 50368,
    });
    let plan = shape(&config).unwrap();
    let (global, local) =
        (LayerShape { window: None, theta: Some(160_000.0) }, LayerShape { window: Some(64), theta: Some(10_000.0) });
    assert_eq!(plan.layers[..5], [global, local, local, global, local]);
    assert!(plan.norms == Norms::Before && plan.gated && !plan.norm_bias && !plan.attention_bias && !plan.expand_bias);
    let types = with(&config, "layer_types", json!(["full_attention"]));
    assert!(matches!(shape(&types), Err(ModelError::Corrupt { reason, .. }) if reason.contains("1 entries for 22")));
}

#[test]
fn positions_of_roberta_and_mpnet_begin_behind_the_padding() {
    let roberta = json!({
        "model_type": "xlm-roberta", "hidden_size": 1024, "intermediate_size": 4096, "layer_norm_eps": 1e-5,
        "max_position_embeddings": 8194, "num_attention_heads": 16, "num_hidden_layers": 24, "pad_token_id": 1,
        "type_vocab_size": 1, "vocab_size": 250002, "hidden_act": "gelu", "position_embedding_type": "absolute",
    });
    let plan = shape(&roberta).unwrap();
    assert_eq!((plan.positions, plan.skipped_positions, plan.token_types), (8192, Some(2), 1));
    let mpnet = with(&with(&roberta, "model_type", json!("mpnet")), "max_position_embeddings", json!(514));
    let plan = shape(&mpnet).unwrap();
    assert_eq!((plan.positions, plan.distance_bias), (512, Some(DistanceBias::Buckets(32))));
    assert!(unsupported(&with(&mpnet, "relative_attention_num_buckets", json!(64))).contains("64"));
    assert!(matches!(shape(&with(&roberta, "max_position_embeddings", json!(2))), Err(ModelError::Corrupt { .. })));
}

#[test]
fn jina_is_a_bert_with_slopes() {
    let config = json!({
        "model_type": "bert", "position_embedding_type": "alibi", "feed_forward_type": "geglu", "hidden_size": 768,
        "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 30528,
        "max_position_embeddings": 8192, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    });
    let plan = shape(&config).unwrap();
    assert_eq!((plan.family, plan.distance_bias), (Family::JinaBert, Some(DistanceBias::Slopes)));
    assert_eq!((plan.architecture(&config).as_str(), plan.skipped_positions), ("jina_bert", None));
    assert!(unsupported(&with(&config, "feed_forward_type", json!("original"))).contains("original"));
    assert!(unsupported(&with(&config, "position_embedding_type", json!("relative_key"))).contains("relative_key"));
    // Tables by position are made for no more than this, whatever a configuration says.
    assert_eq!(shape(&with(&config, "max_position_embeddings", json!(1 << 24))).unwrap().positions, 1 << 15);
}

#[test]
fn qwen_has_fewer_heads_of_keys() {
    let config = json!({
        "model_type": "qwen3", "hidden_size": 1024, "head_dim": 128, "num_attention_heads": 16,
        "num_key_value_heads": 8, "num_hidden_layers": 28, "intermediate_size": 3072, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "rope_theta": 1000000, "max_position_embeddings": 32768, "vocab_size": 151669,
        "use_sliding_window": false, "sliding_window": null, "rope_scaling": null, "attention_bias": false,
    });
    let plan = shape(&config).unwrap();
    assert_eq!((plan.heads, plan.key_heads, plan.head_width), (16, 8, 128));
    assert!(plan.causal && plan.head_norms && plan.norms_by_length);
    assert_eq!(plan.layers[0].theta, Some(1e6));
    for (name, value) in [("use_sliding_window", json!(true)), ("rope_scaling", json!({"rope_type": "yarn"}))] {
        assert!(unsupported(&with(&config, name, value)).contains("Qwen3"));
    }
    assert!(matches!(shape(&with(&config, "num_key_value_heads", json!(5))), Err(ModelError::Corrupt { .. })));
    assert!(matches!(shape(&with(&config, "head_dim", json!(7))), Err(ModelError::Corrupt { .. })));
}

#[test]
fn other_architectures_are_named_with_those_that_are_supported() {
    let message = unsupported(&json!({"model_type": "deberta-v2"}));
    for name in ["\"deberta-v2\"", "bert", "xlm-roberta", "modernbert", "jina-embeddings-v2", "qwen3"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(unsupported(&json!({})).contains("architecture \"\""));
}
