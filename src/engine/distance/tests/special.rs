//! NaN, infinities, overflow, subnormal numbers and negative zero, in every lane.

use half::f16;

use super::*;
use crate::test_scale::scaled;

/// The same number, the same infinity, or both NaN; `allowed` apart if finite.
fn assert_same_class(actual: f64, expected: f64, allowed: f64, what: &str) {
    if expected.is_finite() {
        assert!((actual - expected).abs() <= allowed, "{what}: {actual} and {expected}");
    } else {
        assert_eq!(actual.to_string(), expected.to_string(), "{what}");
    }
}

fn one_special_element_in_any_lane<E: Tested>(specials: &[f32]) {
    for length in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 66, 129].into_iter().step_by(scaled(1, 5)) {
        for position in (0..length).step_by(scaled(1, 13)) {
            for special in specials.iter().step_by(scaled(1, 3)) {
                let mut a = vec![E::of(0.5); length];
                let b = vec![E::of(1.0); length];
                a[position] = E::of(*special);
                for (name, table) in tables::<E>() {
                    let what = format!("{name}: {special} at {position} of {length}");
                    for (x, y) in [(&a, &b), (&b, &a), (&a, &a)] {
                        let allowed = tolerances(x, y);
                        let pairs = sums(table, x, y).into_iter().zip(true_sums(x, y));
                        for (i, (actual, expected)) in pairs.enumerate() {
                            assert_same_class(actual.into(), expected.into(), allowed[i], &what);
                        }
                        let allowed = 4.0 * (length as f64 + 2.0) * UNIT;
                        assert_same_class((table.cosine)(x, y), scalar::cosine(x, y), allowed, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn one_special_element_in_any_lane_has_the_effect_it_has_in_the_truth() {
    one_special_element_in_any_lane::<f32>(&[
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-40,
        -0.0,
    ]);
    one_special_element_in_any_lane::<f16>(&[
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        65504.0,
        2f32.powi(-14),
        2f32.powi(-24),
        -1023.0 * 2f32.powi(-24),
        -0.0,
    ]);
}

#[test]
fn sums_that_overflow_are_infinite() {
    for length in (1..=130).step_by(scaled(1, 17)) {
        let (a, b) = (vec![3e38f32; length], vec![-3e38f32; length]);
        for (name, table) in tables::<f32>() {
            assert_eq!(sums(table, &a, &b), [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY], "{name}, {length}");
            assert!((table.cosine)(&a, &b).is_nan(), "{name}, {length}");
            // Only the sum overflows, not its terms.
            let total = (table.l1)(&vec![1e38; length], &vec![0.0; length]);
            assert_eq!(total.is_infinite(), length > 3, "{name}, {length}");
        }
    }
}

#[test]
fn half_precision_sums_go_beyond_the_range_of_its_elements() {
    let a = vec![f16::MAX; 100];
    for (_, table) in tables::<f16>() {
        assert_eq!((table.l1)(&a, &[f16::ZERO; 100]), 6_550_400.0);
        assert_eq!((table.inner_product)(&a, &[f16::ONE; 100]), 6_550_400.0);
    }
}

#[test]
fn subnormal_numbers_are_not_flushed_to_zero() {
    for length in (1..=70).step_by(scaled(1, 7)) {
        let (a, zero) = (vec![1e-40f32; length], vec![0.0; length]);
        let (half_a, half_zero) = (vec![f16::from_bits(1); length], vec![f16::ZERO; length]);
        for (_, table) in tables::<f32>() {
            assert_eq!((table.l1)(&a, &zero), scalar::l1(&a, &zero));
        }
        for (_, table) in tables::<f16>() {
            assert_eq!((table.l1)(&half_a, &half_zero), length as f32 * 2f32.powi(-24));
        }
    }
}

#[test]
fn the_cosine_of_a_zero_vector_is_nan() {
    for length in [1, 8, 16, 40, 100] {
        for (_, table) in tables::<f32>() {
            assert!((table.cosine)(&vec![0.0; length], &vec![1.0; length]).is_nan());
            assert!((table.cosine)(&vec![-0.0; length], &vec![0.0; length]).is_nan());
        }
        for (_, table) in tables::<f16>() {
            assert!((table.cosine)(&vec![f16::ONE; length], &vec![f16::NEG_ZERO; length]).is_nan());
        }
    }
}

#[test]
fn the_cosine_distance_stays_between_zero_and_two() {
    for length in (1..=130).step_by(scaled(1, 17)) {
        let a: Vec<f32> = elements(5, length);
        let opposite: Vec<f32> = a.iter().map(|x| -x * 3.0).collect();
        for (_, table) in tables::<f32>() {
            assert!((0.0..1e-6).contains(&(table.cosine)(&a, &a)));
            let far = (table.cosine)(&a, &opposite);
            assert!((2.0 - 1e-6..=2.0).contains(&far));
        }
    }
}
