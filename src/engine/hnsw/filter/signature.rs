//! Signatures: the key of a set has the bits that each of its elements sets, two of 128.
//!
//! As in signature files (Faloutsos and Christodoulakis, 1984): a set that has an element has its bits, so no match is
//! missed; of the sets without it, with n elements, about (n / 64)² have the bits by chance.

use super::condition::Condition;

/// The bits of an element, by a hash that equal elements share.
pub fn bits(hash: u64) -> u128 {
    // Bits of a hash of small numbers may be poor in some places.
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    1 << (mixed >> 57) | 1 << (mixed >> 50 & 127)
}

/// The key of a set.
pub fn of(hashes: impl IntoIterator<Item = u64>) -> u128 {
    hashes.into_iter().map(bits).fold(0, |all, bits| all | bits)
}

/// Sets that have all of these elements, `@>`.
pub fn has_all(hashes: impl IntoIterator<Item = u64>) -> Condition {
    Condition::AllBits(of(hashes))
}

/// Sets that have one of these elements, `&&`.
pub fn has_any(hashes: impl IntoIterator<Item = u64>) -> Condition {
    Condition::AnyOfBits(hashes.into_iter().map(bits).collect())
}

/// Sets that have no other elements, `<@`.
pub fn has_only(hashes: impl IntoIterator<Item = u64>) -> Condition {
    Condition::NoOtherBits(of(hashes))
}
