//! The bytes of a quantised code: a contract, since indexes keep them on disk. Little-endian, no alignment:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | `scale`, `f32`: what an element stands for is `scale` times its integer |
//! | 4 | 4 | `norm`, `f32`: the length of the vector; at most `f32::MAX` |
//! | 8 | 4 | `error`, `f32`: at least the distance of the vector from what its elements stand for; or infinite |
//! | 12 | d | elements of the rotated vector, `i8`, −127 to 127 |
//! | 12 + d | 0–3 | zeros up to a multiple of four |
//!
//! Under the cosine the factors are those of the normalised vector: `norm` is 1, or 0 for a zero vector.
//!
//! Reading is total: any bytes are some code, and fewer bytes than a code has are none.

/// Where the elements start.
pub(super) const ELEMENTS_AT: usize = 12;

/// What a code says of its vector besides the elements; units of the vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Factors {
    pub(super) scale: f32,
    pub(super) norm: f32,
    pub(super) error: f32,
}

/// Bytes of a code, a multiple of four.
pub(super) fn code_bytes(dimensions: usize) -> usize {
    (ELEMENTS_AT + dimensions).next_multiple_of(4)
}

/// The parts of a code, or nothing if it is too short.
#[inline(always)]
pub(super) fn split(code: &[u8], dimensions: usize) -> Option<(Factors, &[u8])> {
    let (factors, rest) = code.split_first_chunk::<ELEMENTS_AT>()?;
    let elements = rest.get(..dimensions)?;
    let factor = |at: usize| f32::from_le_bytes([factors[at], factors[at + 1], factors[at + 2], factors[at + 3]]);
    Some((Factors { scale: factor(0), norm: factor(4), error: factor(8) }, elements))
}

/// Writes a code over the start of `out`, which has room for it.
pub(super) fn write(factors: Factors, elements: &[i8], out: &mut [u8]) {
    let (head, rest) = out.split_at_mut(ELEMENTS_AT.min(out.len()));
    for (to, factor) in head.chunks_exact_mut(4).zip([factors.scale, factors.norm, factors.error]) {
        to.copy_from_slice(&factor.to_le_bytes());
    }
    let (body, padding) = rest.split_at_mut(elements.len().min(rest.len()));
    for (to, element) in body.iter_mut().zip(elements) {
        *to = *element as u8;
    }
    padding.fill(0);
}
