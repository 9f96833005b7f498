//! Codes of vectors: what an approximate index keeps of a vector and searches on, about a quarter of its size. No
//! training: a code is a function of the vector, the metric and a seed, so rows can be added at any time, on any
//! machine.
//!
//! - Vectors of 64 dimensions and more have 8-bit codes ([`Codec::new`]): a pseudo-random rotation, one step size per
//!   vector, three factors, an unbiased estimate of the distance from integer products, and a certain bound. On 60,000
//!   text embeddings of 384, 768 and 1536 dimensions the ten nearest codes are 0.994, 0.997 and 0.999 of the ten nearest
//!   vectors; all of these are among the first 20, and some 13 rows have to be read to be certain of them. The bytes are
//!   described in `layout`.
//! - Vectors of fewer, and those under [`Metric::L1`], are their own codes, as are bit strings.
//! - Sparse vectors have exact codes as long as they have elements ([`Codec::sparse`]); the bytes are described in
//!   `sparse`.
//!
//! The index compares a [`Query`] with codes during search and insertion, and codes with each other when it prunes
//! ([`Codec::distance_between`]). Distances order and prune candidates; what a user sees is computed from the row.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod codec;
mod dispatch;
mod estimate;
mod exact;
mod kernels;
mod layout;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod quantise;
mod query;
mod rotation;
mod sparse;
#[cfg(test)]
mod tests;
mod values;

pub use codec::{BitMetric, Codec, ElementType};
pub use query::Query;
pub use values::{CodeError, Values};

use crate::distance::Metric;

/// Dimensions from which vectors have 8-bit codes: below, their error costs recall and the factors eat what is saved.
const LEAST_QUANTISED_DIMENSIONS: usize = 64;

/// The instruction set that products of codes use, as shown to users: "avx512-vnni", "avx512", "avx-vnni", "avx2",
/// "neon" or "scalar".
pub fn instruction_set() -> &'static str {
    dispatch::ProductSet::chosen().name()
}

/// Whether codes of such dense vectors are estimates, of 8 bits a dimension.
pub(crate) fn is_quantised(metric: Metric, dimensions: usize) -> bool {
    metric != Metric::L1 && dimensions >= LEAST_QUANTISED_DIMENSIONS
}
