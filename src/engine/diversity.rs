//! Maximal marginal relevance: a ranking that does not say the same thing twice (Carbonell and Goldstein, SIGIR 1998).
//!
//! Again and again that candidate is taken for which `λ · relevance − (1 − λ) · similarity to the nearest one taken` is
//! largest. With λ = 1 it is the ranking by relevance, with λ = 0 the one that spreads most. Both terms must be on one
//! scale, see [`on_scale_of`]. Called by the search functions.

/// At most `limit` candidates, in the order in which they are taken. `similarity` is asked for two candidates by their
/// places; `admit` may refuse one for good. Equal candidates are taken in the order given; relevance that is not a number
/// comes last.
pub fn maximal_marginal_relevance(
    relevance: &[f64],
    similarity: impl Fn(usize, usize) -> f64,
    lambda: f64,
    limit: usize,
    mut admit: impl FnMut(usize) -> bool,
) -> Vec<usize> {
    let mut waiting: Vec<usize> = (0..relevance.len()).collect();
    // Of each candidate, the similarity to the nearest one taken.
    let mut nearest = vec![f64::NEG_INFINITY; relevance.len()];
    let mut taken: Vec<usize> = Vec::new();
    while taken.len() < limit && !waiting.is_empty() {
        let gain = |at: usize| {
            let repeated = if taken.is_empty() { 0.0 } else { (1.0 - lambda) * nearest[at] };
            let gain = lambda * relevance[at] - repeated;
            if gain.is_nan() {
                f64::NEG_INFINITY
            } else {
                gain
            }
        };
        let mut best = 0;
        for place in 1..waiting.len() {
            if gain(waiting[place]) > gain(waiting[best]) {
                best = place;
            }
        }
        let chosen = waiting.remove(best);
        if !admit(chosen) {
            continue;
        }
        for &at in &waiting {
            nearest[at] = nearest[at].max(similarity(at, chosen));
        }
        taken.push(chosen);
    }
    taken
}

/// Scores of any kind, moved linearly so that the best and the worst get the largest and the smallest number of `scale`:
/// then they can be weighed against similarities.
pub fn on_scale_of(scores: &[f64], scale: &[f64]) -> Vec<f64> {
    let bounds = |numbers: &[f64]| {
        numbers
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &number| (low.min(number), high.max(number)))
    };
    let ((low, high), (bottom, top)) = (bounds(scores), bounds(scale));
    let moved = |score: &f64| {
        if high > low {
            bottom + (score - low) / (high - low) * (top - bottom)
        } else {
            top
        }
    };
    scores.iter().map(moved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Points on a line; near means similar.
    fn similarity(points: &[f64]) -> impl Fn(usize, usize) -> f64 + '_ {
        |a, b| 1.0 - (points[a] - points[b]).abs()
    }

    #[test]
    fn the_second_choice_is_not_a_copy_of_the_first() {
        let points = [0.0, 0.01, 0.9];
        let relevance = [0.9, 0.89, 0.7];
        let order = |lambda| maximal_marginal_relevance(&relevance, similarity(&points), lambda, 3, |_| true);
        assert_eq!(order(0.5), [0, 2, 1]);
        assert_eq!(order(1.0), [0, 1, 2]);
    }

    #[test]
    fn what_is_refused_repels_nobody() {
        let points = [0.0, 0.01, 0.9];
        let order = maximal_marginal_relevance(&[0.9, 0.89, 0.7], similarity(&points), 0.5, 2, |at| at != 0);
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn scores_take_the_range_of_the_scale() {
        assert_eq!(on_scale_of(&[10.0, 0.0, 5.0], &[0.2, 0.8]), [0.8, 0.2, 0.5]);
        assert_eq!(on_scale_of(&[3.0, 3.0], &[0.2, 0.8]), [0.8, 0.8]);
        assert!(on_scale_of(&[], &[]).is_empty());
    }

    proptest! {
        #[test]
        fn each_candidate_is_taken_once_and_the_best_first(
            scores in prop::collection::vec(0.0f64..1.0, 0..40), lambda in 0.05f64..=1.0, limit in 0usize..50
        ) {
            let order = maximal_marginal_relevance(&scores, similarity(&scores), lambda, limit, |_| true);
            prop_assert_eq!(order.len(), limit.min(scores.len()));
            let mut distinct = order.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), order.len());
            if let Some(&first) = order.first() {
                prop_assert!(scores.iter().all(|&score| score <= scores[first]));
            }
        }

        #[test]
        fn lambda_one_keeps_the_order(mut scores in prop::collection::vec(-1.0f64..1.0, 0..40)) {
            scores.sort_by(|a, b| b.total_cmp(a));
            let order = maximal_marginal_relevance(&scores, |_, _| 1.0, 1.0, 40, |_| true);
            prop_assert_eq!(order, (0..scores.len()).collect::<Vec<_>>());
        }
    }
}
