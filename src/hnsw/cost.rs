//! What an index scan costs, for the planner.
//!
//! The planner asks per path; the answer depends on LIMIT and on conditions that the index does not know, because every
//! row they throw away is one more row to find. So the cost is that of finding as many rows as will be wanted, by
//! [`super::cost_model`], and a selective condition, a small table or a LIMIT as large as the table goes to other plans.
//! The settings that end a scan early do not make it cheaper here: a plan that returns too few rows is no bargain.
//!
//! Without ORDER BY, or with a second ordering, which the index does not have, the cost is infinite.

use super::cache;
use super::cost_model::{estimate, estimate_masked, Estimate, Index, Prices, Table, NEIGHBOUR_BYTES, NODE_HEAD_BYTES};
use super::opclass::IndexedColumn;
use super::options::Options;
use super::settings;
use pg_rag_engine::hnsw::identity::has_estimated_codes;
use pg_rag_engine::hnsw::index::filtered::LooksAt;
use pg_rag_engine::hnsw::page::ElementType;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Bytes of a sparse code where nothing is known of it: some hundred elements.
const SPARSE_CODE_BYTES: f64 = 1024.0;
/// Dimensions that are assumed where nothing is known of an index: one that exists only in the planner's mind.
const UNKNOWN_DIMENSIONS: f64 = 768.0;

/// See PostgreSQL's documentation of the function of this name.
#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "PostgreSQL's signature")]
pub unsafe extern "C-unwind" fn amcostestimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    _loop_count: f64,
    startup_cost: *mut pg_sys::Cost,
    total_cost: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: the planner's pointers are valid during the call.
    unsafe {
        let result = if (*path).indexorderbys.as_ref().is_some_and(|orderings| orderings.length == 1) {
            let index = &*(*path).indexinfo;
            let (shape, share) = (Shape::of(index), share_passing(root, path));
            let wanted = wanted(&*root, (*path).path.rows, index.tuples * share);
            let table = table_of(&*index.rel, shape.column);
            estimate(table, index_of(index, shape, share), prices_of(index), wanted)
        } else {
            // Of two plans with infinite costs, PostgreSQL 18 takes the one with fewer disabled nodes.
            #[cfg(feature = "pg18")]
            {
                (*path).path.disabled_nodes = 2;
            }
            Estimate { startup: f64::INFINITY, total: f64::INFINITY, selectivity: 0.0, pages: 0.0 }
        };
        *startup_cost = result.startup;
        *total_cost = result.total;
        *selectivity = result.selectivity;
        // Rows come in order of distance, which is not that of the table.
        *correlation = 0.0;
        *pages = result.pages;
    }
}

/// The cost of a scan in order of distance among the rows that other indexes give.
///
/// `share`: that of the rows which pass the path's conditions and are in the mask; `mask_rows`: how many are in the mask.
///
/// # Safety
/// Called by the planner with its own pointers; the path is one of this access method.
pub unsafe fn masked(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    share: f64,
    mask_rows: f64,
) -> Estimate {
    // SAFETY: the caller's promise.
    unsafe {
        let index = &*(*path).indexinfo;
        let shape = Shape::of(index);
        let wanted = wanted(&*root, (*path).path.rows, index.tuples * share);
        let table = table_of(&*index.rel, shape.column);
        let looks_at = LooksAt { keys: !(*path).indexclauses.is_null(), rows: true };
        let index = Index { looks_at, ..index_of(index, shape, share) };
        estimate_masked(table, index, prices_of(&*(*path).indexinfo), wanted, mask_rows)
    }
}

/// How many of the rows that pass the conditions on filter columns, `tuples`, the query fetches, so that as many as it wants
/// pass the others, too. `rows` is how many pass all of them. In a join, each row is taken to find one partner.
fn wanted(root: &pg_sys::PlannerInfo, rows: f64, tuples: f64) -> f64 {
    let limit = match (root.limit_tuples, root.tuple_fraction) {
        (limit, _) if limit > 0.0 => limit,
        // A number of rows, a share of them, or all.
        (_, count) if count >= 1.0 => count,
        (_, share) if share > 0.0 => share * rows,
        _ => rows,
    };
    // A table may look empty.
    let tuples = tuples.max(1.0);
    limit * tuples / rows.clamp(1.0, tuples)
}

fn table_of(table: &pg_sys::RelOptInfo, column: Option<IndexedColumn>) -> Table {
    let vector_bytes = column.map_or(0.0, |column| match column.element {
        ElementType::Vector => f64::from(column.dimensions) * 4.0,
        ElementType::Halfvec => f64::from(column.dimensions) * 2.0,
        ElementType::Bit => f64::from(column.dimensions) / 8.0,
        // It depends on the rows.
        ElementType::Sparsevec => 0.0,
    });
    Table { rows: table.tuples, pages: f64::from(table.pages), vector_bytes }
}

