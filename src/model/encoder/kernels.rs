//! The fused loops between the matrix products of a BERT layer. Rows are token vectors, contiguous and row-major.
//!
//! Every kernel is written once over [`Lanes`]; see there for how the processor's instructions are chosen.
#![allow(unsafe_code)]

use super::config::Activation;
use super::lanes::{dispatch, exp, Lanes, LANES};

/// Scale and shift of a layer normalisation (Ba et al., 2016, "Layer normalization").
pub struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub epsilon: f32,
}

/// Adds `bias` to every row of `rows` and applies the activation.
pub fn bias_activation(rows: &mut [f32], bias: &[f32], activation: Activation) {
    match activation {
        Activation::Gelu => bias_gelu(rows, bias),
        Activation::GeluTanh => bias_gelu_tanh(rows, bias),
        Activation::Relu => bias_relu(rows, bias),
    }
}

dispatch! {
    /// rows ← norm(rows + addend + bias), for rows as long as `bias`; `addend` has the same shape as `rows`.
    pub fn add_bias_norm(rows: &mut [f32], addend: &[f32], bias: &[f32], norm: &Norm) = add_bias_norm_kernel;
    fn bias_gelu(rows: &mut [f32], bias: &[f32]) = bias_gelu_kernel;
    fn bias_gelu_tanh(rows: &mut [f32], bias: &[f32]) = bias_gelu_tanh_kernel;
    fn bias_relu(rows: &mut [f32], bias: &[f32]) = bias_relu_kernel;
}

#[inline(always)]
fn add_bias_norm_kernel<L: Lanes>(rows: &mut [f32], addend: &[f32], bias: &[f32], norm: &Norm) {
    let width = bias.len();
    for (row, addend) in rows.chunks_exact_mut(width).zip(addend.chunks_exact(width)) {
        let mut sum = L::splat(0.0);
        let mut sum_tail = 0.0;
        let (heads, tail) = row.as_chunks_mut::<LANES>();
        let (addends, addend_tail) = addend.as_chunks::<LANES>();
        let (biases, bias_tail) = bias.as_chunks::<LANES>();
        for ((x, a), b) in heads.iter_mut().zip(addends).zip(biases) {
            let value = L::load(x).add(L::load(a)).add(L::load(b));
            value.store(x);
            sum = sum.add(value);
        }
        for ((x, a), b) in tail.iter_mut().zip(addend_tail).zip(bias_tail) {
            *x += a + b;
            sum_tail += *x;
        }
        let mean = (sum.sum() + sum_tail) / width as f32;

        let mut squares = L::splat(0.0);
        let mut squares_tail = 0.0;
        for x in heads.iter() {
            let centred = L::load(x).sub(L::splat(mean));
            squares = centred.mul_add(centred, squares);
        }
        for x in tail.iter() {
            squares_tail += (x - mean) * (x - mean);
        }
        let scale = 1.0 / ((squares.sum() + squares_tail) / width as f32 + norm.epsilon).sqrt();

        let (weights, weight_tail) = norm.weight.as_chunks::<LANES>();
        let (shifts, shift_tail) = norm.bias.as_chunks::<LANES>();
        for ((x, w), b) in heads.iter_mut().zip(weights).zip(shifts) {
            let centred = L::load(x).sub(L::splat(mean)).mul(L::splat(scale));
            centred.mul_add(L::load(w), L::load(b)).store(x);
        }
        for ((x, w), b) in tail.iter_mut().zip(weight_tail).zip(shift_tail) {
            *x = (*x - mean) * scale * w + b;
        }
    }
}

#[inline(always)]
fn bias_gelu_kernel<L: Lanes>(rows: &mut [f32], bias: &[f32]) {
    for_each_biased::<L, Gelu>(rows, bias);
}

#[inline(always)]
fn bias_gelu_tanh_kernel<L: Lanes>(rows: &mut [f32], bias: &[f32]) {
    for_each_biased::<L, GeluTanh>(rows, bias);
}

#[inline(always)]
fn bias_relu_kernel<L: Lanes>(rows: &mut [f32], bias: &[f32]) {
    for_each_biased::<L, Relu>(rows, bias);
}

