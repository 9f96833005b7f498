//! A value prepared to be compared with many codes: once per search, or once per row inserted.

use half::f16;

use super::dispatch::QueryProduct;
use super::estimate::{Estimate, Side};
use super::exact::{distance, elements, Plain};
use super::layout::split;
use super::sparse::SparseQuery;
use super::BitMetric;
use crate::distance::{prefetch, Kernels, Metric};

/// How many codes are on their way from memory: comparing one takes less time than fetching one.
const AHEAD: usize = 4;

/// Made by [`Codec::query`](super::Codec::query) and [`Codec::query_of_code`](super::Codec::query_of_code); compares
/// with codes of that codec. Any bytes have some distance; fewer bytes than a code has are infinitely far.
#[derive(Debug)]
pub struct Query {
    form: Form,
    dimensions: usize,
    /// Of the longest code, if they are of variable length.
    code_bytes: usize,
}

#[derive(Debug)]
pub(super) enum Form {
    Quantised(Quantised),
    Single(Metric, Vec<f32>),
    Half(Metric, Vec<f16>),
    Bits(BitMetric, Vec<u8>),
    Sparse(SparseQuery),
}

#[derive(Debug)]
pub(super) struct Quantised {
    pub(super) words: Vec<i16>,
    pub(super) side: Side,
    pub(super) estimate: Estimate,
    pub(super) product: QueryProduct,
}

impl Quantised {
    #[inline(always)]
    fn compare(&self, code: &[u8], finish: impl Fn(Estimate, Side, Side, i32) -> f32) -> Option<f32> {
        let (factors, elements) = split(code, self.words.len())?;
        let product = (self.product)(&self.words, elements);
        Some(finish(self.estimate, self.side, Side::new(factors), product))
    }

    #[inline(always)]
    fn distance(&self, code: &[u8]) -> f32 {
        self.compare(code, Estimate::distance).unwrap_or(f32::INFINITY)
    }
}

#[inline]
fn plain<E: Plain + Kernels>(metric: Metric, query: &[E], code: &[u8], dimensions: usize) -> f32 {
    elements(code, dimensions).map_or(f32::INFINITY, |code| distance(metric, query, &code))
}

#[inline]
fn bits(metric: BitMetric, query: &[u8], code: &[u8]) -> f32 {
    code.get(..query.len()).map_or(f32::INFINITY, |code| metric.distance(query, code))
}

impl Query {
    pub(super) fn new(form: Form, dimensions: usize, code_bytes: usize) -> Query {
        Query { form, dimensions, code_bytes }
    }

    /// The distance from the value that a code was made of: estimated, or exact where codes are. Never NaN. Its unit is
    /// that of the codec, see [`Codec`](super::Codec).
    #[inline]
    pub fn distance(&self, code: &[u8]) -> f32 {
        match &self.form {
            Form::Quantised(query) => query.distance(code),
            Form::Single(metric, query) => plain(*metric, query, code, self.dimensions),
            Form::Half(metric, query) => plain(*metric, query, code, self.dimensions),
            Form::Bits(metric, query) => bits(*metric, query, code),
            Form::Sparse(query) => query.distance(code),
        }
    }

    /// A number that the true distance is certainly not below, and usually little below: with 8 bits, `√d` times the
    /// deviation of [`Query::distance`]. The distance itself where codes are exact.
    pub fn bound(&self, code: &[u8]) -> f32 {
        match &self.form {
            Form::Quantised(query) => query.compare(code, Estimate::bound).unwrap_or(f32::NEG_INFINITY),
            _ => self.distance(code),
        }
    }

    /// Appends the distance of every code, in order. The next codes are on their way from memory while one is compared,
    /// so they may lie anywhere.
    pub fn score_many<'a>(&self, codes: impl IntoIterator<Item = &'a [u8]>, distances: &mut Vec<f32>) {
        match &self.form {
            Form::Quantised(query) => self.score_each(codes, distances, |code| query.distance(code)),
            Form::Sparse(query) => self.score_each(codes, distances, |code| query.distance(code)),
            _ => self.score_each(codes, distances, |code| self.distance(code)),
        }
    }

    #[inline(always)]
    fn score_each<'a>(
        &self,
        codes: impl IntoIterator<Item = &'a [u8]>,
        distances: &mut Vec<f32>,
        score: impl Fn(&[u8]) -> f32,
    ) {
        let fetched = codes.into_iter().inspect(|code| prefetch(code.as_ptr(), code.len().min(self.code_bytes)));
        let mut codes = fetched.fuse();
        // A ring of codes on their way; `None` after the last.
        let mut ahead: [Option<&[u8]>; AHEAD] = std::array::from_fn(|_| codes.next());
        let mut at = 0;
        while let Some(code) = std::mem::replace(&mut ahead[at], codes.next()) {
            at = (at + 1) % AHEAD;
            distances.push(score(code));
        }
    }
}
