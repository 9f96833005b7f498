//! Dividing rows into parts: each belongs to the part of the nearest of some pivots, its *home*, and to that of the nearest
//! pivot in another part, or to more. So near rows are together in some part, and parts hang together (as in DiskANN's build
//! of merged shards: Subramanya et al., *DiskANN*, 2019, section 4.2).
//!
//! Pivots are rows; parts are groups of near pivots which about equally many rows belong to.

use crate::code::{Codec, Query};

/// Pivots for each part, and the fewest and most: each row is compared with all.
const PIVOTS_PER_PART: usize = 8;
const LEAST_PIVOTS: usize = 64;
const MOST_PIVOTS: usize = 1024;

/// How many parts a row belongs to, if they are about so many with two each. The more parts, the more rows are at the edge
/// of theirs. Measured with 60,000 embeddings of 384 dimensions, recall at ef 40 (one graph: .970, which takes 1): 10 parts,
/// two each .971 (1.6 times as long); 37 parts, two .957 (1.1), three .970 (1.6); 150 parts, two .919, three .952 (1.4).
pub(super) const fn memberships_for(parts: usize) -> usize {
    match parts {
        0..=16 => 2,
        17..=64 => 3,
        _ => 4,
    }
}

/// How many pivots a division into so many parts wants.
pub(super) fn pivots_for(parts: usize) -> usize {
    (parts * PIVOTS_PER_PART).clamp(LEAST_PIVOTS, MOST_PIVOTS)
}

/// Codes of some rows.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) pivots: Vec<Vec<u8>>,
    /// Those that tell how many rows are near each pivot.
    pub(super) others: Vec<Vec<u8>>,
}

/// A division of all rows.
pub(super) struct Cells {
    pivots: Vec<Vec<u8>>,
    /// By pivot: what is added to a distance from it, so that the sum ranks pivots by Euclidean distance.
    offsets: Vec<f32>,
    /// What a distance is multiplied with before.
    factor: f32,
    /// By pivot.
    part_of: Vec<u32>,
    parts: u32,
    /// Parts that a row belongs to.
    memberships: usize,
    distances: Vec<f32>,
}

impl Cells {
    /// Divides rows, which are like those of `sample`, into about `parts`. `is_product`: distances are those of the inner
    /// product.
    pub(super) fn new(codec: &Codec, is_product: bool, sample: Sample, parts: usize, memberships: usize) -> Cells {
        let Sample { mut pivots, others } = sample;
        pivots.sort_unstable();
        pivots.dedup();
        // By the product most rows would be nearest to the longest pivot. |p|² - 2ap ranks pivots as |a - p|² does, and
        // codes give products with the opposite sign.
        let (factor, offsets) = if is_product {
            (2.0, pivots.iter().map(|pivot| -codec.distance_between(pivot, pivot)).collect())
        } else {
            (1.0, vec![0.0; pivots.len()])
        };
        let count = pivots.len();
        let mut cells = Cells {
            pivots,
            offsets,
            factor,
            part_of: vec![0; count],
            parts: 1,
            memberships,
            distances: Vec::with_capacity(count),
        };
        let mut weights = vec![0u32; count];
        for code in &others {
            if let Ok(query) = codec.query_of_code(code) {
                if let Some(weight) = weights.get_mut(cells.nearest(&query, |_| true).unwrap_or(0)) {
                    *weight += 1;
                }
            }
        }
        cells.group(codec, &weights, (others.len() as u32).div_ceil(parts.max(1) as u32).max(1));
        cells
    }

    /// Makes groups of near pivots, each of about so much weight.
    fn group(&mut self, codec: &Codec, weights: &[u32], weight_of_part: u32) {
        let mut left: Vec<usize> = (0..self.pivots.len()).collect();
        let mut part = 0;
        while let Some(&seed) = left.first() {
            if let Ok(query) = codec.query_of_code(self.pivots.get(seed).map_or(&[], Vec::as_slice)) {
                self.rank(&query);
                let distance = |at: usize| match self.distances.get(at) {
                    Some(&distance) if at != seed => distance,
                    _ => f32::NEG_INFINITY,
                };
                left.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
            }
            let mut weight = 0;
            let mut taken = 0;
            while let Some(&pivot) = left.get(taken).filter(|_| weight < weight_of_part) {
                weight += weights.get(pivot).copied().unwrap_or(0);
                if let Some(part_of) = self.part_of.get_mut(pivot) {
                    *part_of = part;
                }
                taken += 1;
            }
            left.drain(..taken.max(1));
            part += 1;
        }
        self.parts = part.max(1);
    }

    pub(super) fn parts(&self) -> u32 {
        self.parts
    }

    /// Leaves the distance of every pivot in `self.distances`, up to what all of them have in common.
    fn rank(&mut self, query: &Query) {
        self.distances.clear();
        query.score_many(self.pivots.iter().map(Vec::as_slice), &mut self.distances);
        for (distance, offset) in self.distances.iter_mut().zip(&self.offsets) {
            *distance = self.factor * *distance + offset;
        }
    }

    fn nearest(&mut self, query: &Query, may_be: impl Fn(u32) -> bool) -> Option<usize> {
        self.rank(query);
        self.nearest_ranked(may_be)
    }

    /// The nearest pivot of a part that `may_be`, by the distances of the last [`Cells::rank`].
    fn nearest_ranked(&self, may_be: impl Fn(u32) -> bool) -> Option<usize> {
        let all = self.distances.iter().zip(&self.part_of).enumerate();
        let allowed = all.filter(|(_, (_, &part))| may_be(part));
        allowed.min_by(|(_, (a, _)), (_, (b, _))| a.total_cmp(b)).map(|(pivot, _)| pivot)
    }

    /// Puts the parts that a row belongs to into `into`, nearest first: the first is its home.
    pub(super) fn parts_of(&mut self, query: &Query, into: &mut Vec<u32>) {
        into.clear();
        self.rank(query);
        while into.len() < self.memberships {
            let Some(pivot) = self.nearest_ranked(|part| !into.contains(&part)) else { return };
            into.extend(self.part_of.get(pivot));
        }
    }
}
