//! From the values of filter columns to keys: of rows when they are inserted, of comparisons when a scan begins.
//!
//! Keys are on disk, so what becomes of a value never changes; and two values that an operator of the class calls equal have
//! one key. Which values are compared in which way: [`filter_scan`](super::filter_scan).

use super::opclass::FilteredColumn;
use pg_rag_engine::hnsw::filter::{key, signature, KeyKind, Position};
use pgrx::direct_function_call_as_datum;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;
/// No time zone is farther from another.
const MOST_OFFSET_MICROSECONDS: i64 = 2 * MICROSECONDS_PER_DAY;

/// The key of a row's value.
///
/// # Safety
/// `datum` is a valid, not null datum of the column's type, in any form.
pub unsafe fn key_of(column: &FilteredColumn, datum: Datum) -> u128 {
    // SAFETY: the caller's promise.
    unsafe {
        match column.kind {
            KeyKind::Bool => u128::from(datum.value() & 1 == 1),
            KeyKind::Int2 => key::of_integer(integer(pg_sys::INT2OID, datum), 2),
            KeyKind::Int4 => key::of_integer(integer(column.type_oid, datum), 4),
            KeyKind::Int8 => key::of_integer(integer(column.type_oid, datum), 8),
            KeyKind::Float => key::of_float(float(column.type_oid, datum)),
            KeyKind::Numeric => key::of_float(numeric(datum)),
            KeyKind::Uuid => key::of_uuid(*datum.cast_mut_ptr::<[u8; 16]>()),
            KeyKind::Interval => key::of_wide_integer(interval(datum)),
            KeyKind::Text => text_key(column, datum),
            KeyKind::Identity => datum.value() as u32 as u128,
            KeyKind::Hash => {
                let seed = Datum::from(0i64);
                let hash = direct_function_call_as_datum(pg_sys::hashinetextended, &[Some(datum), Some(seed)]);
                hash.map_or(0, |hash| u128::from(hash.value() as u64))
            }
            KeyKind::Array => signature::of(elements(column, datum).0),
            KeyKind::Document => signature::of(tokens(datum)),
        }
    }
}

/// Where a value of a type lies among those of a column. None: nothing is known.
///
/// # Safety
/// `datum` is a valid, not null datum of that type, in any form.
pub unsafe fn position_of(column: &FilteredColumn, type_oid: Oid, datum: Datum) -> Option<Position> {
    use pg_sys::{DATEOID, TIMESTAMPOID, TIMESTAMPTZOID};
    // SAFETY: the caller's promise.
    unsafe {
        Some(match (column.kind, column.type_oid, type_oid) {
            (_, DATEOID, DATEOID) => Position::of_integer(integer(DATEOID, datum), 4),
            (_, DATEOID, TIMESTAMPOID) => date_position(integer(type_oid, datum)),
            (_, DATEOID, TIMESTAMPTZOID) => around(integer(type_oid, datum), date_position),
            (_, TIMESTAMPOID, DATEOID) => time_position(time_of_date(integer(type_oid, datum))),
            (_, TIMESTAMPTZOID, DATEOID) => around(time_of_date(integer(type_oid, datum)), time_position),
            (_, TIMESTAMPOID, TIMESTAMPTZOID) | (_, TIMESTAMPTZOID, TIMESTAMPOID) => {
                around(integer(type_oid, datum), time_position)
            }
            (KeyKind::Int2 | KeyKind::Int4 | KeyKind::Int8, ..) => {
                Position::of_integer(integer(type_oid, datum), column.kind.key_bytes())
            }
            (KeyKind::Float, ..) => Position::at(KeyKind::Float, key::of_float(float(type_oid, datum))),
            (KeyKind::Text, ..) => match column.collation {
                // Only there is the order of strings that of their bytes.
                _ if type_oid == pg_sys::BYTEAOID => with_bytes(type_oid, datum, Position::of_prefix),
                pg_sys::C_COLLATION_OID | POSIX_COLLATION => with_bytes(type_oid, datum, Position::of_prefix),
                _ => return None,
            },
            (KeyKind::Bool | KeyKind::Numeric | KeyKind::Uuid | KeyKind::Interval, ..) => {
                Position::at(column.kind, key_of(column, datum))
            }
            (KeyKind::Identity | KeyKind::Hash | KeyKind::Array | KeyKind::Document, ..) => return None,
        })
    }
}

/// pgrx does not name it.
const POSIX_COLLATION: Oid = pg_sys::POSIX_COLLATION_OID;

fn time_position(microseconds: i64) -> Position {
    Position::of_integer(microseconds, 8)
}

