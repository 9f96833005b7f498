//! `rag_reindex`: an index with another model, other chunks or another template, built while the old one serves.
//!
//! The new one is an index like any other, with a chunk table and a view of its own, so it can be searched and measured before
//! it takes over; `rag.index.replaces` says whose place it is to take. The sync worker fills it in short transactions, and
//! triggers note changes for both. When nearly nothing waits for the new one any more, the worker [`switch`]es: the old view gets
//! the new chunk table, the catalogue row the new definition, and what was the old chunk table is dropped. What still waited
//! for the new one waits for the old one now, so writers that never rest cannot put the switch off.
//!
//! # Locks
//!
//! `switch` takes the locks of both indexes (see [`super::sync`]) if nobody has them, then ACCESS EXCLUSIVE on both views, for which it
//! waits [`LOCK_TIMEOUT_MS`]: the time that others may have to wait behind it. Otherwise it gives up and is tried again after a
//! pause, which grows.
//!
//! What was the old chunk table goes into `rag.replaced`, and is dropped by the worker when no snapshot is left that may see
//! the old row of `rag.index`. So `rag_search` and its kin need no lock against the switch, and find under any isolation level
//! what their snapshot says is the index. A table that a user has built on, with a view of his own, is his from then on. Dumps have the
//! list as they have the tables, so what waited to be dropped is dropped where they are restored.
//!
//! # Crashes
//!
//! All of `switch` is one transaction; everything before it is an ordinary index that is not complete yet. `rag_drop_index` on
//! either view ends it.

use crate::error::{error, invalid_parameter, OrError, Result};
use crate::models::catalog as models;
use crate::pg::backend::require_writable;
use crate::pg::object_lock;
use crate::pg::owner;
use crate::rag::catalog::{self, quote, Index};
use crate::rag::chunk_table;
use crate::rag::definition::{self, ChunkingArguments, Definition};
use crate::rag::source;
use crate::rag::sync::{self, state, state::Mode};
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};

/// How long the switch waits for those who read an index: much longer than a search, shorter than anybody minds.
const LOCK_TIMEOUT_MS: u32 = 100;
/// Most changes that may wait for the new index when it takes over: what a worker does in a few seconds.
const MOST_WAITING: i64 = 500;

#[pg_extern(sql = false)]
fn rag_reindex(
    index: Option<pg_sys::Oid>,
    model: Option<&str>,
    chunking: Option<JsonB>,
    template: Option<&str>,
    fts_config: Option<pg_sys::Oid>,
) -> Result<Option<pg_sys::Oid>> {
    let Some(index) = index else { return Ok(None) };
    require_writable(c"rag_reindex()");
    let old = catalog::find(index)?;
    catalog::require_ownership(old.view_oid)?;
    check_state(&old)?;
    let model = models::embedding(Some(model.unwrap_or(&old.model)))?;
    let chunking = match &chunking {
        Some(json) => ChunkingArguments::parse(json, &model)?,
        None => {
            let kept = ChunkingArguments {
                strategy: old.strategy.clone(),
                size: old.size,
                overlap: old.overlap,
                unit: old.unit.clone(),
            };
            kept.check(&model)
                .map_err(|failure| failure.set_hint("Give other sizes with chunking => '{\"size\": …}'."))?;
            kept
        }
    };
    let template = template.unwrap_or(&old.template).to_owned();
    source::template_columns(&template, old.source_oid)?;
    let definition = Definition {
        source: source::inspect_again(&old)?,
        column: old.column.clone(),
        model,
        chunking,
        template,
        fts_config: match fts_config {
            Some(_) => definition::text_search_config(fts_config)?,
            None => old.fts_config.clone(),
        },
        where_sql: old.where_sql.clone(),
        filter_columns: old.filter_columns.clone(),
        pages_column: old.pages_column.clone(),
        summaries: old.summaries.clone(),
        replaces: Some(old.view_oid),
    };
    let _quiet = sync::events::Quiet::start();
    let (schema, stem) = catalog::relation_names(old.view_oid)?;
    let name = chunk_table::free_name(&schema, &stem, "new")?;
    let view = format!("{}.{}", quote(&schema), quote(&name));
    let chunks = chunk_table::create(&definition, &stem)?;
    chunk_table::create_view(&definition, &view, &chunks)?;
    let view_oid = definition.register(&view, &chunks)?;
    // Before the rows: the worker puts them in a few at a time.
    chunk_table::create_search_indexes(&definition, &chunks)?;
    state::insert(view_oid, Mode::Async)?;
    sync::events::record(view_oid)?;
    sync::triggers::keep_writers_out(&old.source)?;
    sync::triggers::install(old.source_oid)?;
    state::request_sweep(view_oid)?;
    Ok(Some(view_oid))
}

