//! What the planner will choose, computed from the same numbers that it uses: pgvector's tests of its planner, and cases
//! between them.

use super::cost_model::{estimate, Estimate, Index, Prices, Table};
use pg_rag_engine::hnsw::index::filtered::LooksAt;

const PRICES: Prices =
    Prices { index_page: 4.0, sequential_index_page: 1.0, table_page: 4.0, index_tuple: 0.005, operator: 0.0025 };
const TUPLE: f64 = 0.01;
const SEQUENTIAL_PAGE: f64 = 1.0;

/// A table with an index, and a query `WHERE … ORDER BY v <-> … LIMIT …`.
#[derive(Clone, Copy)]
struct Case {
    table: Table,
    index: Index,
    /// Share of the rows that pass the condition.
    passing: f64,
    /// Cost of the condition in operators.
    condition: f64,
    limit: f64,
}

impl Case {
    /// Rows of some dimensions, with as many other bytes.
    fn new(rows: f64, dimensions: f64, other_bytes: f64) -> Case {
        let vector_bytes = dimensions * 4.0;
        // Longer rows have their vector in a TOAST table.
        let row_bytes = other_bytes + if vector_bytes < 2000.0 { vector_bytes } else { 18.0 };
        let quantised = dimensions >= 64.0;
        let node_bytes = 25.0 + 128.0 + if quantised { dimensions + 8.0 } else { vector_bytes };
        Case {
            table: Table { rows, pages: (rows / (8168.0 / row_bytes).floor()).ceil(), vector_bytes },
            index: Index {
                nodes: rows,
                pages: (rows * node_bytes / 8000.0).ceil() + 20.0,
                node_bytes,
                m: 16.0,
                ef_search: 40.0,
                reranks: quantised,
                share: 1.0,
                looks_at: LooksAt { keys: false, rows: false },
            },
            passing: 1.0,
            condition: 0.0,
            limit: rows,
        }
    }

    fn limit(self, limit: f64) -> Case {
        Case { limit, ..self }
    }

    fn passing(self, passing: f64, condition: f64) -> Case {
        Case { passing, condition, ..self }
    }

    fn ef_search(self, ef_search: f64) -> Case {
        Case { index: Index { ef_search, ..self.index }, ..self }
    }

    fn found(&self) -> f64 {
        (self.index.nodes.min(self.table.rows) * self.passing).round().max(1.0)
    }

    fn estimate(&self) -> Estimate {
        let wanted = self.limit * self.index.nodes / self.found();
        estimate(self.table, self.index, PRICES, wanted)
    }

    /// What PostgreSQL makes of the estimate, with the cost of the rows that it fetches.
    fn index_scan(&self) -> f64 {
        let Estimate { startup, total, selectivity, .. } = self.estimate();
        let fetched = (selectivity * self.table.rows).max(1.0);
        let pages =
            (2.0 * self.table.pages * fetched / (2.0 * self.table.pages + fetched)).ceil().min(self.table.pages);
        let rows = pages * PRICES.table_page + fetched * (TUPLE + self.condition * PRICES.operator);
        let run = total - startup + rows + self.found() * 10.0 * PRICES.operator;
        startup + run * (self.limit / self.found()).min(1.0)
    }

    /// A sequential scan and a sort.
    fn sequential_scan(&self) -> f64 {
        let found = self.found();
        let scan = self.table.pages * SEQUENTIAL_PAGE + self.table.rows * (TUPLE + self.condition * PRICES.operator);
        let kept = if self.limit < found { 2.0 * self.limit } else { found };
        scan + found * 10.0 * PRICES.operator + found * 2.0 * PRICES.operator * kept.max(2.0).log2()
    }

    /// A bitmap scan of an index on the condition's column, and a sort.
    fn bitmap_scan(&self, table_rows: f64) -> f64 {
        let (pages, found) = (self.table.pages, self.found());
        let fetched = (2.0 * pages * found / (2.0 * pages + found)).ceil().min(pages);
        let per_page = PRICES.table_page - (PRICES.table_page - SEQUENTIAL_PAGE) * (fetched / pages).sqrt();
        let index = 4.0 + found * (PRICES.index_tuple + PRICES.operator) + table_rows.ln() * PRICES.operator;
        index + fetched * per_page + found * (TUPLE + PRICES.operator * 11.0) + found * 2.0 * PRICES.operator * 5.3
    }

