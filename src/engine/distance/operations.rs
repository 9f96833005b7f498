//! The sums of the metrics as [`Operation`]s: one step over registers, and the number made of the totals. Called
//! through the tables of `dispatch`; every instruction set compiles them from here.
//!
//! The forms that return `f64` are the distances themselves, so that an inner loop over rows calls one function per
//! row: root, sign and quotient are taken where the sum was.

use super::lanes::{Lanes, Operation};

/// `Σ (a - b)²`.
pub(super) struct SquaredDifferences;

impl Operation<1> for SquaredDifferences {
    type Output = f32;

    #[inline(always)]
    fn step<L: Lanes>([sum]: [L; 1], a: L, b: L) -> [L; 1] {
        let difference = a.subtract(b);
        [difference.multiply_add(difference, sum)]
    }

    #[inline(always)]
    fn finish([sum]: [f32; 1]) -> f32 {
        sum
    }
}

/// `Σ a·b`.
pub(super) struct Products;

impl Operation<1> for Products {
    type Output = f32;

    #[inline(always)]
    fn step<L: Lanes>([sum]: [L; 1], a: L, b: L) -> [L; 1] {
        [a.multiply_add(b, sum)]
    }

    #[inline(always)]
    fn finish([sum]: [f32; 1]) -> f32 {
        sum
    }
}

/// `Σ |a - b|`.
pub(super) struct AbsoluteDifferences;

impl Operation<1> for AbsoluteDifferences {
    type Output = f32;

    #[inline(always)]
    fn step<L: Lanes>([sum]: [L; 1], a: L, b: L) -> [L; 1] {
        [sum.add(a.subtract(b).absolute())]
    }

    #[inline(always)]
    fn finish([sum]: [f32; 1]) -> f32 {
        sum
    }
}

/// One minus the cosine similarity.
pub(super) struct Cosine;

impl Operation<3> for Cosine {
    type Output = f64;

    #[inline(always)]
    fn step<L: Lanes>([product, norm_a, norm_b]: [L; 3], a: L, b: L) -> [L; 3] {
        [a.multiply_add(b, product), a.multiply_add(a, norm_a), b.multiply_add(b, norm_b)]
    }

    /// NaN for a zero vector, and for norms and product that all overflow. The similarity is clamped, since rounding
    /// can carry it past ±1; `clamp` keeps NaN.
    #[inline(always)]
    fn finish([product, norm_a, norm_b]: [f32; 3]) -> f64 {
        // One square root of the product in f64 is more exact than the product of two.
        let similarity = f64::from(product) / (f64::from(norm_a) * f64::from(norm_b)).sqrt();
        1.0 - similarity.clamp(-1.0, 1.0)
    }
}

/// `O` with another end.
macro_rules! distance {
    ($(#[$doc:meta])* $name:ident = $sum:ident, $total:ident => $distance:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Operation<1> for $name {
            type Output = f64;

            #[inline(always)]
            fn step<L: Lanes>(sums: [L; 1], a: L, b: L) -> [L; 1] {
                $sum::step(sums, a, b)
            }

            #[inline(always)]
            fn finish([$total]: [f32; 1]) -> f64 {
                $distance
            }
        }
    };
}

distance!(
    /// The Euclidean distance.
    Euclidean = SquaredDifferences, sum => f64::from(sum).sqrt()
);
distance!(
    /// Its square.
    EuclideanSquared = SquaredDifferences, sum => f64::from(sum)
);
distance!(
    /// The inner product, negated: smaller is nearer.
    NegativeProduct = Products, sum => -f64::from(sum)
);
distance!(
    /// The Manhattan distance.
    Manhattan = AbsoluteDifferences, sum => f64::from(sum)
);
