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
use pg_rag_engine::hnsw::index::Regime;

/// What a page holds.
const PAGE_BYTES: f64 = 8152.0;
/// Pages that fetching a vector from a TOAST table reads: one of its index, which else is cached, and one of itself.
const TOAST_PAGES_PER_VECTOR: f64 = 2.0;
/// Bytes of a node record beside its list, and of a neighbour.
pub const NODE_HEAD_BYTES: f64 = 25.0;
pub const NEIGHBOUR_BYTES: f64 = 4.0;
/// What a row costs that other indexes find and that is taken into a mask, in operators: measured beside the rest of a
/// search, as PostgreSQL thinks the entries of an index cheaper than they are.
const MASKED_ROW_OPERATORS: f64 = 200.0;
/// Rows that are looked up in a mask for the price of an operator.
const LOOKS_PER_OPERATOR: f64 = 5.0;
/// What an exact distance costs in operators: the COST of the distance functions.
pub const DISTANCE_OPERATORS: f64 = 10.0;

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
    /// A page of the index, read after the one before it.
    pub sequential_index_page: f64,
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
/// pass the conditions on filter columns.
pub fn estimate_masked(table: Table, index: Index, prices: Prices, wanted: f64, mask_rows: f64) -> Estimate {
    let searched = estimate(table, index, prices, wanted);
    let mask = mask(mask_rows, prices.operator);
    Estimate { startup: searched.startup + mask, total: searched.total + mask, ..searched }
}

/// Taking so many rows into a mask.
pub fn mask(mask_rows: f64, operator: f64) -> f64 {
    mask_rows * MASKED_ROW_OPERATORS * operator
}

/// Nodes that a search which keeps `kept` scores.
fn visited(index: Index, kept: f64) -> f64 {
    if index.share < 1.0 {
        return way(index, kept).1.min(index.nodes);
    }
    // Of an m below 2 there are no levels; the logarithm must not be 0.
    let above = (index.nodes.ln() / index.m.max(2.0).ln()).floor() * index.m;
    (above + filtered::nodes_scored(index.nodes, index.m, kept)).min(index.nodes)
}

/// How a filtered search goes, and what it costs in nodes scored, without looking all rows up in a mask.
fn way(index: Index, kept: f64) -> (Regime, f64) {
    let (regime, _) = filtered::plan(index.nodes, index.m, kept, index.share, index.looks_at);
    let looks_at = LooksAt { rows: false, ..index.looks_at };
    (regime, filtered::cost_of(regime, index.nodes, index.m, kept, index.share, looks_at))
}

/// Looking all rows up in a mask: every page of nodes is read, one after the other.
fn looking_up(index: Index, prices: Prices, kept: f64) -> f64 {
    if !index.looks_at.rows || way(index, kept).0 == Regime::Beam {
        return 0.0;
    }
    let pages = index.nodes * (NODE_HEAD_BYTES + 2.0 * index.m * NEIGHBOUR_BYTES) / PAGE_BYTES;
    pages.ceil() * prices.sequential_index_page + index.nodes * prices.operator / LOOKS_PER_OPERATOR
}

fn pages_of(index: Index, visited: f64) -> f64 {
    (visited * index.node_bytes / PAGE_BYTES).ceil().min(index.pages).max(1.0)
}

/// Scoring nodes by their codes.
fn search(table: Table, index: Index, prices: Prices, kept: f64) -> f64 {
    let visited = visited(index, kept);
    let pages = pages_of(index, visited) * prices.index_page * share_seen(table);
    pages + visited * (prices.index_tuple + prices.operator) + looking_up(index, prices, kept)
}

/// Exact distances of `kept` rows.
fn rerank(table: Table, index: Index, prices: Prices, kept: f64) -> f64 {
    if !index.reranks {
        return 0.0;
    }
    let rows = pages_fetched(kept, table.pages) * prices.table_page;
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
