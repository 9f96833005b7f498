//! Element types that tensors can be read in and written as.

use super::block;
use crate::compute::dense::Element;
use crate::compute::quant::{BlockFormat, UNIT};
use half::{bf16, f16};

/// How the elements of a tensor lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    Numbers(Element),
    Blocks(BlockFormat),
}

/// Name in GGUF and number there of each type.
const TYPES: [(TensorType, &str, u32); 13] = [
    (TensorType::Numbers(Element::F32), "F32", 0),
    (TensorType::Numbers(Element::F16), "F16", 1),
    (TensorType::Blocks(BlockFormat::Q4_0), "Q4_0", 2),
    (TensorType::Blocks(BlockFormat::Q4_1), "Q4_1", 3),
    (TensorType::Blocks(BlockFormat::Q5_0), "Q5_0", 6),
    (TensorType::Blocks(BlockFormat::Q5_1), "Q5_1", 7),
    (TensorType::Blocks(BlockFormat::Q8_0), "Q8_0", 8),
    (TensorType::Blocks(BlockFormat::Q2_K), "Q2_K", 10),
    (TensorType::Blocks(BlockFormat::Q3_K), "Q3_K", 11),
    (TensorType::Blocks(BlockFormat::Q4_K), "Q4_K", 12),
    (TensorType::Blocks(BlockFormat::Q5_K), "Q5_K", 13),
    (TensorType::Blocks(BlockFormat::Q6_K), "Q6_K", 14),
    (TensorType::Numbers(Element::BF16), "BF16", 30),
];

impl TensorType {
    pub const F32: Self = TensorType::Numbers(Element::F32);
    pub const F16: Self = TensorType::Numbers(Element::F16);
    pub const BF16: Self = TensorType::Numbers(Element::BF16);

    /// The type with this name in GGUF; `None` for one that cannot be read here.
    pub fn named(name: &str) -> Option<Self> {
        TYPES.iter().find(|(_, known, _)| *known == name).map(|(kind, ..)| *kind)
    }

    fn row(self) -> (&'static str, u32) {
        TYPES.iter().find(|(kind, ..)| *kind == self).map_or(("", u32::MAX), |(_, name, number)| (name, *number))
    }

    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The number that stands for it in a GGUF file.
    pub fn number(self) -> u32 {
        self.row().1
    }

    /// Elements that are stored together; rows consist of whole blocks.
    pub fn block_elements(self) -> usize {
        match self {
            TensorType::Numbers(_) => 1,
            TensorType::Blocks(format) => UNIT * format.block_units(),
        }
    }

    /// Bytes of so many elements, which are whole blocks.
    pub fn bytes(self, elements: u64) -> u64 {
        let block_bytes = match self {
            TensorType::Numbers(element) => element.bytes(),
            TensorType::Blocks(format) => format.block_bytes(),
        };
        elements / self.block_elements() as u64 * block_bytes as u64
    }

    /// The largest magnitude of a weight that can be written.
    pub fn largest(self) -> f32 {
        match self {
            TensorType::F32 | TensorType::BF16 => f32::MAX,
            _ => super::pack::LARGEST,
        }
    }

    /// Numbers of whole blocks, from their bytes.
    pub fn expand(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            TensorType::Numbers(element) => element.expand(bytes, out),
            TensorType::Blocks(format) => format.expand(bytes, out),
        }
    }

    /// Bytes of whole blocks, from finite numbers that are not beyond [`TensorType::largest`].
    pub fn quantise(self, numbers: &[f32], out: &mut [u8]) {
        match self {
            TensorType::Blocks(format) => block::quantise(format, numbers, out),
            TensorType::Numbers(Element::F32) => {
                out.as_chunks_mut::<4>().0.iter_mut().zip(numbers).for_each(|(out, x)| *out = x.to_le_bytes());
            }
            TensorType::Numbers(Element::F16) => {
                let halves = numbers.iter().map(|&x| f16::from_f32(x).to_le_bytes());
                out.as_chunks_mut::<2>().0.iter_mut().zip(halves).for_each(|(out, half)| *out = half);
            }
            TensorType::Numbers(Element::BF16) => {
                let halves = numbers.iter().map(|&x| bf16::from_f32(x).to_le_bytes());
                out.as_chunks_mut::<2>().0.iter_mut().zip(halves).for_each(|(out, half)| *out = half);
            }
        }
    }
}
