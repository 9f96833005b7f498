//! Distances between sparse vectors of equal dimensions. Sums are accumulated in `f32`, as pgvector does.
//!
//! Two ways through the indices, chosen by the lengths. If both lists are of similar length they are merged: for the
//! inner product block by block, since blocks without a common index are the rule and one SIMD comparison of all pairs
//! finds that out (Schlegel et al. 2011); for the others index by index, where the list that advances is computed
//! instead of branched on, as a wrong guess costs more than the whole step. If one list is much shorter, each of its
//! indices is searched in the other by doubling steps from where the last one was found ("galloping", Bentley & Yao
//! 1976), which skips most of the longer list for the inner product and leaves long runs to plain sums for the others.
//! A vector that breaks the rules gives a wrong sum, never a failure.

use std::hint::select_unpredictable;

use super::SparseRef;

/// How many times as long one list must be for a search in it to pay.
const GALLOP_RATIO: usize = 16;

/// `Σ (a - b)²`, as the dimensions must be equal here and in the three after it.
pub fn l2_squared(a: SparseRef<'_>, b: SparseRef<'_>) -> f32 {
    union_sum(a, b, |x, y| (x - y) * (x - y))
}

/// `Σ |a - b|`.
pub fn l1(a: SparseRef<'_>, b: SparseRef<'_>) -> f32 {
    union_sum(a, b, |x, y| (x - y).abs())
}

/// `Σ a · b`.
pub fn inner_product(a: SparseRef<'_>, b: SparseRef<'_>) -> f32 {
    let mut sum = 0f32;
    for_each_common(a, b, |x, y| sum += x * y);
    sum
}

/// Calls `visit` with both values of every index that the vectors have in common, in ascending order. Which of the two
/// comes first is not said: `visit` is symmetric.
#[inline]
pub(crate) fn for_each_common(a: SparseRef<'_>, b: SparseRef<'_>, visit: impl FnMut(f32, f32)) {
    let (short, long) = by_length(a, b);
    if gallops(short, long) {
        common_by_search(short, long, visit);
    } else {
        common_by_merge(a, b, visit);
    }
}

/// One minus the cosine similarity, 0 to 2; NaN if a vector is zero.
pub fn cosine(a: SparseRef<'_>, b: SparseRef<'_>) -> f64 {
    let squared_norm = |vector: SparseRef<'_>| f64::from(sum(vector.values(), |x| x * x));
    let similarity = f64::from(inner_product(a, b)) / (squared_norm(a) * squared_norm(b)).sqrt();
    1.0 - similarity.clamp(-1.0, 1.0)
}

fn by_length<'a>(a: SparseRef<'a>, b: SparseRef<'a>) -> (SparseRef<'a>, SparseRef<'a>) {
    if a.indices().len() <= b.indices().len() {
        (a, b)
    } else {
        (b, a)
    }
}

/// Whether the first vector is so much shorter that its indices are searched in the second.
#[inline]
pub(crate) fn gallops(short: SparseRef<'_>, long: SparseRef<'_>) -> bool {
    short.indices().len().saturating_mul(GALLOP_RATIO) < long.indices().len()
}

/// Indices compared at once.
const BLOCK: usize = 8;

#[inline]
fn common_by_merge(a: SparseRef<'_>, b: SparseRef<'_>, mut visit: impl FnMut(f32, f32)) {
    let (mut i, mut j) = (0, 0);
    while let (Some(left), Some(right)) = (block(a.indices(), i), block(b.indices(), j)) {
        if any_equal(left, right) {
            common_by_steps(a.part(i, i + BLOCK), b.part(j, j + BLOCK), &mut visit);
        }
        // The block with the smaller end meets nothing further on; with equal ends, both.
        let (left_end, right_end) = (left[BLOCK - 1], right[BLOCK - 1]);
        i += if left_end <= right_end { BLOCK } else { 0 };
        j += if right_end <= left_end { BLOCK } else { 0 };
    }
    common_by_steps(a.part(i, usize::MAX), b.part(j, usize::MAX), &mut visit);
}

