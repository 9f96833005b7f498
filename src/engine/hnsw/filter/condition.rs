//! What a clause asks of one column's key.

use super::dispatch::{highest_bits, SIXTEEN};

/// A condition on a key. None but [`Condition::Null`] accepts NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// From, to, both included.
    Between(u128, u128),
    /// Another key than this.
    Not(u128),
    /// One of these, which ascend.
    OneOf(Vec<u128>),
    /// A key that one of these accepts.
    Any(Vec<Condition>),
    Null,
    NotNull,
    Never,
    /// A signature with all of these bits.
    AllBits(u128),
    /// A signature with all bits of one of these.
    AnyOfBits(Vec<u128>),
    /// A signature with no bits but these.
    NoOtherBits(u128),
}

impl Condition {
    /// A key that one of these conditions accepts; none accepts NULL.
    pub fn any(conditions: Vec<Condition>) -> Condition {
        let mut keys = Vec::new();
        let mut others = Vec::new();
        for condition in conditions {
            match condition {
                Condition::Never => {}
                Condition::Between(first, last) if first == last => keys.push(first),
                Condition::NotNull => return Condition::NotNull,
                other => others.push(other),
            }
        }
        keys.sort_unstable();
        keys.dedup();
        match keys.as_slice() {
            [] => {}
            [key] => others.push(Condition::Between(*key, *key)),
            _ => others.push(Condition::OneOf(keys)),
        }
        match others.len() {
            0 => Condition::Never,
            1 => others.swap_remove(0),
            _ => Condition::Any(others),
        }
    }

    pub fn is_never(&self) -> bool {
        *self == Condition::Never
    }

    /// Whether a row with this key may pass; None is NULL.
    pub fn accepts(&self, key: Option<u128>) -> bool {
        match key {
            Some(key) => self.accepts_key(key),
            None => *self == Condition::Null,
        }
    }

    fn accepts_key(&self, key: u128) -> bool {
        match self {
            Condition::Between(first, last) => (*first..=*last).contains(&key),
            Condition::Not(other) => key != *other,
            Condition::OneOf(keys) => keys.binary_search(&key).is_ok(),
            Condition::Any(conditions) => conditions.iter().any(|condition| condition.accepts_key(key)),
            Condition::NotNull => true,
            Condition::Null | Condition::Never => false,
            Condition::AllBits(bits) => key & bits == *bits,
            Condition::AnyOfBits(each) => each.iter().any(|bits| key & bits == *bits),
            Condition::NoOtherBits(bits) => key & !bits == 0,
        }
    }

    /// Clears the bits of those keys of a column that do not pass: `keys` of `width` bytes each, `nulls` a bit each. To be
    /// called by what [`dispatch`](super::dispatch) compiles, into which it is inlined.
    #[inline(always)]
    pub(super) fn narrow(&self, width: u8, keys: &[u8], nulls: &[u8], into: &mut [u64]) {
        let (eights, rest) = nulls.as_chunks::<8>();
        let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let nulls = eights.iter().map(|eight| u64::from_le_bytes(*eight)).chain([last]);
        match self {
            Condition::Null => into.iter_mut().zip(nulls).for_each(|(word, null)| *word &= null),
            Condition::Never => into.fill(0),
            _ => {
                into.iter_mut().zip(nulls).for_each(|(word, null)| *word &= !null);
                match width {
                    1 => self.narrow_keys::<u8, 1>(keys, into),
                    2 => self.narrow_keys::<u16, 2>(keys, into),
                    4 => self.narrow_keys::<u32, 4>(keys, into),
                    8 => self.narrow_keys::<u64, 8>(keys, into),
                    _ => self.narrow_keys::<Halves, 16>(keys, into),
                }
            }
        }
    }

    #[inline(always)]
    fn narrow_keys<K: Key<W>, const W: usize>(&self, keys: &[u8], into: &mut [u64]) {
        let keys = keys.as_chunks::<W>().0;
        match self {
            Condition::NotNull => {}
            Condition::Between(first, last) => match (K::of(*first), K::of((*last).min(K::GREATEST))) {
                (Some(first), Some(last)) if last.is_from(first) => {
                    each(keys, into, |key: K| key.is_between(first, last));
                }
                _ => into.fill(0),
            },
            Condition::Not(other) => {
                if let Some(other) = K::of(*other) {
                    each(keys, into, |key: K| !key.is(other));
                }
            }
            Condition::AllBits(bits) => match K::of(*bits) {
                Some(bits) => each(keys, into, |key: K| key.and(bits).is(bits)),
                None => into.fill(0),
            },
            Condition::NoOtherBits(bits) => {
                if let (Some(others), Some(none)) = (K::of(!bits & K::GREATEST), K::of(0)) {
                    each(keys, into, |key: K| key.and(others).is(none));
                }
            }
            Condition::AnyOfBits(sets) => {
                let sets: Vec<K> = sets.iter().filter_map(|&bits| K::of(bits)).collect();
                each_of(keys, into, &sets, |key: K, bits| key.and(bits).is(bits));
            }
            Condition::OneOf(wanted) => {
                let wanted: Vec<K> = wanted.iter().filter_map(|&key| K::of(key)).collect();
                if wanted.len() <= MOST_ONE_BY_ONE {
                    each_of(keys, into, &wanted, |key: K, wanted| key.is(wanted));
                } else {
                    each(keys, into, |key: K| self.accepts_key(key.wide()));
                }
            }
            _ => each(keys, into, |key: K| self.accepts_key(key.wide())),
        }
    }
}

