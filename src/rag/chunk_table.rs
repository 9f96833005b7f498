//! What an index consists of: the chunk table with its indexes, and the view that joins it to the source.
//!
//! The chunk table lies in schema `rag`, where users may not create anything: it is created with the rights of the
//! extension's owner and handed to the owner of the source table at once. The view is created as the caller. Called by
//! `rag_create_index` and `rag_reindex`.

use super::definition::Definition;
use crate::error::{error, OrError, Result};
use crate::pg::owner;
use crate::rag::catalog::{self, chunk_key_column, filter_column, literal, quote};
use crate::rag::source::{self, Source, PAGE_COLUMNS, SUMMARY_COLUMN};
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};

/// PostgreSQL keeps the frequencies of ten times as many lexemes.
const LEXEME_STATISTICS: u32 = 200;

/// Creates the chunk table of an index that is called `index`. Returns its qualified name.
pub fn create(definition: &Definition, index: &str) -> Result<String> {
    let source = &definition.source;
    let table = format!("rag.{}", quote(&free_table_name(index)?));
    let from = qualified(source);
    let keys = source.keys.iter().map(|(key, kind)| format!("{} {kind} NOT NULL, ", quote(&chunk_key_column(key))));
    let keys: String = keys.collect();
    let key_names: Vec<_> = source.keys.iter().map(|(key, _)| quote(&chunk_key_column(key))).collect();
    let same_row: Vec<_> = source
        .keys
        .iter()
        .map(|(key, _)| format!("s.{} OPERATOR(pg_catalog.=) {}", quote(key), quote(&chunk_key_column(key))))
        .collect();
    let mut filters = String::new();
    for column in &definition.filter_columns {
        let kind = catalog::column_type(&from, column)?;
        filters.push_str(&format!("{} {kind}, ", quote(&filter_column(column))));
    }
    let text = quote(&definition.column);
    let policy_name = "visible_with_source_row";
    let statements = [
        format!(
            "CREATE TABLE {table} (
                 chunk_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 {keys}
                 chunk_seq integer NOT NULL,
                 chunk text NOT NULL,
                 char_start integer NOT NULL,
                 char_end integer NOT NULL,
                 tokens integer NOT NULL,
                 headings text[] NOT NULL,
                 page integer,
                 last_page integer,
                 {filters}
                 source_hash bytea NOT NULL,
                 chunk_hash bytea NOT NULL,
                 summary_hash bytea,
                 embedding {types}.vector({dimensions}) NOT NULL,
                 lexemes tsvector NOT NULL
                     GENERATED ALWAYS AS (pg_catalog.to_tsvector({config}::pg_catalog.regconfig, chunk)) STORED)",
            types = catalog::extension_schema()?,
            dimensions = definition.model.dimensions,
            config = literal(&definition.fts_config),
        ),
        // Statistics of more words than the default: they say which words of a question are rare.
        format!("ALTER TABLE {table} ALTER lexemes SET STATISTICS {LEXEME_STATISTICS}"),
        format!("CREATE INDEX ON {table} ({})", key_names.join(", ")),
        format!(
            "COMMENT ON COLUMN {table}.summary_hash IS 'of the page that the chunk is a summary of; NULL: a piece of the text'"
        ),
        format!("COMMENT ON TABLE {table} IS {}", literal(&format!("chunks of {from}.{text}"))),
        // Whoever may not see a row, or not its text, may not see its chunks. The sub-select runs with the rights and
        // under the policies of whoever asks.
        format!(
            "CREATE POLICY {policy_name} ON {table} FOR SELECT USING (EXISTS (
                 SELECT FROM {from} s WHERE {} AND s.{text} IS NOT NULL))",
            same_row.join(" AND "),
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
pub fn create_search_indexes(definition: &Definition, chunks: &str) -> Result<()> {
    let types = catalog::extension_schema()?;
    let filters = definition.filter_columns.iter().map(|column| format!(", {}", quote(&filter_column(column))));
    let filters: String = filters.collect();
    owner::as_extension_owner(|| {
        let vectors = format!("CREATE INDEX ON {chunks} USING hnsw (embedding {types}.vector_cosine_ops{filters})");
        Spi::run(&vectors).or_error()?;
        Spi::run(&format!("CREATE INDEX ON {chunks} USING gin (lexemes)")).or_error()
    })
}

/// The query that joins the rows of the source to their chunks.
///
/// It says of `embedding` only that it is a vector, not of how many dimensions: so it can be replaced by that of an index with
/// another model.
fn view_query(definition: &Definition, chunks: &str) -> Result<String> {
    let source = &definition.source;
    let types = catalog::extension_schema()?;
    let pages: &[&str] = if definition.pages_column.is_some() { &PAGE_COLUMNS } else { &[] };
    let summary: &[&str] = if definition.summaries.is_some() { &[SUMMARY_COLUMN] } else { &[] };
    let columns = source::VIEW_COLUMNS.iter().chain(pages).chain(summary).map(|column| match *column {
        "embedding" => format!("c.embedding::{types}.vector AS embedding"),
        SUMMARY_COLUMN => format!("c.summary_hash IS NOT NULL AS {SUMMARY_COLUMN}"),
        column => format!("c.{column}"),
    });
    let same_row = source
        .keys
        .iter()
        .map(|(key, _)| format!("s.{} OPERATOR(pg_catalog.=) c.{}", quote(key), quote(&chunk_key_column(key))));
    Ok(format!(
        "SELECT s.*, {} FROM {} s JOIN {chunks} c ON {}",
        columns.collect::<Vec<_>>().join(", "),
        qualified(source),
        same_row.chain(definition.where_sql.clone()).collect::<Vec<_>>().join(" AND ")
    ))
}

pub fn create_view(definition: &Definition, view: &str, chunks: &str) -> Result<()> {
    let query = view_query(definition, chunks)?;
    Spi::run(&format!("CREATE VIEW {view} WITH (security_invoker = true) AS {query}")).or_error()
}

fn qualified(source: &Source) -> String {
    format!("{}.{}", quote(&source.schema), quote(&source.table))
}

fn owner_name(relation: pg_sys::Oid) -> Result<String> {
    let name = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.pg_get_userbyid(relowner)::text FROM pg_catalog.pg_class
          WHERE oid OPERATOR(pg_catalog.=) $1",
        &[relation.into()],
    );
    Ok(name.or_error()?.unwrap_or_default())
}

/// The relation of this qualified, quoted name, if there is one.
pub fn existing_relation(name: &str) -> Result<Option<pg_sys::Oid>> {
    Spi::get_one_with_args::<pg_sys::Oid>("SELECT pg_catalog.to_regclass($1)::oid", &[name.into()]).or_error()
}

/// A name in schema `rag` that is not taken: `<index>_chunks`, or with a number.
fn free_table_name(index: &str) -> Result<String> {
    free_name("rag", index, "chunks")
}

/// `<stem>_<suffix>`, or with a number, so that no relation of that schema has the name.
pub fn free_name(schema: &str, stem: &str, suffix: &str) -> Result<String> {
    // Leaves room for what is appended in a name of 63 bytes.
    let mut stem = stem.to_owned();
    while stem.len() > 48 {
        stem.pop();
    }
    for attempt in 0.. {
        let name = if attempt == 0 { format!("{stem}_{suffix}") } else { format!("{stem}_{suffix}_{attempt}") };
        if existing_relation(&format!("{}.{}", quote(schema), quote(&name)))?.is_none() {
            return Ok(name);
        }
    }
    Err(error(PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE, format!("no free name for \"{stem}_{suffix}\"")))
}
