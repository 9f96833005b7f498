//! Requests for models that run elsewhere: threads that wait for other machines, and how many there may be.
//!
//! Such a request has a thread of its own, which does nothing but wait: neither the engine nor the connection's thread ever
//! waits for a network. Only so many run at the same time, of one server and of all; the others wait for their
//! turn, some places are kept for interactive ones, and more than may wait are refused. A client that goes away ends its request where it waits.
//!
//! Invariants: a place among the running requests is given back only when everything that the request has started is over,
//! also a name look-up that cannot be interrupted; a request without a thread is answered by its dropped ticket.

use super::connection::admit;
use super::failure::{failure_of, failure_of_remote, internal, panic_text};
use super::queue::Requester;
use super::reply::Ticket;
use super::Server;
use crate::error::ModelError;
use crate::remote::options::RemoteOptions;
use crate::remote::{chat, count, embeddings, rerank, Abandoned, Client, RemoteError};
use pg_rag_protocol::frame::MAX_PAYLOAD_BYTES;
use pg_rag_protocol::message::{FailureKind, Lane, ModelInfo, ModelKind, ModelRef, Purpose, Request, Response};
use pg_rag_protocol::remote::RemoteServer;
use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests that run at the same time, and those of one address.
const MAX_RUNNING: usize = 64;
const MAX_RUNNING_PER_SERVER: usize = 16;

/// Bulk requests leave these places to interactive ones, of all and of one address.
const RESERVED: usize = 16;
const RESERVED_PER_SERVER: usize = 4;

/// How often a request that waits for its turn asks whether its client is still there.
const PATIENCE: Duration = Duration::from_millis(50);

/// Stack of a request's thread: TLS, and JSON as deep as its parser goes.
const STACK_BYTES: usize = 1 << 20;

/// What a registration is tried out with where it does not tell the length of vectors.
const SAMPLE: &str = "How long are the vectors?";

/// Counts the requests that run and wait.
pub struct Gateway {
    load: Mutex<Load>,
    changed: Condvar,
    max_waiting: usize,
}

#[derive(Default)]
struct Load {
    waiting: usize,
    running: usize,
    /// By address; only addresses with running requests are in it.
    running_at: HashMap<String, usize>,
}

/// A running request's place.
struct Place {
    gateway: Arc<Gateway>,
    address: String,
}

impl Gateway {
    /// Refuses a request when `max_waiting` wait.
    pub fn new(max_waiting: usize) -> Arc<Self> {
        Arc::new(Self { load: Mutex::default(), changed: Condvar::new(), max_waiting })
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        // Numbers that are changed without calling anything, so a panic elsewhere cannot have left them half-changed.
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// A place, now or later; the number of those that wait where more may not.
    fn enter(self: &Arc<Self>, lane: Lane, address: &str) -> Result<Entrance, usize> {
        let mut load = self.lock();
        // Nobody overtakes.
        if load.waiting == 0 {
            if let Some(place) = self.take_place(&mut load, lane, address) {
                return Ok(Entrance::Open(place));
            }
        }
        if load.waiting >= self.max_waiting {
            return Err(load.waiting);
        }
        load.waiting += 1;
        Ok(Entrance::Later(Waiting { gateway: self.clone(), lane }))
    }

    fn take_place(self: &Arc<Self>, load: &mut Load, lane: Lane, address: &str) -> Option<Place> {
        let of_server = load.running_at.get(address).copied().unwrap_or(0);
        let (most, most_of_server) = match lane {
            Lane::Interactive => (MAX_RUNNING, MAX_RUNNING_PER_SERVER),
            Lane::Bulk => (MAX_RUNNING - RESERVED, MAX_RUNNING_PER_SERVER - RESERVED_PER_SERVER),
        };
        if load.running >= most || of_server >= most_of_server {
            return None;
        }
        load.running += 1;
        *load.running_at.entry(address.to_owned()).or_default() += 1;
        Some(Place { gateway: self.clone(), address: address.to_owned() })
    }

    /// Answers `ticket` with what `work` gives, on a thread of its own.
    fn start(
        self: &Arc<Self>,
        ticket: Ticket,
        server: RemoteServer,
        lane: Lane,
        work: impl FnOnce(&Ticket, &Client, f32) -> Result<Response, RemoteError> + Send + 'static,
    ) {
        let entrance = match self.enter(lane, &server.base_url) {
            Ok(entrance) => entrance,
            Err(waiting) => return ticket.fail(failure_of(&ModelError::Overloaded(waiting))),
        };
        let began = Instant::now();
        let body = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let place = Arc::new(match entrance {
                    Entrance::Open(place) => place,
                    Entrance::Later(waiting) => waiting.turn(&ticket, &server.base_url)?,
                });
                let gone = ticket.client_gone();
                let abandoned: Abandoned = Arc::new(move || {
                    // Whoever can ask keeps the place.
                    let _kept = &place;
                    gone()
                });
                let client = Client::new(&server, abandoned)?;
                work(&ticket, &client, began.elapsed().as_secs_f32() * 1000.0)
            }));
            match outcome {
                Ok(Ok(response)) => ticket.finish(response),
                Ok(Err(error)) => ticket.fail(failure_of_remote(error)),
                Err(panic) => ticket.fail(internal(format!("a request to a server panicked: {}", panic_text(&*panic)))),
            }
        };
        // Where no thread can be started the ticket is dropped, which answers it.
        let _ = std::thread::Builder::new().name("remote".into()).stack_size(STACK_BYTES).spawn(body);
    }
}

