//! Points moved so that each lies near its nearest neighbours: UMAP (McInnes, Healy and Melville, arXiv:1802.03426), from the
//! plane of the principal components, which keeps the whole in place.
//!
//! Neighbours are found exactly, since a picture has some thousand points, and weighed by how near they are beside the
//! point's other neighbours. Then each pair is drawn together as often as it weighs, and each point pushed away from a few
//! others. As in t-SNE, nearness in the picture is `1 / (1 + d²)`: a power of its own would change little and cost much.

use super::{Rows, SplitMix};
use crate::distance::inner_product;

/// Neighbours of a point that count.
const NEIGHBOURS: usize = 15;
/// Rows along a side of the squares in which pairs are measured.
const SQUARE: usize = 64;
const EPOCHS: usize = 200;
/// Points that a point is pushed away from for each that it is drawn to.
const PUSHES: usize = 5;
/// Half the width of the plane at the start.
const START: f64 = 10.0;
/// The longest step along one axis.
const LONGEST_STEP: f64 = 4.0;

/// A pair of neighbours, with how often it is drawn together: every so many epochs.
struct Pair {
    a: usize,
    b: usize,
    every: f64,
    next: f64,
}

/// The points of `start` moved. `pause` is called now and then, and may unwind.
pub fn refine(rows: Rows<'_>, start: &[[f64; 2]], pause: &mut dyn FnMut()) -> Vec<[f64; 2]> {
    let mut points = spread(start);
    let count = points.len().min(rows.len());
    if count < 3 {
        return points;
    }
    let mut pairs = pairs(&neighbours(rows, count, pause));
    let mut random = SplitMix(2);
    for epoch in 0..EPOCHS {
        pause();
        let step = 1.0 - epoch as f64 / EPOCHS as f64;
        for pair in &mut pairs {
            if pair.next > epoch as f64 {
                continue;
            }
            pair.next += pair.every;
            let (a, b) = (points[pair.a], points[pair.b]);
            let apart = square(a, b);
            let pull = -2.0 / (1.0 + apart);
            for axis in 0..2 {
                let moved = bounded(pull * (a[axis] - b[axis])) * step;
                points[pair.a][axis] += moved;
                points[pair.b][axis] -= moved;
            }
            for _ in 0..PUSHES {
                let other = random.below(count);
                if other == pair.a {
                    continue;
                }
                let (a, b) = (points[pair.a], points[other]);
                let apart = square(a, b);
                let push = 2.0 / ((0.001 + apart) * (1.0 + apart));
                for axis in 0..2 {
                    points[pair.a][axis] += bounded(push * (a[axis] - b[axis])) * step;
                }
            }
        }
    }
    points
}

