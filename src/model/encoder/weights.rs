//! Reading the weights of a transformer: names, shapes, and the forms that the runtime wants.
//!
//! A head of the attention takes whole panels of 16 columns: where its width is no multiple of 16, columns of zeros are
//! added to queries, keys and values, and inputs with zero weights to the projection that follows. Where queries and
//! keys are turned, each half of a head has whole panels of its own, so that the two numbers of a pair are in the same
//! lane of two panels.
//!
//! [`super::accelerated`] reads by the same [`Reader`] and takes the numbers as they are.

use super::attention::Heads;
use super::config::Dtype;
use super::kernels::Norm;
use super::lanes::{Block, LANES};
use super::linear::{Linear, Single};
use super::names::{Expand, LayerNorms, Names, Qkv};
use super::positions::{Bias, Rotation};
use super::quantized::Quantized;
use super::shape::{DistanceBias, LayerShape, Shape};
use super::transformer::{Layer, Transformer};
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;

impl Transformer {
    /// Reads the weights. Tensors may carry the family's prefix; layer normalisations may use the names gamma and beta.
    ///
    /// Errors: those of [`Checkpoint::read_f32`].
    pub fn load(shape: &Shape, dtype: Dtype, checkpoint: &Checkpoint) -> Result<Self> {
        // Before memory is set aside for what the configuration says.
        Self::check(shape, checkpoint)?;
        Reader::new(shape, dtype, checkpoint, true).transformer()
    }

    /// Checks that every weight is there with the right shape, without reading them.
    ///
    /// Errors: those of [`Checkpoint::expect`].
    pub fn check(shape: &Shape, checkpoint: &Checkpoint) -> Result<()> {
        Reader::new(shape, Dtype::F32, checkpoint, false).transformer().map(drop)
    }
}

/// Weights and biases of a linear layer as they lie in the file; empty when only shapes are checked.
pub struct Matrix {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Reads tensors by their names in the original implementation.
pub struct Reader<'a> {
    shape: &'a Shape,
    pub names: Names,
    dtype: Dtype,
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
    /// Without values, shapes are checked and all tensors stay empty.
    values: bool,
}

impl<'a> Reader<'a> {
    pub fn new(shape: &'a Shape, dtype: Dtype, checkpoint: &'a Checkpoint, values: bool) -> Self {
        let names = Names::of(shape.family);
        let words = |prefix: &&&str| checkpoint.contains(&format!("{prefix}{}.weight", names.words));
        let prefix = names.prefixes.iter().find(words).copied().unwrap_or("");
        Self { shape, names, dtype, checkpoint, prefix, values }
    }

    fn transformer(&self) -> Result<Transformer> {
        let shape = self.shape;
        let hidden = shape.hidden;
        let words = self.weight(self.names.words, &[shape.vocabulary, hidden])?;
        let (positions, second_type) = self.positions_and_types()?;
        let embedding_norm = self.norm(self.names.embedding_norm)?;
        let mut transformer = Transformer {
            shape: shape.clone(),
            heads: self.heads(),
            words,
            positions,
            second_type,
            embedding_norm,
            layers: Vec::new(),
            rotations: Vec::new(),
            biases: Vec::new(),
            arena: Vec::new(),
        };
        transformer.biases = self.biases()?;
        if self.values && self.dtype == Dtype::F32 {
            // Not in large pages: those make no query faster, and a fresh process waits 100 ms and more for them.
            transformer.arena.reserve_exact(self.arena_blocks());
        }
        let mut thetas: Vec<f32> = Vec::new();
        for (index, layer_shape) in shape.layers.iter().enumerate() {
            let mut layer = self.layer(index, &mut transformer.arena)?;
            layer.bias = self.bias_of(layer_shape, &mut transformer.biases)?;
            layer.rotation = layer_shape.theta.map(|theta| {
                thetas.iter().position(|known| *known == theta).unwrap_or_else(|| {
                    thetas.push(theta);
                    thetas.len() - 1
                })
            });
            transformer.layers.push(layer);
        }
        // Tables by position: only once all weights are known to be there.
        let positions = if self.values { shape.positions } else { 0 };
        let rotations = thetas.into_iter().map(|theta| Rotation::new(theta, shape.head_width, positions));
        transformer.rotations = rotations.collect();
        Ok(transformer)
    }

