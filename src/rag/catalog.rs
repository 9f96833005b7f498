//! Rows of `rag.index`.

use crate::error::{error, invalid_parameter, OrError, Result};
use crate::gucs;
use crate::pg::condition;
use crate::rag::source;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{pg_sys, FromDatum, IntoDatum, PgSqlErrorCode};

/// How an index has its pages summarised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summaries {
    /// The model that writes them.
    pub model: String,
    pub max_words: i32,
}

/// An index as registered. Names of relations are qualified and quoted, ready to be put into a statement.
#[derive(Clone, Debug)]
pub struct Index {
    /// The view, whose regclass identifies the index.
    pub view_oid: pg_sys::Oid,
    pub view: String,
    pub source_oid: pg_sys::Oid,
    pub source: String,
    pub chunks: String,
    pub column: String,
    pub key_columns: Vec<String>,
    pub title_column: Option<String>,
    pub model: String,
    pub strategy: String,
    pub size: i32,
    pub overlap: i32,
    pub unit: String,
    pub template: String,
    /// The text search configuration, qualified.
    pub fts_config: String,
    /// Which rows are indexed, over `s`; in parentheses.
    pub where_sql: Option<String>,
    /// Columns of the source of which the chunk table has copies.
    pub filter_columns: Vec<String>,
    /// Column that tells where the pages of the text start.
    pub pages_column: Option<String>,
    /// Summaries of its pages, if it has some.
    pub summaries: Option<Summaries>,
    /// The index whose place this one takes when it is complete.
    pub replaces: Option<pg_sys::Oid>,
}

impl Index {
    /// `s."id" = c."source_id" AND …`: joins the chunk table to those rows of the source that are indexed.
    pub fn join_condition(&self) -> String {
        let pairs = self
            .key_columns
            .iter()
            .map(|key| format!("s.{} OPERATOR(pg_catalog.=) c.{}", quote(key), quote(&chunk_key_column(key))));
        pairs.chain(self.where_sql.clone()).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether a row `s` has chunks: it has a text and is not left out.
    pub fn row_condition(&self) -> String {
        let has_text = format!("s.{} OPERATOR(pg_catalog.~) '\\S'", quote(&self.column));
        std::iter::once(has_text).chain(self.where_sql.clone()).collect::<Vec<_>>().join(" AND ")
    }

    /// Columns of the source and their copies in the chunk table.
    pub fn filter_copies(&self) -> Vec<(String, String)> {
        self.filter_columns.iter().map(|column| (column.clone(), filter_column(column))).collect()
    }

    /// All columns of the source that decide what its chunks are, the text first.
    pub fn watched_columns(&self) -> Result<Vec<String>> {
        let template = source::template_columns(&self.template, self.source_oid)?;
        let condition = match &self.where_sql {
            Some(text) => condition::of_index_again(self.source_oid, text, &[])?.columns,
            None => Vec::new(),
        };
        let others =
            template.into_iter().chain(self.filter_columns.clone()).chain(self.pages_column.clone()).chain(condition);
        let mut columns = vec![self.column.clone()];
        for column in others {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        Ok(columns)
    }
}

/// Name of the chunk table's copy of a column of the source table.
pub fn filter_column(column: &str) -> String {
    format!("filter_{column}")
}

/// Name of the chunk table's column that refers to `key` of the source table.
pub fn chunk_key_column(key: &str) -> String {
    format!("source_{key}")
}

/// A name, quoted if needed.
pub fn quote(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}

/// A string literal.
pub fn literal(text: &str) -> String {
    pgrx::spi::quote_literal(text)
}

/// The single value of a query that only reads. Unlike `Spi::get_one`, it assigns no transaction id, so it works on a
/// standby.
pub fn read_one<T: FromDatum + IntoDatum>(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<Option<T>> {
    Spi::connect(|client| {
        let rows = client.select(query, Some(1), arguments).or_error()?;
        match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<T>().or_error(),
        }
    })
}

/// Schema that holds the extension's functions and types, quoted.
pub fn extension_schema() -> Result<String> {
    read_one::<String>(
        "SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_extension e
           JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
          WHERE e.extname OPERATOR(pg_catalog.=) 'pg_rag'",
        &[],
    )?
    .map(|name| quote(&name))
    .ok_or_else(|| error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "extension \"pg_rag\" is not installed"))
}

const COLUMNS: &str = "i.index::oid, i.source::oid, i.column_name::text, i.key_columns::text[], i.title_column::text,
    i.model, i.strategy, i.size, i.overlap, i.unit, i.template,
    pg_catalog.format('%I.%I', vn.nspname, v.relname), pg_catalog.format('%I.%I', sn.nspname, s.relname),
    pg_catalog.format('%I.%I', cn.nspname, c.relname), pg_catalog.format('%I.%I', fn.nspname, f.cfgname),
    i.where_sql, i.filter_columns::text[], i.pages_column::text, i.replaces::oid,
    i.summary_model, i.summary_max_words";

const TABLES: &str = "rag.index i
    JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) i.index
    JOIN pg_catalog.pg_namespace vn ON vn.oid OPERATOR(pg_catalog.=) v.relnamespace
    JOIN pg_catalog.pg_class s ON s.oid OPERATOR(pg_catalog.=) i.source
    JOIN pg_catalog.pg_namespace sn ON sn.oid OPERATOR(pg_catalog.=) s.relnamespace
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.chunks
    JOIN pg_catalog.pg_namespace cn ON cn.oid OPERATOR(pg_catalog.=) c.relnamespace
    JOIN pg_catalog.pg_ts_config f ON f.oid OPERATOR(pg_catalog.=) i.fts_config
    JOIN pg_catalog.pg_namespace fn ON fn.oid OPERATOR(pg_catalog.=) f.cfgnamespace";

