//! The sums: agreement with the truth for every length and start, exactness where sums are exact, symmetry, triangles.

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::test_scale::scaled;

fn assert_close<E: Tested>(a: &[E], b: &[E]) {
    let (expected, allowed) = (true_sums(a, b), tolerances(a, b));
    let cosine = scalar::cosine(a, b);
    for (name, table) in tables::<E>() {
        for (i, sum) in sums(table, a, b).into_iter().enumerate() {
            let error = (f64::from(sum) - f64::from(expected[i])).abs();
            assert!(error <= allowed[i], "{name}, sum {i} of {} elements: {sum} and {}", a.len(), expected[i]);
        }
        let distance = (table.cosine)(a, b);
        // The product is off by as many units of the norms as there are terms, and so is each norm; in both forms.
        let allowed = 4.0 * (a.len() as f64 + 2.0) * UNIT;
        assert!(
            (distance - cosine).abs() <= allowed || distance.is_nan() && cosine.is_nan(),
            "{name}, cosine of {} elements: {distance} and {cosine}",
            a.len()
        );
        assert_consistent(table, a, b);
    }
}

/// The distances are what their sums say, bit by bit, and do not depend on the order of the arguments.
fn assert_consistent<E: Tested>(table: &KernelTable<E>, a: &[E], b: &[E]) {
    let [squared, product, l1] = sums(table, a, b).map(f64::from);
    assert_eq!((table.l2_distance)(a, b).to_bits(), squared.sqrt().to_bits());
    assert_eq!((table.l2_squared_distance)(a, b).to_bits(), squared.to_bits());
    assert_eq!((table.negative_inner_product)(a, b).to_bits(), (-product).to_bits());
    assert_eq!((table.l1_distance)(a, b).to_bits(), l1.to_bits());
    assert_eq!(sums(table, a, b), sums(table, b, a));
    let (forth, back) = ((table.cosine)(a, b), (table.cosine)(b, a));
    assert!(forth == back || forth.is_nan() && back.is_nan());
    assert_eq!((table.l2_squared)(a, a), 0.0);
    assert_eq!((table.l1)(b, b), 0.0);
}

fn every_length_at_every_start<E: Tested>() {
    let (a, b) = (elements::<E>(1, 150), elements::<E>(2, 150));
    for length in (0..=130).step_by(scaled(1, 17)) {
        for start in (0..17).step_by(scaled(1, 11)) {
            assert_close(&a[start..start + length], &b[16 - start..16 - start + length]);
        }
    }
    for length in [383, 384, 385, 767, 1000, 1536, 16_000].into_iter().take(scaled(7, 0)) {
        assert_close(&elements::<E>(3, length), &elements::<E>(4, length));
    }
}

#[test]
fn every_length_at_every_start_agrees_in_single_precision() {
    every_length_at_every_start::<f32>();
}

#[test]
fn every_length_at_every_start_agrees_in_half_precision() {
    every_length_at_every_start::<f16>();
}

/// Sums of integers below 2^24 are exact in any order: nothing is skipped, doubled or mixed up.
fn integers_are_exact<E: Tested>() {
    for length in (0..=300).step_by(scaled(1, 37)) {
        let a: Vec<E> = (0..length).map(|i| E::of((i * 37 % 101) as f32 - 50.0)).collect();
        let b: Vec<E> = (0..length).map(|i| E::of((i * 53 % 89) as f32 - 40.0)).collect();
        for (name, table) in tables::<E>() {
            assert_eq!(sums(table, &a, &b), true_sums(&a, &b), "{name}, {length} elements");
            if length > 0 {
                assert_eq!((table.cosine)(&a, &b), scalar::cosine(&a, &b), "{name}, {length} elements");
            }
        }
    }
}

#[test]
fn integers_are_exact_in_both_precisions() {
    integers_are_exact::<f32>();
    integers_are_exact::<f16>();
}

#[test]
fn the_shorter_slice_bounds_what_is_summed() {
    for (_, table) in tables::<f32>() {
        assert_eq!((table.inner_product)(&[1.0; 70], &[1.0; 61]), 61.0);
        assert_eq!((table.l1)(&[1.0; 3], &[0.0; 90]), 3.0);
        assert_eq!((table.l1)(&[], &[0.0; 90]), 0.0);
    }
}

fn pairs(range: f32) -> impl Strategy<Value = Vec<(f32, f32)>> {
    prop::collection::vec((-range..range, -range..range), 0..scaled(300, 40))
}

fn of_type<E: Tested>(values: impl Iterator<Item = f32>) -> Vec<E> {
    values.map(E::of).collect()
}

fn assert_triangle<E: Tested>(a: &[E], b: &[E], c: &[E]) {
    for (name, table) in tables::<E>() {
        for distance in [table.l2_distance, table.l1_distance] {
            let (direct, first, second) = (distance(a, c), distance(a, b), distance(b, c));
            // Terms are positive, so a sum is off by at most as many of its own units as it has terms.
            let allowed = 2.0 * (a.len() as f64 + 2.0) * UNIT * (direct + first + second);
            assert!(direct <= first + second + allowed, "{name}: {direct} > {first} + {second}");
        }
    }
}

proptest! {
    #[test]
    fn random_vectors_agree(pairs in pairs(1e3)) {
        assert_close::<f32>(&of_type(pairs.iter().map(|p| p.0)), &of_type(pairs.iter().map(|p| p.1)));
        assert_close::<f16>(&of_type(pairs.iter().map(|p| p.0)), &of_type(pairs.iter().map(|p| p.1)));
    }

    #[test]
    fn vectors_of_any_magnitude_agree(
        pairs in prop::collection::vec((-30i32..30, -1.0f32..1.0, -30i32..30, -1.0f32..1.0), 0..scaled(100, 40))
    ) {
        let a: Vec<f32> = pairs.iter().map(|p| p.1 * 2f32.powi(p.0)).collect();
        let b: Vec<f32> = pairs.iter().map(|p| p.3 * 2f32.powi(p.2)).collect();
        assert_close(&a, &b);
    }

    #[test]
    fn triangles_close(triples in prop::collection::vec((-9f32..9.0, -9f32..9.0, -9f32..9.0), 0..scaled(200, 40))) {
        let corner = |of: fn(&(f32, f32, f32)) -> f32| triples.iter().map(of).collect::<Vec<f32>>();
        let [a, b, c] = [corner(|t| t.0), corner(|t| t.1), corner(|t| t.2)];
        assert_triangle(&a, &b, &c);
        let [a, b, c] = [a, b, c].map(|v| of_type::<f16>(v.into_iter()));
        assert_triangle(&a, &b, &c);
    }
}
