//! From what two sparse vectors have in common to their distance.
//!
//! Every distance is a function of the *sizes* of the two and of a sum over their common indices only, which are few
//! and quickly found. With `c = Σ x·y`: the inner product is `c`, the cosine is `c` by the norms, and
//! `Σ (x − y)² = Σ x² + Σ y² − 2c`. With `c = Σ min(|x|, |y|)` over the common indices where the signs agree,
//! `Σ |x − y| = Σ |x| + Σ |y| − 2c`. In `f64`, in which no product of `f32` is rounded and no sum overflows, that loses
//! nothing unless the vectors are nearly the same; those are compared element by element.

use crate::code::estimate::number;
use crate::distance::Metric;
use crate::sparse::distance::{for_each_common, l1, l2_squared};
use crate::sparse::SparseRef;

/// Below this share of the sizes a difference has lost digits that count.
const NEARLY_THE_SAME: f64 = 1.0 / (1 << 16) as f64;

/// A distance, and what it needs to know of vectors and pairs.
#[derive(Debug, Clone, Copy)]
pub(in crate::code) struct Measure(pub(in crate::code) Metric);

/// One side of a comparison.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) vector: SparseRef<'a>,
    pub(super) size: f64,
}

impl Measure {
    /// The size of a vector: what it has in common with itself. In the order in which common indices are added, so
    /// that from itself a vector has the distance 0.
    pub(super) fn size(self, vector: SparseRef<'_>) -> f64 {
        vector.values().iter().fold(0.0, |sum, value| sum + self.common(*value, *value))
    }

    /// What the values of a common index add to `c`; symmetric, and zero if either is zero.
    #[inline(always)]
    pub(super) fn common(self, x: f32, y: f32) -> f64 {
        match self.0 {
            Metric::L1 => f64::from(x.min(y).max(0.0) - x.max(y).min(0.0)),
            _ => f64::from(x) * f64::from(y),
        }
    }

    /// The distance of two vectors by walking along both; symmetric.
    #[inline]
    pub(super) fn between(self, a: Side<'_>, b: Side<'_>) -> f32 {
        let mut common = 0.0;
        // One loop for each kind of sum instead of a choice in every step.
        match self.0 {
            Metric::L1 => for_each_common(a.vector, b.vector, |x, y| common += Measure(Metric::L1).common(x, y)),
            _ => for_each_common(a.vector, b.vector, |x, y| common += Measure(Metric::L2).common(x, y)),
        }
        self.distance(a, b, common)
    }

    /// The distance, from what is common; never NaN.
    #[inline]
    pub(super) fn distance(self, a: Side<'_>, b: Side<'_>, common: f64) -> f32 {
        let apart = |element_by_element: fn(SparseRef<'_>, SparseRef<'_>) -> f32| {
            let sizes = a.size + b.size;
            let distance = sizes - 2.0 * common;
            if distance < sizes * NEARLY_THE_SAME {
                f64::from(element_by_element(a.vector, b.vector))
            } else {
                distance
            }
        };
        number(match self.0 {
            Metric::InnerProduct => -common,
            Metric::Cosine => {
                let norms = (a.size * b.size).sqrt();
                // A zero vector has no direction, and is as far from all as a perpendicular one.
                1.0 - if norms > 0.0 { (common / norms).clamp(-1.0, 1.0) } else { 0.0 }
            }
            Metric::L1 => apart(l1),
            Metric::L2 | Metric::L2Squared => apart(l2_squared),
        })
    }
}
