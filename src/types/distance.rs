//! Distances between stored values. The arguments are borrowed, so a sequential scan ordered by `<=>` allocates nothing
//! for a row stored in line.

use super::element::SqlElement;
use super::error_map::from_arithmetic;
use pg_rag_engine::sparse::{self, SparseRef};
use pg_rag_engine::vector::ArithmeticError;
use pg_rag_engine::{distance, vector};
use pgrx::pg_sys::panic::ErrorReportable;
use std::convert::Infallible;

/// Raises the failure of a distance. Out of line, and not returned: an error report is 200 bytes, and copying it through
/// the results of functions that run once per row costs as much as a short distance.
#[cold]
#[inline(never)]
fn raise(failure: ArithmeticError) -> ! {
    match Err::<Infallible, _>(from_arithmetic(failure)).unwrap_or_report() {}
}

/// A sum over two vectors of one type. Raises an error if their dimensions differ.
#[inline(always)]
fn dense<E: SqlElement, R>(a: &[E], b: &[E], kernel: impl FnOnce(&[E], &[E]) -> R) -> R {
    if let Err(failure) = vector::check_same_dimensions(a, b) {
        raise(failure);
    }
    kernel(a, b)
}

pub(super) fn l2<E: SqlElement>(a: &[E], b: &[E]) -> f64 {
    dense(a, b, |a, b| f64::from(distance::l2_squared(a, b)).sqrt())
}

pub(super) fn l2_squared<E: SqlElement>(a: &[E], b: &[E]) -> f64 {
    dense(a, b, |a, b| f64::from(distance::l2_squared(a, b)))
}

pub(super) fn inner_product<E: SqlElement>(a: &[E], b: &[E]) -> f64 {
    dense(a, b, |a, b| f64::from(distance::inner_product(a, b)))
}

/// `<#>`: negative, because an index scan orders by ascending distance only.
pub(super) fn negative_inner_product<E: SqlElement>(a: &[E], b: &[E]) -> f64 {
    dense(a, b, |a, b| -f64::from(distance::inner_product(a, b)))
}

/// NaN, which sorts last, where one of the two is zero and has no direction.
pub(super) fn cosine<E: SqlElement>(a: &[E], b: &[E]) -> f64 {
    dense(a, b, distance::cosine)
}

pub(super) fn l1<E: SqlElement>(a: &[E], b: &[E]) -> f64 {
    dense(a, b, |a, b| f64::from(distance::l1(a, b)))
}

/// The angle between vectors of norm 1, as a share of π.
pub(super) fn spherical<E: SqlElement>(a: &[E], b: &[E]) -> f64 {
    dense(a, b, distance::spherical)
}

/// A sum over two sparse vectors. Raises an error if their dimensions differ.
pub(super) fn sparse<R>(
    a: SparseRef<'_>,
    b: SparseRef<'_>,
    kernel: impl FnOnce(SparseRef<'_>, SparseRef<'_>) -> R,
) -> R {
    if let Err(failure) = sparse::check_same_dimensions(a, b) {
        raise(failure);
    }
    kernel(a, b)
}
