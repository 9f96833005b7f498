//! Answers: `POST /chat/completions`, whole or as server-sent events.
//!
//! Standard fields only are sent; `top_k` where it is asked for, because servers without it refuse it or ignore it, and
//! `repeat_penalty` never: the services have other names for other things. Option `request` of the registration adds
//! fields and leaves some out.

use super::client::{words_of, Answer, Client};
use super::count;
use super::embeddings::not_json;
use super::error::{quote, RemoteError};
use super::options::{wrong, RemoteOptions};
use super::sse::Events;
use crate::decoder::sentence::last_sentence_end;
use pg_rag_protocol::message::{ChatMessage, FailureKind, FinishReason, GenerateParams, Usage};
use serde::Deserialize;
use serde_json::{json, Map, Value};
use std::time::Instant;

/// Where answers come from, below the server's address.
const PATH: &str = "/chat/completions";

/// A finished answer.
#[derive(Debug)]
pub struct Completion {
    pub text: String,
    pub finish: FinishReason,
    pub usage: Usage,
}

/// Asks for the assistant's turn after `messages`. With `piece`, the answer is streamed into it.
pub fn complete(
    client: &Client,
    options: &RemoteOptions,
    messages: &[ChatMessage],
    params: &GenerateParams,
    piece: Option<&mut dyn FnMut(String)>,
) -> Result<Completion, RemoteError> {
    let began = Instant::now();
    let body = options.body(request(options, messages, params, piece.is_some())?);
    let mut completion = match piece {
        Some(piece) => {
            let mut answer = client.stream(PATH, &body)?;
            let prefill_ms = milliseconds(began);
            let mut completion = read_stream(client, &mut answer, piece)?;
            completion.usage.prefill_ms = prefill_ms;
            completion
        }
        // It may have cost something once its answer has begun.
        None => read_whole(client, &client.post(PATH, &body, false)?)?,
    };
    if completion.usage.prompt_tokens == 0 {
        completion.usage.prompt_tokens = count::conversation(messages) as u32;
        completion.usage.completion_tokens = count::tokens(&completion.text).ids.len() as u32;
    }
    completion.usage.decode_ms = milliseconds(began) - completion.usage.prefill_ms;
    if params.json_schema.is_some() {
        check_json(client, &completion, params.max_tokens)?;
    } else if params.whole_sentences && completion.finish == FinishReason::Length {
        if let Some(end) = last_sentence_end(&completion.text, false) {
            completion.text.truncate(end);
        }
    }
    Ok(completion)
}

fn milliseconds(since: Instant) -> f32 {
    since.elapsed().as_secs_f32() * 1000.0
}

fn request(
    options: &RemoteOptions,
    messages: &[ChatMessage],
    params: &GenerateParams,
    stream: bool,
) -> Result<Map<String, Value>, RemoteError> {
    let turn = |message: &ChatMessage| json!({ "role": message.role.as_str(), "content": message.content });
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("model", json!(options.model));
    set("messages", messages.iter().map(turn).collect());
    set("max_tokens", json!(params.max_tokens));
    set("temperature", rounded(params.temperature));
    if params.temperature > 0.0 {
        // What every service takes: a positive number of 31 bits.
        set("seed", json!(params.seed & 0x7fff_ffff));
    }
    if params.top_p < 1.0 {
        set("top_p", rounded(params.top_p));
    }
    if params.top_k > 0 {
        set("top_k", json!(params.top_k));
    }
    if !params.stop.is_empty() {
        set("stop", json!(params.stop));
    }
    if let Some(schema) = &params.json_schema {
        let schema: Value =
            serde_json::from_str(schema).map_err(|error| wrong(format!("json_schema is not JSON: {error}")))?;
        let format = json!({ "name": "answer", "strict": true, "schema": schema });
        set("response_format", json!({ "type": "json_schema", "json_schema": format }));
    }
    if stream {
        set("stream", json!(true));
    }
    Ok(body)
}

/// As it was written, not as its bits are: 0.7, not 0.699999988079071.
fn rounded(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, |number| json!(number))
}

/// A schema asks for a document; the server is not trusted to have kept to it.
fn check_json(client: &Client, completion: &Completion, max_tokens: u32) -> Result<(), RemoteError> {
    if serde_json::from_str::<serde::de::IgnoredAny>(&completion.text).is_ok() {
        return Ok(());
    }
    match completion.finish {
        FinishReason::Length => {
            let message = format!("answer of {max_tokens} tokens ended before its JSON document did");
            Err(RemoteError::new(FailureKind::InvalidInput, message).with_hint(
                "Increase \"max_tokens\", or set limits in the schema (\"maxLength\", \"maxItems\", \"enum\").",
            ))
        }
        _ => Err(RemoteError::protocol(client.name(), "it is not the JSON document that was asked for")),
    }
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
}

