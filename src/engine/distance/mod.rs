//! Distances between vectors of equal dimensions, in single or half precision, and between bit strings. Elements are
//! taken as `f32` and summed in `f32`; roots and quotients are taken in `f64`, as pgvector does.
//!
//! The functions of a process are those of the best instruction set of its CPU ([`InstructionSet`]), all compiled from
//! one definition; a scalar form is the truth they are tested against. The operators of the SQL layer call
//! [`l2_squared`], [`inner_product`], [`cosine`], [`l1`], [`hamming`] and [`jaccard`]; inner loops take the function of
//! [`Metric::kernel`] once. Slices of unequal length are compared over the shorter one.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bits;
mod convert;
mod dispatch;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod operations;
mod portable;
mod prefetch;
#[cfg(test)]
pub(crate) mod scalar;
#[cfg(test)]
mod tests;

use std::f64::consts::PI;

use crate::vector::{check_same_dimensions, ArithmeticError, Element};

pub use bits::{hamming, jaccard};
pub use convert::{narrow, widen};
pub use dispatch::{InstructionSet, KernelTable, Kernels};
pub use prefetch::prefetch;

/// A distance: smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Euclidean distance, `<->`.
    L2,
    /// Squared Euclidean distance: the order of [`Metric::L2`] without the square root.
    L2Squared,
    /// Negative inner product, `<#>`.
    InnerProduct,
    /// One minus the cosine similarity, `<=>`: 0 to 2, NaN if a vector is zero.
    Cosine,
    /// Manhattan distance, `<+>`.
    L1,
}

impl Metric {
    /// The distance of two vectors, or an error if their dimensions differ.
    pub fn distance<E: Kernels + Element>(self, a: &[E], b: &[E]) -> Result<f64, ArithmeticError> {
        check_same_dimensions(a, b)?;
        Ok(self.kernel()(a, b))
    }

    /// The function that computes this distance on this CPU.
    pub fn kernel<E: Kernels>(self) -> fn(&[E], &[E]) -> f64 {
        let kernels = E::kernels();
        match self {
            Metric::L2 => kernels.l2_distance,
            Metric::L2Squared => kernels.l2_squared_distance,
            Metric::InnerProduct => kernels.negative_inner_product,
            Metric::Cosine => kernels.cosine,
            Metric::L1 => kernels.l1_distance,
        }
    }
}

/// `Σ (a - b)²`.
#[inline]
pub fn l2_squared<E: Kernels>(a: &[E], b: &[E]) -> f32 {
    (E::kernels().l2_squared)(a, b)
}

/// `Σ a·b`; the distance is its negative.
#[inline]
pub fn inner_product<E: Kernels>(a: &[E], b: &[E]) -> f32 {
    (E::kernels().inner_product)(a, b)
}

/// `Σ |a - b|`.
#[inline]
pub fn l1<E: Kernels>(a: &[E], b: &[E]) -> f32 {
    (E::kernels().l1)(a, b)
}

/// One minus the cosine similarity; NaN if one of the vectors is zero.
#[inline]
pub fn cosine<E: Kernels>(a: &[E], b: &[E]) -> f64 {
    (E::kernels().cosine)(a, b)
}

/// The angle between two unit vectors as a share of a half turn, 0 to 1. Unlike the cosine distance it satisfies the
/// triangle inequality, as clustering on the sphere requires.
pub fn spherical<E: Kernels>(a: &[E], b: &[E]) -> f64 {
    // Rounding can carry the product of unit vectors past ±1.
    f64::from(inner_product(a, b)).clamp(-1.0, 1.0).acos() / PI
}

/// The instruction set in use, as shown to users: "avx512", "avx2", "neon" or "scalar".
pub fn instruction_set() -> &'static str {
    InstructionSet::chosen().name()
}