    fn uses_index(&self) -> bool {
        self.index_scan() < self.sequential_scan()
    }
}

/// The table of pgvector's test of filters: 10,000 rows of 68 bytes, 3 dimensions.
fn filtering() -> Case {
    Case::new(10_000.0, 3.0, 56.0).limit(20.0)
}

#[test]
fn filters_that_remove_few_rows_keep_the_index() {
    assert!(filtering().uses_index());
    assert!(filtering().passing(0.98, 1.0).uses_index());
    assert!(filtering().passing(0.9999, 1.0).uses_index());
    // A condition on the distance, of which the planner assumes that a third passes.
    assert!(filtering().passing(1.0 / 3.0, 11.0).uses_index());
}

#[test]
fn filters_that_remove_many_rows_go_to_a_sequential_scan() {
    assert!(!filtering().passing(0.02, 1.0).uses_index());
    assert!(!filtering().passing(0.0001, 1.0).uses_index());
}

#[test]
fn without_limit_the_table_is_sorted() {
    for case in [filtering(), Case::new(2000.0, 384.0, 32.0), Case::new(2000.0, 1536.0, 32.0)] {
        assert!(!case.limit(case.table.rows).uses_index());
        assert!(!case.passing(1.0 / 3.0, 11.0).limit(case.table.rows).uses_index());
    }
}

#[test]
fn a_btree_on_a_selective_column_is_better_than_the_index_over_all_rows() {
    let case = filtering().passing(0.02, 1.0);
    assert!(case.bitmap_scan(10_000.0) < case.index_scan());
}

#[test]
fn a_partial_index_is_better_than_a_btree() {
    let all = filtering().passing(0.02, 1.0);
    let mut partial = filtering();
    partial.index.nodes = 200.0;
    assert!(partial.index_scan() < all.bitmap_scan(10_000.0));
    assert!(partial.index_scan() < all.sequential_scan());
}

#[test]
fn small_tables_of_long_vectors_use_the_index() {
    for dimensions in [384.0, 1536.0] {
        assert!(Case::new(2000.0, dimensions, 32.0).limit(10.0).uses_index());
        assert!(Case::new(6000.0, dimensions, 32.0).limit(10.0).passing(1.0 / 3.0, 11.0).uses_index());
    }
}

#[test]
fn tiny_tables_are_read() {
    for dimensions in [3.0, 384.0, 1536.0] {
        assert!(!Case::new(10.0, dimensions, 32.0).limit(10.0).uses_index(), "{dimensions}");
    }
}

#[test]
fn large_tables_use_the_index_until_most_rows_are_filtered_out() {
    for dimensions in [384.0, 1536.0] {
        let case = Case::new(1e6, dimensions, 64.0).limit(10.0);
        for ef_search in [1.0, 40.0, 200.0, 1000.0] {
            assert!(case.ef_search(ef_search).uses_index(), "{dimensions} {ef_search}");
        }
        assert!(case.passing(0.01, 1.0).uses_index(), "{dimensions}");
        assert!(!case.passing(0.00001, 1.0).uses_index(), "{dimensions}");
    }
}

#[test]
fn costs_are_finite_and_rise_with_what_is_wanted() {
    for rows in [0.0, 1.0, 2.0, 100.0, 1e4, 1e7] {
        for dimensions in [1.0, 63.0, 64.0, 2000.0, 16_000.0] {
            let mut before = 0.0;
            for ef_search in [1.0, 2.0, 40.0, 1000.0] {
                let case = Case::new(rows, dimensions, 40.0).ef_search(ef_search);
                let Estimate { startup, total, selectivity, pages } = case.limit(1.0).estimate();
                assert!(startup.is_finite() && total.is_finite() && pages.is_finite());
                assert!(0.0 < startup && startup <= total && (0.0..=1.0).contains(&selectivity));
                assert!(before <= startup, "{rows} {dimensions} {ef_search}");
                before = startup;
            }
            let case = Case::new(rows, dimensions, 40.0);
            let costs = [1.0, 10.0, 100.0, 1000.0, 1e5].map(|limit| case.limit(limit).index_scan());
            assert!(costs.is_sorted(), "{rows} {dimensions} {costs:?}");
        }
    }
}