#[inline]
fn block(indices: &[i32], from: usize) -> Option<&[i32; BLOCK]> {
    indices.get(from..)?.first_chunk()
}

/// Whether the blocks have a common index: all pairs, without a branch.
#[inline]
fn any_equal(left: &[i32; BLOCK], right: &[i32; BLOCK]) -> bool {
    let mut equal = [0; BLOCK];
    for &x in left {
        for (equal, &y) in equal.iter_mut().zip(right) {
            *equal |= -i32::from(x == y);
        }
    }
    equal.iter().fold(0, |any, equal| any | equal) != 0
}

#[inline]
fn common_by_steps(a: SparseRef<'_>, b: SparseRef<'_>, visit: &mut impl FnMut(f32, f32)) {
    let (a_indices, b_indices) = (a.indices(), b.indices());
    let (mut i, mut j) = (0, 0);
    while i < a_indices.len() && j < b_indices.len() {
        let (left, right) = (a_indices[i], b_indices[j]);
        if left == right {
            visit(a.values()[i], b.values()[j]);
        }
        i += usize::from(left <= right);
        j += usize::from(right <= left);
    }
}

#[inline]
fn common_by_search(short: SparseRef<'_>, long: SparseRef<'_>, mut visit: impl FnMut(f32, f32)) {
    let mut at = 0;
    for (index, value) in short.elements() {
        at = gallop(long.indices(), at, index);
        if long.indices().get(at) == Some(&index) {
            visit(value, long.values()[at]);
        }
    }
}

/// The sum of a symmetric `term` over the indices of both; an index that one vector lacks has the value 0 there.
#[inline]
fn union_sum(a: SparseRef<'_>, b: SparseRef<'_>, term: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let (short, long) = by_length(a, b);
    if gallops(short, long) {
        union_sum_by_search(short, long, term)
    } else {
        union_sum_by_merge(a, b, term)
    }
}

#[inline]
fn union_sum_by_merge(a: SparseRef<'_>, b: SparseRef<'_>, term: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let (a_indices, b_indices) = (a.indices(), b.indices());
    let (a_values, b_values) = (&a.values()[..a_indices.len()], &b.values()[..b_indices.len()]);
    let (mut i, mut j, mut total) = (0, 0, 0f32);
    while i < a_indices.len() && j < b_indices.len() {
        let (left, right) = (a_indices[i], b_indices[j]);
        total += term(or_zero(left <= right, a_values[i]), or_zero(right <= left, b_values[j]));
        i += usize::from(left <= right);
        j += usize::from(right <= left);
    }
    total + sum(&a_values[i..], |x| term(x, 0.0)) + sum(&b_values[j..], |y| term(0.0, y))
}

/// The value or zero, selected as an integer: baseline x86-64 has a conditional move for integers only.
#[inline]
fn or_zero(keep: bool, value: f32) -> f32 {
    f32::from_bits(select_unpredictable(keep, value.to_bits(), 0))
}

#[inline]
fn union_sum_by_search(short: SparseRef<'_>, long: SparseRef<'_>, term: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let mut from = 0;
    let mut total = 0f32;
    for (index, value) in short.elements() {
        let at = gallop(long.indices(), from, index);
        total += sum(&long.values()[from..at], |y| term(0.0, y));
        let found = long.indices().get(at) == Some(&index);
        total += term(value, if found { long.values()[at] } else { 0.0 });
        from = at + usize::from(found);
    }
    total + sum(&long.values()[from..], |y| term(0.0, y))
}

/// The sum of a term over values, in independent lanes that become one SIMD register.
#[inline]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += term(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| term(x)).sum::<f32>()
}

