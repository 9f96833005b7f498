//! A crash after every single change: what is left is sound, nothing that was inserted before is lost, and the index works
//! on.

use super::*;
use crate::test_scale::scaled;

/// The rows that the index holds, dead or not.
fn rows(index: &mut Index<MemoryStore>, vectors: &[Vec<f32>]) -> Vec<usize> {
    let mut rows = search(index, &vectors[0], vectors, 50, usize::MAX);
    rows.sort_unstable();
    rows
}

/// Runs `work` on copies of the index with a crash after 0, 1, 2… changes until it ends, and calls `check` after each.
fn crash_everywhere(
    index: &Index<MemoryStore>,
    step: u64,
    mut work: impl FnMut(&mut Index<MemoryStore>) -> Result<(), MemoryError>,
    mut check: impl FnMut(&mut Index<MemoryStore>, bool),
) -> u64 {
    let pages = index.store.pages.clone();
    let mut crashes = 0;
    loop {
        let mut crashed = Index::open(MemoryStore::new(pages.clone()), None).unwrap();
        crashed.store().crash_after(Some(crashes));
        let result = work(&mut crashed);
        let mut after = Index::open(MemoryStore::new(crashed.into_store().pages), None).unwrap();
        check(&mut after, result.is_ok());
        match result {
            Ok(()) => return crashes,
            Err(MemoryError::Crashed) => crashes += step,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn insertions_survive_a_crash_after_every_change() {
    let vectors = vectors(scaled(60, 4), WIDE, 11);
    let mut index = empty(identity(WIDE as u32, Metric::L2, 4));
    // Every insertion is cut off everywhere; then it is made.
    for row in 0..vectors.len() {
        let committed: Vec<usize> = (0..row).collect();
        let crashes = crash_everywhere(
            &index,
            1,
            |index| insert(index, &vectors[row], row),
            |index, is_done| {
                let report = index.check().unwrap();
                assert_eq!(report.findings, []);
                let found = rows(index, &vectors);
                let committed_found: Vec<usize> = found.iter().copied().filter(|&found| found < row).collect();
                assert_eq!(committed_found, committed);
                assert!(!is_done || found.contains(&row));
                // The row's transaction is gone: vacuum takes what is left of it, and the next insertion works.
                if !is_done && row.is_multiple_of(scaled(7, 3)) {
                    index.vacuum(|tid| tid.block() as usize == row).unwrap();
                    let report = assert_sound(index);
                    assert_eq!((report.inserting_nodes, report.dead_nodes), (0, 0));
                    insert(index, &vectors[row], row).unwrap();
                    assert_sound(index);
                    assert!(rows(index, &vectors).contains(&row));
                }
            },
        );
        assert!(crashes >= 3);
        insert(&mut index, &vectors[row], row).unwrap();
    }
}

#[test]
fn duplicates_survive_a_crash_after_every_change() {
    const EQUALS: usize = scaled(25, 5);
    let mut vectors = vectors(5, WIDE, 12);
    vectors.extend(std::iter::repeat_n(vectors[2].clone(), EQUALS));
    let mut index = empty(identity(WIDE as u32, Metric::L2, 4));
    for row in 0..vectors.len() {
        crash_everywhere(
            &index,
            scaled(1, 2),
            |index| insert(index, &vectors[row], row),
            |index, _| {
                assert_eq!(index.check().unwrap().findings, []);
                let found = rows(index, &vectors);
                assert_eq!(found.iter().filter(|&&found| found < row).count(), row);
            },
        );
        insert(&mut index, &vectors[row], row).unwrap();
    }
    let is_dead = |row: usize| row == 2 || (row > 5 && !row.is_multiple_of(3));
    crash_everywhere(
        &index,
        scaled(1, 4),
        |index| index.vacuum(|tid| is_dead(tid.block() as usize)).map(drop),
        |index, _| {
            assert_eq!(index.check().unwrap().findings, []);
            let left: Vec<usize> = (0..5 + EQUALS).filter(|&row| !is_dead(row)).collect();
            let found: Vec<usize> = rows(index, &vectors).into_iter().filter(|&row| !is_dead(row)).collect();
            assert_eq!(found, left);
            index.vacuum(|tid| is_dead(tid.block() as usize)).unwrap();
            assert_sound(index);
            assert_eq!(rows(index, &vectors), left);
        },
    );
}

#[test]
fn vacuum_survives_a_crash_after_every_change() {
    const ROWS: usize = scaled(300, 12);
    let vectors = vectors(ROWS, WIDE, 13);
    let index = built(&vectors, identity(WIDE as u32, Metric::L2, 4));
    let is_dead = |row: usize| row.is_multiple_of(3);
    let left: Vec<usize> = (0..ROWS).filter(|&row| !is_dead(row)).collect();
    let changes = crash_everywhere(
        &index,
        scaled(1, 8),
        |index| index.vacuum(|tid| is_dead(tid.block() as usize)).map(drop),
        |index, is_done| {
            let report = index.check().unwrap();
            assert_eq!(report.findings, []);
            let found = rows(index, &vectors);
            let missing = left.iter().filter(|row| !found.contains(row)).count();
            // Until the last pass gives every node a way to it, the repair of some lists may have cut off a few.
            assert!(missing <= 5 && (missing == 0 || !is_done), "{missing} rows missing");
            index.vacuum(|tid| is_dead(tid.block() as usize)).unwrap();
            assert_sound(index);
            assert_eq!(rows(index, &vectors), left);
        },
    );
    assert!(changes > scaled(50, 5));
}
