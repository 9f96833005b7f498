//! The element types that have a vector type in SQL.
//!
//! Everything in this folder is written once, over [`SqlElement`], and stamped out per type by the macros of `io.rs`,
//! `distance.rs` and their neighbours, because PostgreSQL needs a C symbol for each function of each type.

use half::f16;
use pg_rag_engine::distance::Kernels;
use pg_rag_engine::vector::Element;
use std::ffi::CStr;

/// An element of a dense vector: a number without padding for which every bit pattern is a value.
pub trait SqlElement: Element + Kernels {
    /// Name of the SQL type whose elements these are.
    const SQL_NAME: &'static CStr;
}

impl SqlElement for f32 {
    const SQL_NAME: &'static CStr = c"vector";
}

impl SqlElement for f16 {
    const SQL_NAME: &'static CStr = c"halfvec";
}
