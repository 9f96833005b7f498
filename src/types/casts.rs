//! Casts: to a type with a modifier, between arrays of numbers and vectors, and between the vector types. PostgreSQL
//! calls each with the type modifier of the target and whether the cast was written out.

#![allow(unsafe_code)]

use super::array::NumberArray;
use super::dense::Dense;
use super::element::SqlElement;
use super::error_map::{from_vector, not_numbers, Result};
use super::io::check_typmod;
use super::sparse::{dimensions, Sparse};
use pg_rag_engine::sparse::{self, SparseRef};
use pg_rag_engine::vector::{self, VectorError};
use pgrx::prelude::*;
use pgrx::{direct_function_call, pg_sys, FromDatum};
use std::ffi::CStr;

/// `integer[]`, `real[]`, `double precision[]` and `numeric[]` to a dense vector.
pub(super) fn dense_from_array<E: SqlElement>(array: &NumberArray, typmod: i32) -> Result<Dense<E>> {
    let numbers = array.elements()?;
    vector::check_dimensions::<E>(numbers.len()).map_err(from_vector)?;
    check_typmod(numbers.len(), typmod)?;
    Dense::new(vector::convert(&numbers).map_err(from_vector)?)
}

pub(super) fn sparse_from_array(array: &NumberArray, typmod: i32) -> Result<Sparse> {
    let numbers = array.elements()?;
    let value = sparse::from_dense(&numbers).map_err(from_vector)?;
    check_typmod(dimensions(value.as_ref()), typmod)?;
    Ok(Sparse(value))
}

/// One dense type to another.
pub(super) fn dense_from_dense<A: SqlElement, B: SqlElement>(elements: &[A], typmod: i32) -> Result<Dense<B>> {
    check_typmod(elements.len(), typmod)?;
    Ok(Dense::checked(vector::convert(elements).map_err(from_vector)?))
}

pub(super) fn sparse_from_dense<E: SqlElement>(elements: &[E], typmod: i32) -> Result<Sparse> {
    check_typmod(elements.len(), typmod)?;
    Ok(Sparse(sparse::from_dense(elements).map_err(from_vector)?))
}

pub(super) fn dense_from_sparse<E: SqlElement>(value: SparseRef<'_>, typmod: i32) -> Result<Dense<E>> {
    vector::check_dimensions::<E>(dimensions(value)).map_err(from_vector)?;
    check_typmod(dimensions(value), typmod)?;
    Ok(Dense::checked(sparse::to_dense(value).map_err(from_vector)?))
}

/// An argument of type `jsonb`, as the text that PostgreSQL prints.
pub(super) struct JsonText(String);

/// A `jsonb` array of numbers to a dense vector: PostgreSQL prints it as our text form.
pub(super) fn dense_from_json<E: SqlElement>(json: &JsonText, typmod: i32) -> Result<Dense<E>> {
    let kind = match json.0.as_bytes().first() {
        Some(b'[') => "array",
        Some(b'{') => "object",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "numeric",
    };
    if kind != "array" {
        return Err(not_numbers(kind, E::TYPE_NAME));
    }
    let elements = vector::parse(&json.0).map_err(|failure| match failure {
        VectorError::Syntax { .. } => not_numbers(kind, E::TYPE_NAME),
        other => from_vector(other),
    })?;
    check_typmod(elements.len(), typmod)?;
    Ok(Dense::checked(elements))
}

impl FromDatum for JsonText {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller says that the datum is a `jsonb`, which `jsonb_out` takes; it returns a C string.
        let text = unsafe { direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(datum)]) }?;
        Some(Self(text.to_string_lossy().into_owned()))
    }
}

// SAFETY: prints a datum that the SQL declaration says to be a `jsonb`.
unsafe impl<'fcx> pgrx::callconv::ArgAbi<'fcx> for JsonText {
    unsafe fn unbox_arg_unchecked(arg: pgrx::callconv::Arg<'_, 'fcx>) -> Self {
        // SAFETY: the functions that take it are declared for `jsonb` only, and STRICT.
        let json = unsafe { arg.unbox_arg_using_from_datum::<Self>() };
        json.unwrap_or_else(|| error!("argument of type jsonb must not be null"))
    }
}

pgrx::impl_sql_translatable!(JsonText, "jsonb");
