//! Words of texts, as a text search configuration sees them.

use crate::error::{error, OrError, Result};
use pg_rag_engine::lexical::lexemes::{self, Lexeme, NotATsvector};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::PgSqlErrorCode;

/// The lexemes of each text in wire form, in one round trip; [`decode`] reads them.
pub fn of_texts(fts_config: &str, texts: Vec<String>) -> Result<Vec<Vec<u8>>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let query = "SELECT pg_catalog.tsvectorsend(pg_catalog.to_tsvector($1::pg_catalog.regconfig, t.text))
                   FROM pg_catalog.unnest($2::pg_catalog.text[]) WITH ORDINALITY t(text, place) ORDER BY t.place";
    Spi::connect(|client| {
        let rows = client.select(query, None, &[fts_config.into(), texts.into()]).or_error()?;
        rows.into_iter().map(|row| Ok(row.get::<Vec<u8>>(1).or_error()?.unwrap_or_default())).collect()
    })
}

/// The lexemes in a value of [`of_texts`], or of `tsvectorsend`.
pub fn decode(bytes: &[u8]) -> Result<Vec<Lexeme<'_>>> {
    lexemes::decode(bytes).map_err(damaged)
}

/// Calls `visit` with the lexemes in such a value.
pub fn for_each<'a>(bytes: &'a [u8], visit: impl FnMut(Lexeme<'a>)) -> Result<()> {
    lexemes::for_each(bytes, visit).map_err(damaged)
}

fn damaged(failure: NotATsvector) -> ErrorReport {
    error(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, failure.to_string())
}
