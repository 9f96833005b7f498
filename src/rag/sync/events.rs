//! What DDL does to indexes: an event trigger settles it at the end of the command.
//!
//! - A source table, its view or the chunk table is dropped (with CASCADE, as views depend on tables): the rest of the index
//!   goes, too, as an index of PostgreSQL goes with its table.
//! - A partition comes or goes: it gets or loses its triggers, and the index is compared with the table.
//! - A column is renamed: the index knows its columns by number, too (`rag.index_column`, which is not dumped: numbers change
//!   with a restore), and learns the new name.

use crate::error::{OrError, Result};
use crate::pg::append::find_table;
use crate::pg::{condition, owner};
use crate::rag::catalog::{self, chunk_key_column, filter_column, quote};
use crate::rag::sync::{changes, state, triggers, watched};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// As long as it lives, commands of this backend settle nothing: somebody does so itself.
pub struct Quiet(bool);

impl Quiet {
    pub fn start() -> Self {
        Self(IS_QUIET.replace(true))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        IS_QUIET.set(self.0);
    }
}

/// Function of the event triggers.
// SAFETY: the name is the extension's own; PostgreSQL looks the function up by it.
#[allow(unsafe_code)]
#[no_mangle]
#[pg_guard]
pub extern "C-unwind" fn pg_rag_settle(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    if !IS_QUIET.get() && find_table(c"rag", c"index_column").is_some() {
        let _quiet = Quiet::start();
        settle().unwrap_or_report();
    }
    pg_sys::Datum::null()
}

/// PostgreSQL's calling convention of [`pg_rag_settle`].
// SAFETY: as above.
#[allow(unsafe_code)]
#[no_mangle]
pub extern "C" fn pg_finfo_pg_rag_settle() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

fn settle() -> Result<()> {
    owner::as_extension_owner(|| {
        drop_remains()?;
        follow_renames()?;
        follow_partitions()
    })
}

/// Drops what is left of indexes of which a part was dropped.
fn drop_remains() -> Result<()> {
    // A replacement goes with the index whose place it was to take.
    let broken = Spi::connect(|client| -> Result<Vec<_>> {
        let rows = client
            .select(
                "SELECT i.index::oid, CASE WHEN s.oid IS NOT NULL THEN s.oid END,
                        CASE WHEN v.oid IS NOT NULL THEN i.index::text END, CASE WHEN c.oid IS NOT NULL THEN i.chunks::text END
                   FROM rag.index i LEFT JOIN pg_class v ON v.oid = i.index LEFT JOIN pg_class s ON s.oid = i.source
                   LEFT JOIN pg_class c ON c.oid = i.chunks
                  WHERE v.oid IS NULL OR s.oid IS NULL OR c.oid IS NULL
                     OR NOT EXISTS (SELECT FROM pg_class r WHERE r.oid = coalesce(i.replaces, i.index))",
                None,
                &[],
            )
            .or_error()?;
        rows.into_iter()
            .map(|row| {
                Ok((
                    row.get::<pg_sys::Oid>(1).or_error()?.unwrap_or(pg_sys::InvalidOid),
                    row.get::<pg_sys::Oid>(2).or_error()?,
                    row.get::<String>(3).or_error()?,
                    row.get::<String>(4).or_error()?,
                ))
            })
            .collect()
    })?;
    for (index, source, view, chunks) in broken {
        state::lock_to_drop(index, chunks.as_deref())?;
        Spi::run_with_args("DELETE FROM rag.index WHERE index::oid = $1", &[index.into()]).or_error()?;
        state::delete(index)?;
        // Names that `regclass` writes are quoted, and qualified since the search path is empty.
        if let Some(view) = view {
            Spi::run(&format!("DROP VIEW {view}")).or_error()?;
        }
        if let Some(chunks) = chunks {
            Spi::run(&format!("DROP TABLE {chunks}")).or_error()?;
        }
        if let Some(source) = source {
            if !state::needs_triggers(source, None)? {
                triggers::remove(source)?;
            }
        }
    }
    Ok(())
}

/// Makes triggers on new partitions, drops those of former ones, and has the indexes of these tables compared.
fn follow_partitions() -> Result<()> {
    let sources = Spi::connect(|client| -> Result<Vec<_>> {
        let rows = client
            .select(
                "SELECT DISTINCT i.source::oid FROM rag.index i JOIN rag.sync y ON y.index = i.index
                   JOIN pg_class s ON s.oid = i.source WHERE y.mode <> 'manual' AND s.relkind = 'p'",
                None,
                &[],
            )
            .or_error()?;
        rows.into_iter().map(|row| Ok(row.get::<pg_sys::Oid>(1).or_error()?.unwrap_or(pg_sys::InvalidOid))).collect()
    })?;
    for source in sources {
        let has_new = triggers::install(source)?;
        // Partitions that were dropped or detached: there are fewer than when the triggers were made.
        let count = triggers::count(source)?;
        let known = Spi::get_one_with_args::<i32>(
            "SELECT min(parts) FROM rag.index_column WHERE index IN (SELECT index FROM rag.index WHERE source::oid = $1)",
            &[source.into()],
        )
        .or_error()?;
        if has_new || known.is_some_and(|known| known != count) {
            Spi::run_with_args(
                "UPDATE rag.index_column SET parts = $2
                  WHERE index IN (SELECT index FROM rag.index WHERE source::oid = $1)",
                &[source.into(), count.into()],
            )
            .or_error()?;
            compare(source)?;
        }
    }
    triggers::remove_strays()
}

