//! `extract_text`, `extract_pages`, `extract_properties`: documents as they are stored, to text.
//!
//! The document is read by a process of the model server, never in this one. It is measured before it is fetched: one
//! that is too large costs nothing.

use crate::error::{error, unexpected_response, Result};
use crate::pg::bytea::Bytea;
use crate::server::client;
use pg_rag_protocol::document::{Bytes, ExtractOptions, ExtractedDocument, ExtractedPage, MAX_DOCUMENT_BYTES};
use pg_rag_protocol::message::{Request, Response};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::JsonB;

/// Reads a document. What could not be read of it is told in notices.
pub fn extract(document: &Bytea, kind: Option<&str>, encoding: Option<&str>) -> Result<ExtractedDocument> {
    check_size(document.size_bytes())?;
    extract_bytes(document.to_vec(), kind, encoding)
}

/// Fails for a document that is too large to be read.
pub fn check_size(bytes: usize) -> Result<()> {
    if bytes <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    let message = format!("document of {bytes} bytes is larger than the limit of {MAX_DOCUMENT_BYTES} bytes");
    Err(error(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message).set_hint("Split the document."))
}

/// The same for bytes that are in memory already.
pub fn extract_bytes(document: Vec<u8>, kind: Option<&str>, encoding: Option<&str>) -> Result<ExtractedDocument> {
    let options =
        ExtractOptions { kind: kind.map(str::to_owned), encoding: encoding.map(str::to_owned), time_limit_ms: 0 };
    let request = Request::Extract { document: Bytes(document), options, caller: client::caller() };
    match client::call(&request)? {
        Response::Document(document) => {
            for notice in &document.notices {
                pgrx::notice!("{notice}");
            }
            Ok(document)
        }
        _ => Err(unexpected_response("a document")),
    }
}

/// The text of all pages.
pub fn text_of(document: ExtractedDocument) -> String {
    let texts: Vec<String> = document.pages.into_iter().map(|page| page.text).filter(|text| !text.is_empty()).collect();
    texts.join("\n")
}

/// The titles of a page's headings, with their level in front as Markdown has it.
fn headings_of(page: &ExtractedPage) -> Vec<String> {
    let mark = |level: u8| "#".repeat(usize::from(level.clamp(1, 6)));
    page.headings.iter().map(|heading| format!("{} {}", mark(heading.level), heading.title)).collect()
}

#[pg_extern(sql = false)]
fn extract_text(document: Option<Bytea<'_>>, kind: Option<&str>, encoding: Option<&str>) -> Result<Option<String>> {
    let Some(document) = document else { return Ok(None) };
    Ok(Some(text_of(extract(&document, kind, encoding)?)))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns of the SQL function
fn extract_pages(
    document: Option<Bytea<'_>>,
    kind: Option<&str>,
    encoding: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (name!(page, i32), name!(name, Option<String>), name!(headings, Vec<String>), name!(content, String)),
    >,
> {
    let Some(document) = document else { return Ok(TableIterator::empty()) };
    let pages = extract(&document, kind, encoding)?.pages;
    Ok(TableIterator::new(pages.into_iter().map(|page| {
        let headings = headings_of(&page);
        (page.number as i32, page.name, headings, page.text)
    })))
}

#[pg_extern(sql = false)]
fn extract_properties(
    document: Option<Bytea<'_>>,
    kind: Option<&str>,
    encoding: Option<&str>,
) -> Result<Option<JsonB>> {
    let Some(document) = document else { return Ok(None) };
    let document = extract(&document, kind, encoding)?;
    let mut properties = serde_json::Map::new();
    properties.insert("type".into(), document.kind.into());
    properties.insert("pages".into(), document.pages.len().into());
    for (name, value) in [
        ("title", document.title),
        ("author", document.author),
        ("subject", document.subject),
        ("language", document.language),
        ("created", document.created),
    ] {
        if let Some(value) = value {
            properties.insert(name.into(), value.into());
        }
    }
    Ok(Some(JsonB(properties.into())))
}
