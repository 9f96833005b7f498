//! The order of vectors: element by element, then the shorter first. It is the default btree order, which DISTINCT,
//! ORDER BY, merge joins and unique indexes use.

use super::borrowed::VectorRef;
use pg_rag_engine::vector::compare;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn vector_lt(a: VectorRef<'_>, b: VectorRef<'_>) -> bool {
    compare(&a, &b).is_lt()
}

#[pg_extern(sql = false)]
fn vector_le(a: VectorRef<'_>, b: VectorRef<'_>) -> bool {
    compare(&a, &b).is_le()
}

#[pg_extern(sql = false)]
fn vector_eq(a: VectorRef<'_>, b: VectorRef<'_>) -> bool {
    compare(&a, &b).is_eq()
}

#[pg_extern(sql = false)]
fn vector_ne(a: VectorRef<'_>, b: VectorRef<'_>) -> bool {
    compare(&a, &b).is_ne()
}

#[pg_extern(sql = false)]
fn vector_ge(a: VectorRef<'_>, b: VectorRef<'_>) -> bool {
    compare(&a, &b).is_ge()
}

#[pg_extern(sql = false)]
fn vector_gt(a: VectorRef<'_>, b: VectorRef<'_>) -> bool {
    compare(&a, &b).is_gt()
}

/// Support function 1 of the btree operator class.
#[pg_extern(sql = false)]
fn vector_cmp(a: VectorRef<'_>, b: VectorRef<'_>) -> i32 {
    compare(&a, &b) as i32
}
