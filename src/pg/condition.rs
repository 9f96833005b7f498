//! Conditions that a user wrote as text, read by PostgreSQL's own parser over one table, and written out again.
//!
//! What is written out stands in parentheses, names every column through an alias, and means the same under the search path
//! that was in force: it can be put into a statement. Called when an index gets a condition, when columns of its table are
//! renamed, and by searches, which test what they can on an index' own columns.
#![allow(unsafe_code)]

use crate::error::{error, invalid_parameter, Result};
use crate::pg::{expression, list};
use pgrx::prelude::*;
use pgrx::{pg_sys, PgRelation, PgSqlErrorCode};
use std::ffi::{CStr, CString};

/// A condition over the columns of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    /// In parentheses, columns as `s.name`.
    pub text: String,
    /// The columns that it looks at, in the order of the table.
    pub columns: Vec<String>,
}

/// The alias of the table in what is written out.
const ALIAS: &str = "s";

/// Reads the condition of an index as a user wrote it: it may use what the condition of a partial index may, so sub-selects,
/// aggregates and functions that are not immutable are refused, most of them with PostgreSQL's own words.
pub fn of_index(relation: pg_sys::Oid, text: &str) -> Result<Condition> {
    let table = open(relation);
    let alias = table.name().to_owned();
    read_of_index(&table, &alias, &[], text)
}

/// Reads again what [`of_index`] has written out.
///
/// `former_names`: names of columns as the text has them, where they are others now.
pub fn of_index_again(relation: pg_sys::Oid, text: &str, former_names: &[(String, String)]) -> Result<Condition> {
    read_of_index(&open(relation), ALIAS, former_names, text)
}

fn read_of_index(table: &PgRelation, alias: &str, former_names: &[(String, String)], text: &str) -> Result<Condition> {
    // SAFETY: the table is open as long as the tree is used, which the functions below allocate in the current context.
    unsafe {
        let kind = pg_sys::ParseExprKind::EXPR_KIND_INDEX_PREDICATE;
        let expression = transformed(table, alias, former_names, text, kind, pg_sys::InvalidOid)?;
        let copy = pg_sys::copyObjectImpl(expression.cast());
        let planned = pg_sys::expression_planner(copy.cast());
        if pg_sys::contain_mutable_functions(planned.cast()) {
            return Err(error(
                PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
                "functions in the condition of an index must be marked IMMUTABLE",
            )
            .set_detail("A row belongs to the index or not by its own values alone."));
        }
        let columns = columns(table, expression)?;
        if columns.is_empty() {
            return Err(invalid_parameter("the condition of an index must look at a column of its table"));
        }
        Ok(Condition { text: written(expression, ALIAS, table.oid())?, columns })
    }
}

/// The parts of a search's condition that can be tested on another table, which has copies of some columns: `copies` are pairs
/// of a column and its copy in `other`. Written with the alias `c`, to be joined by AND. `$1` is a `jsonb`.
///
/// A part is left out where it looks at other columns, has a sub-select, or calls a volatile function.
pub fn parts_over_copies(
    relation: pg_sys::Oid,
    text: &str,
    other: pg_sys::Oid,
    copies: &[(String, String)],
) -> Result<Vec<String>> {
    let (table, other_table) = (open(relation), open(other));
    // SAFETY: as in `of_index`; the map has a place for every column of the table, and `map_variable_attnos` gets only
    // expressions over columns that it holds.
    unsafe {
        let kind = pg_sys::ParseExprKind::EXPR_KIND_WHERE;
        let expression = transformed(&table, table.name(), &[], text, kind, pg_sys::JSONBOID)?;
        let map = pg_sys::make_attrmap((*(*table.as_ptr()).rd_att).natts);
        for (column, copy) in copies {
            let (from, to) = (number(relation, column), number(other, copy));
            if from > 0 && to > 0 {
                *(*map).attnums.add(from as usize - 1) = to;
            }
        }
        let mut parts = Vec::new();
        for part in list::pointers::<pg_sys::Node>(pg_sys::make_ands_implicit(expression.cast())) {
            let numbers = attribute_numbers(part);
            let is_covered = !numbers.is_empty()
                && numbers.iter().all(|&number| number > 0 && *(*map).attnums.add(number as usize - 1) > 0);
            if !is_covered || pg_sys::contain_subplans(part) || pg_sys::contain_volatile_functions(part) {
                continue;
            }
            let mut whole_row = false;
            let mapped = pg_sys::map_variable_attnos(part, 1, 0, map, pg_sys::InvalidOid, &mut whole_row);
            parts.push(written(mapped, "c", other_table.oid())?);
        }
        Ok(parts)
    }
}

fn open(relation: pg_sys::Oid) -> PgRelation {
    // SAFETY: opens a table by an object id; one that does not exist raises an error.
    unsafe { PgRelation::with_lock(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE) }
}