fn select(condition: &str, oid: Option<pg_sys::Oid>) -> Result<Vec<Index>> {
    Spi::connect(|client| {
        let query = format!("SELECT {COLUMNS} FROM {TABLES} WHERE {condition} ORDER BY 12");
        let arguments: Vec<_> = oid.into_iter().map(Into::into).collect();
        let rows = client.select(query.as_str(), None, &arguments).or_error()?;
        rows.into_iter()
            .map(|row| {
                let text =
                    |ordinal| -> Result<String> { Ok(row.get::<String>(ordinal).or_error()?.unwrap_or_default()) };
                let number = |ordinal| -> Result<i32> { Ok(row.get::<i32>(ordinal).or_error()?.unwrap_or_default()) };
                let oid = |ordinal| -> Result<pg_sys::Oid> {
                    Ok(row.get::<pg_sys::Oid>(ordinal).or_error()?.unwrap_or(pg_sys::InvalidOid))
                };
                Ok(Index {
                    view_oid: oid(1)?,
                    source_oid: oid(2)?,
                    column: text(3)?,
                    key_columns: row.get::<Vec<String>>(4).or_error()?.unwrap_or_default(),
                    title_column: row.get::<String>(5).or_error()?,
                    model: text(6)?,
                    strategy: text(7)?,
                    size: number(8)?,
                    overlap: number(9)?,
                    unit: text(10)?,
                    template: text(11)?,
                    view: text(12)?,
                    source: text(13)?,
                    chunks: text(14)?,
                    fts_config: text(15)?,
                    where_sql: row.get::<String>(16).or_error()?,
                    filter_columns: row.get::<Vec<String>>(17).or_error()?.unwrap_or_default(),
                    pages_column: row.get::<String>(18).or_error()?,
                    replaces: row.get::<pg_sys::Oid>(19).or_error()?,
                    summaries: match (row.get::<String>(20).or_error()?, row.get::<i32>(21).or_error()?) {
                        (Some(model), Some(max_words)) => Some(Summaries { model, max_words }),
                        _ => None,
                    },
                })
            })
            .collect()
    })
}

