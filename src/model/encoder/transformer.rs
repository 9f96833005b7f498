//! The transformer of all families (Vaswani et al., 2017; Devlin et al., 2018): the forward pass over packed sequences.
//!
//! The tokens of all sequences of a pass are rows of one matrix; nothing is padded. Matrices lie in panels of 16
//! columns ([`super::product`]). A layer is a few matrix products ([`super::linear`]), which add biases and apply the
//! activation to what they have just computed, attention ([`super::attention`]), and two normalisations. What of that a
//! family has is in its [`Shape`]; the weights are read in [`super::weights`].
//!
//! Where norms come before their blocks, each sum is normalised for the block that comes next, as soon as it is added up:
//! so a layer's two norms have the same place in the code, whichever place they have in the family.
//!
//! A pass runs on a crew: a short text on all threads, which then share the outputs of each product; of a batch, each
//! thread runs passes of its own, alone ([`super::passes`]).

use super::attention::{attention, Heads};
use super::kernels::{add_norm, add_norm_to, multiply_by, norm_by_length, Norm};
use super::lanes::{Block, LANES};
use super::linear::Linear;
use super::positions::{Bias, Rotation};
use super::product::Panels;
use super::quantized::Codes;
use super::shape::{Family, Norms, Shape};
use crate::compute::Crew;
use crate::decoder::Abandoned;
use crate::error::{ModelError, Result};

/// The bit of a token's id that says that it belongs to the second of two texts.
pub const SECOND: u32 = 1 << 31;

pub struct Layer {
    /// Query, key and value projections in one; the queries carry the factor 1/√(head width), or their norm does.
    pub qkv: Linear,
    /// Of the queries and of the keys of a head.
    pub head_norms: Option<[Norm; 2]>,
    pub attention_output: Linear,
    /// After attention is added.
    pub attention_norm: Norm,
    pub expand: Linear,
    /// What the activated outputs of `expand` are multiplied with.
    pub gate: Option<Linear>,
    pub contract: Linear,
    /// After the feed-forward block is added.
    pub output_norm: Norm,
    /// Places in [`Transformer::rotations`] and [`Transformer::biases`].
    pub rotation: Option<usize>,
    pub bias: Option<usize>,
}

impl Layer {
    pub fn bytes(&self) -> usize {
        let linears = [&self.qkv, &self.attention_output, &self.expand, &self.contract].into_iter().chain(&self.gate);
        let linears: usize = linears.map(Linear::bytes).sum();
        let head_norms: usize = self.head_norms.iter().flatten().map(Norm::bytes).sum();
        linears + head_norms + self.attention_norm.bytes() + self.output_norm.bytes()
    }
}

/// A loaded transformer.
pub struct Transformer {
    pub shape: Shape,
    pub heads: Heads,
    /// `[vocabulary, hidden]`
    pub words: Vec<f32>,
    /// `[positions, hidden]`, with the vector of the first type of tokens added to each; one row for all positions where
    /// there is no table.
    pub positions: Vec<f32>,
    /// What a token of the second type has more than one of the first; empty where there is one type only.
    pub second_type: Vec<f32>,
    pub embedding_norm: Norm,
    pub layers: Vec<Layer>,
    pub rotations: Vec<Rotation>,
    pub biases: Vec<Bias>,
    /// The weights of all linear layers.
    pub arena: Vec<Block>,
}

/// Checks that a model can take these ids.
///
/// Errors: `InvalidArgument` for an id outside the vocabulary or a sequence longer than the model's positions.
pub fn check_ids(shape: &Shape, ids: &[u32]) -> Result<()> {
    let Shape { positions: limit, vocabulary, .. } = *shape;
    if ids.len() > limit {
        let length = ids.len();
        return Err(ModelError::InvalidArgument(format!("text of {length} tokens, the model takes {limit}")));
    }
    match ids.iter().find(|&&id| (id & !SECOND) as usize >= vocabulary) {
        Some(id) => Err(ModelError::InvalidArgument(format!("token id {id} is not in the model's vocabulary"))),
        None => Ok(()),
    }
}

/// Buffers of a forward pass, kept between passes.
#[derive(Default)]
pub struct Scratch {
    hidden: Vec<Block>,
    normed: Vec<Block>,
    qkv: Vec<Block>,
    context: Vec<Block>,
    projected: Vec<Block>,
    expanded: Vec<Block>,
    gates: Vec<Block>,
    codes: Codes,
}

impl Transformer {
    /// Bytes of the weights and of the tables by position.
    pub fn resident_bytes(&self) -> usize {
        let numbers = self.words.len() + self.positions.len() + self.second_type.len();
        let tables: usize = self.rotations.iter().map(Rotation::bytes).chain(self.biases.iter().map(Bias::bytes)).sum();
        numbers * size_of::<f32>()
            + size_of_val(&*self.arena)
            + self.embedding_norm.bytes()
            + self.layers.iter().map(Layer::bytes).sum::<usize>()
            + tables
    }

