//! The payload of a varlena argument, in place where possible.
//!
//! PostgreSQL hands a value over in one of three forms: plain (aligned to 4 bytes: borrowed), with a 1-byte header (up to
//! 126 bytes, unaligned: copied to the stack), and toasted (fetched into palloc'd memory, freed on drop). Only the
//! last allocates, so that `<=>` over a table costs no allocation for rows stored in line.
//!
//! Called by the readers of `vector`, `halfvec` and `sparsevec`, which check what the payload says.

#![allow(unsafe_code)]

use pgrx::pg_sys;
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, vardata_1b, vardata_4b, varsize_1b, varsize_4b};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// A 1-byte varlena header counts to 127 with itself.
const SHORT_MAX_BYTES: usize = 126;

/// The bytes after the varlena header, aligned to 4.
pub(super) enum Payload<'a> {
    Plain(&'a [u8]),
    Short { copy: ShortCopy, bytes: usize },
    Detoasted(Detoasted<'a>),
}

/// Room for the payload of a packed value, at an aligned address.
#[repr(C, align(4))]
pub(super) struct ShortCopy([MaybeUninit<u8>; SHORT_MAX_BYTES]);

impl ShortCopy {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([MaybeUninit::uninit(); SHORT_MAX_BYTES])
    }

    /// Copies the payload of a packed value and returns its length.
    ///
    /// # Safety
    /// `start` is a valid varlena with a 1-byte header that is not external.
    #[inline(always)]
    unsafe fn fill(&mut self, start: *const pg_sys::varlena) -> usize {
        // SAFETY: the caller's promise; the header's 7 bits bound the length by that of the copy.
        unsafe {
            let bytes = varsize_1b(start) - 1;
            std::ptr::copy_nonoverlapping(vardata_1b(start).cast::<u8>(), self.0.as_mut_ptr().cast(), bytes);
            bytes
        }
    }

    /// The first `bytes`, which must have been filled.
    #[inline(always)]
    unsafe fn bytes(&self, bytes: usize) -> &[u8] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), bytes) }
    }
}

/// A copy in palloc'd memory that PostgreSQL made while detoasting.
pub(super) struct Detoasted<'a> {
    varlena: NonNull<pg_sys::varlena>,
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

impl<'a> Payload<'a> {
    /// Finds the payload of the value at `varlena`.
    ///
    /// # Safety
    /// `varlena` is a valid varlena of a type that is aligned to 4 bytes, in any form, and outlives `'a`.
    #[inline]
    pub(super) unsafe fn of(varlena: NonNull<pg_sys::varlena>) -> Self {
        let start = varlena.as_ptr().cast_const();
        // SAFETY: the caller says that this is a valid varlena, so its header can be read, and the form read from the
        // header decides which of the accessors applies.
        unsafe {
            if varatt_is_4b_u(start) {
                Self::Plain(plain(start))
            } else if varatt_is_1b(start) && !varatt_is_1b_e(start) {
                let mut copy = ShortCopy::new();
                let bytes = copy.fill(start);
                Self::Short { copy, bytes }
            } else {
                // Returns a new chunk for every form that is left, or raises an error.
                let copy = NonNull::new_unchecked(pg_sys::pg_detoast_datum(varlena.as_ptr()));
                Self::Detoasted(Detoasted { varlena: copy, context: PhantomData })
            }
        }
    }

    /// The bytes, aligned to 4.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            // SAFETY: the first `bytes` of the copy were written when it was made.
            Self::Short { copy, bytes } => unsafe { copy.bytes(*bytes) },
            // SAFETY: a detoasted value is plain, and lives until `self` is dropped.
            Self::Detoasted(copy) => unsafe { plain(copy.varlena.as_ptr()) },
        }
    }
}

/// The payload of a value with a 4-byte header.
///
/// # Safety
/// `start` is a valid varlena of that form and outlives `'a`.
#[inline]
unsafe fn plain<'a>(start: *const pg_sys::varlena) -> &'a [u8] {
    // SAFETY: the header of a valid varlena gives its size.
    unsafe {
        let bytes = varsize_4b(start).saturating_sub(pg_sys::VARHDRSZ);
        std::slice::from_raw_parts(vardata_4b(start).cast(), bytes)
    }
}

/// The payload of a value that is plain already.
///
/// # Safety
/// `start` is a valid varlena that outlives `'a`.
#[inline(always)]
pub(super) unsafe fn plain_payload<'a>(start: *const pg_sys::varlena) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise; the form is that of a 4-byte header.
    unsafe { varatt_is_4b_u(start).then(|| plain(start)) }
}

/// The payload of a value in any form, without anything to own or to move: a packed one is copied into `room`, a
/// toasted one into the current memory context, which is left to free it.
///
/// # Safety
/// As for [`Payload::of`].
#[inline(always)]
pub(super) unsafe fn payload_in_place(start: *mut pg_sys::varlena, room: &mut ShortCopy) -> &[u8] {
    // SAFETY: the caller's promise; the form read from the header decides what applies.
    unsafe {
        if varatt_is_4b_u(start) {
            plain(start)
        } else if varatt_is_1b(start) && !varatt_is_1b_e(start) {
            let bytes = room.fill(start);
            room.bytes(bytes)
        } else {
            plain(pg_sys::pg_detoast_datum(start))
        }
    }
}

/// Allocates a value with a payload of `payload_bytes`, which `fill` writes completely, and returns its datum.
pub(super) fn make_varlena(payload_bytes: usize, fill: impl FnOnce(&mut [MaybeUninit<u8>])) -> pg_sys::Datum {
    let size_bytes = pg_sys::VARHDRSZ + payload_bytes;
    // SAFETY: palloc returns `size_bytes` bytes, aligned to 8, or raises an error. No vector is larger than a few
    // hundred kilobytes, far inside `i32`.
    let (start, payload) = unsafe {
        let start = pg_sys::palloc(size_bytes).cast::<u8>();
        pgrx::set_varsize_4b(start.cast(), size_bytes as i32);
        (start, std::slice::from_raw_parts_mut(start.add(pg_sys::VARHDRSZ).cast(), payload_bytes))
    };
    fill(payload);
    pg_sys::Datum::from(start)
}
