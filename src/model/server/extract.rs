//! Reading documents: where, with how much memory and time, and how it is stopped.
//!
//! A document of a binary format (archives, PDF) is read by a process of its own, `pg_rag_server extract`: a library that
//! allocates without end, overflows its stack or never returns takes a process with it, and this one holds the models of
//! everybody. The process has a limit of memory, which is counted against the server's budget while it runs, and a limit
//! of computing time; it is killed when the client goes away or the time is over. Starting it takes some milliseconds.
//! Text, Markdown and HTML are read here, on a thread, by code that is linear in its input.
//!
//! Only some documents are read at the same time; others wait for their turn, and a client that goes away while it
//! waits is forgotten.
//!
//! Invariants: the document is never copied but into the pipe; the process ends before its request is answered; its
//! answer is a frame that was checked like any other.

use super::failure::{failure_of, failure_of_document, internal};
use super::memory::{Budget, Share};
use super::queue::Requester;
use super::reply::Ticket;
use crate::error::ModelError;
use pg_rag_documents::{DocumentError, Hints, Limits};
use pg_rag_protocol::document::{
    ExtractOptions, ExtractedDocument, ExtractedHeading, ExtractedPage, MAX_DOCUMENT_BYTES,
};
use pg_rag_protocol::frame::{self, HEADER_BYTES};
use pg_rag_protocol::message::{Failure, FailureKind, Response};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Memory of a process that reads a document, besides what the document's own size asks for.
const PROCESS_BYTES: u64 = 512 << 20;

/// It is started with less than that, where the budget leaves less, but not with less than this.
const MIN_PROCESS_BYTES: u64 = 128 << 20;

/// Memory for each byte of the document: the document, what is unpacked of it, the text.
const PROCESS_BYTES_PER_BYTE: u64 = 4;

/// How often a wait looks whether the client is still there.
const LOOK: Duration = Duration::from_millis(10);

/// Stack of a thread that reads text or waits for a process.
const STACK_BYTES: usize = 2 << 20;

/// What a process is told before the document's bytes.
#[derive(Serialize, Deserialize)]
struct Job {
    options: ExtractOptions,
}

/// Where documents are read.
pub struct Extractor {
    /// The program of this process.
    program: PathBuf,
    budget: Arc<Budget>,
    running: Mutex<usize>,
    changed: Condvar,
    most: usize,
}

/// A turn to read a document; the next one begins when it is dropped.
struct Turn(Arc<Extractor>);

impl Extractor {
    /// `most` documents are read at the same time.
    pub fn new(program: PathBuf, budget: Arc<Budget>, most: usize) -> Arc<Self> {
        Arc::new(Self { program, budget, running: Mutex::new(0), changed: Condvar::new(), most: most.max(1) })
    }

    /// Reads a document on a thread of its own and answers the ticket.
    pub fn start(self: &Arc<Self>, ticket: Ticket, document: Vec<u8>, options: ExtractOptions) {
        let extractor = self.clone();
        let thread = std::thread::Builder::new().name("extract".into()).stack_size(STACK_BYTES);
        // Where no thread can be started, the ticket is dropped with the closure, and answers for itself.
        let _ = thread.spawn(move || {
            let answer = extractor.extract(&ticket, document, &options);
            match answer {
                Ok(response) => ticket.finish(response),
                Err(failure) => ticket.fail(failure),
            }
        });
    }

    fn extract(
        self: &Arc<Self>,
        client: &Ticket,
        document: Vec<u8>,
        options: &ExtractOptions,
    ) -> Result<Response, Failure> {
        let limits = limits(options);
        // Before a turn is waited for: what cannot be read costs nobody anything.
        if document.len() > limits.input_bytes {
            let (bytes, limit) = (document.len(), limits.input_bytes);
            return Err(failure_of_document(&DocumentError::InputLimit { bytes, limit }));
        }
        let own_bytes = (document.len() as u64).saturating_mul(PROCESS_BYTES_PER_BYTE);
        let _own = self.budget.take(own_bytes).ok_or_else(|| self.no_memory(own_bytes))?;
        let _turn = self.turn(client)?;
        match pg_rag_documents::needs_isolation(&document, &hints(options)) {
            true => self.in_process(client, &document, options, &limits),
            false => read(&Arc::new(document), options, &|| client.is_cancelled()),
        }
    }

