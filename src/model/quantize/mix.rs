//! Which type each tensor gets.
//!
//! A model in "4 bits" is a mixture: norms and other vectors stay in single precision, since they are small and sensitive;
//! the output matrix, which decides about every token, gets 6 bits; matrices that have turned out to be sensitive (the
//! values of attention, the way out of the feed-forward network) get more bits in some layers. The mixtures are those that
//! llama.cpp uses under the same names, so that a file is what users expect of its name.
//!
//! | target | most matrices | with more bits |
//! |---|---|---|
//! | `f32`, `f16`, `bf16` | that type | |
//! | `q4_0`, `q4_1`, `q5_0`, `q5_1` | that type | output Q6_K |
//! | `q8_0` | Q8_0 | |
//! | `q2_k` | Q2_K | output Q6_K; `attn_v` Q3_K or, with shared heads, Q4_K; `ffn_down`, `attn_output` Q3_K |
//! | `q3_k_s` | Q3_K | output Q6_K |
//! | `q3_k` = `q3_k_m` | Q3_K | output Q6_K; `attn_v` Q4_K or Q5_K, `attn_output` Q4_K, `ffn_down` Q4_K or Q5_K in some layers |
//! | `q4_k_s` | Q4_K | output Q6_K; `attn_v`, `ffn_down` Q5_K in the first layers |
//! | `q4_k` = `q4_k_m` | Q4_K | output Q6_K; `attn_v`, `ffn_down` Q6_K in half of the layers |
//! | `q5_k_s` | Q5_K | output Q6_K |
//! | `q5_k` = `q5_k_m` | Q5_K | output Q6_K; `attn_v`, `ffn_down` Q6_K in half of the layers |
//! | `q6_k` | Q6_K | |
//!
//! Where a model has no output matrix, its token embedding is the output. Rows that are not whole blocks of 256 get the
//! nearest type with blocks of 32 (Q2_K and Q3_K become Q4_0, Q4_K Q5_0, Q5_K Q5_1, Q6_K Q8_0), and rows that are not
//! whole blocks of 32 get F16.

use super::tensors::Tensor;
use super::TensorType;
use crate::compute::quant::BlockFormat;
use crate::error::ModelError;
use std::str::FromStr;

/// A mixture of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    name: &'static str,
    base: TensorType,
    recipe: Recipe,
    /// What llama.cpp calls it in `general.file_type`.
    pub file_type: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recipe {
    Uniform,
    Small,
    Medium,
}

const fn blocks(format: BlockFormat) -> TensorType {
    TensorType::Blocks(format)
}

const fn mix(name: &'static str, base: TensorType, recipe: Recipe, file_type: u32) -> Mix {
    Mix { name, base, recipe, file_type }
}

const MIXES: [Mix; 16] = [
    mix("f32", TensorType::F32, Recipe::Uniform, 0),
    mix("f16", TensorType::F16, Recipe::Uniform, 1),
    mix("bf16", TensorType::BF16, Recipe::Uniform, 32),
    mix("q4_0", blocks(BlockFormat::Q4_0), Recipe::Small, 2),
    mix("q4_1", blocks(BlockFormat::Q4_1), Recipe::Small, 3),
    mix("q5_0", blocks(BlockFormat::Q5_0), Recipe::Small, 8),
    mix("q5_1", blocks(BlockFormat::Q5_1), Recipe::Small, 9),
    mix("q8_0", blocks(BlockFormat::Q8_0), Recipe::Uniform, 7),
    mix("q2_k", blocks(BlockFormat::Q2_K), Recipe::Medium, 10),
    mix("q3_k_s", blocks(BlockFormat::Q3_K), Recipe::Small, 11),
    mix("q3_k_m", blocks(BlockFormat::Q3_K), Recipe::Medium, 12),
    mix("q4_k_s", blocks(BlockFormat::Q4_K), Recipe::Small, 14),
    mix("q4_k_m", blocks(BlockFormat::Q4_K), Recipe::Medium, 15),
    mix("q5_k_s", blocks(BlockFormat::Q5_K), Recipe::Small, 16),
    mix("q5_k_m", blocks(BlockFormat::Q5_K), Recipe::Medium, 17),
    mix("q6_k", blocks(BlockFormat::Q6_K), Recipe::Uniform, 18),
];

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Mix {
    type Err = ModelError;

    /// Errors: `InvalidArgument` naming all that there are.
    fn from_str(word: &str) -> Result<Self, ModelError> {
        let lower = word.to_ascii_lowercase();
        let full = match lower.as_str() {
            "q3_k" | "q4_k" | "q5_k" => format!("{lower}_m"),
            _ => lower,
        };
        MIXES.iter().find(|mix| mix.name == full).copied().ok_or_else(|| {
            let names: Vec<&str> = MIXES.iter().map(|mix| mix.name).collect();
            ModelError::InvalidArgument(format!("type \"{word}\" is not known; there are {}", names.join(", ")))
        })
    }
}

/// What a mixture needs to know of a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub layers: u64,
    /// Query heads that share a head of keys.
    pub group: u64,
    /// Whether the output has a matrix of its own.
    pub has_output: bool,
}

