//! One connection to the model server: frames over a non-blocking Unix socket.
//!
//! Every wait goes through [`crate::pg::latch`], so a cancelled query unwinds out of any function here. The
//! connection is then dropped, and its closing is what tells the server to stop working on the request.

use crate::error::{error, Result};
use crate::pg::latch::{self, Readiness};
use crate::server::paths;
use pg_rag_protocol::frame::{self, HEADER_BYTES};
use pg_rag_protocol::message::{Request, Response};
use pg_rag_protocol::{build_id, PROTOCOL_VERSION};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::PgSqlErrorCode;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long the server may take to answer the greeting; it does so before any other work.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Connection {
    socket: Socket,
}

/// What the server said to the greeting.
pub enum Greeting {
    Welcome,
    /// The server is of another build; `restarting` if its successor will be of ours.
    Mismatch {
        restarting: bool,
    },
}

impl Connection {
    /// Connects without waiting. `NotFound` and `ConnectionRefused` mean that no server is running.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(paths::SOCKET)?)?;
        Ok(Self { socket })
    }

    /// Exchanges versions. Must be the first thing on a connection.
    pub fn greet(&mut self) -> Result<Greeting> {
        self.send(&encode(&Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() })?)?;
        match self.receive(Some(GREETING_TIMEOUT))? {
            Response::Welcome { .. } => Ok(Greeting::Welcome),
            Response::Mismatch { restarting, .. } => Ok(Greeting::Mismatch { restarting }),
            Response::Failed(failure) => Err(crate::error::from_failure(failure)),
            _ => Err(crate::error::unexpected_response("a greeting")),
        }
    }

    /// Whether the server has closed an idle connection.
    pub fn is_closed(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::<u8>::uninit()];
        match self.socket.peek(&mut byte) {
            Ok(0) => true,
            // Nothing may arrive on an idle connection: whatever it is, this connection is out of step.
            Ok(_) => true,
            Err(failure) => failure.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Sends one request, made by [`encode`], waiting for room in the socket as needed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {
                    latch::wait_for_socket(self.socket.as_fd(), Readiness::Write, None);
                }
                Err(failure) if failure.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(connection_lost()),
            }
        }
        Ok(())
    }

    /// Greets and sends `request` as far as the socket takes it at once.
    pub fn send_without_waiting(&mut self, request: &Request) -> Result<()> {
        let mut bytes = encode(&Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() })?;
        bytes.extend(encode(request)?);
        self.socket.write_all(&bytes).map_err(|_| connection_lost())
    }

    /// Waits for the next response; `timeout` counts from the call.
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Response> {
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        let mut header = [0u8; HEADER_BYTES];
        self.fill(&mut header, deadline)?;
        let length = frame::payload_bytes(header).map_err(malformed)?;
        let mut payload = vec![0u8; length];
        self.fill(&mut payload, deadline)?;
        frame::decode(&payload).map_err(malformed)
    }

    fn fill(&mut self, buffer: &mut [u8], deadline: Option<std::time::Instant>) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.socket.read(&mut buffer[filled..]) {
                Ok(0) => return Err(connection_lost()),
                Ok(count) => filled += count,
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {
                    let remaining =
                        deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
                    if remaining == Some(Duration::ZERO) {
                        return Err(error(PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE, "model server did not answer")
                            .set_hint("See the PostgreSQL log for messages of the model server."));
                    }
                    latch::wait_for_socket(self.socket.as_fd(), Readiness::Read, remaining);
                }
                Err(failure) if failure.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(connection_lost()),
            }
        }
        Ok(())
    }
}

/// A request as a frame.
pub fn encode(request: &Request) -> Result<Vec<u8>> {
    frame::encode(request).map_err(|failure| {
        error(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, format!("request to the model server: {failure}"))
            .set_hint("Process the input in smaller pieces.")
    })
}

fn malformed(failure: frame::FrameError) -> ErrorReport {
    error(PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION, format!("answer of the model server: {failure}"))
}

/// The server died, or was stopped, while this connection waited for it.
fn connection_lost() -> ErrorReport {
    error(PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE, "connection to the model server was lost")
        .set_detail("The model server stopped while it worked on this request. It is started again by itself.")
        .set_hint("Try again. If it happens again, see the PostgreSQL log and check that there is enough memory.")
}
