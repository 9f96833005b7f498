//! `rag_create_index` and `rag_drop_index`.
//!
//! The chunk table lies in schema `rag`, where users may not create anything: it is created with the rights of the
//! extension's owner and handed to the owner of the source table at once. Everything else runs as the caller.

use crate::error::{error, invalid_parameter, required, OrError, Result};
use crate::functions::chunk::Chunking;
use crate::models::catalog::{self as models, Model};
use crate::pg::backend::require_writable;
use crate::pg::owner;
use crate::rag::catalog::{self, chunk_key_column, literal, quote};
use crate::rag::refresh;
use crate::rag::source::{self, Source};
use crate::rag::sync::{self, state::Mode};
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};

/// Tokens that a model puts around a text (`[CLS]`, `[SEP]`) and that a template may add: kept free in a chunk.
const RESERVED_TOKENS: i32 = 16;

/// PostgreSQL keeps the frequencies of ten times as many lexemes.
const LEXEME_STATISTICS: u32 = 200;

/// Default and largest chunk when the model would take more.
const DEFAULT_CHUNK_TOKENS: i32 = 200;

/// How an index cuts its texts, as the argument `chunking` gives it.
struct ChunkingArguments {
    strategy: String,
    size: i32,
    overlap: i32,
    unit: String,
}

impl ChunkingArguments {
    fn parse(json: &JsonB, model: &Model) -> Result<Self> {
        let object = json.0.as_object().ok_or_else(|| invalid_parameter("chunking must be a JSON object"))?;
        let longest = (model.max_tokens as i32 - RESERVED_TOKENS).max(1);
        let mut arguments = Self {
            strategy: "auto".into(),
            size: DEFAULT_CHUNK_TOKENS.min(longest),
            overlap: -1,
            unit: "token".into(),
        };
        for (key, value) in object {
            let text = || {
                value
                    .as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| invalid_parameter(format!("chunking.{key} must be a string")))
            };
            let number = || {
                value
                    .as_i64()
                    .and_then(|number| i32::try_from(number).ok())
                    .ok_or_else(|| invalid_parameter(format!("chunking.{key} must be an integer")))
            };
            match key.as_str() {
                "strategy" => arguments.strategy = text()?,
                "unit" => arguments.unit = text()?,
                "size" => arguments.size = number()?,
                "overlap" => arguments.overlap = number()?,
                _ => {
                    return Err(invalid_parameter(format!("chunking.{key} is not known"))
                        .set_hint("Use \"strategy\", \"size\", \"overlap\" and \"unit\"."))
                }
            }
        }
        if arguments.overlap < 0 {
            arguments.overlap = arguments.size / 10;
        }
        // "auto" decides for each document; any strategy stands for it in the check of the numbers.
        let strategy = if arguments.strategy == "auto" { "recursive" } else { &arguments.strategy };
        Chunking::new(strategy, arguments.size, arguments.overlap, &arguments.unit)?;
        if arguments.unit == "token" && arguments.size > model.max_tokens as i32 {
            return Err(invalid_parameter(format!(
                "chunk size of {} tokens is more than the {} tokens that model \"{}\" takes",
                arguments.size, model.max_tokens, model.reference.name
            )));
        }
        Ok(arguments)
    }
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
) -> Result<pg_sys::Oid> {
    require_writable(c"rag_create_index()");
    let mode = Mode::parse(required("sync", sync)?)?;
    let waits = required("wait", wait)?;
    if !waits && mode != Mode::Async {
        return Err(invalid_parameter("wait => false needs sync => 'async'"));
    }
    let source = required("source", source)?;
    let column_name = required("column_name", column_name)?;
    let chunking = required("chunking", chunking)?;
    let template = required("template", template)?;
    catalog::require_ownership(source)?;
    let source = source::inspect(source, column_name)?;
    let model = models::embedding(model)?;
    let chunking = ChunkingArguments::parse(&chunking, &model)?;
    source::template_columns(template, source.oid)?;
    let name = name.map_or_else(|| format!("{}_rag", source.table), str::to_owned);
    let view = format!("{}.{}", quote(&source.schema), quote(&name));

    if let Some(existing) = existing_relation(&view)? {
        if required("if_not_exists", if_not_exists)? && catalog::find(existing).is_ok() {
            notice!("index \"{name}\" already exists, skipping");
            return Ok(existing);
        }
        return Err(error(PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))
            .set_hint("Give the index another name with name => '…'."));
    }
    let types = catalog::extension_schema()?;
    let fts_config = text_search_config(fts_config)?;
    let chunks = create_chunk_table(&source, column_name, &name, &model, &types, &fts_config)?;
    create_view(&source, &view, &chunks)?;
    let view_oid = register(&source, column_name, &view, &chunks, &model, &chunking, template, &fts_config)?;
    follow(source.oid, view_oid, mode, required("backfill", backfill)?, waits)?;
    // After the rows: building an index is much faster than inserting into one.
    create_search_indexes(&chunks, &types)?;
    Ok(view_oid)
}

