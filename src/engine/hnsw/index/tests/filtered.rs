//! Searches with filters: what they give, whichever way they go, next to the exact answer.

use std::rc::Rc;

use super::*;
use crate::hnsw::filter::{key, Comparison, Condition, Filter, KeyKind, Position, RowMask};
use crate::hnsw::index::filtered::{plan, LooksAt};
use crate::hnsw::index::Regime;
use crate::test_scale::scaled;

const DIMENSIONS: usize = scaled(16, 4);
const ROWS: usize = scaled(3_000, 30);

/// Two columns: a number from 0 to 99 that has nothing to do with the vector, sometimes NULL; and one that grows with the
/// vector's first element.
fn filters() -> Identity {
    let identity = identity(DIMENSIONS as u32, Metric::L2, 16);
    identity.with_filters(vec![KeyKind::Int4.column(2), KeyKind::Int2.column(3)])
}

fn number(row: usize) -> Option<i64> {
    let drawn = Numbers::new(row as u64).below(110) as i64;
    (drawn < 100).then_some(drawn)
}

fn place(vector: &[f32]) -> i64 {
    (vector[0] * 1000.0) as i64
}

fn keys(row: usize, vector: &[f32]) -> Vec<Option<u128>> {
    vec![number(row).map(|number| key::of_integer(number, 4)), Some(key::of_integer(place(vector), 2))]
}

fn compare(column: usize, comparison: Comparison, value: i64) -> Filter {
    let mut filter = Filter::default();
    filter.and(column, Position::of_integer(value, [4, 2][column]).condition(comparison));
    filter
}

/// The rows that a scan gives, up to a limit, and the way that it went at the end.
fn filtered(
    index: &mut Index<MemoryStore>,
    query: &[f32],
    vectors: &[Vec<f32>],
    filter: &Filter,
    regime: Option<Regime>,
    limit: usize,
) -> (Vec<usize>, Option<Regime>) {
    let (mut scan, mut batch, mut rows) = (Scan::default(), Vec::new(), Vec::new());
    let prepared = index.shape().codec.query(Values::Single(query)).unwrap();
    index.begin_filtered_scan_by(&mut scan, prepared, 80, filter.clone(), regime, &mut batch).unwrap();
    let distance = |row: usize| crate::distance::Metric::L2.distance(query, vectors[row].as_slice()).unwrap();
    while rows.len() < limit {
        let (mut found, mut tids) = (Vec::new(), Vec::new());
        for candidate in &batch {
            tids.clear();
            index.heap_tids(candidate.node, candidate.row, &mut tids).unwrap();
            found.extend(tids.iter().map(|tid| tid.block() as usize));
        }
        found.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        rows.extend(found);
        if rows.len() < limit && !index.continue_scan(&mut scan, usize::MAX, &mut batch).unwrap() {
            break;
        }
    }
    rows.truncate(limit);
    (rows, scan.regime())
}

/// Whether a row passes.
type Passes<'a> = Box<dyn Fn(usize) -> bool + 'a>;

fn exact(query: &[f32], vectors: &[Vec<f32>], passes: impl Fn(usize) -> bool) -> Vec<usize> {
    let distance = |row: usize| crate::distance::Metric::L2.distance(query, vectors[row].as_slice()).unwrap();
    let mut rows: Vec<usize> = (0..vectors.len()).filter(|&row| passes(row)).collect();
    rows.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
    rows
}

