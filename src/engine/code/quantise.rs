//! From a vector to integers and [`Factors`]: rotated, then rounded to the nearest of equally spaced steps that reach
//! to the largest element.
//!
//! `scale` is not the step but `‖y‖² / ⟨c, y⟩` for the rotated vector `y` and its integers `c`, a little more than the
//! step. That makes the error `e = scale·c − y` orthogonal to `y`, so that in an inner product with a vector `q` only
//! the part of `q` that is not along `y` meets the error: `⟨e, q⟩ = ⟨e, q − y⟩`. Near neighbours, whose order matters,
//! get the least error, a vector has distance 0 to itself, and no correction for `‖e‖²` is needed. This is the
//! estimator of Gao and Long, "RaBitQ" (2024), extended to more bits by Gao et al. (2025).
//!
//! A search for better steps than those that reach to the largest element gains nothing with 8 bits (it does with 4).

use super::layout::Factors;
use super::rotation::Rotation;

/// The largest integer of a code.
const MOST_OF_CODE: f32 = 127.0;

/// The largest integer of a query.
const MOST_OF_QUERY: f32 = i16::MAX as f32;

/// The most that the magnitudes of a query's integers add up to: times the 128 that a byte of a code can be, below 2³¹.
pub(super) const SUM_OF_WORDS: usize = (1 << 24) - 1;

/// Factors from which `f32` loses digits; the estimates stay numbers, their error is not bounded.
const LEAST_SCALE: f64 = 1e-30;

/// An error is stored a little larger than it is, since it is rounded.
const ROUNDED_UP: f64 = 1.0 + 1.0 / (1 << 20) as f64;

/// Integers of type `I` and what they stand for.
pub(super) struct Quantised<I> {
    pub(super) factors: Factors,
    pub(super) integers: Vec<I>,
}

/// A vector as it is stored; `normalised`: as if its length were 1.
pub(super) fn code(rotation: &Rotation, vector: &[f32], normalised: bool) -> Quantised<i8> {
    let turned = Turned::new(rotation, vector);
    turned.quantised(MOST_OF_CODE, normalised, |integer| integer as i8)
}

/// A query: as many digits as the exactness of the products allows.
pub(super) fn query(rotation: &Rotation, vector: &[f32], normalised: bool) -> Quantised<i16> {
    let turned = Turned::new(rotation, vector);
    let sum: f32 = side_by_side(&turned.elements, |sum, element| sum + element.abs()).iter().sum();
    // Rounding adds at most one half to each, and one part in a thousand allows for the rounding of the sum.
    let room = 0.999 * (SUM_OF_WORDS - turned.elements.len().min(SUM_OF_WORDS)) as f32;
    let most = (room * (turned.largest / sum)).min(MOST_OF_QUERY);
    turned.quantised(most, normalised, |integer| integer as i16)
}

/// A rotated vector times a power of two.
struct Turned {
    elements: Vec<f32>,
    largest: f32,
    /// What the elements have to be multiplied by.
    unit: f64,
}

impl Turned {
    fn new(rotation: &Rotation, vector: &[f32]) -> Turned {
        // The exponent of the largest element is taken out: sums of the rotation neither overflow nor lose digits.
        // In two steps, since the inverse of a subnormal is beyond `f32`.
        let exponent = exponent(largest(vector));
        let (half, rest) = (exponent / 2, exponent - exponent / 2);
        let (first, second) = (power_of_two(-half), power_of_two(-rest));
        let mut elements: Vec<f32> = vector.iter().map(|element| element * first * second).collect();
        rotation.apply(&mut elements);
        let largest = largest(&elements);
        let unit = f64::from(power_of_two(half)) * f64::from(power_of_two(rest));
        Turned { elements, largest, unit }
    }

