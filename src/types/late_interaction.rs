//! `max_sim`: how well a document matches a query, token by token.
//!
//! Late interaction as in ColBERT (Khattab and Zaharia, 2020): each vector of the query looks for the vector of the
//! document that it has the largest inner product with, and these maxima are added.

use super::dense::Dense;
use super::element::SqlElement;
use super::error_map::{from_arithmetic, null_not_allowed, Result};
use pg_rag_engine::{distance, vector};
use pgrx::prelude::*;

/// None when one of the two has no vector.
fn max_sim<E: SqlElement>(query: &[Dense<E>], document: &[Dense<E>]) -> Result<Option<f64>> {
    let query: Vec<&[E]> = query.iter().map(|vector| &**vector).collect();
    let document: Vec<&[E]> = document.iter().map(|vector| &**vector).collect();
    let similarity = |a: &[E], b: &[E]| {
        pgrx::check_for_interrupts!();
        distance::inner_product(a, b)
    };
    vector::max_sim(&query, &document, similarity).map_err(from_arithmetic)
}

fn without_nulls<T>(values: Vec<Option<T>>) -> Result<Vec<T>> {
    values.into_iter().map(|value| value.ok_or_else(|| null_not_allowed("array must not contain nulls"))).collect()
}

#[pg_extern(sql = false)]
fn vector_max_sim(query: Vec<Option<Dense<f32>>>, document: Vec<Option<Dense<f32>>>) -> Result<Option<f64>> {
    max_sim(&without_nulls(query)?, &without_nulls(document)?)
}

#[pg_extern(sql = false)]
fn halfvec_max_sim(
    query: Vec<Option<Dense<half::f16>>>,
    document: Vec<Option<Dense<half::f16>>>,
) -> Result<Option<f64>> {
    max_sim(&without_nulls(query)?, &without_nulls(document)?)
}
