//! `generate`, `generate_stream` and `chat`.

use crate::error::{invalid_parameter, required, unexpected_response, Result};
use crate::gucs;
use crate::models::catalog::{self, Model};
use crate::pg::client::send_returned_rows;
use crate::server::client::{self, Exchange, Next};
use pg_rag_protocol::message::{
    ChatMessage, FinishReason, GenerateParams, Request, Response, Role, Usage, MAX_SCHEMA_BYTES,
};
use pgrx::iter::SetOfIterator;
use pgrx::prelude::*;
use pgrx::JsonB;
use std::hash::{BuildHasher, RandomState};

/// Most tokens that one call may ask for; the room left in the model's context is the other limit.
const MAX_TOKENS_LIMIT: i32 = 32_768;

/// Most stop texts, and the longest of them.
const MAX_STOP_TEXTS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// Most turns of a conversation.
const MAX_MESSAGES: usize = 4096;

/// The sampling arguments of every function that generates, as SQL gives them.
pub struct SamplingArguments {
    pub max_tokens: Option<i32>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i32>,
    pub repeat_penalty: Option<f32>,
    pub seed: Option<i64>,
    pub stop: Option<Vec<Option<String>>>,
    /// A JSON schema, as it was written: the order of its properties is that of the answer's.
    pub json_schema: Option<String>,
}

impl SamplingArguments {
    /// Checks the ranges.
    pub fn params(self) -> Result<GenerateParams> {
        let in_range = |name: &str, value: Option<f32>, low: f32, high: f32| {
            let value = required(name, value)?;
            if value >= low && value <= high {
                Ok(value)
            } else {
                Err(invalid_parameter(format!("{name} must be between {low} and {high}, not {value}")))
            }
        };
        let max_tokens = required("max_tokens", self.max_tokens)?;
        if !(1..=MAX_TOKENS_LIMIT).contains(&max_tokens) {
            return Err(invalid_parameter(format!(
                "max_tokens must be between 1 and {MAX_TOKENS_LIMIT}, not {max_tokens}"
            )));
        }
        let top_k = required("top_k", self.top_k)?;
        let top_k = u32::try_from(top_k).map_err(|_| {
            invalid_parameter(format!("top_k must not be negative, but is {top_k}")).set_hint("0 keeps all tokens.")
        })?;
        let top_p = required("top_p", self.top_p)?;
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(invalid_parameter(format!("top_p must be greater than 0 and at most 1, not {top_p}")));
        }
        Ok(GenerateParams {
            max_tokens: gucs::max_tokens().map_or(max_tokens as u32, |most| most.min(max_tokens as u32)),
            temperature: in_range("temperature", self.temperature, 0.0, 10.0)?,
            top_p,
            top_k,
            repeat_penalty: in_range("repeat_penalty", self.repeat_penalty, 0.1, 10.0)?,
            seed: self.seed.map_or_else(random_seed, |seed| seed as u64),
            stop: stop_texts(self.stop)?,
            whole_sentences: false,
            json_schema: schema(self.json_schema)?,
        })
    }
}

fn stop_texts(given: Option<Vec<Option<String>>>) -> Result<Vec<String>> {
    let given = given.unwrap_or_default();
    if given.len() > MAX_STOP_TEXTS {
        return Err(invalid_parameter(format!("at most {MAX_STOP_TEXTS} stop texts can be given")));
    }
    given
        .into_iter()
        .map(|stop| {
            let stop = required("stop", stop)?;
            if stop.is_empty() || stop.len() > MAX_STOP_BYTES {
                return Err(invalid_parameter(format!("a stop text must have 1 to {MAX_STOP_BYTES} bytes")));
            }
            Ok(stop)
        })
        .collect()
}

fn schema(given: Option<String>) -> Result<Option<String>> {
    match given {
        Some(schema) if schema.len() > MAX_SCHEMA_BYTES => {
            Err(invalid_parameter(format!("json_schema must have at most {MAX_SCHEMA_BYTES} bytes")))
        }
        other => Ok(other),
    }
}

