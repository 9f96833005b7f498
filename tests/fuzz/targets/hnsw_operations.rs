//! The life of an index: insertions, deletions, vacuums, searches and crashes as the input says, compared with a list of
//! rows.
//!
//! After every operation, whatever was cut off by a crash before:
//! - the check finds nothing wrong;
//! - a search that goes on to its end finds every row that is live, each once, and none that a vacuum has removed;
//! - the nearest come first: batch by batch in the order of their distances, which are exact, and with a beam as wide as
//!   the index exactly the nearest.
//!
//! After every vacuum, all live nodes can be reached, and insertions that are not cut off leave it so, but under the inner
//! product, where they rely on edges that a vacuum may have taken. A crash keeps the changes of pages so far, ends the
//! transaction of the row that was being inserted, and opens the index again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_rag_engine::code::{Query, Values};
use pg_rag_engine::hnsw::index::memory::MemoryError;
use pg_rag_engine::hnsw::index::Index;
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pg_rag_fuzz::decisions::Decisions;
use pg_rag_fuzz::indexes::{built, insert, scan};
use pg_rag_fuzz::watched::WatchedStore;

const MOST_OPERATIONS: usize = 60;
/// Batches of a search, each twice as wide as the one before: more than enough for all rows.
const MOST_BATCHES: usize = 64;
/// Few values, so that rows are equal, and equally far from each other.
const ALPHABET: [f32; 8] = [0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1e-3, 100.0];
const METRICS: [Metric; 4] = [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1];

/// With m = 2 insertions alone cut nodes off, one in forty, until a vacuum connects them.
const LEAST_M: u16 = 3;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Live,
    /// Deleted, or its transaction was rolled back: a vacuum removes it; until then it may be found.
    Dead,
    /// A vacuum has removed it; its place in the table can be used again.
    Gone,
}

struct Row {
    vector: Vec<f32>,
    fate: Fate,
}

/// The index and what it should hold.
struct Life {
    index: Index<WatchedStore>,
    rows: Vec<Row>,
    /// An insertion or a vacuum was cut off, and no vacuum has run to its end since.
    is_vacuum_pending: bool,
}

impl Life {
    fn identity(&self) -> &Identity {
        &self.index.shape().identity
    }

    fn vector(&self, input: &mut Decisions<'_>) -> Vec<f32> {
        let dimensions = self.identity().dimensions as usize;
        let mut vector = Vec::with_capacity(dimensions);
        while vector.len() < dimensions {
            let pair = input.byte();
            vector.extend([pair & 7, pair >> 4 & 7].map(|letter| ALPHABET[usize::from(letter)]));
        }
        vector.truncate(dimensions);
        if self.identity().metric == Metric::Cosine && vector.iter().all(|&element| element == 0.0) {
            // Which has no direction, and is never in such an index.
            vector[0] = 1.0;
        }
        vector
    }

    fn query(&self, vector: &[f32]) -> Query {
        self.index.shape().codec.query(Values::Single(vector)).expect("the vector fits the index")
    }

    /// What the index computes as the distance of a vector.
    fn distance(&self, query: &Query, vector: &[f32]) -> f32 {
        let mut code = Vec::new();
        self.index.shape().codec.encode_into(Values::Single(vector), &mut code).expect("the vector fits the index");
        query.distance(&code)
    }

