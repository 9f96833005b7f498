//! One connection: handshake, then request by request until the client closes.
//!
//! The connection's own thread reads requests and does what needs little computation itself (tokenizing, HTML,
//! hashing files, waiting for a model to load); forward passes go to the scheduler, documents to a thread. While a request is unanswered
//! the thread keeps reading: the end of the stream, or any byte out of turn, cancels the request.

use super::devices::devices;
use super::download;
use super::failure::{failure_of, failure_of_document, internal};
use super::lifecycle::Busy;
use super::progress::Reporter;
use super::quantize;
use super::queue::{EmbedJob, Wanted};
use super::registry::Entry;
use super::remote;
use super::reply::{self, Outgoing, Ticket, Turn};
use super::runtime::{EmbedModel, GenerateModel, Runtime};
use super::scheduler::generation;
use super::{peer, Server};
use crate::error::ModelError;
use crate::source;
use pg_rag_documents::html;
use pg_rag_protocol::frame::{self, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use pg_rag_protocol::message::{
    Caller, ChatMessage, Failure, FailureKind, GenerateParams, Lane, ModelRef, Purpose, Request, Response,
};
use pg_rag_protocol::{build_id, PROTOCOL_VERSION};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{channel, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time that a client has to say hello. Afterwards it may be silent as long as it likes.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// Largest hello; nobody who has not shaken hands makes the server reserve more.
const HELLO_BYTES: usize = 64;

/// Stack of a writer thread, which encodes and writes.
const WRITER_STACK_BYTES: usize = 256 * 1024;

/// Body of a connection's thread.
pub fn serve(server: &Arc<Server>, stream: UnixStream) {
    // An error here is a client that went away or broke the rules: closing the connection is the whole answer.
    let _ = converse(server, &stream);
    let _ = stream.shutdown(Shutdown::Both);
}

fn converse(server: &Arc<Server>, stream: &UnixStream) -> io::Result<()> {
    if !peer::is_same_user(stream)? || !shake_hands(server, stream)? {
        return Ok(());
    }
    let (outgoing, incoming) = channel();
    let writer_stream = stream.try_clone()?;
    std::thread::Builder::new()
        .name("writer".into())
        .stack_size(WRITER_STACK_BYTES)
        .spawn(move || reply::write_all(writer_stream, incoming))?;
    let turn = Arc::new(Turn::default());
    let outcome = read_requests(server, stream, &turn, &outgoing);
    turn.client_gone.store(true, Ordering::SeqCst);
    outcome
}

/// Whether client and server speak the same language. Says so to the client.
fn shake_hands(server: &Server, mut stream: &UnixStream) -> io::Result<bool> {
    let deadline = Instant::now() + HELLO_LIMIT;
    let mut header = [0; HEADER_BYTES];
    read_until(stream, &mut header, deadline)?;
    let payload_bytes = u32::from_le_bytes(header) as usize;
    if payload_bytes > HELLO_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; payload_bytes];
    read_until(stream, &mut payload, deadline)?;
    stream.set_read_timeout(None)?;
    let agreed = match frame::decode::<Request>(&payload) {
        Ok(Request::Hello { protocol, build }) => protocol == PROTOCOL_VERSION && build == build_id(),
        Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
        // The hello of a build so different that it cannot even be read.
        Err(_) => false,
    };
    if server.lifecycle.is_stopping() {
        return Ok(false);
    }
    let response = if agreed {
        Response::Welcome { pid: std::process::id() }
    } else {
        let restarting = server.executable.is_replaced();
        if restarting {
            server.lifecycle.stop();
        }
        Response::Mismatch { protocol: PROTOCOL_VERSION, build: build_id(), restarting }
    };
    // Who says hello, asks for something that has no answer (`Retire`) and leaves is not there to be welcomed.
    let _ = stream.write_all(&reply::encode(&response));
    Ok(agreed)
}

/// Fills `bytes` before `deadline`, however slowly they drip.
fn read_until(mut stream: &UnixStream, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_requests(
    server: &Arc<Server>,
    stream: &UnixStream,
    turn: &Arc<Turn>,
    outgoing: &Sender<Outgoing>,
) -> io::Result<()> {
    let reporter = server.progress.reporter();
    while let Some(request) = read_request(stream, turn)? {
        match request {
            Request::Hello { .. } => return Err(io::ErrorKind::InvalidData.into()),
            Request::Retire => server.lifecycle.stop(),
            request => {
                let busy: Option<Busy> = server.lifecycle.begin();
                let accepted = busy.is_some();
                let ticket = Ticket::new(outgoing.clone(), turn.clone(), busy);
                if accepted && remote::concerns(&request) {
                    remote::answer(server, request, ticket);
                } else if accepted {
                    answer(server, &reporter, request, ticket);
                } else {
                    ticket.fail(Failure {
                        kind: FailureKind::Stopping,
                        message: "the model server is stopping".into(),
                        detail: None,
                        hint: Some("Try again: it is started when it is needed.".into()),
                    });
                }
            }
        }
    }
    Ok(())
}

/// The next request; `None` when the client closed the connection.
fn read_request(mut stream: &UnixStream, turn: &Turn) -> io::Result<Option<Request>> {
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match stream.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if turn.server_speaks.load(Ordering::SeqCst) => return Err(io::ErrorKind::InvalidData.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let payload_bytes = frame::payload_bytes(header).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // Grows with what arrives: the length in the header reserves nothing.
    let mut payload = Vec::new();
    stream.take(payload_bytes as u64).read_to_end(&mut payload)?;
    if payload.len() < payload_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    frame::decode(&payload).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Answers a request, now or through the scheduler. A panic below drops the ticket, which answers for itself.
fn answer(server: &Server, reporter: &Reporter, request: Request, ticket: Ticket) {
    let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match request {
        Request::Embed { model, texts, purpose, lane, caller } => {
            if let Some(ticket) = admit(server, ticket, caller) {
                embed(server, ticket, &model, &texts, purpose, lane);
            }
        }
        Request::EmbedTokens { model, text, caller } => {
            if let Some(ticket) = admit(server, ticket, caller) {
                embed_tokens(server, ticket, &model, &text);
            }
        }
        Request::Rerank { model, query, passages, lane, caller } => {
            if let Some(ticket) = admit(server, ticket, caller) {
                rerank(server, ticket, &model, &query, &passages, lane);
            }
        }
        Request::Generate { model, messages, params, stream, caller } => {
            if let Some(ticket) = admit(server, ticket, caller) {
                generate(server, ticket, &model, &messages, params, stream);
            }
        }
        Request::Quantize { model, name, kind, waiter } => {
            quantize::quantize(server, ticket, model, name, &kind, waiter);
        }
        Request::QuantizationReport { model, original, text, waiter } => {
            quantize::report(server, ticket, model, original, text, waiter);
        }
        Request::Download { order, name, waiter } => download::download(server, ticket, order, name, waiter),
        Request::CheckFiles { model, waiter } => download::check(server, ticket, model, waiter),
        Request::DeleteStored { path, waiter } => download::delete(server, ticket, path, waiter),
        Request::Extract { document, options, caller } => {
            if let Some(ticket) = admit(server, ticket, caller) {
                server.extractor.start(ticket, document.0, options);
            }
        }
        Request::ReportProgress(progress) => {
            reporter.report(progress);
            ticket.finish(Response::Done);
        }
        request => match answer_here(server, request) {
            Ok(response) => ticket.finish(response),
            Err(failure) => ticket.fail(failure),
        },
    }));
    // The default panic hook has printed where; the client got its internal failure from the ticket.
    drop(answered);
}

/// Counts a request among those of its role; answers it where the role has too many.
pub(super) fn admit(server: &Server, mut ticket: Ticket, caller: Caller) -> Option<Ticket> {
    match server.roles.begin(caller) {
        Ok(role) => {
            ticket.count(role);
            Some(ticket)
        }
        Err(error) => {
            ticket.fail(failure_of(&error));
            None
        }
    }
}

/// Requests that this thread answers alone.
fn answer_here(server: &Server, request: Request) -> Result<Response, Failure> {
    match request {
        Request::Inspect { kind, path, options_json, base } => match base {
            Some(base) => source::inspect_adapter(path.as_ref(), &base),
            None => source::inspect(kind, path.as_ref()),
        }
        .and_then(|mut info| {
            source::apply_options(kind, path.as_ref(), &options_json, &mut info)?;
            Ok(info)
        })
        .map(Response::Inspected)
        .map_err(|error| failure_of(&error)),
        Request::Load { model } => server.registry.get(&model).map(|_| Response::Done),
        Request::Unload { name } => {
            server.registry.unload(&name);
            Ok(Response::Done)
        }
        Request::Progress => Ok(Response::Progress(server.progress.reports())),
        Request::ModelMemory { model, context_tokens, kind } => {
            quantize::memory(server, &model, context_tokens, kind.as_deref()).map(Response::ModelMemory)
        }
        Request::ModelProgress => Ok(Response::ModelProgress(server.workshop.progress())),
        Request::Status => Ok(Response::Status(server.status())),
        Request::Devices => Ok(Response::Devices(devices())),
        Request::Tokenize { model, texts, add_special } => {
            let entry = server.registry.get(&model)?;
            let tokenize = |text: &String| entry.runtime.text().tokenize(text, add_special);
            texts.iter().map(tokenize).collect::<Result<_, _>>().map(Response::Tokens).map_err(|e| failure_of(&e))
        }
        Request::Detokenize { model, ids } => {
            let entry = server.registry.get(&model)?;
            let text = entry.runtime.text().detokenize(&ids).map_err(|error| failure_of(&error))?;
            Ok(Response::Texts(vec![text]))
        }
        Request::CountPrompt { model, messages } => {
            let entry = server.registry.get(&model)?;
            let prompt = generate_model(&entry)?.prompt_tokens(&messages).map_err(|error| failure_of(&error))?;
            Ok(Response::Count(prompt.len() as u64))
        }
        Request::HtmlToMarkdown { html } => html
            .iter()
            .map(|document| html::to_markdown(document))
            .collect::<Result<_, _>>()
            .map(Response::Texts)
            .map_err(|error| failure_of_document(&error)),
        Request::StoredModels => {
            download::stored(server).map(Response::StoredModels).map_err(|error| failure_of(&error))
        }
        Request::Hello { .. }
        | Request::Retire
        | Request::InspectRemote { .. }
        | Request::Embed { .. }
        | Request::EmbedTokens { .. }
        | Request::Rerank { .. }
        | Request::Generate { .. }
        | Request::Quantize { .. }
        | Request::QuantizationReport { .. }
        | Request::Download { .. }
        | Request::CheckFiles { .. }
        | Request::DeleteStored { .. }
        | Request::Extract { .. }
        | Request::ReportProgress(_) => Err(internal("the request was sent to the wrong place")),
    }
}

fn embed(server: &Server, ticket: Ticket, model: &ModelRef, texts: &[String], purpose: Purpose, lane: Lane) {
    let prepared = server.registry.get(model).and_then(|entry| {
        let runtime = embed_model(&entry)?.clone();
        let inputs = prepare(runtime.as_ref(), texts, purpose).map_err(|error| failure_of(&error))?;
        Ok((entry, runtime.dimensions(), inputs))
    });
    match prepared {
        Ok((_, dimensions, inputs)) if inputs.is_empty() => {
            let dimensions = dimensions as u32;
            ticket.finish(Response::Embeddings { dimensions, values: Vec::new(), tokens: 0 });
        }
        Ok((entry, dimensions, inputs)) => {
            let id = entry.id;
            server.scheduler.embed(lane, EmbedJob::new(ticket, entry, id, Wanted::Vectors(dimensions), inputs));
        }
        Err(failure) => ticket.fail(failure),
    }
}

fn embed_tokens(server: &Server, ticket: Ticket, model: &ModelRef, text: &str) {
    let prepared = server.registry.get(model).and_then(|entry| {
        let runtime = embed_model(&entry)?.clone();
        let detail = runtime.prepare_tokens(text).map_err(|error| failure_of(&error))?;
        let wanted = Wanted::TokenVectors(runtime.token_dimensions());
        let answer_bytes = wanted.numbers(detail.0.ids.len()).saturating_mul(size_of::<f32>());
        match answer_bytes <= MAX_PAYLOAD_BYTES / 2 {
            true => Ok((entry, wanted, detail)),
            false => Err(failure_of(&ModelError::InvalidArgument("the text has too many tokens".into()))),
        }
    });
    match prepared {
        Ok((entry, wanted, detail)) => {
            let (id, inputs) = (entry.id, vec![detail.0.ids.clone()]);
            let mut job = EmbedJob::new(ticket, entry, id, wanted, inputs);
            job.detail = Some(detail);
            server.scheduler.embed(Lane::Interactive, job);
        }
        Err(failure) => ticket.fail(failure),
    }
}

fn rerank(server: &Server, ticket: Ticket, model: &ModelRef, query: &str, passages: &[String], lane: Lane) {
    let prepared = server.registry.get(model).and_then(|entry| match &entry.runtime {
        Runtime::Rerank(runtime) => {
            let inputs = runtime.prepare(query, passages).map_err(|error| failure_of(&error))?;
            Ok((entry, inputs))
        }
        Runtime::Embed(_) => Err(wrong_kind("an embedding model cannot rerank")),
        Runtime::Generate(_) => Err(wrong_kind("a generation model cannot rerank")),
    });
    match prepared {
        Ok((_, inputs)) if inputs.is_empty() => ticket.finish(Response::Scores { values: Vec::new(), tokens: 0 }),
        Ok((entry, inputs)) => {
            let id = entry.id;
            server.scheduler.embed(lane, EmbedJob::new(ticket, entry, id, Wanted::Scores, inputs));
        }
        Err(failure) => ticket.fail(failure),
    }
}

fn prepare(model: &dyn EmbedModel, texts: &[String], purpose: Purpose) -> Result<Vec<Vec<u32>>, ModelError> {
    // Before any work: an answer that cannot be sent is not worth computing.
    let answer_bytes = texts.len().saturating_mul(model.dimensions()).saturating_mul(size_of::<f32>());
    if answer_bytes > MAX_PAYLOAD_BYTES / 2 {
        return Err(ModelError::InvalidArgument(format!("too many texts in one request: {}", texts.len())));
    }
    texts.iter().map(|text| model.prepare(text, purpose)).collect()
}

fn generate(
    server: &Server,
    ticket: Ticket,
    model: &ModelRef,
    messages: &[ChatMessage],
    params: GenerateParams,
    stream: bool,
) {
    let prepared = server.registry.get(model).and_then(|entry| {
        let model = generate_model(&entry)?;
        let prompt = model.prompt_tokens(messages).map_err(|error| failure_of(&error))?;
        model.check(&params).map_err(|error| failure_of(&error))?;
        Ok((entry, prompt))
    });
    match prepared {
        Ok((entry, prompt)) => server.scheduler.generate(generation(ticket, entry, prompt, params, stream)),
        Err(failure) => ticket.fail(failure),
    }
}

fn embed_model(entry: &Entry) -> Result<&Arc<dyn EmbedModel>, Failure> {
    match &entry.runtime {
        Runtime::Embed(model) => Ok(model),
        Runtime::Rerank(_) => Err(wrong_kind("a reranking model cannot embed")),
        Runtime::Generate(_) => Err(wrong_kind("a generation model cannot embed")),
    }
}

fn generate_model(entry: &Entry) -> Result<&Arc<dyn GenerateModel>, Failure> {
    match &entry.runtime {
        Runtime::Generate(model) => Ok(model),
        Runtime::Embed(_) => Err(wrong_kind("an embedding model cannot generate")),
        Runtime::Rerank(_) => Err(wrong_kind("a reranking model cannot generate")),
    }
}

fn wrong_kind(message: &str) -> Failure {
    failure_of(&ModelError::InvalidArgument(message.into()))
}