/// The share of the rows that pass the path's conditions on filter columns.
///
/// # Safety
/// Called by the planner with its own pointers.
unsafe fn share_passing(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::IndexPath) -> f64 {
    // SAFETY: the caller's promise.
    unsafe {
        let index = (*path).indexinfo;
        let clauses = pg_sys::get_quals_from_indexclauses((*path).indexclauses);
        if clauses.is_null() {
            return 1.0;
        }
        let clauses = pg_sys::add_predicate_to_index_quals(index, clauses);
        let relation = (*(*index).rel).relid as i32;
        let join = pg_sys::JoinType::JOIN_INNER;
        pg_sys::clauselist_selectivity(root, clauses, relation, join, std::ptr::null_mut()).clamp(0.0, 1.0)
    }
}

fn index_of(index: &pg_sys::IndexOptInfo, shape: Shape, share: f64) -> Index {
    let Shape { column, options, ef_search } = shape;
    let m = f64::from(options.m);
    Index {
        nodes: index.tuples,
        pages: f64::from(index.pages),
        node_bytes: code_bytes(column) + NODE_HEAD_BYTES + 2.0 * m * NEIGHBOUR_BYTES,
        m,
        ef_search: ef_search as f64,
        reranks: column.is_none_or(|column| is_estimated(&column)),
        share,
        looks_at: LooksAt { keys: share < 1.0, rows: false },
    }
}

/// What an index is, as far as costs depend on it.
struct Shape {
    /// None where the index cannot be read, because it is only hypothetical.
    column: Option<IndexedColumn>,
    options: Options,
    /// The width of the beam that a scan would begin with.
    ef_search: usize,
}

impl Shape {
    /// # Safety
    /// Called by the planner, which holds locks of table and index.
    unsafe fn of(index: &pg_sys::IndexOptInfo) -> Shape {
        if index.hypothetical {
            return Shape { column: None, options: Options::default(), ef_search: settings::ef_search() };
        }
        // SAFETY: the caller's promise: the lock is held. The relation is closed before anything is returned.
        unsafe {
            let relation = pg_sys::index_open(index.indexoid, pg_sys::NoLock as pg_sys::LOCKMODE);
            let shape = Shape {
                column: IndexedColumn::of(relation).ok(),
                options: Options::of(relation),
                ef_search: settings::target_recall()
                    .and_then(|recall| ef_for(relation, recall))
                    .unwrap_or(settings::ef_search()),
            };
            pg_sys::index_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            shape
        }
    }
}

/// The beam that gives this recall; None if it is not known. What is wrong with an index is told by the scan.
///
/// # Safety
/// The index is open.
unsafe fn ef_for(relation: pg_sys::Relation, recall: f64) -> Option<usize> {
    // SAFETY: the caller's promise.
    let open = unsafe { cache::open(relation) }.ok()?;
    let ef_search = open.shape().ef_for(recall as f32);
    cache::close(open);
    ef_search
}

/// Whether codes are estimates, so that rows are read for exact distances.
fn is_estimated(column: &IndexedColumn) -> bool {
    has_estimated_codes(column.element, column.metric, column.dimensions)
}

/// About as many bytes as the code of a row has.
fn code_bytes(column: Option<IndexedColumn>) -> f64 {
    let Some(column) = column else { return UNKNOWN_DIMENSIONS };
    let dimensions = f64::from(column.dimensions);
    match column.element {
        _ if is_estimated(&column) => dimensions + 8.0,
        ElementType::Vector => dimensions * 4.0,
        ElementType::Halfvec => dimensions * 2.0,
        ElementType::Bit => dimensions / 8.0,
        ElementType::Sparsevec => SPARSE_CODE_BYTES,
    }
}

/// What PostgreSQL charges for a page of a table that is read at random.
///
/// # Safety
/// Called by the planner with its own value.
pub unsafe fn table_page(table: *const pg_sys::RelOptInfo) -> f64 {
    let mut price = 0.0;
    // SAFETY: the result is written to the stack, and NULL says what is not wanted.
    unsafe { pg_sys::get_tablespace_page_costs((*table).reltablespace, &mut price, std::ptr::null_mut()) };
    price
}

/// # Safety
/// Called by the planner with its own value.
unsafe fn prices_of(index: &pg_sys::IndexOptInfo) -> Prices {
    let (mut index_page, mut sequential_index_page) = (0.0, 0.0);
    // SAFETY: the results are written to the stack; the costs are numbers that only this thread changes.
    unsafe {
        pg_sys::get_tablespace_page_costs(index.reltablespace, &mut index_page, &mut sequential_index_page);
        Prices {
            index_page,
            sequential_index_page,
            table_page: table_page(index.rel),
            index_tuple: pg_sys::cpu_index_tuple_cost,
            operator: pg_sys::cpu_operator_cost,
        }
    }
}
