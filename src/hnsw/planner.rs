//! Conditions on filter columns that PostgreSQL does not give to an ordered index scan by itself.
//!
//! - `column IN (…)`, `column = ANY ($1)`: before version 17, on any column but the first of an index, PostgreSQL fears for
//!   the order of a B-tree and leaves them to a filter.
//! - `value = ANY (column)`, for a column of arrays: it is `column @> ARRAY[value]`.
//! - `flag`, `NOT flag`, `flag IS TRUE`: it knows as comparisons of a column for its own operator families only.
//!
//! A hook that runs when all paths of a table are known adds, for each path that scans an hnsw index in order, the same one
//! with these conditions. It costs what the access method says, and the planner chooses. The rules are PostgreSQL's own: the
//! operator and collation must be the index column's, the value must not depend on the table or be volatile, and no clause
//! goes before one of a higher security level unless it is leakproof. [`filtered_search`] goes on from there.

use super::cost::amcostestimate;
use super::filtered_search;
use crate::pg::list::{list_of, pointers};
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Node, NodeTag, Oid};
use std::sync::OnceLock;

/// The strategy of `@>` in the operator class of arrays.
const CONTAINS_STRATEGY: i16 = 8;

/// The hook that was there before.
static PREVIOUS: OnceLock<pg_sys::set_rel_pathlist_hook_type> = OnceLock::new();

/// Installs the hook. Called once, from `_PG_init`.
pub fn init() {
    // SAFETY: the hook is a process-local variable, and `_PG_init` runs on the only thread.
    let previous = unsafe { pg_sys::set_rel_pathlist_hook };
    if PREVIOUS.set(previous).is_ok() {
        // SAFETY: as above.
        unsafe { pg_sys::set_rel_pathlist_hook = Some(add_paths) };
    }
}

/// See the module.
///
/// # Safety
/// Called by the planner.
#[pg_guard]
unsafe extern "C-unwind" fn add_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    number: pg_sys::Index,
    entry: *mut pg_sys::RangeTblEntry,
) {
    // SAFETY: the planner's pointers.
    unsafe {
        if let Some(Some(previous)) = PREVIOUS.get() {
            previous(root, rel, number, entry);
        }
        let ordered: Vec<*mut pg_sys::IndexPath> = pointers::<Node>((*rel).pathlist)
            .into_iter()
            .filter(|&path| (*path).type_ == NodeTag::T_IndexPath)
            .map(|path| path.cast::<pg_sys::IndexPath>())
            .filter(|&path| !(*path).indexorderbys.is_null() && is_ours((*path).indexinfo))
            .collect();
        for path in ordered {
            if let Some(clauses) = with_more_clauses(root, rel, &*path) {
                let outer = (*path).path.param_info.as_ref().map_or(std::ptr::null_mut(), |info| info.ppi_req_outer);
                let better = pg_sys::create_index_path(
                    root,
                    (*path).indexinfo,
                    clauses,
                    (*path).indexorderbys,
                    (*path).indexorderbycols,
                    (*path).path.pathkeys,
                    (*path).indexscandir,
                    false,
                    outer,
                    1.0,
                    false,
                );
                pg_sys::add_path(rel, better.cast());
            }
        }
        filtered_search::add_paths(root, rel);
    }
}

/// Whether an index is of this access method.
///
/// # Safety
/// The index is the planner's.
pub unsafe fn is_ours(index: *mut pg_sys::IndexOptInfo) -> bool {
    let ours = amcostestimate as *const () as usize;
    // SAFETY: the planner's index; the function is declared without arguments there.
    unsafe { (*index).amcostestimate.is_some_and(|function| function as *const () as usize == ours) }
}

/// The conditions of a path and more of the table's; None if there are no more.
unsafe fn with_more_clauses(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: &pg_sys::IndexPath,
) -> Option<*mut pg_sys::List> {
    // SAFETY: the planner's pointers; lists are copied before they are changed.
    unsafe {
        let index = path.indexinfo;
        let mut all = pointers::<pg_sys::IndexClause>(path.indexclauses);
        let known: Vec<*mut pg_sys::RestrictInfo> = all.iter().map(|&clause| (*clause).rinfo).collect();
        for info in pointers::<pg_sys::RestrictInfo>((*index).indrestrictinfo) {
            if !known.contains(&info)
                && !(*info).pseudoconstant
                && pg_sys::restriction_is_securely_promotable(info, rel)
            {
                all.extend((0..(*index).nkeycolumns).find_map(|column| index_clause(root, rel, index, column, info)));
            }
        }
        if all.len() == known.len() {
            return None;
        }
        // In the order of the index's columns, as the planner has them.
        all.sort_by_key(|&clause| (*clause).indexcol);
        Some(list_of(all))
    }
}

/// A condition of the table as one on a column of an index, if it is.
unsafe fn index_clause(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    index: *mut pg_sys::IndexOptInfo,
    column: i32,
    info: *mut pg_sys::RestrictInfo,
) -> Option<*mut pg_sys::IndexClause> {
    // SAFETY: the planner's pointers.
    unsafe {
        let clause = (*info).clause.cast::<Node>();
        let condition = match (*clause).type_ {
            NodeTag::T_ScalarArrayOpExpr if is_any_of(root, rel, index, column, clause) => info,
            NodeTag::T_ScalarArrayOpExpr => restriction(root, containment(root, rel, index, column, clause)?),
            _ => {
                let value = flag_value(index, column, clause)?;
                let flag = value.flag.cast();
                let truth = pg_sys::makeBoolConst(value.is, false).cast();
                let (operator, none) = (Oid::from(pg_sys::BooleanEqualOperator), Oid::INVALID);
                let comparison = pg_sys::make_opclause(operator, pg_sys::BOOLOID, false, flag, truth, none, none);
                restriction(root, comparison)
            }
        };
        let made = pg_sys::palloc0(size_of::<pg_sys::IndexClause>()).cast::<pg_sys::IndexClause>();
        (*made).type_ = NodeTag::T_IndexClause;
        (*made).rinfo = info;
        (*made).indexquals = list_of([condition]);
        (*made).indexcol = column as i16;
        Some(made)
    }
}

