//! Whether a text is one SQL expression, by PostgreSQL's own grammar.
//!
//! An expression that a user wrote is put between parentheses into a statement. `true) OR (true` or `true) UNION SELECT …
//! WHERE (true` would fit there as well: so it is parsed by itself first, as the only column of a SELECT.

#![allow(unsafe_code)]

use super::list;
use crate::error::{error, invalid_parameter, Result};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{pg_sys, PgSqlErrorCode, PgTryBuilder};
use std::ffi::CString;
use std::panic::AssertUnwindSafe;

/// The tree of `text`, which must be one expression and nothing else; `argument` names it in the message. Names in it are not
/// looked up. The tree lies in the current memory context.
pub fn parse_one(argument: &str, text: &str) -> Result<*mut pg_sys::Node> {
    let refused = || {
        error(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, format!("{argument} must be one boolean expression"))
            .set_hint("It is what could stand after WHERE, without the word.")
    };
    // The line break ends a comment at its end.
    let statement = CString::new(format!("SELECT {text}\n"))
        .map_err(|_| invalid_parameter(format!("{argument} must not have zero bytes")))?;
    // The parser allocates and holds nothing else, so an error of it needs no subtransaction to clean up.
    let parsed = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: a string that ends with a zero byte and outlives the call.
        Ok(unsafe { pg_sys::raw_parser(statement.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT) })
    }))
    .catch_when(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, |cause| {
        Err(match cause {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report.message().to_owned(),
            CaughtError::RustPanic { ereport, .. } => ereport.message().to_owned(),
        })
    })
    .execute();
    match parsed {
        // SAFETY: a list that the parser made.
        Ok(statements) => unsafe { only_column(statements) }.ok_or_else(refused),
        // Without the line break that was added.
        Err(message) => Err(refused().set_detail(message.replace("\n\"", "\""))),
    }
}

/// The column of a SELECT, if this is one of one column without a name, and nothing around it.
///
/// # Safety
/// `statements` is what PostgreSQL's parser returned.
unsafe fn only_column(statements: *mut pg_sys::List) -> Option<*mut pg_sys::Node> {
    // SAFETY: the parser returns a list of RawStmt; what a node is, its tag says, which is looked at before the node.
    unsafe {
        let [raw] = list::pointers::<pg_sys::RawStmt>(statements)[..] else { return None };
        let statement = (*raw).stmt;
        // A length is only noted where a semicolon ends it.
        if (*raw).stmt_len != 0 || statement.is_null() || (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return None;
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let is_bare = select.distinctClause.is_null()
            && select.intoClause.is_null()
            && select.fromClause.is_null()
            && select.whereClause.is_null()
            && select.groupClause.is_null()
            && select.havingClause.is_null()
            && select.windowClause.is_null()
            && select.valuesLists.is_null()
            && select.sortClause.is_null()
            && select.limitOffset.is_null()
            && select.limitCount.is_null()
            && select.lockingClause.is_null()
            && select.withClause.is_null()
            && select.op == pg_sys::SetOperation::SETOP_NONE;
        let [column] = list::pointers::<pg_sys::ResTarget>(select.targetList)[..] else { return None };
        let is_column = is_bare && (*column).name.is_null() && (*column).indirection.is_null();
        is_column.then_some((*column).val)
    }
}