/// How a request comes in.
enum Entrance {
    Open(Place),
    Later(Waiting),
}

/// A request among the waiting ones.
struct Waiting {
    gateway: Arc<Gateway>,
    lane: Lane,
}

impl Waiting {
    fn turn(self, ticket: &Ticket, address: &str) -> Result<Place, RemoteError> {
        let mut load = self.gateway.lock();
        loop {
            if let Some(place) = self.gateway.take_place(&mut load, self.lane, address) {
                return Ok(place);
            }
            load = self.gateway.changed.wait_timeout(load, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            if ticket.is_cancelled() {
                return Err(RemoteError::cancelled());
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gateway.lock().waiting -= 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut load = self.gateway.lock();
        load.running -= 1;
        if let Some(running) = load.running_at.get_mut(&self.address) {
            *running -= 1;
            if *running == 0 {
                load.running_at.remove(&self.address);
            }
        }
        drop(load);
        self.gateway.changed.notify_all();
    }
}

/// The model that a request is for.
fn model_of(request: &Request) -> Option<&ModelRef> {
    match request {
        Request::Load { model }
        | Request::Tokenize { model, .. }
        | Request::Detokenize { model, .. }
        | Request::Embed { model, .. }
        | Request::EmbedTokens { model, .. }
        | Request::Rerank { model, .. }
        | Request::Generate { model, .. }
        | Request::CountPrompt { model, .. }
        | Request::Quantize { model, .. }
        | Request::QuantizationReport { model, .. }
        | Request::ModelMemory { model, .. } => Some(model),
        _ => None,
    }
}

/// Whether [`answer`] answers the request.
pub fn concerns(request: &Request) -> bool {
    matches!(request, Request::InspectRemote { .. }) || model_of(request).is_some_and(|model| model.remote.is_some())
}

/// Answers a request for a model that runs elsewhere, now or on a thread of its own.
pub fn answer(server: &Server, request: Request, ticket: Ticket) {
    let gateway = &server.gateway;
    match request {
        Request::InspectRemote { kind, server: remote, options_json, caller } => {
            let Some(ticket) = admit(server, ticket, caller) else { return };
            match RemoteOptions::parse(kind, &options_json) {
                Ok(options) if kind == ModelKind::Embed && options.dimensions.is_none() => {
                    gateway.start(ticket, remote, Lane::Interactive, move |_, client, _| {
                        let sample = [SAMPLE.to_owned()];
                        let vector = embeddings::embed(client, &options, &sample, Purpose::Passage, None)?.values;
                        if vector.is_empty() || vector.len() > 16_000 {
                            let reason = format!("it has a vector with {} dimensions", vector.len());
                            return Err(RemoteError::protocol(client.name(), reason));
                        }
                        Ok(Response::Inspected(describe(&options, vector.len() as u32)))
                    });
                }
                Ok(options) => ticket.finish(Response::Inspected(describe(&options, options.dimensions.unwrap_or(0)))),
                Err(error) => ticket.fail(failure_of_remote(error)),
            }
        }
        Request::Embed { model, texts, purpose, lane, caller } => {
            let Some(ticket) = admit(server, ticket, caller) else { return };
            ask(gateway, ticket, model, ModelKind::Embed, lane, move |_, client, options, _| {
                let dimensions = options.dimensions.unwrap_or(0);
                let answer_bytes = texts.len().saturating_mul(dimensions as usize).saturating_mul(size_of::<f32>());
                if answer_bytes > MAX_PAYLOAD_BYTES / 2 {
                    let message = format!("too many texts in one request: {}", texts.len());
                    return Err(RemoteError::new(FailureKind::InvalidArgument, message));
                }
                let vectors = embeddings::embed(client, options, &texts, purpose, Some(dimensions))?;
                Ok(Response::Embeddings { dimensions, values: vectors.values, tokens: vectors.tokens })
            });
        }
        Request::Rerank { model, query, passages, lane, caller } => {
            let Some(ticket) = admit(server, ticket, caller) else { return };
            ask(gateway, ticket, model, ModelKind::Rerank, lane, move |_, client, options, _| {
                Ok(Response::Scores { values: rerank::score(client, options, &query, &passages)?, tokens: 0 })
            });
        }
        Request::Generate { model, messages, params, stream, caller } => {
            let Some(ticket) = admit(server, ticket, caller) else { return };
            ask(
                gateway,
                ticket,
                model,
                ModelKind::Generate,
                Lane::Interactive,
                move |ticket, client, options, waited| {
                    let mut send = |piece| ticket.send_part(Response::Token(piece));
                    let piece: Option<&mut dyn FnMut(String)> = if stream { Some(&mut send) } else { None };
                    let chat::Completion { text, finish, mut usage } =
                        chat::complete(client, options, &messages, &params, piece)?;
                    usage.queue_ms = waited;
                    Ok(Response::Generated { text, finish, usage })
                },
            );
        }
        Request::Tokenize { texts, .. } => {
            ticket.finish(Response::Tokens(texts.iter().map(|text| count::tokens(text)).collect()));
        }
        Request::CountPrompt { messages, .. } => {
            ticket.finish(Response::Count(count::conversation(&messages) as u64));
        }
        request => {
            let name = model_of(&request).map_or("", |model| &model.name);
            let message = format!("model \"{name}\" runs elsewhere: it has no files, no memory and no vocabulary here");
            ticket.fail(failure_of_remote(RemoteError::new(FailureKind::RemoteModel, message)));
        }
    }
}

/// Starts a request for a registered model.
fn ask(
    gateway: &Arc<Gateway>,
    ticket: Ticket,
    model: ModelRef,
    kind: ModelKind,
    lane: Lane,
    work: impl FnOnce(&Ticket, &Client, &RemoteOptions, f32) -> Result<Response, RemoteError> + Send + 'static,
) {
    let options = match RemoteOptions::parse(kind, &model.options_json) {
        Ok(options) => options,
        Err(error) => return ticket.fail(failure_of_remote(error)),
    };
    match model.remote {
        Some(remote) => {
            gateway.start(ticket, *remote, lane, move |ticket, client, waited| work(ticket, client, &options, waited));
        }
        None => ticket.fail(internal("a request for a model that runs here was sent elsewhere")),
    }
}

/// What there is to know of a remote model.
fn describe(options: &RemoteOptions, dimensions: u32) -> ModelInfo {
    ModelInfo {
        files: Vec::new(),
        architecture: "remote".to_owned(),
        dimensions,
        max_tokens: options.max_tokens,
        parameters: 0,
        size_bytes: 0,
        quantization: String::new(),
        file_bytes: Vec::new(),
        license: None,
    }
}
