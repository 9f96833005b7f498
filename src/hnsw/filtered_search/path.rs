//! The paths of a filtered search that the planner may choose from.
//!
//! Each index scan in order of distance that has a WHERE clause becomes the child of the node, at the same cost. For each way
//! in which other indexes answer a part of that clause there is also a path that begins with a mask; and the cheapest of
//! these ways goes to the first path, too, which makes the mask only if its search turns out to be long: nobody knows
//! beforehand whether the rows that pass are near the query. Which ways there are is asked of PostgreSQL, with a copy of the table's description that has these other indexes only: what it finds there (bitmap
//! scans, and index scans that could be) has not been compared with a sequential scan, which a mask need not beat.

use super::state::SCAN_METHODS;
use crate::hnsw::cost;
use crate::hnsw::cost_model::{mask, DISTANCE_OPERATORS};
use crate::hnsw::planner::is_ours;
use crate::pg::list::{list_of, pointers};
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Node, NodeTag};

/// The name of the node in EXPLAIN.
pub const NAME: &std::ffi::CStr = c"PgRagFilteredSearch";

static PATH_METHODS: Methods = Methods(pg_sys::CustomPathMethods {
    CustomName: NAME.as_ptr(),
    PlanCustomPath: Some(plan),
    ReparameterizeCustomPathByChild: None,
});

struct Methods(pg_sys::CustomPathMethods);

// SAFETY: never changed; the name is static.
unsafe impl Sync for Methods {}

/// Puts the node above the ordered scans of hnsw indexes of a table with a WHERE clause, and adds paths with masks.
///
/// # Safety
/// Called by the planner, when all other paths of the table are known.
pub unsafe fn add_paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) {
    // SAFETY: the planner's pointers; cells of the list are replaced by pointers to paths of the same cost.
    unsafe {
        let Some(list) = (*rel).pathlist.as_ref() else { return };
        let cells = (0..usize::try_from(list.length).unwrap_or(0)).map(|at| list.elements.add(at));
        let cells: Vec<_> = cells.filter(|&cell| is_filtered_search((*cell).ptr_value.cast())).collect();
        if cells.is_empty() {
            return;
        }
        let bitmaps = bitmaps(root, rel);
        let mut with_masks = Vec::new();
        for cell in cells {
            let path = (*cell).ptr_value.cast::<pg_sys::IndexPath>();
            let masked = bitmaps.iter().filter_map(|&bitmap| Masked::of(root, rel, path, bitmap)).collect::<Vec<_>>();
            let cheapest = masked.iter().min_by(|a, b| a.mask_cost.total_cmp(&b.mask_cost));
            (*cell).ptr_value = above(path, cheapest.map(|masked| masked.bitmap), Begins::WithoutMask).cast();
            with_masks.extend(masked.into_iter().map(|masked| masked.path(path)));
        }
        // Not before: paths that are dominated leave the list.
        for path in with_masks {
            pg_sys::add_path(rel, path.cast());
        }
    }
}

/// Whether a search begins with its mask, or makes it when it turns out to be long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    WithoutMask,
    WithMask,
}

/// Whether a path scans an hnsw index in order, with a WHERE clause that does not depend on other tables.
unsafe fn is_filtered_search(path: *mut pg_sys::IndexPath) -> bool {
    // SAFETY: the planner's path.
    unsafe {
        (*path).path.type_ == NodeTag::T_IndexPath
            && !(*path).indexorderbys.is_null()
            && (*path).path.param_info.is_null()
            && is_ours((*path).indexinfo)
            && (!(*path).indexclauses.is_null() || !(*(*path).indexinfo).indrestrictinfo.is_null())
    }
}

/// The node above an index scan, and above a bitmap scan that makes its mask.
unsafe fn above(
    path: *mut pg_sys::IndexPath,
    bitmap: Option<*mut pg_sys::Path>,
    begins: Begins,
) -> *mut pg_sys::CustomPath {
    // SAFETY: the planner's paths; memory that is all zero is a valid path.
    unsafe {
        let node = pg_sys::palloc0(size_of::<pg_sys::CustomPath>()).cast::<pg_sys::CustomPath>();
        (*node).path = (*path).path;
        (*node).path.type_ = NodeTag::T_CustomPath;
        (*node).path.pathtype = NodeTag::T_CustomScan;
        (*node).path.parallel_aware = false;
        (*node).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*node).custom_paths = list_of(std::iter::once(path.cast::<pg_sys::Path>()).chain(bitmap));
        (*node).custom_private = list_of([pg_sys::makeInteger(i32::from(begins == Begins::WithMask))]);
        (*node).methods = &PATH_METHODS.0;
        node
    }
}