    /// What is added to words by position, with the first type of tokens in it, and what the second type has more.
    pub fn positions_and_types(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let Shape { hidden, positions, skipped_positions, token_types, .. } = *self.shape;
        let mut table = vec![0.0; if self.values { hidden } else { 0 }];
        if let Some(skipped) = skipped_positions {
            table = self.weight(self.names.positions, &[skipped + positions, hidden])?;
            table.drain(..(skipped * hidden).min(table.len()));
        }
        let mut second = Vec::new();
        if token_types > 0 {
            let types = self.weight(self.names.types, &[token_types, hidden])?;
            let (first, others) = types.split_at(hidden.min(types.len()));
            for row in table.chunks_exact_mut(hidden) {
                row.iter_mut().zip(first).for_each(|(position, kind)| *position += kind);
            }
            second = others.iter().zip(first).map(|(second, first)| second - first).collect();
        }
        Ok((table, second))
    }

    /// Those that are of all layers, of which there is one at most.
    pub fn biases(&self) -> Result<Vec<Bias>> {
        let positions = if self.values { self.shape.positions } else { 0 };
        let mut biases = Vec::new();
        biases.extend(self.shape.distance_bias.map(|kind| self.distance_bias(kind)).transpose()?);
        if self.shape.causal {
            biases.push(Bias::causal(positions));
        }
        Ok(biases)
    }

    fn distance_bias(&self, kind: DistanceBias) -> Result<Bias> {
        let Shape { heads, positions, .. } = *self.shape;
        let positions = if self.values { positions } else { 0 };
        Ok(match kind {
            DistanceBias::Slopes => Bias::of_slopes(heads, positions),
            DistanceBias::Buckets(buckets) => {
                let table = self.weight(self.names.distances, &[buckets, heads])?;
                Bias::of_buckets(&table, buckets, heads, positions)
            }
        })
    }

    /// The place of a layer's bias among all, where it is put if it is not there yet.
    pub fn bias_of(&self, layer: &LayerShape, biases: &mut Vec<Bias>) -> Result<Option<usize>> {
        let has_bias = self.shape.distance_bias.is_some() || self.shape.causal;
        let Some(window) = layer.window else { return Ok(has_bias.then_some(0)) };
        if has_bias {
            return Err(ModelError::Unsupported("a window of attention together with biases by distance".to_owned()));
        }
        if window >= self.shape.positions {
            return Ok(None);
        }
        if let Some(at) = biases.iter().position(|bias| bias.before == Some(window)) {
            return Ok(Some(at));
        }
        biases.push(Bias::of_window(window));
        Ok(Some(biases.len() - 1))
    }

    fn heads(&self) -> Heads {
        let width = self.shape.head_width;
        let panels = if self.shape.is_rotary() { 2 * (width / 2).div_ceil(LANES) } else { width.div_ceil(LANES) };
        Heads { count: self.shape.heads, keys: self.shape.key_heads, panels }
    }

    /// Blocks of the weights of all linear layers.
    fn arena_blocks(&self) -> usize {
        let Shape { hidden, feed_forward, gated, ref layers, .. } = *self.shape;
        let heads = self.heads();
        let head_panels = heads.count * heads.panels;
        let hidden_panels = hidden.div_ceil(LANES);
        let attention = heads.qkv_panels() * hidden + hidden_panels * head_panels * LANES;
        let expand = feed_forward.div_ceil(LANES) * hidden * (1 + usize::from(gated));
        layers.len() * (attention + expand + hidden_panels * feed_forward)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = format!("{}{name}", self.prefix);
        let mut values = Vec::new();
        match self.values {
            true => self.checkpoint.read_f32(&name, shape, &mut values)?,
            false => self.checkpoint.expect(&name, shape)?,
        }
        Ok(values)
    }

    pub fn weight(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.tensor(&format!("{name}.weight"), shape)
    }

    /// A linear layer; without `bias`, its biases are zeros.
    pub fn matrix(&self, name: &str, outputs: usize, inputs: usize, bias: bool) -> Result<Matrix> {
        let weight = self.weight(name, &[outputs, inputs])?;
        let bias = match bias {
            true => self.tensor(&format!("{name}.bias"), &[outputs])?,
            false => vec![0.0; if self.values { outputs } else { 0 }],
        };
        Ok(Matrix { weight, bias })
    }

