//! What an encoder will take in memory, by its configuration: the buffers of its passes, and the numbers of its matrices.

use super::config::TextConfig;
use super::lanes::{Block, LANES};
use super::passes::PASS_TOKENS;
use super::shape::{Norms, Shape};

/// Rows of the scores of attention that are computed at a time, at most.
const SCORE_ROWS: usize = 14;

/// Besides the weights of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderNeeds {
    /// Bytes of the buffers of as many passes as there are threads.
    pub activations: u64,
    /// Numbers in the matrices of the layers, which may be stored in fewer bits.
    pub linear_numbers: u64,
    /// Tokens that have a vector.
    pub vocabulary: usize,
}

/// What the model of this configuration needs when `threads` threads run passes.
pub fn needs(text: &TextConfig, threads: usize) -> EncoderNeeds {
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
    EncoderNeeds { activations: activations as u64, linear_numbers: linear as u64, vocabulary }
}
