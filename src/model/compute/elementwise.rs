//! Normalisation, activation and softmax over f32 slices.
//!
//! Each function is one portable body that the compiler turns into vector code twice: for the baseline CPU and for
//! AVX2 with FMA, chosen at run time. Sums run in 8 lanes, so both give nearly, not exactly, the same result.
#![allow(unsafe_code)]

/// Defines `$name`, which runs `$body` compiled for the best instructions that the CPU has.
macro_rules! dispatched {
    ($(#[$doc:meta])* $name:ident, $body:ident, ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        $(#[$doc])*
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the CPU has the instructions.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}

dispatched! {
    /// `out = x / sqrt(mean(x²) + epsilon) * weight` (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
    rms_norm, rms_norm_body, (x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32])
}

dispatched! {
    /// [`rms_norm`] of a row that takes the result.
    rms_norm_in_place, rms_norm_in_place_body, (x: &mut [f32], weight: &[f32], epsilon: f32)
}

dispatched! {
    /// `gate = gelu(gate) * up` with the approximation of the error function by a hyperbolic tangent (Hendrycks and
    /// Gimpel, "Gaussian Error Linear Units", 2016).
    gelu_multiply, gelu_multiply_body, (gate: &mut [f32], up: &[f32])
}

dispatched! {
    /// `x = cap * tanh(x / cap)` (Gemma Team, "Gemma 2", 2024).
    soft_cap, soft_cap_body, (x: &mut [f32], cap: f32)
}

dispatched! {
    /// `gate = silu(gate) * up`, the activation of a gated feed-forward layer (Shazeer, "GLU Variants Improve
    /// Transformer", 2020).
    silu_multiply, silu_multiply_body, (gate: &mut [f32], up: &[f32])
}

dispatched! {
    /// Replaces every score by `exp(scale * (score - maximum))` and returns the maximum, times `scale`, and the sum.
    /// Scores are finite and not empty.
    exp_from_maximum, exp_from_maximum_body, (scores: &mut [f32], scale: f32) -> (f32, f32)
}

dispatched! {
    /// `out += x`.
    add, add_body, (out: &mut [f32], x: &[f32])
}

const LANES: usize = 8;

#[inline(always)]
fn rms_norm_body(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let factor = rms_factor(x, epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

#[inline(always)]
fn rms_norm_in_place_body(x: &mut [f32], weight: &[f32], epsilon: f32) {
    let factor = rms_factor(x, epsilon);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * factor * weight;
    }
}

/// `1 / sqrt(mean(x²) + epsilon)`.
#[inline(always)]
fn rms_factor(x: &[f32], epsilon: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let mut sum: f32 = chunks.remainder().iter().map(|x| x * x).sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    sum += lanes.iter().sum::<f32>();
    1.0 / (sum / x.len().max(1) as f32 + epsilon).sqrt()
}

#[inline(always)]
fn gelu_multiply_body(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = *gate;
        let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
        // (1 + tanh(t)) / 2 is 1 / (1 + e^-2t).
        *gate = x / (1.0 + exp(-2.0 * inner)) * up;
    }
}

/// For the kernels of attention, which cap scores between two loops of their own.
#[inline(always)]
pub fn soft_cap_body(x: &mut [f32], cap: f32) {
    for x in x {
        *x = cap * (1.0 - 2.0 / (1.0 + exp(2.0 * (*x / cap))));
    }
}

#[inline(always)]
fn silu_multiply_body(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

#[inline(always)]
fn exp_from_maximum_body(scores: &mut [f32], scale: f32) -> (f32, f32) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = scores.chunks_exact(LANES);
    let mut maximum = chunks.remainder().iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = if score > *lane { score } else { *lane };
        }
    }
    maximum = lanes.iter().fold(maximum, |a, &b| if b > a { b } else { a });
    let mut lanes = [0.0_f32; LANES];
    let mut chunks = scores.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *score = exp((*score - maximum) * scale);
            *lane += *score;
        }
    }
    let mut sum = 0.0;
    for score in chunks.into_remainder() {
        *score = exp((*score - maximum) * scale);
        sum += *score;
    }
    (maximum * scale, sum + lanes.iter().sum::<f32>())
}

