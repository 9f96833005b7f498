//! The public functions: what each metric means, in the instruction set chosen.

use half::f16;

use super::super::{cosine, inner_product, l1, l2_squared, spherical, Metric};
use super::Tested;

#[test]
fn known_distances() {
    let (a, b) = (&[1.0, 2.0, 3.0][..], &[4.0, 6.0, 3.0][..]);
    assert_eq!(Metric::L2.distance(a, b), Ok(5.0));
    assert_eq!(Metric::L2Squared.distance(a, b), Ok(25.0));
    assert_eq!(Metric::InnerProduct.distance(a, b), Ok(-25.0));
    assert_eq!(Metric::L1.distance(a, b), Ok(7.0));
    assert_eq!(Metric::Cosine.distance(&[1.0, 0.0], &[0.0, 2.0]), Ok(1.0));
    assert_eq!(Metric::Cosine.distance(&[1.0, 1.0], &[-1.0, -1.0]), Ok(2.0));
}

fn functions_and_kernels_agree<E: Tested>() {
    let (a, b) = ([1.0, 2.0, 3.0].map(E::of), [4.0, 6.0, 3.0].map(E::of));
    assert_eq!((l2_squared(&a, &b), inner_product(&a, &b), l1(&a, &b)), (25.0, 25.0, 7.0));
    assert_eq!(Metric::L2.kernel::<E>()(&a, &b), 5.0);
    assert_eq!(Metric::L2Squared.kernel::<E>()(&a, &b), 25.0);
    assert_eq!(Metric::InnerProduct.kernel::<E>()(&a, &b), -25.0);
    assert_eq!(Metric::L1.kernel::<E>()(&a, &b), 7.0);
    assert_eq!(Metric::Cosine.kernel::<E>()(&a, &b), cosine(&a, &b));
    assert_eq!(cosine(&a, &b), 1.0 - 25.0 / (14.0f64 * 61.0).sqrt());
}

#[test]
fn functions_and_kernels_agree_in_both_precisions() {
    functions_and_kernels_agree::<f32>();
    functions_and_kernels_agree::<f16>();
}

#[test]
fn the_spherical_distance_is_a_share_of_a_half_turn() {
    assert_eq!(spherical(&[1.0f32, 0.0], &[1.0, 0.0]), 0.0);
    assert_eq!(spherical(&[1.0f32, 0.0], &[0.0, 1.0]), 0.5);
    assert_eq!(spherical(&[1.0f32, 0.0], &[-1.0, 0.0]), 1.0);
    // Beyond ±1 by rounding, or because the vectors are no unit vectors: no NaN.
    assert_eq!(spherical(&[1.1f32], &[1.0]), 0.0);
    assert_eq!(spherical(&[f16::from_f32(-2.0)], &[f16::ONE]), 1.0);
    assert!(spherical(&[f32::NAN], &[1.0]).is_nan());
}

#[test]
fn cosine_stays_in_range_and_is_nan_for_a_zero_vector() {
    let a = [0.1f32; 384];
    assert!(Metric::Cosine.distance(&a, &a).unwrap() >= 0.0);
    assert!(Metric::Cosine.distance(&[0.0, 0.0], &[1.0, 0.0]).unwrap().is_nan());
    // The squared norms overflow f32, as in pgvector: infinite norms with a finite or infinite product.
    assert!(Metric::Cosine.distance(&[3e38], &[3e38]).unwrap().is_nan());
    assert_eq!(Metric::Cosine.distance(&[3e38], &[1.0]), Ok(1.0));
}

#[test]
fn different_dimensions_are_an_error() {
    let error = Metric::L2.distance(&[1.0, 2.0], &[3.0]).unwrap_err();
    assert_eq!(error.to_string(), "different vector dimensions 2 and 1");
}
