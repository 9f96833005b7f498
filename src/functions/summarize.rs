//! `summarize`: a text in few words, however long it is.
//!
//! The engine decides what is read in which pass; here each pass is one request to the model server. A query that is
//! cancelled ends within the one that runs.

use crate::error::{error, from_chunk, invalid_parameter, required, unexpected_response, Result};
use crate::functions::generate::{generate_turn, SamplingArguments};
use crate::functions::tokens::tokenize_all;
use crate::models::catalog::{self, Model};
use crate::server::client;
use pg_rag_engine::prompt;
use pg_rag_engine::summary::{self, Plan, Summarizer};
use pg_rag_engine::text::{ChunkError, TokenMeasure};
use pg_rag_protocol::message::{ChatMessage, Request, Response, Role};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::PgSqlErrorCode;
use sha2::{Digest, Sha256};

/// Most words of a summary.
const MAX_WORDS: i32 = 1000;

/// Longest text: a model that reads a thousand tokens a second takes hours for more.
const MAX_INPUT_BYTES: usize = 64 << 20;

/// Checks a number of words.
pub fn check_words(name: &str, words: i32) -> Result<usize> {
    match usize::try_from(words) {
        Ok(count @ 1..) if words <= MAX_WORDS => Ok(count),
        _ => Err(invalid_parameter(format!("{name} must be between 1 and {MAX_WORDS}, not {words}"))),
    }
}

/// A summary of at most so many words. Of a text of more than `most_pieces` times what a prompt takes, so many parts are read.
pub fn summarize_text(model: &Model, text: &str, words: usize, most_pieces: usize) -> Result<String> {
    let fixed = count(model, messages("", words))?;
    let plan = Plan::fitting(model.max_tokens as usize, fixed, words, most_pieces).ok_or_else(|| {
        error(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("a summary of {words} words leaves no room for text in the context of {} tokens", model.max_tokens),
        )
        .set_hint("Ask for fewer words, or use a model with a longer context.")
    })?;
    summary::summarize(&mut Asked(model), text, &plan).map_err(|Fault(report)| report)
}

fn messages(text: &str, words: usize) -> (Vec<ChatMessage>, String) {
    // Different for every text, so that no document can be written to contain it; the same for the same text.
    let fence: String = Sha256::digest(text)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let message = |role, content| ChatMessage { role, content };
    let asked = summary::request(text, words, &fence);
    (vec![message(Role::System, summary::SYSTEM.to_owned()), message(Role::User, asked)], fence)
}

fn count(model: &Model, (messages, _): (Vec<ChatMessage>, String)) -> Result<usize> {
    match client::call(&Request::CountPrompt { model: model.reference.clone(), messages })? {
        Response::Count(count) => Ok(count as usize),
        _ => Err(unexpected_response("a number of tokens")),
    }
}

/// The model server as the engine sees it.
struct Asked<'a>(&'a Model);

struct Fault(ErrorReport);

impl From<ChunkError> for Fault {
    fn from(failure: ChunkError) -> Self {
        Self(from_chunk(failure))
    }
}

impl Summarizer for Asked<'_> {
    type Error = Fault;

    fn measure(&mut self, texts: &[&str]) -> std::result::Result<Vec<TokenMeasure>, Fault> {
        pgrx::check_for_interrupts!();
        let tokens = tokenize_all(self.0, texts.iter().map(|&text| text.to_owned()).collect()).map_err(Fault)?;
        Ok(tokens.into_iter().map(|tokens| TokenMeasure::new(tokens.starts, tokens.ends)).collect())
    }

    fn summarize(&mut self, text: &str, words: usize) -> std::result::Result<String, Fault> {
        pgrx::check_for_interrupts!();
        let (messages, fence) = messages(text, words);
        let mut params = SamplingArguments {
            max_tokens: Some(summary::answer_tokens(words) as i32),
            temperature: Some(0.0),
            top_p: Some(1.0),
            top_k: Some(0),
            repeat_penalty: Some(1.1),
            seed: Some(0),
            stop: None,
            json_schema: None,
        }
        .params()
        .map_err(Fault)?;
        params.whole_sentences = true;
        let written = generate_turn(self.0, messages, params).map_err(Fault)?;
        Ok(prompt::strip_fences(&written.text, &fence))
    }
}

#[pg_extern(sql = false)]
fn summarize(input: Option<&str>, max_words: Option<i32>, model: Option<&str>) -> Result<Option<String>> {
    let words = check_words("max_words", required("max_words", max_words)?)?;
    let Some(input) = input else { return Ok(None) };
    if input.len() > MAX_INPUT_BYTES {
        return Err(error(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("a text of {} bytes is too long to be summarized", input.len()),
        )
        .set_hint(format!("The most are {MAX_INPUT_BYTES} bytes: summarize parts of it.")));
    }
    let model = catalog::generation(model)?;
    summarize_text(&model, input, words, usize::MAX).map(Some)
}
