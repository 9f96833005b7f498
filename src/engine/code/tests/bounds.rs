//! Estimates are as near as they claim, and bounds are below the truth, also for vectors made to be hard to quantise.

use proptest::prelude::*;

use super::{codec, elements, encoded, true_distance, QUANTISED_METRICS};
use crate::distance::Metric;
use crate::test_scale::scaled;

/// A vector of a kind that some code handles badly.
fn shaped(kind: usize, seed: u32, dimensions: usize) -> Vec<f32> {
    let mut vector = elements(seed, dimensions);
    let at = seed as usize % dimensions;
    match kind {
        0 => {}
        1 => vector[at] = 1000.0,
        2 => vector.iter_mut().step_by(37).for_each(|x| *x *= 50.0),
        3 => vector.iter_mut().enumerate().for_each(|(i, x)| *x *= if i % 19 == at % 19 { 1.0 } else { 0.0 }),
        4 => vector.fill(0.25),
        5 => vector.iter_mut().for_each(|x| *x += 10.0),
        6 => vector.iter_mut().enumerate().for_each(|(i, x)| *x *= (-0.1 * (i % 90) as f32).exp()),
        7 => vector.iter_mut().enumerate().for_each(|(i, x)| *x = if i == at { 1.0 } else { 0.0 }),
        _ => vector.fill(0.0),
    }
    vector
}

fn norm(vector: &[f32]) -> f64 {
    true_distance(Metric::L2, vector, &vec![0.0; vector.len()]).sqrt()
}

fn check(a: &[f32], b: &[f32]) -> Result<(), TestCaseError> {
    for metric in QUANTISED_METRICS {
        let codec = codec(metric, a.len());
        let (code_a, code_b) = (encoded(&codec, a), encoded(&codec, b));
        let truth = true_distance(metric, a, b);
        let apart = true_distance(Metric::L2, a, b).sqrt();
        let (unit, size) = if metric == Metric::Cosine { (1.0, 1.0) } else { (apart, norm(a).max(norm(b))) };
        let query = codec.query(a).unwrap();
        let (distance, bound) = (f64::from(query.distance(&code_b)), f64::from(query.bound(&code_b)));
        prop_assert!(bound <= truth, "{metric:?}: bound {bound} of {truth}");
        // With 8 bits and a rotation the error is below 1.5 % of a vector's length.
        let tolerance = 2.0 * 0.015 * size * unit.max(0.0015 * size);
        prop_assert!((distance - truth).abs() <= tolerance, "{metric:?}: {distance} of {truth}");
        prop_assert!(truth - bound <= 2.5 * tolerance, "{metric:?}: bound {bound} far from {truth}");

        let between = codec.distance_between(&code_a, &code_b);
        prop_assert_eq!(between, codec.distance_between(&code_b, &code_a));
        // Both are rounded, and for near neighbours alike: the product of the errors counts as well.
        let tolerance = 2.0 * tolerance + 2.0 * (0.015 * size).powi(2);
        prop_assert!((f64::from(between) - truth).abs() <= tolerance, "{metric:?}: {between} of {truth}");
        let of_code = codec.query_of_code(&code_a).unwrap();
        prop_assert_eq!(between, of_code.distance(&code_b));
        prop_assert!(f64::from(of_code.bound(&code_b)) <= truth);
        // Of a zero vector, the cosine is that of a perpendicular one.
        if metric != Metric::InnerProduct && (metric != Metric::Cosine || norm(a) > 0.0) {
            prop_assert!(query.distance(&code_a).abs() <= 1e-5 * (size * size) as f32, "{metric:?}: from itself");
            prop_assert!(codec.distance_between(&code_a, &code_a) <= 1e-6 * (size * size) as f32);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(scaled(300, 1)))]

    #[test]
    fn bounds_hold(
        dimensions in 64usize..scaled(700, 90), kinds in (0usize..9, 0usize..9), seeds in any::<(u16, u16)>(), scale in -20i32..20,
    ) {
        let a = shaped(kinds.0, u32::from(seeds.0), dimensions);
        let mut b = shaped(kinds.1, u32::from(seeds.1), dimensions);
        b.iter_mut().for_each(|x| *x *= 1.25f32.powi(scale));
        check(&a, &b)?;
    }

    #[test]
    fn bounds_hold_for_near_neighbours(
        dimensions in 64usize..scaled(700, 90), kind in 0usize..9, seed in any::<u16>(), near in 0.0001f32..0.3,
    ) {
        let a = shaped(kind, u32::from(seed), dimensions);
        let noise = elements(u32::from(seed) + 1, dimensions);
        let b: Vec<f32> = a.iter().zip(noise).map(|(x, y)| x + near * y).collect();
        check(&a, &b)?;
    }
}

#[test]
fn bounds_hold_in_many_dimensions() {
    for dimensions in scaled([1023, 1024, 1025, 1536, 2000, 3072, 16_000], [257; 7]).into_iter().take(scaled(7, 1)) {
        for kinds in [(0, 0), (1, 0), (7, 4), (3, 5)].into_iter().take(scaled(4, 1)) {
            check(&shaped(kinds.0, 3, dimensions), &shaped(kinds.1, 4, dimensions)).unwrap();
        }
    }
}
