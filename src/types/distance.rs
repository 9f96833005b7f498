//! Distances and norms over stored vectors.
//!
//! The arguments are borrowed, so a sequential scan ordered by `<=>` allocates nothing for a row stored in line.

use super::borrowed::VectorRef;
use super::datum::Vector;
use super::error_map::{from_arithmetic, Result};
use pg_rag_engine::{distance, vector};
use pgrx::prelude::*;

/// The elements of both, of equal number.
#[inline]
fn paired<'a>(a: &'a VectorRef<'_>, b: &'a VectorRef<'_>) -> Result<(&'a [f32], &'a [f32])> {
    vector::check_same_dimensions(a, b).map_err(from_arithmetic)?;
    Ok((a, b))
}

#[pg_extern(sql = false)]
fn vector_l2_distance(a: VectorRef<'_>, b: VectorRef<'_>) -> Result<f64> {
    let (a, b) = paired(&a, &b)?;
    Ok(f64::from(distance::l2_squared(a, b)).sqrt())
}

#[pg_extern(sql = false)]
fn vector_inner_product(a: VectorRef<'_>, b: VectorRef<'_>) -> Result<f64> {
    let (a, b) = paired(&a, &b)?;
    Ok(f64::from(distance::inner_product(a, b)))
}

/// `<#>`: negative, because an index scan orders by ascending distance only.
#[pg_extern(sql = false)]
fn vector_negative_inner_product(a: VectorRef<'_>, b: VectorRef<'_>) -> Result<f64> {
    let (a, b) = paired(&a, &b)?;
    Ok(-f64::from(distance::inner_product(a, b)))
}

/// NaN, which sorts last, where one of the two is zero and has no direction.
#[pg_extern(sql = false)]
fn vector_cosine_distance(a: VectorRef<'_>, b: VectorRef<'_>) -> Result<f64> {
    let (a, b) = paired(&a, &b)?;
    Ok(distance::cosine(a, b))
}

#[pg_extern(sql = false)]
fn vector_l1_distance(a: VectorRef<'_>, b: VectorRef<'_>) -> Result<f64> {
    let (a, b) = paired(&a, &b)?;
    Ok(f64::from(distance::l1(a, b)))
}

#[pg_extern(sql = false)]
fn vector_dims(v: VectorRef<'_>) -> i32 {
    // At most 16,000.
    v.len() as i32
}

#[pg_extern(sql = false)]
fn vector_norm(v: VectorRef<'_>) -> f64 {
    vector::norm(&v)
}

/// The zero vector stays as it is.
#[pg_extern(sql = false)]
fn vector_l2_normalize(v: VectorRef<'_>) -> Result<Vector> {
    Vector::new(vector::l2_normalized(&v))
}
