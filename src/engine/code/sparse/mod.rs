//! Codes of sparse vectors: exact, and as long as the vector has elements. The bytes are a contract, since indexes keep
//! them on disk. Little-endian, `n` elements that are not zero:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | `n`, `u32` |
//! | 4 | 8 | `size`, `f64`: the sum of the squares of the values; under [`Metric::L1`] that of their magnitudes |
//! | 12 | 4n | indices, `i32`, ascending from 0 |
//! | 12 + 4n | 4n | values, `f32` |
//!
//! With `size`, every distance follows from the indices that both vectors have (see `measure`). Where the bytes are
//! aligned to four they are read in place.
//!
//! Reading is total: bytes too short for their `n` are no code; whatever the others say, they have some distance.

mod measure;
mod query;
mod table;

use std::borrow::Cow;

pub(super) use measure::Measure;
pub(super) use query::SparseQuery;

use measure::Side;

use super::exact::{self, Plain};
use crate::sparse::{SparseRef, MAX_NON_ZERO};

#[cfg(doc)]
use crate::distance::Metric;

/// Where the indices start.
const INDICES_AT: usize = 12;
const ELEMENT_BYTES: usize = i32::BYTES + f32::BYTES;

/// Bytes of the code of as many elements, a multiple of four.
pub(super) const fn code_bytes(count: usize) -> usize {
    INDICES_AT.saturating_add(count.saturating_mul(ELEMENT_BYTES))
}

/// Bytes of the longest code in as many dimensions.
pub(super) fn most_code_bytes(dimensions: usize) -> usize {
    code_bytes(dimensions.min(MAX_NON_ZERO))
}

/// A code, as it lies in its bytes.
pub(super) struct Code<'a> {
    size: f64,
    indices: Cow<'a, [i32]>,
    values: Cow<'a, [f32]>,
}

impl<'a> Code<'a> {
    /// The code at the start of `bytes`, or nothing if they are too short for it.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> Option<Code<'a>> {
        let (size, rest) = bytes.get(4..)?.split_first_chunk()?;
        let count = count(bytes);
        let (indices, values) = rest.split_at_checked(count.checked_mul(i32::BYTES)?)?;
        Some(Code {
            size: f64::from_le_bytes(*size),
            indices: exact::elements(indices, count)?,
            values: exact::elements(values, count)?,
        })
    }

    /// To be compared. The dimensions of the vector are not in the code, and mean nothing here.
    #[inline]
    fn side(&self) -> Side<'_> {
        Side { vector: SparseRef::trusted(i32::MAX, &self.indices, &self.values), size: self.size }
    }
}

/// The distance of the vectors that two codes were made of, or nothing if either is none; symmetric.
#[inline]
pub(super) fn between(measure: Measure, a: &[u8], b: &[u8]) -> Option<f32> {
    let (a, b) = (Code::read(a)?, Code::read(b)?);
    Some(measure.between(a.side(), b.side()))
}

/// How many elements a code says to have; bytes too short to say it have none.
#[inline]
pub(super) fn count(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |count| u32::from_le_bytes(*count) as usize)
}

/// Writes the code of a vector over `out`, which has [`code_bytes`].
pub(super) fn write(measure: Measure, vector: SparseRef<'_>, out: &mut [u8]) {
    let count = vector.indices().len() as u32;
    let head = count.to_le_bytes().into_iter().chain(measure.size(vector).to_le_bytes());
    let indices = vector.indices().iter().flat_map(|index| index.to_le_bytes());
    let values = vector.values().iter().flat_map(|value| value.to_le_bytes());
    for (to, byte) in out.iter_mut().zip(head.chain(indices).chain(values)) {
        *to = byte;
    }
}
