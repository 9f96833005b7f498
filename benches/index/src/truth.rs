//! The exact nearest neighbours, kept in a file, and recall against them.
//!
//! More neighbours are kept than recall counts, so that the truth about a part of the rows (before the insertions, after the
//! deletions) is what is left of them. Recall asks whether a returned row is as near as the tenth of the truth: equal rows
//! may stand for one another.

use crate::data::Dataset;
use crate::random::mix;
use crate::vectors::{cores, dot, dot_exact, Vectors};
use std::path::Path;

/// Neighbours that recall counts.
pub const NEAREST: usize = 10;
/// Neighbours that are kept, and how many by single precision they are chosen from.
const KEPT: usize = 64;
const CANDIDATES: usize = 96;
/// Rows that share a cache with a query.
const BLOCK: usize = 32;
/// Servers compute in single precision.
const TOLERANCE: f64 = 1e-6;

#[derive(Clone, Copy, PartialEq)]
pub enum Metric {
    Cosine,
    L2,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::L2 => "l2",
        }
    }

    pub fn operator(self) -> &'static str {
        match self {
            Self::Cosine => "<=>",
            Self::L2 => "<->",
        }
    }

    /// Orders rows as the distance does, from the product with the query and the square of the row's norm.
    fn score(self, product: f32, norm: f32) -> f32 {
        match self {
            Self::Cosine => -product / norm.sqrt(),
            Self::L2 => norm / 2.0 - product,
        }
    }

    /// In double precision; of `l2` the square.
    fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        match self {
            Self::Cosine => 1.0 - dot_exact(a, b) / (dot_exact(a, a) * dot_exact(b, b)).sqrt(),
            Self::L2 => a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum(),
        }
    }
}

/// For each query the numbers of its nearest rows, nearest first.
pub struct Truth<'a> {
    data: &'a Dataset,
    metric: Metric,
    neighbours: Vec<Vec<u32>>,
}

impl<'a> Truth<'a> {
    /// Read from a file in `folder`, or computed and written there.
    pub fn of(data: &'a Dataset, metric: Metric, folder: &Path) -> std::io::Result<Self> {
        let Dataset { collection, queries, .. } = data;
        let (rows, dimensions, count) = (collection.len(), collection.dimensions, queries.len());
        let key = mix(mix(data.fingerprint, rows as u64), count as u64);
        let path = folder.join(format!("{dimensions}-{rows}-{}-{key:016x}.truth", metric.name()));
        let kept = KEPT.min(rows);
        let numbers: Vec<u32> = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() == count * kept * 4 => bytes
                .chunks_exact(4)
                .map(|number| u32::from_le_bytes([number[0], number[1], number[2], number[3]]))
                .collect(),
            _ => {
                println!(
                    "computing the exact neighbours of {count} queries among {rows} rows of {dimensions} dimensions"
                );
                let numbers: Vec<u32> = compute(collection, queries, metric).into_iter().flatten().collect();
                std::fs::create_dir_all(folder)?;
                std::fs::write(&path, numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())?;
                numbers
            }
        };
        Ok(Self { data, metric, neighbours: numbers.chunks(kept).map(<[u32]>::to_vec).collect() })
    }

    /// The truth about the rows that `live` names.
    pub fn judge<'t>(&'t self, live: impl Fn(usize) -> bool + 't) -> Result<Judge<'t>, String> {
        let bounds = self.neighbours.iter().enumerate().map(|(query, neighbours)| {
            let nearest = neighbours.iter().map(|&row| row as usize).filter(|&row| live(row)).nth(NEAREST - 1);
            let nearest = nearest.ok_or(format!("fewer than {NEAREST} of the {KEPT} neighbours kept are left"))?;
            Ok(self.distance(query, nearest) + TOLERANCE)
        });
        Ok(Judge { bounds: bounds.collect::<Result<_, String>>()?, truth: self, live: Box::new(live) })
    }

    fn distance(&self, query: usize, row: usize) -> f64 {
        self.metric.distance(self.data.queries.row(query), self.data.collection.row(row))
    }
}

/// Says how good an answer is.
pub struct Judge<'t> {
    truth: &'t Truth<'t>,
    live: Box<dyn Fn(usize) -> bool + 't>,
    /// Of each query the distance within which a row is one of the nearest.
    bounds: Vec<f64>,
}

