//! Input and output of `vector`: text, binary and the type modifier.
//!
//! Text is `[1,2.5,-3e-4]`, binary is two `int16` (dimensions, zero) and the elements as `float4`, all in network byte
//! order: both as pgvector's clients write and read them.

#![allow(unsafe_code)]

use super::borrowed::VectorRef;
use super::datum::Vector;
use super::error_map::{
    expected_dimensions, from_vector, insufficient_data, invalid_type_modifier, null_not_allowed, Result,
};
use pg_rag_engine::vector;
use pgrx::datum::Internal;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// Type modifier of a `vector` without one: any number of dimensions.
const ANY_DIMENSIONS: i32 = -1;

/// Whether a vector of `dimensions` fits a column `vector(typmod)`.
pub(super) fn check_typmod(dimensions: usize, typmod: i32) -> Result<()> {
    if typmod == ANY_DIMENSIONS || usize::try_from(typmod) == Ok(dimensions) {
        Ok(())
    } else {
        Err(expected_dimensions(typmod, dimensions))
    }
}

#[pg_extern(sql = false)]
fn vector_in(input: &CStr, _element: pg_sys::Oid, typmod: i32) -> Result<Vector> {
    // The text is in the server's encoding. A vector is ASCII, so what is lost here is in an error message at most.
    let elements = vector::parse(&input.to_string_lossy()).map_err(from_vector)?;
    check_typmod(elements.len(), typmod)?;
    Vector::new(elements)
}

#[pg_extern(sql = false)]
fn vector_out(v: VectorRef<'_>) -> CString {
    // Digits, signs, brackets and commas: no NUL to stop at.
    CString::new(vector::print(&v)).unwrap_or_default()
}

/// The dimensions in `vector(n)`.
#[pg_extern(sql = false)]
fn vector_typmod_in(modifiers: Array<'_, &CStr>) -> Result<i32> {
    if modifiers.len() != 1 {
        return Err(invalid_type_modifier("invalid type modifier"));
    }
    let text = modifiers.get(0).flatten().ok_or_else(|| null_not_allowed("type modifier must not be null"))?;
    let dimensions: i64 = text
        .to_str()
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| invalid_type_modifier(format!("invalid type modifier: \"{}\"", text.to_string_lossy())))?;
    if dimensions < 1 {
        return Err(invalid_type_modifier("dimensions for type vector must be at least 1"));
    }
    match i32::try_from(dimensions) {
        Ok(count) if dimensions <= vector::MAX_DIMENSIONS as i64 => Ok(count),
        _ => Err(invalid_type_modifier(format!("dimensions for type vector cannot exceed {}", vector::MAX_DIMENSIONS))),
    }
}

/// Reads what PostgreSQL received into the `StringInfo` that `message` points to.
#[pg_extern(sql = false)]
fn vector_recv(message: Internal, _element: pg_sys::Oid, typmod: i32) -> Result<Vector> {
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
    let elements = vector::decode_binary(received.get(cursor..).unwrap_or_default()).map_err(from_vector)?;
    check_typmod(elements.len(), typmod)?;
    buffer.cursor = buffer.len;
    Vector::new(elements)
}

#[pg_extern(sql = false)]
fn vector_send(v: VectorRef<'_>) -> Vec<u8> {
    vector::encode_binary(&v)
}
