//! Scales of a group of weights: the ones with the least error that a small search finds.
//!
//! Rounding the largest weight to the largest number is not the best that a group can have: a somewhat smaller or larger
//! step often meets the other weights better. So several steps are tried. Each gives every weight its number, and for
//! fixed numbers the best scale (and offset) is a matter of least squares. Errors are weighted: what a weight is worth
//! grows with its size, since it is multiplied with an activation. Called by [`super::block`].

/// Adding and subtracting this rounds to the nearest whole number, ties to even, as long as the number is small; unlike a
/// call of the library it is compiled to vector instructions.
const ROUND: f32 = 12_582_912.0;

/// The nearest whole number between two.
#[inline(always)]
pub fn nearest(x: f32, low: f32, high: f32) -> f32 {
    (x.clamp(low, high) + ROUND) - ROUND
}

/// Steps beside the obvious one that a search tries, in tenths of the distance between neighbouring numbers.
const TRIES: i32 = 9;

/// What an error of each weight counts.
pub fn worths<const N: usize>(x: &[f32; N]) -> [f32; N] {
    let mean = x.iter().map(|x| x * x).sum::<f32>() / N as f32;
    let level = mean.sqrt();
    x.map(|x| level + x.abs())
}

/// The scale `d` with which `x ≈ d q` for whole numbers `q` between `low` and `high`, where `low` is the one of larger
/// magnitude. 0 if all weights are 0.
pub fn scale<const N: usize>(x: &[f32; N], worths: &[f32; N], low: f32, high: f32) -> f32 {
    let largest = x.iter().fold(0.0_f32, |largest, &x| if x.abs() > largest.abs() { x } else { largest });
    if largest == 0.0 {
        return 0.0;
    }
    let (mut best, mut best_gain) = (0.0, 0.0);
    // The weight of largest magnitude gets the number of largest magnitude; its sign decides the sign of the scale.
    for tenths in -TRIES..=TRIES {
        let inverse = (low + 0.1 * tenths as f32) / largest;
        let (mut xq, mut qq) = (0.0, 0.0);
        for (x, worth) in x.iter().zip(worths) {
            let q = nearest(x * inverse, low, high);
            xq += worth * x * q;
            qq += worth * q * q;
        }
        // The error is a constant minus this.
        let gain = if qq > 0.0 { xq * xq / qq } else { 0.0 };
        if gain > best_gain {
            (best, best_gain) = (xq / qq, gain);
        }
    }
    best
}

/// Scale and offset with which `x ≈ scale q + offset` for whole numbers `q` from 0 to `high`. With `below`, the offset is 0
/// or less.
pub fn scale_and_offset<const N: usize>(x: &[f32; N], worths: &[f32; N], high: f32, below: bool) -> (f32, f32) {
    let (mut low, mut top) = x.iter().fold((f32::MAX, f32::MIN), |(low, top), &x| (low.min(x), top.max(x)));
    if below {
        (low, top) = (low.min(0.0), top.max(0.0));
    }
    if top <= low {
        return (0.0, low);
    }
    let (mut sw, mut sx, mut sxx) = (0.0, 0.0, 0.0);
    for (x, worth) in x.iter().zip(worths) {
        sw += worth;
        sx += worth * x;
        sxx += worth * x * x;
    }
    let mut best = ((top - low) / high, low);
    let mut best_error = f32::MAX;
    for tenths in -TRIES..=TRIES {
        let inverse = (high + 0.1 * tenths as f32) / (top - low);
        let (mut sq, mut sqq, mut sxq) = (0.0, 0.0, 0.0);
        for (x, worth) in x.iter().zip(worths) {
            let q = nearest((x - low) * inverse, 0.0, high);
            sq += worth * q;
            sqq += worth * q * q;
            sxq += worth * x * q;
        }
        let determinant = sw * sqq - sq * sq;
        if determinant <= 0.0 {
            continue;
        }
        let mut scale = (sw * sxq - sx * sq) / determinant;
        let mut offset = (sqq * sx - sq * sxq) / determinant;
        if below && offset > 0.0 {
            (scale, offset) = (sxq / sqq, 0.0);
        }
        let error = sxx + scale * (scale * sqq - 2.0 * sxq) + offset * (offset * sw - 2.0 * sx + 2.0 * scale * sq);
        if error < best_error && scale > 0.0 {
            (best, best_error) = ((scale, offset), error);
        }
    }
    best
}
