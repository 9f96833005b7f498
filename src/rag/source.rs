//! What an index needs to know of the table it is built over, checked when the index is created.

use crate::error::{error, invalid_parameter, OrError, Result};
use crate::rag::catalog::{relation_name, Index};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};

/// Columns that the view adds to the source's own.
pub const VIEW_COLUMNS: [&str; 7] = ["chunk_seq", "chunk", "char_start", "char_end", "tokens", "headings", "embedding"];

/// Columns that it adds where the text has pages.
pub const PAGE_COLUMNS: [&str; 2] = ["page", "last_page"];

/// Column that it adds where the index has summaries: whether a chunk is one.
pub const SUMMARY_COLUMN: &str = "is_summary";

#[derive(Debug)]
pub struct Source {
    pub oid: pg_sys::Oid,
    pub schema: String,
    pub table: String,
    /// Primary key: names and types.
    pub keys: Vec<(String, String)>,
    pub title_column: Option<String>,
}

/// Looks the table up and checks that an index over `column` can be built.
pub fn inspect(relation: pg_sys::Oid, column: &str) -> Result<Source> {
    let name = relation_name(relation);
    let found = Spi::get_three_with_args::<String, String, String>(
        "SELECT n.nspname::text, c.relname::text, c.relkind::text FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
          WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[relation.into()],
    )
    .or_error()?;
    let (Some(schema), Some(table), Some(kind)) = found else {
        return Err(error(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")));
    };
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(error(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{name}\" is not a table"))
            .set_hint("An index can be created over an ordinary or a partitioned table."));
    }
    let columns = columns(relation)?;
    check_text_column(&name, column, &columns)?;
    if let Some((taken, _)) = columns.iter().find(|(own, _)| VIEW_COLUMNS.contains(&own.as_str())) {
        return Err(taken_column(&name, taken));
    }
    let title_column = columns
        .iter()
        .find(|(own, kind)| matches!(own.as_str(), "title" | "name" | "subject") && is_text(kind) && own != column)
        .map(|(own, _)| own.clone());
    let keys = primary_key(relation)?;
    if keys.is_empty() {
        return Err(error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table \"{name}\" has no primary key"),
        )
        .set_detail("An index finds the rows of its chunks again by their primary key.")
        .set_hint("Add one with: ALTER TABLE … ADD PRIMARY KEY (…)."));
    }
    Ok(Source { oid: relation, schema, table, keys, title_column })
}

/// The table of an index that exists, as it is now.
pub fn inspect_again(index: &Index) -> Result<Source> {
    let found = inspect(index.source_oid, &index.column)?;
    Ok(Source { title_column: index.title_column.clone(), ..found })
}

pub fn taken_column(table: &str, column: &str) -> ErrorReport {
    let message = format!("table \"{table}\" has a column \"{column}\", which the index's view defines itself");
    error(PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN, message).set_hint("Rename the column.")
}

fn check_text_column(table: &str, column: &str, columns: &[(String, String)]) -> Result<()> {
    match columns.iter().find(|(own, _)| own == column) {
        None => Err(error(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!("column \"{column}\" of relation \"{table}\" does not exist"),
        )),
        Some((_, kind)) if !is_text(kind) => Err(error(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{column}\" of relation \"{table}\" is of type {kind}, but must be text"),
        )
        .set_hint("Index a column of type text or character varying; a generated column can hold the text of others.")),
        Some(_) => Ok(()),
    }
}

/// `kind` as `format_type` writes it, without its length.
fn is_text(kind: &str) -> bool {
    matches!(kind, "text" | "character varying" | "character")
}

/// Names and types of all columns.
pub fn columns(relation: pg_sys::Oid) -> Result<Vec<(String, String)>> {
    pairs(
        "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, NULL) FROM pg_catalog.pg_attribute a
          WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
          ORDER BY a.attnum",
        relation,
    )
}

fn primary_key(relation: pg_sys::Oid) -> Result<Vec<(String, String)>> {
    pairs(
        "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)
           FROM pg_catalog.pg_constraint p
           CROSS JOIN LATERAL pg_catalog.unnest(p.conkey) WITH ORDINALITY k(attnum, position)
           JOIN pg_catalog.pg_attribute a
             ON a.attrelid OPERATOR(pg_catalog.=) p.conrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
          WHERE p.conrelid OPERATOR(pg_catalog.=) $1 AND p.contype OPERATOR(pg_catalog.=) 'p'
          ORDER BY k.position",
        relation,
    )
}

fn pairs(query: &str, relation: pg_sys::Oid) -> Result<Vec<(String, String)>> {
    Spi::connect(|client| {
        let rows = client.select(query, None, &[relation.into()]).or_error()?;
        rows.into_iter()
            .map(|row| {
                let first = row.get::<String>(1).or_error()?.unwrap_or_default();
                let second = row.get::<String>(2).or_error()?.unwrap_or_default();
                Ok((first, second))
            })
            .collect()
    })
}

/// Columns that `template` refers to as `{name}`, besides `{chunk}` and `{headings}`; each must exist.
pub fn template_columns(template: &str, relation: pg_sys::Oid) -> Result<Vec<String>> {
    if !template.contains("{chunk}") {
        return Err(invalid_parameter("template must contain {chunk}"));
    }
    let columns = columns(relation)?;
    let mut used = Vec::new();
    for name in placeholders(template).filter(|name| !matches!(*name, "chunk" | "headings")) {
        if !columns.iter().any(|(own, _)| own == name) {
            return Err(error(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("template refers to column \"{name}\", which the table does not have"),
            ));
        }
        if !used.iter().any(|seen| seen == name) {
            used.push(name.to_owned());
        }
    }
    Ok(used)
}

/// The names in braces of a template.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}
