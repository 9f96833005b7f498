//! Models with smaller weights: from float weights or another quantisation to one self-contained GGUF file.
//!
//! From the bottom up:
//! - `search`, `pack`, `block`: weights to the blocks of ggml;
//! - [`tensor_type`]: what tensors can be read in and written as.

mod block;
mod pack;
mod search;
pub mod tensor_type;

#[cfg(test)]
mod block_tests;

pub use tensor_type::TensorType;
