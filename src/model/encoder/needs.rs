//! What an encoder will take in memory, by its configuration: the buffers of its passes, and what 8 bits save.

use super::config::TextConfig;
use super::lanes::{Block, LANES};
use super::passes::PASS_TOKENS;
use super::shape::{Norms, Shape};
use super::Dtype;

/// Rows of the scores of attention that are computed at a time, at most.
const SCORE_ROWS: usize = 14;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderNeeds {
    /// Of the buffers of as many passes as there are threads.
    pub activations: u64,
    /// That weights take less than in single precision.
    pub saved: u64,
    /// Tokens that have a vector.
    pub vocabulary: usize,
}

/// What the model of this configuration needs when `threads` threads run passes.
pub fn needs(text: &TextConfig, dtype: Dtype, threads: usize) -> EncoderNeeds {
    let Shape { hidden, heads, key_heads, head_width, feed_forward, gated, norms, vocabulary, .. } = text.shape;
    let head_panels = head_width.div_ceil(LANES);
    let (width, inner) = (hidden.div_ceil(LANES), feed_forward.div_ceil(LANES));
    let streams = if norms == Norms::Before { 3 } else { 2 };
    let attention = (2 * heads + 2 * key_heads) * head_panels;
    let row = streams * width + attention + inner * if gated { 2 } else { 1 };
    // Passes of several texts go as far over their size as half of a text.
    let tokens = (PASS_TOKENS + PASS_TOKENS / 2).max(text.max_tokens);
    let scores = text.max_tokens.div_ceil(LANES) * (head_panels * LANES + SCORE_ROWS);
    let activations = threads * (row * tokens + scores) * size_of::<Block>();
    let projections = (heads + 2 * key_heads) * head_width + heads * head_width;
    let linear = text.shape.layers.len() * hidden * (projections + feed_forward * if gated { 3 } else { 2 });
    let saved = if dtype == Dtype::Int8 { 3 * linear } else { 0 };
    EncoderNeeds { activations: activations as u64, saved: saved as u64, vocabulary }
}