fn check_state(old: &Index) -> Result<()> {
    if old.replaces.is_some() {
        return Err(invalid_parameter(format!("index {} is itself being built to take another's place", old.view)));
    }
    let Some(running) = catalog::replacements(old.view_oid)?.first().copied() else { return Ok(()) };
    Err(error(
        PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        format!("index {} is being built anew already, as {}", old.view, catalog::relation_name(running)),
    )
    .set_hint("See rag_index_status; end it with rag_drop_index()."))
}

/// Puts `new` in the place of the index that it replaces, if next to nothing waits for it and nobody refreshes either. Returns
/// whether it did; fails with `lock_not_available` if somebody reads for long. Runs in a transaction of the worker, as the
/// extension's owner.
pub fn switch(new: &Index) -> Result<bool> {
    let Some(old_view) = new.replaces else { return Ok(false) };
    let is_locked = state::lock(old_view, object_lock::Mode::Exclusive, false)
        && state::lock(new.view_oid, object_lock::Mode::Exclusive, false);
    // Looked at under the locks: writers of an immediate index hold them until their commit.
    if !is_locked || !is_complete(new.view_oid)? {
        return Ok(false);
    }
    let _quiet = sync::events::Quiet::start();
    let old = catalog::find(old_view)?;
    Spi::run(&format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")).or_error()?;
    // Its own query with another chunk table: so the view keeps its columns, and names that users have given them.
    let query = catalog::read_one::<String>("SELECT pg_get_viewdef($1)", &[old_view.into()])?.unwrap_or_default();
    let join = |chunks: &str| format!("JOIN {chunks} c ON");
    if query.matches(&join(&old.chunks)).count() != 1 {
        return Err(error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("view {} does not join {} as rag_create_index() wrote it", old.view, old.chunks),
        ));
    }
    let query = query.replace(&join(&old.chunks), &join(&new.chunks));
    owner::as_restricted_user(owner::owner_of(&old.view)?, || {
        Spi::run(&format!("CREATE OR REPLACE VIEW {} WITH (security_invoker = true) AS {query}", old.view)).or_error()
    })?;
    Spi::run_with_args(
        "UPDATE rag.index o SET chunks = n.chunks, model = n.model, strategy = n.strategy, size = n.size, overlap = n.overlap,
                unit = n.unit, template = n.template, fts_config = n.fts_config
           FROM rag.index n WHERE o.index::oid = $1 AND n.index::oid = $2",
        &[old_view.into(), new.view_oid.into()],
    )
    .or_error()?;
    pass_on(new.view_oid, old_view)?;
    state::delete(new.view_oid)?;
    Spi::run_with_args("DELETE FROM rag.index WHERE index::oid = $1", &[new.view_oid.into()]).or_error()?;
    // Columns that the new template names.
    Spi::run_with_args("DELETE FROM rag.index_column WHERE index::oid = $1", &[old_view.into()]).or_error()?;
    sync::events::record(old_view)?;
    Spi::run(&format!("DROP VIEW {}", new.view)).or_error()?;
    Spi::run_with_args(
        "INSERT INTO rag.replaced (chunks, replaced_by) VALUES ($1::regclass, pg_current_xact_id())",
        &[old.chunks.as_str().into()],
    )
    .or_error()?;
    if !state::needs_triggers(old.source_oid, None)? {
        owner::as_restricted_user(owner::owner_of(&old.source)?, || sync::triggers::remove(old.source_oid))?;
    }
    Ok(true)
}

