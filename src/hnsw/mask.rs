//! When a scan gets a mask of the rows that other indexes find, and when it reads these rows instead of searching.
//!
//! The plan node [`filtered_search`](super::filtered_search) makes masks; a [scan](super::scan) uses them.

use super::store::RelationStore;
use pg_rag_engine::hnsw::filter::{Filter, RowMask};
use pg_rag_engine::hnsw::index::filtered::{self, LooksAt};
use pg_rag_engine::hnsw::index::Index;
use pg_rag_engine::hnsw::page::HeapTid;
use std::rc::Rc;

/// How a scan gets a mask.
pub struct MaskSource {
    /// About how many rows it will have.
    pub rows: f64,
    /// Makes it. It does not use the scan.
    pub make: Box<dyn FnMut() -> Rc<RowMask>>,
}

/// What making a mask of so many rows and searching with it would cost.
pub fn cost(rows: f64, index: &Index<RelationStore>, ef: usize) -> f64 {
    let (nodes, m) = (f64::from(index.entry().nodes), f64::from(index.shape().layout.m()));
    let looks_at = LooksAt { keys: false, rows: true };
    let (_, search) = filtered::plan(nodes, m, ef as f64, (rows / nodes.max(1.0)).min(1.0), looks_at);
    filtered::mask_cost(rows) + search
}

/// The rows of a mask, if reading all of them costs less than a search would: few rows, or an index so large that looking
/// for their nodes takes longer. Conditions on filter columns are checked by the executor then.
pub fn rows_to_read(mask: &RowMask, filter: &Filter, index: &Index<RelationStore>, ef: usize) -> Option<Vec<HeapTid>> {
    let (nodes, m) = (f64::from(index.entry().nodes), f64::from(index.shape().layout.m()));
    let looks_at = LooksAt { keys: filter.has_conditions(), rows: true };
    let (_, cost) = filtered::plan(nodes, m, ef as f64, (mask.rows() as f64 / nodes.max(1.0)).min(1.0), looks_at);
    if mask.whole_blocks() > 0 || filtered::fetch_cost(mask.rows() as f64) > cost {
        return None;
    }
    mask.to_rows()
}
