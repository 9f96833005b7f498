//! From the keys of a scan to a filter, and from the values of a row to its keys.
//!
//! Operator classes of filter columns number their operators so: 1 to 5 `< <= = >= >` as B-trees do, 6 `<>`, 7 `&&`, 8 `@>`,
//! 9 `<@`, 10 `~~` (LIKE), 11 `?`. A filter never rejects a row that the clauses accept; the executor checks the rows that
//! it accepts again.

use super::filter_value::{elements, key_of, key_token, members, position_of, string_token, tokens, with_bytes};
use super::opclass::{FilteredColumn, IndexColumns};
use pg_rag_engine::hnsw::filter::{key, signature, Comparison, Condition, Filter, KeyKind, Position};
use pgrx::pg_sys::{self, Datum, Oid};

/// The operators of filter columns, by their strategy numbers.
pub const STRATEGIES: std::ops::RangeInclusive<u16> = 1..=11;

/// The filter that the keys of a scan are.
///
/// # Safety
/// The keys are those of a running scan of an index with these columns.
pub unsafe fn filter_of(columns: &IndexColumns, keys: &[pg_sys::ScanKeyData]) -> Filter {
    let mut filter = Filter::default();
    for scan_key in keys {
        let place = usize::try_from(scan_key.sk_attno).unwrap_or(0).wrapping_sub(1);
        let column = columns.filters.iter().position(|column| column.place == place);
        // SAFETY: the caller's promise.
        let condition = unsafe { condition_of(column.and_then(|column| columns.filters.get(column)), scan_key) };
        match column {
            Some(column) => filter.and(column, condition),
            // The vector: rows without one are not in the index.
            None if condition.is_never() || condition == Condition::Null => filter.and(0, Condition::Never),
            None => {}
        }
    }
    filter
}

/// What a scan key asks of a column; of the vector if there is none.
unsafe fn condition_of(column: Option<&FilteredColumn>, scan_key: &pg_sys::ScanKeyData) -> Condition {
    let has = |flag: u32| scan_key.sk_flags & flag as i32 != 0;
    if has(pg_sys::SK_SEARCHNULL) {
        return Condition::Null;
    }
    if has(pg_sys::SK_SEARCHNOTNULL) {
        return Condition::NotNull;
    }
    if has(pg_sys::SK_ISNULL) {
        // All operators are strict.
        return Condition::Never;
    }
    let Some(column) = column else { return Condition::NotNull };
    let value_type = match scan_key.sk_subtype {
        Oid::INVALID => column.type_oid,
        subtype => subtype,
    };
    // SAFETY: the key's value is of its type, or an array of that.
    unsafe {
        if has(pg_sys::SK_SEARCHARRAY) {
            let (values, _) = members(scan_key.sk_argument);
            let each = values.into_iter().map(|value| compare(column, scan_key.sk_strategy, value_type, value));
            return Condition::any(each.collect());
        }
        compare(column, scan_key.sk_strategy, value_type, scan_key.sk_argument)
    }
}

/// What an operator with this value asks of a column.
unsafe fn compare(column: &FilteredColumn, strategy: u16, value_type: Oid, value: Datum) -> Condition {
    // SAFETY: the caller's value is of its type.
    unsafe {
        match (column.kind, strategy) {
            (KeyKind::Array, _) => compare_arrays(column, strategy, value),
            (KeyKind::Document, 8) => signature::has_all(tokens(value)),
            (KeyKind::Document, 11) => {
                with_bytes(pg_sys::TEXTOID, value, |bytes| signature::has_any([key_token(bytes), string_token(bytes)]))
            }
            (KeyKind::Text, 10) if column.collation_is_loose() => Condition::NotNull,
            (KeyKind::Text, 10) => with_bytes(value_type, value, like),
            (KeyKind::Text | KeyKind::Identity | KeyKind::Hash, 3) => {
                let key = key_of(column, value);
                Condition::Between(key, key)
            }
            (KeyKind::Identity, 6) => Position::at(column.kind, key_of(column, value)).condition(Comparison::NotEqual),
            (_, 1..=6) => {
                let comparison = match strategy {
                    1 => Comparison::Less,
                    2 => Comparison::LessOrEqual,
                    3 => Comparison::Equal,
                    4 => Comparison::GreaterOrEqual,
                    5 => Comparison::Greater,
                    _ => Comparison::NotEqual,
                };
                let position = position_of(column, value_type, value);
                position.map_or(Condition::NotNull, |position| position.condition(comparison))
            }
            _ => Condition::NotNull,
        }
    }
}

unsafe fn compare_arrays(column: &FilteredColumn, strategy: u16, value: Datum) -> Condition {
    // SAFETY: the caller's value is an array of the column's type.
    let (hashes, has_null) = unsafe { elements(column, value) };
    match strategy {
        3 => {
            let key = signature::of(hashes);
            Condition::Between(key, key)
        }
        7 => signature::has_any(hashes),
        // No array is known to have an element that is NULL.
        8 if has_null => Condition::Never,
        8 => signature::has_all(hashes),
        9 => signature::has_only(hashes),
        _ => Condition::NotNull,
    }
}

/// What LIKE with a pattern asks: that strings begin as it does.
fn like(pattern: &[u8]) -> Condition {
    let (mut start, mut rest) = (Vec::new(), pattern.iter());
    while let Some(&byte) = rest.next() {
        match byte {
            b'%' | b'_' => return key::like(&start, false),
            b'\\' => match rest.next() {
                Some(&escaped) => start.push(escaped),
                // An error, unless no row is compared with it.
                None => return Condition::NotNull,
            },
            _ => start.push(byte),
        }
    }
    key::like(&start, true)
}

/// Appends the keys of a row to `into`.
///
/// # Safety
/// `values` and `nulls` are those of a row, one for each column of the index.
pub unsafe fn append_keys(
    columns: &IndexColumns,
    shape: &pg_rag_engine::hnsw::filter::RowShape,
    values: *const Datum,
    nulls: *const bool,
    into: &mut Vec<u8>,
) {
    if columns.filters.is_empty() {
        return;
    }
    // SAFETY: the caller's promise.
    let key = |column: &FilteredColumn| unsafe {
        (!*nulls.add(column.place)).then(|| key_of(column, *values.add(column.place)))
    };
    let keys: Vec<Option<u128>> = columns.filters.iter().map(key).collect();
    shape.append(&keys, into);
}
