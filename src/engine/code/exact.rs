//! Codes that are the elements themselves, little-endian `f32` or `f16`: for few dimensions, where 8 bits would cost
//! recall and save little, and for the Manhattan distance, of which the estimates know nothing.
//!
//! The kernels of `distance` read elements in place where the bytes are aligned to them, which they are in an index
//! (strides are multiples of four); elsewhere they are copied first.
#![allow(unsafe_code)]

use std::borrow::Cow;

use half::f16;

use super::estimate::number;
use crate::distance::{Kernels, Metric};

/// Numbers that a code may consist of, whatever their bits are.
pub(super) trait Plain: Copy {
    const BYTES: usize;
    fn from_bytes(bytes: &[u8]) -> Self;
    fn append(self, out: &mut Vec<u8>);
}

impl Plain for f32 {
    const BYTES: usize = 4;

    fn from_bytes(bytes: &[u8]) -> f32 {
        bytes.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
    }

    fn append(self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }
}

impl Plain for f16 {
    const BYTES: usize = 2;

    fn from_bytes(bytes: &[u8]) -> f16 {
        bytes.first_chunk().map_or(f16::ZERO, |bytes| f16::from_le_bytes(*bytes))
    }

    fn append(self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }
}

impl Plain for i32 {
    const BYTES: usize = 4;

    fn from_bytes(bytes: &[u8]) -> i32 {
        bytes.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes))
    }

    fn append(self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }
}

/// The elements in the first `dimensions * E::BYTES` bytes, or nothing if there are fewer bytes.
#[inline]
pub(super) fn elements<E: Plain>(code: &[u8], dimensions: usize) -> Option<Cow<'_, [E]>> {
    let bytes = code.get(..dimensions.checked_mul(E::BYTES)?)?;
    if cfg!(target_endian = "little") {
        // SAFETY: `f32`, `f16` and `i32` are numbers whatever their bits are.
        let (before, elements, _) = unsafe { bytes.align_to::<E>() };
        if before.is_empty() && elements.len() == dimensions {
            return Some(Cow::Borrowed(elements));
        }
    }
    Some(Cow::Owned(bytes.chunks_exact(E::BYTES).map(E::from_bytes).collect()))
}

/// The distance; squared for [`Metric::L2`].
#[inline]
pub(super) fn distance<E: Kernels>(metric: Metric, a: &[E], b: &[E]) -> f32 {
    let metric = if metric == Metric::L2 { Metric::L2Squared } else { metric };
    let distance = metric.kernel::<E>()(a, b);
    // A zero vector has no direction, and is as far from all as a perpendicular one.
    number(if metric == Metric::Cosine && distance.is_nan() { 1.0 } else { distance })
}
