//! What an index is defined by: the arguments of `rag_create_index`, checked, and how they are kept in `rag.index`.

use crate::error::{error, invalid_parameter, OrError, Result};
use crate::functions::chunk::Chunking;
use crate::functions::summarize;
use crate::models::catalog::{self as models, Model};
use crate::pg::{condition, owner};
use crate::rag::catalog::{self, Summaries};
use crate::rag::source::{self, Source};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgSqlErrorCode};
use std::rc::Rc;

/// Tokens that a model puts around a text (`[CLS]`, `[SEP]`) and that a template may add: kept free in a chunk.
const RESERVED_TOKENS: i32 = 16;

/// Default and largest chunk when the model would take more.
const DEFAULT_CHUNK_TOKENS: i32 = 200;

/// Most columns that are copied: each takes room in every chunk and in the index over them.
const MAX_FILTER_COLUMNS: usize = 16;

/// How an index cuts its texts.
#[derive(Clone, Debug)]
pub struct ChunkingArguments {
    pub strategy: String,
    pub size: i32,
    pub overlap: i32,
    pub unit: String,
}

impl ChunkingArguments {
    /// The argument `chunking`.
    pub fn parse(json: &JsonB, model: &Model) -> Result<Self> {
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
        arguments.check(model)?;
        Ok(arguments)
    }

    /// Whether such chunks can be made, and the model takes them.
    pub fn check(&self, model: &Model) -> Result<()> {
        // "auto" decides for each document; any strategy stands for it in the check of the numbers.
        let strategy = if self.strategy == "auto" { "recursive" } else { &self.strategy };
        Chunking::new(strategy, self.size, self.overlap, &self.unit)?;
        if self.unit == "token" && self.size > model.max_tokens as i32 {
            return Err(invalid_parameter(format!(
                "chunk size of {} tokens is more than the {} tokens that model \"{}\" takes",
                self.size, model.max_tokens, model.reference.name
            )));
        }
        Ok(())
    }
}

/// The definition of an index, as it is to be created.
#[derive(Debug)]
pub struct Definition {
    pub source: Source,
    /// The text column.
    pub column: String,
    pub model: Rc<Model>,
    pub chunking: ChunkingArguments,
    pub template: String,
    /// The text search configuration, qualified.
    pub fts_config: String,
    /// Which rows are indexed, over `s`; in parentheses.
    pub where_sql: Option<String>,
    pub filter_columns: Vec<String>,
    pub pages_column: Option<String>,
    pub summaries: Option<Summaries>,
    /// The index whose place this one is to take.
    pub replaces: Option<pg_sys::Oid>,
}

impl Definition {
    /// Enters the index of this view and chunk table into the catalogue.
    pub fn register(&self, view: &str, chunks: &str) -> Result<pg_sys::Oid> {
        let keys: Vec<_> = self.source.keys.iter().map(|(key, _)| key.clone()).collect();
        let view_oid = owner::as_extension_owner(|| {
            Spi::get_one_with_args::<pg_sys::Oid>(
                "INSERT INTO rag.index (index, source, chunks, column_name, key_columns, title_column, model, strategy, size,
                                        overlap, unit, template, fts_config, where_sql, filter_columns, pages_column, replaces,
                                        summary_model, summary_max_words)
                 VALUES ($1::pg_catalog.regclass, $2::pg_catalog.oid::pg_catalog.regclass, $3::pg_catalog.regclass,
                         $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::pg_catalog.regconfig, $14, $15::name[], $16,
                         $17::pg_catalog.oid::pg_catalog.regclass, $18, $19)
                 RETURNING index::oid",
                &[
                    view.into(),
                    self.source.oid.into(),
                    chunks.into(),
                    self.column.as_str().into(),
                    keys.into(),
                    self.source.title_column.clone().into(),
                    self.model.reference.name.as_str().into(),
                    self.chunking.strategy.as_str().into(),
                    self.chunking.size.into(),
                    self.chunking.overlap.into(),
                    self.chunking.unit.as_str().into(),
                    self.template.as_str().into(),
                    self.fts_config.as_str().into(),
                    self.where_sql.clone().into(),
                    self.filter_columns.clone().into(),
                    self.pages_column.clone().into(),
                    self.replaces.into(),
                    self.summaries.as_ref().map(|summaries| summaries.model.clone()).into(),
                    self.summaries.as_ref().map(|summaries| summaries.max_words).into(),
                ],
            )
            .or_error()
        })?;
        view_oid.ok_or_else(|| error(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "index was not registered"))
    }
}