    /// Some of the outputs of a linear layer.
    fn outputs(&self, matrix: &Matrix, outputs: std::ops::Range<usize>, inputs: usize) -> Matrix {
        if !self.values {
            return Matrix { weight: Vec::new(), bias: Vec::new() };
        }
        Matrix {
            weight: matrix.weight[outputs.start * inputs..outputs.end * inputs].to_vec(),
            bias: matrix.bias[outputs].to_vec(),
        }
    }

    fn packed(&self, matrix: &Matrix, inputs: usize, arena: &mut Vec<Block>) -> Linear {
        match self.dtype {
            Dtype::F32 => Linear::Single(Single::new(&matrix.weight, &matrix.bias, inputs, arena)),
            Dtype::Int8 => Linear::Quantized(Quantized::new(&matrix.weight, &matrix.bias, inputs)),
        }
    }

    /// Weights and biases of a norm; zeros where there are no biases.
    pub fn norm_numbers(&self, name: &str) -> Result<Matrix> {
        let hidden = self.shape.hidden;
        let old_names = self.checkpoint.contains(&format!("{}{name}.gamma", self.prefix));
        let (weight, bias) = if old_names { ("gamma", "beta") } else { ("weight", "bias") };
        let weight = self.tensor(&format!("{name}.{weight}"), &[hidden])?;
        let bias = match self.shape.norm_bias {
            true => self.tensor(&format!("{name}.{bias}"), &[hidden])?,
            false => vec![0.0; weight.len()],
        };
        Ok(Matrix { weight, bias })
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let Matrix { weight, bias } = self.norm_numbers(name)?;
        Ok(match self.shape.norms_by_length {
            true => Norm::by_length(&weight, self.shape.hidden, self.shape.norm_epsilon),
            false => Norm::new(&weight, &bias, self.shape.norm_epsilon),
        })
    }

    /// The norms of a head's queries and keys, padded as those are; the first with the scale of queries.
    fn head_norms(&self, layer: &str) -> Result<Option<[Norm; 2]>> {
        if !self.shape.head_norms {
            return Ok(None);
        }
        let width = self.shape.head_width;
        let padded_half = self.heads().panels * LANES / 2;
        let read = |name: &str, scale: f32| -> Result<Norm> {
            let weight = self.weight(&format!("{layer}.{name}"), &[width])?;
            let mut padded = Vec::with_capacity(2 * padded_half);
            for half in weight.chunks_exact(width / 2) {
                padded.extend(half.iter().map(|value| value * scale));
                padded.resize(padded.len() + padded_half - width / 2, 0.0);
            }
            Ok(Norm::by_length(&padded, width, self.shape.norm_epsilon))
        };
        let [queries, keys] = self.names.head_norms;
        Ok(Some([read(queries, 1.0 / (width as f32).sqrt())?, read(keys, 1.0)?]))
    }

    /// The weights of queries, of keys and of values.
    pub fn qkv_parts(&self, layer: &str) -> Result<Vec<Matrix>> {
        let Shape { hidden, head_width: width, heads, key_heads, attention_bias: bias, .. } = *self.shape;
        match &self.names.qkv {
            Qkv::Separate(names) => names
                .iter()
                .zip([heads * width, key_heads * width, key_heads * width])
                .map(|(name, outputs)| self.matrix(&format!("{layer}.{name}"), outputs, hidden, bias))
                .collect(),
            Qkv::Fused(name) => {
                let all = self.matrix(&format!("{layer}.{name}"), 3 * hidden, hidden, bias)?;
                Ok((0..3).map(|part| self.outputs(&all, part * hidden..(part + 1) * hidden, hidden)).collect())
            }
        }
    }

    /// The weights of queries, keys and values, each head padded to whole panels; queries scaled.
    fn qkv(&self, layer: &str, arena: &mut Vec<Block>) -> Result<Linear> {
        let Shape { hidden, head_width: width, .. } = *self.shape;
        let parts = self.qkv_parts(layer)?;
        let padded = self.heads().panels * LANES;
        let mut padded_part = Matrix { weight: Vec::new(), bias: Vec::new() };
        for (index, part) in parts.iter().enumerate() {
            // Where queries are normalised, the scale is in their norm.
            let scale = if index == 0 && !self.shape.head_norms { 1.0 / (width as f32).sqrt() } else { 1.0 };
            // What is turned is padded by halves.
            let pieces = if index < 2 && self.shape.is_rotary() { 2 } else { 1 };
            let (piece, padded_piece) = (width / pieces, padded / pieces);
            for (rows, biases) in part.weight.chunks_exact(piece * hidden).zip(part.bias.chunks_exact(piece)) {
                let Matrix { weight, bias } = &mut padded_part;
                weight.extend(rows.iter().map(|value| value * scale));
                weight.resize(weight.len() + (padded_piece - piece) * hidden, 0.0);
                bias.extend(biases.iter().map(|value| value * scale));
                bias.resize(bias.len() + padded_piece - piece, 0.0);
            }
        }
        Ok(self.packed(&padded_part, hidden, arena))
    }

