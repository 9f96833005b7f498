//! Conversions between `f32` and half precision, for casts and for distances between a vector and stored halves.
//! Widening is exact; narrowing rounds to nearest, ties to even, and to infinity beyond ±65504 (a caller to whom that
//! is an error checks the result). A NaN stays a NaN.
#![allow(unsafe_code)]

use half::f16;

use super::dispatch::InstructionSet;
use super::lanes::{Lanes, Load, Set, Work};

/// Converts the elements that both slices have.
#[inline]
pub fn widen(from: &[f16], to: &mut [f32]) {
    (InstructionSet::chosen().conversion_kernels().widen)(from, to);
}

/// Converts the elements that both slices have.
#[inline]
pub fn narrow(from: &[f32], to: &mut [f16]) {
    (InstructionSet::chosen().conversion_kernels().narrow)(from, to);
}

/// The conversions in one instruction set.
pub(super) struct ConversionKernels {
    pub(super) widen: fn(&[f16], &mut [f32]),
    pub(super) narrow: fn(&[f32], &mut [f16]),
}

impl ConversionKernels {
    /// # Safety
    /// The functions of this table are called only on a CPU that has the instructions of `S`.
    pub(super) const unsafe fn of<S: Set>() -> ConversionKernels {
        ConversionKernels {
            // SAFETY: the caller's promise.
            widen: |from, to| unsafe { S::enter::<Widen, _, _>(from, to) },
            // SAFETY: see above.
            narrow: |from, to| unsafe { S::enter::<Narrow, _, _>(from, to) },
        }
    }
}

/// Calls `group` with the start of every whole register, the last one overlapping the one before it: what it converts
/// again it converts to the same. Calls `single` instead for fewer elements than a register holds.
#[inline(always)]
fn for_each_group(length: usize, count: usize, mut group: impl FnMut(usize), single: impl FnMut(usize)) {
    if length < count {
        (0..length).for_each(single);
        return;
    }
    let mut at = 0;
    while at + count <= length {
        group(at);
        at += count;
    }
    if at < length {
        group(length - count);
    }
}

struct Widen;

impl<'a, S: Set> Work<S, &'a [f16], &'a mut [f32]> for Widen {
    type Output = ();

    #[inline(always)]
    unsafe fn run(from: &'a [f16], to: &'a mut [f32]) {
        let length = from.len().min(to.len());
        let (source, target) = (from.as_ptr(), to.as_mut_ptr());
        let group = |at| {
            // SAFETY: at + COUNT <= length, which neither slice is shorter than; `enter` has the instructions.
            unsafe {
                let lanes: S::Lanes = Load::<f16>::load(source.wrapping_add(at));
                lanes.store(target.wrapping_add(at));
            }
        };
        // SAFETY: at < length.
        let single = |at| unsafe { *target.wrapping_add(at) = (*source.wrapping_add(at)).to_f32() };
        for_each_group(length, S::Lanes::COUNT, group, single);
    }
}

struct Narrow;

impl<'a, S: Set> Work<S, &'a [f32], &'a mut [f16]> for Narrow {
    type Output = ();

    #[inline(always)]
    unsafe fn run(from: &'a [f32], to: &'a mut [f16]) {
        let length = from.len().min(to.len());
        let (source, target) = (from.as_ptr(), to.as_mut_ptr());
        let group = |at| {
            // SAFETY: at + COUNT <= length, which neither slice is shorter than; `enter` has the instructions.
            unsafe {
                let lanes: S::Lanes = Load::<f32>::load(source.wrapping_add(at));
                lanes.store_half(target.wrapping_add(at));
            }
        };
        // SAFETY: at < length.
        let single = |at| unsafe { *target.wrapping_add(at) = f16::from_f32(*source.wrapping_add(at)) };
        for_each_group(length, S::Lanes::COUNT, group, single);
    }
}