/// Keys that are asked for one by one, of all keys of a column; more are looked up for each key.
const MOST_ONE_BY_ONE: usize = 64;

/// An unsigned integer of W bytes.
trait Key<const W: usize>: Copy {
    const GREATEST: u128;

    fn read(bytes: [u8; W]) -> Self;
    /// None if it is too large.
    fn of(key: u128) -> Option<Self>;
    fn wide(self) -> u128;
    fn is(self, other: Self) -> bool;
    /// Whether it is not below.
    fn is_from(self, other: Self) -> bool;
    /// Whether it is from `first` to `last`, which is not below `first`.
    fn is_between(self, first: Self, last: Self) -> bool;
    fn and(self, other: Self) -> Self;
}

macro_rules! keys {
    ($($integer:ty, $bytes:literal;)*) => { $(
        impl Key<$bytes> for $integer {
            const GREATEST: u128 = <$integer>::MAX as u128;

            #[inline(always)]
            fn read(bytes: [u8; $bytes]) -> Self {
                <$integer>::from_le_bytes(bytes)
            }

            #[inline(always)]
            fn of(key: u128) -> Option<Self> {
                <$integer>::try_from(key).ok()
            }

            #[inline(always)]
            fn wide(self) -> u128 {
                u128::from(self)
            }

            #[inline(always)]
            fn is(self, other: Self) -> bool {
                self == other
            }

            #[inline(always)]
            fn is_from(self, other: Self) -> bool {
                self >= other
            }

            /// One comparison: what is below `first` wraps around to the greatest.
            #[inline(always)]
            fn is_between(self, first: Self, last: Self) -> bool {
                self.wrapping_sub(first) <= last.wrapping_sub(first)
            }

            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
        }
    )* };
}

keys! { u8, 1; u16, 2; u32, 4; u64, 8; }

/// Sixteen bytes: in halves, since no CPU compares more than eight at once.
#[derive(Clone, Copy)]
struct Halves {
    low: u64,
    high: u64,
}

impl Key<16> for Halves {
    const GREATEST: u128 = u128::MAX;

    #[inline(always)]
    fn read(bytes: [u8; 16]) -> Self {
        let key = u128::from_le_bytes(bytes);
        Halves { low: key as u64, high: (key >> 64) as u64 }
    }

    #[inline(always)]
    fn of(key: u128) -> Option<Self> {
        Some(Self::read(key.to_le_bytes()))
    }

    #[inline(always)]
    fn wide(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    #[inline(always)]
    fn is(self, other: Self) -> bool {
        (self.low == other.low) & (self.high == other.high)
    }

    #[inline(always)]
    fn is_from(self, other: Self) -> bool {
        (self.high > other.high) | ((self.high == other.high) & (self.low >= other.low))
    }

    #[inline(always)]
    fn is_between(self, first: Self, last: Self) -> bool {
        self.is_from(first) & last.is_from(self)
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Halves { low: self.low & other.low, high: self.high & other.high }
    }
}

/// Clears the bits of keys that pass with none of these values. Four are asked for at once.
#[inline(always)]
fn each_of<K: Key<W>, const W: usize>(
    keys: &[[u8; W]],
    into: &mut [u64],
    values: &[K],
    passes: impl Fn(K, K) -> bool + Copy,
) {
    match *values {
        [] => return into.fill(0),
        [a] => return each(keys, into, |key| passes(key, a)),
        [a, b] => return each(keys, into, |key| passes(key, a) | passes(key, b)),
        [a, b, c] => return each(keys, into, |key| passes(key, a) | passes(key, b) | passes(key, c)),
        _ => {}
    }
    let mut passed = vec![0; into.len()];
    let mut left = Vec::with_capacity(into.len());
    for four in values.chunks(4) {
        // The last ones may come twice.
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| four[at.min(four.len() - 1)]);
        left.clear();
        left.extend(into.iter().zip(&passed).map(|(&word, &passed): (&u64, &u64)| word & !passed));
        each(keys, &mut left, |key| passes(key, a) | passes(key, b) | passes(key, c) | passes(key, d));
        passed.iter_mut().zip(&left).for_each(|(passed, &more)| *passed |= more);
    }
    into.copy_from_slice(&passed);
}

/// Clears the bits of keys that do not pass, 64 at a time; a word without bits is skipped.
#[inline(always)]
fn each<K: Key<W>, const W: usize>(keys: &[[u8; W]], into: &mut [u64], passes: impl Fn(K) -> bool) {
    for (word, keys) in into.iter_mut().zip(keys.chunks(64)) {
        if *word == 0 {
            continue;
        }
        let passes = |key: &[u8; W]| u8::from(passes(K::read(*key))).wrapping_neg();
        let (whole, rest) = keys.as_chunks::<SIXTEEN>();
        let mut passed = 0;
        for (at, keys) in whole.iter().enumerate() {
            // A byte for each key, all ones or none, which is done for all at once; then the bytes' highest bits.
            let mut bytes = [0u8; SIXTEEN];
            bytes.iter_mut().zip(keys).for_each(|(byte, key)| *byte = passes(key));
            passed |= u64::from(highest_bits(bytes)) << (SIXTEEN * at);
        }
        for (at, key) in rest.iter().enumerate() {
            passed |= u64::from(passes(key) & 1) << (SIXTEEN * whole.len() + at);
        }
        *word &= passed;
    }
}
