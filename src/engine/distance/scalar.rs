//! The plain form of every sum: elements in order, one accumulator. The truth that every instruction set is tested
//! against, written without anything they share.

use half::f16;

/// An element as the `f32` that sums are made of.
pub(crate) trait Element: Copy {
    fn to_single(self) -> f32;
}

impl Element for f32 {
    fn to_single(self) -> f32 {
        self
    }
}

impl Element for f16 {
    fn to_single(self) -> f32 {
        self.to_f32()
    }
}

fn sum<E: Element>(a: &[E], b: &[E], term: impl Fn(f32, f32) -> f32) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + term(x.to_single(), y.to_single()))
}

/// `Σ (a - b)²`.
pub(crate) fn l2_squared<E: Element>(a: &[E], b: &[E]) -> f32 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

/// `Σ a·b`.
pub(crate) fn inner_product<E: Element>(a: &[E], b: &[E]) -> f32 {
    sum(a, b, |x, y| x * y)
}

/// `Σ |a - b|`.
pub(crate) fn l1<E: Element>(a: &[E], b: &[E]) -> f32 {
    sum(a, b, |x, y| (x - y).abs())
}

/// One minus the cosine similarity.
pub(crate) fn cosine<E: Element>(a: &[E], b: &[E]) -> f64 {
    let (product, norm_a, norm_b) = (inner_product(a, b), inner_product(a, a), inner_product(b, b));
    let similarity = f64::from(product) / (f64::from(norm_a) * f64::from(norm_b)).sqrt();
    if similarity > 1.0 {
        0.0
    } else if similarity < -1.0 {
        2.0
    } else {
        1.0 - similarity
    }
}

/// Bits set in `combine(a, b)`.
pub(crate) fn count(a: &[u8], b: &[u8], combine: impl Fn(u8, u8) -> u8) -> u64 {
    a.iter().zip(b).map(|(x, y)| u64::from(combine(*x, *y).count_ones())).sum()
}
