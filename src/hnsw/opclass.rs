//! From an operator class to what the engine needs of an indexed column: element type, metric, dimensions.
//!
//! The second support function of each class says the first two. It returns them in the datum itself, so PostgreSQL's
//! cache of support functions is all that a caller needs.

use super::handler::TERMS_PROCEDURE;
use crate::error::{error, invalid_parameter, Result};
use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pgrx::datum::Internal;
use pgrx::prelude::*;

/// What a column of an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedColumn {
    pub element: ElementType,
    pub metric: Metric,
    pub dimensions: u32,
}

impl IndexedColumn {
    /// The first column of an index.
    ///
    /// # Errors
    /// For a type without fixed dimensions, a column without dimensions, and too many of them.
    ///
    /// # Safety
    /// `index` is an open index of this access method.
    pub unsafe fn of(index: pg_sys::Relation) -> Result<Self> {
        let (mut type_oid, mut dimensions, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
        // SAFETY: an index has a first column; the results are written to the stack.
        unsafe { pg_sys::get_atttypetypmodcoll((*index).rd_id, 1, &mut type_oid, &mut dimensions, &mut collation) };
        // Binary compatible with bit, so that its operator classes take it.
        if type_oid == pg_sys::VARBITOID {
            return Err(error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "type not supported for hnsw index"));
        }
        // SAFETY: the caller's promise.
        let (element, metric) = unsafe { terms_of(index) }?;
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
        Ok(IndexedColumn { element, metric, dimensions })
    }
}

/// Element type and metric of the first column of an index.
///
/// # Safety
/// `index` is an open index of this access method.
unsafe fn terms_of(index: pg_sys::Relation) -> Result<(ElementType, Metric)> {
    // SAFETY: every operator class of this access method has this function, or the call raises an error; it takes one
    // argument of type `internal`, which it does not read.
    let datum = unsafe {
        let function = pg_sys::index_getprocinfo(index, 1, TERMS_PROCEDURE);
        pg_sys::FunctionCall1Coll(function, pg_sys::InvalidOid, pg_sys::Datum::null())
    };
    decode(datum.value()).ok_or_else(|| {
        error(
            PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
            format!("support function {TERMS_PROCEDURE} of the operator class is not for hnsw indexes"),
        )
    })
}

fn encode(element: ElementType, metric: Metric) -> usize {
    usize::from(u16::from_le_bytes([element as u8, metric as u8]))
}

fn decode(number: usize) -> Option<(ElementType, Metric)> {
    let [element, metric] = u16::try_from(number).ok()?.to_le_bytes();
    Some((ElementType::from_u8(element)?, Metric::from_u8(metric)?))
}

/// The support functions 2 of the operator classes of a type.
macro_rules! support {
    ($type:ident, $element:ident, $($name:ident => $metric:ident,)*) => {
        pastey::paste! { $(
            #[pg_extern(sql = false)]
            fn [<hnsw_ $type _ $name _support>](_fcinfo: pg_sys::FunctionCallInfo) -> Internal {
                Internal::from(Some(pg_sys::Datum::from(encode(ElementType::$element, Metric::$metric))))
            }
        )* }
    };
}

support!(vector, Vector, l2 => L2, ip => InnerProduct, cosine => Cosine, l1 => L1,);
support!(halfvec, Halfvec, l2 => L2, ip => InnerProduct, cosine => Cosine, l1 => L1,);
support!(sparsevec, Sparsevec, l2 => L2, ip => InnerProduct, cosine => Cosine, l1 => L1,);
support!(bit, Bit, hamming => Hamming, jaccard => Jaccard,);
