//! Casts: to `vector(n)`, and between arrays of numbers and `vector`. PostgreSQL calls each with the type modifier of
//! the target and whether the cast was written out.

use super::array::{NumberArray, RealArray};
use super::borrowed::VectorRef;
use super::datum::Vector;
use super::error_map::Result;
use super::io::check_typmod;
use pgrx::prelude::*;

/// `vector` to `vector(n)`: the same elements, when there are `n`.
#[pg_extern(sql = false)]
fn vector_to_vector(v: VectorRef<'_>, typmod: i32, _explicit: bool) -> Result<Vector> {
    check_typmod(v.len(), typmod)?;
    Ok(Vector::from(v))
}

/// `integer[]`, `real[]`, `double precision[]` and `numeric[]` to `vector`.
#[pg_extern(sql = false)]
fn array_to_vector(array: NumberArray, typmod: i32, _explicit: bool) -> Result<Vector> {
    let vector = Vector::new(array.elements()?)?;
    check_typmod(vector.len(), typmod)?;
    Ok(vector)
}

#[pg_extern(sql = false)]
fn vector_to_float4(v: VectorRef<'_>, _typmod: i32, _explicit: bool) -> RealArray {
    RealArray(v.to_vec())
}
