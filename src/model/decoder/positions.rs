//! What a model folder says of the positions, as numbers: [`Positions::tables`] makes the angles of it, and the quantiser
//! writes the numbers to a GGUF file.

use super::rope::Frequencies;

/// How positions are rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct Positions {
    pub base: f32,
    /// Leading dimensions of a head that are rotated.
    pub dims: usize,
    pub scaling: Scaling,
    /// Of the layers with a window, where these have a base of their own; nothing is scaled there.
    pub local_base: Option<f32>,
}

/// How they reach beyond those that the model was first trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    Linear(f32),
    /// One for each frequency (Llama 3's).
    Divisors(Vec<f32>),
    Yarn {
        factor: f32,
        /// The fast one, then the slow one.
        betas: [f32; 2],
        original: usize,
        magnitude: f32,
    },
    /// Divisors for sequences of at most `original` tokens, and others for longer ones (Phi-3's).
    ShortAndLong {
        short: Vec<f32>,
        long: Vec<f32>,
        original: usize,
        magnitude: f32,
    },
}

impl Positions {
    /// One table, or two where layers with a window have a base of their own.
    pub fn tables(&self) -> Vec<Frequencies> {
        let (base, dims) = (self.base, self.dims);
        let table = match &self.scaling {
            Scaling::Linear(factor) => Frequencies::divided(base, dims, *factor, &vec![1.0; dims / 2]),
            Scaling::Divisors(divisors) => Frequencies::divided(base, dims, 1.0, divisors),
            Scaling::Yarn { factor, betas, original, magnitude } => {
                Frequencies::yarn(base, dims, *factor, *betas, *original as f32, *magnitude)
            }
            Scaling::ShortAndLong { short, long, original, magnitude } => {
                Frequencies::long_and_short(base, dims, [short, long], *original, *magnitude)
            }
        };
        let local = self.local_base.map(|base| Frequencies::plain(base, dims));
        std::iter::once(table).chain(local).collect()
    }
}

/// What YaRN multiplies cosines and sines by, where nothing else is said.
pub fn yarn_magnitude(factor: f32) -> f32 {
    1.0 + 0.1 * factor.max(1.0).ln()
}