/// Chunk tables that were replaced, and that no snapshot of this database may look for any more.
///
/// A transaction that is yet to come is one of another cluster, from which the database was restored: no snapshot here is older.
pub fn replaced() -> Result<Vec<pg_sys::Oid>> {
    let free = catalog::read_one::<Vec<pg_sys::Oid>>(
        "SELECT array_agg(r.chunks::oid) FROM rag.replaced r
          WHERE NOT EXISTS (SELECT FROM pg_stat_activity a
                             WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
                               AND age(a.backend_xmin) >= age(r.replaced_by::xid)
                               AND r.replaced_by < pg_snapshot_xmax(pg_current_snapshot()))",
        &[],
    )?;
    Ok(free.unwrap_or_default())
}

/// Drops one of [`replaced`]; fails if somebody reads it, or has built on it. Runs in a transaction of the worker, as the
/// extension's owner.
pub fn drop_replaced(chunks: pg_sys::Oid) -> Result<()> {
    let _quiet = sync::events::Quiet::start();
    Spi::run(&format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")).or_error()?;
    forget_replaced(chunks)?;
    // It may be gone already, as its schema may.
    match catalog::relation_names(chunks) {
        Ok((schema, name)) => Spi::run(&format!("DROP TABLE {}.{}", quote(&schema), quote(&name))).or_error(),
        Err(_) => Ok(()),
    }
}

/// Leaves one of [`replaced`] to whoever has built on it.
pub fn forget_replaced(chunks: pg_sys::Oid) -> Result<()> {
    Spi::run_with_args("DELETE FROM rag.replaced WHERE chunks::oid = $1", &[chunks.into()]).or_error()
}

/// What waits for the index `from` waits for the index `to`. Changes that writers have noted but not committed yet are no matter:
/// they are noted for both.
fn pass_on(from: pg_sys::Oid, to: pg_sys::Oid) -> Result<()> {
    for statement in [
        "UPDATE rag.change SET index = $2::oid::regclass WHERE index::oid = $1",
        "INSERT INTO rag.queue AS q (index, key, queued_at, due_at)
         SELECT $2::oid::regclass, key, queued_at, clock_timestamp() FROM rag.queue WHERE index::oid = $1
         ON CONFLICT (index, key) DO UPDATE SET version = q.version + 1, summaries = 0",
    ] {
        Spi::run_with_args(statement, &[from.into(), to.into()]).or_error()?;
    }
    Ok(())
}

/// Whether every row that was there has been indexed, next to none waits that was changed since, and none has failed.
fn is_complete(view: pg_sys::Oid) -> Result<bool> {
    let complete = catalog::read_one::<bool>(
        "SELECT y.filled AND y.sweep = 'none'
                AND NOT EXISTS (SELECT FROM rag.queue q WHERE q.index = y.index AND (q.failed OR q.queued_at <= y.filled_at))
                AND NOT EXISTS (SELECT FROM rag.change c WHERE c.index = y.index AND cardinality(c.keys) = 0)
                AND (SELECT count(*) FROM rag.queue q WHERE q.index = y.index)
                    + (SELECT coalesce(sum(cardinality(c.keys)), 0) FROM rag.change c WHERE c.index = y.index) <= $2
           FROM rag.sync y WHERE y.index::oid = $1",
        &[view.into(), MOST_WAITING.into()],
    )?;
    Ok(complete.unwrap_or_default())
}
