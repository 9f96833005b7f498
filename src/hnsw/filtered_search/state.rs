//! Running the node.
//!
//! The children do the work: the first time a row is wanted, the index scan is begun here, as it would begin itself, and the
//! bitmap scan runs to its end and gives it the mask, now or when the index scan asks for it. From then on rows are passed
//! on as they come. A scan that begins again keeps its mask, unless a parameter of the bitmap scan has changed.

use super::bitmap::mask_of;
use super::explain::explain;
use super::path::NAME;
use crate::hnsw::mask::MaskSource;
use crate::hnsw::scan;
use crate::pg::list::{list_of, pointers};
use pg_rag_engine::hnsw::filter::RowMask;
use pgrx::pg_sys::{self, NodeTag};
use pgrx::{pg_guard, PgMemoryContexts};
use std::rc::Rc;

/// Methods that PostgreSQL finds by their name in plans.
pub static SCAN_METHODS: ScanMethods =
    ScanMethods(pg_sys::CustomScanMethods { CustomName: NAME.as_ptr(), CreateCustomScanState: Some(create) });

static EXEC_METHODS: ExecMethods = ExecMethods(pg_sys::CustomExecMethods {
    CustomName: NAME.as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(next),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(begin_again),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: Some(explain),
});

pub struct ScanMethods(pg_sys::CustomScanMethods);

struct ExecMethods(pg_sys::CustomExecMethods);

// SAFETY: never changed; the names are static.
unsafe impl Sync for ScanMethods {}
// SAFETY: as above.
unsafe impl Sync for ExecMethods {}

impl ScanMethods {
    pub fn get(&'static self) -> &'static pg_sys::CustomScanMethods {
        &self.0
    }
}

/// The node's state: what PostgreSQL knows of it comes first.
#[repr(C)]
pub struct SearchState {
    node: pg_sys::CustomScanState,
    pub search: *mut pg_sys::IndexScanState,
    /// Null without a mask.
    pub bitmap: *mut pg_sys::PlanState,
    begins_with_mask: bool,
    /// The index scan has its mask, or knows how to get one.
    is_prepared: bool,
    pub has_mask: bool,
    /// Of the last mask.
    pub mask_rows: u64,
    pub mask_whole_blocks: u32,
}

/// Makes the node known by its name.
pub fn register() {
    // SAFETY: called once in a process, from `_PG_init`.
    unsafe { pg_sys::RegisterCustomScanMethods(SCAN_METHODS.get()) };
}

/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
unsafe extern "C-unwind" fn create(_plan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    // SAFETY: memory that is all zero is a valid state.
    unsafe {
        let state = pg_sys::palloc0(size_of::<SearchState>()).cast::<SearchState>();
        (*state).node.ss.ps.type_ = NodeTag::T_CustomScanState;
        (*state).node.methods = &EXEC_METHODS.0;
        state.cast()
    }
}

/// # Safety
/// Called by PostgreSQL with a state of [`create`].
#[pg_guard]
unsafe extern "C-unwind" fn begin(node: *mut pg_sys::CustomScanState, estate: *mut pg_sys::EState, flags: i32) {
    // SAFETY: the plan has one or two children, the first of which is an index scan.
    unsafe {
        let state = &mut *node.cast::<SearchState>();
        let plan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
        let plans = pointers::<pg_sys::Plan>((*plan).custom_plans);
        let mut children = plans.iter().enumerate().map(|(place, &child)| {
            let child = if place == 0 { with_targets_of(&(*plan).scan.plan, child) } else { child };
            pg_sys::ExecInitNode(child, estate, flags)
        });
        let search = children.next().filter(|&child| (*child).type_ == NodeTag::T_IndexScanState);
        let Some(search) = search else { pgrx::error!("filtered search has no index scan") };
        state.search = search.cast();
        state.bitmap = children.next().unwrap_or(std::ptr::null_mut());
        let begins = pointers::<pg_sys::Integer>((*plan).custom_private);
        state.begins_with_mask = begins.first().is_some_and(|&begins| (*begins).ival != 0);
        // Rows are the child's, in its slots; a cursor that is updated looks at the row that was scanned last.
        let ours = &mut (*node).ss;
        ours.ps.resultops = pg_sys::ExecGetResultSlotOps(state.search.cast(), &mut ours.ps.resultopsfixed);
        ours.ps.resultopsset = true;
        ours.ss_ScanTupleSlot = (*state.search).ss.ss_ScanTupleSlot;
        (*node).custom_ps = list_of([state.search.cast(), state.bitmap].into_iter().filter(|child| !child.is_null()));
    }
}

/// The index scan's plan, with the node's own expressions to compute: rows pass through the node as they are. A copy, because
/// plans are shared.
unsafe fn with_targets_of(node: &pg_sys::Plan, child: *mut pg_sys::Plan) -> *mut pg_sys::Plan {
    // SAFETY: the child is the plan of an index scan of the same table, so columns mean the same in both.
    unsafe {
        let copy = pg_sys::palloc(size_of::<pg_sys::IndexScan>()).cast::<pg_sys::IndexScan>();
        copy.copy_from_nonoverlapping(child.cast(), 1);
        (*copy).scan.plan.targetlist = node.targetlist;
        // Parameters of these expressions are the child's now; the bitmap scan's do no harm.
        (*copy).scan.plan.allParam = node.allParam;
        copy.cast()
    }
}

/// # Safety
/// Called by PostgreSQL with a state of [`create`] that has begun.
#[pg_guard]
unsafe extern "C-unwind" fn next(node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the children were begun. A row that is checked again, because it was updated meanwhile, is not searched.
    unsafe {
        let state = &mut *node.cast::<SearchState>();
        let is_checked_again = !(*(*node).ss.ps.state).es_epq_active.is_null();
        if !state.bitmap.is_null() && !state.is_prepared && !is_checked_again {
            state.prepare();
        }
        next_of(state.search.cast())
    }
}

/// The next row of a child, as PostgreSQL's inline function of that purpose.
unsafe fn next_of(child: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the child was begun. The function behind the pointer raises errors of PostgreSQL.
    unsafe {
        if !(*child).chgParam.is_null() {
            pg_sys::ExecReScan(child);
        }
        let Some(function) = (*child).ExecProcNode else { return std::ptr::null_mut() };
        pg_sys::ffi::pg_guard_ffi_boundary(|| function(child))
    }
}

impl SearchState {
    /// Begins the index scan if it was not, and gives it the mask, or a way to get it.
    unsafe fn prepare(&mut self) {
        self.is_prepared = true;
        // SAFETY: the children were begun. The index scan's own first steps are the same. It ends before this state.
        unsafe {
            let search = &mut *self.search;
            if search.iss_ScanDesc.is_null() {
                search.iss_ScanDesc = begin_scan(search);
                if search.iss_NumRuntimeKeys == 0 || search.iss_RuntimeKeysReady {
                    pg_sys::index_rescan(
                        search.iss_ScanDesc,
                        search.iss_ScanKeys,
                        search.iss_NumScanKeys,
                        search.iss_OrderByKeys,
                        search.iss_NumOrderByKeys,
                    );
                }
            }
            if self.begins_with_mask {
                let mask = self.make_mask();
                return scan::set_mask((*self.search).iss_ScanDesc, Some(mask));
            }
            scan::set_mask(search.iss_ScanDesc, None);
            let (rows, this) = ((*(*self.bitmap).plan).plan_rows, &raw mut *self);
            let make = Box::new(move || (*this).make_mask());
            scan::set_mask_source((*self.search).iss_ScanDesc, MaskSource { rows, make });
        }
    }