/// The argument `where_sql`: one condition over the columns of the table, or none.
pub fn row_condition(source: &Source, where_sql: Option<&str>) -> Result<Option<String>> {
    where_sql.map(|text| condition::of_index(source.oid, text).map(|condition| condition.text)).transpose()
}

/// The argument `filter_columns`: columns of the table, each once.
pub fn filter_columns(source: &Source, named: &[Option<String>]) -> Result<Vec<String>> {
    if named.len() > MAX_FILTER_COLUMNS {
        return Err(invalid_parameter(format!("an index has at most {MAX_FILTER_COLUMNS} filter columns")));
    }
    let columns = source::columns(source.oid)?;
    let mut found: Vec<String> = Vec::with_capacity(named.len());
    for name in named {
        let name = name.as_ref().ok_or_else(|| invalid_parameter("filter_columns must not contain NULL"))?;
        if !columns.iter().any(|(own, _)| own == name) {
            return Err(no_such_column(name, &source.table));
        }
        if found.contains(name) {
            return Err(invalid_parameter(format!("filter_columns names column \"{name}\" twice")));
        }
        found.push(name.clone());
    }
    Ok(found)
}

/// The argument `pages_column`: a column of type `jsonb`, or none.
pub fn pages_column(source: &Source, named: Option<&str>) -> Result<Option<String>> {
    let Some(name) = named else { return Ok(None) };
    let columns = source::columns(source.oid)?;
    let Some((_, kind)) = columns.iter().find(|(own, _)| own == name) else {
        return Err(no_such_column(name, &source.table));
    };
    if kind != "jsonb" {
        return Err(error(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{name}\" of relation \"{}\" is of type {kind}, but must be jsonb", source.table),
        )
        .set_hint("It holds where pages start: [{\"page\": 1, \"start\": 0}, …]; rag_ingest() writes such."));
    }
    if let Some(taken) = source::PAGE_COLUMNS.iter().find(|taken| columns.iter().any(|(own, _)| own == *taken)) {
        return Err(source::taken_column(&source.table, taken));
    }
    Ok(Some(name.to_owned()))
}

/// The arguments `summarize`, `summary_model` and `summary_max_words`.
pub fn summaries(source: &Source, wanted: bool, model: Option<&str>, max_words: i32) -> Result<Option<Summaries>> {
    summarize::check_words("summary_max_words", max_words)?;
    if !wanted {
        return match model {
            Some(_) => Err(invalid_parameter("summary_model needs summarize => true")),
            None => Ok(None),
        };
    }
    let model = models::generation(model)?.reference.name.clone();
    if source::columns(source.oid)?.iter().any(|(own, _)| own == source::SUMMARY_COLUMN) {
        return Err(source::taken_column(&source.table, source::SUMMARY_COLUMN));
    }
    Ok(Some(Summaries { model, max_words }))
}

fn no_such_column(name: &str, table: &str) -> ErrorReport {
    let message = format!("column \"{name}\" of relation \"{table}\" does not exist");
    error(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, message)
}

/// The text search configuration, qualified: the one that was named, else the session's default.
pub fn text_search_config(named: Option<pg_sys::Oid>) -> Result<String> {
    let name = catalog::read_one::<String>(
        "SELECT pg_catalog.format('%I.%I', n.nspname, f.cfgname) FROM pg_catalog.pg_ts_config f
           JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) f.cfgnamespace
          WHERE f.oid OPERATOR(pg_catalog.=) coalesce($1, pg_catalog.get_current_ts_config()::pg_catalog.oid)",
        &[named.into()],
    )?;
    name.ok_or_else(|| error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "text search configuration does not exist"))
}
