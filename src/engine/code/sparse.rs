//! Codes of sparse vectors: the vectors themselves, of as many bytes as they need. Little-endian: the number of elements
//! that are not zero (`u32`), their indices from 0, ascending (`i32` each), their values (`f32` each).
//!
//! Reading is total: bytes that are no such code are a vector without elements, indices out of order give some distance.
#![allow(unsafe_code)]

use crate::distance::Metric;
use crate::sparse::{distance, SparseRef};

/// Bytes of the code of a vector with so many elements.
pub(super) const fn code_bytes(non_zero: usize) -> usize {
    4 + 8 * non_zero
}

/// Writes a code over `out`, which is as long as it.
pub(super) fn write(value: SparseRef<'_>, out: &mut [u8]) {
    let count = (value.values().len() as u32).to_le_bytes();
    let indices = value.indices().iter().map(|index| index.to_le_bytes());
    let values = value.values().iter().map(|value| value.to_le_bytes());
    for (place, word) in out.chunks_exact_mut(4).zip(std::iter::once(count).chain(indices).chain(values)) {
        place.copy_from_slice(&word);
    }
}

/// Calls `compute` with the vector that a code is.
#[inline]
pub(super) fn with<R>(code: &[u8], dimensions: usize, compute: impl FnOnce(SparseRef<'_>) -> R) -> R {
    let dimensions = dimensions as i32;
    let nothing = SparseRef::trusted(dimensions, &[], &[]);
    let Some((count, rest)) = code.split_first_chunk::<4>() else { return compute(nothing) };
    let count = u32::from_le_bytes(*count) as usize;
    let Some((indices, values)) = rest.get(..8 * count).map(|rest| rest.split_at(4 * count)) else {
        return compute(nothing);
    };
    if cfg!(target_endian = "little") {
        // SAFETY: every bit pattern is an `i32` and an `f32`.
        let (before, aligned_indices, _) = unsafe { indices.align_to::<i32>() };
        // SAFETY: as above.
        let (before_values, aligned_values, _) = unsafe { values.align_to::<f32>() };
        if before.is_empty() && before_values.is_empty() && aligned_indices.len() == aligned_values.len() {
            return compute(SparseRef::trusted(dimensions, aligned_indices, aligned_values));
        }
    }
    let words = |bytes: &[u8]| bytes.as_chunks::<4>().0.to_vec();
    let indices: Vec<i32> = words(indices).into_iter().map(i32::from_le_bytes).collect();
    let values: Vec<f32> = words(values).into_iter().map(f32::from_le_bytes).collect();
    compute(SparseRef::trusted(dimensions, &indices, &values))
}

/// The distance; squared for [`Metric::L2`]. A zero vector is as far from all as a perpendicular one under the cosine.
pub(super) fn compare(metric: Metric, a: SparseRef<'_>, b: SparseRef<'_>) -> f32 {
    let distance = match metric {
        Metric::InnerProduct => -distance::inner_product(a, b),
        Metric::Cosine => {
            let distance = distance::cosine(a, b);
            if distance.is_nan() {
                1.0
            } else {
                distance as f32
            }
        }
        Metric::L1 => distance::l1(a, b),
        Metric::L2 | Metric::L2Squared => distance::l2_squared(a, b),
    };
    super::estimate::number(f64::from(distance))
}
