//! Small layers over one vector a text: dense layers after pooling, and what makes a score of it.

use super::kernels::{add_norm, Norm};
use super::lanes::{blocks_of, Block, LANES};
use super::linear::Single;
use super::product::Panels;
use super::shape::Activation;
use crate::compute::Crew;
use crate::error::Result;
use crate::source::safetensors::Checkpoint;

/// What follows a dense layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeadActivation {
    None,
    Of(Activation),
    Tanh,
    Sigmoid,
}

impl HeadActivation {
    /// Applies what the product itself has not applied.
    fn finish(self, values: &mut [f32]) {
        match self {
            Self::None | Self::Of(_) => {}
            Self::Tanh => values.iter_mut().for_each(|value| *value = value.tanh()),
            Self::Sigmoid => values.iter_mut().for_each(|value| *value = sigmoid(*value)),
        }
    }
}

/// 1 / (1 + e⁻ˣ)
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A dense layer: activation(input · weightᵀ + bias).
pub struct Dense {
    outputs: usize,
    arena: Vec<Block>,
    linear: Single,
    activation: HeadActivation,
}

impl Dense {
    /// Reads `name` and its bias, if there is to be one.
    ///
    /// Errors: those of [`Checkpoint::read_f32`].
    pub fn load(
        checkpoint: &Checkpoint,
        name: &str,
        (outputs, inputs): (usize, usize),
        bias: bool,
        activation: HeadActivation,
    ) -> Result<Self> {
        let (mut weight, mut biases) = (Vec::new(), Vec::new());
        checkpoint.read_f32(&format!("{name}.weight"), &[outputs, inputs], &mut weight)?;
        match bias {
            true => checkpoint.read_f32(&format!("{name}.bias"), &[outputs], &mut biases)?,
            false => biases.resize(outputs, 0.0),
        }
        let mut arena = Vec::new();
        let linear = Single::new(&weight, &biases, inputs, &mut arena);
        Ok(Self { outputs, arena, linear, activation })
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&*self.arena)
    }

    /// The layer's outputs.
    pub fn apply(&self, input: &[f32]) -> Vec<f32> {
        let activation = match self.activation {
            HeadActivation::Of(activation) => Some(activation),
            _ => None,
        };
        let input = blocks_of(input);
        let mut output = vec![Block::ZERO; self.outputs.div_ceil(LANES)];
        let panels = Panels { blocks: &input, stride: 1 };
        self.linear.apply(&self.arena, &mut Crew::alone(), panels, 1, activation, &mut output);
        let mut values = Vec::with_capacity(self.outputs);
        Panels { blocks: &output, stride: 1 }.copy_rows(0..1, self.outputs, &mut values);
        self.activation.finish(&mut values);
        values
    }
}

/// norm(values)
pub fn normalized(values: &[f32], norm: &Norm) -> Vec<f32> {
    let mut blocks = blocks_of(values);
    let zeros = vec![Block::ZERO; blocks.len()];
    add_norm(&mut blocks, &zeros, 1, 1, norm);
    let mut result = Vec::with_capacity(values.len());
    Panels { blocks: &blocks, stride: 1 }.copy_rows(0..1, values.len(), &mut result);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmoid_is_right_at_both_ends() {
        assert_eq!((sigmoid(0.0), sigmoid(200.0), sigmoid(-200.0)), (0.5, 1.0, 0.0));
        assert!((sigmoid(1.0) - 0.731_058_6).abs() < 1e-7);
    }
}