/// A function of one number. Not a closure: calls through one are compiled without the caller's instructions, which
/// keeps every operation of the lanes a call of its own.
trait Curve {
    fn at<L: Lanes>(x: L) -> L;
}

struct Gelu;
struct GeluTanh;
struct Relu;

impl Curve for Gelu {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        gelu(x)
    }
}

impl Curve for GeluTanh {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        gelu_tanh(x)
    }
}

impl Curve for Relu {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        L::splat(0.0).max(x)
    }
}

/// x ← f(x + bias) for every element of every row.
#[inline(always)]
fn for_each_biased<L: Lanes, F: Curve>(rows: &mut [f32], bias: &[f32]) {
    let (biases, bias_tail) = bias.as_chunks::<LANES>();
    for row in rows.chunks_exact_mut(bias.len()) {
        let (heads, tail) = row.as_chunks_mut::<LANES>();
        for (x, b) in heads.iter_mut().zip(biases) {
            F::at(L::load(x).add(L::load(b))).store(x);
        }
        if !tail.is_empty() {
            let mut last = [0.0; LANES];
            for (value, (x, b)) in last.iter_mut().zip(tail.iter().zip(bias_tail)) {
                *value = x + b;
            }
            F::at(L::load(&last)).store(&mut last);
            tail.copy_from_slice(&last[..tail.len()]);
        }
    }
}

/// x · Φ(x), Φ the normal distribution function (Hendrycks and Gimpel, 2016), with an absolute error below
/// 1e-7 · max(1, |x|).
///
/// The complementary error function is formula 7.1.26 of Abramowitz and Stegun, "Handbook of mathematical functions":
/// erfc(z) ≈ (a₁t + … + a₅t⁵)·e^(-z²) with t = 1 / (1 + pz), for z ≥ 0. Φ(-|x|) = erfc(|x|/√2) / 2, so
/// x·Φ(x) = max(x, 0) - |x|·Φ(-|x|) holds for both signs without cancellation.
#[inline(always)]
fn gelu<L: Lanes>(x: L) -> L {
    let z = x.abs().mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = L::splat(1.0).div(z.mul_add(L::splat(0.327_591_1), L::splat(1.0)));
    let mut polynomial = L::splat(1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        polynomial = polynomial.mul_add(t, L::splat(coefficient));
    }
    let erfc = polynomial.mul(t).mul(exp(L::splat(0.0).sub(z.mul(z))));
    // -|x| / 2 · erfc + max(x, 0)
    x.abs().mul(L::splat(-0.5)).mul_add(erfc, L::splat(0.0).max(x))
}

