//! How good a ranking is, given what is relevant: recall, precision, reciprocal rank, and the normalised discounted
//! cumulative gain (Järvelin and Kekäläinen, ACM TOIS 2002) with relevance of 0 or 1.

/// The quality of one ranking, or means over several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    /// Of what is relevant, as far as that many can be returned, the share that is in the ranking.
    pub recall: f64,
    /// Of the places that were asked for, the share that holds something relevant.
    pub precision: f64,
    /// 1 / the place of the first that is relevant, or 0.
    pub reciprocal_rank: f64,
    pub ndcg: f64,
}

/// The quality of a ranking: for each of its places, best first, whether something relevant is there; `relevant`: how
/// many are relevant in all, at least one; `k`: the places that were asked for, at least one.
pub fn quality(ranking: &[bool], relevant: usize, k: usize) -> Quality {
    let (relevant, k) = (relevant.max(1), k.max(1));
    let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let hits: Vec<usize> = (0..ranking.len().min(k)).filter(|&place| ranking[place]).collect();
    let possible = relevant.min(k);
    Quality {
        recall: hits.len() as f64 / possible as f64,
        precision: hits.len() as f64 / k as f64,
        reciprocal_rank: hits.first().map_or(0.0, |&place| 1.0 / (place as f64 + 1.0)),
        ndcg: hits.iter().map(|&place| gain(place)).sum::<f64>() / (0..possible).map(gain).sum::<f64>(),
    }
}

/// The means; all zero of nothing.
pub fn mean(qualities: &[Quality]) -> Quality {
    let of = |part: fn(&Quality) -> f64| qualities.iter().map(part).sum::<f64>() / qualities.len().max(1) as f64;
    Quality {
        recall: of(|quality| quality.recall),
        precision: of(|quality| quality.precision),
        reciprocal_rank: of(|quality| quality.reciprocal_rank),
        ndcg: of(|quality| quality.ndcg),
    }
}

/// The value below which this share of the numbers lies, the nearest rank; NaN of none.
pub fn percentile(numbers: &mut [f64], share: f64) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let rank = (share * numbers.len() as f64).ceil() as usize;
    numbers.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_ranking_has_the_best_numbers() {
        let best = quality(&[true, true, false], 2, 3);
        assert_eq!(best, Quality { recall: 1.0, precision: 2.0 / 3.0, reciprocal_rank: 1.0, ndcg: 1.0 });
        // More is relevant than fits.
        assert_eq!(quality(&[true, true], 5, 2).recall, 1.0);
    }

    #[test]
    fn a_later_place_gains_less() {
        let second = quality(&[false, true], 1, 10);
        assert_eq!((second.recall, second.reciprocal_rank), (1.0, 0.5));
        assert!((second.ndcg - 1.0 / 3f64.log2()).abs() < 1e-12);
        assert_eq!(quality(&[false; 10], 1, 10), Quality::default());
        // Beyond what was asked for nothing counts.
        assert_eq!(quality(&[false, false, true], 1, 2), Quality::default());
    }

    #[test]
    fn means_and_percentiles() {
        assert_eq!(mean(&[quality(&[true], 1, 1), Quality::default()]).ndcg, 0.5);
        assert_eq!(mean(&[]), Quality::default());
        let mut numbers: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&mut numbers, 0.95), percentile(&mut numbers, 0.5)), (95.0, 50.0));
        assert!(percentile(&mut [], 0.5).is_nan());
    }
}
