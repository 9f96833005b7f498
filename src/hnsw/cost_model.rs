//! The arithmetic of costs: numbers in, numbers out; nothing here knows PostgreSQL.
//!
//! A search scores some of the nodes: m on each level above the lowest, and there as many as
//! [`filtered::nodes_scored`] says. Rows beyond the first `ef` cost what a search that keeps as many as are wanted would,
//! because a scan that goes on does just that.
//!
//! Pages are charged as the share of the nodes that is scored: neighbours are numbered near each other. Two corrections:
//! - Vectors too long for the table's rows lie in a TOAST table, which PostgreSQL charges no other plan for. Where they
//!   do, pages of the index and of the TOAST table count only by the share of the data that the planner sees, so that
//!   both sides leave out the same.
//! - A scan reads the row of every candidate that it keeps, for its exact distance. The pages of those that a further
//!   search finds are not charged here: the executor reads them once more, and PostgreSQL charges the path for that.

use pg_rag_engine::hnsw::index::filtered::{self, LooksAt};

/// What a page holds.
const PAGE_BYTES: f64 = 8152.0;
/// Pages that fetching a vector from a TOAST table reads: one of its index, which else is cached, and one of itself.
const TOAST_PAGES_PER_VECTOR: f64 = 2.0;
/// What an exact distance costs in operators: the COST of the distance functions.
const DISTANCE_OPERATORS: f64 = 10.0;

/// The indexed table, as the planner knows it.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub rows: f64,
    pub pages: f64,
    /// Bytes of a vector where they are known, else 0.
    pub vector_bytes: f64,
}

/// The index.
#[derive(Debug, Clone, Copy)]
pub struct Index {
    pub nodes: f64,
    pub pages: f64,
    /// Bytes of a node: its code and its list.
    pub node_bytes: f64,
    pub m: f64,
    pub ef_search: f64,
    /// Whether rows are read for exact distances, because the codes are estimates.
    pub reranks: bool,
    /// The share of the rows that pass the conditions on filter columns and a mask; 1 without any.
    pub share: f64,
    pub looks_at: LooksAt,
}

/// What things cost.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    /// A page of the index, read at random.
    pub index_page: f64,
    /// A page of the table, read at random.
    pub table_page: f64,
    pub index_tuple: f64,
    pub operator: f64,
}

/// What PostgreSQL wants to know. What it adds itself: reading the rows that are returned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub startup: f64,
    pub total: f64,
    /// Share of the table's rows that the index returns when it is read to its end.
    pub selectivity: f64,
    /// Pages of the index that are read.
    pub pages: f64,
}

/// The cost of a scan of which the first `wanted` rows are fetched, of those that pass the conditions on filter columns,
/// before any other filter.
///
/// PostgreSQL interpolates: of a plan read for a share f of its rows it charges `startup + f · (total - startup)`. The
/// true cost rises faster in the beginning than towards the end, so the total is made such that it is right at the
/// share that is wanted; it is at least the true total.
pub fn estimate(table: Table, index: Index, prices: Prices, wanted: f64) -> Estimate {
    let index = Index { nodes: index.nodes.max(1.0), ef_search: index.ef_search.max(1.0), ..index };
    // Rows that can be returned.
    let nodes = (index.nodes * index.share.clamp(0.0, 1.0)).max(1.0);
    let wanted = wanted.clamp(1.0, nodes);
    let kept = index.ef_search.min(nodes);

    let cost_of =
        |rows: f64| search(table, index, prices, rows.max(kept)) + rerank(table, index, prices, rows.max(kept));
    let startup = cost_of(kept);
    let per_row = f64::max((cost_of(wanted) - startup) / wanted, (cost_of(nodes) - startup) / nodes);
    Estimate {
        startup,
        total: startup + per_row * nodes,
        selectivity: (nodes / table.rows.max(nodes)).min(1.0),
        pages: pages_of(index, visited(index, wanted.max(kept))),
    }
}

/// The cost of a search among the rows of a mask, which other indexes have given: `index.share` of all rows are in it and
/// pass the conditions on filter columns. Where that is cheaper, the rows of the mask are read from the table instead.
pub fn estimate_masked(table: Table, index: Index, prices: Prices, wanted: f64, mask_rows: f64) -> Estimate {
    let searched = estimate(table, index, prices, wanted);
    let all = Index { ef_search: mask_rows, reranks: true, ..index };
    let read = rerank(table, all, prices, mask_rows.max(1.0));
    let found = if read < searched.startup { Estimate { startup: read, total: read, ..searched } } else { searched };
    // In the same measure as the search itself: PostgreSQL thinks an index's entries cheaper than they are.
    let mask = scoring(index, filtered::mask_cost(mask_rows), table, prices);
    Estimate { startup: found.startup + mask, total: found.total + mask, ..found }
}

/// Nodes that a search which keeps `kept` scores.
fn visited(index: Index, kept: f64) -> f64 {
    if index.share < 1.0 {
        return filtered::plan(index.nodes, index.m, kept, index.share, index.looks_at).1.min(index.nodes);
    }
    // Of an m below 2 there are no levels; the logarithm must not be 0.
    let above = (index.nodes.ln() / index.m.max(2.0).ln()).floor() * index.m;
    (above + filtered::nodes_scored(index.nodes, index.m, kept)).min(index.nodes)
}

fn pages_of(index: Index, visited: f64) -> f64 {
    (visited * index.node_bytes / PAGE_BYTES).ceil().min(index.pages).max(1.0)
}

/// Scoring nodes by their codes.
fn search(table: Table, index: Index, prices: Prices, kept: f64) -> f64 {
    scoring(index, visited(index, kept), table, prices)
}

/// What is as much work as scoring so many nodes.
fn scoring(index: Index, nodes: f64, table: Table, prices: Prices) -> f64 {
    let pages = pages_of(index, nodes) * prices.index_page * share_seen(table);
    pages + nodes * (prices.index_tuple + prices.operator)
}

/// Exact distances of `kept` rows.
fn rerank(table: Table, index: Index, prices: Prices, kept: f64) -> f64 {
    if !index.reranks {
        return 0.0;
    }
    let rows = pages_fetched(kept.min(index.ef_search), table.pages) * prices.table_page;
    let toast = match share_seen(table) {
        share if share < 1.0 => kept * TOAST_PAGES_PER_VECTOR * prices.table_page * share,
        _ => 0.0,
    };
    rows + toast + kept * DISTANCE_OPERATORS * prices.operator
}

/// The share of the table's data that lies in its own pages, where the planner sees it; the rest is in its TOAST table.
fn share_seen(table: Table) -> f64 {
    let own_bytes = table.pages * PAGE_BYTES;
    let vector_bytes = table.rows * table.vector_bytes;
    if own_bytes >= vector_bytes {
        1.0
    } else {
        own_bytes / (own_bytes + vector_bytes)
    }
}

/// Different pages among those of as many rows at random: Mackert and Lohman's formula, as PostgreSQL has it, without a
/// cache that is too small.
fn pages_fetched(rows: f64, pages: f64) -> f64 {
    let pages = pages.max(1.0);
    (2.0 * pages * rows / (2.0 * pages + rows)).ceil().min(pages)
}
