//! `rag_create_index` and `rag_drop_index`.

use crate::error::{error, invalid_parameter, required, OrError, Result};
use crate::models::catalog as models;
use crate::pg::backend::require_writable;
use crate::pg::owner;
use crate::rag::catalog::{self, quote};
use crate::rag::chunk_table::{self, existing_relation};
use crate::rag::definition::{self, ChunkingArguments, Definition};
use crate::rag::refresh;
use crate::rag::source;
use crate::rag::sync::{self, state::Mode};
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};

/// What `rag_create_index` is asked for besides the table.
pub struct Arguments<'a> {
    pub column_name: &'a str,
    pub name: Option<&'a str>,
    pub model: Option<&'a str>,
    pub chunking: &'a JsonB,
    pub template: &'a str,
    pub backfill: bool,
    pub if_not_exists: bool,
    pub mode: Mode,
    pub waits: bool,
    pub fts_config: Option<pg_sys::Oid>,
    pub where_sql: Option<&'a str>,
    pub filter_columns: &'a [Option<String>],
    pub pages_column: Option<&'a str>,
    pub summarize: bool,
    pub summary_model: Option<&'a str>,
    pub summary_max_words: i32,
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn rag_create_index(
    source: Option<pg_sys::Oid>,
    column_name: Option<&str>,
    name: Option<&str>,
    model: Option<&str>,
    chunking: Option<JsonB>,
    template: Option<&str>,
    backfill: Option<bool>,
    if_not_exists: Option<bool>,
    sync: Option<&str>,
    wait: Option<bool>,
    fts_config: Option<pg_sys::Oid>,
    where_sql: Option<&str>,
    filter_columns: Option<Vec<Option<String>>>,
    pages_column: Option<&str>,
    summarize: Option<bool>,
    summary_model: Option<&str>,
    summary_max_words: Option<i32>,
) -> Result<pg_sys::Oid> {
    require_writable(c"rag_create_index()");
    create(
        required("source", source)?,
        &Arguments {
            column_name: required("column_name", column_name)?,
            name,
            model,
            chunking: &required("chunking", chunking)?,
            template: required("template", template)?,
            backfill: required("backfill", backfill)?,
            if_not_exists: required("if_not_exists", if_not_exists)?,
            mode: Mode::parse(required("sync", sync)?)?,
            waits: required("wait", wait)?,
            fts_config,
            where_sql,
            filter_columns: &filter_columns.unwrap_or_default(),
            pages_column,
            summarize: required("summarize", summarize)?,
            summary_model,
            summary_max_words: required("summary_max_words", summary_max_words)?,
        },
    )
}

/// Creates an index over a table of the caller. Returns its view.
pub fn create(relation: pg_sys::Oid, arguments: &Arguments<'_>) -> Result<pg_sys::Oid> {
    if !arguments.waits && arguments.mode != Mode::Async {
        return Err(invalid_parameter("wait => false needs sync => 'async'"));
    }
    catalog::require_ownership(relation)?;
    let source = source::inspect(relation, arguments.column_name)?;
    let model = models::embedding(arguments.model)?;
    let chunking = ChunkingArguments::parse(arguments.chunking, &model)?;
    source::template_columns(arguments.template, relation)?;
    let name = arguments.name.map_or_else(|| format!("{}_rag", source.table), str::to_owned);
    let view = format!("{}.{}", quote(&source.schema), quote(&name));

    if let Some(existing) = existing_relation(&view)? {
        if arguments.if_not_exists && catalog::find(existing).is_ok() {
            notice!("index \"{name}\" already exists, skipping");
            return Ok(existing);
        }
        return Err(error(PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))
            .set_hint("Give the index another name with name => '…'."));
    }
    let definition = Definition {
        column: arguments.column_name.to_owned(),
        model,
        chunking,
        template: arguments.template.to_owned(),
        fts_config: definition::text_search_config(arguments.fts_config)?,
        where_sql: definition::row_condition(&source, arguments.where_sql)?,
        filter_columns: definition::filter_columns(&source, arguments.filter_columns)?,
        pages_column: definition::pages_column(&source, arguments.pages_column)?,
        summaries: definition::summaries(
            &source,
            arguments.summarize,
            arguments.summary_model,
            arguments.summary_max_words,
        )?,
        replaces: None,
        source,
    };
    let chunks = chunk_table::create(&definition, &name)?;
    chunk_table::create_view(&definition, &view, &chunks)?;
    let view_oid = definition.register(&view, &chunks)?;
    follow(relation, view_oid, arguments)?;
    // After the rows: building an index is much faster than inserting into one.
    chunk_table::create_search_indexes(&definition, &chunks)?;
    Ok(view_oid)
}

/// Fills the new index, and makes it follow its table.
///
/// The triggers come last: making them waits for writers and keeps them out, which shall not take as long as embedding.
/// What was written meanwhile is looked for afterwards.
fn follow(source: pg_sys::Oid, view: pg_sys::Oid, arguments: &Arguments<'_>) -> Result<()> {
    let _quiet = sync::events::Quiet::start();
    sync::state::insert(view, arguments.mode)?;
    let fills_now = arguments.backfill && arguments.waits;
    if fills_now {
        refresh::refresh(view)?;
    }
    if arguments.mode == Mode::Manual {
        return Ok(());
    }
    sync::events::record(view)?;
    sync::triggers::keep_writers_out(&catalog::find(view)?.source)?;
    sync::triggers::install(source)?;
    match arguments.mode {
        Mode::Immediate if fills_now => refresh::refresh(view).map(drop),
        Mode::Async if arguments.backfill => sync::state::request_sweep(view),
        _ => Ok(()),
    }
}

/// Drops the view, the chunk table and the catalogue row.
#[pg_extern(sql = false)]
fn rag_drop_index(index: pg_sys::Oid) -> Result<()> {
    require_writable(c"rag_drop_index()");
    let index = catalog::find(index)?;
    catalog::require_ownership(index.view_oid)?;
    let _quiet = sync::events::Quiet::start();
    // One that is being built to take its place has none to take any more.
    for view in catalog::replacements(index.view_oid)? {
        drop_index(view)?;
    }
    drop_index(index.view_oid)
}

fn drop_index(view: pg_sys::Oid) -> Result<()> {
    let index = catalog::find(view)?;
    owner::as_extension_owner(|| sync::state::lock_to_drop(view, Some(&index.chunks)))?;
    if !sync::state::needs_triggers(index.source_oid, Some(view))? {
        sync::triggers::remove(index.source_oid)?;
    }
    sync::state::delete(view)?;
    Spi::run(&format!("DROP VIEW {}", index.view)).or_error()?;
    owner::as_extension_owner(|| {
        Spi::run_with_args("DELETE FROM rag.index WHERE index::oid OPERATOR(pg_catalog.=) $1", &[view.into()])
            .or_error()?;
        Spi::run(&format!("DROP TABLE {}", index.chunks)).or_error()
    })
}