fn square(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

fn bounded(step: f64) -> f64 {
    step.clamp(-LONGEST_STEP, LONGEST_STEP)
}

/// The plane at the size at which the forces are made for, each point a little off its place, so that equal ones part.
fn spread(start: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let widest = start.iter().flatten().fold(0.0f64, |widest, place| widest.max(place.abs()));
    let scale = if widest > 0.0 && widest.is_finite() { START / widest } else { 0.0 };
    let mut random = SplitMix(3);
    start.iter().map(|point| point.map(|place| place * scale + 1e-3 * random.signed())).collect()
}

/// The nearest rows found so far, nearest first; of equally near ones, those that come first.
struct Nearest {
    most: usize,
    found: Vec<(usize, f64)>,
}

impl Nearest {
    fn offer(&mut self, other: usize, apart: f64) {
        let is_before = |known: &(usize, f64)| known.1.total_cmp(&apart).then(known.0.cmp(&other)).is_lt();
        if self.found.len() == self.most {
            if self.found.last().is_none_or(is_before) {
                return;
            }
            self.found.pop();
        }
        self.found.insert(self.found.partition_point(is_before), (other, apart));
    }
}

/// The nearest neighbours of each row by cosine distance, nearest first. Each pair is measured once, in squares that the
/// processor's caches hold.
fn neighbours(rows: Rows<'_>, count: usize, pause: &mut dyn FnMut()) -> Vec<Vec<(usize, f64)>> {
    let dot = |a: usize, b: usize| f64::from(inner_product(rows.row(a), rows.row(b)));
    let lengths: Vec<f64> = (0..count).map(|at| dot(at, at).sqrt()).collect();
    // A vector of zeros has no direction: it is as far from all as can be.
    let apart = |a: usize, b: usize| {
        let cosine = dot(a, b) / (lengths[a] * lengths[b]);
        if cosine.is_finite() {
            (1.0 - cosine).max(0.0)
        } else {
            2.0
        }
    };
    let most = NEIGHBOURS.min(count - 1);
    let mut nearest: Vec<Nearest> = (0..count).map(|_| Nearest { most, found: Vec::with_capacity(most + 1) }).collect();
    for first in (0..count).step_by(SQUARE) {
        for second in (first..count).step_by(SQUARE) {
            pause();
            for a in first..(first + SQUARE).min(count) {
                for b in second.max(a + 1)..(second + SQUARE).min(count) {
                    let apart = apart(a, b);
                    nearest[a].offer(b, apart);
                    nearest[b].offer(a, apart);
                }
            }
        }
    }
    nearest.into_iter().map(|nearest| nearest.found).collect()
}

/// The pairs with their weights: how near one is beside the other's neighbours, from both sides (`a + b - ab`).
fn pairs(neighbours: &[Vec<(usize, f64)>]) -> Vec<Pair> {
    let mut weights = std::collections::BTreeMap::new();
    for (at, near) in neighbours.iter().enumerate() {
        let nearest = near.first().map_or(0.0, |&(_, apart)| apart);
        let width = width(near, nearest);
        for &(other, apart) in near {
            let weight = (-(apart - nearest).max(0.0) / width).exp();
            let pair = (at.min(other), at.max(other));
            weights.entry(pair).and_modify(|known: &mut f64| *known += weight - *known * weight).or_insert(weight);
        }
    }
    let heaviest = weights.values().copied().fold(0.0, f64::max);
    let mut pairs = Vec::with_capacity(2 * weights.len());
    for ((a, b), weight) in weights {
        let every = heaviest / weight;
        if every < EPOCHS as f64 {
            // From both sides, since the pushes go to one.
            pairs.push(Pair { a, b, every, next: every });
            pairs.push(Pair { a: b, b: a, every, next: every });
        }
    }
    pairs
}

/// The width at which the weights of a point's neighbours add up to the logarithm of their number.
fn width(near: &[(usize, f64)], nearest: f64) -> f64 {
    let wanted = (near.len() as f64).log2();
    let sum = |width: f64| near.iter().map(|&(_, apart)| (-(apart - nearest).max(0.0) / width).exp()).sum::<f64>();
    let (mut low, mut high) = (1e-6, 1e3);
    for _ in 0..64 {
        let middle = f64::sqrt(low * high);
        if sum(middle) > wanted {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::super::principal::project;
    use super::*;
    use crate::test_scale::scaled;
    use proptest::prelude::*;

    fn layout(elements: &[f32], dimensions: usize) -> Vec<[f64; 2]> {
        let rows = Rows::new(elements, dimensions);
        refine(rows, &project(rows, &mut || {}).points, &mut || {})
    }

    /// Clusters around `groups` directions.
    fn clustered(groups: usize, each: usize, dimensions: usize) -> Vec<f32> {
        let mut random = SplitMix(11);
        let mut elements = Vec::new();
        for _ in 0..groups {
            let centre: Vec<f64> = (0..dimensions).map(|_| random.signed()).collect();
            for _ in 0..each {
                elements.extend(centre.iter().map(|place| (place + 0.5 * random.signed()) as f32));
            }
        }
        elements
    }

    #[test]
    #[cfg_attr(miri, ignore = "two hundred points, two hundred times moved: hours")]
    fn what_belongs_together_is_nearest_in_the_picture() {
        let (groups, each) = (8, 25);
        let elements = clustered(groups, each, 32);
        let points = layout(&elements, 32);
        let plane = project(Rows::new(&elements, 32), &mut || {}).points;
        // The share of points whose five nearest are all of their group.
        let kept = |points: &[[f64; 2]]| {
            let is_kept = |at: &usize| {
                let mut order: Vec<usize> = (0..points.len()).filter(|other| other != at).collect();
                order.sort_by(|&a, &b| square(points[*at], points[a]).total_cmp(&square(points[*at], points[b])));
                order[..5].iter().all(|other| other / each == at / each)
            };
            (0..points.len()).filter(is_kept).count() as f64 / points.len() as f64
        };
        assert!(kept(&points) > 0.95, "{}", kept(&points));
        assert!(kept(&plane) < 0.8, "the plane alone shows {}, so the test says nothing", kept(&plane));
    }

    #[test]
    fn neighbours_are_those_of_all_pairs() {
        let (count, dimensions) = (3 * SQUARE + 7, 5);
        let mut elements = clustered(4, count / 4, dimensions);
        // Equal ones, opposite ones, and one of zeros.
        elements.extend_from_within(..2 * dimensions);
        elements.extend(elements[..dimensions].iter().map(|element| -element).collect::<Vec<_>>());
        elements.extend(vec![0.0; dimensions]);
        let rows = Rows::new(&elements, dimensions);
        let found = neighbours(rows, rows.len(), &mut || {});
        assert_eq!(found.len(), rows.len());
        for (at, found) in found.iter().enumerate() {
            let apart = |other: usize| {
                let apart = crate::distance::cosine(rows.row(at), rows.row(other));
                if apart.is_nan() {
                    2.0
                } else {
                    apart
                }
            };
            let mut all: Vec<f64> = (0..rows.len()).filter(|&other| other != at).map(apart).collect();
            all.sort_by(f64::total_cmp);
            assert_eq!(found.len(), NEIGHBOURS);
            assert!(found.iter().all(|&(other, _)| other != at));
            assert!(found.windows(2).all(|pair| (pair[0].1, pair[0].0) < (pair[1].1, pair[1].0)));
            for (&(other, apart_found), apart_true) in found.iter().zip(&all) {
                assert!((apart_found - apart_true).abs() < 1e-5, "{at} {other}: {apart_found} {apart_true}");
            }
        }
    }

    #[test]
    fn the_same_vectors_give_the_same_picture() {
        let (groups, each) = scaled((3, 10), (2, 2));
        let elements = clustered(groups, each, 8);
        assert_eq!(layout(&elements, 8), layout(&elements, 8));
    }

    #[test]
    fn few_equal_and_empty_vectors_have_places() {
        for elements in [&[][..], &[1.0, 0.0], &[0.0; scaled(40, 6)], &[1.0; scaled(40, 8)]] {
            let points = layout(elements, 2);
            assert_eq!(points.len(), elements.len() / 2);
            assert!(points.iter().flatten().all(|place| place.is_finite()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(scaled(32, 1)))]
        #[test]
        fn any_vectors_have_finite_places(elements in prop::collection::vec(-1e3f32..1e3, 0..scaled(200, 8)), dimensions in 1usize..6) {
            let points = layout(&elements, dimensions);
            prop_assert_eq!(points.len(), elements.len() / dimensions);
            prop_assert!(points.iter().flatten().all(|place| place.is_finite() && place.abs() < 1e6));
        }
    }
}
