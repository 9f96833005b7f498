//! Which codec makes which codes, exact codes, and what is refused.

use half::f16;

use super::{codec, elements, encoded, true_distance};
use crate::code::{BitMetric, CodeError, Codec, ElementType};
use crate::distance::{hamming, jaccard, Metric};
use crate::test_scale::scaled;

const METRICS: [Metric; 5] = [Metric::L2, Metric::L2Squared, Metric::InnerProduct, Metric::Cosine, Metric::L1];

#[test]
fn few_dimensions_and_the_manhattan_distance_are_exact() {
    for metric in METRICS {
        assert!(codec(metric, 63).is_exact());
        assert_eq!(codec(metric, 64).is_exact(), metric == Metric::L1);
    }
    assert_eq!(codec(Metric::L2, 63).code_bytes(), 252);
    assert_eq!(codec(Metric::L2, 64).code_bytes(), 76);
    assert_eq!(codec(Metric::L2, 65).code_bytes(), 80);
    assert_eq!(Codec::new(Metric::L2, 3, ElementType::Half, 0).code_bytes(), 8);
    assert_eq!(Codec::bits(BitMetric::Hamming, 33).code_bytes(), 8);
}

/// At every alignment, and whatever follows the code.
#[test]
fn exact_codes_give_the_distances_of_the_elements() {
    for metric in METRICS {
        for dimensions in (1..64).step_by(scaled(1, 7)) {
            let (a, b) = (elements(1, dimensions), elements(2, dimensions));
            let truth = true_distance(metric, &a, &b) as f32;
            for (element, tolerance) in [(ElementType::Single, 1e-5), (ElementType::Half, 3e-3)] {
                let codec = Codec::exact(metric, dimensions, element);
                let query = codec.query(&a[..]).unwrap();
                let (code_a, code_b) = (encoded(&codec, &a), encoded(&codec, &b));
                for shift in 0..4 {
                    let mut bytes = vec![9; shift];
                    bytes.extend_from_slice(&code_b);
                    bytes.extend([7; 3]);
                    let distance = query.distance(&bytes[shift..]);
                    assert!((distance - truth).abs() <= tolerance * dimensions as f32, "{metric:?} in {dimensions}");
                    assert_eq!(codec.distance_between(&code_a, &bytes[shift..]), distance);
                    assert_eq!(codec.query_of_code(&code_a).unwrap().distance(&bytes[shift..]), distance);
                    assert_eq!(query.bound(&bytes[shift..]), distance);
                }
            }
        }
    }
}

#[test]
fn halves_are_taken_as_they_are() {
    let halves: Vec<f16> = elements(1, 100).into_iter().map(f16::from_f32).collect();
    let singles: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let codec = codec(Metric::L2, 100);
    let mut code = vec![0; codec.code_bytes()];
    codec.encode(&halves[..], &mut code).unwrap();
    assert_eq!(code, encoded(&codec, &singles));
}

#[test]
fn bit_strings_are_compared_bit_by_bit() {
    let (a, b) = ([0b1010_1010u8, 0xff, 0b1100_0000], [0b0101_1010u8, 0x0f, 0b0100_0000]);
    for metric in [BitMetric::Hamming, BitMetric::Jaccard] {
        let codec = Codec::bits(metric, 18);
        let mut code = [0xaa; 4];
        codec.encode(&b[..], &mut code).unwrap();
        assert_eq!(code, [b[0], b[1], b[2], 0]);
        let truth = if metric == BitMetric::Hamming { hamming(&a, &b) as f32 } else { jaccard(&a, &b) as f32 };
        let query = codec.query(&a[..]).unwrap();
        assert_eq!(query.distance(&code), truth);
        assert_eq!(codec.query_of_code(&code).unwrap().distance(&[a[0], a[1], a[2], 0]), truth);
        assert_eq!(codec.distance_between(&code, &[a[0], a[1], a[2], 0]), truth);
    }
}

#[test]
fn scores_are_the_distances_in_order() {
    for metric in METRICS {
        for dimensions in scaled([3, 70, 384], [3, 70, 65]) {
            let codec = codec(metric, dimensions);
            let codes: Vec<Vec<u8>> = (0..9).map(|seed| encoded(&codec, &elements(seed, dimensions))).collect();
            let query = codec.query(&elements(100, dimensions)[..]).unwrap();
            let mut scores = vec![42.0];
            query.score_many(codes.iter().map(|code| &code[..]), &mut scores);
            let expected: Vec<f32> =
                std::iter::once(42.0).chain(codes.iter().map(|code| query.distance(code))).collect();
            assert_eq!(scores, expected);
            query.score_many([], &mut scores);
            assert_eq!(scores.len(), 10);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let codec = codec(Metric::L2, 100);
    let mut code = vec![0; codec.code_bytes()];
    let vector = elements(1, 101);
    assert_eq!(codec.encode(&vector[..], &mut code), Err(CodeError::Dimensions { expected: 100, found: 101 }));
    assert_eq!(codec.encode(&[1u8, 2][..], &mut code), Err(CodeError::Type));
    assert_eq!(codec.encode(&vector[..100], &mut code[1..]), Err(CodeError::Bytes { expected: 112, found: 111 }));
    assert_eq!(codec.query(&vector[..7]).err(), Some(CodeError::Dimensions { expected: 100, found: 7 }));
    assert_eq!(codec.query_of_code(&code[..9]).err(), Some(CodeError::Bytes { expected: 112, found: 9 }));
    assert_eq!(Codec::bits(BitMetric::Jaccard, 9).query(&vector[..]).err(), Some(CodeError::Type));
    let query = codec.query(&vector[..100]).unwrap();
    assert_eq!(query.distance(&code[..111]), f32::INFINITY);
    assert_eq!(query.bound(&code[..111]), f32::NEG_INFINITY);
}
