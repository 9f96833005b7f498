//! Rows of `rag.sync`: how each index follows its table, and how far it is. Written by the extension only.

use crate::error::{invalid_parameter, OrError, Result};
use crate::pg::append::find_table;
use crate::pg::object_lock;
use crate::pg::owner;
use crate::rag::sync::{changes, watched};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// How an index follows its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Async,
    Immediate,
    Manual,
}

impl Mode {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "async" => Ok(Self::Async),
            "immediate" => Ok(Self::Immediate),
            "manual" => Ok(Self::Manual),
            _ => Err(invalid_parameter(format!("sync \"{text}\" is not known"))
                .set_hint("Use \"async\", \"immediate\" or \"manual\".")),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Immediate => "immediate",
            Self::Manual => "manual",
        }
    }
}

/// Registers how a new index follows its table.
pub fn insert(view: pg_sys::Oid, mode: Mode) -> Result<()> {
    owner::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO rag.sync (index, mode) VALUES ($1::pg_catalog.oid::pg_catalog.regclass, $2)",
            &[view.into(), mode.as_str().into()],
        )
        .or_error()
    })?;
    watched::announce();
    Ok(())
}

/// Forgets an index and everything that waits for it.
pub fn delete(view: pg_sys::Oid) -> Result<()> {
    owner::as_extension_owner(|| {
        // In the order in which the worker locks their rows.
        for table in ["rag.change", "rag.queue", "rag.sync", "rag.index_column"] {
            Spi::run_with_args(
                &format!("DELETE FROM {table} WHERE index::pg_catalog.oid OPERATOR(pg_catalog.=) $1"),
                &[view.into()],
            )
            .or_error()?;
        }
        Ok(())
    })?;
    watched::announce();
    Ok(())
}

/// Asks for a comparison of the index with its whole table, which the worker begins after the commit.
pub fn request_sweep(view: pg_sys::Oid) -> Result<()> {
    owner::as_extension_owner(|| {
        Spi::run_with_args(
            "UPDATE rag.sync SET sweep = 'rows', sweep_number = sweep_number OPERATOR(pg_catalog.+) 1,
                                 sweep_after = NULL, sweep_rows = 0
              WHERE index::pg_catalog.oid OPERATOR(pg_catalog.=) $1",
            &[view.into()],
        )
        .or_error()
    })?;
    changes::wake_after_commit();
    Ok(())
}

/// Every row of the table has been compared with the index in this transaction.
pub fn note_refreshed(view: pg_sys::Oid) -> Result<()> {
    owner::as_extension_owner(|| {
        Spi::run_with_args(
            "DELETE FROM rag.queue WHERE index::pg_catalog.oid OPERATOR(pg_catalog.=) $1 AND failed
                AND summaries OPERATOR(pg_catalog.=) 0",
            &[view.into()],
        )
        .or_error()?;
        // Their texts are there: only summaries are missing, and are tried again.
        Spi::run_with_args(
            "UPDATE rag.queue SET failed = false, attempts = 0, due_at = pg_catalog.clock_timestamp()
              WHERE index::pg_catalog.oid OPERATOR(pg_catalog.=) $1 AND failed",
            &[view.into()],
        )
        .or_error()?;
        Spi::run_with_args(
            "UPDATE rag.sync SET filled = true WHERE index::pg_catalog.oid OPERATOR(pg_catalog.=) $1 AND NOT filled",
            &[view.into()],
        )
        .or_error()
    })
}

/// Whether the worker keeps the index up to date.
pub fn is_async(view: pg_sys::Oid) -> Result<bool> {
    let found = owner::as_extension_owner(|| {
        Spi::get_one_with_args::<bool>(
            "SELECT EXISTS (SELECT FROM rag.sync WHERE index::pg_catalog.oid OPERATOR(pg_catalog.=) $1
                               AND mode OPERATOR(pg_catalog.=) 'async')",
            &[view.into()],
        )
        .or_error()
    })?;
    Ok(found.unwrap_or_default())
}

/// Whether some index over `source` other than `view` needs its triggers.
pub fn needs_triggers(source: pg_sys::Oid, but: Option<pg_sys::Oid>) -> Result<bool> {
    let found = owner::as_extension_owner(|| {
        Spi::get_one_with_args::<bool>(
            "SELECT EXISTS (SELECT FROM rag.index i JOIN rag.sync y ON y.index OPERATOR(pg_catalog.=) i.index
                             WHERE i.source::pg_catalog.oid OPERATOR(pg_catalog.=) $1
                               AND y.mode OPERATOR(pg_catalog.<>) 'manual'
                               AND ($2 IS NULL OR i.index::pg_catalog.oid OPERATOR(pg_catalog.<>) $2))",
            &[source.into(), but.into()],
        )
        .or_error()
    })?;
    Ok(found.unwrap_or_default())
}

/// Waits for the worker to be out of an index that is dropped, before any of its rows is touched: the worker holds locks of
/// the chunk table when it comes to these rows. `chunks`: the chunk table's name, if there is one still.
pub fn lock_to_drop(view: pg_sys::Oid, chunks: Option<&str>) -> Result<()> {
    lock(view, object_lock::Mode::Exclusive, true);
    match chunks {
        Some(chunks) => Spi::run(&format!("LOCK TABLE {chunks} IN ACCESS EXCLUSIVE MODE")).or_error(),
        None => Ok(()),
    }
}

/// Takes the lock of an index: see the module's documentation.
pub fn lock(view: pg_sys::Oid, mode: object_lock::Mode, waits: bool) -> bool {
    // Without the table there is no index either, and nobody to disturb.
    find_table(c"rag", c"sync").is_none_or(|class| object_lock::take(class, view, mode, waits))
}
