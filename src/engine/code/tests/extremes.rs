//! Any vector and any bytes have a distance that is a number.

use proptest::prelude::*;

use super::{codec, elements, encoded, true_distance, QUANTISED_METRICS};
use crate::code::{BitMetric, Codec, ElementType};
use crate::distance::Metric;
use crate::test_scale::scaled;

const DIMENSIONS: usize = scaled(100, 65);

fn vectors() -> Vec<Vec<f32>> {
    let of = |scale: f32| elements(3, DIMENSIONS).into_iter().map(|x| x * scale).collect::<Vec<f32>>();
    let mut mixed = of(1e-38);
    mixed[5] = 3.4e38;
    let mut single = vec![0.0; DIMENSIONS];
    single[DIMENSIONS - 1] = f32::from_bits(1);
    vec![
        vec![0.0; DIMENSIONS],
        vec![-0.0; DIMENSIONS],
        vec![f32::MAX; DIMENSIONS],
        vec![f32::MIN; DIMENSIONS],
        vec![f32::MIN_POSITIVE; DIMENSIONS],
        vec![f32::from_bits(1); DIMENSIONS],
        of(1e38),
        of(1e-38),
        of(1e-44),
        of(1e18),
        of(1e-18),
        // The product with another is beyond the least `f32`.
        of(1e-29),
        vec![4.6e-29; DIMENSIONS],
        of(1.0),
        mixed,
        single,
    ]
}

#[test]
fn huge_and_tiny_vectors_have_distances_and_bounds() {
    for metric in QUANTISED_METRICS {
        let codec = codec(metric, DIMENSIONS);
        for a in vectors().into_iter().step_by(scaled(1, 6)) {
            let (code_a, query) = (encoded(&codec, &a), codec.query(&a[..]).unwrap());
            for b in vectors().into_iter().step_by(scaled(1, 5)) {
                let code_b = encoded(&codec, &b);
                let (distance, bound) = (query.distance(&code_b), query.bound(&code_b));
                assert!(!distance.is_nan() && !bound.is_nan(), "{metric:?} of {a:?} and {b:?}");
                assert!(!codec.distance_between(&code_a, &code_b).is_nan(), "{metric:?} of {a:?} and {b:?}");
                assert!(f64::from(bound) <= true_distance(metric, &a, &b), "{metric:?} of {a:?} and {b:?}: {bound}");
            }
        }
    }
}

/// Beyond the range of `f32` only the order of magnitude is known, but it is not confused with being near.
#[test]
fn distances_of_huge_vectors_are_infinite_and_of_tiny_ones_zero() {
    let codec = codec(Metric::L2, DIMENSIONS);
    let query = codec.query(&[f32::MAX; DIMENSIONS][..]).unwrap();
    assert_eq!(query.distance(&encoded(&codec, &[f32::MIN; DIMENSIONS])), f32::INFINITY);
    let query = codec.query(&[1e-30; DIMENSIONS][..]).unwrap();
    assert!(query.distance(&encoded(&codec, &[-1e-30; DIMENSIONS])) < 1e-37);
}

#[test]
fn under_the_cosine_magnitude_does_not_count() {
    let (a, b) = (elements(1, DIMENSIONS), elements(2, DIMENSIONS));
    let codec = codec(Metric::Cosine, DIMENSIONS);
    let truth = true_distance(Metric::Cosine, &a, &b);
    for scale in [1e-30, 1.0, 1e30] {
        let a: Vec<f32> = a.iter().map(|x| x * scale).collect();
        let query = codec.query(&a[..]).unwrap();
        assert!((f64::from(query.distance(&encoded(&codec, &b))) - truth).abs() < 0.01);
        let query = codec.query(&b[..]).unwrap();
        assert!((f64::from(query.distance(&encoded(&codec, &a))) - truth).abs() < 0.01);
    }
    let zero = codec.query(&[0.0; DIMENSIONS][..]).unwrap();
    assert_eq!(zero.distance(&encoded(&codec, &b)), 1.0);
}

/// Not what SQL types hold, but not a reason to fail either.
#[test]
fn vectors_that_are_not_finite_have_codes() {
    for metric in QUANTISED_METRICS {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let codec = codec(metric, DIMENSIONS);
            let mut vector = elements(1, DIMENSIONS);
            vector[7] = wrong;
            let code = encoded(&codec, &vector);
            let query = codec.query(&vector[..]).unwrap();
            assert!(!query.distance(&code).is_nan());
            assert!(!query.bound(&code).is_nan());
        }
    }
}

/// An element of any magnitude: most of any exponent, the rest where rounding turns over.
fn any_element() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite()),
        3 => -1f32..1.0,
        1 => prop::sample::select(vec![0.0, -0.0, 1.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1)]),
    ]
}

/// A vector and one that is unrelated to it, equal, opposite, the least bit off, or a multiple.
fn adversaries() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    let vector = |length| {
        prop_oneof![
            prop::collection::vec(any_element(), length),
            prop::collection::vec(-1f32..1.0, length),
            any_element().prop_map(move |x| vec![x; length]),
        ]
    };
    let pair = (64usize..scaled(200, 80)).prop_flat_map(move |length| (vector(length), vector(length), 0usize..5));
    pair.prop_map(|(a, other, kind)| {
        let of = |change: fn(f32) -> f32| a.iter().map(|x| change(*x).clamp(f32::MIN, f32::MAX)).collect();
        let b = match kind {
            0 => other,
            1 => a.clone(),
            2 => of(|x| -x),
            3 => of(|x| f32::from_bits(x.to_bits() ^ 1)),
            _ => of(|x| x * 1.5),
        };
        (a, b)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(scaled(2000, 1)))]

    #[test]
    fn no_vectors_are_nearer_than_their_bound((a, b) in adversaries()) {
        for metric in QUANTISED_METRICS {
            let codec = codec(metric, a.len());
            let (code_a, code_b) = (encoded(&codec, &a), encoded(&codec, &b));
            let truth = true_distance(metric, &a, &b);
            for query in [codec.query(&a[..]).unwrap(), codec.query_of_code(&code_a).unwrap()] {
                prop_assert!(!query.distance(&code_b).is_nan());
                let bound = f64::from(query.bound(&code_b));
                prop_assert!(bound <= truth, "{:?}: bound {} of {}", metric, bound, truth);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_have_a_distance(
        a in proptest::collection::vec(any::<u8>(), 0..100), b in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut codecs = vec![
            Codec::exact(Metric::L1, 20, ElementType::Single),
            Codec::exact(Metric::Cosine, 21, ElementType::Half),
            Codec::exact(Metric::InnerProduct, 20, ElementType::Single),
            Codec::bits(BitMetric::Hamming, 77),
            Codec::bits(BitMetric::Jaccard, 77),
        ];
        codecs.extend(QUANTISED_METRICS.map(|metric| codec(metric, 70)));
        for codec in codecs {
            prop_assert!(!codec.distance_between(&a, &b).is_nan());
            if let Ok(query) = codec.query_of_code(&a[..codec.code_bytes().min(a.len())]) {
                prop_assert!(!query.distance(&b).is_nan());
                prop_assert!(!query.bound(&b).is_nan());
            }
        }
    }
}