/// The text as an expression over the table, whose columns are variables of the relation 1.
///
/// # Safety
/// The table is open as long as the result is used.
unsafe fn transformed(
    table: &PgRelation,
    alias: &str,
    former_names: &[(String, String)],
    text: &str,
    kind: pg_sys::ParseExprKind::Type,
    parameter: pg_sys::Oid,
) -> Result<*mut pg_sys::Node> {
    // SAFETY: the parser's functions on a parse state of their own; names are copied by them.
    unsafe {
        let raw = expression::parse_one("where_sql", text)?;
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        (*state).p_paramref_hook = Some(reference_parameter);
        (*state).p_ref_hook_state = &raw const parameter as *mut _;
        let alias = pg_sys::makeAlias(c_string(alias)?.as_ptr(), former_column_names(table, former_names)?);
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let item = pg_sys::addRangeTableEntryForRelation(state, table.as_ptr(), lock, alias, false, true);
        pg_sys::addNSItemToQuery(state, item, false, true, true);
        let expression = pg_sys::transformExpr(state, raw, kind);
        let expression = pg_sys::coerce_to_boolean(state, expression, c"WHERE".as_ptr());
        pg_sys::assign_expr_collations(state, expression);
        pg_sys::free_parsestate(state);
        Ok(expression)
    }
}

/// Names of all columns as they were, for an alias that lists them; null where they are what they were.
fn former_column_names(table: &PgRelation, former_names: &[(String, String)]) -> Result<*mut pg_sys::List> {
    if former_names.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    let descriptor = table.tuple_desc();
    let live = descriptor.iter().filter(|attribute| !attribute.is_dropped());
    let names = live.map(|attribute| {
        let now = attribute.name();
        let before = former_names.iter().find(|(_, new)| new == now).map_or(now, |(old, _)| old);
        // SAFETY: the node takes a copy in the current memory context.
        Ok(unsafe { pg_sys::makeString(pg_sys::pstrdup(c_string(before)?.as_ptr())) })
    });
    Ok(list::list_of(names.collect::<Result<Vec<_>>>()?))
}

/// `$1`, of the type that the parse state names; other parameters are refused by the parser.
///
/// # Safety
/// Called by the parser, with the state that [`transformed`] made.
#[pg_guard]
unsafe extern "C-unwind" fn reference_parameter(
    state: *mut pg_sys::ParseState,
    reference: *mut pg_sys::ParamRef,
) -> *mut pg_sys::Node {
    // SAFETY: `transformed` keeps the type alive while the parser runs; the node is made in the current memory context.
    unsafe {
        let kind = *(*state).p_ref_hook_state.cast::<pg_sys::Oid>();
        if (*reference).number != 1 || kind == pg_sys::InvalidOid {
            return std::ptr::null_mut();
        }
        let mut parameter = PgBox::<pg_sys::Param>::alloc_node(pg_sys::NodeTag::T_Param);
        parameter.paramkind = pg_sys::ParamKind::PARAM_EXTERN;
        parameter.paramid = 1;
        parameter.paramtype = kind;
        parameter.paramtypmod = -1;
        parameter.paramcollid = pg_sys::InvalidOid;
        parameter.location = (*reference).location;
        parameter.into_pg().cast()
    }
}

/// Numbers of the columns of relation 1 that an expression looks at; 0 is the whole row, negative ones are system columns.
///
/// # Safety
/// `expression` is a valid tree.
unsafe fn attribute_numbers(expression: *mut pg_sys::Node) -> Vec<i16> {
    let mut numbers = Vec::new();
    let mut set = std::ptr::null_mut();
    // SAFETY: the caller's promise; the set is walked to its end.
    unsafe {
        pg_sys::pull_varattnos(expression, 1, &mut set);
        let mut member = pg_sys::bms_next_member(set, -1);
        while member >= 0 {
            numbers.push((member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16);
            member = pg_sys::bms_next_member(set, member);
        }
    }
    numbers
}

/// Names of the columns that an expression looks at.
///
/// # Safety
/// `expression` is a valid tree over `table`.
unsafe fn columns(table: &PgRelation, expression: *mut pg_sys::Node) -> Result<Vec<String>> {
    // SAFETY: the caller's promise.
    let numbers = unsafe { attribute_numbers(expression) };
    let descriptor = table.tuple_desc();
    let name = |number: i16| match usize::try_from(number) {
        Ok(number) if number > 0 => Ok(descriptor.get(number - 1).map(|a| a.name().to_owned()).unwrap_or_default()),
        _ => Err(invalid_parameter("the condition of an index must name the columns that it looks at")
            .set_detail("It cannot look at system columns, or at a whole row.")),
    };
    numbers.into_iter().map(name).collect()
}

/// The number of a column; 0 if there is none.
fn number(relation: pg_sys::Oid, column: &str) -> i16 {
    // SAFETY: a look-up by a name that lives as long.
    c_string(column).map_or(0, |name| unsafe { pg_sys::get_attnum(relation, name.as_ptr()) })
}

/// The expression as text.
///
/// # Safety
/// `expression` is a valid tree over `relation` as its relation 1.
unsafe fn written(expression: *mut pg_sys::Node, alias: &str, relation: pg_sys::Oid) -> Result<String> {
    // SAFETY: the caller's promise; the text is copied.
    unsafe {
        let context = pg_sys::deparse_context_for(c_string(alias)?.as_ptr(), relation);
        let text = pg_sys::deparse_expression(expression, context, true, false);
        Ok(format!("({})", CStr::from_ptr(text).to_string_lossy()))
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| invalid_parameter("a condition must not contain the character with code zero"))
}
