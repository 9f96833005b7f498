//! Norm and order of sparse vectors: those of the dense vectors they stand for.

use std::cmp::Ordering;

use super::{SparseRef, SparseVector};
use crate::vector;

/// The Euclidean norm, accumulated in `f64`.
pub fn norm(a: SparseRef<'_>) -> f64 {
    vector::norm(a.values())
}

/// `a` scaled to norm 1. The zero vector stays zero; a value that becomes zero is left out. Nothing can overflow, see
/// [`vector::l2_normalized`].
pub fn l2_normalized(a: SparseRef<'_>) -> SparseVector {
    let scaled = vector::l2_normalized(a.values());
    let (indices, values) = a.indices().iter().copied().zip(scaled).filter(|&(_, value)| value != 0.0).unzip();
    SparseVector { dimensions: a.dimensions(), indices, values }
}

/// The order of the btree operator class: that of the dense vectors, element by element, then the one with fewer
/// dimensions first. Decided at the first stored element that the other vector lacks or has otherwise.
pub fn compare(a: SparseRef<'_>, b: SparseRef<'_>) -> Ordering {
    let (left, right) = (a.elements(), b.elements());
    for ((i, x), (j, y)) in left.zip(right) {
        let order = match i.cmp(&j) {
            Ordering::Less => against_zero(x),
            Ordering::Greater => against_zero(y).reverse(),
            Ordering::Equal => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
        };
        if order.is_ne() {
            return order;
        }
    }
    // One vector has elements left, or none. Where the other has no such dimension, the dimensions decide.
    let common = a.indices().len().min(b.indices().len());
    let left_over = |vector: SparseRef<'_>, dimensions| {
        vector.elements().nth(common).filter(|&(index, _)| index < dimensions).map(|(_, value)| against_zero(value))
    };
    left_over(a, b.dimensions())
        .or_else(|| left_over(b, a.dimensions()).map(Ordering::reverse))
        .unwrap_or_else(|| a.dimensions().cmp(&b.dimensions()))
}

/// The order of a stored value and zero, which it never equals.
fn against_zero(value: f32) -> Ordering {
    if value < 0.0 {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{from_dense, parse, print, to_dense};
    use super::*;
    use crate::test_scale::scaled;

    fn normalized(text: &str) -> String {
        print(l2_normalized(parse(text, None).unwrap().as_ref()).as_ref())
    }

    #[test]
    fn norm_and_scaling() {
        assert_eq!(norm(SparseRef::trusted(9, &[1, 2], &[3.0, 4.0])), 5.0);
        assert_eq!(normalized("{1:3,3:4}/5"), "{1:0.6,3:0.8}/5");
        assert_eq!(normalized("{}/5"), "{}/5");
        assert_eq!(normalized("{1:3e38}/1"), "{1:1}/1");
        assert_eq!(normalized("{1:1e38,2:1e-38}/2"), "{1:1}/2");
    }

    fn dense() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(prop_oneof![4 => Just(0f32), 1 => Just(1f32), 1 => Just(-1f32), 1 => -1f32..1.0], 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(scaled(3000, 4)))]
        #[test]
        fn order_norm_and_scaling_are_those_of_the_dense_vectors(a in dense(), b in dense()) {
            let (sparse_a, sparse_b) = (from_dense(&a).unwrap(), from_dense(&b).unwrap());
            prop_assert_eq!(compare(sparse_a.as_ref(), sparse_b.as_ref()), vector::compare(&a, &b));
            prop_assert!((norm(sparse_a.as_ref()) - vector::norm(&a)).abs() < 1e-12);
            let scaled = to_dense::<f32>(l2_normalized(sparse_a.as_ref()).as_ref()).unwrap();
            for (x, y) in scaled.iter().zip(vector::l2_normalized(&a)) {
                prop_assert!((x - y).abs() < 1e-6);
            }
        }
    }
}
