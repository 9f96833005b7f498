//! Which element type and metric an index has: what its operator class says.
//!
//! Support function 1 of an operator class is the distance, 2 tells the pair of element type and metric, as a number. The
//! functions of the second kind are stamped here and named in `sql/hnsw.sql`.

use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pgrx::datum::Internal;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys, PgSqlErrorCode};

pub const DISTANCE_PROC: u16 = 1;
pub const TERMS_PROC: u16 = 2;

macro_rules! support {
    ($($name:ident: $element:ident, $metric:ident;)*) => {$(
        #[pg_extern(sql = false)]
        fn $name(_call: pg_sys::FunctionCallInfo) -> Internal {
            Internal::from(Some(terms(ElementType::$element, Metric::$metric)))
        }
    )*};
}

support! {
    hnsw_vector_l2_support: Vector, L2;
    hnsw_vector_ip_support: Vector, InnerProduct;
    hnsw_vector_cosine_support: Vector, Cosine;
    hnsw_vector_l1_support: Vector, L1;
    hnsw_halfvec_l2_support: Halfvec, L2;
    hnsw_halfvec_ip_support: Halfvec, InnerProduct;
    hnsw_halfvec_cosine_support: Halfvec, Cosine;
    hnsw_halfvec_l1_support: Halfvec, L1;
    hnsw_sparsevec_l2_support: Sparsevec, L2;
    hnsw_sparsevec_ip_support: Sparsevec, InnerProduct;
    hnsw_sparsevec_cosine_support: Sparsevec, Cosine;
    hnsw_sparsevec_l1_support: Sparsevec, L1;
    hnsw_bit_hamming_support: Bit, Hamming;
    hnsw_bit_jaccard_support: Bit, Jaccard;
}

fn terms(element: ElementType, metric: Metric) -> pg_sys::Datum {
    pg_sys::Datum::from(usize::from(element as u8) << 8 | usize::from(metric as u8))
}

/// The column that an index is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedColumn {
    pub element: ElementType,
    pub metric: Metric,
    pub dimensions: u32,
}

impl IndexedColumn {
    /// The column of an open index.
    ///
    /// # Errors
    /// The messages of pgvector for columns without dimensions and with too many.
    ///
    /// # Safety
    /// `index` is open, and of this access method.
    pub unsafe fn of(index: pg_sys::Relation) -> Result<IndexedColumn, ErrorReport> {
        // SAFETY: the caller's promise; the function takes a dummy.
        let (number, modifier) = unsafe {
            let procedure = pg_sys::index_getprocinfo(index, 1, TERMS_PROC);
            let number = pg_sys::FunctionCall1Coll(procedure, pg_sys::InvalidOid, pg_sys::Datum::from(0usize)).value();
            let attributes = (*(*index).rd_att).attrs.as_ptr();
            (number, (*attributes).atttypmod)
        };
        let terms = ElementType::from_u8((number >> 8) as u8).zip(Metric::from_u8(number as u8));
        let Some((element, metric)) = terms else {
            let message = "type not supported for hnsw index";
            return Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message, "hnsw"));
        };
        let dimensions = u32::try_from(modifier).ok().filter(|&dimensions| dimensions > 0);
        let Some(dimensions) = dimensions else {
            let message = "column does not have dimensions";
            return Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, "hnsw"));
        };
        let limit = element.max_dimensions();
        if dimensions > limit {
            let message = format!("column cannot have more than {limit} dimensions for hnsw index");
            return Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message, "hnsw"));
        }
        Ok(IndexedColumn { element, metric, dimensions })
    }
}