/// Whether a clause is `column operator ANY (array)` with an operator of the column's class.
unsafe fn is_any_of(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    index: *mut pg_sys::IndexOptInfo,
    column: i32,
    clause: *mut Node,
) -> bool {
    // SAFETY: the planner's pointers; an index has a family and a collation for each key column.
    unsafe {
        let clause = clause.cast::<pg_sys::ScalarArrayOpExpr>();
        let arguments = pointers::<Node>((*clause).args);
        let [operand, array] = *arguments.as_slice() else { return false };
        let collation = *(*index).indexcollations.add(column as usize);
        (*clause).useOr
            && pg_sys::match_index_to_operand(operand, column, index)
            && (collation == Oid::INVALID || collation == (*clause).inputcollid)
            && pg_sys::op_in_opfamily((*clause).opno, *(*index).opfamily.add(column as usize))
            && !pg_sys::bms_is_member((*rel).relid as i32, pg_sys::pull_varnos(root, array))
            && !pg_sys::contain_volatile_functions(array)
    }
}

/// `column @> ARRAY[value]`, if a clause is `value = ANY (column)` with the equality of the elements.
unsafe fn containment(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    index: *mut pg_sys::IndexOptInfo,
    column: i32,
    clause: *mut Node,
) -> Option<*mut pg_sys::Expr> {
    // SAFETY: the planner's pointers; an index has a family for each key column.
    unsafe {
        let clause = clause.cast::<pg_sys::ScalarArrayOpExpr>();
        let [value, array] = *pointers::<Node>((*clause).args).as_slice() else { return None };
        let (family, any) = (*(*index).opfamily.add(column as usize), pg_sys::ANYARRAYOID);
        let contains = pg_sys::get_opfamily_member(family, any, any, CONTAINS_STRATEGY);
        if !(*clause).useOr
            || contains == Oid::INVALID
            || !pg_sys::match_index_to_operand(array, column, index)
            || pg_sys::bms_is_member((*rel).relid as i32, pg_sys::pull_varnos(root, value))
            || pg_sys::contain_volatile_functions(value)
        {
            return None;
        }
        let array_type = pg_sys::exprType(array);
        let element_type = pg_sys::get_element_type(pg_sys::getBaseType(array_type));
        let equality = (*pg_sys::lookup_type_cache(element_type, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr;
        if pg_sys::exprType(value) != element_type || (*clause).opno != equality {
            return None;
        }
        let list = pg_sys::palloc0(size_of::<pg_sys::ArrayExpr>()).cast::<pg_sys::ArrayExpr>();
        (*list).xpr.type_ = NodeTag::T_ArrayExpr;
        (*list).array_typeid = pg_sys::getBaseType(array_type);
        (*list).element_typeid = element_type;
        (*list).array_collid = (*clause).inputcollid;
        (*list).elements = list_of([value]);
        (*list).location = -1;
        let none = Oid::INVALID;
        Some(pg_sys::make_opclause(
            contains,
            pg_sys::BOOLOID,
            false,
            array.cast(),
            list.cast(),
            none,
            (*clause).inputcollid,
        ))
    }
}

/// A boolean column that must have this value.
struct FlagValue {
    flag: *mut Node,
    is: bool,
}

/// What a clause that is no comparison asks of a boolean column.
unsafe fn flag_value(index: *mut pg_sys::IndexOptInfo, column: i32, clause: *mut Node) -> Option<FlagValue> {
    // SAFETY: the planner's pointers.
    unsafe {
        let family = *(*index).opfamily.add(column as usize);
        if !pg_sys::op_in_opfamily(Oid::from(pg_sys::BooleanEqualOperator), family) {
            return None;
        }
        let value = match (*clause).type_ {
            NodeTag::T_BoolExpr => {
                let expression = clause.cast::<pg_sys::BoolExpr>();
                if (*expression).boolop != pg_sys::BoolExprType::NOT_EXPR {
                    return None;
                }
                FlagValue { flag: *pointers((*expression).args).first()?, is: false }
            }
            NodeTag::T_BooleanTest => {
                let test = clause.cast::<pg_sys::BooleanTest>();
                let is = match (*test).booltesttype {
                    pg_sys::BoolTestType::IS_TRUE => true,
                    pg_sys::BoolTestType::IS_FALSE => false,
                    _ => return None,
                };
                FlagValue { flag: (*test).arg.cast(), is }
            }
            _ => FlagValue { flag: clause, is: true },
        };
        pg_sys::match_index_to_operand(value.flag, column, index).then_some(value)
    }
}

/// A condition that stands for another one.
unsafe fn restriction(root: *mut pg_sys::PlannerInfo, clause: *mut pg_sys::Expr) -> *mut pg_sys::RestrictInfo {
    let none = std::ptr::null_mut();
    // SAFETY: the planner's pointers.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::make_restrictinfo(root, clause, true, false, false, 0, none, none, none);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::make_restrictinfo(root, clause, true, false, false, false, 0, none, none, none);
    }
}