/// Ways in which other indexes of a table answer its WHERE clause, as what is below a bitmap scan.
unsafe fn bitmaps(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> Vec<*mut pg_sys::Path> {
    // SAFETY: the planner's pointers. The copy lives as long as the paths that point to it. Joins are none of its business.
    unsafe {
        let others = pointers::<pg_sys::IndexOptInfo>((*rel).indexlist);
        let others: Vec<_> = others.into_iter().filter(|&index| (*index).amhasgetbitmap && !is_ours(index)).collect();
        let is_wanted = pg_sys::enable_bitmapscan && pg_sys::enable_indexscan;
        if !is_wanted || others.is_empty() || (*rel).baserestrictinfo.is_null() {
            return Vec::new();
        }
        let copy = pg_sys::palloc(size_of::<pg_sys::RelOptInfo>()).cast::<pg_sys::RelOptInfo>();
        copy.copy_from_nonoverlapping(rel, 1);
        let none = std::ptr::null_mut();
        ((*copy).pathlist, (*copy).partial_pathlist, (*copy).ppilist, (*copy).joininfo) = (none, none, none, none);
        (*copy).has_eclass_joins = false;
        (*copy).consider_parallel = false;
        (*copy).indexlist = list_of(others);
        pg_sys::create_index_paths(root, copy);
        let found = pointers::<pg_sys::Path>((*copy).pathlist).into_iter().filter_map(|path| match (*path).type_ {
            _ if !(*path).param_info.is_null() => None,
            NodeTag::T_BitmapHeapPath => Some((*path.cast::<pg_sys::BitmapHeapPath>()).bitmapqual),
            NodeTag::T_IndexPath => {
                let scan = path.cast::<pg_sys::IndexPath>();
                let is_bitmap = !(*scan).indexclauses.is_null() && (*scan).indexorderbys.is_null();
                is_bitmap.then_some(path)
            }
            _ => None,
        });
        found.collect()
    }
}

/// A search in the mask that a bitmap makes.
struct Masked {
    bitmap: *mut pg_sys::Path,
    mask_cost: f64,
    startup_cost: f64,
    total_cost: f64,
}

impl Masked {
    /// None if the bitmap tells nothing that the index does not know.
    unsafe fn of(
        root: *mut pg_sys::PlannerInfo,
        rel: *mut pg_sys::RelOptInfo,
        path: *mut pg_sys::IndexPath,
        bitmap: *mut pg_sys::Path,
    ) -> Option<Masked> {
        // SAFETY: the planner's pointers; the results are written to the stack.
        unsafe {
            let known = clauses_of(path);
            let mut all = known.clone();
            let has_clauses_only = add_clauses(bitmap, &mut all);
            if has_clauses_only && all.len() == known.len() {
                return None;
            }
            let (mut mask_cost, mut mask_share) = (0.0, 1.0);
            pg_sys::cost_bitmap_tree_node(bitmap, &mut mask_cost, &mut mask_share);
            let share_of = |clauses: Vec<*mut pg_sys::RestrictInfo>| {
                let (relation, join) = ((*rel).relid as i32, pg_sys::JoinType::JOIN_INNER);
                pg_sys::clauselist_selectivity(root, list_of(clauses), relation, join, std::ptr::null_mut())
            };
            let share = if has_clauses_only { share_of(all) } else { share_of(known) * mask_share };
            let mask_rows = (mask_share * (*rel).tuples).max(1.0);
            let estimate = cost::masked(root, path, share.clamp(0.0, 1.0), mask_rows);
            let mut quals = pg_sys::QualCost::default();
            pg_sys::cost_qual_eval(&mut quals, (*(*path).indexinfo).indrestrictinfo, root);
            // Rows are in random order, and the table is not read twice.
            let rows = (*path).path.rows;
            let pages = rows.min(f64::from((*rel).pages)) * cost::table_page(rel);
            let returned = pages + rows * (pg_sys::cpu_tuple_cost + quals.per_tuple);
            let before = mask_cost + quals.startup;
            // As a bitmap scan, so that PostgreSQL makes a plan of it; only what is below is used.
            let bitmap = pg_sys::create_bitmap_heap_path(root, rel, bitmap, std::ptr::null_mut(), 1.0, 0);
            // Reading all rows of the mask, in the order of the table, is what a bitmap scan does; the mask comes on top of it.
            let distances = mask_rows * DISTANCE_OPERATORS * pg_sys::cpu_operator_cost;
            let read = (*bitmap).path.total_cost + distances + mask(mask_rows, pg_sys::cpu_operator_cost);
            let is_read = read < before + estimate.startup;
            Some(Masked {
                bitmap: bitmap.cast(),
                mask_cost: mask_cost + mask_rows,
                startup_cost: if is_read { read } else { before + estimate.startup },
                total_cost: if is_read { read } else { before + estimate.total + returned },
            })
        }
    }

    /// The path that begins with the mask.
    unsafe fn path(&self, path: *mut pg_sys::IndexPath) -> *mut pg_sys::CustomPath {
        // SAFETY: the planner's paths.
        unsafe {
            let node = above(path, Some(self.bitmap), Begins::WithMask);
            (*node).path.startup_cost = self.startup_cost;
            (*node).path.total_cost = self.total_cost;
            node
        }
    }
}

/// The clauses that a path's index answers.
unsafe fn clauses_of(path: *mut pg_sys::IndexPath) -> Vec<*mut pg_sys::RestrictInfo> {
    // SAFETY: the planner's path.
    unsafe { pointers::<pg_sys::IndexClause>((*path).indexclauses).into_iter().map(|clause| (*clause).rinfo).collect() }
}

/// Adds the clauses that the indexes of a bitmap answer; false if there are alternatives (OR), which are no clauses of the
/// table.
unsafe fn add_clauses(bitmap: *mut pg_sys::Path, into: &mut Vec<*mut pg_sys::RestrictInfo>) -> bool {
    // SAFETY: the planner's paths.
    unsafe {
        match (*bitmap).type_ {
            NodeTag::T_IndexPath => {
                let clauses: Vec<_> = clauses_of(bitmap.cast());
                let new: Vec<_> = clauses.into_iter().filter(|clause| !into.contains(clause)).collect();
                into.extend(new);
                true
            }
            NodeTag::T_BitmapAndPath => {
                let parts = pointers((*bitmap.cast::<pg_sys::BitmapAndPath>()).bitmapquals);
                parts.into_iter().all(|part| add_clauses(part, into))
            }
            _ => false,
        }
    }
}

/// Makes the plan of a path: the children's plans under a node without anything of its own. What it is to compute of a row,
/// which the planner may still change, the index scan computes ([`super::state`]).
///
/// # Safety
/// Called by the planner with a path of [`above`].
#[pg_guard]
unsafe extern "C-unwind" fn plan(
    _root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: *mut pg_sys::CustomPath,
    targets: *mut pg_sys::List,
    _clauses: *mut pg_sys::List,
    children: *mut pg_sys::List,
) -> *mut pg_sys::Plan {
    // SAFETY: the planner's pointers; memory that is all zero is a valid plan.
    unsafe {
        let children = pointers::<pg_sys::Plan>(children).into_iter().map(|plan| {
            // Clauses that are false, or true, of all rows are checked above the node, not above each child.
            let plan = if (*plan).type_ == NodeTag::T_Result { (*plan).lefttree } else { plan };
            if (*plan).type_ == NodeTag::T_BitmapHeapScan {
                (*plan).lefttree
            } else {
                plan
            }
        });
        let scan = pg_sys::palloc0(size_of::<pg_sys::CustomScan>()).cast::<pg_sys::CustomScan>();
        (*scan).scan.plan.type_ = NodeTag::T_CustomScan;
        (*scan).scan.plan.targetlist = targets;
        (*scan).scan.scanrelid = (*rel).relid;
        (*scan).flags = (*path).flags;
        (*scan).custom_plans = list_of(children);
        (*scan).custom_private = (*path).custom_private;
        (*scan).methods = SCAN_METHODS.get();
        scan.cast::<Node>().cast()
    }
}
