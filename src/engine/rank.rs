//! Reciprocal rank fusion: one ranking out of several (Cormack, Clarke, Buettcher, SIGIR 2009).
//!
//! `score(d) = Σ weight / (k + rank(d))` over the lists that hold `d`, ranks from 1. Only ranks count, so lists whose
//! scores cannot be compared, as vector distance and text rank, can be fused. Called by the search functions.

use std::collections::HashMap;
use std::hash::Hash;

/// One ranked list, best first. An id that occurs again in the same list counts with its first rank.
#[derive(Debug, Clone, Copy)]
pub struct RankedList<'a, Id> {
    pub ids: &'a [Id],
    pub weight: f64,
}

/// An id with its fused score and its rank, from 1, in each of the given lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused<Id> {
    pub id: Id,
    pub score: f64,
    pub ranks: Vec<Option<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum RankError {
    #[error("rank fusion constant must be a finite number of at least 0, not {0}")]
    Constant(f64),
    #[error("weight of a ranked list must be a finite number of at least 0, not {0}")]
    Weight(f64),
}

/// Fuses the lists, best first. Equal scores are ordered by the best single rank, then by id, so that the result is a
/// function of the lists alone.
pub fn reciprocal_rank_fusion<Id>(lists: &[RankedList<'_, Id>], k: f64) -> Result<Vec<Fused<Id>>, RankError>
where
    Id: Clone + Eq + Hash + Ord,
{
    if !(k.is_finite() && k >= 0.0) {
        return Err(RankError::Constant(k));
    }
    let mut positions: HashMap<&Id, usize> = HashMap::new();
    let mut fused: Vec<Fused<Id>> = Vec::new();
    for (list_index, list) in lists.iter().enumerate() {
        if !(list.weight.is_finite() && list.weight >= 0.0) {
            return Err(RankError::Weight(list.weight));
        }
        for (index, id) in list.ids.iter().enumerate() {
            let position = *positions.entry(id).or_insert_with(|| {
                fused.push(Fused { id: id.clone(), score: 0.0, ranks: vec![None; lists.len()] });
                fused.len() - 1
            });
            let entry = &mut fused[position];
            if entry.ranks[list_index].is_none() {
                let rank = index + 1;
                entry.ranks[list_index] = Some(rank);
                entry.score += list.weight / (k + rank as f64);
            }
        }
    }
    let best_rank = |entry: &Fused<Id>| entry.ranks.iter().flatten().min().copied();
    fused.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| best_rank(a).cmp(&best_rank(b))).then_with(|| a.id.cmp(&b.id))
    });
    Ok(fused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The constant `k` of the paper.
    const DEFAULT_K: f64 = 60.0;

    fn list(ids: &[i64]) -> RankedList<'_, i64> {
        RankedList { ids, weight: 1.0 }
    }

    fn order(fused: &[Fused<i64>]) -> Vec<i64> {
        fused.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn an_id_in_both_lists_beats_the_first_of_one() {
        let fused = reciprocal_rank_fusion(&[list(&[1, 2, 3]), list(&[4, 2, 5])], DEFAULT_K).unwrap();
        assert_eq!(order(&fused), [2, 1, 4, 3, 5]);
        assert_eq!(fused[0].ranks, [Some(2), Some(2)]);
        assert!((fused[0].score - 2.0 / 62.0).abs() < 1e-15);
        assert_eq!(fused[2].ranks, [None, Some(1)]);
    }

    #[test]
    fn weights_move_a_list_forward() {
        let heavy = RankedList { ids: &[9][..], weight: 2.0 };
        assert_eq!(order(&reciprocal_rank_fusion(&[list(&[1, 2]), heavy], DEFAULT_K).unwrap()), [9, 1, 2]);
    }

    #[test]
    fn a_repeated_id_counts_once() {
        let fused = reciprocal_rank_fusion(&[list(&[7, 7, 7, 8])], DEFAULT_K).unwrap();
        assert!((fused[0].score - 1.0 / 61.0).abs() < 1e-15);
        assert_eq!(fused[1].ranks, [Some(4)]);
    }

    #[test]
    fn parameters_outside_their_range_are_errors() {
        assert!(reciprocal_rank_fusion(&[list(&[1])], f64::NAN).is_err());
        assert!(reciprocal_rank_fusion(&[list(&[1])], -1.0).is_err());
        assert!(reciprocal_rank_fusion(&[RankedList { ids: &[1][..], weight: f64::INFINITY }], 60.0).is_err());
    }

    proptest! {
        #[test]
        fn one_list_keeps_its_order_and_the_result_has_each_id_once(
            a in prop::collection::vec(0i64..50, 0..40), b in prop::collection::vec(0i64..50, 0..40)
        ) {
            let mut distinct = Vec::new();
            a.iter().for_each(|id| if !distinct.contains(id) { distinct.push(*id) });
            prop_assert_eq!(order(&reciprocal_rank_fusion(&[list(&a)], DEFAULT_K).unwrap()), distinct);

            let fused = reciprocal_rank_fusion(&[list(&a), list(&b)], DEFAULT_K).unwrap();
            let mut ids = order(&fused);
            ids.sort_unstable();
            let mut expected: Vec<i64> = a.iter().chain(&b).copied().collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(ids, expected);
            prop_assert!(fused.windows(2).all(|pair| pair[0].score >= pair[1].score));
        }
    }
}
