//! The plain form of every kernel: one `f32` accumulator, elements in order. The truth for the SIMD forms, and what
//! runs where there is none. Slices of unequal length are compared over the shorter one.

/// `Σ (a - b)²`.
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (x, y)| {
        let difference = x - y;
        sum + difference * difference
    })
}

/// `Σ a·b`.
pub fn inner_product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + x * y)
}

/// `Σ |a - b|`.
pub fn l1(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + (x - y).abs())
}

/// `[Σ a·b, Σ a², Σ b²]`.
pub fn cosine_sums(a: &[f32], b: &[f32]) -> [f32; 3] {
    a.iter()
        .zip(b)
        .fold([0.0; 3], |[product, norm_a, norm_b], (x, y)| [product + x * y, norm_a + x * x, norm_b + y * y])
}
