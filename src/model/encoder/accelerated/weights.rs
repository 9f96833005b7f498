//! The weights of a transformer on the device, read by the same names as those of the processor
//! ([`super::super::weights`]), but not packed: queries, keys and values are one layer, and so are the two parts of a gated
//! feed-forward block.

use super::super::config::Dtype;
use super::super::positions::{factors, frequencies, Bias};
use super::super::shape::Shape;
use super::super::weights::{Matrix, Reader};
use crate::accelerator::linear::{self, vector, Linear};
use crate::accelerator::Accelerator;
use crate::error::Result;
use crate::source::safetensors::Checkpoint;
use candle_core::{Device, Tensor};
use candle_nn::ops::{layer_norm, rms_norm};

/// Scale and shift of a normalisation.
pub struct Norm {
    weight: Tensor,
    /// None where no mean is taken away.
    bias: Option<Tensor>,
    epsilon: f32,
}

impl Norm {
    /// Of the last dimension.
    pub fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(match &self.bias {
            Some(bias) => layer_norm(rows, &self.weight, bias, self.epsilon)?,
            None => rms_norm(rows, &self.weight, self.epsilon)?,
        })
    }
}

pub struct Layer {
    /// Queries, keys and values; the queries carry the factor 1/√(head width), or their norm does.
    pub qkv: Linear,
    /// Of the queries and of the keys of a head.
    pub head_norms: Option<[Norm; 2]>,
    pub attention_output: Linear,
    /// After attention is added.
    pub attention_norm: Norm,
    /// What is activated, and then what that is multiplied with, if there is such.
    pub expand: Linear,
    pub contract: Linear,
    /// After the feed-forward block is added.
    pub output_norm: Norm,
    /// Places in [`Weights::rotations`] and [`Weights::biases`].
    pub rotation: Option<usize>,
    pub bias: Option<usize>,
}

pub struct Weights {
    /// `[vocabulary, hidden]`
    pub words: Tensor,
    /// `[positions, hidden]`, with the vector of the first type of tokens added to each; one row where there is no table.
    pub positions: Tensor,
    /// What a token of the second type has more than one of the first.
    pub second_type: Option<Tensor>,
    pub embedding_norm: Norm,
    pub layers: Vec<Layer>,
    /// Cosines and sines of all positions, `[positions, width / 2]` each, for one base of wave lengths.
    pub rotations: Vec<[Tensor; 2]>,
    /// On the processor: a table by distance, of which a pass takes what it needs.
    pub biases: Vec<Bias>,
    /// Numbers that have been uploaded, in bytes.
    pub bytes: usize,
}

impl Weights {
    /// Reads and uploads, a layer at a time, so that passes of other models need not wait for all of them.
    ///
    /// Errors: those of [`Checkpoint::read_f32`]; those of the device.
    pub fn upload(accelerator: &Accelerator, shape: &Shape, dtype: Dtype, checkpoint: &Checkpoint) -> Result<Self> {
        let reader = Reader::new(shape, dtype, checkpoint, true);
        // What is 8 bits on the processor is half precision here, which devices multiply as fast.
        let uploader = Uploader { device: accelerator.device(), shape, rounded: dtype == Dtype::Int8, reader };
        let mut weights = accelerator.turn(|_| uploader.tables())?;
        for index in 0..shape.layers.len() {
            let mut layer = accelerator.turn(|_| uploader.layer(index))?;
            layer.bias = uploader.reader.bias_of(&shape.layers[index], &mut weights.biases)?;
            weights.layers.push(layer);
        }
        weights.bytes += weights.biases.iter().map(Bias::bytes).sum::<usize>();
        Ok(weights)
    }
}

struct Uploader<'a> {
    device: &'a Device,
    shape: &'a Shape,
    rounded: bool,
    reader: Reader<'a>,
}

