//! Normalisation, activation and gating between the matrix products of a layer, over matrices in panels (see `product.rs`).
//!
//! Every kernel is written once over [`Lanes`]; see there for how the processor's instructions are chosen.
#![allow(unsafe_code)]

use super::lanes::{blocks_of, dispatch, exp, Block, Lanes, LANES};
use super::shape::Activation;

/// Scale and shift of a layer normalisation (Ba et al., 2016, "Layer normalization").
pub struct Norm {
    width: usize,
    /// Whether the mean is taken away.
    centred: bool,
    /// One block for each panel; lanes past the width are zero.
    weight: Vec<Block>,
    bias: Vec<Block>,
    epsilon: f32,
}

impl Norm {
    /// `weight` and `bias` have one number for each column.
    pub fn new(weight: &[f32], bias: &[f32], epsilon: f32) -> Self {
        Self { width: weight.len(), centred: true, weight: blocks_of(weight), bias: blocks_of(bias), epsilon }
    }

    /// The norm by length alone. `weight` may have zeros between the numbers of a row of `width`.
    pub fn by_length(weight: &[f32], width: usize, epsilon: f32) -> Self {
        let bias = vec![Block::ZERO; weight.len().div_ceil(LANES)];
        Self { width, centred: false, weight: blocks_of(weight), bias, epsilon }
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&*self.weight) + size_of_val(&*self.bias)
    }
}

dispatch! {
    /// rows ← norm(rows + addend) for the first `count` rows of two matrices in panels of `stride` rows. Lanes past the
    /// norm's width are zero before and after.
    pub fn add_norm(rows: &mut [Block], addend: &[Block], stride: usize, count: usize, norm: &Norm) = add_norm_kernel;
    /// rows ← rows + addend, and output ← norm(rows); else as [`add_norm`].
    pub fn add_norm_to(
        rows: &mut [Block], addend: &[Block], output: &mut [Block], stride: usize, count: usize, norm: &Norm,
    ) = add_norm_to_kernel;
    /// rows ← norm(rows), a norm by length; else as [`add_norm`].
    pub fn norm_by_length(rows: &mut [Block], stride: usize, count: usize, norm: &Norm) = norm_by_length_kernel;
    /// rows ← rows · factors, number by number.
    pub fn multiply_by(rows: &mut [Block], factors: &[Block]) = multiply_by_kernel;
}

#[inline(always)]
fn add_norm_kernel<L: Lanes>(rows: &mut [Block], addend: &[Block], stride: usize, count: usize, norm: &Norm) {
    for row in 0..count {
        let (mean, scale) = add_row::<L>(rows, addend, stride, row, norm);
        for (panel, (weight, bias)) in norm.weight.iter().zip(&norm.bias).enumerate() {
            let row = &mut rows[panel * stride + row];
            let centred = L::load(row).sub(mean).mul(scale);
            centred.mul_add(L::load(weight), L::load(bias)).store(row);
        }
    }
}

#[inline(always)]
fn add_norm_to_kernel<L: Lanes>(
    rows: &mut [Block],
    addend: &[Block],
    output: &mut [Block],
    stride: usize,
    count: usize,
    norm: &Norm,
) {
    for row in 0..count {
        let (mean, scale) = add_row::<L>(rows, addend, stride, row, norm);
        for (panel, (weight, bias)) in norm.weight.iter().zip(&norm.bias).enumerate() {
            let at = panel * stride + row;
            let centred = L::load(&rows[at]).sub(mean).mul(scale);
            centred.mul_add(L::load(weight), L::load(bias)).store(&mut output[at]);
        }
    }
}

/// One row ← row + addend; its mean, and 1 / its standard deviation.
#[inline(always)]
fn add_row<L: Lanes>(rows: &mut [Block], addend: &[Block], stride: usize, row: usize, norm: &Norm) -> (L, L) {
    let panels = norm.weight.len();
    let padding = (panels * LANES - norm.width) as f32;
    let mut sum = L::splat(0.0);
    for panel in 0..panels {
        let at = panel * stride + row;
        let value = L::load(&rows[at]).add(L::load(&addend[at]));
        value.store(&mut rows[at]);
        sum = sum.add(value);
    }
    let mean = if norm.centred { sum.sum() / norm.width as f32 } else { 0.0 };
    let mut squares = L::splat(0.0);
    for panel in 0..panels {
        let centred = L::load(&rows[panel * stride + row]).sub(L::splat(mean));
        squares = centred.mul_add(centred, squares);
    }
    // Each lane of padding has counted as a zero.
    let variance = (squares.sum() - padding * mean * mean) / norm.width as f32;
    (L::splat(mean), L::splat(1.0 / (variance + norm.epsilon).sqrt()))
}

#[inline(always)]
fn norm_by_length_kernel<L: Lanes>(rows: &mut [Block], stride: usize, count: usize, norm: &Norm) {
    for row in 0..count {
        let mut squares = L::splat(0.0);
        for panel in 0..norm.weight.len() {
            let value = L::load(&rows[panel * stride + row]);
            squares = value.mul_add(value, squares);
        }
        let scale = L::splat(1.0 / (squares.sum() / norm.width as f32 + norm.epsilon).sqrt());
        for (panel, weight) in norm.weight.iter().enumerate() {
            let row = &mut rows[panel * stride + row];
            L::load(row).mul(scale).mul(L::load(weight)).store(row);
        }
    }
}

