//! Values of `vector` and `halfvec`: the owned [`Dense`] and the borrowed [`DenseRef`].
//!
//! The layout, that of pgvector: varlena header (4 bytes), dimensions (`i16`), an unused `i16` of zero, then the
//! elements, native-endian. Nothing else in the crate reads or writes it.

#![allow(unsafe_code)]

use super::element::SqlElement;
use super::error_map::{corrupt, from_vector, Result};
use super::type_oid::type_oid;
use super::varlena::{make_varlena, payload_in_place, plain_payload, Payload, ShortCopy};
use pg_rag_engine::distance::prefetch;
use pg_rag_engine::vector::check;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, UnboxDatum};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{error, pg_sys, FromDatum, IntoDatum};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

/// Bytes between the varlena header and the first element: dimensions and the unused field.
const PREFIX_BYTES: usize = 4;

/// A vector of 1 to 16,000 finite elements. Dereferences to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense<E>(Vec<E>);

impl<E: SqlElement> Dense<E> {
    /// Takes the elements.
    ///
    /// # Errors
    /// `ERRCODE_DATA_EXCEPTION` for no element or one that is not finite, `ERRCODE_PROGRAM_LIMIT_EXCEEDED` for more
    /// than 16,000.
    pub fn new(elements: Vec<E>) -> Result<Self> {
        check(&elements).map_err(from_vector)?;
        Ok(Self(elements))
    }

    /// Takes elements that the engine has checked already: those of a stored vector, or what it parsed.
    pub(super) fn checked(elements: Vec<E>) -> Self {
        debug_assert!(check(&elements).is_ok());
        Self(elements)
    }

    /// The elements.
    pub fn into_elements(self) -> Vec<E> {
        self.0
    }
}

impl<E> Deref for Dense<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.0
    }
}

/// A stored vector, read in place. Dereferences to its elements: at least 1 and at most 16,000.
pub struct DenseRef<'a, E> {
    payload: Payload<'a>,
    element: PhantomData<E>,
}

impl<'a, E: SqlElement> DenseRef<'a, E> {
    /// Reads the datum at `varlena`.
    ///
    /// # Errors
    /// `ERRCODE_DATA_CORRUPTED` when the header's dimensions do not agree with the size.
    ///
    /// # Safety
    /// `varlena` is a valid datum of the SQL type of `E`, in any form, that outlives `'a`.
    #[inline]
    pub(super) unsafe fn from_varlena(varlena: NonNull<pg_sys::varlena>) -> Result<Self> {
        // SAFETY: what the caller promises; both types are aligned to 4 bytes.
        let payload = unsafe { Payload::of(varlena) };
        // SAFETY: the payload of a value of this type.
        if unsafe { elements_of::<E>(payload.bytes()) }.is_none() {
            return Err(corrupt_payload::<E>(payload.bytes()));
        }
        Ok(Self { payload, element: PhantomData })
    }
}

/// Calls `compute` with the elements of the first two arguments of a call: for what runs once per row of a scan or once
/// per comparison of a sort, where even moving a [`DenseRef`] shows. A corrupt value raises an error.
///
/// # Safety
/// `fcinfo` is that of the running call, whose first two arguments are of the SQL type of `E` and not null.
#[inline(always)]
pub(super) unsafe fn with_pair<E: SqlElement, R>(
    fcinfo: pg_sys::FunctionCallInfo,
    compute: impl FnOnce(&[E], &[E]) -> R,
) -> R {
    // SAFETY: the caller's promise.
    unsafe {
        let arguments = (*fcinfo).args.as_slice(2);
        let (a, b) = (arguments[0].value, arguments[1].value);
        match (plain_elements(a), plain_elements(b)) {
            (Some(a), Some(b)) => {
                prefetch_previous(a);
                prefetch_previous(b);
                compute(a, b)
            }
            _ => with_other_pair(a, b, compute),
        }
    }
}

/// Starts to load what lies before a vector in its heap page. A page is filled from its end, so that is the next row of a
/// sequential scan: it arrives while the executor deals with this one.
#[inline(always)]
fn prefetch_previous<E>(elements: &[E]) {
    // With the headers of the row and of the vector.
    let bytes = size_of_val(elements) + 64;
    prefetch(elements.as_ptr().cast::<u8>().wrapping_sub(bytes), bytes);
}

/// [`with_pair`] for every form of value.
///
/// # Safety
/// Both are valid, not null datums of the SQL type of `E`.
#[inline(never)]
unsafe fn with_other_pair<E: SqlElement, R>(
    a: pg_sys::Datum,
    b: pg_sys::Datum,
    compute: impl FnOnce(&[E], &[E]) -> R,
) -> R {
    let (mut room_a, mut room_b) = (ShortCopy::new(), ShortCopy::new());
    // SAFETY: the caller's promise.
    unsafe {
        let a = payload_in_place(a.cast_mut_ptr(), &mut room_a);
        let b = payload_in_place(b.cast_mut_ptr(), &mut room_b);
        let Some(a) = elements_of(a) else { raise_corrupt::<E>(a) };
        let Some(b) = elements_of(b) else { raise_corrupt::<E>(b) };
        compute(a, b)
    }
}

/// The elements of a value that is neither packed nor toasted, when its header is right.
///
/// # Safety
/// `datum` is a valid, not null datum of the SQL type of `E` that outlives `'a`.
#[inline(always)]
unsafe fn plain_elements<'a, E: SqlElement>(datum: pg_sys::Datum) -> Option<&'a [E]> {
    // SAFETY: the caller's promise.
    unsafe { elements_of(plain_payload(datum.cast_mut_ptr())?) }
}

