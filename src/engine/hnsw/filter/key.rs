//! From values to keys, and from comparisons with a value to ranges of keys.
//!
//! A key is as wide as its kind says; here all are `u128`, in pages little-endian bytes.

use super::condition::Condition;
use super::kind::KeyKind;

/// The key that little-endian bytes, at most 16, hold.
#[inline]
pub fn read(bytes: &[u8]) -> u128 {
    let mut all = [0; 16];
    if let Some(low) = all.get_mut(..bytes.len()) {
        low.copy_from_slice(bytes);
    }
    u128::from_le_bytes(all)
}

/// The key of an integer of so many bytes.
pub fn of_integer(value: i64, key_bytes: u8) -> u128 {
    let bits = 8 * u32::from(key_bytes.min(8));
    let least = i128::from(i64::MIN) >> (64 - bits);
    (i128::from(value) - least) as u128 & (u128::MAX >> (128 - bits))
}

/// The key of a floating-point number. NaN is the greatest, and equal to itself, as in PostgreSQL; zeros are equal.
pub fn of_float(value: f64) -> u128 {
    if value.is_nan() {
        return u128::from(u64::MAX);
    }
    let bits = (value + 0.0).to_bits();
    u128::from(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 })
}

/// The key of a number of 16 bytes.
pub fn of_wide_integer(value: i128) -> u128 {
    value as u128 ^ 1 << 127
}

/// The key of 16 bytes in their order.
pub fn of_uuid(bytes: [u8; 16]) -> u128 {
    u128::from_be_bytes(bytes)
}

/// The key of a string: its first eight bytes and a hash of all that is equal for equal strings. Without a prefix where the
/// order of strings is not that of their bytes, and equal strings may differ.
pub fn of_text(bytes: &[u8], hash: u64) -> u128 {
    u128::from(prefix(bytes, 0)) << 64 | u128::from(hash)
}

/// The first eight bytes as a number, what is missing replaced by `rest`.
fn prefix(bytes: &[u8], rest: u8) -> u64 {
    let mut first = [rest; 8];
    for (to, &byte) in first.iter_mut().zip(bytes) {
        *to = byte;
    }
    u64::from_be_bytes(first)
}

/// How a clause compares the column with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    NotEqual,
}

/// Where a value lies among the keys of a column: those before `first` are of lesser values, those behind `last` of greater
/// ones. If the column has no such value, `first` is the next greater key, and `last` the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// None: all keys are of lesser values.
    first: Option<u128>,
    /// None: all keys are of greater values.
    last: Option<u128>,
    /// Whether all keys from `first` to `last` are certainly of equal values.
    is_exact: bool,
}

impl Position {
    /// A value whose key is this.
    pub fn at(kind: KeyKind, key: u128) -> Position {
        Position { first: Some(key), last: Some(key), is_exact: kind.is_exact() }
    }

    /// A string in the order of its bytes: only its first bytes are compared.
    pub fn of_prefix(bytes: &[u8]) -> Position {
        let first = u128::from(prefix(bytes, 0)) << 64;
        Position { first: Some(first), last: Some(first | u128::from(u64::MAX)), is_exact: false }
    }

    /// An integer, among integers of perhaps fewer bytes.
    pub fn of_integer(value: i64, key_bytes: u8) -> Position {
        let bits = 8 * u32::from(key_bytes.min(8));
        let (least, greatest) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
        if value < least {
            return Position { first: Some(0), last: None, is_exact: true };
        }
        if value > greatest {
            return Position { first: None, last: Some(of_integer(greatest, key_bytes)), is_exact: true };
        }
        let key = of_integer(value, key_bytes);
        Position { first: Some(key), last: Some(key), is_exact: true }
    }

    /// A value between an integer, which may be `floor` itself, and the next.
    pub fn above_integer(floor: i64, key_bytes: u8) -> Position {
        let at = Position::of_integer(floor, key_bytes);
        let next = Position::of_integer(floor.saturating_add(1), key_bytes);
        Position { first: next.first, last: at.last, is_exact: true }
    }

    /// Any value between these two, both included: what is known is not more.
    pub fn between(low: Position, high: Position) -> Position {
        Position { first: low.first, last: high.last, is_exact: false }
    }

    /// What the comparison of a column with the value asks of its keys.
    pub fn condition(self, comparison: Comparison) -> Condition {
        let Position { first, last, is_exact } = self;
        let up_to = |last: Option<u128>| last.map_or(Condition::Never, |last| Condition::Between(0, last));
        let from = |first: Option<u128>| first.map_or(Condition::Never, |first| Condition::Between(first, u128::MAX));
        let before_first = match first {
            Some(first) => first.checked_sub(1),
            None => last,
        };
        let behind_last = match last {
            Some(last) => last.checked_add(1),
            None => first,
        };
        match comparison {
            Comparison::Less if is_exact => up_to(before_first),
            Comparison::Less | Comparison::LessOrEqual => up_to(last),
            Comparison::Greater if is_exact => from(behind_last),
            Comparison::Greater | Comparison::GreaterOrEqual => from(first),
            Comparison::Equal => match (first, last) {
                (Some(first), Some(last)) if first <= last => Condition::Between(first, last),
                _ => Condition::Never,
            },
            Comparison::NotEqual => match (first, last) {
                (Some(first), Some(last)) if is_exact && first == last => Condition::Not(first),
                _ => Condition::NotNull,
            },
        }
    }
}

/// What `LIKE` with these bytes before the first wildcard asks of a column of strings. `is_whole`: there is no wildcard.
pub fn like(start: &[u8], is_whole: bool) -> Condition {
    let last = if is_whole { 0 } else { u8::MAX };
    Condition::Between(u128::from(prefix(start, 0)) << 64, u128::from(prefix(start, last)) << 64 | u128::from(u64::MAX))
}

/// A hash of bytes, for ever the same: FNV-1a, its bits mixed.
pub fn hash(bytes: &[u8]) -> u64 {
    let sum = bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mixed = (sum ^ sum >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ mixed >> 32
}
