//! Codes of sparse vectors give the distances of the SQL operators, in every way to ask for them, and damaged ones some.

use proptest::prelude::*;

use crate::code::{CodeError, Codec, Query};
use crate::distance::Metric;
use crate::hnsw::page::{CodeLength, Layout};
use crate::sparse::{distance, SparseRef, SparseVector, MAX_DIMENSIONS, MAX_NON_ZERO};
use crate::test_scale::scaled;

const METRICS: [Metric; 5] = [Metric::L2, Metric::L2Squared, Metric::InnerProduct, Metric::Cosine, Metric::L1];

/// Beyond these, queries have no table.
const TABLE: i32 = 1 << 20;

fn encoded(codec: &Codec, vector: SparseRef<'_>) -> Vec<u8> {
    let mut code = vec![0xaa; 7];
    codec.encode_into(vector, &mut code).unwrap();
    assert_eq!(codec.encoded_bytes(vector), Ok(code.len()));
    assert!(code.len() <= codec.code_bytes() && code.len().is_multiple_of(4));
    code
}

/// The distance of the SQL operator, in the codec's units.
fn sql_distance(metric: Metric, a: SparseRef<'_>, b: SparseRef<'_>) -> f64 {
    match metric {
        Metric::InnerProduct => -f64::from(distance::inner_product(a, b)),
        Metric::Cosine => match distance::cosine(a, b) {
            distance if distance.is_nan() => 1.0,
            distance => distance,
        },
        Metric::L1 => f64::from(distance::l1(a, b)),
        _ => f64::from(distance::l2_squared(a, b)),
    }
}

/// Equal distances by every way; returns them.
fn distance_of(codec: &Codec, a: SparseRef<'_>, b: SparseRef<'_>) -> f32 {
    let (code_a, code_b) = (encoded(codec, a), encoded(codec, b));
    let (query_a, query_b) = (codec.query(a).unwrap(), codec.query(b).unwrap());
    let found = codec.distance_between(&code_a, &code_b);
    for other in [
        codec.distance_between(&code_b, &code_a),
        query_a.distance(&code_b),
        query_a.bound(&code_b),
        query_b.distance(&code_a),
        codec.query_of_code(&code_a).unwrap().distance(&code_b),
    ] {
        assert_eq!(found.to_bits(), other.to_bits());
    }
    // At every alignment, and whatever follows.
    for shift in 0..4 {
        let bytes = [&[7; 3][..shift], &code_b, &[9; 8]].concat();
        assert_eq!(query_a.distance(&bytes[shift..]), found);
        assert_eq!(codec.distance_between(&code_a, &bytes[shift..]), found);
    }
    found
}

fn check(a: &SparseVector, b: &SparseVector) {
    let (a, b) = (a.as_ref(), b.as_ref());
    for metric in METRICS {
        let codec = Codec::sparse(metric, a.dimensions() as usize);
        let (found, truth) = (f64::from(distance_of(&codec, a, b)), sql_distance(metric, a, b));
        let sum = |vector: SparseRef<'_>| vector.values().iter().map(|x| f64::from(x.abs())).sum::<f64>();
        let unit = match metric {
            Metric::Cosine => 1.0,
            Metric::L1 => sum(a) + sum(b),
            _ => [a, b].iter().flat_map(|vector| vector.values()).map(|x| f64::from(*x).powi(2)).sum(),
        };
        assert!((found - truth).abs() <= 1e-5 * unit, "{metric:?}: {found} of {truth}");
        let itself = distance_of(&codec, a, a);
        match metric {
            Metric::InnerProduct => assert!((f64::from(itself) - sql_distance(metric, a, a)).abs() <= 1e-5 * unit),
            Metric::Cosine => assert_eq!(itself, if a.indices().is_empty() { 1.0 } else { 0.0 }),
            _ => assert_eq!(itself, 0.0),
        }
    }
}

/// A vector with up to `most` elements. Few indices, so that many are common; the last ones are at the end.
fn vector(dimensions: i32, most: usize) -> impl Strategy<Value = SparseVector> {
    let index = prop_oneof![0..400.min(dimensions), (dimensions - 400).max(0)..dimensions];
    let value = (-1f32..1.0).prop_filter("stored", |x| *x != 0.0);
    prop::collection::btree_map(index, value, 0..most).prop_map(move |elements| {
        let (indices, values) = elements.into_iter().unzip();
        SparseVector::new(dimensions, indices, values).unwrap()
    })
}

fn pair() -> impl Strategy<Value = (SparseVector, SparseVector)> {
    let dimensions = prop_oneof![Just(1), 2..500, Just(30_522), Just(TABLE), Just(TABLE + 1), Just(MAX_DIMENSIONS)];
    let most = prop_oneof![Just(1usize), Just(10), Just(300)];
    (dimensions, most.clone(), most).prop_flat_map(|(dimensions, a, b)| (vector(dimensions, a), vector(dimensions, b)))
}

