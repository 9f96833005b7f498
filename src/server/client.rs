//! What the SQL functions call: one request, one answer, over a connection that the backend keeps.
//!
//! The idle connection lies in a slot. A request takes it out and puts it back only after the final response; an
//! error or a cancelled query drops it instead, which is how the server learns to stop. A stream holds its connection
//! as long as it is read, so other requests of the same query open a second one.

use crate::error::{from_failure, unexpected_response, Result};
use crate::gucs;
use crate::pg::backend::{database_oid, session_role};
use crate::server::connection::{self, Connection};
use crate::server::launch;
use pg_rag_protocol::message::{Caller, FailureKind, Request, Response, Waiter};
use pgrx::pg_sys::panic::ErrorReport;
use std::cell::RefCell;

thread_local! {
    static IDLE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// On whose behalf this session asks.
pub fn caller() -> Caller {
    Caller { role: session_role().to_u32(), max_requests: gucs::max_concurrent_requests().unsigned_abs() }
}

/// This backend as one that waits for long work.
pub fn waiter() -> Waiter {
    Waiter { pid: std::process::id(), database: database_oid().to_u32() }
}

/// Sends `request` and returns the final response; a [`Response::Failed`] becomes an error.
pub fn call(request: &Request) -> Result<Response> {
    Exchange::start(request)?.finish()
}

/// Sends a request that has nothing to return.
pub fn command(request: &Request) -> Result<()> {
    match call(request)? {
        Response::Done => Ok(()),
        _ => Err(unexpected_response("an acknowledgement")),
    }
}

/// A request whose answer is read piece by piece. Dropping it before its end cancels the request.
pub struct Exchange {
    /// `None` once the final response has been read and the connection is back in its slot.
    connection: Option<Connection>,
    /// What to send again if the server turns out to be about to end; `None` once that happened.
    again: Option<Vec<u8>>,
}

/// What an exchange read.
pub enum Next {
    /// A piece of a streamed answer.
    Piece(String),
    /// The end; nothing may be read after it.
    Final(Response),
}

impl Exchange {
    /// Sends `request` over the idle connection, or over a new one.
    pub fn start(request: &Request) -> Result<Self> {
        let idle = IDLE.take().filter(|connection| !connection.is_closed());
        let frame = connection::encode(request)?;
        let mut connection = match idle {
            Some(connection) => connection,
            None => launch::connect()?,
        };
        connection.send(&frame)?;
        Ok(Self { connection: Some(connection), again: Some(frame) })
    }

    /// Sends the request to the successor of a server that ended before it began to work on it, once; else fails with
    /// `failure`.
    fn send_again(&mut self, failure: ErrorReport) -> Result<()> {
        self.connection = None;
        let Some(frame) = self.again.take() else { return Err(failure) };
        let mut connection = launch::connect()?;
        connection.send(&frame)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Waits for the final response.
    pub fn finish(mut self) -> Result<Response> {
        loop {
            if let Next::Final(response) = self.next()? {
                return Ok(response);
            }
        }
    }

    /// Waits for the next response.
    pub fn next(&mut self) -> Result<Next> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(unexpected_response("more than its final response"));
        };
        let response = match connection.receive(None) {
            Ok(response) => response,
            Err(failure) => {
                self.connection = None;
                return Err(failure);
            }
        };
        match response {
            Response::Token(piece) => {
                self.again = None;
                Ok(Next::Piece(piece))
            }
            response => {
                let connection = self.connection.take();
                match response {
                    Response::Failed(failure) if failure.kind == FailureKind::Stopping => {
                        self.send_again(from_failure(failure))?;
                        self.next()
                    }
                    Response::Failed(failure) => {
                        IDLE.set(connection);
                        Err(from_failure(failure))
                    }
                    response => {
                        IDLE.set(connection);
                        Ok(Next::Final(response))
                    }
                }
            }
        }
    }
}
