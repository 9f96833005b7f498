//! From operator classes to what the engine needs of the columns of an index: of the one vector its element type, metric and
//! dimensions, of each filter column how its values become keys.
//!
//! The second support function of each class says that. It returns it in the datum itself, so PostgreSQL's cache of support
//! functions is all that a caller needs.

use super::handler::TERMS_PROCEDURE;
use crate::error::{error, invalid_parameter, Result};
use pg_rag_engine::hnsw::filter::KeyKind;
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pgrx::datum::Internal;
use pgrx::prelude::*;

/// What the vector column of an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedColumn {
    pub element: ElementType,
    pub metric: Metric,
    pub dimensions: u32,
    /// Its place among the columns of the index, from 0.
    pub place: usize,
}

/// A column beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilteredColumn {
    pub kind: KeyKind,
    /// The type that its operator class takes; of a column of arrays or of an enum, the column's own.
    pub type_oid: pg_sys::Oid,
    pub collation: pg_sys::Oid,
    /// Its place among the columns of the index, from 0.
    pub place: usize,
}

/// The columns of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexColumns {
    pub vector: IndexedColumn,
    pub filters: Vec<FilteredColumn>,
}

/// What an operator class is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Terms {
    Vector(ElementType, Metric),
    Filter(KeyKind),
}

impl IndexColumns {
    /// The columns of an index.
    ///
    /// # Errors
    /// Without a vector or with two, and as [`IndexedColumn::of`].
    ///
    /// # Safety
    /// `index` is an open index of this access method.
    pub unsafe fn of(index: pg_sys::Relation) -> Result<Self> {
        let mut vector = None;
        let mut filters = Vec::new();
        // SAFETY: the caller's promise; an open index has so many attributes, classes' types and collations.
        unsafe {
            let columns = usize::try_from((*(*index).rd_att).natts).unwrap_or(0);
            for place in 0..columns {
                match terms_of(index, place)? {
                    Terms::Filter(kind) => {
                        let declared = *(*index).rd_opcintype.add(place);
                        let is_any = matches!(declared, pg_sys::ANYARRAYOID | pg_sys::ANYENUMOID);
                        let own = || pg_sys::get_atttype((*index).rd_id, place as i16 + 1);
                        let type_oid = if is_any { pg_sys::getBaseType(own()) } else { declared };
                        let collation = *(*index).rd_indcollation.add(place);
                        filters.push(FilteredColumn { kind, type_oid, collation, place });
                    }
                    Terms::Vector(..) if vector.is_some() => {
                        return Err(error(
                            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                            "hnsw index cannot have two vector columns",
                        )
                        .set_hint("Create an index for each of them."));
                    }
                    Terms::Vector(element, metric) => {
                        vector = Some(IndexedColumn::at(index, place, element, metric)?);
                    }
                }
            }
        }
        let no_vector = || {
            error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "hnsw index has no vector column")
                .set_hint("Name a column of type vector, halfvec, sparsevec or bit with an operator class such as vector_cosine_ops.")
        };
        Ok(IndexColumns { vector: vector.ok_or_else(no_vector)?, filters })
    }

    /// What an index over these columns is.
    pub fn identity(&self, m: u16, ef_construction: u16, seed: u64) -> Identity {
        let IndexedColumn { element, metric, dimensions, .. } = self.vector;
        // PostgreSQL allows 32 columns.
        let filters = self.filters.iter().map(|column| column.kind.column(column.place as u8 + 1)).collect();
        Identity::of_column(element, metric, dimensions, m, ef_construction, seed).with_filters(filters)
    }
}

impl IndexedColumn {
    /// The vector column of an index.
    ///
    /// # Errors
    /// For a type without fixed dimensions, a column without dimensions, and too many of them.
    ///
    /// # Safety
    /// `index` is an open index of this access method.
    pub unsafe fn of(index: pg_sys::Relation) -> Result<Self> {
        // SAFETY: the caller's promise.
        Ok(unsafe { IndexColumns::of(index) }?.vector)
    }

