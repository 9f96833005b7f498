//! Searches in whose middle a whole vacuum happens, and insertions that use the freed nodes again.

use super::{assert_sound, built_with_keys, identity, insert, vectors};
use crate::code::Values;
use crate::hnsw::filter::{key, Comparison, Filter, KeyKind, Position};
use crate::hnsw::index::memory::{MemoryError, MemoryStore};
use crate::hnsw::index::{Index, PageStore, Regime, Scan, Span};
use crate::hnsw::page::{Metric, Page, PageError};
use crate::test_scale::scaled;

const DIMENSIONS: usize = scaled(16, 4);
const ROWS: usize = scaled(4_000, 40);

/// A store that becomes another one when a search has looked for interrupts so many times.
struct DisturbedStore {
    store: MemoryStore,
    checks_left: u32,
    later: Option<MemoryStore>,
}

impl PageStore for DisturbedStore {
    type Error = MemoryError;

    fn read<R>(&mut self, block: u32, read: impl FnOnce(&Page) -> R) -> Result<R, MemoryError> {
        self.store.read(block, read)
    }

    fn read_stable(&mut self, spans: &[Span], read: impl FnMut(usize, &Page)) -> Result<(), MemoryError> {
        self.store.read_stable(spans, read)
    }

    fn change<R>(
        &mut self,
        blocks: &[u32],
        change: impl FnOnce(&mut [&mut Page]) -> Result<R, PageError>,
    ) -> Result<R, MemoryError> {
        self.store.change(blocks, change)
    }

    fn extend_to(&mut self, blocks: u32) -> Result<(), MemoryError> {
        self.store.extend_to(blocks)
    }

    fn drain_inserts(&mut self) -> Result<(), MemoryError> {
        self.store.drain_inserts()
    }

    fn check_interrupts(&mut self) -> Result<(), MemoryError> {
        if let Some(left) = self.checks_left.checked_sub(1) {
            self.checks_left = left;
        } else if let Some(later) = self.later.take() {
            self.store = later;
        }
        Ok(())
    }
}

fn is_left(row: usize) -> bool {
    row.is_multiple_of(20)
}

/// An index before and after a vacuum that removes most rows, into whose places others come, far away.
struct Disturbance {
    vectors: Vec<Vec<f32>>,
    before: MemoryStore,
    after: MemoryStore,
}

impl Disturbance {
    fn new() -> Disturbance {
        let vectors = vectors(ROWS, DIMENSIONS, 71);
        let identity = identity(DIMENSIONS as u32, Metric::L2, 8).with_filters(vec![KeyKind::Int4.column(2)]);
        let mut index = built_with_keys(&vectors, identity, |row| vec![Some(key::of_integer(row as i64 % 2, 4))]);
        let before = index.store().clone();
        index.vacuum(|tid| !is_left(tid.block() as usize)).unwrap();
        for (row, mut vector) in super::vectors(ROWS * 19 / 20, DIMENSIONS, 72).into_iter().enumerate() {
            vector.iter_mut().for_each(|element| *element += 100.0);
            insert(&mut index, &vector, ROWS + row).unwrap();
        }
        assert_sound(&mut index);
        Disturbance { vectors, before, after: index.into_store() }
    }

    /// The rows that a scan for a row's vector finds, which is disturbed when it has looked for interrupts so many times,
    /// until it has `limit` rows; and how often it has looked. With a filter only half of the rows pass.
    fn rows_found(&self, row: usize, filter: Option<Regime>, checks: u32, limit: usize) -> (Vec<usize>, u32) {
        let store = DisturbedStore { store: self.before.clone(), checks_left: checks, later: Some(self.after.clone()) };
        let mut index = Index::open(store, None).unwrap();
        let (mut scan, mut batch, mut rows, mut tids) = (Scan::default(), Vec::new(), Vec::new(), Vec::new());
        let prepared = index.shape().codec.query(Values::Single(&self.vectors[row])).unwrap();
        match filter {
            None => index.begin_scan(&mut scan, prepared, 20, &mut batch).unwrap(),
            regime => {
                let mut half = Filter::default();
                half.and(0, Position::of_integer(0, 4).condition(Comparison::Equal));
                index.begin_filtered_scan_by(&mut scan, prepared, 20, half, regime, &mut batch).unwrap();
            }
        }
        loop {
            for candidate in &batch {
                index.heap_tids(candidate.node, candidate.row, &mut tids).unwrap();
                // Those that are new or dead the snapshot does not show.
                rows.extend(tids.iter().map(|tid| tid.block() as usize).filter(|&row| row < ROWS && is_left(row)));
            }
            if rows.len() >= limit || !index.continue_scan(&mut scan, usize::MAX, &mut batch).unwrap() {
                break;
            }
        }
        (rows, checks - index.store().checks_left)
    }
}

#[test]
fn a_search_disturbed_by_a_vacuum_finds_its_row() {
    let disturbance = Disturbance::new();
    for filter in [None, Some(Regime::Beam), Some(Regime::Hops), Some(Regime::Exact)] {
        for &row in scaled(&[0, 260, 520, 980][..], &[0, 20]) {
            let (found, checks) = disturbance.rows_found(row, filter, u32::MAX, 1);
            assert!(found.contains(&row), "{filter:?}: row {row}, undisturbed");
            for at in (0..checks).step_by(scaled(1, 9)) {
                let (found, _) = disturbance.rows_found(row, filter, at, 1);
                assert!(found.contains(&row), "{filter:?}: row {row}, disturbed after {at} of {checks} checks");
            }
        }
    }
}

#[test]
fn a_scan_disturbed_by_a_vacuum_gives_every_row_once() {
    let disturbance = Disturbance::new();
    for (filter, wanted) in [(None, ROWS / 20), (Some(Regime::Beam), ROWS / 20), (Some(Regime::Hops), ROWS / 20)] {
        let (_, checks) = disturbance.rows_found(7, filter, u32::MAX, usize::MAX);
        for at in (0..checks).step_by(scaled(7, 60)) {
            let (mut found, _) = disturbance.rows_found(7, filter, at, usize::MAX);
            let count = found.len();
            found.sort_unstable();
            found.dedup();
            assert_eq!((found.len(), count), (wanted, wanted), "{filter:?}: disturbed after {at} of {checks} checks");
        }
    }
}
