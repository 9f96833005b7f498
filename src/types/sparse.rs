//! Values of `sparsevec`: the owned [`Sparse`] and the borrowed [`SparseArg`].
//!
//! The layout, that of pgvector: varlena header (4 bytes), dimensions, number of elements and an unused zero (`int32`
//! each), then the indices from 0 (`int32`, ascending), then the elements (`float4`), native-endian. Nothing else in the
//! crate reads or writes it.

#![allow(unsafe_code)]

use super::error_map::{corrupt, Result};
use super::type_oid::type_oid;
use super::varlena::{make_varlena, Payload};
use pg_rag_engine::sparse::{SparseRef, SparseVector};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{error, pg_sys, FromDatum, IntoDatum};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Bytes between the varlena header and the first index: dimensions, number of elements and the unused field.
const PREFIX_BYTES: usize = 12;

/// The number of dimensions of a value, which is never negative.
pub(super) fn dimensions(value: SparseRef<'_>) -> usize {
    usize::try_from(value.dimensions()).unwrap_or(0)
}

/// A result of type `sparsevec`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparse(pub(super) SparseVector);

/// A stored `sparsevec`, read in place by [`SparseArg::get`].
pub struct SparseArg<'a>(Payload<'a>);

impl<'a> SparseArg<'a> {
    /// # Errors
    /// `ERRCODE_DATA_CORRUPTED` when the header does not agree with the size.
    ///
    /// # Safety
    /// `varlena` is a valid datum of type `sparsevec`, in any form, that outlives `'a`.
    unsafe fn from_varlena(varlena: NonNull<pg_sys::varlena>) -> Result<Self> {
        // SAFETY: what the caller promises; the type is aligned to 4 bytes.
        let payload = unsafe { Payload::of(varlena) };
        let bytes = payload.bytes();
        let (dimensions, count) = (field(bytes, 0), field(bytes, 4));
        match usize::try_from(count) {
            Ok(count) if dimensions > 0 && Some(bytes.len()) == payload_bytes(count) => Ok(Self(payload)),
            _ => Err(corrupt("sparsevec", dimensions, bytes.len())),
        }
    }

    /// The value.
    pub fn get(&self) -> SparseRef<'_> {
        let bytes = self.0.bytes();
        let count = (bytes.len() - PREFIX_BYTES) / (size_of::<i32>() + size_of::<f32>());
        // SAFETY: `from_varlena` checked that `count` indices and as many elements follow the prefix; a payload is aligned
        // to 4 and all in it has 4 bytes; every bit pattern is a value.
        let (indices, values) = unsafe {
            let first = bytes.as_ptr().add(PREFIX_BYTES);
            (
                std::slice::from_raw_parts(first.cast::<i32>(), count),
                std::slice::from_raw_parts(first.add(count * size_of::<i32>()).cast::<f32>(), count),
            )
        };
        SparseRef::trusted(field(bytes, 0), indices, values)
    }
}

/// Calls `compute` with the first two arguments of a call. A corrupt one raises an error.
///
/// # Safety
/// `fcinfo` is that of the running call, whose first two arguments are of type `sparsevec` and not null.
#[inline(always)]
pub(super) unsafe fn with_sparse_pair<R>(
    fcinfo: pg_sys::FunctionCallInfo,
    compute: impl FnOnce(SparseRef<'_>, SparseRef<'_>) -> R,
) -> R {
    // SAFETY: the caller's promise.
    let [a, b] = unsafe {
        let arguments = (*fcinfo).args.as_slice(2);
        [0, 1].map(|index| SparseArg::from_varlena(NonNull::new_unchecked(arguments[index].value.cast_mut_ptr())))
    };
    compute(a.unwrap_or_report().get(), b.unwrap_or_report().get())
}

/// The `int32` at this byte; 0 behind the end.
fn field(bytes: &[u8], at: usize) -> i32 {
    match bytes.get(at..at + size_of::<i32>()) {
        Some(&[a, b, c, d]) => i32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

fn payload_bytes(count: usize) -> Option<usize> {
    count.checked_mul(size_of::<i32>() + size_of::<f32>())?.checked_add(PREFIX_BYTES)
}

impl FromDatum for SparseArg<'_> {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        let varlena = NonNull::new(datum.cast_mut_ptr()).filter(|_| !is_null)?;
        // SAFETY: the caller says that the datum is a `sparsevec`, valid for the lifetime it asks for.
        Some(unsafe { SparseArg::from_varlena(varlena) }.unwrap_or_report())
    }
}

// SAFETY: borrows from the argument, which lives as long as the call; a corrupt one raises an error.
unsafe impl<'fcx> ArgAbi<'fcx> for SparseArg<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller says that the argument is a `sparsevec`.
        let argument: Option<Self> = unsafe { arg.unbox_arg_using_from_datum() };
        argument.unwrap_or_else(|| error!("argument of type sparsevec must not be null"))
    }
}

impl IntoDatum for Sparse {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let value = self.0.as_ref();
        let (indices, values) = (value.indices(), value.values());
        let bytes = PREFIX_BYTES + size_of_val(indices) + size_of_val(values);
        Some(make_varlena(bytes, |payload| {
            // At most 16,000 elements.
            let prefix = [value.dimensions(), values.len() as i32, 0];
            let all =
                prefix.iter().chain(indices).map(|n| n.to_ne_bytes()).chain(values.iter().map(|x| x.to_ne_bytes()));
            for (place, bytes) in payload.chunks_exact_mut(size_of::<i32>()).zip(all) {
                place.copy_from_slice(&bytes.map(MaybeUninit::new));
            }
        }))
    }

    fn type_oid() -> pg_sys::Oid {
        type_oid(c"sparsevec")
    }
}

// SAFETY: returns a datum of type `sparsevec`, palloc'd in the function's memory context.
unsafe impl BoxRet for Sparse {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum is what the function returns.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::impl_sql_translatable!(Sparse, "sparsevec");
pgrx::impl_sql_translatable!(SparseArg<'_>, "sparsevec");
