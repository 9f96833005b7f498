//! PostgreSQL arrays at the border: numbers into casts, `real[]` out of them, and the type modifiers of `vector(n)`.

#![allow(unsafe_code)]

use super::error_map::{array_error, null_not_allowed};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Array, Datum};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{direct_function_call, pg_sys, AnyNumeric, FromDatum};
use std::ptr::NonNull;

/// An argument of type `integer[]`, `real[]`, `double precision[]` or `numeric[]`.
pub(super) struct NumberArray {
    /// Detoasted: points into the argument or to a copy in the function's memory context, which frees it.
    array: NonNull<pg_sys::ArrayType>,
}

impl NumberArray {
    /// The elements as `f32`, rounded to nearest; what is too large becomes infinite, which a vector refuses.
    ///
    /// # Errors
    /// `ERRCODE_DATA_EXCEPTION` for more than one dimension, `ERRCODE_NULL_VALUE_NOT_ALLOWED` for a null.
    pub(super) fn elements(&self) -> Result<Vec<f32>, ErrorReport> {
        // SAFETY: points to a detoasted array, whose header is fixed.
        let (dimension_count, element_type) = unsafe { (self.array.as_ref().ndim, self.array.as_ref().elemtype) };
        if dimension_count > 1 {
            return Err(array_error("array must be 1-D"));
        }
        match element_type {
            pg_sys::INT4OID => self.collect(|number: i32| number as f32),
            pg_sys::FLOAT4OID => self.collect(|number: f32| number),
            pg_sys::FLOAT8OID => self.collect(|number: f64| number as f32),
            // PostgreSQL's own cast, which raises its own error for a number outside the range of `real`.
            pg_sys::NUMERICOID => self.collect(|number: AnyNumeric| {
                let arguments = [number.into_datum()];
                // SAFETY: `numeric_float4` takes one `numeric`.
                unsafe { direct_function_call::<f32>(pg_sys::numeric_float4, &arguments) }.unwrap_or(f32::NAN)
            }),
            _ => Err(array_error("unsupported array type")),
        }
    }

    fn collect<T>(&self, convert: impl Fn(T) -> f32) -> Result<Vec<f32>, ErrorReport>
    where
        for<'a> T: pgrx::datum::UnboxDatum<As<'a> = T> + 'a,
    {
        // SAFETY: a detoasted array whose element type is that of `T`, by the match above.
        let array = unsafe { Array::<T>::from_datum(pg_sys::Datum::from(self.array.as_ptr()), false) };
        let Some(array) = array else { return Ok(Vec::new()) };
        array
            .iter()
            .map(|element| element.map(&convert).ok_or_else(|| null_not_allowed("array must not contain nulls")))
            .collect()
    }
}

// SAFETY: detoasts a datum that the SQL declaration says to be an array.
unsafe impl<'fcx> ArgAbi<'fcx> for NumberArray {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the functions that take it are declared for arrays only, and STRICT.
        let array = unsafe { arg.unbox_arg_using_from_datum::<Self>() };
        array.unwrap_or_else(|| error!("argument of an array type must not be null"))
    }
}

impl FromDatum for NumberArray {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller says that the datum is an array.
        let array = unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) };
        NonNull::new(array.cast()).map(|array| Self { array })
    }
}

pgrx::impl_sql_translatable!(NumberArray, "anyarray");

/// A result of type `real[]`: one dimension, no nulls.
pub(super) struct RealArray(pub(super) Vec<f32>);

// SAFETY: returns an array of `real`, palloc'd in the function's memory context.
unsafe impl BoxRet for RealArray {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let mut elements: Vec<pg_sys::Datum> =
            self.0.iter().map(|value| pg_sys::Datum::from(value.to_bits())).collect();
        // SAFETY: the elements are datums of `real`, which is 4 bytes, passed by value and aligned to 4; at most
        // 16,000 of them. The array is what the function returns.
        unsafe {
            let array = pg_sys::construct_array(
                elements.as_mut_ptr(),
                elements.len() as i32,
                pg_sys::FLOAT4OID,
                size_of::<f32>() as i32,
                true,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
            );
            fcinfo.return_raw_datum(pg_sys::Datum::from(array))
        }
    }
}

pgrx::impl_sql_translatable!(RealArray, "real[]");

/// The argument of a type's `typmod_in` function: what stands in the parentheses, as integers.
pub(super) struct TypeModifiers {
    integers: NonNull<i32>,
    count: usize,
}

impl TypeModifiers {
    pub(super) fn integers(&self) -> &[i32] {
        // SAFETY: `ArrayGetIntegerTypmods` returned so many integers, in the function's memory context.
        unsafe { std::slice::from_raw_parts(self.integers.as_ptr(), self.count) }
    }
}

impl FromDatum for TypeModifiers {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        let mut count = 0;
        // SAFETY: the caller says that the datum is a `cstring[]`. PostgreSQL's own reader, with its own errors.
        let integers = unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            pg_sys::ArrayGetIntegerTypmods(array.cast(), &mut count)
        };
        Some(Self { integers: NonNull::new(integers)?, count: usize::try_from(count).unwrap_or(0) })
    }
}

// SAFETY: reads a datum that the SQL declaration says to be a `cstring[]`.
unsafe impl<'fcx> ArgAbi<'fcx> for TypeModifiers {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the functions that take it are declared for `cstring[]` only, and STRICT.
        let modifiers = unsafe { arg.unbox_arg_using_from_datum::<Self>() };
        modifiers.unwrap_or_else(|| error!("type modifiers must not be null"))
    }
}

pgrx::impl_sql_translatable!(TypeModifiers, "cstring[]");
