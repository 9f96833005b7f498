//! Input and output of the vector types: text, binary and the type modifier.
//!
//! Formats are those of pgvector's clients. For dense vectors text is `[1,2.5,-3e-4]`, and binary is two `int16`
//! (dimensions, zero) and the elements; for sparse ones text is `{1:2.5,7:-3e-4}/10`, and binary is three `int32`
//! (dimensions, number of elements, zero), the indices from 0 and the elements. All in network byte order.

#![allow(unsafe_code)]

use super::array::TypeModifiers;
use super::dense::Dense;
use super::element::SqlElement;
use super::error_map::{
    expected_dimensions, from_vector, insufficient_data, invalid_type_modifier, null_not_allowed, Result,
};
use super::sparse::Sparse;
use pg_rag_engine::{sparse, vector};
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::{Datum, Internal};
use pgrx::prelude::*;
use std::ffi::CStr;

/// The dimensions that a type modifier asks for; none for a type without one.
pub(super) fn declared(typmod: i32) -> Option<usize> {
    usize::try_from(typmod).ok()
}

/// Whether a value of `dimensions` fits a column whose type has this modifier.
#[inline]
pub(super) fn check_typmod(dimensions: usize, typmod: i32) -> Result<()> {
    match declared(typmod) {
        Some(expected) if expected != dimensions => Err(expected_dimensions(expected, dimensions)),
        _ => Ok(()),
    }
}

/// The text is in the server's encoding. A vector is ASCII, so what is lost here is in an error message at most.
pub(super) fn dense_from_text<E: SqlElement>(input: &CStr, typmod: i32) -> Result<Dense<E>> {
    let elements = vector::parse(&input.to_string_lossy()).map_err(from_vector)?;
    check_typmod(elements.len(), typmod)?;
    Ok(Dense::checked(elements))
}

pub(super) fn sparse_from_text(input: &CStr, typmod: i32) -> Result<Sparse> {
    Ok(Sparse(sparse::parse(&input.to_string_lossy(), declared(typmod)).map_err(from_vector)?))
}

/// The result of an output function: copied once, where `CString` would be searched and copied twice.
pub(super) struct Text(pub(super) String);

// SAFETY: returns a C string, palloc'd in the function's memory context.
unsafe impl BoxRet for Text {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let bytes = self.0.as_bytes();
        // SAFETY: palloc returns room for the text and its end, or raises an error. The text has digits, signs, brackets
        // and commas: no NUL to stop at.
        unsafe {
            let start = pg_sys::palloc(bytes.len() + 1).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
            start.add(bytes.len()).write(0);
            fcinfo.return_raw_datum(pg_sys::Datum::from(start))
        }
    }
}

pgrx::impl_sql_translatable!(Text, "cstring");

/// The dimensions in `vector(n)`.
pub(super) fn read_typmod(modifiers: &TypeModifiers, type_name: &str, max_dimensions: i32) -> Result<i32> {
    let &[dimensions] = modifiers.integers() else {
        return Err(invalid_type_modifier("invalid type modifier"));
    };
    if dimensions < 1 {
        Err(invalid_type_modifier(format!("dimensions for type {type_name} must be at least 1")))
    } else if dimensions > max_dimensions {
        Err(invalid_type_modifier(format!("dimensions for type {type_name} cannot exceed {max_dimensions}")))
    } else {
        Ok(dimensions)
    }
}

pub(super) fn dense_from_message<E: SqlElement>(message: Internal, typmod: i32) -> Result<Dense<E>> {
    read_message(message, |bytes| vector::read_binary(bytes, declared(typmod))).map(Dense::checked)
}

pub(super) fn sparse_from_message(message: Internal, typmod: i32) -> Result<Sparse> {
    read_message(message, |bytes| sparse::read_binary(bytes, declared(typmod))).map(Sparse)
}

/// Hands what PostgreSQL received into the `StringInfo` that `message` points to over to `read`. What that leaves is
/// PostgreSQL's to complain of.
fn read_message<T>(
    message: Internal,
    read: impl FnOnce(&mut &[u8]) -> std::result::Result<T, vector::VectorError>,
) -> Result<T> {
    let buffer: *mut pg_sys::StringInfoData = match message.unwrap() {
        Some(datum) => datum.cast_mut_ptr(),
        None => return Err(null_not_allowed("message must not be null")),
    };
    // SAFETY: the only callers of a receive function pass a `StringInfo`; nothing else refers to it during the call.
    let buffer = unsafe { &mut *buffer };
    let (Ok(cursor), Ok(length)) = (usize::try_from(buffer.cursor), usize::try_from(buffer.len)) else {
        return Err(insufficient_data());
    };
    // SAFETY: `data` holds `len` bytes.
    let received = unsafe { std::slice::from_raw_parts(buffer.data.cast::<u8>(), length) };
    let mut rest = received.get(cursor..).unwrap_or_default();
    let value = read(&mut rest).map_err(from_vector)?;
    // At most `len`, which is an `i32`.
    buffer.cursor = (length - rest.len()) as i32;
    Ok(value)
}