#[test]
fn every_way_finds_the_nearest_that_pass() {
    let vectors = vectors(ROWS, DIMENSIONS, 61);
    let mut index = built_with_keys(&vectors, filters(), |row| keys(row, &vectors[row]));
    assert_sound(&mut index);
    let queries = self::vectors(scaled(20, 1), DIMENSIONS, 62);
    for regime in [None, Some(Regime::Beam), Some(Regime::Hops), Some(Regime::Exact)] {
        for share in [1i64, 5, 20, 50, 90].into_iter().step_by(scaled(1, 3)) {
            let (mut found, mut wanted) = (0, 0);
            for query in &queries {
                // Rows anywhere, rows near the query, rows far from it.
                let mut places: Vec<i64> = vectors.iter().map(|vector| place(vector)).collect();
                places.sort_unstable();
                let at = places[ROWS * share as usize / 100];
                let (near, far) = match place(query) < 0 {
                    true => (Comparison::Less, Comparison::GreaterOrEqual),
                    false => (Comparison::GreaterOrEqual, Comparison::Less),
                };
                let cases: [(Filter, Passes<'_>); 3] = [
                    (
                        compare(0, Comparison::Less, share),
                        Box::new(|row| number(row).is_some_and(|number| number < share)),
                    ),
                    (compare(1, near, at), Box::new(|row| (place(&vectors[row]) < at) == (near == Comparison::Less))),
                    (compare(1, far, at), Box::new(|row| (place(&vectors[row]) < at) == (far == Comparison::Less))),
                ];
                for (filter, passes) in cases {
                    let expected = exact(query, &vectors, &passes);
                    let (rows, _) = filtered(&mut index, query, &vectors, &filter, regime, 10);
                    assert!(rows.iter().all(|&row| passes(row)), "{regime:?}, {share} %");
                    assert_eq!(rows.len(), expected.len().min(10), "{regime:?}, {share} %");
                    wanted += rows.len();
                    found += rows.iter().filter(|row| expected[..rows.len()].contains(row)).count();
                }
            }
            let recall = found as f64 / wanted as f64;
            eprintln!("{regime:?}, {share} %: recall {recall:.4}");
            assert!(recall >= 0.95, "{regime:?}, {share} %: {recall}");
        }
    }
}

#[test]
fn a_scan_to_its_end_gives_every_row_that_passes_once() {
    let vectors = vectors(ROWS, DIMENSIONS, 63);
    let mut index = built_with_keys(&vectors, filters(), |row| keys(row, &vectors[row]));
    for regime in [None, Some(Regime::Beam), Some(Regime::Hops), Some(Regime::Exact)] {
        for (filter, share) in [(compare(0, Comparison::Less, 50), 50), (compare(0, Comparison::Equal, 7), 1)] {
            let passes = |row: usize| match share {
                50 => number(row).is_some_and(|number| number < 50),
                _ => number(row) == Some(7),
            };
            let (mut rows, _) = filtered(&mut index, &vectors[5], &vectors, &filter, regime, usize::MAX);
            rows.sort_unstable();
            let expected: Vec<usize> = (0..ROWS).filter(|&row| passes(row)).collect();
            assert_eq!(rows, expected, "{regime:?}, {share} %");
        }
    }
}

#[test]
fn nulls_are_found_where_they_are_asked_for() {
    const ROWS: usize = scaled(600, 20);
    let vectors = vectors(ROWS, DIMENSIONS, 64);
    let mut index = built_with_keys(&vectors, filters(), |row| keys(row, &vectors[row]));
    for (condition, wants_null) in [(Condition::Null, true), (Condition::NotNull, false)] {
        let mut filter = Filter::default();
        filter.and(0, condition);
        let (mut rows, _) = filtered(&mut index, &vectors[0], &vectors, &filter, None, usize::MAX);
        rows.sort_unstable();
        let expected: Vec<usize> = (0..ROWS).filter(|&row| number(row).is_none() == wants_null).collect();
        assert_eq!(rows, expected);
    }
    let mut never = Filter::default();
    never.and(0, Condition::Never);
    assert_eq!(filtered(&mut index, &vectors[0], &vectors, &never, None, 10).0, Vec::<usize>::new());
}

#[test]
fn rows_that_come_and_go_are_filtered() {
    const ROWS: usize = scaled(1_200, 16);
    let vectors = vectors(ROWS, DIMENSIONS, 65);
    let mut index = built_with_keys(&vectors[..ROWS / 2], filters(), |row| keys(row, &vectors[row]));
    let row_keys = index.shape().row_keys.clone();
    let insert = |index: &mut Index<MemoryStore>, row: usize, key_row: usize| {
        let mut bytes = Vec::new();
        row_keys.append(&keys(key_row, &vectors[row]), &mut bytes);
        let value = Values::Single(&vectors[row]);
        index.insert(&mut Inserter::default(), value, KeyRow(&bytes), tid(row)).unwrap();
    };
    for row in ROWS / 2..ROWS {
        insert(&mut index, row, row);
    }
    // An eighth goes, and comes back with other keys: free nodes have others' then.
    index.vacuum(|tid| tid.block() % 8 == 0).unwrap();
    for row in (0..ROWS).step_by(8) {
        insert(&mut index, row, row + 1);
    }
    assert_sound(&mut index);
    let number_now = |row: usize| number(if row.is_multiple_of(8) { row + 1 } else { row });
    for value in (0..100).step_by(scaled(1, 30)) {
        let filter = compare(0, Comparison::Equal, value);
        let (mut rows, _) = filtered(&mut index, &vectors[0], &vectors, &filter, None, usize::MAX);
        rows.sort_unstable();
        let expected: Vec<usize> = (0..ROWS).filter(|&row| number_now(row) == Some(value)).collect();
        assert_eq!(rows, expected, "{value}");
    }
}

#[test]
fn equal_vectors_share_a_node_only_with_equal_keys() {
    const ROWS: usize = scaled(300, 30);
    let vectors = vec![vec![0.25; DIMENSIONS]; ROWS];
    let key_of = |row: usize| vec![Some(key::of_integer(row as i64 % 3, 4)), None];
    let mut index = built_with_keys(&vectors[..ROWS * 2 / 3], filters(), key_of);
    let row_keys = index.shape().row_keys.clone();
    for (row, vector) in vectors.iter().enumerate().skip(ROWS * 2 / 3) {
        let mut bytes = Vec::new();
        row_keys.append(&key_of(row), &mut bytes);
        index.insert(&mut Inserter::default(), Values::Single(vector), KeyRow(&bytes), tid(row)).unwrap();
    }
    let report = assert_sound(&mut index);
    assert_eq!((report.live_nodes, report.rows), (3, ROWS as u64));
    let filter = compare(0, Comparison::Equal, 1);
    let (mut rows, _) = filtered(&mut index, &vectors[0], &vectors, &filter, None, usize::MAX);
    rows.sort_unstable();
    assert_eq!(rows, (0..ROWS).filter(|row| row % 3 == 1).collect::<Vec<_>>());
}

#[test]
fn the_way_follows_from_what_passes() {
    let keys = LooksAt { keys: true, rows: false };
    let way = |nodes: f64, share: f64| plan(nodes, 16.0, 40.0, share, keys).0;
    assert_eq!(way(60_000.0, 0.9), Regime::Beam);
    assert_eq!(way(60_000.0, 0.5), Regime::Beam);
    assert_eq!(way(60_000.0, 0.001), Regime::Exact);
    assert_eq!(way(60_000.0, 0.01), Regime::Exact);
    assert_eq!(way(10_000_000.0, 0.05), Regime::Hops);
    // What costs grow with.
    let cost = |share: f64| plan(1e6, 16.0, 40.0, share, keys).1;
    assert!(cost(0.001) < cost(0.01) && cost(0.9) < cost(0.5));
}

#[test]
fn nodes_without_keys_are_findings() {
    let vectors = vectors(scaled(300, 12), DIMENSIONS, 66);
    let mut index = built_with_keys(&vectors, filters(), |row| keys(row, &vectors[row]));
    assert_eq!(index.check().unwrap().findings, []);
    let block = index.block(crate::hnsw::page::PageClass::Keys, 0).unwrap();
    index.store().pages.page_mut(block).unwrap().fill(0);
    assert_eq!(index.check().unwrap().findings.len(), 1);
}

#[test]
fn a_mask_of_rows_is_a_filter_in_every_way() {
    let vectors = vectors(ROWS, DIMENSIONS, 71);
    let mut index = built_with_keys(&vectors, filters(), |row| keys(row, &vectors[row]));
    let queries = self::vectors(scaled(20, 1), DIMENSIONS, 72);
    for regime in [None, Some(Regime::Beam), Some(Regime::Hops), Some(Regime::Exact)] {
        // A condition on a filter column, too, or the mask alone.
        for (share, has_condition) in
            [(1, false), (5, false), (20, true), (50, false), (50, true), (90, false)].into_iter().step_by(scaled(1, 2))
        {
            let mut mask = RowMask::default();
            let is_masked = |row: usize| Numbers::new(row as u64 + 7).below(100) < share;
            (0..ROWS).filter(|&row| is_masked(row)).for_each(|row| mask.add_rows(row as u32, &[1]));
            let mut filter = if has_condition { compare(0, Comparison::Less, 50) } else { Filter::default() };
            filter.within(Rc::new(mask));
            let passes =
                |row: usize| is_masked(row) && (!has_condition || number(row).is_some_and(|number| number < 50));
            let (mut found, mut wanted) = (0, 0);
            for query in &queries {
                let expected = exact(query, &vectors, passes);
                let (rows, _) = filtered(&mut index, query, &vectors, &filter, regime, 10);
                assert!(rows.iter().all(|&row| passes(row)), "{regime:?}, {share} %");
                assert_eq!(rows.len(), expected.len().min(10), "{regime:?}, {share} %");
                wanted += rows.len();
                found += rows.iter().filter(|row| expected[..rows.len()].contains(row)).count();
            }
            assert!(found * 100 >= wanted * 95, "{regime:?}, {share} %: {found} of {wanted}");
            let (mut rows, _) = filtered(&mut index, &queries[0], &vectors, &filter, regime, usize::MAX);
            rows.sort_unstable();
            assert_eq!(rows, (0..ROWS).filter(|&row| passes(row)).collect::<Vec<_>>(), "{regime:?}, {share} %");
        }
    }
}

#[test]
fn of_a_node_with_several_rows_a_mask_rejects_none() {
    const ROWS: usize = scaled(300, 30);
    let vectors = vec![vec![0.25; DIMENSIONS]; ROWS];
    let mut index = built_with_keys(&vectors, filters(), |_| vec![None, None]);
    let mut filter = Filter::default();
    let mut mask = RowMask::default();
    mask.add_rows(ROWS as u32 - 1, &[1]);
    filter.within(Rc::new(mask));
    let (rows, _) = filtered(&mut index, &vectors[0], &vectors, &filter, None, usize::MAX);
    assert!(rows.contains(&(ROWS - 1)));
    // A mask without rows is no search.
    filter.within(Rc::new(RowMask::default()));
    assert_eq!(filtered(&mut index, &vectors[0], &vectors, &filter, None, 10).0, Vec::<usize>::new());
}
