//! A sparse vector prepared to be compared with many codes.

use super::measure::Side;
use super::table::Table;
use super::{Code, Measure};
use crate::distance::Metric;
use crate::sparse::distance::gallops;
use crate::sparse::{SparseRef, SparseVector};

/// Has the distances of [`Measure::between`], to the last bit: sums are in the same order, the zeros between change
/// nothing.
#[derive(Debug)]
pub(in crate::code) struct SparseQuery {
    measure: Measure,
    vector: SparseVector,
    size: f64,
    table: Option<Table>,
}

impl SparseQuery {
    pub(in crate::code) fn new(measure: Measure, vector: SparseRef<'_>, dimensions: usize) -> SparseQuery {
        SparseQuery::sized(measure, vector, measure.size(vector), dimensions)
    }

    pub(in crate::code) fn of_code(measure: Measure, code: &Code<'_>, dimensions: usize) -> SparseQuery {
        let Side { vector, size } = code.side();
        SparseQuery::sized(measure, vector, size, dimensions)
    }

    fn sized(measure: Measure, vector: SparseRef<'_>, size: f64, dimensions: usize) -> SparseQuery {
        SparseQuery { measure, vector: vector.to_owned(), size, table: Table::new(vector, dimensions) }
    }

    /// Infinite for bytes that are no code.
    #[inline]
    pub(in crate::code) fn distance(&self, code: &[u8]) -> f32 {
        let Some(code) = Code::read(code) else { return f32::INFINITY };
        let (query, code) = (Side { vector: self.vector.as_ref(), size: self.size }, code.side());
        match &self.table {
            // Of a code much longer than the query, the table would have to be asked for every element.
            Some(table) if !gallops(query.vector, code.vector) => {
                let common = match self.measure.0 {
                    Metric::L1 => common(Measure(Metric::L1), table, code.vector),
                    _ => common(Measure(Metric::L2), table, code.vector),
                };
                self.measure.distance(query, code, common)
            }
            _ => self.measure.between(query, code),
        }
    }
}

/// Compiled for each kind of sum, which `measure` names as a constant.
#[inline(always)]
fn common(measure: Measure, table: &Table, code: SparseRef<'_>) -> f64 {
    let elements = code.indices().iter().zip(code.values());
    elements.fold(0.0, |sum, (&index, &value)| sum + measure.common(table.value(index), value))
}