#[test]
fn the_layout_is_count_size_indices_values() {
    let codec = Codec::sparse(Metric::L2, 9);
    assert!(codec.is_exact() && codec.is_variable());
    let code = encoded(&codec, SparseRef::new(9, &[2, 8], &[3.0, -4.0]).unwrap());
    let numbers = [3f32, -4.0].map(f32::to_le_bytes);
    let indices = [[2, 0, 0, 0], [8, 0, 0, 0]];
    assert_eq!(code, [&indices[0][..], &25f64.to_le_bytes(), &indices.concat(), &numbers.concat()].concat());
    let code = encoded(&Codec::sparse(Metric::L1, 9), SparseRef::new(9, &[2, 8], &[3.0, -4.0]).unwrap());
    assert_eq!(code[4..12], 7f64.to_le_bytes());
    assert_eq!(encoded(&codec, SparseRef::trusted(9, &[], &[])), [0; 12]);
    assert_eq!(codec.code_bytes(), 12 + 9 * 8);
    assert_eq!(Codec::sparse(Metric::L2, 100_000).code_bytes(), 12 + 16_000 * 8);
    let max_bytes = Codec::sparse(Metric::L2, MAX_DIMENSIONS as usize).code_bytes() as u32;
    assert!(Layout::new(MAX_DIMENSIONS as u32, CodeLength::Variable { max_bytes }, 16, &[]).is_ok());
}

#[test]
fn a_zero_vector_is_as_far_as_its_metric_says() {
    for dimensions in [5, TABLE, TABLE + 1] {
        let (zero, other) = (SparseRef::trusted(dimensions, &[], &[]), SparseRef::trusted(dimensions, &[0], &[-3.0]));
        for (metric, expected) in METRICS.into_iter().zip([9.0, 9.0, 0.0, 1.0, 3.0]) {
            let codec = Codec::sparse(metric, dimensions as usize);
            assert_eq!(distance_of(&codec, zero, other), expected, "{metric:?}");
            assert_eq!(distance_of(&codec, zero, zero), if metric == Metric::Cosine { 1.0 } else { 0.0 });
        }
    }
}

/// Where the distance is a small difference of large sums, and beyond the range of `f32`.
#[test]
fn near_huge_and_tiny_vectors_keep_their_distances() {
    let of = |values: [f32; 3]| SparseVector::new(9, vec![0, 3, 8], values.to_vec()).unwrap();
    let (a, near) = (of([1000.0, 1.0, -2.0]), of([1000.0, 1.0001, -2.0]));
    let step = f64::from(1.0001f32) - 1.0;
    let found = |metric, a: &SparseVector, b: &SparseVector| {
        f64::from(distance_of(&Codec::sparse(metric, 9), a.as_ref(), b.as_ref()))
    };
    assert!((found(Metric::L2, &a, &near) / step.powi(2) - 1.0).abs() < 1e-6);
    assert!((found(Metric::L1, &a, &near) / step - 1.0).abs() < 1e-6);
    for scale in [1e-40, 1e-30, 1e30, 3e38] {
        let (a, b) = (of([scale, scale, scale]), of([scale, -scale, scale]));
        assert!((found(Metric::Cosine, &a, &b) - 2.0 / 3.0).abs() < 1e-6, "{scale}");
        assert_eq!(found(Metric::Cosine, &a, &a), 0.0);
    }
    assert_eq!(found(Metric::L2, &of([3e38; 3]), &of([-3e38; 3])), f64::INFINITY);
    assert_eq!(found(Metric::InnerProduct, &of([3e38; 3]), &of([3e38; 3])), f64::NEG_INFINITY);
}