/// Where a point in time lies among days.
fn date_position(microseconds: i64) -> Position {
    match microseconds {
        i64::MIN => Position::of_integer(i64::from(i32::MIN), 4),
        i64::MAX => Position::of_integer(i64::from(i32::MAX), 4),
        _ => {
            let day = microseconds.div_euclid(MICROSECONDS_PER_DAY);
            match microseconds.rem_euclid(MICROSECONDS_PER_DAY) {
                0 => Position::of_integer(day, 4),
                _ => Position::above_integer(day, 4),
            }
        }
    }
}

/// The first point in time of a day; infinite for an infinite one.
fn time_of_date(day: i64) -> i64 {
    match i32::try_from(day) {
        Ok(i32::MIN) => i64::MIN,
        Ok(i32::MAX) => i64::MAX,
        _ => day.saturating_mul(MICROSECONDS_PER_DAY),
    }
}

/// Where a point in time lies if it is only known up to the time zone.
fn around(microseconds: i64, position: impl Fn(i64) -> Position) -> Position {
    match microseconds {
        i64::MIN | i64::MAX => position(microseconds),
        _ => {
            let low = microseconds.saturating_sub(MOST_OFFSET_MICROSECONDS);
            let high = microseconds.saturating_add(MOST_OFFSET_MICROSECONDS);
            Position::between(position(low), position(high))
        }
    }
}

/// An integer, or what is kept as one.
unsafe fn integer(type_oid: Oid, datum: Datum) -> i64 {
    match type_oid {
        pg_sys::INT2OID => i64::from(datum.value() as i16),
        pg_sys::INT4OID | pg_sys::DATEOID => i64::from(datum.value() as i32),
        _ => datum.value() as i64,
    }
}

unsafe fn float(type_oid: Oid, datum: Datum) -> f64 {
    match type_oid {
        pg_sys::FLOAT4OID => f64::from(f32::from_bits(datum.value() as u32)),
        _ => f64::from_bits(datum.value() as u64),
    }
}

/// The floating-point number nearest to a decimal one; infinite if that is too large.
unsafe fn numeric(datum: Datum) -> f64 {
    // SAFETY: the caller's datum is a numeric.
    unsafe {
        let nearest = direct_function_call_as_datum(pg_sys::numeric_float8_no_overflow, &[Some(datum)]);
        nearest.map_or(f64::NAN, |nearest| f64::from_bits(nearest.value() as u64))
    }
}

/// The number that PostgreSQL compares intervals by.
unsafe fn interval(datum: Datum) -> i128 {
    // SAFETY: the caller's datum is an interval.
    let interval = unsafe { *datum.cast_mut_ptr::<pg_sys::Interval>() };
    let days = i128::from(interval.month) * 30 + i128::from(interval.day);
    days * i128::from(MICROSECONDS_PER_DAY) + i128::from(interval.time)
}

unsafe fn text_key(column: &FilteredColumn, datum: Datum) -> u128 {
    // SAFETY: the caller's datum is of the column's type.
    unsafe {
        let is_plain = !column.collation_is_loose();
        with_bytes(column.type_oid, datum, |bytes| match is_plain {
            true => key::of_text(bytes, key::hash(bytes)),
            false => {
                // Strings that differ may be equal.
                let text = pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32);
                let (text, seed) = (Datum::from(text), Datum::from(0i64));
                let function = Oid::from(pg_sys::F_HASHTEXTEXTENDED);
                let hash = pg_sys::OidFunctionCall2Coll(function, column.collation, text, seed);
                key::of_text(&[], hash.value() as u64)
            }
        })
    }
}

impl FilteredColumn {
    /// Whether strings that differ may be equal.
    pub fn collation_is_loose(&self) -> bool {
        // SAFETY: looks a key up in a system cache.
        self.collation != Oid::INVALID && unsafe { !pg_sys::get_collation_isdeterministic(self.collation) }
    }
}

/// Calls `work` with the bytes of a string: those of a `name` up to its end, those of a `bpchar` without trailing blanks.
///
/// # Safety
/// `datum` is a valid, not null datum of that type, in any form.
pub unsafe fn with_bytes<R>(type_oid: Oid, datum: Datum, work: impl FnOnce(&[u8]) -> R) -> R {
    // SAFETY: the caller's promise; the bytes live as long as the datum or its copy in the current context.
    unsafe {
        if type_oid == pg_sys::NAMEOID {
            return work(std::ffi::CStr::from_ptr(datum.cast_mut_ptr()).to_bytes());
        }
        let packed = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        let bytes = std::slice::from_raw_parts(pgrx::vardata_any(packed).cast::<u8>(), pgrx::varsize_any_exhdr(packed));
        match type_oid {
            pg_sys::BPCHAROID => work(bytes.trim_suffix_blanks()),
            _ => work(bytes),
        }
    }
}

