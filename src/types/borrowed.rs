//! Reading a stored `vector` without copying it.
//!
//! The layout, that of pgvector: varlena header (4 bytes), dimensions (`i16`), an unused `i16` of zero, then the
//! elements as native-endian `f32`. PostgreSQL hands it over in one of three forms, which [`VectorRef`] hides:
//! plain (aligned to 4 bytes: borrowed), with a 1-byte header (up to 30 dimensions, unaligned: unpacked on the
//! stack), and toasted (fetched into palloc'd memory, freed on drop). Only the last allocates, so that `<=>` over a
//! table costs no allocation for rows stored in line.
//!
//! Called for every argument of type `vector`; nothing else in the crate reads the layout.

#![allow(unsafe_code)]

use super::error_map::corrupt;
use pg_rag_engine::vector::MAX_DIMENSIONS;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, vardata_1b, vardata_4b, varsize_1b, varsize_4b};
use pgrx::{error, pg_sys, FromDatum};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// Bytes between the varlena header and the first element: dimensions and the unused field.
pub(super) const PREFIX_BYTES: usize = 4;
/// Bytes of the header of a datum that is not toasted.
pub(super) const HEADER_BYTES: usize = pg_sys::VARHDRSZ + PREFIX_BYTES;
/// A 1-byte varlena header counts to 127 with itself: 126 bytes are left, of which the prefix takes 4.
const SHORT_MAX_DIMENSIONS: usize = (126 - PREFIX_BYTES) / size_of::<f32>();

/// A `vector` argument. Dereferences to its elements: at least 1 and at most 16,000.
pub struct VectorRef<'a>(Form<'a>);

enum Form<'a> {
    Plain(&'a [f32]),
    Short { elements: [f32; SHORT_MAX_DIMENSIONS], dimensions: usize },
    Detoasted(Detoasted<'a>),
}

/// A copy in palloc'd memory that PostgreSQL made while detoasting.
struct Detoasted<'a> {
    varlena: NonNull<pg_sys::varlena>,
    elements: NonNull<[f32]>,
    /// The memory context that holds the copy outlives the call, as the argument does.
    context: PhantomData<&'a ()>,
}

impl Drop for Detoasted<'_> {
    fn drop(&mut self) {
        // SAFETY: `varlena` is the start of a palloc'd chunk owned by this value alone. Freeing at once matters where
        // the memory context lives long: comparisons of a sort, distances of an index build.
        unsafe { pg_sys::pfree(self.varlena.as_ptr().cast()) };
    }
}

impl Deref for VectorRef<'_> {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        match &self.0 {
            Form::Plain(elements) => elements,
            Form::Short { elements, dimensions } => &elements[..*dimensions],
            // SAFETY: points into the chunk that `Detoasted` keeps until it is dropped, checked by `elements_of`.
            Form::Detoasted(copy) => unsafe { copy.elements.as_ref() },
        }
    }
}

impl<'a> VectorRef<'a> {
    /// Reads the datum at `varlena`.
    ///
    /// # Errors
    /// `ERRCODE_DATA_CORRUPTED` when the header's dimensions do not agree with the size.
    ///
    /// # Safety
    /// `varlena` is a valid datum of type `vector`, in any form, that outlives `'a`.
    #[inline]
    pub(super) unsafe fn from_varlena(varlena: NonNull<pg_sys::varlena>) -> Result<Self, ErrorReport> {
        let start = varlena.as_ptr().cast_const();
        // SAFETY: the caller says that this is a valid varlena, so its header can be read, and the form read from the
        // header decides which of the accessors applies.
        unsafe {
            if varatt_is_4b_u(start) {
                Ok(Self(Form::Plain(elements_of(varlena)?.as_ref())))
            } else if varatt_is_1b(start) && !varatt_is_1b_e(start) {
                Self::unpack(std::slice::from_raw_parts(vardata_1b(start).cast(), varsize_1b(start) - 1))
            } else {
                // Returns a new chunk for every form that is left, or raises an error.
                let copy = NonNull::new(pg_sys::pg_detoast_datum(varlena.as_ptr())).ok_or_else(|| corrupt(0, 0))?;
                let elements = elements_of(copy)?;
                Ok(Self(Form::Detoasted(Detoasted { varlena: copy, elements, context: PhantomData })))
            }
        }
    }

    /// Copies out of the packed form, in which nothing is aligned. `payload`: what follows the 1-byte header.
    fn unpack(payload: &[u8]) -> Result<Self, ErrorReport> {
        let Some((prefix, values)) = payload.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(corrupt(0, payload.len()));
        };
        let dimensions = check_size(i16::from_ne_bytes([prefix[0], prefix[1]]), payload.len())?;
        let mut elements = [0.0; SHORT_MAX_DIMENSIONS];
        for (element, bytes) in elements.iter_mut().zip(values.chunks_exact(size_of::<f32>())) {
            *element = f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Ok(Self(Form::Short { elements, dimensions }))
    }
}

/// The number of dimensions, when it agrees with the bytes after the varlena header.
#[inline]
fn check_size(dimensions: i16, payload_bytes: usize) -> Result<usize, ErrorReport> {
    match usize::try_from(dimensions) {
        Ok(count @ 1..=MAX_DIMENSIONS) if payload_bytes == PREFIX_BYTES + count * size_of::<f32>() => Ok(count),
        _ => Err(corrupt(dimensions, payload_bytes)),
    }
}

/// The elements of a datum with a 4-byte header.
///
/// # Safety
/// `varlena` is a valid, uncompressed varlena with a 4-byte header, which PostgreSQL aligns to 4 bytes as the type
/// demands.
#[inline]
unsafe fn elements_of(varlena: NonNull<pg_sys::varlena>) -> Result<NonNull<[f32]>, ErrorReport> {
    let start = varlena.as_ptr().cast_const();
    // SAFETY: the header of a valid varlena gives its size.
    let payload_bytes = unsafe { varsize_4b(start) }.saturating_sub(pg_sys::VARHDRSZ);
    if payload_bytes < PREFIX_BYTES {
        return Err(corrupt(0, payload_bytes));
    }
    // SAFETY: the payload is long enough for the prefix, checked above, and aligned to 4 bytes.
    let dimensions = unsafe { vardata_4b(start).cast::<i16>().read() };
    let count = check_size(dimensions, payload_bytes)?;
    // SAFETY: the payload holds the prefix and `count` elements, checked above.
    let first = unsafe { vardata_4b(start).add(PREFIX_BYTES) }.cast::<f32>();
    NonNull::new(std::ptr::slice_from_raw_parts_mut(first.cast_mut(), count))
        .ok_or_else(|| corrupt(dimensions, payload_bytes))
}

impl FromDatum for VectorRef<'_> {
    #[inline]
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        let varlena = NonNull::new(datum.cast_mut_ptr()).filter(|_| !is_null)?;
        // SAFETY: the caller says that the datum is a `vector`, valid for the lifetime it asks for.
        Some(unsafe { VectorRef::from_varlena(varlena) }.unwrap_or_report())
    }
}

// SAFETY: borrows from the argument, which lives as long as the call; a corrupt one raises an error.
unsafe impl<'fcx> ArgAbi<'fcx> for VectorRef<'fcx> {
    #[inline]
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller says that the argument is a `vector`.
        let argument: Option<Self> = unsafe { arg.unbox_arg_using_from_datum() };
        argument.unwrap_or_else(|| error!("argument of type vector must not be null"))
    }
}

pgrx::impl_sql_translatable!(VectorRef<'_>, "vector");
