//! The owned `vector` value and its way into a datum.
//!
//! Called by every function that makes a vector: input, casts, `embed`. The layout written here is the one that
//! [`super::borrowed`] reads.

#![allow(unsafe_code)]

use super::borrowed::{VectorRef, HEADER_BYTES};
use super::error_map::from_vector;
use super::type_oid::vector_type_oid;
use pg_rag_engine::vector::check;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, UnboxDatum};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_sys, FromDatum, IntoDatum};
use std::ops::Deref;

/// A `vector` of 1 to 16,000 finite elements. Dereferences to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(Vec<f32>);

impl Vector {
    /// Takes the elements.
    ///
    /// # Errors
    /// `ERRCODE_DATA_EXCEPTION` for no element or one that is not finite, `ERRCODE_PROGRAM_LIMIT_EXCEEDED` for more
    /// than 16,000.
    pub fn new(elements: Vec<f32>) -> Result<Self, ErrorReport> {
        check(&elements).map_err(from_vector)?;
        Ok(Self(elements))
    }

    /// The elements.
    pub fn into_elements(self) -> Vec<f32> {
        self.0
    }
}

impl Deref for Vector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl From<VectorRef<'_>> for Vector {
    fn from(stored: VectorRef<'_>) -> Self {
        Self(stored.to_vec())
    }
}

impl FromDatum for Vector {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, typoid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller says that the datum is a `vector`; it is copied before this returns.
        unsafe { VectorRef::from_polymorphic_datum(datum, is_null, typoid) }.map(Self::from)
    }
}

impl IntoDatum for Vector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let element_bytes = size_of_val(self.0.as_slice());
        let size_bytes = HEADER_BYTES + element_bytes;
        // At most 16,000 dimensions: both numbers are far inside their types.
        let (dimensions, varlena_bytes) = (self.0.len() as i16, size_bytes as i32);
        // SAFETY: palloc returns `size_bytes` bytes, aligned to 8, or raises an error; all of them are written, within
        // bounds: the header, the two `i16` of the prefix, and the elements.
        let start = unsafe {
            let start = pg_sys::palloc(size_bytes).cast::<u8>();
            pgrx::set_varsize_4b(start.cast(), varlena_bytes);
            let prefix = start.add(pg_sys::VARHDRSZ).cast::<i16>();
            prefix.write(dimensions);
            prefix.add(1).write(0);
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), start.add(HEADER_BYTES).cast(), self.0.len());
            start
        };
        Some(pg_sys::Datum::from(start))
    }

    fn type_oid() -> pg_sys::Oid {
        vector_type_oid()
    }
}

// SAFETY: a `Vector` borrows nothing, so it is the same type for every lifetime of the source.
unsafe impl UnboxDatum for Vector {
    type As<'src> = Vector;

    unsafe fn unbox<'src>(datum: Datum<'src>) -> Vector
    where
        Self: 'src,
    {
        // SAFETY: the caller says that the datum is a `vector` that is not null, so there is a value.
        unsafe { Vector::from_datum(datum.sans_lifetime(), false).unwrap_unchecked() }
    }
}

// SAFETY: copies the argument; a corrupt one raises an error.
unsafe impl<'fcx> ArgAbi<'fcx> for Vector {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: what the caller promises is what `VectorRef` needs.
        Self::from(unsafe { VectorRef::unbox_arg_unchecked(arg) })
    }
}

// SAFETY: returns a datum of type `vector`, palloc'd in the function's memory context.
unsafe impl BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum is what the function returns.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::impl_sql_translatable!(Vector, "vector");
