//! Whether the operator classes of a family are complete and right: what `amvalidate(oid)` answers.
//!
//! A class for vectors has one operator, strategy 1, which orders by a `float8`, and both support functions; one for filter
//! columns has operators that answer true or false, and the second support function. Each thing that is wrong is reported as
//! INFO, as PostgreSQL's own access methods do.

use super::filter_scan::STRATEGIES;
use super::handler::{DISTANCE_PROCEDURE, TERMS_PROCEDURE};
use crate::error::{error, Result};
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::{c_char, CStr};

/// The strategy number of the ordering operator.
const ORDERING_STRATEGY: i16 = 1;

/// Validates the operator class and the whole family that it is in.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvalidate(opclass: Oid) -> bool {
    // SAFETY: called by PostgreSQL in a transaction.
    let faults = unsafe { faults_of(opclass) }.unwrap_or_report();
    let is_valid = faults.is_empty();
    for fault in faults {
        ereport!(INFO, PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION, fault);
    }
    is_valid
}

/// An operator class as the catalogue has it.
struct Class {
    name: String,
    family: Oid,
    input: Oid,
}

/// What is wrong with an operator class and its family.
///
/// # Safety
/// Runs in a transaction.
unsafe fn faults_of(opclass: Oid) -> Result<Vec<String>> {
    use pg_sys::SysCacheIdentifier::{AMOPSTRATEGY, AMPROCNUM};
    // SAFETY: the caller's promise; the rows of these caches are of these types.
    let (class, operators, procedures) = unsafe {
        let class = class_of(opclass)?;
        let operators: Vec<pg_sys::FormData_pg_amop> = members(AMOPSTRATEGY as i32, class.family);
        let procedures: Vec<pg_sys::FormData_pg_amproc> = members(AMPROCNUM as i32, class.family);
        (class, operators, procedures)
    };
    let mut faults = Vec::new();
    // SAFETY: the caller's promise.
    unsafe {
        faults.extend(operators.iter().filter_map(|operator| fault_of_operator(operator)));
        faults.extend(procedures.iter().filter_map(|procedure| fault_of_procedure(procedure)));
    }

    let is_for_vectors = operators.iter().any(orders) || operators.is_empty();
    let has_own = |row: &pg_sys::FormData_pg_amop| row.amoplefttype == class.input && orders(row) == is_for_vectors;
    if !operators.iter().any(has_own) {
        faults.push(format!("operator class \"{}\" of access method hnsw has no ordering operator", class.name));
    }
    let is_distance = |row: &pg_sys::FormData_pg_amproc| {
        u16::try_from(row.amprocnum) == Ok(DISTANCE_PROCEDURE) && row.amproclefttype == class.input
    };
    if !is_for_vectors && procedures.iter().any(is_distance) {
        faults.push(format!(
            "operator class \"{}\" of access method hnsw has a distance and no ordering operator",
            class.name
        ));
    }
    let numbers: &[u16] = if is_for_vectors { &[DISTANCE_PROCEDURE, TERMS_PROCEDURE] } else { &[TERMS_PROCEDURE] };
    for &number in numbers {
        let is_it = |row: &&pg_sys::FormData_pg_amproc| {
            u16::try_from(row.amprocnum) == Ok(number)
                && (row.amproclefttype, row.amprocrighttype) == (class.input, class.input)
        };
        if procedures.iter().find(is_it).is_none() {
            let name = &class.name;
            faults.push(format!("operator class \"{name}\" of access method hnsw has no support function {number}"));
        }
    }
    Ok(faults)
}

/// Whether an operator orders rows.
fn orders(row: &pg_sys::FormData_pg_amop) -> bool {
    row.amoppurpose == pg_sys::AMOP_ORDER as c_char
}

