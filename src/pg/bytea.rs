//! Arguments of type `bytea` that may be large: measured before anything of them is fetched.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::{error, pg_sys, FromDatum};
use std::marker::PhantomData;

/// A `bytea`, in whatever form PostgreSQL hands it over.
pub struct Bytea<'a> {
    datum: pg_sys::Datum,
    argument: PhantomData<&'a ()>,
}

impl Bytea<'_> {
    /// Its size, without fetching or unpacking it.
    pub fn size_bytes(&self) -> usize {
        // SAFETY: the datum is a valid varlena (see `from_polymorphic_datum`); its header, or that of its pointer, is read.
        let with_header = unsafe { pg_sys::toast_raw_datum_size(self.datum) };
        with_header.saturating_sub(pg_sys::VARHDRSZ)
    }

    /// Its bytes, in memory that PostgreSQL never sees.
    pub fn to_vec(&self) -> Vec<u8> {
        // SAFETY: the datum is a valid varlena. Detoasting returns it as it is, or a copy in palloc'd memory, which is freed
        // once its bytes are copied.
        unsafe {
            let start: *mut pg_sys::varlena = self.datum.cast_mut_ptr();
            let plain = pg_sys::pg_detoast_datum_packed(start);
            let bytes = pgrx::varlena::varlena_to_byte_slice(plain).to_vec();
            if plain != start {
                pg_sys::pfree(plain.cast());
            }
            bytes
        }
    }
}

impl FromDatum for Bytea<'_> {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        (!is_null).then_some(Self { datum, argument: PhantomData })
    }
}

// SAFETY: keeps the datum of an argument, which lives as long as the call.
unsafe impl<'fcx> ArgAbi<'fcx> for Bytea<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the functions that take it are declared for `bytea`.
        let argument: Option<Self> = unsafe { arg.unbox_arg_using_from_datum() };
        argument.unwrap_or_else(|| error!("argument of type bytea must not be null"))
    }
}

pgrx::impl_sql_translatable!(Bytea<'_>, "bytea");