    /// The projection of the attention's result, whose heads are padded to whole panels.
    fn attention_output(&self, layer: &str, arena: &mut Vec<Block>) -> Result<Linear> {
        let (hidden, width) = (self.shape.hidden, self.shape.head_width);
        let padded = self.heads().panels * LANES;
        let name = format!("{layer}.{}", self.names.attention_output);
        let narrow = self.matrix(&name, hidden, self.shape.heads * width, self.shape.attention_bias)?;
        let mut weight = Vec::with_capacity(if self.values { hidden * self.shape.heads * padded } else { 0 });
        for head in narrow.weight.chunks_exact(width) {
            weight.extend_from_slice(head);
            weight.resize(weight.len() + padded - width, 0.0);
        }
        Ok(self.packed(&Matrix { weight, bias: narrow.bias }, self.shape.heads * padded, arena))
    }

    /// The first part of the feed-forward block: what is activated, and what that is multiplied with.
    pub fn expand_parts(&self, layer: &str) -> Result<(Matrix, Option<Matrix>)> {
        let Shape { hidden, feed_forward: outputs, expand_bias: bias, .. } = *self.shape;
        let read = |name: &str, outputs: usize| self.matrix(&format!("{layer}.{name}"), outputs, hidden, bias);
        Ok(match self.names.expand {
            Expand::Plain(name) => (read(name, outputs)?, None),
            Expand::Pair(activated, gate) => (read(activated, outputs)?, Some(read(gate, outputs)?)),
            Expand::Fused(name) => {
                let both = read(name, 2 * outputs)?;
                let part = |range| self.outputs(&both, range, hidden);
                (part(0..outputs), Some(part(outputs..2 * outputs)))
            }
        })
    }

    fn expand(&self, layer: &str, arena: &mut Vec<Block>) -> Result<(Linear, Option<Linear>)> {
        let (activated, gate) = self.expand_parts(layer)?;
        let mut packed = |matrix: &Matrix| self.packed(matrix, self.shape.hidden, arena);
        Ok((packed(&activated), gate.as_ref().map(packed)))
    }

    /// Names of the norms after attention and after the feed-forward block is added.
    pub fn norm_names(&self, index: usize) -> [String; 2] {
        let in_layer = |index: usize, name: &str| format!("{}.{index}.{name}", self.names.layer);
        match self.names.norms {
            LayerNorms::After(attention, output) => [in_layer(index, attention), in_layer(index, output)],
            LayerNorms::Before(attention, feed_forward, last) => {
                let next = match index + 1 == self.shape.layers.len() {
                    true => last.to_owned(),
                    false => in_layer(index + 1, attention),
                };
                [in_layer(index, feed_forward), next]
            }
        }
    }

    fn layer(&self, index: usize, arena: &mut Vec<Block>) -> Result<Layer> {
        let Shape { hidden, feed_forward, contract_bias, .. } = *self.shape;
        let layer = format!("{}.{index}", self.names.layer);
        let qkv = self.qkv(&layer, arena)?;
        let head_norms = self.head_norms(&layer)?;
        let attention_output = self.attention_output(&layer, arena)?;
        let (expand, gate) = self.expand(&layer, arena)?;
        let contract = self.matrix(&format!("{layer}.{}", self.names.contract), hidden, feed_forward, contract_bias)?;
        let contract = self.packed(&contract, feed_forward, arena);
        let [attention_norm, output_norm] = self.norm_names(index);
        let (attention_norm, output_norm) = (self.norm(&attention_norm)?, self.norm(&output_norm)?);
        Ok(Layer {
            qkv,
            head_norms,
            attention_output,
            attention_norm,
            expand,
            gate,
            contract,
            output_norm,
            rotation: None,
            bias: None,
        })
    }
}