/// Fills the new index, and makes it follow its table.
///
/// The triggers come last: making them waits for writers and keeps them out, which shall not take as long as embedding.
/// What was written meanwhile is looked for afterwards.
fn follow(source: pg_sys::Oid, view: pg_sys::Oid, mode: Mode, fills: bool, waits: bool) -> Result<()> {
    let _quiet = sync::events::Quiet::start();
    sync::state::insert(view, mode)?;
    let fills_now = fills && waits;
    if fills_now {
        refresh::refresh(&catalog::find(view)?)?;
    }
    if mode == Mode::Manual {
        return Ok(());
    }
    sync::events::record(view)?;
    sync::triggers::install(source)?;
    match mode {
        Mode::Immediate if fills_now => refresh::refresh(&catalog::find(view)?).map(drop),
        Mode::Async if fills => sync::state::request_sweep(view),
        _ => Ok(()),
    }
}

fn existing_relation(name: &str) -> Result<Option<pg_sys::Oid>> {
    Spi::get_one_with_args::<pg_sys::Oid>("SELECT pg_catalog.to_regclass($1)::oid", &[name.into()]).or_error()
}

/// Creates the chunk table as the extension's owner, and gives it to the owner of the source table. Returns its
/// qualified name.
fn create_chunk_table(
    source: &Source,
    column: &str,
    index: &str,
    model: &Model,
    types: &str,
    fts_config: &str,
) -> Result<String> {
    let table = format!("rag.{}", quote(&free_table_name(index)?));
    let from = format!("{}.{}", quote(&source.schema), quote(&source.table));
    let keys: Vec<_> =
        source.keys.iter().map(|(key, kind)| format!("{} {kind} NOT NULL", quote(&chunk_key_column(key)))).collect();
    let key_names: Vec<_> = source.keys.iter().map(|(key, _)| quote(&chunk_key_column(key))).collect();
    let same_row: Vec<_> = source
        .keys
        .iter()
        .map(|(key, _)| format!("s.{} OPERATOR(pg_catalog.=) {}", quote(key), quote(&chunk_key_column(key))))
        .collect();
    let policy_name = "visible_with_source_row";
    let statements = [
        format!(
            "CREATE TABLE {table} (
                 chunk_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 {keys},
                 chunk_seq integer NOT NULL,
                 chunk text NOT NULL,
                 char_start integer NOT NULL,
                 char_end integer NOT NULL,
                 tokens integer NOT NULL,
                 headings text[] NOT NULL,
                 source_hash bytea NOT NULL,
                 chunk_hash bytea NOT NULL,
                 embedding {types}.vector({dimensions}) NOT NULL,
                 lexemes tsvector NOT NULL
                     GENERATED ALWAYS AS (pg_catalog.to_tsvector({config}::pg_catalog.regconfig, chunk)) STORED)",
            keys = keys.join(", "),
            dimensions = model.dimensions,
            config = literal(fts_config),
        ),
        // Statistics of more words than the default: they say which words of a question are rare.
        format!("ALTER TABLE {table} ALTER lexemes SET STATISTICS {LEXEME_STATISTICS}"),
        format!("CREATE INDEX ON {table} ({})", key_names.join(", ")),
        format!("COMMENT ON TABLE {table} IS {}", literal(&format!("chunks of {from}.{}", quote(column)))),
        // Whoever may not see a row, or not its text, may not see its chunks. The sub-select runs with the rights and
        // under the policies of whoever asks.
        format!(
            "CREATE POLICY {policy_name} ON {table} FOR SELECT USING (EXISTS (
                 SELECT FROM {from} s WHERE {} AND s.{} IS NOT NULL))",
            same_row.join(" AND "),
            quote(column)
        ),
        format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
        format!("GRANT SELECT ON {table} TO PUBLIC"),
        format!("ALTER TABLE {table} OWNER TO {}", quote(&owner_name(source.oid)?)),
    ];
    owner::as_extension_owner(|| statements.iter().try_for_each(|statement| Spi::run(statement).or_error()))?;
    Ok(table)
}

/// The indexes by which chunks are found. Only the extension's owner may create anything in schema `rag`; no code of a user
/// runs meanwhile.
fn create_search_indexes(chunks: &str, types: &str) -> Result<()> {
    owner::as_extension_owner(|| {
        Spi::run(&format!("CREATE INDEX ON {chunks} USING hnsw (embedding {types}.vector_cosine_ops)")).or_error()?;
        Spi::run(&format!("CREATE INDEX ON {chunks} USING gin (lexemes)")).or_error()
    })
}