    /// Opens the index again if a crash has ended what was done; says whether it has.
    fn reopen_after(&mut self, result: Result<(), MemoryError>) -> bool {
        self.index.store().memory.crash_after(None);
        match result {
            Ok(()) => false,
            Err(MemoryError::Crashed) => {
                let pages = self.index.store().memory.pages.clone();
                self.index = Index::open(WatchedStore::new(pages), None).expect("a crash leaves a sound index");
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn insert(&mut self, input: &mut Decisions<'_>) {
        let vector = self.vector(input);
        let row = Row { vector, fate: Fate::Live };
        let number = match self.rows.iter().rposition(|row| row.fate == Fate::Gone) {
            Some(free) => {
                self.rows[free] = row;
                free
            }
            None => {
                self.rows.push(row);
                self.rows.len() - 1
            }
        };
        let result = insert(&mut self.index, Values::Single(&self.rows[number].vector), number as u32);
        if self.reopen_after(result) {
            self.rows[number].fate = Fate::Dead;
            self.is_vacuum_pending = true;
        }
    }

    /// Whether edges lead to all live nodes.
    fn is_connected(&self) -> bool {
        !self.is_vacuum_pending && self.identity().metric != Metric::InnerProduct
    }

    /// Deletes rows: one, or every so many.
    fn delete(&mut self, input: &mut Decisions<'_>) {
        let (first, step) = (input.below(self.rows.len()), 1 + usize::from(input.byte()));
        for row in self.rows.iter_mut().skip(first).step_by(step).filter(|row| row.fate == Fate::Live) {
            row.fate = Fate::Dead;
        }
    }

    fn vacuum(&mut self) {
        let rows = &self.rows;
        let is_dead = |row: u32| rows.get(row as usize).is_some_and(|row| row.fate == Fate::Dead);
        let result = self.index.vacuum(|tid| is_dead(tid.block())).map(drop);
        if self.reopen_after(result) {
            self.is_vacuum_pending = true;
            return;
        }
        self.is_vacuum_pending = false;
        for row in self.rows.iter_mut().filter(|row| row.fate == Fate::Dead) {
            row.fate = Fate::Gone;
        }
        let report = self.index.check().expect("the index is sound");
        assert_eq!(report.reachable_nodes, report.live_nodes, "{report:?}");
        assert_eq!((report.dead_nodes, report.inserting_nodes), (0, 0));
        let live = self.rows.iter().filter(|row| row.fate == Fate::Live).count();
        assert_eq!(report.rows, live as u64);
    }

    /// A search with a beam of so many nodes, to its end, finds what it should.
    fn search(&mut self, vector: &[f32], ef: usize) {
        let (query, searched) = (self.query(vector), self.query(vector));
        let batches = scan(&mut self.index, searched, ef, MOST_BATCHES).expect("the index is sound");
        assert!(batches.len() < MOST_BATCHES, "the search does not end");
        let mut found = vec![0; self.rows.len()];
        for batch in &batches {
            assert!(batch.is_sorted_by(|(a, _), (b, _)| a.distance <= b.distance), "a batch is out of order");
            for (candidate, rows) in batch {
                for &row in rows {
                    let distance = self.distance(&query, &self.rows[row as usize].vector);
                    assert_eq!(distance, candidate.distance, "row {row} is not where its code is");
                    found[row as usize] += 1;
                }
            }
        }
        for (row, &times) in found.iter().enumerate() {
            match self.rows[row].fate {
                Fate::Live => assert_eq!(times, 1, "live row {row}"),
                Fate::Dead => assert!(times <= 1, "dead row {row}: {times} times"),
                Fate::Gone => assert_eq!(times, 0, "row {row}, which a vacuum removed"),
            }
        }
        // As wide as the index: nothing is missed, so the first batch is all there is, in order.
        if ef >= self.rows.len() && self.is_connected() {
            let later = batches.iter().skip(1).flatten().count();
            assert_eq!(later, 0, "the first batch was wide enough for all");
        }
    }

    /// What must hold at any time.
    fn check(&mut self) {
        let report = self.index.check().expect("the index is sound");
        assert_eq!(report.findings, [], "{report:?}");
        if self.is_connected() {
            assert_eq!(report.reachable_nodes, report.live_nodes, "{report:?}");
        }
        let vector = self.rows.last().map_or(vec![1.0; self.identity().dimensions as usize], |row| row.vector.clone());
        self.search(&vector, 4);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Decisions::new(bytes);
    let metric = METRICS[input.below(METRICS.len())];
    let (dimensions, m) = (4 + input.below(5) as u32, LEAST_M + input.below(4) as u16);
    let identity = Identity::of_column(ElementType::Vector, metric, dimensions, m, 4 + input.below(40) as u16, 7);
    let index = Index::open(WatchedStore::new(built(identity, &[])), None).expect("an empty index is sound");
    let mut life = Life { index, rows: Vec::new(), is_vacuum_pending: false };
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = input.next() else { return };
        match operation % 16 {
            0..=8 => life.insert(&mut input),
            9..=10 => life.delete(&mut input),
            11..=12 => life.vacuum(),
            13 => {
                let (vector, ef) = (life.vector(&mut input), 1 + input.below(80));
                life.search(&vector, ef);
            }
            _ => {
                // The next insertion or vacuum is cut off, if it makes more changes than that.
                let changes = u64::from(input.byte() % 40);
                life.index.store().memory.crash_after(Some(changes));
                continue;
            }
        }
        life.index.store().memory.crash_after(None);
        life.check();
    }
});
