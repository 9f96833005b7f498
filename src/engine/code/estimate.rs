//! From the integer product of two quantised vectors to their distance, and to a distance they certainly have.
//!
//! With `x̂ = x + e` and `q̂ = q + f` for what the integers stand for, and errors orthogonal to their vectors (see
//! `quantise`), `⟨x̂, q̂⟩ − ⟨x, q⟩ = ⟨e, q − x⟩ + ⟨f, x − q⟩ + ⟨e, f⟩`. The estimate takes the left product for the
//! right one: errors of random direction leave a deviation of about `2·‖e‖·‖x − q‖/√d` in the squared distance. What is
//! certain is Cauchy and Schwarz: with `δ = ‖x − q‖`, its square is at least `estimate − 2·(‖e‖ + ‖f‖)·δ − 2·‖e‖·‖f‖`,
//! which is solved for `δ`. The other metrics follow from `δ`.

use super::layout::Factors;
use crate::distance::Metric;

/// What is computed; its metric is never [`Metric::L1`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate(pub(super) Metric);

/// Factors of one side in the precision of the estimate: `f64`, in which nothing here overflows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    scale: f64,
    norm: f64,
    error: f64,
}

impl Side {
    #[inline(always)]
    pub(super) fn new(factors: Factors) -> Side {
        let Factors { scale, norm, error } = factors;
        Side { scale: f64::from(scale), norm: f64::from(norm), error: f64::from(error) }
    }
}

/// What rounding adds to the errors, as a share of the squares of the norms: the rotation in `f32` (some 30 roundings
/// deep), the factors, and the `f32` kernels that the bound is compared with.
const ROUNDING: f64 = 1.0 / (1 << 16) as f64;

impl Estimate {
    /// The distance, from the product of the integers.
    #[inline(always)]
    pub(super) fn distance(self, a: Side, b: Side, product: i32) -> f32 {
        let product = a.scale * b.scale * f64::from(product);
        number(match self.0 {
            Metric::InnerProduct => -product,
            Metric::Cosine => (1.0 - product).clamp(0.0, 2.0),
            _ => (a.norm * a.norm + b.norm * b.norm - 2.0 * product).max(0.0),
        })
    }

    /// A number that the true distance is not below.
    pub(super) fn bound(self, a: Side, b: Side, product: i32) -> f32 {
        let product = a.scale * b.scale * f64::from(product);
        let squares = a.norm * a.norm + b.norm * b.norm;
        let errors = a.error + b.error;
        let least = squares * (1.0 - ROUNDING) - 2.0 * product - 2.0 * a.error * b.error;
        // The δ at which δ² + 2·errors·δ = least; any smaller one would contradict the estimate.
        let delta = ((errors * errors + least).max(0.0).sqrt() - errors).max(0.0);
        let is_certain = errors < f64::INFINITY && product.is_finite();
        let (l2_squared, inner_product) = if is_certain {
            (delta * delta, (delta * delta - squares * (1.0 + ROUNDING)) / 2.0)
        } else {
            (0.0, f64::NEG_INFINITY)
        };
        let bound = match self.0 {
            Metric::InnerProduct => inner_product,
            Metric::Cosine => (1.0 + inner_product).clamp(0.0, 2.0),
            _ => l2_squared,
        };
        let bound = if bound.is_nan() { f64::NEG_INFINITY } else { bound - bound.abs() * (1.0 / (1 << 23) as f64) };
        // Rounding to `f32` must not carry it above, not even what is too small for a share of it to count.
        let rounded = bound as f32;
        if f64::from(rounded) > bound { rounded.next_down() } else { rounded }.min(f32::MAX)
    }
}

/// What is no number, as only bytes that are no code give, is as far as can be.
#[inline(always)]
pub(super) fn number(distance: f64) -> f32 {
    if distance.is_nan() {
        f32::INFINITY
    } else {
        distance as f32
    }
}
