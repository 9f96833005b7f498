//! The SQL functions: `rag_ask`, `rag_answer`, `rag_answer_stream`, `rag_answer_from`, `rag_prompt`, and the end of `rag_answer_agg`.

use super::history::History;
use super::{answer_from, ask, ask_stream, templates, AnswerSpec, Question};
use crate::error::{required, Result};
use crate::models::catalog as models;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB};

/// `k`, `mode`, `where_sql`, `where_args`, `min_score`, `rerank_model` and `neighbors` as SQL gives them.
type Search<'a> =
    (Option<i32>, Option<&'a str>, Option<&'a str>, Option<JsonB>, Option<f32>, Option<&'a str>, Option<i32>);
/// `model`, `template`, `max_context_tokens`, `max_tokens`, `temperature` and `seed` as SQL gives them.
type Generation<'a> = (Option<&'a str>, Option<&'a str>, Option<i32>, Option<i32>, Option<f32>, Option<i64>);

/// The arguments that all functions which answer out of an index share.
fn question_of<'a>(
    question: &'a str,
    index: Option<pg_sys::Oid>,
    (k, mode, where_sql, where_args, min_score, rerank_model, neighbors): Search<'a>,
    (model, template, max_context_tokens, max_tokens, temperature, seed): Generation<'a>,
    context_sentences: Option<i32>,
    history: Option<JsonB>,
) -> Result<Question<'a>> {
    Ok(Question {
        question,
        index,
        k: required("k", k)?,
        mode: required("mode", mode)?,
        where_sql,
        where_args,
        min_score,
        rerank_model,
        neighbors: required("neighbors", neighbors)?,
        context_sentences,
        history: history.as_ref().map(History::parse).transpose()?,
        model,
        template: templates::resolve(template)?,
        max_context_tokens,
        max_tokens: required("max_tokens", max_tokens)?,
        temperature: required("temperature", temperature)?,
        seed,
    })
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)] // arguments and columns of the SQL function
fn rag_ask(
    question: Option<&str>,
    index: Option<pg_sys::Oid>,
    k: Option<i32>,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    seed: Option<i64>,
    min_score: Option<f32>,
    mode: Option<&str>,
    context_sentences: Option<i32>,
    rerank_model: Option<&str>,
    neighbors: Option<i32>,
    history: Option<JsonB>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(answer, String),
            name!(citations, JsonB),
            name!(sources, JsonB),
            name!(grounded, bool),
            name!(usage, JsonB),
        ),
    >,
> {
    let Some(question) = question else { return Ok(TableIterator::empty()) };
    let answer = ask(question_of(
        question,
        index,
        (k, mode, where_sql, where_args, min_score, rerank_model, neighbors),
        (model, template, max_context_tokens, max_tokens, temperature, seed),
        context_sentences,
        history,
    )?)?;
    Ok(TableIterator::once((
        answer.text,
        JsonB(answer.citations),
        JsonB(answer.sources),
        answer.grounded,
        JsonB(answer.usage),
    )))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn rag_answer(
    question: Option<&str>,
    index: Option<pg_sys::Oid>,
    k: Option<i32>,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    seed: Option<i64>,
    min_score: Option<f32>,
    mode: Option<&str>,
    context_sentences: Option<i32>,
    rerank_model: Option<&str>,
    neighbors: Option<i32>,
    history: Option<JsonB>,
) -> Result<Option<String>> {
    let Some(question) = question else { return Ok(None) };
    let answer = ask(question_of(
        question,
        index,
        (k, mode, where_sql, where_args, min_score, rerank_model, neighbors),
        (model, template, max_context_tokens, max_tokens, temperature, seed),
        context_sentences,
        history,
    )?)?;
    Ok(Some(answer.text))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn rag_answer_stream(
    question: Option<&str>,
    index: Option<pg_sys::Oid>,
    k: Option<i32>,
    where_sql: Option<&str>,
    where_args: Option<JsonB>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    seed: Option<i64>,
    min_score: Option<f32>,
    mode: Option<&str>,
    context_sentences: Option<i32>,
    rerank_model: Option<&str>,
    neighbors: Option<i32>,
    history: Option<JsonB>,
) -> Result<SetOfIterator<'static, String>> {
    let Some(question) = question else { return Ok(SetOfIterator::empty()) };
    let pieces = ask_stream(question_of(
        question,
        index,
        (k, mode, where_sql, where_args, min_score, rerank_model, neighbors),
        (model, template, max_context_tokens, max_tokens, temperature, seed),
        context_sentences,
        history,
    )?)?;
    Ok(SetOfIterator::new(pieces))
}

/// Passages given by the caller; NULLs are left out.
fn given_passages(context: Option<Vec<Option<String>>>) -> Vec<(Option<String>, String)> {
    context.into_iter().flatten().flatten().map(|content| (None, content)).collect()
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn rag_answer_from(
    question: Option<&str>,
    context: Option<Vec<Option<String>>>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    seed: Option<i64>,
) -> Result<Option<String>> {
    let Some(question) = question else { return Ok(None) };
    let max_tokens = required("max_tokens", max_tokens)?;
    let model = models::generation(model)?;
    let template = templates::resolve(template)?;
    let spec = AnswerSpec { question, model: &model, template: template.as_deref(), max_context_tokens, max_tokens };
    answer_from(&spec, given_passages(context), required("temperature", temperature)?, seed).map(Some)
}

#[pg_extern(sql = false)]
fn rag_prompt(
    question: Option<&str>,
    context: Option<Vec<Option<String>>>,
    model: Option<&str>,
    template: Option<&str>,
    max_context_tokens: Option<i32>,
    max_tokens: Option<i32>,
) -> Result<Option<String>> {
    let Some(question) = question else { return Ok(None) };
    let max_tokens = required("max_tokens", max_tokens)?;
    let model = models::generation(model)?;
    let template = templates::resolve(template)?;
    let spec = AnswerSpec { question, model: &model, template: template.as_deref(), max_context_tokens, max_tokens };
    let prompt = spec.prompt(given_passages(context))?;
    let turns: Vec<_> =
        prompt.messages.iter().map(|message| format!("{}:\n{}", message.role.as_str(), message.content)).collect();
    Ok(Some(turns.join("\n\n")))
}

/// Final function of `rag_answer_agg`: the state holds the question, then the passages.
#[pg_extern(sql = false)]
fn answer_finish(state: Option<Vec<Option<String>>>) -> Result<Option<String>> {
    let mut state = state.unwrap_or_default().into_iter();
    let Some(Some(question)) = state.next() else { return Ok(None) };
    let model = models::generation(None)?;
    let spec =
        AnswerSpec { question: &question, model: &model, template: None, max_context_tokens: None, max_tokens: 200 };
    answer_from(&spec, given_passages(Some(state.collect())), 0.0, None).map(Some)
}
