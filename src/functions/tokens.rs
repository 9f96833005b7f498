//! `tokenize`, `detokenize`, `token_count`, and `html_to_markdown`.

use crate::error::{error, invalid_parameter, unexpected_response, Result};
use crate::models::catalog::{self, Model};
use crate::server::client;
use pg_rag_protocol::message::{Request, Response, TokenizedText};
use pgrx::prelude::*;
use pgrx::PgSqlErrorCode;
use std::rc::Rc;

/// The named model of either kind, or the default embedding model.
fn model(name: Option<&str>) -> Result<Rc<Model>> {
    match name {
        Some(name) => catalog::lookup(name),
        None => catalog::embedding(None),
    }
}

/// Tokens of each text, in one round trip. Nothing is added around the texts.
pub fn tokenize_all(model: &Model, texts: Vec<String>) -> Result<Vec<TokenizedText>> {
    let expected = texts.len();
    let request = Request::Tokenize { model: model.reference.clone(), texts, add_special: false };
    match client::call(&request)? {
        Response::Tokens(tokens) if tokens.len() == expected => Ok(tokens),
        _ => Err(unexpected_response("one list of tokens for each text")),
    }
}

fn tokenize_one(input: &str, model: &Model) -> Result<TokenizedText> {
    let tokens = tokenize_all(model, vec![input.to_owned()])?;
    Ok(tokens.into_iter().next().unwrap_or_default())
}

#[pg_extern(sql = false)]
fn tokenize(input: Option<&str>, model: Option<&str>) -> Result<Option<Vec<i32>>> {
    let Some(input) = input else { return Ok(None) };
    let model = self::model(model)?;
    if model.reference.remote.is_some() {
        let name = &model.reference.name;
        return Err(error(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("model \"{name}\" runs elsewhere: its vocabulary is not here"),
        )
        .set_hint("token_count() estimates how many tokens a text has."));
    }
    Ok(Some(tokenize_one(input, &model)?.ids.into_iter().map(|id| id as i32).collect()))
}

#[pg_extern(sql = false)]
fn token_count(input: Option<&str>, model: Option<&str>) -> Result<Option<i32>> {
    let Some(input) = input else { return Ok(None) };
    Ok(Some(tokenize_one(input, &*self::model(model)?)?.ids.len() as i32))
}

#[pg_extern(sql = false)]
fn detokenize(tokens: Option<Vec<Option<i32>>>, model_name: Option<&str>) -> Result<Option<String>> {
    let Some(tokens) = tokens else { return Ok(None) };
    let ids = tokens
        .into_iter()
        .map(|token| match token {
            Some(id) => u32::try_from(id).map_err(|_| invalid_parameter(format!("token id {id} is negative"))),
            None => Err(invalid_parameter("array of token ids must not contain nulls")),
        })
        .collect::<Result<Vec<u32>>>()?;
    let model = model(model_name)?;
    match client::call(&Request::Detokenize { model: model.reference.clone(), ids })? {
        Response::Texts(texts) => Ok(texts.into_iter().next()),
        _ => Err(unexpected_response("a text")),
    }
}

#[pg_extern(sql = false)]
fn html_to_markdown(html: &str) -> Result<String> {
    let texts = html_to_markdown_all(vec![html.to_owned()])?;
    texts.into_iter().next().ok_or_else(|| unexpected_response("a text"))
}

/// Markdown of each HTML document, in one round trip. The parser runs in the server process, not in this one.
pub fn html_to_markdown_all(html: Vec<String>) -> Result<Vec<String>> {
    let expected = html.len();
    match client::call(&Request::HtmlToMarkdown { html })? {
        Response::Texts(texts) if texts.len() == expected => Ok(texts),
        _ => Err(unexpected_response("one text for each document")),
    }
}
