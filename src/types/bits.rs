//! PostgreSQL's own type `bit` at the border: distances of bit strings, and vectors reduced to their signs.
//!
//! The layout is PostgreSQL's: varlena header, the number of bits (`int32`), then the bits, most significant first; the
//! bits behind the last one are zero.

#![allow(unsafe_code)]

use super::error_map::{corrupt, different_bit_lengths, Result};
use super::varlena::{make_varlena, Payload};
use pg_rag_engine::distance;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::{pg_sys, FromDatum};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

const PREFIX_BYTES: usize = size_of::<i32>();

/// An argument of type `bit`.
pub struct BitArg<'a>(Payload<'a>);

impl BitArg<'_> {
    /// The number of bits.
    pub fn length_bits(&self) -> u32 {
        match self.0.bytes() {
            &[a, b, c, d, ..] => u32::from_ne_bytes([a, b, c, d]),
            _ => 0,
        }
    }

    /// The bits, most significant first.
    pub fn bits(&self) -> &[u8] {
        self.0.bytes().get(PREFIX_BYTES..).unwrap_or_default()
    }
}

// SAFETY: borrows from the argument, which lives as long as the call; a corrupt one raises an error.
unsafe impl<'fcx> ArgAbi<'fcx> for BitArg<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller says that the argument is a `bit`.
        let argument: Option<Self> = unsafe { arg.unbox_arg_using_from_datum() };
        argument.unwrap_or_else(|| error!("argument of type bit must not be null"))
    }
}

impl FromDatum for BitArg<'_> {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        let varlena = NonNull::new(datum.cast_mut_ptr()).filter(|_| !is_null)?;
        // SAFETY: the caller says that the datum is a `bit`, which is aligned to 4 bytes.
        let argument = Self(unsafe { Payload::of(varlena) });
        let (length_bits, payload_bytes) = (argument.length_bits(), argument.0.bytes().len());
        if payload_bytes != PREFIX_BYTES + (length_bits as usize).div_ceil(8) {
            Err(corrupt("bit", length_bits as i32, payload_bytes)).unwrap_or_report()
        }
        Some(argument)
    }
}

pgrx::impl_sql_translatable!(BitArg<'_>, "bit");

/// A result of type `bit`.
pub(super) struct Bits {
    pub(super) length_bits: usize,
    /// Most significant bit first; the bits behind the last one are zero.
    pub(super) bits: Vec<u8>,
}

// SAFETY: returns a datum of type `bit`, palloc'd in the function's memory context.
unsafe impl BoxRet for Bits {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let datum = make_varlena(PREFIX_BYTES + self.bits.len(), |payload| {
            // One bit per dimension of a vector: at most 16,000.
            let length = (self.length_bits as i32).to_ne_bytes();
            for (place, byte) in payload.iter_mut().zip(length.iter().chain(&self.bits)) {
                *place = MaybeUninit::new(*byte);
            }
        });
        // SAFETY: the datum is what the function returns.
        unsafe { fcinfo.return_raw_datum(datum) }
    }
}

pgrx::impl_sql_translatable!(Bits, "bit");

fn paired<R>(a: &BitArg<'_>, b: &BitArg<'_>, kernel: impl FnOnce(&[u8], &[u8]) -> R) -> Result<R> {
    if a.length_bits() != b.length_bits() {
        return Err(different_bit_lengths(a.length_bits(), b.length_bits()));
    }
    Ok(kernel(a.bits(), b.bits()))
}

/// Number of bits that differ.
#[pg_extern(sql = false)]
fn hamming_distance(a: BitArg<'_>, b: BitArg<'_>) -> Result<f64> {
    // At most 2³¹ bits, which `f64` counts exactly.
    paired(&a, &b, |a, b| distance::hamming(a, b) as f64)
}

/// One minus the share of common bits in the bits that either has; 1 where nothing is common.
#[pg_extern(sql = false)]
fn jaccard_distance(a: BitArg<'_>, b: BitArg<'_>) -> Result<f64> {
    paired(&a, &b, distance::jaccard)
}
