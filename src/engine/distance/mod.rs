//! Distances between vectors of equal dimensions. Sums are accumulated in `f32`, roots and quotients taken in `f64`,
//! as pgvector does.
//!
//! The kernels are chosen once per process from what the CPU offers; [`scalar`] is the truth they are tested against.
//! The operators of the SQL layer call [`l2_squared`], [`inner_product`], [`cosine`] and [`l1`]; inner loops take the function of [`Metric::kernel`] once.

pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use crate::vector::{check_same_dimensions, ArithmeticError};

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
    pub fn distance(self, a: &[f32], b: &[f32]) -> Result<f64, ArithmeticError> {
        check_same_dimensions(a, b)?;
        Ok(self.kernel()(a, b))
    }

    /// The function that computes this distance on this CPU. It reads the dimensions that both slices have.
    pub fn kernel(self) -> fn(&[f32], &[f32]) -> f64 {
        match self {
            Metric::L2 => |a, b| f64::from(l2_squared(a, b)).sqrt(),
            Metric::L2Squared => |a, b| f64::from(l2_squared(a, b)),
            Metric::InnerProduct => |a, b| -f64::from(inner_product(a, b)),
            Metric::Cosine => cosine,
            Metric::L1 => |a, b| f64::from(l1(a, b)),
        }
    }
}

/// The sums every metric is made of, in one instruction set.
#[derive(Clone, Copy)]
struct Kernels {
    l2_squared: fn(&[f32], &[f32]) -> f32,
    inner_product: fn(&[f32], &[f32]) -> f32,
    l1: fn(&[f32], &[f32]) -> f32,
    /// Inner product, squared norm of the first, squared norm of the second.
    cosine_sums: fn(&[f32], &[f32]) -> [f32; 3],
}

const SCALAR: Kernels = Kernels {
    l2_squared: scalar::l2_squared,
    inner_product: scalar::inner_product,
    l1: scalar::l1,
    cosine_sums: scalar::cosine_sums,
};

fn kernels() -> &'static Kernels {
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernels) = x86::detect() {
            return kernels;
        }
        SCALAR
    })
}

/// `Σ (a - b)²` over the dimensions that both slices have, as the three after it.
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    (kernels().l2_squared)(a, b)
}

/// `Σ a·b`; the distance is its negative.
pub fn inner_product(a: &[f32], b: &[f32]) -> f32 {
    (kernels().inner_product)(a, b)
}

/// `Σ |a - b|`.
pub fn l1(a: &[f32], b: &[f32]) -> f32 {
    (kernels().l1)(a, b)
}

/// One minus the cosine similarity; NaN if one of the vectors is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    cosine_distance((kernels().cosine_sums)(a, b))
}

/// Cosine distance from the three sums. The similarity is clamped, since rounding can carry it past ±1.
fn cosine_distance([product, norm_a, norm_b]: [f32; 3]) -> f64 {
    // One square root of the product in f64 is more exact than the product of two.
    let similarity = f64::from(product) / (f64::from(norm_a) * f64::from(norm_b)).sqrt();
    1.0 - similarity.clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distances() {
        let (a, b) = (&[1.0, 2.0, 3.0][..], &[4.0, 6.0, 3.0][..]);
        assert_eq!(Metric::L2.distance(a, b), Ok(5.0));
        assert_eq!(Metric::L2Squared.distance(a, b), Ok(25.0));
        assert_eq!(Metric::InnerProduct.distance(a, b), Ok(-25.0));
        assert_eq!(Metric::L1.distance(a, b), Ok(7.0));
        assert_eq!(Metric::Cosine.distance(&[1.0, 0.0], &[0.0, 2.0]), Ok(1.0));
        assert_eq!(Metric::Cosine.distance(&[1.0, 1.0], &[-1.0, -1.0]), Ok(2.0));
    }

    #[test]
    fn cosine_stays_in_range_and_is_nan_for_a_zero_vector() {
        let a = [0.1f32; 384];
        assert!(Metric::Cosine.distance(&a, &a).unwrap() >= 0.0);
        assert!(Metric::Cosine.distance(&[0.0, 0.0], &[1.0, 0.0]).unwrap().is_nan());
        // The squared norms overflow f32, as in pgvector: infinite norms with a finite or infinite product.
        assert!(Metric::Cosine.distance(&[3e38], &[3e38]).unwrap().is_nan());
    }

    #[test]
    fn different_dimensions_are_an_error() {
        let error = Metric::L2.distance(&[1.0, 2.0], &[3.0]).unwrap_err();
        assert_eq!(error.to_string(), "different vector dimensions 2 and 1");
    }
}