/// The text search configuration, qualified: the one that was named, else the session's default.
fn text_search_config(named: Option<pg_sys::Oid>) -> Result<String> {
    let name = catalog::read_one::<String>(
        "SELECT pg_catalog.format('%I.%I', n.nspname, f.cfgname) FROM pg_catalog.pg_ts_config f
           JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) f.cfgnamespace
          WHERE f.oid OPERATOR(pg_catalog.=) coalesce($1, pg_catalog.get_current_ts_config()::pg_catalog.oid)",
        &[named.into()],
    )?;
    name.ok_or_else(|| error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "text search configuration does not exist"))
}

fn owner_name(relation: pg_sys::Oid) -> Result<String> {
    let name = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.pg_get_userbyid(relowner)::text FROM pg_catalog.pg_class
          WHERE oid OPERATOR(pg_catalog.=) $1",
        &[relation.into()],
    );
    Ok(name.or_error()?.unwrap_or_default())
}

/// A name in schema `rag` that is not taken: `<index>_chunks`, or with a number.
fn free_table_name(index: &str) -> Result<String> {
    // Leaves room for the suffixes below in a name of 63 bytes.
    let mut stem = index.to_owned();
    while stem.len() > 48 {
        stem.pop();
    }
    for attempt in 0.. {
        let name = if attempt == 0 { format!("{stem}_chunks") } else { format!("{stem}_chunks_{attempt}") };
        if existing_relation(&format!("rag.{}", quote(&name)))?.is_none() {
            return Ok(name);
        }
    }
    Err(error(PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE, format!("no free name for the chunk table of \"{index}\"")))
}

fn create_view(source: &Source, view: &str, chunks: &str) -> Result<()> {
    let from = format!("{}.{}", quote(&source.schema), quote(&source.table));
    let same_row: Vec<_> = source
        .keys
        .iter()
        .map(|(key, _)| format!("s.{} OPERATOR(pg_catalog.=) c.{}", quote(key), quote(&chunk_key_column(key))))
        .collect();
    let chunk_columns: Vec<_> = source::VIEW_COLUMNS.iter().map(|column| format!("c.{column}")).collect();
    Spi::run(&format!(
        "CREATE VIEW {view} WITH (security_invoker = true) AS
         SELECT s.*, {} FROM {from} s JOIN {chunks} c ON {}",
        chunk_columns.join(", "),
        same_row.join(" AND ")
    ))
    .or_error()
}

#[allow(clippy::too_many_arguments)] // the columns of the catalogue
fn register(
    source: &Source,
    column: &str,
    view: &str,
    chunks: &str,
    model: &Model,
    chunking: &ChunkingArguments,
    template: &str,
    fts_config: &str,
) -> Result<pg_sys::Oid> {
    let keys: Vec<_> = source.keys.iter().map(|(key, _)| key.clone()).collect();
    let view_oid = owner::as_extension_owner(|| {
        Spi::get_one_with_args::<pg_sys::Oid>(
            "INSERT INTO rag.index (index, source, chunks, column_name, key_columns, title_column, model,
                                    strategy, size, overlap, unit, template, fts_config)
             VALUES ($1::pg_catalog.regclass, $2::pg_catalog.oid::pg_catalog.regclass, $3::pg_catalog.regclass,
                     $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::pg_catalog.regconfig)
             RETURNING index::oid",
            &[
                view.into(),
                source.oid.into(),
                chunks.into(),
                column.into(),
                keys.into(),
                source.title_column.clone().into(),
                model.reference.name.as_str().into(),
                chunking.strategy.as_str().into(),
                chunking.size.into(),
                chunking.overlap.into(),
                chunking.unit.as_str().into(),
                template.into(),
                fts_config.into(),
            ],
        )
        .or_error()
    })?;
    view_oid.ok_or_else(|| error(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "index was not registered"))
}

/// Drops the view, the chunk table and the catalogue row.
#[pg_extern(sql = false)]
fn rag_drop_index(index: pg_sys::Oid) -> Result<()> {
    require_writable(c"rag_drop_index()");
    let index = catalog::find(index)?;
    catalog::require_ownership(index.view_oid)?;
    let _quiet = sync::events::Quiet::start();
    owner::as_extension_owner(|| sync::state::lock_to_drop(index.view_oid, Some(&index.chunks)))?;
    if !sync::state::needs_triggers(index.source_oid, Some(index.view_oid))? {
        sync::triggers::remove(index.source_oid)?;
    }
    sync::state::delete(index.view_oid)?;
    Spi::run(&format!("DROP VIEW {}", index.view)).or_error()?;
    owner::as_extension_owner(|| {
        Spi::run_with_args(
            "DELETE FROM rag.index WHERE index::oid OPERATOR(pg_catalog.=) $1",
            &[index.view_oid.into()],
        )
        .or_error()?;
        Spi::run(&format!("DROP TABLE {}", index.chunks)).or_error()
    })
}