#[test]
#[cfg_attr(miri, ignore = "sixteen thousand elements, several times: minutes")]
fn the_longest_vectors_have_codes() {
    let indices: Vec<i32> = (0..=MAX_NON_ZERO as i32).map(|i| i * 7).collect();
    let values = vec![0.5; MAX_NON_ZERO + 1];
    for metric in METRICS {
        let codec = Codec::sparse(metric, 200_000);
        let longest = SparseRef::new(200_000, &indices[1..], &values[1..]).unwrap();
        assert_eq!(encoded(&codec, longest).len(), codec.code_bytes());
        let short = SparseRef::new(200_000, &indices[5..9], &values[5..9]).unwrap();
        let truth = sql_distance(metric, longest, short) as f32;
        assert!((distance_of(&codec, longest, short) - truth).abs() <= 1e-5 * truth.abs());
        let too_long = SparseRef::trusted(200_000, &indices, &values);
        let error = CodeError::NonZero { limit: MAX_NON_ZERO, found: MAX_NON_ZERO + 1 };
        assert_eq!(codec.encoded_bytes(too_long), Err(error));
        assert_eq!(codec.query(too_long).err(), Some(error));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let codec = Codec::sparse(Metric::L2, 9);
    let vector = SparseRef::trusted(9, &[2, 8], &[3.0, -4.0]);
    let mut code = encoded(&codec, vector);
    let dimensions = CodeError::Dimensions { expected: 9, found: 8 };
    assert_eq!(codec.encode_into(SparseRef::trusted(8, &[2], &[3.0]), &mut code), Err(dimensions));
    assert!(code.is_empty());
    assert_eq!(codec.query(&[1f32; 9][..]).err(), Some(CodeError::Type));
    assert_eq!(Codec::new(Metric::L2, 9, super::ElementType::Single, 0).query(vector).err(), Some(CodeError::Type));
    assert_eq!(codec.encode(vector, &mut [0; 29]), Err(CodeError::Bytes { expected: 28, found: 29 }));
    let code = [&encoded(&codec, vector)[..], &[0]].concat();
    assert!(codec.query_of_code(&code[..28]).is_ok());
    for found in [4, 27, 29] {
        assert_eq!(codec.query_of_code(&code[..found]).err(), Some(CodeError::Bytes { expected: 28, found }));
    }
    assert_eq!(codec.query_of_code(&[]).err(), Some(CodeError::Bytes { expected: 12, found: 0 }));
    assert_eq!(codec.query_of_code(&[10, 0, 0, 0]).err(), Some(CodeError::NonZero { limit: 9, found: 10 }));
    assert_eq!(codec.query(vector).unwrap().distance(&code[..27]), f32::INFINITY);
    assert_eq!(codec.distance_between(&code[..27], &code), f32::INFINITY);
}

/// Every way to ask gives a number and does not fail.
fn has_distances(codec: &Codec, query: &Query, code: &[u8], other: &[u8]) {
    let mut distances = vec![query.distance(code), query.bound(code)];
    distances.extend([codec.distance_between(code, other), codec.distance_between(other, code)]);
    distances.push(codec.distance_between(code, code));
    query.score_many([code, other, code], &mut distances);
    if let Ok(query) = codec.query_of_code(code) {
        distances.extend([query.distance(other), query.distance(code)]);
    }
    assert!(!distances.iter().any(|distance| distance.is_nan()), "{distances:?}");
    assert_eq!(codec.distance_between(code, other).to_bits(), codec.distance_between(other, code).to_bits());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(scaled(1000, 3)))]

    #[test]
    fn distances_are_those_of_the_operators((a, b) in pair()) {
        check(&a, &b);
    }

    #[test]
    fn distances_of_near_neighbours_are_too(a in vector(30_522, scaled(200, 30)), at in any::<prop::sample::Index>(), by in -1e-3f32..1e-3) {
        let mut values = a.values().to_vec();
        if !values.is_empty() {
            values[at.index(a.values().len())] += by;
        }
        if let Ok(b) = SparseVector::new(30_522, a.indices().to_vec(), values) {
            check(&a, &b);
        }
    }

    #[test]
    fn damaged_codes_have_distances(
        (a, b) in pair(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        in_head in any::<bool>(),
        left in any::<prop::sample::Index>(),
    ) {
        for metric in METRICS {
            let codec = Codec::sparse(metric, a.dimensions() as usize);
            let (mut code, other, query) =
                (encoded(&codec, a.as_ref()), encoded(&codec, b.as_ref()), codec.query(b.as_ref()).unwrap());
            let most = if in_head { 12 } else { code.len() };
            for (at, byte) in &damage {
                code[at.index(most)] = *byte;
            }
            has_distances(&codec, &query, &code, &other);
            has_distances(&codec, &query, &code[..left.index(code.len() + 1)], &other);
        }
    }

    /// Indices in any order, several times, negative and beyond the dimensions; any values.
    #[test]
    fn damaged_vectors_have_distances(
        elements in prop::collection::vec((prop_oneof![-3..40, any::<i32>()], any::<u32>()), 0..30),
        size in any::<u64>(),
        b in vector(30, 30),
    ) {
        let (indices, values): (Vec<i32>, Vec<f32>) =
            elements.into_iter().map(|(index, bits)| (index, f32::from_bits(bits))).unzip();
        for metric in METRICS {
            let codec = Codec::sparse(metric, 30);
            let mut code = encoded(&codec, SparseRef::trusted(30, &indices, &values));
            let (query, other) = (codec.query(b.as_ref()).unwrap(), encoded(&codec, b.as_ref()));
            has_distances(&codec, &query, &code, &other);
            code[4..12].copy_from_slice(&size.to_le_bytes());
            has_distances(&codec, &query, &code, &other);
        }
    }

    #[test]
    fn scores_are_the_distances_in_order(query in vector(900, 60), vectors in prop::collection::vec(vector(900, 60), 0..9)) {
        for metric in METRICS {
            let codec = Codec::sparse(metric, 900);
            let query = codec.query(query.as_ref()).unwrap();
            let codes: Vec<Vec<u8>> = vectors.iter().map(|vector| encoded(&codec, vector.as_ref())).collect();
            let mut scores = Vec::new();
            query.score_many(codes.iter().map(|code| &code[..]), &mut scores);
            prop_assert_eq!(scores, codes.iter().map(|code| query.distance(code)).collect::<Vec<f32>>());
        }
    }
}