impl Counts {
    fn usage(counts: Option<&Self>) -> Usage {
        Usage {
            prompt_tokens: counts.and_then(|counts| counts.prompt_tokens).unwrap_or(0),
            completion_tokens: counts.and_then(|counts| counts.completion_tokens).unwrap_or(0),
            ..Usage::default()
        }
    }
}

#[derive(Deserialize)]
struct Reply {
    choices: Vec<Choice>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

fn read_whole(client: &Client, answer: &[u8]) -> Result<Completion, RemoteError> {
    let protocol = |reason: String| RemoteError::protocol(client.name(), reason);
    let reply: Reply = serde_json::from_slice(answer).map_err(|error| protocol(not_json(&error)))?;
    let usage = Counts::usage(reply.usage.as_ref());
    let count = reply.choices.len();
    let Some(choice) = reply.choices.into_iter().next().filter(|_| count == 1) else {
        return Err(protocol(format!("it has {count} answers, not one")));
    };
    match choice.message {
        Message { content: None, refusal: Some(words) } => Err(refused(client, &words)),
        Message { content, .. } => {
            let finish = finish_of(client, choice.finish_reason.as_deref())?;
            Ok(Completion { text: clean(content.unwrap_or_default()), finish, usage })
        }
    }
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<ChunkChoice>>,
    error: Option<Value>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    #[serde(default)]
    index: usize,
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
}

/// What has come of a stream.
#[derive(Default)]
struct Progress {
    text: String,
    refusal: String,
    finish: Option<FinishReason>,
    counts: Option<Counts>,
    is_done: bool,
}

fn read_stream(client: &Client, answer: &mut Answer, piece: &mut dyn FnMut(String)) -> Result<Completion, RemoteError> {
    let mut events = Events::default();
    let mut progress = Progress::default();
    let mut buffer = Vec::new();
    while !progress.is_done {
        let bytes = client.read(answer, &mut buffer)?;
        if bytes.is_empty() {
            break;
        }
        for event in events.push(bytes).map_err(|error| RemoteError::protocol(client.name(), error))? {
            take_event(client, &mut progress, &event, piece)?;
        }
    }
    match progress.finish {
        _ if !progress.refusal.is_empty() => Err(refused(client, &progress.refusal)),
        // Some servers leave the mark of the end out, some the reason; without both, there was no end.
        None if !progress.is_done => Err(RemoteError::lost(client.name(), "ended its answer before it was complete")),
        finish => Ok(Completion {
            text: progress.text,
            finish: finish.unwrap_or(FinishReason::EndOfTurn),
            usage: Counts::usage(progress.counts.as_ref()),
        }),
    }
}

fn take_event(
    client: &Client,
    progress: &mut Progress,
    event: &str,
    piece: &mut dyn FnMut(String),
) -> Result<(), RemoteError> {
    if progress.is_done {
        return Ok(());
    }
    if event.trim() == "[DONE]" {
        progress.is_done = true;
        return Ok(());
    }
    let protocol = |reason: String| RemoteError::protocol(client.name(), format!("in an event, {reason}"));
    let chunk: Chunk = serde_json::from_str(event).map_err(|error| protocol(not_json(&error)))?;
    if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
        let words = words_of(&json!({ "error": error })).and_then(|words| quote(&words, client.key()));
        return Err(RemoteError::lost(client.name(), "failed in the middle of its answer").with_detail(words));
    }
    if chunk.usage.is_some() {
        progress.counts = chunk.usage;
    }
    let Some(choices) = chunk.choices else { return Err(protocol("there is no answer".to_owned())) };
    for choice in choices {
        if choice.index != 0 {
            return Err(protocol("there is a second answer".to_owned()));
        }
        if let Some(content) = choice.delta.content.map(clean).filter(|content| !content.is_empty()) {
            progress.text.push_str(&content);
            piece(content);
        }
        progress.refusal.push_str(&choice.delta.refusal.unwrap_or_default());
        if let Some(reason) = choice.finish_reason {
            progress.finish = Some(finish_of(client, Some(&reason))?);
        }
    }
    Ok(())
}

fn refused(client: &Client, words: &str) -> RemoteError {
    let message = format!("the model of server \"{}\" refused to answer", client.name());
    RemoteError::new(FailureKind::RemoteRefused, message).with_detail(quote(words, client.key()))
}

fn finish_of(client: &Client, reason: Option<&str>) -> Result<FinishReason, RemoteError> {
    match reason {
        Some("length") => Ok(FinishReason::Length),
        Some("content_filter") => {
            let message = format!("a filter of server \"{}\" withheld the answer", client.name());
            Err(RemoteError::new(FailureKind::RemoteRefused, message))
        }
        // Stop texts and the end of a turn have one word; others have more words for the same.
        _ => Ok(FinishReason::EndOfTurn),
    }
}

/// PostgreSQL's texts hold every character but one.
fn clean(text: String) -> String {
    match text.contains('\0') {
        true => text.replace('\0', ""),
        false => text,
    }
}
