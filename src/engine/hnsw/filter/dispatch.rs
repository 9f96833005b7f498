//! [`Condition::narrow`] compiled for the instruction sets that a CPU may have: all keys of an index are tested in most
//! searches with a filter, and wide registers take a quarter of the time.
#![allow(unsafe_code)]

use super::Condition;

/// [`Condition::narrow`] with the best instructions of this CPU.
pub(super) fn narrow(condition: &Condition, width: u8, keys: &[u8], nulls: &[u8], into: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the CPU has the instructions.
            return unsafe { with_avx512(condition, width, keys, nulls, into) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has the instructions.
            return unsafe { with_avx2(condition, width, keys, nulls, into) };
        }
    }
    condition.narrow(width, keys, nulls, into);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn with_avx512(condition: &Condition, width: u8, keys: &[u8], nulls: &[u8], into: &mut [u64]) {
    condition.narrow(width, keys, nulls, into);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(condition: &Condition, width: u8, keys: &[u8], nulls: &[u8], into: &mut [u64]) {
    condition.narrow(width, keys, nulls, into);
}

/// Keys that are tested at once: more, and the compiler takes the bytes that result through memory.
pub(super) const SIXTEEN: usize = 16;

/// The highest bits of bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn highest_bits(bytes: [u8; SIXTEEN]) -> u16 {
    use std::arch::x86_64::{_mm_movemask_epi8, _mm_set_epi64x};
    let bytes = u128::from_le_bytes(bytes);
    // SAFETY: SSE2 is a part of x86-64.
    unsafe { _mm_movemask_epi8(_mm_set_epi64x((bytes >> 64) as i64, bytes as i64)) as u16 }
}

/// The highest bits of bytes.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn highest_bits(bytes: [u8; SIXTEEN]) -> u16 {
    let of_eight = |bytes: u64| (bytes >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let bytes = u128::from_le_bytes(bytes);
    (of_eight((bytes >> 64) as u64) << 8 | of_eight(bytes as u64)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_scale::scaled;

    #[test]
    fn the_highest_bits_are_those_of_the_bytes() {
        for seed in 0..scaled(500u64, 20) {
            let mixed = |at: usize| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(5 * at as u32);
            let bytes: [u8; SIXTEEN] = std::array::from_fn(|at| mixed(at) as u8);
            let expected = (0..SIXTEEN).filter(|&at| bytes[at] >= 128).fold(0, |bits, at| bits | 1u16 << at);
            assert_eq!(highest_bits(bytes), expected);
        }
    }

    #[test]
    fn all_instruction_sets_find_the_same_keys() {
        // Not a multiple of 64.
        const KEYS: usize = scaled(1_000, 72);
        let conditions = [
            Condition::Between(40, 170),
            Condition::Between(200, u128::MAX),
            Condition::Not(77),
            Condition::OneOf(vec![3, 50, 99]),
            Condition::OneOf((0..40).map(|key| 5 * key).collect()),
            Condition::Any(vec![Condition::Between(0, 9), Condition::AllBits(0x81)]),
            Condition::Null,
            Condition::NotNull,
            Condition::Never,
            Condition::AllBits(0x12),
            Condition::AnyOfBits(vec![0x11, 0x22, 0x44, 0x88]),
            Condition::NoOtherBits(0x0F),
        ];
        for (condition, width) in
            conditions.iter().flat_map(|condition| [1u8, 2, 4, 8, 16].map(|width| (condition, width)))
        {
            let drawn: Vec<u8> =
                (0..KEYS as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
            let keys: Vec<u8> =
                drawn.iter().flat_map(|&key| u128::from(key).to_le_bytes()[..usize::from(width)].to_vec()).collect();
            let nulls: Vec<u8> = (0..KEYS / 8).map(|at| if at % 5 == 0 { 0x21 } else { 0 }).collect();
            let is_null = |at: usize| nulls[at / 8] >> (at % 8) & 1 == 1;
            let accepted = |at: usize| condition.accepts((!is_null(at)).then(|| u128::from(drawn[at])));
            let expected: Vec<bool> = (0..KEYS).map(accepted).collect();
            let mut ways: Vec<(&str, Way)> = vec![("chosen", narrow), ("plain", Condition::narrow)];
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has the instructions.
                ways.push(("avx2", |condition, width, keys, nulls, into| unsafe {
                    with_avx2(condition, width, keys, nulls, into)
                }));
            }
            for (name, way) in ways {
                let mut words = vec![u64::MAX; KEYS.div_ceil(64)];
                words[KEYS / 64] = (1 << (KEYS % 64)) - 1;
                way(condition, width, &keys, &nulls, &mut words);
                let found: Vec<bool> = (0..KEYS).map(|at| words[at / 64] >> (at % 64) & 1 == 1).collect();
                assert_eq!(found, expected, "{name}: {condition:?}, {width} bytes");
            }
        }
    }

    type Way = fn(&Condition, u8, &[u8], &[u8], &mut [u64]);
}
