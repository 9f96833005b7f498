//! The BERT transformer (Devlin et al., 2018): the forward pass over packed sequences.
//!
//! The tokens of all sequences of a pass are rows of one matrix; nothing is padded. Matrices lie in panels of 16
//! columns ([`super::product`]). A layer is four matrix products ([`super::linear`]), which add biases and apply the
//! activation to what they have just computed, attention ([`super::attention`]), and two normalisations.
//!
//! A pass runs on a crew: a short text on all threads, which then share the outputs of each product; of a batch, each
//! thread runs passes of its own, alone ([`super::Encoder::embed`]).

use super::attention::{attention, Heads};
use super::config::BertShape;
use super::kernels::{add_norm, Norm};
use super::lanes::{Block, LANES};
use super::linear::Linear;
use super::product::Panels;
use super::quantized::Codes;
use crate::compute::Crew;
use crate::error::{ModelError, Result};

pub struct Layer {
    /// Query, key and value projections in one; the queries carry the factor 1/√(head width).
    pub qkv: Linear,
    pub attention_output: Linear,
    pub attention_norm: Norm,
    pub expand: Linear,
    pub contract: Linear,
    pub output_norm: Norm,
}

/// A loaded BERT.
pub struct Bert {
    pub shape: BertShape,
    pub heads: Heads,
    /// `[vocabulary, hidden]`
    pub words: Vec<f32>,
    /// `[positions, hidden]`, with the vector of token type 0 added to each.
    pub positions: Vec<f32>,
    pub embedding_norm: Norm,
    pub layers: Vec<Layer>,
    /// The weights of all linear layers.
    pub arena: Vec<Block>,
}

/// Buffers of a forward pass, kept between passes.
#[derive(Default)]
pub struct Scratch {
    hidden: Vec<Block>,
    qkv: Vec<Block>,
    context: Vec<Block>,
    projected: Vec<Block>,
    expanded: Vec<Block>,
    codes: Codes,
}

impl Bert {
    /// Bytes of the weights.
    pub fn resident_bytes(&self) -> usize {
        let norms = (2 * self.layers.len() + 1) * 2 * self.shape.hidden;
        let linear = |layer: &Layer| {
            [&layer.qkv, &layer.attention_output, &layer.expand, &layer.contract]
                .map(Linear::bytes)
                .iter()
                .sum::<usize>()
        };
        let numbers = self.words.len() + self.positions.len() + norms;
        numbers * size_of::<f32>() + size_of_val(&*self.arena) + self.layers.iter().map(linear).sum::<usize>()
    }

    /// Checks that the model can take these ids.
    ///
    /// Errors: `InvalidArgument` for an id outside the vocabulary or a sequence longer than the model's positions.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let BertShape { positions: limit, vocabulary, .. } = self.shape;
        if ids.len() > limit {
            let length = ids.len();
            return Err(ModelError::InvalidArgument(format!("text of {length} tokens, the model takes {limit}")));
        }
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(id) => Err(ModelError::InvalidArgument(format!("token id {id} is not in the model's vocabulary"))),
            None => Ok(()),
        }
    }

    /// Last hidden state of packed sequences that [`Bert::check_ids`] has accepted, as a part of `scratch`.
    ///
    /// `starts`: first row of each sequence, and the number of rows at the end.
    pub fn forward<'s>(
        &self,
        crew: &mut Crew,
        sequences: &[Vec<u32>],
        starts: &[usize],
        scratch: &'s mut Scratch,
    ) -> Panels<'s> {
        let BertShape { hidden: width, feed_forward, activation, .. } = self.shape;
        let rows = starts[starts.len() - 1];
        // Odd, so that the panels of a row do not compete for the same places of the cache.
        let stride = rows | 1;
        let Scratch { hidden, qkv, context, projected, expanded, codes } = scratch;
        let head_panels = self.heads.count * self.heads.panels;
        for (buffer, panels) in [
            (&mut *hidden, width.div_ceil(LANES)),
            (&mut *qkv, 3 * head_panels),
            (&mut *context, head_panels),
            (&mut *projected, width.div_ceil(LANES)),
            (&mut *expanded, feed_forward.div_ceil(LANES)),
        ] {
            // Only grows; everything in it is written before it is read.
            if buffer.len() < panels * stride {
                buffer.resize(panels * stride, Block::ZERO);
            }
        }
        fn panels(blocks: &[Block], stride: usize) -> Panels<'_> {
            Panels { blocks, stride }
        }
        let mut apply = |crew: &mut Crew, linear: &Linear, input: &[Block], activation, output: &mut [Block]| {
            linear.apply(&self.arena, crew, panels(input, stride), rows, activation, output, codes);
        };
        self.embed_tokens(sequences, starts, stride, hidden, projected);
        for layer in &self.layers {
            apply(crew, &layer.qkv, hidden, None, qkv);
            attention(crew, self.heads, panels(qkv, stride), starts, context);
            apply(crew, &layer.attention_output, context, None, projected);
            add_norm(hidden, projected, stride, rows, &layer.attention_norm);

            apply(crew, &layer.expand, hidden, Some(activation), expanded);
            apply(crew, &layer.contract, expanded, None, projected);
            add_norm(hidden, projected, stride, rows, &layer.output_norm);
        }
        panels(hidden, stride)
    }

    /// output ← norm(word + position); `addend` is overwritten.
    fn embed_tokens(
        &self,
        sequences: &[Vec<u32>],
        starts: &[usize],
        stride: usize,
        output: &mut [Block],
        addend: &mut [Block],
    ) {
        let width = self.shape.hidden;
        for (ids, start) in sequences.iter().zip(starts) {
            for (position, id) in ids.iter().enumerate() {
                let word = &self.words[*id as usize * width..][..width];
                let position_row = &self.positions[position * width..][..width];
                for (panel, (word, position_row)) in word.chunks(LANES).zip(position_row.chunks(LANES)).enumerate() {
                    let at = panel * stride + start + position;
                    // The last panel may be wider than the rest of the row.
                    (output[at], addend[at]) = (Block::ZERO, Block::ZERO);
                    output[at].0[..word.len()].copy_from_slice(word);
                    addend[at].0[..word.len()].copy_from_slice(position_row);
                }
            }
        }
        add_norm(output, addend, stride, starts[starts.len() - 1], &self.embedding_norm);
    }
}