impl Mix {
    /// The type of a tensor.
    pub fn type_of(self, tensor: &Tensor, shape: &Shape) -> TensorType {
        // Vectors, and small tables that few rows of are added to the embedding.
        let keep = tensor.dimensions.len() < 2
            || !tensor.name.ends_with(".weight")
            || ["_norm.", "position_embd.", "token_types.", "ffn_gate_inp."]
                .iter()
                .any(|part| tensor.name.contains(part));
        if keep {
            return TensorType::F32;
        }
        let wanted = self.wanted(&tensor.name, shape);
        let fits = |kind: TensorType| tensor.columns().is_multiple_of(kind.block_elements() as u64);
        if fits(wanted) {
            return wanted;
        }
        let smaller = match wanted {
            TensorType::Blocks(BlockFormat::Q2_K | BlockFormat::Q3_K) => blocks(BlockFormat::Q4_0),
            TensorType::Blocks(BlockFormat::Q4_K) => blocks(BlockFormat::Q5_0),
            TensorType::Blocks(BlockFormat::Q5_K) => blocks(BlockFormat::Q5_1),
            TensorType::Blocks(BlockFormat::Q6_K) => blocks(BlockFormat::Q8_0),
            other => other,
        };
        if fits(smaller) {
            smaller
        } else {
            TensorType::F16
        }
    }

    fn wanted(self, name: &str, shape: &Shape) -> TensorType {
        use BlockFormat::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
        let TensorType::Blocks(base) = self.base else { return self.base };
        if name == "output.weight" || (name == "token_embd.weight" && !shape.has_output) {
            return blocks(if base == BlockFormat::Q8_0 { base } else { Q6_K });
        }
        let Some((layer, part)) = layer_and_part(name) else { return self.base };
        let layers = shape.layers;
        // The first and last eighth of the layers, and every third between.
        let more = layer < layers / 8 || layer >= layers.saturating_mul(7) / 8 || (layer - layers / 8) % 3 == 2;
        let medium = self.recipe == Recipe::Medium;
        blocks(match (base, part) {
            (Q2_K, "attn_v") if shape.group >= 4 => Q4_K,
            (Q2_K, "attn_v" | "ffn_down" | "attn_output") => Q3_K,
            (Q3_K, "attn_v") if medium => {
                if layer < 2 {
                    Q5_K
                } else {
                    Q4_K
                }
            }
            (Q3_K, "attn_output" | "attn_qkv") if medium => Q4_K,
            (Q3_K, "ffn_down") if medium && layer < layers / 16 => Q5_K,
            (Q3_K, "ffn_down") if medium && more => Q4_K,
            (Q4_K, "attn_qkv") if medium => Q5_K,
            (Q5_K, "attn_qkv") if medium => Q6_K,
            (Q4_K | Q5_K, "attn_v" | "ffn_down") if medium && more => Q6_K,
            (Q4_K, "attn_v") if layer < 4 && !medium => Q5_K,
            (Q4_K, "ffn_down") if layer < layers / 8 && !medium => Q5_K,
            _ => base,
        })
    }
}

/// `blk.7.attn_v.weight` as 7 and `attn_v`.
fn layer_and_part(name: &str) -> Option<(u64, &str)> {
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, part.strip_suffix(".weight")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(mix: &str, tensor: &str, columns: u64, has_output: bool) -> &'static str {
        let tensor = Tensor { name: tensor.into(), dimensions: vec![columns, 64], kind: TensorType::F32 };
        let shape = Shape { layers: 32, group: 4, has_output };
        mix.parse::<Mix>().unwrap().type_of(&tensor, &shape).name()
    }

    #[test]
    fn sensitive_matrices_get_more_bits() {
        assert_eq!(name("q4_k", "blk.5.attn_q.weight", 4096, true), "Q4_K");
        assert_eq!(name("q4_k", "blk.0.attn_v.weight", 4096, true), "Q6_K");
        assert_eq!(name("Q4_K_M", "blk.5.ffn_down.weight", 4096, true), "Q4_K");
        assert_eq!(name("q4_k_m", "blk.6.ffn_down.weight", 4096, true), "Q6_K");
        assert_eq!(name("q4_k_m", "blk.31.ffn_down.weight", 4096, true), "Q6_K");
        assert_eq!(name("q4_k_s", "blk.6.ffn_down.weight", 4096, true), "Q4_K");
        assert_eq!(name("q4_0", "output.weight", 4096, true), "Q6_K");
        assert_eq!(name("q4_0", "token_embd.weight", 4096, true), "Q4_0");
        assert_eq!(name("q4_0", "token_embd.weight", 4096, false), "Q6_K");
        assert_eq!(name("q8_0", "token_embd.weight", 4096, false), "Q8_0");
        assert_eq!(name("q2_k", "blk.9.attn_v.weight", 4096, true), "Q4_K");
        assert_eq!(name("q2_k", "blk.9.ffn_down.weight", 4096, true), "Q3_K");
        assert_eq!(name("q3_k", "blk.1.attn_v.weight", 4096, true), "Q5_K");
        assert_eq!(name("f16", "output.weight", 4096, true), "F16");
    }

    #[test]
    fn rows_that_are_not_whole_blocks_get_another_type_and_norms_stay() {
        assert_eq!(name("q4_k", "blk.5.attn_q.weight", 576, true), "Q5_0");
        assert_eq!(name("q6_k", "blk.5.attn_q.weight", 576, true), "Q8_0");
        assert_eq!(name("q2_k", "blk.5.attn_q.weight", 576, true), "Q4_0");
        assert_eq!(name("q4_0", "blk.5.attn_q.weight", 40, true), "F16");
        assert_eq!(name("q4_0", "blk.5.attn_q_norm.weight", 4096, true), "F32");
        assert_eq!(name("f16", "blk.5.attn_q.bias", 4096, true), "F32");
    }

    #[test]
    fn an_unknown_type_is_told_the_known_ones() {
        let error = "q7".parse::<Mix>().unwrap_err().to_string();
        assert!(error.contains("\"q7\"") && error.contains("q4_k_m") && error.contains("bf16"), "{error}");
    }
}
