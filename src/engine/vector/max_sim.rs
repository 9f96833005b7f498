//! Late interaction: a query and a document are sets of vectors, one per token, and every query token is matched with
//! the document token most like it (Khattab & Zaharia 2020, "ColBERT", MaxSim).

use super::{check_same_dimensions, ArithmeticError, Element};

/// `Σ` over the query vectors of the largest `similarity` to a document vector; the inner product in ColBERT. Larger is
/// more alike. `None` if either side is empty: there is nothing to match. All vectors must have the same dimensions.
pub fn max_sim<E: Element>(
    query: &[&[E]],
    document: &[&[E]],
    similarity: impl Fn(&[E], &[E]) -> f32,
) -> Result<Option<f64>, ArithmeticError> {
    let (Some(first), false) = (query.first(), document.is_empty()) else { return Ok(None) };
    query.iter().chain(document).try_for_each(|vector| check_same_dimensions(first, vector))?;
    let best = |token: &[E]| document.iter().map(|other| similarity(token, other)).fold(f32::NEG_INFINITY, f32::max);
    Ok(Some(query.iter().map(|token| f64::from(best(token))).sum()))
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    fn dot<E: Element>(a: &[E], b: &[E]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x.to_f32() * y.to_f32()).sum()
    }

    #[test]
    fn every_query_vector_counts_with_its_best_match() {
        let query: [&[f32]; 2] = [&[1.0, 0.0], &[0.0, 1.0]];
        let document: [&[f32]; 3] = [&[0.5, 0.1], &[0.2, -1.0], &[0.4, 0.3]];
        let similarity = max_sim(&query, &document, dot).unwrap().unwrap();
        assert!((similarity - 0.8).abs() < 1e-6);
        let negative: [&[f16]; 1] = [&[f16::NEG_ONE]];
        assert_eq!(max_sim(&[&[f16::ONE]], &negative, dot).unwrap(), Some(-1.0));
    }

    #[test]
    fn an_empty_side_has_no_similarity_and_dimensions_must_agree() {
        let token: [&[f32]; 1] = [&[1.0]];
        assert_eq!(max_sim(&[], &token, dot).unwrap(), None);
        assert_eq!(max_sim(&token, &[], dot).unwrap(), None);
        let error = max_sim(&token, &[&[1.0], &[1.0, 2.0]], dot).unwrap_err();
        assert_eq!(error.to_string(), "different vector dimensions 1 and 2");
    }

    proptest! {
        #[test]
        fn more_document_vectors_never_lower_it(
            query in prop::collection::vec(prop::array::uniform3(-1f32..1.0), 1..5),
            document in prop::collection::vec(prop::array::uniform3(-1f32..1.0), 2..6),
        ) {
            let query: Vec<&[f32]> = query.iter().map(|token| token.as_slice()).collect();
            let document: Vec<&[f32]> = document.iter().map(|token| token.as_slice()).collect();
            let all = max_sim(&query, &document, dot).unwrap();
            let fewer = max_sim(&query, &document[1..], dot).unwrap();
            prop_assert!(all >= fewer);
        }
    }
}
