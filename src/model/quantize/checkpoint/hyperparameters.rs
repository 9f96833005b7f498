//! The configuration of a model folder as the metadata of GGUF, with the keys that llama.cpp's converters write.
//!
//! What the readers of these files know by family is left out; what differs from that is written, and refused where there is
//! no key for it.

use crate::decoder::config::{Activation, Config, Family, Pairs};
use crate::decoder::folder_config::FolderConfig;
use crate::decoder::gguf_config::GEMMA3_LOCAL_BASE;
use crate::decoder::positions::{yarn_magnitude, Positions, Scaling};
use crate::error::{ModelError, Result};
use crate::quantize::metadata::Metadata;

/// Those of YaRN that need not be said.
const YARN_BETAS: [f32; 2] = [32.0, 1.0];

/// The divisors of frequencies, which are tensors.
pub fn divisors(positions: &Positions) -> Vec<(&'static str, &[f32])> {
    match &positions.scaling {
        Scaling::Divisors(divisors) => vec![("rope_freqs.weight", divisors)],
        Scaling::ShortAndLong { short, long, .. } => {
            vec![("rope_factors_long.weight", long), ("rope_factors_short.weight", short)]
        }
        Scaling::Linear(_) | Scaling::Yarn { .. } => Vec::new(),
    }
}

/// Adds the hyperparameters of a model with `vocabulary` tokens.
///
/// Errors: `Unsupported` for what GGUF has no key for, or its readers know otherwise.
pub fn describe(folder: &FolderConfig, vocabulary: usize, metadata: &mut Metadata) -> Result<()> {
    let FolderConfig { config, positions, .. } = folder;
    let family = config.family;
    let name = family.gguf_name();
    check(config, name)?;
    metadata.set_text("general.architecture", name);
    let mut number = |key: &str, value: usize| metadata.set_u32(&format!("{name}.{key}"), value as u32);
    number("block_count", config.layers.len());
    number("context_length", config.context_tokens);
    number("embedding_length", config.hidden);
    number("feed_forward_length", config.feed_forward);
    number("attention.head_count", config.heads);
    number("attention.head_count_kv", config.kv_heads);
    number("attention.key_length", config.head_dim);
    number("attention.value_length", config.head_dim);
    number("rope.dimension_count", config.rope_dims);
    number("vocab_size", vocabulary);
    let mut fraction = |key: &str, value: f32| metadata.set_f32(&format!("{name}.{key}"), value);
    fraction("attention.layer_norm_rms_epsilon", config.norm_epsilon);
    if config.score_scale != config.gguf_score_scale() {
        fraction("attention.scale", config.score_scale);
    }
    for (key, cap) in [("attn_logit_softcapping", config.score_cap), ("final_logit_softcapping", config.logit_cap)] {
        // Without a word, models of this family have caps.
        if cap.is_some() || family == Family::Gemma2 {
            fraction(key, cap.unwrap_or(0.0));
        }
    }
    describe_windows(config, name, metadata);
    describe_positions(positions, name, metadata);
    Ok(())
}

fn check(config: &Config, name: &str) -> Result<()> {
    let refuse = |what: &str| Err(ModelError::Unsupported(format!("{what} in a GGUF file of the architecture {name}")));
    let activation = if config.family.is_gemma() { Activation::Gelu } else { Activation::Silu };
    if config.activation != activation {
        return refuse("another activation than the family's");
    }
    if config.family.gguf_pairs() == Pairs::Adjacent && config.rope_dims != config.head_dim {
        return refuse("heads that are rotated in part");
    }
    let plans = config.layers.iter().enumerate();
    if !plans.into_iter().all(|(index, plan)| plan.rope == config.family.gguf_rope(index, plan.window.is_some())) {
        return refuse("another choice of layers with positions than the family's");
    }
    Ok(())
}

fn describe_windows(config: &Config, name: &str, metadata: &mut Metadata) {
    let windowed: Vec<bool> = config.layers.iter().map(|plan| plan.window.is_some()).collect();
    let Some(window) = config.layers.iter().find_map(|plan| plan.window) else {
        if config.family == Family::Phi3 {
            // Files without the key are of models from before there were windows.
            metadata.set_u32(&format!("{name}.attention.sliding_window"), 0);
        }
        return;
    };
    metadata.set_u32(&format!("{name}.attention.sliding_window"), window as u32);
    let period = config.family.gguf_period();
    let usual = |index: usize| period.is_none_or(|period| !(index + 1).is_multiple_of(period));
    if windowed.iter().enumerate().any(|(index, windowed)| *windowed != usual(index)) {
        metadata.set_bools(&format!("{name}.attention.sliding_window_pattern"), &windowed);
    }
}

fn describe_positions(positions: &Positions, name: &str, metadata: &mut Metadata) {
    let key = |key: &str| format!("{name}.rope.{key}");
    metadata.set_f32(&key("freq_base"), positions.base);
    if let Some(base) = positions.local_base.filter(|base| *base != GEMMA3_LOCAL_BASE) {
        metadata.set_f32(&key("freq_base_swa"), base);
    }
    match positions.scaling {
        Scaling::Linear(1.0) | Scaling::Divisors(_) => {}
        Scaling::Linear(factor) => {
            metadata.set_text(&key("scaling.type"), "linear");
            metadata.set_f32(&key("scaling.factor"), factor);
        }
        Scaling::Yarn { factor, betas, original, magnitude } => {
            metadata.set_text(&key("scaling.type"), "yarn");
            metadata.set_f32(&key("scaling.factor"), factor);
            metadata.set_u32(&key("scaling.original_context_length"), original as u32);
            if magnitude != yarn_magnitude(factor) {
                metadata.set_f32(&key("scaling.attn_factor"), magnitude / yarn_magnitude(factor));
            }
            if betas != YARN_BETAS {
                metadata.set_f32(&key("scaling.yarn_beta_fast"), betas[0]);
                metadata.set_f32(&key("scaling.yarn_beta_slow"), betas[1]);
            }
        }
        Scaling::ShortAndLong { original, magnitude, .. } => {
            metadata.set_u32(&key("scaling.original_context_length"), original as u32);
            metadata.set_f32(&key("scaling.attn_factor"), magnitude);
        }
    }
}
