//! `history`: what was said before the question, and the question as one that can be searched for.
//!
//! The conversation is data: it is checked, reaches the model as text with control tokens switched off, and never as a
//! system message.

use crate::error::{error, invalid_parameter, Result};
use crate::functions::generate::{generate_turn, SamplingArguments};
use crate::models::catalog::Model;
use crate::rag::lexemes::{self, decode};
use pg_rag_engine::conversation::{self, Turn};
use pg_rag_protocol::message::{ChatMessage, Role};
use pgrx::{JsonB, PgSqlErrorCode};
use std::collections::HashSet;

/// Most turns, and most text in them. Only the last few turns are looked at.
const MAX_TURNS: usize = 1000;
const MAX_BYTES: usize = 1 << 20;

/// Tokens of a rewritten question.
const QUESTION_TOKENS: i32 = 64;

/// One turn of a conversation.
struct Said {
    by_user: bool,
    text: String,
}

/// A question without its conversation.
pub struct Standalone {
    /// What is answered.
    pub question: String,
    /// What is searched for, the most telling way first; at least one.
    pub searched: Vec<String>,
}

impl Standalone {
    /// A question that goes on with nothing.
    pub fn only(question: &str) -> Self {
        Self { question: question.to_owned(), searched: vec![question.to_owned()] }
    }
}

/// A conversation, checked.
pub struct History(Vec<Said>);

impl History {
    /// Of a JSON array of objects with `role` and `content`.
    pub fn parse(given: &JsonB) -> Result<Self> {
        let Some(messages) = given.0.as_array() else {
            return Err(invalid_parameter("history must be a JSON array of messages"));
        };
        if messages.len() > MAX_TURNS {
            return Err(too_long(format!("history must have at most {MAX_TURNS} messages, not {}", messages.len())));
        }
        let mut said = Vec::with_capacity(messages.len());
        for (message, number) in messages.iter().zip(1..) {
            let text = |key: &str| {
                message
                    .get(key)
                    .and_then(serde_json::Value::as_str)
                    .ok_or_else(|| invalid_parameter(format!("message {number} of the history has no text \"{key}\"")))
            };
            let by_user = match text("role")? {
                "user" => true,
                "assistant" => false,
                other => {
                    return Err(invalid_parameter(format!("message {number} of the history has the role \"{other}\""))
                        .set_hint("Roles are \"user\" and \"assistant\". What the model is told is the template's."))
                }
            };
            said.push(Said { by_user, text: text("content")?.to_owned() });
        }
        let bytes: usize = said.iter().map(|said| said.text.len()).sum();
        if bytes > MAX_BYTES {
            return Err(too_long(format!("history must have at most {MAX_BYTES} bytes of text, not {bytes}")));
        }
        Ok(Self(said))
    }

    fn turns(&self) -> Vec<Turn<'_>> {
        self.0.iter().map(|said| Turn { by_user: said.by_user, text: &said.text }).collect()
    }

    /// The question so that it stands alone. `fts_config`: by which words are told apart.
    pub fn standalone(&self, model: &Model, fts_config: &str, question: &str) -> Result<Standalone> {
        let turns = self.turns();
        let Some(with_previous) = conversation::with_previous(&turns, question) else {
            return Ok(Standalone::only(question));
        };
        // The question as it was asked stays among them: it may begin another topic.
        Ok(match rewritten(model, fts_config, &turns, question)? {
            Some(rewritten) => Standalone {
                question: rewritten.clone(),
                searched: vec![rewritten, with_previous, question.to_owned()],
            },
            None => Standalone { question: question.to_owned(), searched: vec![with_previous, question.to_owned()] },
        })
    }
}

/// The question as the model rewrites it; None if what it writes is no such question.
fn rewritten(model: &Model, fts_config: &str, turns: &[Turn<'_>], question: &str) -> Result<Option<String>> {
    let message = |role, content: &str| ChatMessage { role, content: content.to_owned() };
    let mut messages = vec![message(Role::System, conversation::SYSTEM)];
    for (asked, written) in conversation::EXAMPLES {
        messages.extend([message(Role::User, asked), message(Role::Assistant, written)]);
    }
    messages.push(message(Role::User, &conversation::transcript(turns, question)));
    let params = SamplingArguments {
        max_tokens: Some(QUESTION_TOKENS),
        temperature: Some(0.0),
        top_p: Some(1.0),
        top_k: Some(0),
        repeat_penalty: Some(1.0),
        seed: Some(0),
        stop: Some(vec![Some("\n".to_owned())]),
        json_schema: None,
    }
    .params()?;
    let written = generate_turn(model, messages, params)?.text;
    let Some(written) = conversation::cleaned(&written, question) else { return Ok(None) };
    let said: Vec<&str> = conversation::recent(turns).iter().map(|turn| turn.text).collect();
    let texts = vec![written.clone(), question.to_owned(), said.join("\n")];
    let words = lexemes::of_texts(fts_config, texts)?;
    let [of_written, of_question, of_said] = &words[..] else { return Ok(None) };
    let is_faithful = conversation::is_faithful(&set(of_written)?, &set(of_question)?, &set(of_said)?);
    Ok((is_faithful && written != question).then_some(written))
}

fn set(lexemes: &[u8]) -> Result<HashSet<Vec<u8>>> {
    Ok(decode(lexemes)?.iter().map(|lexeme| lexeme.text.to_vec()).collect())
}

fn too_long(message: String) -> pgrx::pg_sys::panic::ErrorReport {
    error(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
}
