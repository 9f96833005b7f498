//! Kinds of keys.

use super::super::page::filter_columns::FilterColumn;

/// How the values of a column become keys. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// False, then true.
    Bool = 1,
    /// Integers of 2, 4 and 8 bytes, and what PostgreSQL keeps as such: dates, times, timestamps.
    Int2 = 2,
    Int4 = 3,
    Int8 = 4,
    /// Floating-point numbers, those of 4 bytes, too.
    Float = 5,
    /// Decimal numbers, as the nearest floating-point number: lossy.
    Numeric = 6,
    /// 16 bytes in the order of their values.
    Uuid = 7,
    /// Intervals of time, as the number that PostgreSQL compares.
    Interval = 8,
    /// Strings of bytes or characters: the first bytes, then a hash of all: lossy.
    Text = 9,
    /// A number without an order: the identity of an enum's value.
    Identity = 10,
    /// A hash of a value: lossy.
    Hash = 11,
    /// The signature of an array: lossy.
    Array = 12,
    /// The signature of a JSON document: lossy.
    Document = 13,
}

impl KeyKind {
    pub const ALL: [KeyKind; 13] = [
        KeyKind::Bool,
        KeyKind::Int2,
        KeyKind::Int4,
        KeyKind::Int8,
        KeyKind::Float,
        KeyKind::Numeric,
        KeyKind::Uuid,
        KeyKind::Interval,
        KeyKind::Text,
        KeyKind::Identity,
        KeyKind::Hash,
        KeyKind::Array,
        KeyKind::Document,
    ];

    /// The kind with this number on disk.
    pub fn from_u8(number: u8) -> Option<KeyKind> {
        KeyKind::ALL.into_iter().find(|&kind| kind as u8 == number)
    }

    /// Bytes of a key.
    pub const fn key_bytes(self) -> u8 {
        match self {
            KeyKind::Bool => 1,
            KeyKind::Int2 => 2,
            KeyKind::Int4 | KeyKind::Identity => 4,
            KeyKind::Int8 | KeyKind::Float | KeyKind::Numeric | KeyKind::Hash => 8,
            KeyKind::Uuid | KeyKind::Interval | KeyKind::Text | KeyKind::Array | KeyKind::Document => 16,
        }
    }

    /// Whether different values have different keys.
    pub const fn is_exact(self) -> bool {
        match self {
            KeyKind::Bool
            | KeyKind::Int2
            | KeyKind::Int4
            | KeyKind::Int8
            | KeyKind::Float
            | KeyKind::Uuid
            | KeyKind::Interval
            | KeyKind::Identity => true,
            KeyKind::Numeric | KeyKind::Text | KeyKind::Hash | KeyKind::Array | KeyKind::Document => false,
        }
    }

    /// The greatest key.
    pub const fn last_key(self) -> u128 {
        u128::MAX >> (128 - 8 * self.key_bytes() as u32)
    }

    /// The descriptor of a column of this kind, which is this attribute of the index, from 1.
    pub fn column(self, attribute: u8) -> FilterColumn {
        FilterColumn { attribute, key_bytes: self.key_bytes(), type_class: self as u8, flags: 0, parameters: [0; 12] }
    }
}