#[inline(always)]
fn multiply_by_kernel<L: Lanes>(rows: &mut [Block], factors: &[Block]) {
    for (row, factor) in rows.iter_mut().zip(factors) {
        L::load(row).mul(L::load(factor)).store(row);
    }
}

/// Applies the activation to every number. For use inside other kernels.
#[inline(always)]
pub fn activate<L: Lanes>(blocks: &mut [Block], activation: Activation) {
    // Loops, not closures: calls through those may be compiled without the caller's instructions.
    match activation {
        Activation::Gelu => {
            for block in blocks {
                gelu(L::load(block)).store(block);
            }
        }
        Activation::GeluTanh => {
            for block in blocks {
                gelu_tanh(L::load(block)).store(block);
            }
        }
        Activation::Relu => {
            for block in blocks {
                L::splat(0.0).max(L::load(block)).store(block);
            }
        }
        Activation::Silu => {
            for block in blocks {
                silu(L::load(block)).store(block);
            }
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
    let t = z.mul_add(L::splat(0.327_591_1), L::splat(1.0)).reciprocal();
    let mut polynomial = L::splat(1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        polynomial = polynomial.mul_add(t, L::splat(coefficient));
    }
    let erfc = polynomial.mul(t).mul(exp(L::splat(0.0).sub(z.mul(z))));
    // -|x| / 2 · erfc + max(x, 0)
    x.abs().mul(L::splat(-0.5)).mul_add(erfc, L::splat(0.0).max(x))
}

/// GELU by x·σ(2u), u = √(2/π)·(x + 0.044715 x³), which is what the tanh form amounts to.
#[inline(always)]
fn gelu_tanh<L: Lanes>(x: L) -> L {
    let cubic = x.mul(x).mul_add(L::splat(0.044_715), L::splat(1.0)).mul(x);
    times_sigmoid(x, cubic.abs().mul(L::splat(-2.0 * 0.797_884_6)))
}

/// x·σ(x)
#[inline(always)]
fn silu<L: Lanes>(x: L) -> L {
    times_sigmoid(x, x.abs().mul(L::splat(-1.0)))
}

/// x·σ(v), where v has the sign of x and `minus_abs` is -|v|: so nothing can overflow.
#[inline(always)]
fn times_sigmoid<L: Lanes>(x: L, minus_abs: L) -> L {
    // x·σ(v) = max(x, 0) - |x|·e^(-|v|) / (1 + e^(-|v|)).
    let small = exp(minus_abs);
    let tail = small.mul(small.add(L::splat(1.0)).reciprocal());
    x.abs().mul(L::splat(-1.0)).mul_add(tail, L::splat(0.0).max(x))
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{limit::each_level, Portable};
    use super::*;

    dispatch! {
        fn activate_all(blocks: &mut [Block], activation: Activation) = activate_kernel;
    }

    #[inline(always)]
    fn activate_kernel<L: Lanes>(blocks: &mut [Block], activation: Activation) {
        activate::<L>(blocks, activation);
    }

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

    /// What all sets of instructions make of the values, up to rounding.
    fn activated(values: &[f32], activation: Activation) -> Vec<f32> {
        let mut results = Vec::new();
        each_level(|| {
            let mut blocks = blocks_of(values);
            activate_all(&mut blocks, activation);
            results.push(blocks.iter().flat_map(|block| block.0).take(values.len()).collect::<Vec<_>>());
        });
        for other in &results[1..] {
            assert!(results[0].iter().zip(other).all(|(a, b)| (a - b).abs() <= 1e-6 * (1.0 + b.abs())));
        }
        results.swap_remove(results.len() - 1)
    }

    fn grid() -> Vec<f32> {
        (-5000..5000).map(|i| i as f32 * 1e-3).collect()
    }

    #[test]
    fn gelu_agrees_with_the_error_function() {
        for (x, y) in grid().into_iter().zip(activated(&grid(), Activation::Gelu)) {
            let x = f64::from(x);
            let exact = 0.5 * x * (1.0 + erf(x / 2_f64.sqrt()));
            assert!((f64::from(y) - exact).abs() < 6e-7, "gelu({x}) = {y}, not {exact}");
        }
    }

    #[test]
    fn gelu_is_exact_far_from_zero() {
        let values = activated(&[100.0, 1e10, -100.0, -1e10, 30.0, -30.0, 0.0, 12.0], Activation::Gelu);
        let positive: Vec<f32> = values.iter().map(|x| x.max(0.0)).collect();
        assert_eq!(positive, [100.0, 1e10, 0.0, 0.0, 30.0, 0.0, 0.0, 12.0]);
        assert!(values.iter().all(|x| *x > -1e-25));
    }

    #[test]
    fn gelu_tanh_agrees_with_its_definition() {
        for (x, y) in grid().into_iter().zip(activated(&grid(), Activation::GeluTanh)) {
            let x = f64::from(x);
            let exact = 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
            assert!((f64::from(y) - exact).abs() < 6e-7, "gelu({x}) = {y}, not {exact}");
        }
    }

    #[test]
    fn silu_agrees_with_its_definition() {
        for (x, y) in grid().into_iter().zip(activated(&grid(), Activation::Silu)) {
            let x = f64::from(x);
            let exact = x / (1.0 + (-x).exp());
            assert!((f64::from(y) - exact).abs() < 6e-7, "silu({x}) = {y}, not {exact}");
        }
        let far = activated(&[1e10, -1e10, 200.0, -200.0], Activation::Silu);
        assert!(far[0] == 1e10 && far[2] == 200.0 && far[1].abs() < 1e-25 && far[3].abs() < 1e-25, "{far:?}");
    }

    #[test]
    fn relu_keeps_what_is_positive() {
        assert_eq!(activated(&[1.0, -1.0, -0.5, 2.0], Activation::Relu), [1.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn exp_is_accurate_and_stays_finite() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let mut lanes = Block::ZERO;
            exp(Portable::splat(x)).store(&mut lanes);
            let exact = f64::from(x).exp();
            assert!((f64::from(lanes.0[3]) / exact - 1.0).abs() < 3e-7, "exp({x}) = {}", lanes.0[3]);
        }
        let mut lanes = Block::ZERO;
        exp(Portable::splat(f32::NEG_INFINITY)).store(&mut lanes);
        assert!(lanes.0[0] > 0.0 && lanes.0[0] < 1e-37);
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
        const ROWS: usize = 3;
        const STRIDE: usize = 5;
        for width in [8, 16, 26, 5, 48] {
            let (weight, bias) = (noise(width, 1), noise(width, 2));
            let norm = Norm::new(&weight, &bias, 1e-5);
            let (addend, input) = (noise(width * ROWS, 4), noise(width * ROWS, 5));
            let panels = |values: &[f32]| {
                let mut blocks = vec![Block([9.0; LANES]); width.div_ceil(LANES) * STRIDE];
                for (row, values) in values.chunks(width).enumerate() {
                    for (panel, block) in blocks_of(values).into_iter().enumerate() {
                        blocks[panel * STRIDE + row] = block;
                    }
                }
                blocks
            };
            each_level(|| {
                let mut rows = panels(&input);
                add_norm(&mut rows, &panels(&addend), STRIDE, ROWS, &norm);
                for row in 0..ROWS {
                    let sums: Vec<f64> =
                        (row * width..(row + 1) * width).map(|i| f64::from(input[i]) + f64::from(addend[i])).collect();
                    let mean = sums.iter().sum::<f64>() / width as f64;
                    let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                    for i in 0..width {
                        let exact =
                            (sums[i] - mean) / (variance + 1e-5).sqrt() * f64::from(weight[i]) + f64::from(bias[i]);
                        let at = |blocks: &[Block]| f64::from(blocks[i / LANES * STRIDE + row].0[i % LANES]);
                        assert!((at(&rows) - exact).abs() < 1e-5);
                    }
                    let padding = &rows[(width.div_ceil(LANES) - 1) * STRIDE + row].0[(width - 1) % LANES + 1..];
                    assert!(padding.iter().all(|x| *x == 0.0));
                }
                // Rows that are not asked for stay as they are.
                assert_eq!(rows[ROWS], Block([9.0; LANES]));

                // The other form gives the same, and keeps the sums.
                let (mut sums, mut output) = (panels(&input), panels(&[]));
                add_norm_to(&mut sums, &panels(&addend), &mut output, STRIDE, ROWS, &norm);
                for row in 0..ROWS {
                    for panel in 0..width.div_ceil(LANES) {
                        let at = panel * STRIDE + row;
                        assert_eq!(output[at], rows[at]);
                        assert_eq!(sums[at].0[0], panels(&input)[at].0[0] + panels(&addend)[at].0[0]);
                    }
                }
                assert_eq!(output[ROWS], Block([9.0; LANES]));

                let by_length = Norm::by_length(&weight, width, 1e-5);
                let mut sums = panels(&input);
                add_norm_to(&mut sums, &panels(&addend), &mut output, STRIDE, ROWS, &by_length);
                norm_by_length(&mut sums, STRIDE, ROWS, &by_length);
                for row in 0..ROWS {
                    let at = |blocks: &[Block], i: usize| f64::from(blocks[i / LANES * STRIDE + row].0[i % LANES]);
                    let sum = |i: usize| f64::from(input[row * width + i]) + f64::from(addend[row * width + i]);
                    let mean = (0..width).map(|i| sum(i).powi(2)).sum::<f64>() / width as f64;
                    for (i, weight) in weight.iter().enumerate() {
                        let exact = sum(i) / (mean + 1e-5).sqrt() * f64::from(*weight);
                        assert!((at(&output, i) - exact).abs() < 1e-5 && (at(&sums, i) - exact).abs() < 1e-5);
                    }
                }
            });
        }
    }
}