/// The index whose view is `view`.
pub fn find(view: pg_sys::Oid) -> Result<Index> {
    let found = select("i.index OPERATOR(pg_catalog.=) $1", Some(view))?;
    found.into_iter().next().ok_or_else(|| {
        let name = relation_name(view);
        error(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{name}\" is not a RAG index"))
            .set_hint("List the indexes with: SELECT index FROM rag_indexes. Create one with rag_create_index().")
    })
}

/// The index that a call reads: the one it names, else `pg_rag.default_index`, else the only one there is.
pub fn resolve(named: Option<pg_sys::Oid>) -> Result<Index> {
    if let Some(view) = named {
        return find(view);
    }
    let default = gucs::default_index();
    if !default.is_empty() {
        let view = read_one::<pg_sys::Oid>("SELECT pg_catalog.to_regclass($1)::oid", &[default.as_str().into()])?;
        return match view {
            Some(view) => find(view),
            None => Err(error(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                format!("index \"{default}\", which \"pg_rag.default_index\" names, does not exist"),
            )
            .set_hint("List the indexes with: SELECT index FROM rag_indexes.")),
        };
    }
    // One that is being built to take another's place is meant only where it is named.
    let mut all = select("i.replaces IS NULL", None)?;
    match (all.pop(), all.len()) {
        (None, _) => Err(error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "there is no RAG index in this database")
            .set_hint("Create one with: SELECT rag_create_index('your_table', 'text_column').")),
        (Some(only), 0) => Ok(only),
        (Some(last), _) => {
            let names: Vec<_> = all.iter().map(|index| index.view.clone()).chain([last.view]).collect();
            Err(error(PgSqlErrorCode::ERRCODE_AMBIGUOUS_ALIAS, "several RAG indexes exist and none was named")
                .set_detail(format!("Indexes: {}.", names.join(", ")))
                .set_hint("Name one with index => '…', or set \"pg_rag.default_index\"."))
        }
    }
}

/// Indexes that are being built to take the place of this one: one at most, unless somebody wrote to the catalogue.
pub fn replacements(view: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let found = read_one::<Vec<pg_sys::Oid>>(
        "SELECT pg_catalog.array_agg(i.index::oid) FROM rag.index i WHERE i.replaces::oid OPERATOR(pg_catalog.=) $1",
        &[view.into()],
    )?;
    Ok(found.unwrap_or_default())
}

/// Schema and name of a relation.
pub fn relation_names(relation: pg_sys::Oid) -> Result<(String, String)> {
    let names = read_one::<Vec<String>>(
        "SELECT ARRAY[n.nspname::text, c.relname::text] FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
          WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[relation.into()],
    )?;
    match names.as_deref() {
        Some([schema, name]) => Ok((schema.clone(), name.clone())),
        _ => Err(error(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("relation {relation} does not exist"))),
    }
}

/// Type of a column, as a cast writes it.
pub fn column_type(table: &str, column: &str) -> Result<String> {
    read_one::<String>(
        "SELECT pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
          WHERE attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.regclass AND attname OPERATOR(pg_catalog.=) $2::name",
        &[table.into(), column.into()],
    )?
    .ok_or_else(|| {
        error(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, format!("column \"{column}\" of {table} does not exist"))
    })
}

/// Name of a relation for a message; its oid if it is gone.
pub fn relation_name(relation: pg_sys::Oid) -> String {
    read_one::<String>("SELECT $1::pg_catalog.regclass::pg_catalog.text", &[relation.into()])
        .ok()
        .flatten()
        .unwrap_or_else(|| relation.to_u32().to_string())
}

/// Fails unless the current user owns `relation`.
pub fn require_ownership(relation: pg_sys::Oid) -> Result<()> {
    if crate::pg::owner::owns_relation(relation) {
        return Ok(());
    }
    Err(error(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("must be owner of relation {}", relation_name(relation)),
    ))
}

/// Checks a number that counts results.
pub fn require_count(name: &str, value: i32, most: i32) -> Result<i64> {
    if (1..=most).contains(&value) {
        Ok(i64::from(value))
    } else {
        Err(invalid_parameter(format!("{name} must be between 1 and {most}, not {value}")))
    }
}
