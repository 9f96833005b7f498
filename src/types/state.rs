//! The state of the aggregates: a `double precision[]`, so that parallel workers can hand it over and users can see it.
//!
//! An aggregate owns its state, so it is changed in place: one allocation per group, not one per row. Called outside an
//! aggregate, the same functions copy it first.

#![allow(unsafe_code)]

use super::error_map::{expected_state, Result};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::prelude::*;
use pgrx::{pg_sys, FromDatum, IntoDatum};
use std::ptr::NonNull;

/// Bytes before the numbers: the array's header with one dimension and its lower bound, aligned to 8.
const HEADER_BYTES: usize = (size_of::<pg_sys::ArrayType>() + 2 * size_of::<i32>()).next_multiple_of(8);

/// An argument that should be a state; each function checks it under its own name.
pub(super) struct StateArg(NonNull<pg_sys::ArrayType>);

impl StateArg {
    /// The state, to read: it may be shared with the aggregate.
    ///
    /// # Errors
    /// `ERRCODE_INTERNAL_ERROR` when it is none.
    pub(super) fn read(&self, function: &str) -> Result<State> {
        State::check(self.0, function)
    }

    /// The state in the first argument of a transition function, to change.
    ///
    /// # Errors
    /// As for [`StateArg::read`].
    ///
    /// # Safety
    /// `fcinfo` is that of the running call, and `self` its first argument.
    pub(super) unsafe fn change(&self, fcinfo: pg_sys::FunctionCallInfo, function: &str) -> Result<State> {
        let state = self.read(function)?;
        // SAFETY: the caller's promise.
        Ok(if unsafe { in_aggregate(fcinfo) } { state } else { State::new(state.numbers()) })
    }
}

/// Whether a call is made by an aggregate, which then owns the state.
///
/// # Safety
/// `fcinfo` is that of the running call.
pub(super) unsafe fn in_aggregate(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: the caller's promise. The memory context is not asked for, so the pointer may be null.
    unsafe { pg_sys::AggCheckCallContext(fcinfo, std::ptr::null_mut()) != 0 }
}

/// A one-dimensional `double precision[]` of at least one number and without nulls, in plain form.
pub(super) struct State(NonNull<pg_sys::ArrayType>);

impl State {
    fn check(array: NonNull<pg_sys::ArrayType>, function: &str) -> Result<Self> {
        // SAFETY: a detoasted array has at least its header; with a dimension, the dimension's length follows.
        let valid = unsafe {
            let header = array.as_ref();
            header.ndim == 1
                && header.dataoffset == 0
                && header.elemtype == pg_sys::FLOAT8OID
                && Self(array).length() >= 1
        };
        if valid {
            Ok(Self(array))
        } else {
            Err(expected_state(function))
        }
    }

    /// A new state of these numbers.
    pub(super) fn new(numbers: &[f64]) -> Self {
        let bytes = HEADER_BYTES + size_of_val(numbers);
        // SAFETY: palloc0 returns `bytes` zeroed bytes, aligned to 8, or raises an error. A state has at most twice as many
        // numbers as a vector has dimensions, so the sizes fit.
        unsafe {
            let array = pg_sys::palloc0(bytes).cast::<pg_sys::ArrayType>();
            pgrx::set_varsize_4b(array.cast(), bytes as i32);
            (*array).ndim = 1;
            (*array).elemtype = pg_sys::FLOAT8OID;
            let dimension = array.add(1).cast::<i32>();
            dimension.write(numbers.len() as i32);
            dimension.add(1).write(1);
            let mut state = Self(NonNull::new_unchecked(array));
            state.numbers_mut().copy_from_slice(numbers);
            state
        }
    }

    fn length(&self) -> usize {
        // SAFETY: the length of the only dimension follows the fixed header.
        usize::try_from(unsafe { self.0.as_ptr().add(1).cast::<i32>().read() }).unwrap_or(0)
    }

    pub(super) fn numbers(&self) -> &[f64] {
        // SAFETY: a one-dimensional array without nulls holds `length` numbers behind its header, aligned to 8.
        unsafe { std::slice::from_raw_parts(self.start(), self.length()) }
    }

    pub(super) fn numbers_mut(&mut self) -> &mut [f64] {
        // SAFETY: as in `numbers`; only states that belong to this call are changed.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.length()) }
    }

    fn start(&self) -> *mut f64 {
        // SAFETY: inside the array's memory.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEADER_BYTES).cast() }
    }
}

impl FromDatum for StateArg {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller says that the datum is an array; a plain one is returned as it is.
        let array = unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) };
        NonNull::new(array.cast()).map(Self)
    }
}

// SAFETY: detoasts a datum that the SQL declaration says to be an array.
unsafe impl<'fcx> ArgAbi<'fcx> for StateArg {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the functions that take it are declared for `double precision[]` only, and STRICT.
        let state = unsafe { arg.unbox_arg_using_from_datum::<Self>() };
        state.unwrap_or_else(|| error!("argument of type double precision[] must not be null"))
    }
}

// SAFETY: returns an array of `double precision`: the argument itself, or one palloc'd in the function's memory context.
unsafe impl BoxRet for State {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the datum is what the function returns.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0.as_ptr())) }
    }
}

impl IntoDatum for State {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(pg_sys::Datum::from(self.0.as_ptr()))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::FLOAT8ARRAYOID
    }
}

pgrx::impl_sql_translatable!(State, "double precision[]");
pgrx::impl_sql_translatable!(StateArg, "double precision[]");
