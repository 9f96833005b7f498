//! Conditions never reject what a comparison accepts, and accept no more where keys are exact.

use proptest::prelude::*;

use super::condition::Condition;
use super::key::{self, Comparison, Position};
use super::row::RowShape;
use super::*;
use crate::hnsw::page::filter_columns::FilterColumn;
use crate::hnsw::page::{CodeLength, Layout, PAGE_BYTES};
use crate::test_scale::scaled;

const COMPARISONS: [Comparison; 6] = [
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Equal,
    Comparison::GreaterOrEqual,
    Comparison::Greater,
    Comparison::NotEqual,
];

fn holds(comparison: Comparison, order: std::cmp::Ordering) -> bool {
    match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Equal => order.is_eq(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Greater => order.is_gt(),
        Comparison::NotEqual => order.is_ne(),
    }
}

/// Floating-point numbers in PostgreSQL's order.
fn float_order(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn near_limits(bits: u32) -> impl Strategy<Value = i64> {
    let (least, greatest) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
    prop_oneof![
        Just(least),
        Just(greatest),
        Just(least.saturating_sub(1)),
        Just(greatest.saturating_add(1)),
        -3i64..3,
        any::<i64>(),
    ]
}

fn floats() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), -2.0..2.0f64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(scaled(2_000, 3)))]

    #[test]
    fn integers_compare_as_they_do(
        (width, value, other) in prop_oneof![Just(2u8), Just(4), Just(8)].prop_flat_map(|width| {
            let bits = 8 * u32::from(width);
            (Just(width), near_limits(bits).prop_map(move |value| value << (64 - bits) >> (64 - bits)), near_limits(bits))
        }),
    ) {
        let key = key::of_integer(value, width);
        prop_assert!(key <= u128::MAX >> (128 - 8 * u32::from(width)));
        for comparison in COMPARISONS {
            let condition = Position::of_integer(other, width).condition(comparison);
            prop_assert_eq!(condition.accepts(Some(key)), holds(comparison, value.cmp(&other)), "{:?}", comparison);
            prop_assert!(!condition.accepts(None));
            // A value between `other` and the next.
            let condition = Position::above_integer(other, width).condition(comparison);
            let order = if value <= other { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater };
            if other < i64::MAX {
                prop_assert_eq!(condition.accepts(Some(key)), holds(comparison, order), "above, {:?}", comparison);
            }
        }
    }

    #[test]
    fn floats_compare_as_in_postgresql(value in floats(), other in floats()) {
        let (key, other_key) = (key::of_float(value), key::of_float(other));
        prop_assert_eq!(key.cmp(&other_key), float_order(value, other));
        for comparison in COMPARISONS {
            let order = float_order(value, other);
            let exact = Position::at(KeyKind::Float, other_key).condition(comparison);
            prop_assert_eq!(exact.accepts(Some(key)), holds(comparison, order));
            // Decimal numbers that the same floating-point number is nearest to differ, perhaps.
            let lossy = Position::at(KeyKind::Numeric, other_key).condition(comparison);
            prop_assert!(lossy.accepts(Some(key)) || !(holds(comparison, order) || order.is_eq()));
        }
    }

    #[test]
    fn strings_are_not_missed(value in "[ab\u{ff}]{0,12}", other in "[ab\u{ff}]{0,12}", hash in 0u64..3) {
        let key = key::of_text(value.as_bytes(), hash);
        for comparison in COMPARISONS {
            let condition = Position::of_prefix(other.as_bytes()).condition(comparison);
            if holds(comparison, value.as_bytes().cmp(other.as_bytes())) {
                prop_assert!(condition.accepts(Some(key)), "{:?}", comparison);
            }
        }
        let like = key::like(other.as_bytes(), false);
        prop_assert!(like.accepts(Some(key)) || !value.starts_with(&other));
        prop_assert!(key::like(value.as_bytes(), true).accepts(Some(key)));
        if value.len() < 8 && !other.is_empty() && other.len() <= 8 && !value.starts_with(&other) {
            prop_assert!(!like.accepts(Some(key)));
        }
    }

    #[test]
    fn sets_are_not_missed(
        set in prop::collection::vec(0u64..20, 0..6),
        other in prop::collection::vec(0u64..20, 0..6),
    ) {
        let key = signature::of(set.iter().copied());
        let has = |element: &u64| set.contains(element);
        prop_assert!(signature::has_all(other.iter().copied()).accepts(Some(key)) || !other.iter().all(has));
        prop_assert!(signature::has_any(other.iter().copied()).accepts(Some(key)) || !other.iter().any(has));
        let only = set.iter().all(|element| other.contains(element));
        prop_assert!(signature::has_only(other.iter().copied()).accepts(Some(key)) || !only);
        prop_assert!(!signature::has_any([]).accepts(Some(key)));
    }

    #[test]
    fn pages_are_filtered_as_single_keys(
        widths in prop::collection::vec(prop_oneof![Just(1u8), Just(2), Just(4), Just(8), Just(16)], 1..4),
        seed in any::<u64>(),
        choice in 0usize..19,
    ) {
        let layout = *Layout::new(8, CodeLength::Fixed(8), 4, &widths).unwrap().keys();
        let columns: Vec<FilterColumn> = widths
            .iter()
            .zip(2..)
            .map(|(&key_bytes, attribute)| FilterColumn { attribute, key_bytes, type_class: 1, flags: 0, parameters: [0; 12] })
            .collect();
        let shape = RowShape::of(&columns);
        let mut page = Box::new([0u8; PAGE_BYTES]);
        let mut numbers = seed;
        let mut draw = || {
            numbers = numbers.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            u128::from(numbers >> 33)
        };
        let nodes = layout.nodes_per_page().min(scaled(u32::MAX, 150)) - draw() as u32 % 70;
        let mut rows = Vec::new();
        for slot in 0..nodes {
            let row: Vec<Option<u128>> = widths
                .iter()
                .map(|&width| (draw() % 5 > 0).then(|| draw() % 7 + (draw() % 2) * ((u128::MAX >> (128 - 8 * u32::from(width))) - 7)))
                .collect();
            let mut bytes = Vec::new();
            shape.append(&row, &mut bytes);
            prop_assert_eq!(bytes.len(), shape.bytes());
            shape.put(KeyRow(&bytes), &layout, &mut page, slot).unwrap();
            prop_assert!(shape.is_at(KeyRow(&bytes), &layout, &page, slot).unwrap());
            rows.push(row);
        }
        let conditions = [
            Condition::Between(2, 5),
            Condition::Between(4, u128::MAX),
            Condition::Not(3),
            Condition::OneOf(vec![1, 3, 250]),
            Condition::OneOf(vec![3, 1 << 70]),
            Condition::OneOf(vec![2, 5]),
            Condition::OneOf(vec![0, 1, 2, 3]),
            Condition::OneOf(vec![0, 1, 2, 3, 4, 251]),
            Condition::Any(vec![Condition::Between(0, 1), Condition::Not(5)]),
            Condition::Null,
            Condition::NotNull,
            Condition::Never,
            Condition::AllBits(5),
            Condition::NoOtherBits(6),
            Condition::AnyOfBits(vec![]),
            Condition::AnyOfBits(vec![3]),
            Condition::AnyOfBits(vec![3, 4]),
            Condition::AnyOfBits(vec![3, 5, 6]),
            Condition::AnyOfBits(vec![3, 5, 6, 1 << 70]),
        ];
        let mut filter = Filter::default();
        for column in 0..widths.len() {
            filter.and(column, conditions[(choice + column) % conditions.len()].clone());
        }
        let mut words = vec![0x5555; nodes.div_ceil(64) as usize + 1];
        filter.matching(&layout, &page, nodes, &mut words).unwrap();
        prop_assert_eq!(words.last(), Some(&0), "more nodes than asked for");
        for (slot, row) in (0u32..).zip(&rows) {
            let expected = row
                .iter()
                .enumerate()
                .all(|(column, key)| conditions[(choice + column) % conditions.len()].accepts(*key));
            prop_assert_eq!(words[slot as usize / 64] >> (slot % 64) & 1 == 1, expected, "slot {}", slot);
            prop_assert_eq!(filter.passes(&layout, &page, slot).unwrap(), expected);
        }
        let beyond = words.last().map_or(0, |word| if nodes.is_multiple_of(64) { 0 } else { word >> (nodes % 64) });
        prop_assert_eq!(beyond, 0);
    }
}

#[test]
fn kinds_are_read_back_by_their_numbers() {
    for kind in KeyKind::ALL {
        assert_eq!(KeyKind::from_u8(kind as u8), Some(kind));
        assert_eq!(kind.column(3).key_bytes, kind.key_bytes());
        assert_eq!(kind.last_key().count_ones(), 8 * u32::from(kind.key_bytes()));
    }
    assert_eq!(KeyKind::from_u8(0), None);
    assert_eq!(KeyKind::from_u8(14), None);
}

#[test]
fn lists_of_conditions_become_one() {
    let equal = |key| Condition::Between(key, key);
    assert_eq!(Condition::any(vec![]), Condition::Never);
    assert_eq!(Condition::any(vec![equal(5), Condition::Never, equal(3), equal(5)]), Condition::OneOf(vec![3, 5]));
    assert_eq!(Condition::any(vec![equal(5)]), equal(5));
    assert_eq!(Condition::any(vec![equal(5), Condition::NotNull]), Condition::NotNull);
    let ranges = Condition::any(vec![Condition::Between(1, 3), equal(9)]);
    assert!(ranges.accepts(Some(2)) && ranges.accepts(Some(9)) && !ranges.accepts(Some(4)) && !ranges.accepts(None));
}