impl Uploader<'_> {
    /// Everything but the layers, which are counted already.
    fn tables(&self) -> Result<Weights> {
        let Shape { hidden, vocabulary, .. } = *self.shape;
        let words = self.reader.weight(self.reader.names.words, &[vocabulary, hidden])?;
        let (positions, second_type) = self.reader.positions_and_types()?;
        let table = |numbers: &[f32]| -> Result<Tensor> {
            Ok(Tensor::from_slice(numbers, (numbers.len() / hidden, hidden), self.device)?)
        };
        // A model may know more types than two; a pair has two.
        let second_type = second_type.get(..hidden).map(|second| vector(self.device, second)).transpose()?;
        let rotations = self.thetas().into_iter().map(|theta| self.rotation(theta)).collect::<Result<_>>()?;
        Ok(Weights {
            words: table(&words)?,
            positions: table(&positions)?,
            second_type,
            embedding_norm: self.norm(self.reader.names.embedding_norm)?,
            layers: Vec::new(),
            rotations,
            biases: self.reader.biases()?,
            bytes: (words.len() + positions.len()) * size_of::<f32>() + self.layer_bytes(),
        })
    }

    /// The bases of all layers, each once.
    fn thetas(&self) -> Vec<f32> {
        let mut thetas = Vec::new();
        for theta in self.shape.layers.iter().filter_map(|layer| layer.theta) {
            if !thetas.contains(&theta) {
                thetas.push(theta);
            }
        }
        thetas
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let Shape { hidden, feed_forward, heads, head_width, attention_bias, contract_bias, .. } = *self.shape;
        let name = |part: &str| format!("{}.{index}.{part}", self.reader.names.layer);
        let layer = format!("{}.{index}", self.reader.names.layer);
        let mut qkv = self.reader.qkv_parts(&layer)?;
        if let (Some(queries), false) = (qkv.first_mut(), self.shape.head_norms) {
            let Matrix { weight, bias } = queries;
            weight.iter_mut().chain(bias).for_each(|number| *number *= self.query_scale());
        }
        let attended = heads * head_width;
        let output = self.reader.matrix(&name(self.reader.names.attention_output), hidden, attended, attention_bias)?;
        let (activated, gate) = self.reader.expand_parts(&layer)?;
        let expand: Vec<Matrix> = std::iter::once(activated).chain(gate).collect();
        let contract = self.reader.matrix(&name(self.reader.names.contract), hidden, feed_forward, contract_bias)?;
        let [attention_norm, output_norm] = self.reader.norm_names(index);
        Ok(Layer {
            qkv: self.linear(&qkv, hidden)?,
            head_norms: self.head_norms(&layer)?,
            attention_output: self.linear(&[output], attended)?,
            attention_norm: self.norm(&attention_norm)?,
            expand: self.linear(&expand, hidden)?,
            contract: self.linear(&[contract], feed_forward)?,
            output_norm: self.norm(&output_norm)?,
            rotation: self.shape.layers[index].theta.and_then(|theta| self.thetas().iter().position(|it| *it == theta)),
            bias: None,
        })
    }

    fn query_scale(&self) -> f32 {
        1.0 / (self.shape.head_width as f32).sqrt()
    }

    /// Matrices with the same inputs as one.
    fn linear(&self, parts: &[Matrix], inputs: usize) -> Result<Linear> {
        let all = |of: fn(&Matrix) -> &Vec<f32>| parts.iter().flat_map(of).copied().collect::<Vec<f32>>();
        let (weight, bias) = (all(|part| &part.weight), all(|part| &part.bias));
        let outputs = bias.len();
        let matrix = linear::Matrix::of_f32(self.device, [outputs, inputs], &weight, self.rounded)?;
        let bias = bias.iter().any(|number| *number != 0.0).then_some(&*bias);
        Linear::new(self.device, vec![matrix], bias)
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let Matrix { weight, bias } = self.reader.norm_numbers(name)?;
        let centred = !self.shape.norms_by_length;
        Ok(Norm {
            weight: vector(self.device, &weight)?,
            bias: centred.then(|| vector(self.device, &bias)).transpose()?,
            epsilon: self.shape.norm_epsilon,
        })
    }

    fn head_norms(&self, layer: &str) -> Result<Option<[Norm; 2]>> {
        if !self.shape.head_norms {
            return Ok(None);
        }
        let read = |name: &str, scale: f32| -> Result<Norm> {
            let mut weight = self.reader.weight(&format!("{layer}.{name}"), &[self.shape.head_width])?;
            weight.iter_mut().for_each(|number| *number *= scale);
            Ok(Norm { weight: vector(self.device, &weight)?, bias: None, epsilon: self.shape.norm_epsilon })
        };
        let [queries, keys] = self.reader.names.head_norms;
        Ok(Some([read(queries, self.query_scale())?, read(keys, 1.0)?]))
    }

    fn rotation(&self, theta: f32) -> Result<[Tensor; 2]> {
        let positions = self.shape.positions;
        let frequencies = frequencies(theta, self.shape.head_width);
        let all = (0..positions).flat_map(|position| frequencies.iter().map(move |it| factors(position, *it).into()));
        let (cosines, sines): (Vec<f32>, Vec<f32>) = all.unzip();
        let table = |numbers| Tensor::from_vec(numbers, (positions, frequencies.len()), self.device);
        Ok([table(cosines)?, table(sines)?])
    }

    /// Bytes of the matrices of all layers.
    fn layer_bytes(&self) -> usize {
        let Shape { hidden, feed_forward, heads, key_heads, head_width, gated, ref layers, .. } = *self.shape;
        let attention = (2 * heads + 2 * key_heads) * head_width * hidden;
        let numbers = layers.len() * (attention + (2 + usize::from(gated)) * feed_forward * hidden);
        numbers * if self.rounded { 2 } else { size_of::<f32>() }
    }
}