    fn quantised<I>(self, most: f32, normalised: bool, integer: impl Fn(i32) -> I) -> Quantised<I> {
        let steps_per_one = if self.largest > 0.0 { most / self.largest } else { 0.0 };
        let limit = most as i32;
        let (integers, Sums { square, product, square_of_integers }) =
            rounded(&self.elements, |element| nearest(element * steps_per_one).clamp(-limit, limit), integer);
        let unit = if normalised && square > 0.0 { 1.0 / square.sqrt() } else { self.unit };
        // The product is zero for a zero vector only: else the largest element and its integer have the same sign.
        let scale = if product > 0.0 { (square / product * unit) as f32 } else { 0.0 };
        let rounded_scale = f64::from(scale) / unit;
        // ‖scale·c − y‖², multiplied out; `f64` has digits to spare for the difference.
        let missed = (rounded_scale * (rounded_scale * square_of_integers - 2.0 * product) + square).max(0.0);
        let norm = square.sqrt() * unit;
        let is_bounded = norm < f64::from(f32::MAX) && (norm == 0.0 || f64::from(scale) > LEAST_SCALE);
        let error = if is_bounded { (missed.sqrt() * unit * ROUNDED_UP) as f32 } else { f32::INFINITY };
        let norm = norm.min(f64::from(f32::MAX)) as f32;
        let factors = Factors { scale: scale.min(f32::MAX), norm, error };
        Quantised { factors, integers }
    }
}

/// The largest magnitude; NaN is passed over.
fn largest(elements: &[f32]) -> f32 {
    let lanes =
        side_by_side(elements, |largest, element| if element.abs() > largest { element.abs() } else { largest });
    lanes.into_iter().fold(0.0, f32::max)
}

/// Folds every eighth element from 0 on: what is left is independent of the CPU.
fn side_by_side(elements: &[f32], fold: impl Fn(f32, f32) -> f32) -> [f32; PARALLEL] {
    let mut lanes = [0.0; PARALLEL];
    let (groups, rest) = elements.as_chunks::<PARALLEL>();
    for group in groups {
        for (lane, element) in lanes.iter_mut().zip(group) {
            *lane = fold(*lane, *element);
        }
    }
    for (lane, element) in lanes.iter_mut().zip(rest) {
        *lane = fold(*lane, *element);
    }
    lanes
}

/// The least power of two above a positive number, as an exponent from -125 to 128.
fn exponent(value: f32) -> i32 {
    (value.clamp(f32::MIN_POSITIVE, f32::MAX).to_bits() >> 23) as i32 - 126
}

/// For exponents of normal numbers, -126 to 127.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// The nearest integer, ties to even, of a number below 2²²: added to 1.5·2²³ it is the last digits of the sum.
#[inline(always)]
fn nearest(value: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    ((value + SHIFT).to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32)
}

/// Of elements `y` and their integers `c`.
struct Sums {
    /// `Σ y²`.
    square: f64,
    /// `Σ c·y`.
    product: f64,
    /// `Σ c²`.
    square_of_integers: f64,
}

/// Sums side by side: registers full, and the same order of additions on every CPU.
const PARALLEL: usize = 8;

fn rounded<I>(elements: &[f32], round: impl Fn(f32) -> i32, integer: impl Fn(i32) -> I) -> (Vec<I>, Sums) {
    let mut integers = Vec::with_capacity(elements.len());
    let mut sums = [[0.0; PARALLEL]; 3];
    let mut add = |elements: [f32; PARALLEL], count: usize| {
        let mut rounded = [0; PARALLEL];
        for (to, element) in rounded.iter_mut().zip(elements) {
            *to = round(element);
        }
        for (lane, (element, rounded)) in elements.iter().zip(rounded).enumerate() {
            let (y, c) = (f64::from(*element), f64::from(rounded));
            sums[0][lane] += y * y;
            sums[1][lane] += c * y;
            sums[2][lane] += c * c;
        }
        integers.extend(rounded.iter().take(count).map(|rounded| integer(*rounded)));
    };
    let (groups, rest) = elements.as_chunks();
    groups.iter().for_each(|group| add(*group, PARALLEL));
    let mut last = [0.0; PARALLEL];
    last[..rest.len()].copy_from_slice(rest);
    add(last, rest.len());
    let [square, product, square_of_integers] = sums.map(|sums| sums.iter().sum());
    (integers, Sums { square, product, square_of_integers })
}