    /// Runs the bitmap scan.
    unsafe fn make_mask(&mut self) -> Rc<RowMask> {
        // SAFETY: the children were begun; a bitmap scan gives a bitmap. What it allocates lives as long as the query.
        let mask = unsafe {
            PgMemoryContexts::For((*(*self.bitmap).state).es_query_cxt).switch_to(|_| {
                let bitmap = pg_sys::MultiExecProcNode(self.bitmap).cast::<pg_sys::TIDBitmap>();
                let mask = mask_of(bitmap);
                pg_sys::tbm_free(bitmap);
                mask
            })
        };
        (self.mask_rows, self.mask_whole_blocks) = (mask.rows(), mask.whole_blocks());
        self.has_mask = true;
        Rc::new(mask)
    }
}

/// Begins the scan of an index scan's node.
unsafe fn begin_scan(search: &pg_sys::IndexScanState) -> pg_sys::IndexScanDesc {
    // SAFETY: the node was begun, so its relations are open.
    unsafe {
        pg_sys::index_beginscan(
            search.ss.ss_currentRelation,
            search.iss_RelationDesc,
            (*search.ss.ps.state).es_snapshot,
            #[cfg(feature = "pg18")]
            (&raw const search.iss_Instrument).cast_mut(),
            search.iss_NumScanKeys,
            search.iss_NumOrderByKeys,
        )
    }
}

/// # Safety
/// Called by PostgreSQL with a state of [`create`] that has begun.
#[pg_guard]
unsafe extern "C-unwind" fn begin_again(node: *mut pg_sys::CustomScanState) {
    // SAFETY: the children were begun. One with changed parameters begins again by itself when it is asked for a row.
    unsafe {
        let state = &mut *node.cast::<SearchState>();
        let changed = (*node).ss.ps.chgParam;
        for child in [state.search.cast::<pg_sys::PlanState>(), state.bitmap] {
            if !child.is_null() && !changed.is_null() {
                pg_sys::UpdateChangedParamSet(child, changed);
            }
        }
        if (*state.search).ss.ps.chgParam.is_null() {
            pg_sys::ExecReScan(state.search.cast());
        }
        // The same mask serves, or the same way to get one.
        if !state.bitmap.is_null() && !(*state.bitmap).chgParam.is_null() {
            state.is_prepared = false;
        }
    }
}

/// # Safety
/// Called by PostgreSQL with a state of [`create`] that has begun.
#[pg_guard]
unsafe extern "C-unwind" fn end(node: *mut pg_sys::CustomScanState) {
    // SAFETY: the children were begun.
    unsafe {
        let state = &*node.cast::<SearchState>();
        pg_sys::ExecEndNode(state.search.cast());
        pg_sys::ExecEndNode(state.bitmap);
    }
}