#[inline(always)]
fn add_body(out: &mut [f32], x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// `e^x` to about 2 units in the last place, without a call: `2^n · e^r` with |r| ≤ ln 2 / 2 and the Taylor polynomial of
/// degree 6 for `e^r`. Arguments outside ±87 give the value at the border.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    p * f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library() {
        for i in -87_000..=87_000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).exp();
            assert!(((f64::from(exp(x)) - want) / want).abs() < 5e-7, "exp({x}) = {}, not {want}", exp(x));
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(1e30).is_finite());
    }

    #[test]
    fn softmax_parts_equal_the_definition_for_every_length() {
        for len in 1..40 {
            let scores: Vec<f32> = (0..len).map(|i| ((i * 37 % 11) as f32 - 5.0) * 3.0).collect();
            let mut weights = scores.clone();
            let (maximum, sum) = exp_from_maximum(&mut weights, 0.5);
            let want_maximum = scores.iter().fold(f32::MIN, |a, &b| a.max(b));
            assert_eq!(maximum, want_maximum * 0.5);
            let want: Vec<f32> = scores.iter().map(|score| ((score - want_maximum) * 0.5).exp()).collect();
            assert!((sum - want.iter().sum::<f32>()).abs() < 1e-4);
            assert!(weights.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-5));
        }
    }

    #[test]
    fn every_function_equals_its_definition_for_every_length_with_and_without_avx2() {
        type Norm = fn(&[f32], &[f32], f32, &mut [f32]);
        type Two = fn(&mut [f32], &[f32]);
        let close = |got: f32, want: f64| (f64::from(got) - want).abs() <= 1e-5 * (1.0 + want.abs());
        for len in 1..=67 {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37 % 41) as f32 - 20.0) / 4.0).collect();
            let y: Vec<f32> = (0..len).map(|i| 1.0 + (i * 5 % 7) as f32).collect();
            let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            for norm in [rms_norm as Norm, rms_norm_body] {
                let mut out = vec![f32::NAN; len];
                norm(&x, &y, 1e-5, &mut out);
                let root = (squares / len as f64 + 1e-5).sqrt();
                let want = x.iter().zip(&y).map(|(x, y)| f64::from(*x) / root * f64::from(*y));
                assert!(out.iter().zip(want).all(|(got, want)| close(*got, want)), "norm of {len}");
            }
            for silu in [silu_multiply as Two, silu_multiply_body] {
                let mut out = x.clone();
                silu(&mut out, &y);
                let want = x.iter().zip(&y).map(|(x, y)| f64::from(*x) / (1.0 + f64::from(-x).exp()) * f64::from(*y));
                assert!(out.iter().zip(want).all(|(got, want)| close(*got, want)), "activation of {len}");
            }
            for sum in [add as Two, add_body] {
                let mut out = x.clone();
                sum(&mut out, &y);
                assert!(out.iter().zip(&x).zip(&y).all(|((got, x), y)| *got == x + y), "sum of {len}");
            }
            for weigh in [exp_from_maximum as fn(&mut [f32], f32) -> (f32, f32), exp_from_maximum_body] {
                let mut out = x.clone();
                let (maximum, sum) = weigh(&mut out, 0.5);
                let most = x.iter().fold(f32::MIN, |a, &b| a.max(b));
                assert_eq!(maximum, most * 0.5);
                let want: Vec<f64> = x.iter().map(|x| f64::from((x - most) * 0.5).exp()).collect();
                assert!(out.iter().zip(&want).all(|(got, want)| close(*got, *want)), "weights of {len}");
                assert!(close(sum, want.iter().sum()), "sum of the weights of {len}");
            }
        }
    }

    #[test]
    fn norm_and_activation_equal_the_definition() {
        let x: Vec<f32> = (0..43).map(|i| (i as f32 - 20.0) / 7.0).collect();
        let weight: Vec<f32> = (0..43).map(|i| 1.0 + i as f32 / 43.0).collect();
        let mut out = vec![0.0; 43];
        rms_norm(&x, &weight, 1e-5, &mut out);
        let root = (x.iter().map(|x| x * x).sum::<f32>() / 43.0 + 1e-5).sqrt();
        assert!(out.iter().zip(&x).zip(&weight).all(|((out, x), w)| (out - x / root * w).abs() < 1e-5));
        let mut gate = x.clone();
        silu_multiply(&mut gate, &weight);
        let mut in_place = x.clone();
        rms_norm_in_place(&mut in_place, &weight, 1e-5);
        assert_eq!(in_place, out);
        assert!(gate.iter().zip(&x).zip(&weight).all(|((out, x), w)| (out - x / (1.0 + (-x).exp()) * w).abs() < 1e-5));
    }
    #[test]
    fn gelu_and_caps_equal_the_definition() {
        let x: Vec<f32> = (-400..400).map(|i| i as f32 / 20.0).collect();
        let mut gate = x.clone();
        gelu_multiply(&mut gate, &vec![3.0; x.len()]);
        let mut capped: Vec<f32> = x.iter().map(|x| x * 30.0).collect();
        soft_cap(&mut capped, 50.0);
        for ((x, gelu), capped) in x.iter().zip(&gate).zip(&capped) {
            let wide = f64::from(*x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            assert!((f64::from(*gelu) - 1.5 * wide * (1.0 + inner.tanh())).abs() < 2e-5, "gelu({x}) = {gelu}");
            assert!((f64::from(*capped) - 50.0 * (wide * 0.6).tanh()).abs() < 2e-5, "cap of {x} is {capped}");
        }
    }
}