/// Has all indexes over a table compared with it.
fn compare(source: pg_sys::Oid) -> Result<()> {
    let views = Spi::get_one_with_args::<Vec<pg_sys::Oid>>(
        "SELECT array_agg(i.index::oid) FROM rag.index i JOIN rag.sync y ON y.index = i.index
          WHERE i.source::oid = $1 AND y.mode <> 'manual'",
        &[source.into()],
    );
    for view in views.or_error()?.unwrap_or_default() {
        changes::request_sweep(view);
    }
    watched::announce();
    Ok(())
}

/// Records the columns of an index, and how many tables its source consists of.
pub fn record(view: pg_sys::Oid) -> Result<()> {
    let index = catalog::find(view)?;
    let watched = index.watched_columns()?;
    let count = triggers::count(index.source_oid)?;
    let columns: Vec<String> = watched.into_iter().chain(index.key_columns).chain(index.title_column).collect();
    owner::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO rag.index_column (index, name, number, parts)
             SELECT DISTINCT $1::oid::regclass, a.attname, a.attnum, $4 FROM pg_attribute a
              WHERE a.attrelid = $2 AND a.attname = ANY ($3::text[]) AND a.attnum > 0
             ON CONFLICT DO NOTHING",
            &[view.into(), index.source_oid.into(), columns.into(), count.into()],
        )
        .or_error()
    })
}

/// Takes over new names of columns; records the columns of indexes that were restored from a dump.
fn follow_renames() -> Result<()> {
    let unknown = Spi::get_one::<Vec<pg_sys::Oid>>(
        "SELECT array_agg(i.index::oid) FROM rag.index i JOIN pg_class v ON v.oid = i.index
          WHERE NOT EXISTS (SELECT FROM rag.index_column c WHERE c.index = i.index)",
    );
    for view in unknown.or_error()?.unwrap_or_default() {
        record(view)?;
    }
    let renamed = Spi::connect(|client| -> Result<Vec<_>> {
        let rows = client
            .select(
                "SELECT i.index::oid, c.name::text, a.attname::text, c.name = ANY (i.key_columns), c.name = ANY (i.filter_columns)
                   FROM rag.index_column c JOIN rag.index i ON i.index = c.index
                   JOIN pg_attribute a ON a.attrelid = i.source AND a.attnum = c.number
                  WHERE NOT a.attisdropped AND a.attname <> c.name",
                None,
                &[],
            )
            .or_error()?;
        rows.into_iter()
            .map(|row| {
                let text = |at| -> Result<String> { Ok(row.get::<String>(at).or_error()?.unwrap_or_default()) };
                let index = row.get::<pg_sys::Oid>(1).or_error()?.unwrap_or(pg_sys::InvalidOid);
                let flag = |at| -> Result<bool> { Ok(row.get::<bool>(at).or_error()?.unwrap_or_default()) };
                Ok((index, text(2)?, text(3)?, flag(4)?, flag(5)?))
            })
            .collect()
    })?;
    for (view, old, new, is_key, is_filter) in renamed {
        let index = catalog::find(view)?;
        let template = index.template.replace(&format!("{{{old}}}"), &format!("{{{new}}}"));
        let where_sql = match &index.where_sql {
            Some(text) => {
                let names = [(old.clone(), new.clone())];
                Some(condition::of_index_again(index.source_oid, text, &names)?.text)
            }
            None => None,
        };
        Spi::run_with_args(
            "UPDATE rag.index SET column_name = CASE WHEN column_name = $2::name THEN $3::name ELSE column_name END,
                    title_column = CASE WHEN title_column = $2::name THEN $3::name ELSE title_column END,
                    pages_column = CASE WHEN pages_column = $2::name THEN $3::name ELSE pages_column END,
                    key_columns = array_replace(key_columns, $2::name, $3::name),
                    filter_columns = array_replace(filter_columns, $2::name, $3::name), template = $4, where_sql = $5
              WHERE index::oid = $1",
            &[view.into(), old.as_str().into(), new.as_str().into(), template.into(), where_sql.into()],
        )
        .or_error()?;
        Spi::run_with_args(
            "UPDATE rag.index_column SET name = $3::name WHERE index::oid = $1 AND name = $2::name",
            &[view.into(), old.as_str().into(), new.as_str().into()],
        )
        .or_error()?;
        for (_, of_chunks) in [(is_key, chunk_key_column as fn(&str) -> String), (is_filter, filter_column)]
            .into_iter()
            .filter(|(is_there, _)| *is_there)
        {
            let (from, to) = (quote(&of_chunks(&old)), quote(&of_chunks(&new)));
            Spi::run(&format!("ALTER TABLE {} RENAME COLUMN {from} TO {to}", index.chunks)).or_error()?;
        }
        watched::announce();
    }
    Ok(())
}
