//! What a clause asks of one column's key.

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
        let nulls = nulls.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
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
                    _ => self.narrow_keys::<u128, 16>(keys, into),
                }
            }
        }
    }

    #[inline(always)]
    fn narrow_keys<K: Key<W>, const W: usize>(&self, keys: &[u8], into: &mut [u64]) {
        let keys = keys.as_chunks::<W>().0;
        match self {
            Condition::NotNull => {}
            Condition::Between(first, last) => match (K::narrow(*first), K::narrow(*last).or(K::narrow_last(*last))) {
                (Some(first), Some(last)) => each(keys, into, |key: K| (key >= first) & (key <= last)),
                _ => into.fill(0),
            },
            Condition::Not(other) => {
                if let Some(other) = K::narrow(*other) {
                    each(keys, into, |key: K| key != other);
                }
            }
            Condition::AllBits(bits) => each(keys, into, |key: K| has(key, *bits)),
            Condition::NoOtherBits(bits) => each(keys, into, |key: K| key.wide() & !bits == 0),
            // Few are told one by one, so that there is no loop for each key.
            Condition::AnyOfBits(sets) => match *sets.as_slice() {
                [a] => each(keys, into, |key: K| has(key, a)),
                [a, b] => each(keys, into, |key: K| has(key, a) | has(key, b)),
                [a, b, c] => each(keys, into, |key: K| has(key, a) | has(key, b) | has(key, c)),
                _ => each(keys, into, |key: K| sets.iter().any(|&bits| has(key, bits))),
            },
            Condition::OneOf(wanted) => {
                let wanted: Vec<K> = wanted.iter().filter_map(|&key| K::narrow(key)).collect();
                match *wanted.as_slice() {
                    [] => into.fill(0),
                    [a] => each(keys, into, |key: K| key == a),
                    [a, b] => each(keys, into, |key: K| (key == a) | (key == b)),
                    [a, b, c] => each(keys, into, |key: K| (key == a) | (key == b) | (key == c)),
                    [a, b, c, d] => each(keys, into, |key: K| (key == a) | (key == b) | (key == c) | (key == d)),
                    _ => each(keys, into, |key: K| wanted.binary_search(&key).is_ok()),
                }
            }
            _ => each(keys, into, |key: K| self.accepts_key(key.wide())),
        }
    }
}

/// Whether a signature has these bits.
#[inline(always)]
fn has<K: Key<W>, const W: usize>(key: K, bits: u128) -> bool {
    key.wide() & bits == bits
}

/// An unsigned integer of W bytes.
trait Key<const W: usize>: Copy + Ord {
    fn read(bytes: [u8; W]) -> Self;
    /// None if it is too large.
    fn narrow(key: u128) -> Option<Self>;
    /// The greatest, for a key that is too large.
    fn narrow_last(key: u128) -> Option<Self>;
    fn wide(self) -> u128;
}

macro_rules! keys {
    ($($integer:ty, $bytes:literal;)*) => { $(
        impl Key<$bytes> for $integer {
            #[inline(always)]
            fn read(bytes: [u8; $bytes]) -> Self {
                <$integer>::from_le_bytes(bytes)
            }

            fn narrow(key: u128) -> Option<Self> {
                <$integer>::try_from(key).ok()
            }

            fn narrow_last(key: u128) -> Option<Self> {
                (key > <$integer>::MAX as u128).then_some(<$integer>::MAX)
            }

            #[inline(always)]
            fn wide(self) -> u128 {
                self as u128
            }
        }
    )* };
}

keys! { u8, 1; u16, 2; u32, 4; u64, 8; u128, 16; }

/// Clears the bits of keys that do not pass, 64 at a time; a word without bits is skipped.
#[inline(always)]
fn each<K: Key<W>, const W: usize>(keys: &[[u8; W]], into: &mut [u64], passes: impl Fn(K) -> bool) {
    for (word, keys) in into.iter_mut().zip(keys.chunks(64)) {
        if *word == 0 {
            continue;
        }
        // A byte for each key first, all ones or none, which is done for many at a time; then the bytes' highest bits.
        let mut bytes = [0u8; 64];
        let passes = |key: &[u8; W]| u8::from(passes(K::read(*key))).wrapping_neg();
        match <&[[u8; W]; 64]>::try_from(keys) {
            // So many that the compiler knows how many.
            Ok(keys) => bytes.iter_mut().zip(keys).for_each(|(byte, key)| *byte = passes(key)),
            Err(_) => bytes.iter_mut().zip(keys).for_each(|(byte, key)| *byte = passes(key)),
        }
        *word &= super::dispatch::highest_bits(&bytes);
    }
}
