//! Linear layers with weights packed once, when the model is loaded: in f32, or in 8 bits ([`super::quantized`]).
//!
//! The f32 weights of all layers lie in one allocation, the arena, in the order in which the inner loop reads them: a
//! short query streams them once at the speed of the memory, a batch runs at the speed of the multiplier.

use super::lanes::{blocks_of, Block, LANES};
use super::product::{multiply, Panels};
use super::quantized::{Codes, Quantized};
use super::shape::Activation;
use crate::compute::Crew;

/// Bytes of weights of a chunk when threads share the outputs. Longer runs come faster from memory, shorter ones let a
/// thread that is held back do less.
const CHUNK_BYTES: usize = 48 << 10;

/// Panels of a chunk: an even number, as tiles take two; few enough for four chunks a thread, as far as there are.
pub fn chunk_panels(panels: usize, panel_bytes: usize, threads: usize) -> usize {
    match threads {
        1 => panels,
        _ => ((CHUNK_BYTES / panel_bytes).min(panels / (4 * threads)) / 2 * 2).max(2),
    }
}

/// A linear layer of either kind.
pub enum Linear {
    Single(Single),
    Quantized(Quantized),
}

impl Linear {
    /// output ← activation(input · weightᵀ + bias) for the first `rows` rows, in panels of the input's stride. `codes` is
    /// a buffer that is kept between calls.
    #[allow(clippy::too_many_arguments)]
    pub fn apply(
        &self,
        arena: &[Block],
        crew: &mut Crew,
        input: Panels<'_>,
        rows: usize,
        activation: Option<Activation>,
        output: &mut [Block],
        codes: &mut Codes,
    ) {
        match self {
            Self::Single(linear) => linear.apply(arena, crew, input, rows, activation, output),
            Self::Quantized(linear) => linear.apply(crew, input, rows, activation, output, codes),
        }
    }

    /// Bytes that the layer holds outside the arena.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Single(linear) => size_of_val(&*linear.bias),
            Self::Quantized(linear) => linear.bytes(),
        }
    }
}

/// Weights in f32: their place in the arena, and the bias.
pub struct Single {
    inputs: usize,
    /// First block of the weights, which are `[panels, inputs]`; outputs past the last are zero.
    start: usize,
    /// One block for each panel.
    bias: Vec<Block>,
}

impl Single {
    /// Packs `weight`, which is `[outputs, inputs]`, at the end of the arena; `bias` has one number for each output.
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize, arena: &mut Vec<Block>) -> Self {
        let start = arena.len();
        for panel in weight.chunks(LANES * inputs) {
            let rows: Vec<&[f32]> = panel.chunks_exact(inputs).collect();
            arena.extend((0..inputs).map(|input| {
                let mut block = Block::ZERO;
                for (lane, row) in block.0.iter_mut().zip(&rows) {
                    *lane = row[input];
                }
                block
            }));
        }
        Self { inputs, start, bias: blocks_of(bias) }
    }

    pub fn apply(
        &self,
        arena: &[Block],
        crew: &mut Crew,
        input: Panels<'_>,
        rows: usize,
        activation: Option<Activation>,
        output: &mut [Block],
    ) {
        let Self { inputs, ref bias, .. } = *self;
        let stride = input.stride;
        let weights = &arena[self.start..][..bias.len() * inputs];
        let panels = chunk_panels(bias.len(), inputs * size_of::<Block>(), crew.threads());
        crew.for_chunks_mut(&mut output[..bias.len() * stride], panels * stride, |chunk, output| {
            let first = chunk * panels;
            let count = output.len() / stride;
            let weights = &weights[first * inputs..][..count * inputs];
            multiply(weights, inputs, &bias[first..][..count], input, rows, activation, output, stride);
        });
    }
}