    fn turn(self: &Arc<Self>, client: &Ticket) -> Result<Turn, Failure> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= self.most {
            running = self.changed.wait_timeout(running, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            if client.is_cancelled() {
                return Err(failure_of(&ModelError::Cancelled));
            }
        }
        *running += 1;
        Ok(Turn(self.clone()))
    }

    /// As much memory as a process should have besides that for its document, or as there is.
    fn memory(&self) -> Result<(Share, u64), Failure> {
        let mut bytes = PROCESS_BYTES;
        loop {
            if let Some(share) = self.budget.take(bytes) {
                return Ok((share, bytes));
            }
            if bytes <= MIN_PROCESS_BYTES {
                return Err(self.no_memory(bytes));
            }
            bytes /= 2;
        }
    }

    fn no_memory(&self, needed_bytes: u64) -> Failure {
        let limit_bytes = self.budget.limit_bytes().unwrap_or(u64::MAX);
        let left_bytes = limit_bytes.saturating_sub(self.budget.taken_bytes());
        let what = "reading the document".to_owned();
        failure_of(&ModelError::MemoryLimit { what, needed_bytes, left_bytes, limit_bytes })
    }

    fn in_process(
        &self,
        client: &Ticket,
        document: &[u8],
        options: &ExtractOptions,
        limits: &Limits,
    ) -> Result<Response, Failure> {
        let (_share, bytes) = self.memory()?;
        let memory_bytes = bytes + document.len() as u64 * PROCESS_BYTES_PER_BYTE;
        let header = frame::encode(&Job { options: options.clone() }).map_err(|error| internal(error.to_string()))?;
        let mut child = Command::new(&self.program)
            .args(["extract", "--memory-bytes", &memory_bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| internal(format!("could not start a process that reads documents: {error}")))?;
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(internal("a process was started without pipes"));
        };
        let (sender, receiver) = channel();
        let mut outcome = None;
        let status = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A process that ends early breaks the pipe; its end is what counts. Dropping the pipe ends the input.
                let _ = stdin.write_all(&header).and_then(|()| stdin.write_all(document));
            });
            scope.spawn(move || {
                let mut answer = Vec::new();
                let limit = (HEADER_BYTES + frame::MAX_PAYLOAD_BYTES) as u64;
                let read = stdout.by_ref().take(limit).read_to_end(&mut answer);
                let _ = sender.send(read.map(|_| answer));
            });
            // The process has a clock of its own; this one is for a process that does not obey it.
            let deadline = Instant::now() + limits.time + Duration::from_secs(1);
            outcome = Some(wait(&receiver, client, deadline, limits));
            end(&mut child, matches!(outcome, Some(Ok(_))))
        });
        let answer = outcome.unwrap_or_else(|| Err(internal("nobody waited for the process")))?;
        understand(&answer, status, memory_bytes, limits)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.changed.notify_one();
    }
}

/// Waits for what the process writes, as long as the client is there and the time is not over.
fn wait(
    receiver: &std::sync::mpsc::Receiver<io::Result<Vec<u8>>>,
    client: &Ticket,
    deadline: Instant,
    limits: &Limits,
) -> Result<Vec<u8>, Failure> {
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if client.is_cancelled() {
            return Err(failure_of(&ModelError::Cancelled));
        }
        if Instant::now() > deadline {
            return Err(failure_of_document(&DocumentError::TimeLimit { limit: limits.time }));
        }
    }
}

/// Ends the process, which has closed its output or is not wanted any more, and takes its status.
fn end(child: &mut Child, is_done: bool) -> Option<ExitStatus> {
    if !is_done {
        // An error means that it has ended already.
        let _ = child.kill();
    }
    child.wait().ok()
}

/// The answer of a process, or what its end means.
fn understand(
    answer: &[u8],
    status: Option<ExitStatus>,
    memory_bytes: u64,
    limits: &Limits,
) -> Result<Response, Failure> {
    let payload = answer.split_first_chunk::<HEADER_BYTES>().and_then(|(header, payload)| {
        frame::payload_bytes(*header).ok().filter(|&bytes| bytes == payload.len()).map(|_| payload)
    });
    if let Some(response) = payload.and_then(|payload| frame::decode::<Response>(payload).ok()) {
        return match response {
            Response::Failed(failure) => Err(failure),
            response => Ok(response),
        };
    }
    Err(match status.and_then(|status| status.signal()) {
        Some(libc::SIGXCPU | libc::SIGKILL) => failure_of_document(&DocumentError::TimeLimit { limit: limits.time }),
        // The standard library aborts where memory cannot be had.
        Some(libc::SIGABRT) => Failure {
            kind: FailureKind::DocumentLimit,
            message: format!("document takes more memory to read than the limit of {} MB", memory_bytes >> 20),
            detail: None,
            hint: Some("Split the document.".to_owned()),
        },
        _ => failure_of_document(&DocumentError::Reader("its reader ended without an answer".to_owned())),
    })
}

