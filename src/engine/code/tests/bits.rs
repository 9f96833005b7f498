//! Bit strings of any length, whether or not they fill their bytes or words, against bits counted one by one.

use proptest::prelude::*;

use crate::code::{BitMetric, CodeError, Codec};
use crate::test_scale::scaled;

/// The most bits of an indexed bit string.
const MOST: usize = 64_000;

/// The bits in the layout of PostgreSQL's `bit`.
fn packed(bits: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at));
    bits.chunks(8).map(byte).collect()
}

fn true_distance(metric: BitMetric, a: &[bool], b: &[bool]) -> f32 {
    let count = |of: fn(bool, bool) -> bool| a.iter().zip(b).filter(|(x, y)| of(**x, **y)).count();
    match metric {
        BitMetric::Hamming => count(|x, y| x != y) as f32,
        BitMetric::Jaccard => match count(|x, y| x && y) {
            0 => 1.0,
            common => (1.0 - common as f64 / count(|x, y| x || y) as f64) as f32,
        },
    }
}

fn check(a: &[bool], b: &[bool]) {
    for metric in [BitMetric::Hamming, BitMetric::Jaccard] {
        let codec = Codec::bits(metric, a.len());
        assert!(codec.is_exact() && !codec.is_variable());
        assert_eq!(codec.code_bytes(), a.len().div_ceil(32) * 4);
        let [code_a, code_b] = [a, b].map(|bits| {
            let mut code = vec![0xff; codec.code_bytes()];
            codec.encode(&packed(bits)[..], &mut code).unwrap();
            code
        });
        let (truth, query) = (true_distance(metric, a, b), codec.query(&packed(a)[..]).unwrap());
        let what_follows = [&code_b[..], &[0xff; 9]].concat();
        assert_eq!(query.distance(&code_b), truth, "{metric:?} of {} bits", a.len());
        assert_eq!(query.distance(&what_follows), truth);
        assert_eq!(query.bound(&code_b), truth);
        assert_eq!(codec.query_of_code(&code_a).unwrap().distance(&code_b), truth);
        assert_eq!(codec.distance_between(&code_a, &what_follows), truth);
        assert_eq!(codec.distance_between(&code_b, &code_a), truth);
    }
}

fn random(seed: u32, bits: usize) -> Vec<bool> {
    super::elements(seed, bits).into_iter().map(|x| x > 0.0).collect()
}

#[test]
fn every_length_is_compared_to_its_last_bit() {
    let long = [511, 513, 1_000, 4_095, 4_097, 12_345, MOST - 1, MOST];
    for bits in (1..300).step_by(scaled(1, 67)).chain(long.into_iter().take(scaled(8, 0))) {
        check(&random(1, bits), &random(2, bits));
        let mut last = vec![false; bits];
        check(&last, &last);
        last[bits - 1] = true;
        check(&last, &last);
        check(&vec![false; bits], &last);
        check(&vec![true; bits], &last);
        check(&vec![true; bits], &vec![false; bits]);
    }
}

#[test]
fn bits_are_refused_by_their_bytes() {
    let codec = Codec::bits(BitMetric::Hamming, 17);
    assert_eq!(codec.query(&[0u8; 2][..]).err(), Some(CodeError::Dimensions { expected: 3, found: 2 }));
    assert_eq!(codec.query(&[0u8; 4][..]).err(), Some(CodeError::Dimensions { expected: 3, found: 4 }));
    assert_eq!(codec.query(&[0u8; 3][..]).unwrap().distance(&[0; 2]), f32::INFINITY);
}

proptest! {
    #[test]
    fn bits_are_counted_one_by_one(pairs in prop::collection::vec(any::<(bool, bool)>(), 1..scaled(2_000, 60))) {
        let (a, b): (Vec<bool>, Vec<bool>) = pairs.into_iter().unzip();
        check(&a, &b);
    }
}