/// # Safety
/// Runs in a transaction.
unsafe fn fault_of_operator(row: &pg_sys::FormData_pg_amop) -> Option<String> {
    let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: looks keys up in system caches; the results are written to the stack.
    let (result, sorts, name) = unsafe {
        pg_sys::op_input_types(row.amopopr, &mut left, &mut right);
        let result = pg_sys::get_op_rettype(row.amopopr);
        (result, sorts_floats(row.amopsortfamily), text(pg_sys::format_operator(row.amopopr)))
    };
    if !orders(row) && result == pg_sys::BOOLOID && STRATEGIES.contains(&(row.amopstrategy as u16)) {
        return None;
    }
    if row.amopstrategy != ORDERING_STRATEGY {
        return Some(format!("operator {name} has strategy number {}, which hnsw does not know", row.amopstrategy));
    }
    if !orders(row) {
        return Some(format!("operator {name} is not FOR ORDER BY"));
    }
    if !sorts || result != pg_sys::FLOAT8OID {
        return Some(format!("operator {name} does not order by a double precision number"));
    }
    if (left, right) != (row.amoplefttype, row.amoprighttype) || left != right {
        return Some(format!("operator {name} does not take two values of the indexed type"));
    }
    None
}

/// # Safety
/// Runs in a transaction.
unsafe fn fault_of_procedure(row: &pg_sys::FormData_pg_amproc) -> Option<String> {
    let (mut arguments, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: looks a key up in a system cache; `count` arguments are written to palloc'd memory. The function's name is
    // palloc'd as well.
    let (result, arguments, name) = unsafe {
        let result = pg_sys::get_func_signature(row.amproc, &mut arguments, &mut count);
        let arguments: &[Oid] = match usize::try_from(count) {
            Ok(count) if count > 0 && !arguments.is_null() => std::slice::from_raw_parts(arguments, count),
            _ => &[],
        };
        (result, arguments, text(pg_sys::format_procedure(row.amproc)))
    };
    let number = row.amprocnum;
    let input = row.amproclefttype;
    let is_right = match u16::try_from(number) {
        Ok(DISTANCE_PROCEDURE) => result == pg_sys::FLOAT8OID && arguments == [input, input],
        Ok(TERMS_PROCEDURE) => result == pg_sys::INTERNALOID && arguments == [pg_sys::INTERNALOID],
        _ => return Some(format!("function {name} has support number {number}, which hnsw does not know")),
    };
    if row.amproclefttype != row.amprocrighttype {
        return Some(format!("function {name} is registered for two different types"));
    }
    (!is_right).then(|| format!("function {name} has the wrong signature for support number {number}"))
}

/// Whether a family of B-trees orders double precision numbers.
///
/// # Safety
/// Runs in a transaction.
unsafe fn sorts_floats(family: Oid) -> bool {
    // SAFETY: looks a key up in a system cache.
    let operator = unsafe {
        pg_sys::get_opfamily_member(family, pg_sys::FLOAT8OID, pg_sys::FLOAT8OID, pg_sys::BTLessStrategyNumber as i16)
    };
    operator != pg_sys::InvalidOid
}

/// # Safety
/// Runs in a transaction.
unsafe fn class_of(opclass: Oid) -> Result<Class> {
    // SAFETY: looks a key up in a system cache; the row is read before it is released.
    unsafe {
        let key = pg_sys::Datum::from(opclass);
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::CLAOID as i32, key);
        if row.is_null() {
            let message = format!("cache lookup failed for operator class {}", opclass.to_u32());
            return Err(error(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message));
        }
        let form = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_opclass>();
        let class = Class { name: text(form.opcname.data.as_ptr()), family: form.opcfamily, input: form.opcintype };
        pg_sys::ReleaseSysCache(row);
        Ok(class)
    }
}

/// The rows of a family in a system cache whose first key it is.
///
/// # Safety
/// Runs in a transaction; the rows of that cache are of type `Row`.
unsafe fn members<Row: Copy>(cache: i32, family: Oid) -> Vec<Row> {
    // SAFETY: looks a key up in a system cache; the rows are copied before the list is released.
    unsafe {
        let (key, none) = (pg_sys::Datum::from(family), pg_sys::Datum::null());
        let list = pg_sys::SearchSysCacheList(cache, 1, key, none, none);
        let count = usize::try_from((*list).n_members).unwrap_or(0);
        let rows = (*list).members.as_slice(count);
        let copies = rows.iter().map(|&row| *pg_sys::GETSTRUCT(&raw mut (*row).tuple).cast::<Row>()).collect();
        pg_sys::ReleaseCatCacheList(list);
        copies
    }
}

/// A string of PostgreSQL's, copied.
///
/// # Safety
/// `string` is NUL-terminated.
unsafe fn text(string: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}