impl Judge<'_> {
    /// Share of the nearest among the rows returned for a query, none counted twice.
    pub fn recall(&self, query: usize, returned: &[i64]) -> f64 {
        let good = |&(at, &row): &(usize, &i64)| {
            let number = usize::try_from(row).unwrap_or(usize::MAX);
            number < self.truth.data.collection.len()
                && (self.live)(number)
                && !returned[..at].contains(&row)
                && self.truth.distance(query, number) <= self.bounds[query]
        };
        returned.iter().take(NEAREST).enumerate().filter(good).count() as f64 / NEAREST as f64
    }
}

fn compute(collection: &Vectors, queries: &Vectors, metric: Metric) -> Vec<Vec<u32>> {
    let norms: Vec<f32> = (0..collection.len()).map(|row| dot(collection.row(row), collection.row(row))).collect();
    let numbers: Vec<usize> = (0..queries.len()).collect();
    let per_thread = numbers.len().div_ceil(cores()).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = numbers
            .chunks(per_thread)
            .map(|part| scope.spawn(|| nearest(collection, &norms, queries, part, metric)))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread that only computes")).collect()
    })
}

/// The nearest rows of some queries, by single precision first, then those anew.
fn nearest(collection: &Vectors, norms: &[f32], queries: &Vectors, numbers: &[usize], metric: Metric) -> Vec<Vec<u32>> {
    let mut candidates: Vec<Candidates> = numbers.iter().map(|_| Candidates::default()).collect();
    for from in (0..collection.len()).step_by(BLOCK) {
        let norms = &norms[from..(from + BLOCK).min(collection.len())];
        for (&query, candidates) in numbers.iter().zip(&mut candidates) {
            for (row, &norm) in (from..).zip(norms) {
                let product = dot(queries.row(query), collection.row(row));
                candidates.add(row, metric.score(product, norm));
            }
        }
    }
    let exact = |(&query, mut candidates): (&usize, Candidates)| {
        candidates.cut();
        let distance = |row: u32| metric.distance(queries.row(query), collection.row(row as usize));
        let mut rows: Vec<(f64, u32)> = candidates.found.iter().map(|&(_, row)| (distance(row), row)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        rows.into_iter().take(KEPT).map(|(_, row)| row).collect()
    };
    numbers.iter().zip(candidates).map(exact).collect()
}

/// The best rows of a query so far, with their scores, and some worse ones.
#[derive(Default)]
struct Candidates {
    found: Vec<(f32, u32)>,
    bound: Option<f32>,
}

impl Candidates {
    fn add(&mut self, row: usize, score: f32) {
        if self.bound.is_none_or(|bound| score < bound) {
            self.found.push((score, row as u32));
            if self.found.len() > 4 * CANDIDATES {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        self.found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.found.truncate(CANDIDATES);
        self.bound = self.found.last().map(|worst| worst.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normals;

    #[test]
    fn the_truth_is_that_of_sorting_all_rows() {
        let (mut collection, mut queries) = (Vectors::zeros(900, 19), Vectors::zeros(7, 19));
        normals(1, &mut collection.values);
        normals(2, &mut queries.values);
        let data = Dataset { rows: 900, collection, queries, fingerprint: 0 };
        for metric in [Metric::Cosine, Metric::L2] {
            let truth = Truth { data: &data, metric, neighbours: compute(&data.collection, &data.queries, metric) };
            let even = |row: usize| row.is_multiple_of(2);
            let judge = truth.judge(even).unwrap();
            for query in 0..7 {
                let mut sorted: Vec<usize> = (0..900).collect();
                sorted.sort_by(|&a, &b| truth.distance(query, a).total_cmp(&truth.distance(query, b)));
                assert_eq!(truth.neighbours[query], sorted[..KEPT].iter().map(|&row| row as u32).collect::<Vec<_>>());
                let live: Vec<i64> = sorted.iter().filter(|&&row| even(row)).map(|&row| row as i64).collect();
                assert_eq!(judge.recall(query, &live[..10]), 1.0);
                assert_eq!(judge.recall(query, &live[5..15]), 0.5);
                assert_eq!(judge.recall(query, &[live[0]; 10]), 0.1);
                assert_eq!(judge.recall(query, &[-1, 901]), 0.0);
            }
        }
    }
}
