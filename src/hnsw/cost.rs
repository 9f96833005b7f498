//! `amcostestimate`: what a search costs, so that the planner takes it where it is better than sorting.
//!
//! A search of width ef looks at about `m·ln N + 0.55·2m·ef·ln N / (ln m · (1 + ln ef))` nodes, each a code on a page of
//! its own, and reads ef rows of the table for their exact distances before it returns the first. Further rows cost a
//! share of that. PostgreSQL interpolates between the startup cost and the total, which is that of returning all rows,
//! by LIMIT and by what clauses outside of the index leave.

use super::settings;
use pgrx::{pg_guard, pg_sys};

/// CPU cost of comparing two codes, in operators.
const OPERATORS_PER_NODE: f64 = 4.0;
/// How many rows a search reads from the table before it returns the first.
const RERANKED_ROWS: f64 = 12.0;

/// Nodes that a search looks at.
fn visited_nodes(nodes: f64, m: f64, ef: f64) -> f64 {
    let nodes = nodes.max(1.0);
    let levels = nodes.ln() / m.ln();
    let bottom = 0.55 * 2.0 * m * ef * nodes.ln() / (m.ln() * (1.0 + ef.ln()));
    (levels * m + bottom).min(nodes)
}

/// # Safety
/// Called by the planner.
#[pg_guard]
pub unsafe extern "C-unwind" fn amcostestimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    _loop_count: f64,
    startup: *mut pg_sys::Cost,
    total: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: the planner gives valid structures, and places for the results.
    unsafe {
        *selectivity = 1.0;
        *correlation = 0.0;
        *pages = 0.0;
        // The index answers ORDER BY and nothing else.
        if (*path).indexorderbys.is_null() {
            *startup = f64::INFINITY;
            *total = f64::INFINITY;
            return;
        }
        let info = (*path).indexinfo;
        let nodes = (*info).tuples.max(1.0);
        let relation = pg_sys::index_open((*info).indexoid, pg_sys::NoLock as pg_sys::LOCKMODE);
        let m = f64::from(super::options::of(relation).m);
        pg_sys::index_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        let ef = settings::ef_search() as f64;
        let visited = visited_nodes(nodes, m, ef);

        let (mut random_page, mut sequential_page) = (0.0, 0.0);
        pg_sys::get_tablespace_page_costs((*info).reltablespace, &mut random_page, &mut sequential_page);
        // Pages of an index in use are in memory: a page is read again and again, by this search and others.
        let index_pages = f64::from((*info).pages).max(1.0);
        let touched = index_pages * (1.0 - (-visited / index_pages).exp());
        let page_cost = sequential_page.min(random_page) * touched;
        let cpu_cost = visited * OPERATORS_PER_NODE * pg_sys::cpu_operator_cost;
        let rel = (*info).rel;
        let rows = (*rel).tuples.max(1.0);
        // Rows whose vectors lie out of line take further pages.
        let width_pages = if f64::from((*rel).pages.max(1)) / rows < 0.1 { 2.0 } else { 1.0 };
        let rerank = RERANKED_ROWS.min(nodes) * width_pages * (sequential_page + pg_sys::cpu_tuple_cost);

        let mut search = page_cost + cpu_cost + rerank;
        // A search for all rows goes through the whole graph, with work for each row that an exact scan does not have:
        // keeping it in order, and reading it from the table.
        let per_row = 2.0 * (OPERATORS_PER_NODE + m) * pg_sys::cpu_operator_cost
            + pg_sys::cpu_index_tuple_cost
            + width_pages * random_page.min(sequential_page) * 0.5;
        if (*root).limit_tuples > 0.0 && (*root).limit_tuples > ef {
            // The beam has to be widened to return more rows than it holds.
            search += ((*root).limit_tuples - ef).min(nodes) * per_row;
        }
        *startup = search;
        *total = search + nodes * per_row;
        *pages = index_pages;
    }
}
