//! Distances between stored values. The arguments are borrowed, so a sequential scan ordered by `<=>` allocates nothing
//! for a row stored in line.

use super::element::SqlElement;
use super::error_map::{from_arithmetic, Result};
use pg_rag_engine::sparse::{self, SparseRef};
use pg_rag_engine::{distance, vector};

/// A sum over two vectors of one type, if their dimensions agree.
#[inline]
pub(super) fn dense<E: SqlElement, R>(a: &[E], b: &[E], kernel: impl FnOnce(&[E], &[E]) -> R) -> Result<R> {
    vector::check_same_dimensions(a, b).map_err(from_arithmetic)?;
    Ok(kernel(a, b))
}

pub(super) fn l2<E: SqlElement>(a: &[E], b: &[E]) -> Result<f64> {
    dense(a, b, |a, b| f64::from(distance::l2_squared(a, b)).sqrt())
}

pub(super) fn l2_squared<E: SqlElement>(a: &[E], b: &[E]) -> Result<f64> {
    dense(a, b, |a, b| f64::from(distance::l2_squared(a, b)))
}

pub(super) fn inner_product<E: SqlElement>(a: &[E], b: &[E]) -> Result<f64> {
    dense(a, b, |a, b| f64::from(distance::inner_product(a, b)))
}

/// `<#>`: negative, because an index scan orders by ascending distance only.
pub(super) fn negative_inner_product<E: SqlElement>(a: &[E], b: &[E]) -> Result<f64> {
    dense(a, b, |a, b| -f64::from(distance::inner_product(a, b)))
}

/// NaN, which sorts last, where one of the two is zero and has no direction.
pub(super) fn cosine<E: SqlElement>(a: &[E], b: &[E]) -> Result<f64> {
    dense(a, b, distance::cosine)
}

pub(super) fn l1<E: SqlElement>(a: &[E], b: &[E]) -> Result<f64> {
    dense(a, b, |a, b| f64::from(distance::l1(a, b)))
}

/// The angle between vectors of norm 1, as a share of π.
pub(super) fn spherical<E: SqlElement>(a: &[E], b: &[E]) -> Result<f64> {
    dense(a, b, distance::spherical)
}

/// A sum over two sparse vectors, if their dimensions agree.
pub(super) fn sparse<R>(
    a: SparseRef<'_>,
    b: SparseRef<'_>,
    kernel: impl FnOnce(SparseRef<'_>, SparseRef<'_>) -> R,
) -> Result<R> {
    sparse::check_same_dimensions(a, b).map_err(from_arithmetic)?;
    Ok(kernel(a, b))
}