    /// Last hidden state of packed sequences that [`check_ids`] has accepted, as a part of `scratch`; None
    /// when it is `abandoned`, about which it asks before each layer.
    ///
    /// `starts`: first row of each sequence, and the number of rows at the end.
    pub fn forward<'s>(
        &self,
        crew: &mut Crew,
        sequences: &[Vec<u32>],
        starts: &[usize],
        scratch: &'s mut Scratch,
        abandoned: Abandoned<'_>,
    ) -> Option<Panels<'s>> {
        let Shape { hidden: width, feed_forward, activation, gated, norms, .. } = self.shape;
        let rows = starts[starts.len() - 1];
        // Odd, so that the panels of a row do not compete for the same places of the cache.
        let stride = rows | 1;
        let Scratch { hidden, normed, qkv, context, projected, expanded, gates, codes } = scratch;
        let head_panels = self.heads.count * self.heads.panels;
        let (hidden_panels, expanded_panels) = (width.div_ceil(LANES), feed_forward.div_ceil(LANES));
        for (buffer, panels) in [
            (&mut *hidden, hidden_panels),
            (&mut *normed, if norms == Norms::Before { hidden_panels } else { 0 }),
            (&mut *qkv, self.heads.qkv_panels()),
            (&mut *context, head_panels),
            (&mut *projected, hidden_panels),
            (&mut *expanded, expanded_panels),
            (&mut *gates, if gated { expanded_panels } else { 0 }),
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
        match (norms, self.shape.family) {
            (Norms::After, _) => add_norm(hidden, projected, stride, rows, &self.embedding_norm),
            (Norms::Before, Family::Qwen3) => {
                add_norm_to(hidden, projected, normed, stride, rows, &self.embedding_norm);
            }
            (Norms::Before, _) => {
                // The first block has no norm of its own: it sees the normalised embeddings, as its sum does.
                add_norm(hidden, projected, stride, rows, &self.embedding_norm);
                normed[..hidden_panels * stride].copy_from_slice(&hidden[..hidden_panels * stride]);
            }
        }
        for layer in &self.layers {
            if abandoned() {
                return None;
            }
            let input = if norms == Norms::Before { &*normed } else { &*hidden };
            apply(crew, &layer.qkv, input, None, qkv);
            if let Some(rotation) = layer.rotation.map(|at| &self.rotations[at]) {
                let Heads { count, keys, panels } = self.heads;
                let queries_and_keys = &mut qkv[..(count + keys) * panels * stride];
                crew.for_chunks_mut(queries_and_keys, panels * stride, |index, head| {
                    if let Some(norms) = &layer.head_norms {
                        norm_by_length(head, stride, rows, &norms[usize::from(index >= count)]);
                    }
                    rotation.turn(head, stride, starts);
                });
            }
            let bias = layer.bias.map(|at| &self.biases[at]);
            attention(crew, self.heads, panels(qkv, stride), bias, starts, context);
            apply(crew, &layer.attention_output, context, None, projected);
            match norms {
                Norms::After => add_norm(hidden, projected, stride, rows, &layer.attention_norm),
                Norms::Before => add_norm_to(hidden, projected, normed, stride, rows, &layer.attention_norm),
            }

            let input = if norms == Norms::Before { &*normed } else { &*hidden };
            apply(crew, &layer.expand, input, Some(activation), expanded);
            if let Some(gate) = &layer.gate {
                apply(crew, gate, input, None, gates);
                let gates = &gates[..expanded_panels * stride];
                crew.for_chunks_mut(&mut expanded[..expanded_panels * stride], stride, |panel, expanded| {
                    multiply_by(&mut expanded[..rows], &gates[panel * stride..][..rows]);
                });
            }
            apply(crew, &layer.contract, expanded, None, projected);
            match norms {
                Norms::After => add_norm(hidden, projected, stride, rows, &layer.output_norm),
                Norms::Before => add_norm_to(hidden, projected, normed, stride, rows, &layer.output_norm),
            }
        }
        Some(panels(if norms == Norms::Before { normed } else { hidden }, stride))
    }

    /// output ← word, and addend ← position + type.
    fn embed_tokens(
        &self,
        sequences: &[Vec<u32>],
        starts: &[usize],
        stride: usize,
        output: &mut [Block],
        addend: &mut [Block],
    ) {
        let width = self.shape.hidden;
        let by_position = self.shape.skipped_positions.is_some();
        for (ids, start) in sequences.iter().zip(starts) {
            for (position, id) in ids.iter().enumerate() {
                let word = &self.words[(id & !SECOND) as usize * width..][..width];
                let position_row = &self.positions[if by_position { position * width } else { 0 }..][..width];
                for (panel, (word, position_row)) in word.chunks(LANES).zip(position_row.chunks(LANES)).enumerate() {
                    let at = panel * stride + start + position;
                    // The last panel may be wider than the rest of the row.
                    (output[at], addend[at]) = (Block::ZERO, Block::ZERO);
                    output[at].0[..word.len()].copy_from_slice(word);
                    addend[at].0[..word.len()].copy_from_slice(position_row);
                }
                if id & SECOND != 0 {
                    for (panel, more) in self.second_type.chunks(LANES).enumerate() {
                        let addend = &mut addend[panel * stride + start + position];
                        addend.0.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    }
                }
            }
        }
    }
}