    unsafe fn at(index: pg_sys::Relation, place: usize, element: ElementType, metric: Metric) -> Result<Self> {
        let (mut type_oid, mut dimensions, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
        // SAFETY: the index has this column; the results are written to the stack.
        unsafe {
            let number = place as i16 + 1;
            pg_sys::get_atttypetypmodcoll((*index).rd_id, number, &mut type_oid, &mut dimensions, &mut collation)
        };
        // Binary compatible with bit, so that its operator classes take it.
        if type_oid == pg_sys::VARBITOID {
            return Err(error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "type not supported for hnsw index"));
        }
        // The type modifier of each of these types is the number of dimensions, or -1.
        let dimensions = u32::try_from(dimensions)
            .ok()
            .filter(|&dimensions| dimensions > 0)
            .ok_or_else(|| invalid_parameter("column does not have dimensions"))?;
        let limit = element.max_dimensions();
        if dimensions > limit {
            return Err(error(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("column cannot have more than {limit} dimensions for hnsw index"),
            ));
        }
        Ok(IndexedColumn { element, metric, dimensions, place })
    }
}

/// What the operator class of a column of an index is for.
///
/// # Safety
/// `index` is an open index of this access method with this column.
unsafe fn terms_of(index: pg_sys::Relation, place: usize) -> Result<Terms> {
    // SAFETY: every operator class of this access method has this function, or the call raises an error; it takes one
    // argument of type `internal`, which it does not read.
    let datum = unsafe {
        let function = pg_sys::index_getprocinfo(index, place as i16 + 1, TERMS_PROCEDURE);
        pg_sys::FunctionCall1Coll(function, pg_sys::InvalidOid, pg_sys::Datum::null())
    };
    decode(datum.value()).ok_or_else(|| {
        error(
            PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
            format!("support function {TERMS_PROCEDURE} of the operator class is not for hnsw indexes"),
        )
    })
}

/// A number of this kind says how the values of a filter column become keys.
const FILTER: usize = 1 << 16;

fn encode(terms: Terms) -> usize {
    match terms {
        Terms::Vector(element, metric) => usize::from(u16::from_le_bytes([element as u8, metric as u8])),
        Terms::Filter(kind) => FILTER | usize::from(kind as u8),
    }
}

fn decode(number: usize) -> Option<Terms> {
    if number & FILTER != 0 {
        return KeyKind::from_u8(u8::try_from(number & !FILTER).ok()?).map(Terms::Filter);
    }
    let [element, metric] = u16::try_from(number).ok()?.to_le_bytes();
    Some(Terms::Vector(ElementType::from_u8(element)?, Metric::from_u8(metric)?))
}

/// The support functions 2 of the operator classes of a type.
macro_rules! support {
    ($type:ident, $element:ident, $($name:ident => $metric:ident,)*) => {
        pastey::paste! { $(
            #[pg_extern(sql = false)]
            fn [<hnsw_ $type _ $name _support>](_fcinfo: pg_sys::FunctionCallInfo) -> Internal {
                let terms = Terms::Vector(ElementType::$element, Metric::$metric);
                Internal::from(Some(pg_sys::Datum::from(encode(terms))))
            }
        )* }
    };
}

support!(vector, Vector, l2 => L2, ip => InnerProduct, cosine => Cosine, l1 => L1,);
support!(halfvec, Halfvec, l2 => L2, ip => InnerProduct, cosine => Cosine, l1 => L1,);
support!(sparsevec, Sparsevec, l2 => L2, ip => InnerProduct, cosine => Cosine, l1 => L1,);
support!(bit, Bit, hamming => Hamming, jaccard => Jaccard,);

/// The support functions 2 of the operator classes of filter columns, one for each kind of keys.
macro_rules! filter_support {
    ($($name:ident => $kind:ident,)*) => {
        pastey::paste! { $(
            #[pg_extern(sql = false)]
            fn [<hnsw_ $name _support>](_fcinfo: pg_sys::FunctionCallInfo) -> Internal {
                Internal::from(Some(pg_sys::Datum::from(encode(Terms::Filter(KeyKind::$kind)))))
            }
        )* }
    };
}

filter_support!(
    filter_bool => Bool, filter_int2 => Int2, filter_int4 => Int4, filter_int8 => Int8, filter_float => Float,
    filter_numeric => Numeric, filter_uuid => Uuid, filter_interval => Interval, filter_text => Text,
    filter_identity => Identity, filter_hash => Hash, filter_array => Array, filter_document => Document,
);