/// GELU by x / (1 + e^(-2u)), u = √(2/π)·(x + 0.044715 x³), which is what the tanh form amounts to.
#[inline(always)]
fn gelu_tanh<L: Lanes>(x: L) -> L {
    let cubic = x.mul(x).mul_add(L::splat(0.044_715), L::splat(1.0)).mul(x);
    // e^(-2|u|) cannot overflow: x·σ(2u) = max(x, 0) - |x|·e^(-2|u|) / (1 + e^(-2|u|)).
    let small = exp(cubic.abs().mul(L::splat(-2.0 * 0.797_884_6)));
    let tail = small.div(small.add(L::splat(1.0)));
    x.abs().mul(L::splat(-1.0)).mul_add(tail, L::splat(0.0).max(x))
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    /// erf by its Maclaurin series in double precision, enough terms for |x| ≤ 6.
    fn erf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for n in 1..300 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn grid() -> Vec<f32> {
        (-5000..5000).map(|i| i as f32 * 1e-3).collect()
    }

    #[test]
    fn gelu_agrees_with_the_error_function() {
        let mut values = grid();
        // Rows of 10 exercise the part that does not fill the lanes.
        bias_activation(&mut values, &[0.0; 10], Activation::Gelu);
        for (x, y) in grid().into_iter().zip(values) {
            let x = f64::from(x);
            let exact = 0.5 * x * (1.0 + erf(x / 2_f64.sqrt()));
            assert!((f64::from(y) - exact).abs() < 6e-7, "gelu({x}) = {y}, not {exact}");
        }
    }

    #[test]
    fn gelu_is_exact_far_from_zero() {
        let mut values = [100.0, 1e10, -100.0, -1e10, 30.0, -30.0, 0.0, 12.0];
        bias_activation(&mut values, &[0.0; 8], Activation::Gelu);
        assert_eq!(values.map(|x| x.max(0.0)), [100.0, 1e10, 0.0, 0.0, 30.0, 0.0, 0.0, 12.0]);
        assert!(values.iter().all(|x| *x > -1e-25));
    }

    #[test]
    fn gelu_tanh_agrees_with_its_definition() {
        let mut values = grid();
        bias_activation(&mut values, &[0.0; 10], Activation::GeluTanh);
        for (x, y) in grid().into_iter().zip(values) {
            let x = f64::from(x);
            let exact = 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
            assert!((f64::from(y) - exact).abs() < 6e-7, "gelu({x}) = {y}, not {exact}");
        }
    }

    #[test]
    fn relu_adds_the_bias_first() {
        let mut values = [1.0, -1.0, -3.0, 2.0, 0.5, 0.5];
        bias_activation(&mut values, &[2.0, -1.0, 1.0], Activation::Relu);
        assert_eq!(values, [3.0, 0.0, 0.0, 4.0, 0.0, 1.5]);
    }

    #[test]
    fn exp_is_accurate_and_stays_finite() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let mut lanes = [0.0; LANES];
            exp(Portable::splat(x)).store(&mut lanes);
            let exact = f64::from(x).exp();
            assert!((f64::from(lanes[3]) / exact - 1.0).abs() < 3e-7, "exp({x}) = {}", lanes[3]);
        }
        let mut lanes = [0.0; LANES];
        exp(Portable::splat(f32::NEG_INFINITY)).store(&mut lanes);
        assert!(lanes[0] > 0.0 && lanes[0] < 1e-37);
    }

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn norm_agrees_with_double_precision() {
        for width in [8, 16, 26, 5] {
            let norm = Norm { weight: noise(width, 1), bias: noise(width, 2), epsilon: 1e-5 };
            let bias = noise(width, 3);
            let addend = noise(width * 3, 4);
            let input = noise(width * 3, 5);
            let mut rows = input.clone();
            add_bias_norm(&mut rows, &addend, &bias, &norm);
            for row in 0..3 {
                let sums: Vec<f64> = (0..width)
                    .map(|i| {
                        f64::from(input[row * width + i]) + f64::from(addend[row * width + i]) + f64::from(bias[i])
                    })
                    .collect();
                let mean = sums.iter().sum::<f64>() / width as f64;
                let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                for i in 0..width {
                    let scaled = (sums[i] - mean) / (variance + 1e-5).sqrt();
                    let exact = scaled * f64::from(norm.weight[i]) + f64::from(norm.bias[i]);
                    assert!((f64::from(rows[row * width + i]) - exact).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn dispatched_kernels_agree_with_the_portable_ones() {
        let width = 27;
        let bias = noise(width, 7);
        let input = noise(width * 4, 8);
        let norm = Norm { weight: noise(width, 9), bias: noise(width, 10), epsilon: 1e-12 };
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);

        let (mut fast, mut truth) = (input.clone(), input.clone());
        bias_gelu(&mut fast, &bias);
        bias_gelu_kernel::<Portable>(&mut truth, &bias);
        assert!(close(&fast, &truth));

        let (mut fast, mut truth) = (input.clone(), input.clone());
        bias_gelu_tanh(&mut fast, &bias);
        bias_gelu_tanh_kernel::<Portable>(&mut truth, &bias);
        assert!(close(&fast, &truth));

        let (mut fast, mut truth) = (input.clone(), input.clone());
        add_bias_norm(&mut fast, &input, &bias, &norm);
        add_bias_norm_kernel::<Portable>(&mut truth, &input, &bias, &norm);
        assert!(close(&fast, &truth));
    }
}