/// The first position from `from` on whose index is not below `index`; `from` if there is nothing left.
#[inline]
fn gallop(indices: &[i32], from: usize, index: i32) -> usize {
    let rest = indices.get(from..).unwrap_or_default();
    let mut bound = 1;
    while bound < rest.len() && rest[bound] < index {
        bound *= 2;
    }
    let start = bound / 2;
    let window = &rest[start.min(rest.len())..rest.len().min(bound + 1)];
    from + start + window.partition_point(|&other| other < index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{from_dense, SparseVector};
    use super::*;
    use crate::distance::scalar;
    use crate::test_scale::scaled;

    fn parse(text: &str) -> SparseVector {
        super::super::parse(text, None).unwrap()
    }

    #[test]
    fn values_from_the_definition() {
        let (a, b) = (parse("{1:1,2:2,5:3}/6"), parse("{2:4,3:1}/6"));
        let (a, b) = (a.as_ref(), b.as_ref());
        assert_eq!(l2_squared(a, b), 15.0);
        assert_eq!(l1(a, b), 7.0);
        assert_eq!(inner_product(a, b), 8.0);
        assert!((cosine(a, b) - (1.0 - 8.0 / (14f64 * 17.0).sqrt())).abs() < 1e-7);
        assert_eq!(cosine(a, a), 0.0);
        let zero = parse("{}/6");
        assert!(cosine(a, zero.as_ref()).is_nan());
        assert_eq!(l2_squared(a, zero.as_ref()), 14.0);
    }

    #[test]
    fn large_values_that_do_not_meet_do_not_overflow() {
        let (a, b) = (parse("{1:3e38}/2"), parse("{2:3e38}/2"));
        assert_eq!(inner_product(a.as_ref(), b.as_ref()), 0.0);
        assert_eq!(l2_squared(a.as_ref(), b.as_ref()), f32::INFINITY);
    }

    #[test]
    fn gallop_finds_the_first_that_is_not_below() {
        let indices: Vec<i32> = (0..100).map(|i| 2 * i).collect();
        for from in (0..=100).step_by(scaled(1, 10)) {
            for index in (-1..203).step_by(scaled(1, 7)) {
                let expected = from + indices[from..].iter().take_while(|&&other| other < index).count();
                assert_eq!(gallop(&indices, from, index), expected);
            }
        }
    }

    #[test]
    fn damaged_vectors_do_not_fail() {
        let a = SparseRef::trusted(-1, &[5, 5, -3, 9, 0], &[1.0, f32::NAN, 2.0, 3.0, 4.0]);
        let long: Vec<i32> = (0..200).map(|i| (i * 7919) % 31 - 9).collect();
        let b = SparseRef::trusted(7, &long, &[1.0; 200]);
        for (x, y) in [(a, b), (b, a), (a, a)] {
            let _ = (l2_squared(x, y), l1(x, y), inner_product(x, y), cosine(x, y));
        }
    }

    fn dense(density: u32) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(prop_oneof![100 - density => Just(0f32), density => -1f32..1.0], scaled(300, 60))
    }

    proptest! {
        #[test]
        fn results_are_those_of_the_dense_vectors(a in dense(50), b in dense(30), few in dense(2)) {
            for (x, y) in [(&a, &b), (&a, &few), (&few, &a)] {
                let (sparse_x, sparse_y) = (from_dense(x).unwrap(), from_dense(y).unwrap());
                let (sparse_x, sparse_y) = (sparse_x.as_ref(), sparse_y.as_ref());
                prop_assert!((l2_squared(sparse_x, sparse_y) - scalar::l2_squared(x, y)).abs() < 1e-3);
                prop_assert!((l1(sparse_x, sparse_y) - scalar::l1(x, y)).abs() < 1e-3);
                prop_assert!((inner_product(sparse_x, sparse_y) - scalar::inner_product(x, y)).abs() < 1e-3);
            }
        }

        #[test]
        fn both_ways_give_the_same(a in dense(30), b in dense(10)) {
            let (a, b) = (from_dense(&a).unwrap(), from_dense(&b).unwrap());
            let (a, b) = (a.as_ref(), b.as_ref());
            let square = |x: f32, y: f32| (x - y) * (x - y);
            prop_assert!((union_sum_by_merge(a, b, square) - union_sum_by_search(b, a, square)).abs() < 1e-3);
            let (mut merged, mut found) = (Vec::new(), Vec::new());
            common_by_merge(a, b, |x, y| merged.push((x, y)));
            common_by_search(b, a, |y, x| found.push((x, y)));
            prop_assert_eq!(merged, found);
        }
    }
}