fn limits(options: &ExtractOptions) -> Limits {
    let mut limits = Limits { input_bytes: MAX_DOCUMENT_BYTES, ..Limits::default() };
    if options.time_limit_ms > 0 {
        limits.time = limits.time.min(Duration::from_millis(options.time_limit_ms.into()));
    }
    limits
}

fn hints(options: &ExtractOptions) -> Hints {
    Hints { kind: options.kind.clone(), encoding: options.encoding.clone() }
}

/// Reads a document in this process.
fn read(document: &Arc<Vec<u8>>, options: &ExtractOptions, cancelled: &dyn Fn() -> bool) -> Result<Response, Failure> {
    let document = pg_rag_documents::extract(document, &hints(options), &limits(options), cancelled)
        .map_err(|error| failure_of_document(&error))?;
    Ok(Response::Document(ExtractedDocument {
        kind: document.kind.name().to_owned(),
        is_markdown: document.markup == pg_rag_documents::Markup::Markdown,
        title: document.properties.title,
        author: document.properties.author,
        subject: document.properties.subject,
        language: document.properties.language,
        created: document.properties.created,
        pages: document
            .pages
            .into_iter()
            .map(|page| ExtractedPage {
                number: page.number as u32,
                name: page.name,
                headings: page
                    .headings
                    .into_iter()
                    .map(|heading| ExtractedHeading {
                        level: heading.level,
                        title: heading.title,
                        char_start: heading.char_start as u32,
                    })
                    .collect(),
                text: page.text,
            })
            .collect(),
        notices: document.notices,
    }))
}

/// The other end: the whole life of a process that reads one document from its standard input and writes the answer to
/// its standard output. [`super::process::confine`] comes first.
pub fn run_process() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header)?;
    let payload_bytes = frame::payload_bytes(header).map_err(io::Error::other)?;
    let mut payload = Vec::new();
    input.by_ref().take(payload_bytes as u64).read_to_end(&mut payload)?;
    let job: Job = frame::decode(&payload).map_err(io::Error::other)?;
    let mut document = Vec::new();
    input.read_to_end(&mut document)?;
    let response = read(&Arc::new(document), &job.options, &|| false).unwrap_or_else(Response::Failed);
    io::stdout().lock().write_all(&super::reply::encode(&response))
}

/// Seconds of computing that a process may take, whatever its own clock says.
pub fn cpu_limit_s() -> u64 {
    Limits::default().time.as_secs() + 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_understood() {
        let limits = Limits::default();
        let failure = |answer: &[u8], signal: i32| {
            understand(answer, Some(ExitStatus::from_raw(signal)), 600 << 20, &limits).unwrap_err()
        };
        let killed = failure(b"", libc::SIGABRT);
        assert_eq!(killed.kind, FailureKind::DocumentLimit);
        assert_eq!(killed.message, "document takes more memory to read than the limit of 600 MB");
        assert!(failure(b"\x01", libc::SIGXCPU).message.contains("longer to read"));
        assert_eq!(failure(b"\x05\0\0\0nope", libc::SIGSEGV).kind, FailureKind::InvalidInput);
        let answer = super::super::reply::encode(&Response::Document(ExtractedDocument::default()));
        assert!(understand(&answer, None, 1, &limits).is_ok());
        assert!(understand(&answer[..answer.len() - 1], None, 1, &limits).is_err());
    }

    #[test]
    fn memory_is_taken_from_the_budget_as_far_as_it_goes() {
        let extractor = |limit: u64| Extractor::new("x".into(), Budget::new(Some(limit << 20)), 1);
        assert_eq!(extractor(2000).memory().unwrap().1, 512 << 20);
        assert_eq!(extractor(300).memory().unwrap().1, 256 << 20);
        assert_eq!(extractor(100).memory().err().map(|failure| failure.kind), Some(FailureKind::OutOfMemory));
        let extractor = extractor(600);
        let first = extractor.memory().unwrap();
        assert!(extractor.memory().is_err());
        drop(first);
        assert!(extractor.memory().is_ok());
    }
}
