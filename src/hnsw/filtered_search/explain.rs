//! What EXPLAIN tells of the node: with ANALYZE how the search went and how large the mask was, with VERBOSE more counts.
//! Counts are of all searches together, the way that of the last one.

use super::state::SearchState;
use crate::hnsw::scan;
use pgrx::pg_guard;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// # Safety
/// Called by PostgreSQL with a state of the node.
#[pg_guard]
pub unsafe extern "C-unwind" fn explain(
    node: *mut pg_sys::CustomScanState,
    _ancestors: *mut pg_sys::List,
    output: *mut pg_sys::ExplainState,
) {
    // SAFETY: the node has begun and not ended; the index scan's description is null before its first row.
    unsafe {
        if !(*output).analyze {
            return;
        }
        let state = &*node.cast::<SearchState>();
        let number = |label: &CStr, number: u64| {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            pg_sys::ExplainPropertyInteger(label.as_ptr(), std::ptr::null(), number, output);
        };
        if state.has_mask {
            number(c"Mask Rows", state.mask_rows);
            if state.mask_whole_blocks > 0 {
                number(c"Mask Lossy Blocks", u64::from(state.mask_whole_blocks));
            }
        }
        let Some(description) = (*state.search).iss_ScanDesc.as_mut() else { return };
        let Some(done) = scan::statistics(description) else { return };
        if let Ok(way) = CString::new(done.way) {
            pg_sys::ExplainPropertyText(c"Search".as_ptr(), way.as_ptr(), output);
        }
        number(c"Candidates", done.candidates);
        number(c"Distances", done.distances);
        if done.late_rows > 0 {
            number(c"Rows Out Of Order", done.late_rows);
        }
        if (*output).verbose {
            number(c"Nodes Visited", done.nodes_visited);
            number(c"Nodes Filtered", done.filtered);
            number(c"Heap Fetches", done.heap_fetches);
        }
    }
}