/// The turns that a JSON array of objects with `role` and `content` describes.
fn turns(messages: &serde_json::Value) -> Result<Vec<ChatMessage>> {
    let Some(messages) = messages.as_array().filter(|messages| !messages.is_empty()) else {
        return Err(invalid_parameter("messages must be a JSON array with at least one message".to_owned()));
    };
    if messages.len() > MAX_MESSAGES {
        return Err(invalid_parameter(format!("messages must be at most {MAX_MESSAGES}, not {}", messages.len())));
    }
    let turn = |(index, message): (usize, &serde_json::Value)| {
        let number = index + 1;
        let text = |key: &str| message.get(key).and_then(serde_json::Value::as_str);
        let role = match text("role") {
            Some("system") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some(other) => {
                return Err(invalid_parameter(format!("message {number} has the unknown role \"{other}\""))
                    .set_hint("Roles are \"system\", \"user\" and \"assistant\"."))
            }
            None => return Err(invalid_parameter(format!("message {number} has no text \"role\""))),
        };
        match text("content") {
            Some(content) => Ok(ChatMessage { role, content: content.to_owned() }),
            None => Err(invalid_parameter(format!("message {number} has no text \"content\""))),
        }
    };
    messages.iter().enumerate().map(turn).collect()
}

/// A seed that differs from call to call.
fn random_seed() -> u64 {
    RandomState::new().hash_one("pg_rag")
}

/// A finished generation.
pub struct Generated {
    pub text: String,
    pub finish: FinishReason,
    pub usage: Usage,
}

/// The conversation that a plain prompt stands for.
fn conversation(prompt: &str, system: Option<&str>) -> Vec<ChatMessage> {
    let system = system.map(|content| ChatMessage { role: Role::System, content: content.to_owned() });
    let user = ChatMessage { role: Role::User, content: prompt.to_owned() };
    system.into_iter().chain([user]).collect()
}

/// Generates the assistant's turn after `messages`.
pub fn generate_turn(model: &Model, messages: Vec<ChatMessage>, params: GenerateParams) -> Result<Generated> {
    let request =
        Request::Generate { model: model.reference.clone(), messages, params, stream: false, caller: client::caller() };
    match client::call(&request)? {
        Response::Generated { text, finish, usage } => Ok(Generated { text, finish, usage }),
        _ => Err(unexpected_response("a generated text")),
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn generate(
    prompt: Option<&str>,
    model: Option<&str>,
    system: Option<&str>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i32>,
    repeat_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Vec<Option<String>>>,
    json_schema: Option<String>,
) -> Result<Option<String>> {
    let params = SamplingArguments { max_tokens, temperature, top_p, top_k, repeat_penalty, seed, stop, json_schema }
        .params()?;
    let Some(prompt) = prompt else { return Ok(None) };
    let model = catalog::generation(model)?;
    Ok(Some(generate_turn(&model, conversation(prompt, system), params)?.text))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn generate_stream(
    prompt: Option<&str>,
    model: Option<&str>,
    system: Option<&str>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i32>,
    repeat_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Vec<Option<String>>>,
    json_schema: Option<String>,
) -> Result<SetOfIterator<'static, String>> {
    let params = SamplingArguments { max_tokens, temperature, top_p, top_k, repeat_penalty, seed, stop, json_schema }
        .params()?;
    let Some(prompt) = prompt else { return Ok(SetOfIterator::empty()) };
    let model = catalog::generation(model)?;
    let messages = conversation(prompt, system);
    Ok(SetOfIterator::new(Pieces::start(&model, messages, params)?))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // the arguments of the SQL function
fn chat(
    messages: Option<JsonB>,
    model: Option<&str>,
    max_tokens: Option<i32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i32>,
    repeat_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Vec<Option<String>>>,
    json_schema: Option<String>,
) -> Result<Option<String>> {
    let params = SamplingArguments { max_tokens, temperature, top_p, top_k, repeat_penalty, seed, stop, json_schema }
        .params()?;
    let Some(JsonB(messages)) = messages else { return Ok(None) };
    let messages = turns(&messages)?;
    let model = catalog::generation(model)?;
    Ok(Some(generate_turn(&model, messages, params)?.text))
}

/// Pieces of an answer as the server produces them. Dropping it, as PostgreSQL does when a query ends early, cancels
/// the generation.
pub struct Pieces {
    exchange: Option<Exchange>,
}

impl Pieces {
    pub fn start(model: &Model, messages: Vec<ChatMessage>, params: GenerateParams) -> Result<Self> {
        let request = Request::Generate {
            model: model.reference.clone(),
            messages,
            params,
            stream: true,
            caller: client::caller(),
        };
        Ok(Self { exchange: Some(Exchange::start(&request)?) })
    }
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let exchange = self.exchange.as_mut()?;
        send_returned_rows();
        let next = exchange.next();
        match next {
            Ok(Next::Piece(piece)) => Some(piece),
            Ok(Next::Final(_)) => {
                self.exchange = None;
                None
            }
            Err(failure) => {
                self.exchange = None;
                failure.report(pgrx::PgLogLevel::ERROR);
                None
            }
        }
    }
}
