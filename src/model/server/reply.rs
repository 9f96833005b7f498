//! The way back to a client: tickets for unanswered requests, and the thread that writes answers to the socket.
//!
//! Invariants: every request that got a [`Ticket`] is answered with exactly one final response, also when the ticket
//! is dropped; the thread that answers never waits for a client that does not read, because answers go through an
//! unbounded channel to the connection's own writer thread. What a slow client can pile up there is bounded by its
//! own request: one final answer, and at most `max_tokens` pieces.

use super::failure::{failure_of, internal};
use super::lifecycle::Busy;
use super::queue::Requester;
use super::roles::Running;
use crate::error::ModelError;
use pg_rag_protocol::frame::{self, FrameError};
use pg_rag_protocol::message::{Failure, Response};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::Arc;

/// Whose turn it is to speak on a connection.
#[derive(Default)]
pub struct Turn {
    /// A request is unanswered: the client may not send anything.
    pub server_speaks: AtomicBool,
    /// The client went away or broke the rules; nobody reads answers any more.
    pub client_gone: AtomicBool,
}

/// A response on its way to the socket, with the proof that the server is not drained before it is written.
pub struct Outgoing {
    response: Response,
    _busy: Option<Busy>,
}

/// An unanswered request.
pub struct Ticket {
    outgoing: Sender<Outgoing>,
    turn: Arc<Turn>,
    busy: Option<Busy>,
    role: Option<Running>,
    answered: bool,
}

impl Ticket {
    pub fn new(outgoing: Sender<Outgoing>, turn: Arc<Turn>, busy: Option<Busy>) -> Self {
        turn.server_speaks.store(true, Ordering::SeqCst);
        Self { outgoing, turn, busy, role: None, answered: false }
    }

    /// Counts the request among those of a role until it is answered.
    pub fn count(&mut self, role: Running) {
        self.role = Some(role);
    }

    /// Asks, for whoever does not hold the ticket, whether the client has gone away.
    pub fn client_gone(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let turn = self.turn.clone();
        move || turn.client_gone.load(Ordering::Relaxed)
    }

    /// Sends a part of the answer.
    pub fn send_part(&self, response: Response) {
        // The channel is closed when the client is gone; then nobody misses the part.
        let _ = self.outgoing.send(Outgoing { response, _busy: None });
    }

    /// Sends the final response.
    pub fn finish(mut self, response: Response) {
        self.answer(response);
    }

    pub fn fail(self, failure: Failure) {
        self.finish(Response::Failed(failure));
    }

    fn answer(&mut self, response: Response) {
        self.answered = true;
        // Before the client can see the answer: it may send the next request at once.
        self.role = None;
        self.turn.server_speaks.store(false, Ordering::SeqCst);
        let _ = self.outgoing.send(Outgoing { response, _busy: self.busy.take() });
    }
}

impl Requester for Ticket {
    fn is_cancelled(&self) -> bool {
        self.turn.client_gone.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            let failure = match std::thread::panicking() {
                true => internal("the request panicked"),
                false => failure_of(&ModelError::Cancelled),
            };
            self.answer(Response::Failed(failure));
        }
    }
}

/// Body of the writer thread: writes until the connection and all its tickets are gone, or the client is.
pub fn write_all(mut stream: UnixStream, outgoing: Receiver<Outgoing>) {
    for Outgoing { response, _busy } in outgoing {
        if stream.write_all(&encode(&response)).is_err() {
            break;
        }
    }
    // Tells the reader thread, too.
    let _ = stream.shutdown(Shutdown::Both);
}

/// The frame of `response`, or of a failure when it does not fit into one.
pub fn encode(response: &Response) -> Vec<u8> {
    let substitute = match frame::encode(response) {
        Ok(bytes) => return bytes,
        Err(FrameError::TooLarge(bytes)) => failure_of(&ModelError::InvalidArgument(format!(
            "the answer of {bytes} bytes is larger than the limit of {} bytes",
            frame::MAX_PAYLOAD_BYTES
        ))),
        Err(error) => internal(error.to_string()),
    };
    // A failure of a few short texts always fits.
    frame::encode(&Response::Failed(substitute)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pg_rag_protocol::message::FailureKind;
    use std::sync::mpsc::channel;

    #[test]
    fn a_dropped_ticket_is_answered_with_a_failure() {
        let (sender, receiver) = channel();
        let turn = Arc::new(Turn::default());
        let ticket = Ticket::new(sender, turn.clone(), None);
        assert!(turn.server_speaks.load(Ordering::SeqCst));
        drop(ticket);
        assert!(!turn.server_speaks.load(Ordering::SeqCst));
        let Response::Failed(failure) = receiver.recv().unwrap().response else { panic!("not a failure") };
        assert_eq!(failure.kind, FailureKind::Cancelled);
        assert!(receiver.recv().is_err(), "exactly one answer");
    }

    #[test]
    fn an_answer_that_does_not_fit_becomes_a_failure() {
        let text = "x".repeat(frame::MAX_PAYLOAD_BYTES);
        let bytes = encode(&Response::Texts(vec![text]));
        let Response::Failed(failure) = frame::decode(&bytes[frame::HEADER_BYTES..]).unwrap() else {
            panic!("not a failure")
        };
        assert_eq!(failure.kind, FailureKind::InvalidArgument);
    }
}
