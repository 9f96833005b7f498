//! The triggers on a source table and its partitions.
//!
//! A statement on a partitioned table fires the triggers of that table, a statement on a partition those of the partition, so
//! all of them have triggers for statements. What logical replication applies fires triggers for rows only: there is one, which
//! is silent in ordinary sessions, on the topmost table, whence PostgreSQL copies it to partitions.

use crate::error::{OrError, Result};
use crate::rag::catalog::{quote, read_one};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Name, events and transition tables of the triggers for statements.
const STATEMENT_TRIGGERS: [(&str, &str, &str); 4] = [
    ("rag_sync_insert", "INSERT", "REFERENCING NEW TABLE AS rag_new"),
    ("rag_sync_update", "UPDATE", "REFERENCING OLD TABLE AS rag_old NEW TABLE AS rag_new"),
    ("rag_sync_delete", "DELETE", "REFERENCING OLD TABLE AS rag_old"),
    ("rag_sync_truncate", "TRUNCATE", ""),
];
const REPLICA_TRIGGER: &str = "rag_sync_replica";

/// A table with its qualified, quoted name.
struct Table {
    oid: pg_sys::Oid,
    name: String,
}

/// The table and its partitions of all levels.
fn tables(source: pg_sys::Oid) -> Result<Vec<Table>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                  WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}')
                    AND (c.oid OPERATOR(pg_catalog.=) $1
                         OR c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1) t))
                  ORDER BY c.oid OPERATOR(pg_catalog.<>) $1, c.oid",
                None,
                &[source.into()],
            )
            .or_error()?;
        rows.into_iter()
            .map(|row| {
                let schema = row.get::<String>(2).or_error()?.unwrap_or_default();
                let table = row.get::<String>(3).or_error()?.unwrap_or_default();
                let oid = row.get::<pg_sys::Oid>(1).or_error()?.unwrap_or(pg_sys::InvalidOid);
                Ok(Table { oid, name: format!("{}.{}", quote(&schema), quote(&table)) })
            })
            .collect()
    })
}

fn has_trigger(table: pg_sys::Oid, name: &str) -> Result<bool> {
    let found = read_one::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger
                         WHERE tgrelid OPERATOR(pg_catalog.=) $1 AND tgname OPERATOR(pg_catalog.=) $2)",
        &[table.into(), name.into()],
    )?;
    Ok(found.unwrap_or_default())
}

/// Waits for those who write to the table, and keeps others out to the end of the transaction, as making a trigger does: whoever
/// writes after that knows the indexes that are there now. Needed where the triggers are there already.
pub fn keep_writers_out(source: &str) -> Result<()> {
    Spi::run(&format!("LOCK TABLE {source} IN SHARE ROW EXCLUSIVE MODE")).or_error()
}

/// Makes the triggers that are missing on the table and its partitions. Returns whether any was.
pub fn install(source: pg_sys::Oid) -> Result<bool> {
    let mut any = false;
    for table in tables(source)? {
        for (trigger, event, tables) in STATEMENT_TRIGGERS {
            if has_trigger(table.oid, trigger)? {
                continue;
            }
            any = true;
            Spi::run(&format!(
                "CREATE TRIGGER {trigger} AFTER {event} ON {} {tables} FOR EACH STATEMENT
                     EXECUTE FUNCTION rag.note_change()",
                table.name
            ))
            .or_error()?;
            // TRUNCATE is the one statement that fires such triggers when logical replication applies it.
            if event == "TRUNCATE" {
                Spi::run(&format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {trigger}", table.name)).or_error()?;
            }
        }
        if table.oid == source && !has_trigger(table.oid, REPLICA_TRIGGER)? {
            Spi::run(&format!(
                "CREATE TRIGGER {REPLICA_TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW
                     EXECUTE FUNCTION rag.note_change()",
                table.name
            ))
            .or_error()?;
            Spi::run(&format!("ALTER TABLE {} ENABLE REPLICA TRIGGER {REPLICA_TRIGGER}", table.name)).or_error()?;
        }
    }
    Ok(any)
}

/// Drops the triggers of the table and its partitions.
pub fn remove(source: pg_sys::Oid) -> Result<()> {
    for table in tables(source)? {
        remove_from(&table, table.oid == source)?;
    }
    Ok(())
}

/// Drops the triggers of one table; the one for rows only where it was made.
fn remove_from(table: &Table, is_topmost: bool) -> Result<()> {
    let names = STATEMENT_TRIGGERS.iter().map(|(name, ..)| *name).chain(is_topmost.then_some(REPLICA_TRIGGER));
    for name in names {
        if has_trigger(table.oid, name)? {
            Spi::run(&format!("DROP TRIGGER {name} ON {}", table.name)).or_error()?;
        }
    }
    Ok(())
}

/// How many tables the source consists of.
pub fn count(source: pg_sys::Oid) -> Result<i32> {
    Ok(tables(source)?.len() as i32)
}

/// Drops the triggers of tables that are no part of any source any more.
pub fn remove_strays() -> Result<()> {
    let strays = Spi::connect(|client| -> Result<Vec<_>> {
        let rows = client
            .select(
                "SELECT DISTINCT c.oid, n.nspname::text, c.relname::text
                   FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE t.tgfoid = 'rag.note_change()'::regprocedure AND t.tgname = 'rag_sync_insert'
                    AND NOT EXISTS (SELECT FROM rag.index i
                                     WHERE i.source = t.tgrelid
                                        OR i.source IN (SELECT a.relid FROM pg_partition_ancestors(t.tgrelid) a))",
                None,
                &[],
            )
            .or_error()?;
        rows.into_iter()
            .map(|row| {
                let oid = row.get::<pg_sys::Oid>(1).or_error()?.unwrap_or(pg_sys::InvalidOid);
                let schema = row.get::<String>(2).or_error()?.unwrap_or_default();
                let table = row.get::<String>(3).or_error()?.unwrap_or_default();
                Ok(Table { oid, name: format!("{}.{}", quote(&schema), quote(&table)) })
            })
            .collect()
    })?;
    strays.iter().try_for_each(|table| remove_from(table, true))
}
