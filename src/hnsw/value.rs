//! Values of an indexed column: from the datum to what the engine encodes, and exact distances.
//!
//! A [`Stored`] owns what reading the datum took (a short value is copied, a toasted one fetched, and freed on drop); a
//! [`Value`] is a view of it. The scan computes the distances of the rows that it returns from these, so
//! [`exact_distance`] gives the very numbers of the SQL operators: for [`Metric::L2`] the root, not the square.

use crate::error::{error, Result};
use crate::types::{BitArg, DenseRef, SparseArg};
use half::f16;
use pg_rag_engine::code::Values;
use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pg_rag_engine::sparse::{self, SparseRef};
use pg_rag_engine::vector::Element;
use pg_rag_engine::{distance, vector};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// A datum of an indexed column, read.
pub enum Stored<'a> {
    Single(DenseRef<'a, f32>),
    Half(DenseRef<'a, f16>),
    Sparse(SparseArg<'a>),
    Bits(BitArg<'a>),
}

impl<'a> Stored<'a> {
    /// Reads a datum. A corrupt one raises `ERRCODE_DATA_CORRUPTED`.
    ///
    /// # Safety
    /// `datum` is a valid, not null datum of the SQL type that `element` names, in any form, and outlives `'a`.
    pub unsafe fn read(element: ElementType, datum: pg_sys::Datum) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe {
            match element {
                ElementType::Vector => DenseRef::from_datum(datum, false).map(Self::Single),
                ElementType::Halfvec => DenseRef::from_datum(datum, false).map(Self::Half),
                ElementType::Sparsevec => SparseArg::from_datum(datum, false).map(Self::Sparse),
                ElementType::Bit => BitArg::from_datum(datum, false).map(Self::Bits),
            }
        }
    }

    /// The value.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Single(elements) => Value::Single(elements),
            Self::Half(elements) => Value::Half(elements),
            Self::Sparse(value) => Value::Sparse(value.get()),
            Self::Bits(value) => Value::Bits { bits: value.bits(), length: value.length_bits() },
        }
    }
}

/// A value of an indexed column.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Single(&'a [f32]),
    Half(&'a [f16]),
    Sparse(SparseRef<'a>),
    /// First bit highest, the last byte padded with zeros.
    Bits {
        bits: &'a [u8],
        length: u32,
    },
}

impl<'a> Value<'a> {
    /// What the engine encodes and searches for.
    pub fn values(&self) -> Values<'a> {
        match *self {
            Value::Single(elements) => Values::Single(elements),
            Value::Half(elements) => Values::Half(elements),
            Value::Sparse(value) => Values::Sparse(value),
            Value::Bits { bits, .. } => Values::Bits(bits),
        }
    }

    /// Elements of a vector, also those that a sparse one does not store, or bits.
    pub fn dimensions(&self) -> u32 {
        match *self {
            // At most 16,000.
            Value::Single(elements) => elements.len() as u32,
            Value::Half(elements) => elements.len() as u32,
            // Positive.
            Value::Sparse(value) => value.dimensions().unsigned_abs(),
            Value::Bits { length, .. } => length,
        }
    }

    /// Whether this is a vector without direction, which is not indexed under [`Metric::Cosine`]. Bit strings have no
    /// norm.
    pub fn is_zero_norm(&self) -> bool {
        match *self {
            Value::Single(elements) => vector::norm(elements) == 0.0,
            Value::Half(elements) => vector::norm(elements) == 0.0,
            Value::Sparse(value) => sparse::norm(value) == 0.0,
            Value::Bits { .. } => false,
        }
    }

    /// Checks a row's value against the index: what the column's type has checked already, unless the catalogue was
    /// tampered with.
    pub fn check_row(&self, dimensions: u32) -> Result<()> {
        let found = self.dimensions();
        if found == dimensions {
            return Ok(());
        }
        Err(match self {
            Value::Bits { .. } => error(
                PgSqlErrorCode::ERRCODE_STRING_DATA_LENGTH_MISMATCH,
                format!("bit string length {found} does not match type bit({dimensions})"),
            ),
            _ => {
                error(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, format!("expected {dimensions} dimensions, not {found}"))
            }
        })
    }

    /// Checks the value of a query, which may have any dimensions, against the index: the error of the operator, which
    /// would compare it with the rows.
    pub fn check_query(&self, dimensions: u32) -> Result<()> {
        if self.dimensions() == dimensions {
            Ok(())
        } else {
            Err(self.different(dimensions))
        }
    }

    /// The error of an operator for this value and one of other dimensions.
    #[cold]
    fn different(&self, other: u32) -> pg_sys::panic::ErrorReport {
        let (what, own) = (self.described(), self.dimensions());
        error(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, format!("different {what} {own} and {other}"))
    }

    fn described(&self) -> &'static str {
        match self {
            Value::Single(_) => "vector dimensions",
            Value::Half(_) => "halfvec dimensions",
            Value::Sparse(_) => "sparsevec dimensions",
            Value::Bits { .. } => "bit lengths",
        }
    }
}

/// The distance of two values, exactly as the ordering operator of `metric` computes it: for [`Metric::L2`] the root of
/// the sum, for [`Metric::InnerProduct`] the negative product, for [`Metric::Cosine`] NaN where one is a zero vector.
///
/// # Errors
/// The operator's, for values of different dimensions; an internal one where the values are not of one type or the
/// metric is not one of theirs, which an operator class rules out.
#[inline]
pub fn exact_distance(metric: Metric, a: &Value<'_>, b: &Value<'_>) -> Result<f64> {
    if a.dimensions() != b.dimensions() {
        return Err(a.different(b.dimensions()));
    }
    let distance = match (*a, *b) {
        (Value::Single(a), Value::Single(b)) => dense(metric, a, b),
        (Value::Half(a), Value::Half(b)) => dense(metric, a, b),
        (Value::Sparse(a), Value::Sparse(b)) => match metric {
            Metric::L2 => Some(f64::from(sparse::distance::l2_squared(a, b)).sqrt()),
            Metric::InnerProduct => Some(-f64::from(sparse::distance::inner_product(a, b))),
            Metric::Cosine => Some(sparse::distance::cosine(a, b)),
            Metric::L1 => Some(f64::from(sparse::distance::l1(a, b))),
            Metric::Hamming | Metric::Jaccard => None,
        },
        (Value::Bits { bits: a, .. }, Value::Bits { bits: b, .. }) => match metric {
            // At most 64,000.
            Metric::Hamming => Some(distance::hamming(a, b) as f64),
            Metric::Jaccard => Some(distance::jaccard(a, b)),
            Metric::L2 | Metric::InnerProduct | Metric::Cosine | Metric::L1 => None,
        },
        _ => None,
    };
    distance.ok_or_else(|| {
        error(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("{metric:?} is no distance of {}", a.described()))
    })
}

/// The distance of two vectors of as many dimensions.
#[inline]
fn dense<E: distance::Kernels + Element>(metric: Metric, a: &[E], b: &[E]) -> Option<f64> {
    match metric {
        Metric::L2 => Some(f64::from(distance::l2_squared(a, b)).sqrt()),
        Metric::InnerProduct => Some(-f64::from(distance::inner_product(a, b))),
        Metric::Cosine => Some(distance::cosine(a, b)),
        Metric::L1 => Some(f64::from(distance::l1(a, b))),
        Metric::Hamming | Metric::Jaccard => None,
    }
}