/// The elements in a payload, when its header agrees with its size.
///
/// # Safety
/// `payload` is aligned to 4.
#[inline(always)]
unsafe fn elements_of<E: SqlElement>(payload: &[u8]) -> Option<&[E]> {
    let (&[low, high, _, _], body) = payload.split_first_chunk::<PREFIX_BYTES>()?;
    let count = usize::try_from(i16::from_ne_bytes([low, high])).ok().filter(|&count| count > 0)?;
    if body.len() != count * size_of::<E>() {
        return None;
    }
    // SAFETY: a whole number of elements, checked just now, behind a prefix of 4 bytes; every bit pattern is an element.
    Some(unsafe { std::slice::from_raw_parts(body.as_ptr().cast(), count) })
}

fn corrupt_payload<E: SqlElement>(payload: &[u8]) -> ErrorReport {
    let dimensions = match payload {
        &[low, high, ..] => i16::from_ne_bytes([low, high]),
        _ => 0,
    };
    corrupt(E::TYPE_NAME, i32::from(dimensions), payload.len())
}

#[cold]
#[inline(never)]
fn raise_corrupt<E: SqlElement>(payload: &[u8]) -> ! {
    match Err::<Infallible, _>(corrupt_payload::<E>(payload)).unwrap_or_report() {}
}

impl<E: SqlElement> Deref for DenseRef<'_, E> {
    type Target = [E];

    #[inline]
    fn deref(&self) -> &[E] {
        // SAFETY: a payload is aligned to 4. `from_varlena` has found its elements before.
        unsafe { elements_of(self.payload.bytes()) }.unwrap_or_default()
    }
}

impl<E: SqlElement> From<DenseRef<'_, E>> for Dense<E> {
    fn from(stored: DenseRef<'_, E>) -> Self {
        Self(stored.to_vec())
    }
}

impl<E: SqlElement> FromDatum for DenseRef<'_, E> {
    #[inline]
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        let varlena = NonNull::new(datum.cast_mut_ptr()).filter(|_| !is_null)?;
        // SAFETY: the caller says that the datum is of this type, valid for the lifetime it asks for.
        Some(unsafe { DenseRef::from_varlena(varlena) }.unwrap_or_report())
    }
}

impl<E: SqlElement> FromDatum for Dense<E> {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, typoid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller says that the datum is of this type; it is copied before this returns.
        unsafe { DenseRef::from_polymorphic_datum(datum, is_null, typoid) }.map(Self::from)
    }
}

/// The datum of a vector with these elements.
pub(super) fn dense_datum<E: SqlElement>(elements: &[E]) -> pg_sys::Datum {
    make_varlena(PREFIX_BYTES + size_of_val(elements), |payload| {
        // At most 16,000 dimensions, which fit into `i16`.
        let [low, high] = (elements.len() as i16).to_ne_bytes();
        let (prefix, body) = payload.split_at_mut(PREFIX_BYTES);
        prefix.copy_from_slice(&[low, high, 0, 0].map(MaybeUninit::new));
        // SAFETY: the body was made as long as the elements.
        unsafe { std::ptr::copy_nonoverlapping(elements.as_ptr().cast(), body.as_mut_ptr(), body.len()) };
    })
}

impl<E: SqlElement> IntoDatum for Dense<E> {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(dense_datum(&self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        type_oid(E::SQL_NAME)
    }
}

// SAFETY: a `Dense` borrows nothing, so it is the same type for every lifetime of the source.
unsafe impl<E: SqlElement> UnboxDatum for Dense<E> {
    type As<'src>
        = Dense<E>
    where
        Self: 'src;

    unsafe fn unbox<'src>(datum: Datum<'src>) -> Dense<E>
    where
        Self: 'src,
    {
        // SAFETY: the caller says that the datum is of this type and not null, so there is a value.
        unsafe { Dense::from_datum(datum.sans_lifetime(), false).unwrap_unchecked() }
    }
}

// SAFETY: copies the argument; a corrupt one raises an error.
unsafe impl<'fcx, E: SqlElement> ArgAbi<'fcx> for Dense<E> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: what the caller promises is what `DenseRef` needs.
        Self::from(unsafe { DenseRef::unbox_arg_unchecked(arg) })
    }
}

// SAFETY: borrows from the argument, which lives as long as the call; a corrupt one raises an error.
unsafe impl<'fcx, E: SqlElement> ArgAbi<'fcx> for DenseRef<'fcx, E> {
    #[inline]
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller says that the argument is of this type.
        let argument: Option<Self> = unsafe { arg.unbox_arg_using_from_datum() };
        argument.unwrap_or_else(|| error!("argument of type {} must not be null", E::TYPE_NAME))
    }
}

// SAFETY: returns a datum of this type, palloc'd in the function's memory context.
unsafe impl<E: SqlElement> BoxRet for Dense<E> {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the datum is what the function returns.
        unsafe { fcinfo.return_raw_datum(dense_datum(&self.0)) }
    }
}

pgrx::impl_sql_translatable!(Dense<f32>, "vector");
pgrx::impl_sql_translatable!(DenseRef<'_, f32>, "vector");
pgrx::impl_sql_translatable!(Dense<half::f16>, "halfvec");
pgrx::impl_sql_translatable!(DenseRef<'_, half::f16>, "halfvec");