trait Blanks {
    fn trim_suffix_blanks(&self) -> &[u8];
}

impl Blanks for [u8] {
    fn trim_suffix_blanks(&self) -> &[u8] {
        let length = self.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
        self.get(..length).unwrap_or_default()
    }
}

/// The elements of an array of the column's type, hashed, and whether one is NULL.
///
/// # Safety
/// `datum` is a valid, not null array of that type, in any form.
pub unsafe fn elements(column: &FilteredColumn, datum: Datum) -> (Vec<u64>, bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let element = pg_sys::get_element_type(column.type_oid);
        let (values, has_null) = members(datum);
        let flags = pg_sys::TYPECACHE_HASH_EXTENDED_PROC_FINFO as i32;
        let cached = pg_sys::lookup_type_cache(element, flags);
        let function = &raw mut (*cached).hash_extended_proc_finfo;
        if (*function).fn_oid == Oid::INVALID {
            let name = std::ffi::CStr::from_ptr(pg_sys::format_type_be(element)).to_string_lossy().into_owned();
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                format!("could not identify an extended hash function for type {name}")
            );
        }
        let hash = |value: Datum| {
            let seed = Datum::from(0i64);
            pg_sys::FunctionCall2Coll(function, column.collation, value, seed).value() as u64
        };
        (values.into_iter().map(hash).collect(), has_null)
    }
}

/// The elements of an array that are not NULL, and whether others are.
///
/// # Safety
/// `datum` is a valid, not null array, in any form.
pub unsafe fn members(datum: Datum) -> (Vec<Datum>, bool) {
    let (mut length, mut by_value, mut align) = (0, false, 0);
    let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: the caller's promise; so many values and flags are written to palloc'd memory.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let element = (*array).elemtype;
        pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
        let length = i32::from(length);
        pg_sys::deconstruct_array(array, element, length, by_value, align, &mut values, &mut nulls, &mut count);
        let count = usize::try_from(count).unwrap_or(0);
        let all = (0..count).map(|at| (*values.add(at), *nulls.add(at)));
        let mut has_null = false;
        let present = all.filter_map(|(value, is_null)| {
            has_null |= is_null;
            (!is_null).then_some(value)
        });
        (present.collect(), has_null)
    }
}

/// What a JSON document holds, anywhere in it: a hash of each key, of each string and of each other scalar.
///
/// # Safety
/// `datum` is a valid, not null `jsonb`, in any form.
pub unsafe fn tokens(datum: Datum) -> Vec<u64> {
    use pg_sys::{jbvType, JsonbIteratorToken};
    let mut tokens = Vec::new();
    // SAFETY: the caller's promise; the iterator and its values live in the current context.
    unsafe {
        let document = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        let mut iterator = pg_sys::JsonbIteratorInit(&raw mut (*document).root);
        let mut value = pg_sys::JsonbValue::default();
        loop {
            let token = pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false);
            match token {
                JsonbIteratorToken::WJB_DONE => return tokens,
                JsonbIteratorToken::WJB_KEY | JsonbIteratorToken::WJB_VALUE | JsonbIteratorToken::WJB_ELEM => {}
                _ => continue,
            }
            tokens.push(match value.type_ {
                jbvType::jbvString => {
                    let string = value.val.string;
                    let bytes =
                        std::slice::from_raw_parts(string.val.cast::<u8>(), usize::try_from(string.len).unwrap_or(0));
                    match token {
                        JsonbIteratorToken::WJB_KEY => key_token(bytes),
                        _ => string_token(bytes),
                    }
                }
                jbvType::jbvNumeric => {
                    // Equal numbers, however they are written.
                    let number = key::of_float(numeric(Datum::from(value.val.numeric)));
                    token_of(b'n', &number.to_le_bytes())
                }
                jbvType::jbvBool => token_of(b'b', &[u8::from(value.val.boolean)]),
                _ => token_of(b'0', &[]),
            });
        }
    }
}

/// The token of a key of an object.
pub fn key_token(bytes: &[u8]) -> u64 {
    token_of(b'k', bytes)
}

/// The token of a string that is an element or a value.
pub fn string_token(bytes: &[u8]) -> u64 {
    token_of(b's', bytes)
}

fn token_of(what: u8, bytes: &[u8]) -> u64 {
    let mut all = Vec::with_capacity(bytes.len() + 1);
    all.push(what);
    all.extend_from_slice(bytes);
    key::hash(&all)
}
