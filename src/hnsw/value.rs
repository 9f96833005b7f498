//! Values of an indexed column: stored datums read in place, as the engine takes them.

use crate::types::{BitArg, DenseRef, SparseArg};
use half::f16;
use pg_rag_engine::code::Values;
use pg_rag_engine::distance::{self, hamming, jaccard};
use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pg_rag_engine::sparse;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_sys, FromDatum, PgSqlErrorCode};

use super::opclass::IndexedColumn;

/// A value, which lives as long as its datum.
pub enum IndexedValue<'a> {
    Single(DenseRef<'a, f32>),
    Half(DenseRef<'a, f16>),
    Sparse(SparseArg<'a>),
    Bits(BitArg<'a>),
}

impl<'a> IndexedValue<'a> {
    /// Reads a datum of the type of the column; None if it is null.
    ///
    /// # Errors
    /// If it has other dimensions than the column, as values of expressions may.
    ///
    /// # Safety
    /// `datum` is null or of the column's type, and outlives the value.
    pub unsafe fn read(
        column: &IndexedColumn,
        datum: pg_sys::Datum,
        is_null: bool,
    ) -> Result<Option<Self>, ErrorReport> {
        // SAFETY: the caller's promise.
        let value = unsafe {
            match column.element {
                ElementType::Vector => DenseRef::from_datum(datum, is_null).map(IndexedValue::Single),
                ElementType::Halfvec => DenseRef::from_datum(datum, is_null).map(IndexedValue::Half),
                ElementType::Sparsevec => SparseArg::from_datum(datum, is_null).map(IndexedValue::Sparse),
                ElementType::Bit => BitArg::from_datum(datum, is_null).map(IndexedValue::Bits),
            }
        };
        let Some(value) = value else { return Ok(None) };
        let (expected, found) = (column.dimensions as usize, value.dimensions());
        if expected == found {
            return Ok(Some(value));
        }
        let message = match value {
            IndexedValue::Bits(_) => format!("different bit lengths {expected} and {found}"),
            _ => format!("different {} dimensions {expected} and {found}", value.type_name()),
        };
        Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, message, "hnsw"))
    }

    fn type_name(&self) -> &'static str {
        match self {
            IndexedValue::Single(_) => "vector",
            IndexedValue::Half(_) => "halfvec",
            IndexedValue::Sparse(_) => "sparsevec",
            IndexedValue::Bits(_) => "bit",
        }
    }

    fn dimensions(&self) -> usize {
        match self {
            IndexedValue::Single(value) => value.len(),
            IndexedValue::Half(value) => value.len(),
            IndexedValue::Sparse(value) => value.get().dimensions() as usize,
            IndexedValue::Bits(value) => value.length_bits() as usize,
        }
    }

    /// What the engine encodes and searches for.
    pub fn values(&self) -> Values<'_> {
        match self {
            IndexedValue::Single(value) => Values::Single(value),
            IndexedValue::Half(value) => Values::Half(value),
            IndexedValue::Sparse(value) => Values::Sparse(value.get()),
            IndexedValue::Bits(value) => Values::Bits(value.bits()),
        }
    }

    /// Whether the value has no direction, so that under the cosine it is not indexed.
    pub fn is_zero(&self) -> bool {
        match self {
            IndexedValue::Single(value) => value.iter().all(|&element| element == 0.0),
            IndexedValue::Half(value) => value.iter().all(|element| element.to_f32() == 0.0),
            IndexedValue::Sparse(value) => value.get().values().is_empty(),
            IndexedValue::Bits(_) => false,
        }
    }

    /// The distance by which results are ordered: that of the operator, but squared for L2.
    pub fn distance(&self, metric: Metric, other: &IndexedValue<'_>) -> f64 {
        match (self, other) {
            (IndexedValue::Single(a), IndexedValue::Single(b)) => dense(metric).kernel::<f32>()(a, b),
            (IndexedValue::Half(a), IndexedValue::Half(b)) => dense(metric).kernel::<f16>()(a, b),
            (IndexedValue::Sparse(a), IndexedValue::Sparse(b)) => {
                let (a, b) = (a.get(), b.get());
                match metric {
                    Metric::InnerProduct => -f64::from(sparse::distance::inner_product(a, b)),
                    Metric::Cosine => sparse::distance::cosine(a, b),
                    Metric::L1 => f64::from(sparse::distance::l1(a, b)),
                    _ => f64::from(sparse::distance::l2_squared(a, b)),
                }
            }
            (IndexedValue::Bits(a), IndexedValue::Bits(b)) => match metric {
                Metric::Jaccard => jaccard(a.bits(), b.bits()),
                _ => hamming(a.bits(), b.bits()) as f64,
            },
            _ => f64::NAN,
        }
    }
}

fn dense(metric: Metric) -> distance::Metric {
    match metric {
        Metric::InnerProduct => distance::Metric::InnerProduct,
        Metric::Cosine => distance::Metric::Cosine,
        Metric::L1 => distance::Metric::L1,
        _ => distance::Metric::L2Squared,
    }
}
