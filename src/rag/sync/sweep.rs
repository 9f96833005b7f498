//! Comparing an index with its whole table, some rows at a time: what is stale goes into the queue, and the position into
//! `rag.sync` in the same transaction.

use crate::error::{OrError, Result};
use crate::pg::owner;
use crate::rag::catalog::{chunk_key_column, quote, Index};
use crate::rag::refresh::Statements;
use crate::rag::sync::queue;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Rows that are compared in one transaction.
const ROWS: i64 = 1000;
/// Orphans that are queued in one transaction.
const ORPHANS: i64 = 5000;

/// Where a sweep is.
pub struct Position {
    /// `rows` or `orphans`.
    pub phase: String,
    pub number: i64,
    pub after: Option<Vec<String>>,
}

/// One step. Runs in a transaction of the worker, as the extension's owner.
pub fn step(index: &Index, owner: pg_sys::Oid, position: &Position) -> Result<()> {
    if position.phase == "rows" {
        let found = owner::as_restricted_user(owner, || compare_rows(index, position.after.as_deref()))?;
        queue::add(index.view_oid, found.stale)?;
        return match found.last {
            Some(last) => advance(index, position, "rows", Some(last), found.rows),
            None => advance(index, position, "orphans", None, 0),
        };
    }
    let orphans = owner::as_restricted_user(owner, || find_orphans(index))?;
    // When these are gone, it looks again. Where all that is left has failed, it has seen enough.
    if orphans.is_empty() || queue::add(index.view_oid, orphans)? == 0 {
        return advance(index, position, "none", None, 0);
    }
    Ok(())
}

struct Found {
    stale: Vec<String>,
    rows: i64,
    /// Key of the last row; None at the end of the table.
    last: Option<Vec<String>>,
}

/// Compares rows in the order of the primary key.
fn compare_rows(index: &Index, after: Option<&[String]>) -> Result<Found> {
    let statements = Statements::new(index)?;
    let names: Vec<_> = index.key_columns.iter().map(|key| format!("s.{}", quote(key))).collect();
    let texts: Vec<_> = names.iter().map(|name| format!("{name}::text")).collect();
    let condition = match after {
        None => "true".to_owned(),
        Some(_) => {
            let values = index
                .key_columns
                .iter()
                .enumerate()
                .map(|(at, key)| {
                    let kind = crate::rag::catalog::column_type(&index.source, key)?;
                    Ok(format!("(($1::text[])[{}])::{kind}", at + 1))
                })
                .collect::<Result<Vec<_>>>()?;
            format!("({}) OPERATOR(pg_catalog.>) ({})", names.join(", "), values.join(", "))
        }
    };
    let query = format!(
        "SELECT ARRAY[{texts}]::text[], ARRAY[{texts}]::text[]::text FROM {source} s WHERE {condition} ORDER BY {names} LIMIT {ROWS}",
        texts = texts.join(", "),
        source = index.source,
        names = names.join(", "),
    );
    let (mut keys, mut last) = (Vec::new(), None);
    Spi::connect(|client| -> Result<()> {
        let rows = client.select(query.as_str(), None, &[after.map(<[String]>::to_vec).into()]).or_error()?;
        for row in rows {
            keys.push(row.get::<String>(2).or_error()?.unwrap_or_default());
            last = row.get::<Vec<String>>(1).or_error()?;
        }
        Ok(())
    })?;
    let rows = keys.len() as i64;
    // Rows without a text have no chunks, unless they lost it: the search for orphans finds these, too.
    let stale = statements.read(&keys, false)?.stale.into_iter().map(|document| document.key).collect();
    Ok(Found { stale, rows, last })
}

/// Keys of chunks whose row is gone or has no text any more.
fn find_orphans(index: &Index) -> Result<Vec<String>> {
    let texts: Vec<_> =
        index.key_columns.iter().map(|key| format!("c.{}::text", quote(&chunk_key_column(key)))).collect();
    let query = format!(
        "SELECT DISTINCT ARRAY[{texts}]::text[]::text FROM {chunks} c
          WHERE NOT EXISTS (SELECT FROM {source} s WHERE {join} AND {row}) LIMIT {ORPHANS}",
        texts = texts.join(", "),
        chunks = index.chunks,
        source = index.source,
        join = index.join_condition(),
        row = index.row_condition(),
    );
    Spi::connect(|client| {
        let rows = client.select(query.as_str(), None, &[]).or_error()?;
        rows.into_iter().map(|row| Ok(row.get::<String>(1).or_error()?.unwrap_or_default())).collect()
    })
}

/// Stores the position, unless another sweep was asked for meanwhile.
fn advance(index: &Index, position: &Position, phase: &str, after: Option<Vec<String>>, rows: i64) -> Result<()> {
    Spi::run_with_args(
        "UPDATE rag.sync SET sweep = $3, sweep_after = $4, sweep_rows = sweep_rows + $5,
                             filled_at = CASE WHEN NOT filled AND $3 = 'none' THEN clock_timestamp() ELSE filled_at END,
                             filled = filled OR $3 = 'none'
          WHERE index::oid = $1 AND sweep_number = $2",
        &[index.view_oid.into(), position.number.into(), phase.into(), after.into(), rows.into()],
    )
    .or_error()
}
