//! Connections for ureq that obey a [`Watch`] and go to checked addresses only.
//!
//! A name is resolved once for a connection, its addresses are checked, and the connection is made to one of exactly
//! these: what the name means a moment later does not matter. ureq's transport interface makes no promise of
//! stability, so its version is pinned.

use super::address;
use super::watch::{Stop, Watch};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};
use ureq::{Agent, Error};

/// Longest time for one address to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there is no connection, or no longer one. Travels through ureq inside of an I/O error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("nobody waits any more")]
    Abandoned,
    #[error("the time is up")]
    TimeIsUp,
    #[error("the name of the host is not known")]
    UnknownHost,
    /// With what is wrong with the address.
    #[error("the address of the host {0}")]
    Refused(&'static str),
    /// With what the operating system said.
    #[error("{0}")]
    Unreachable(String),
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Abandoned => Fault::Abandoned,
            Stop::TimeIsUp => Fault::TimeIsUp,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Io(fault.into())
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        io::Error::other(fault)
    }
}

/// The fault that an error of ureq carries.
pub fn fault_of(error: &Error) -> Option<&Fault> {
    match error {
        Error::Io(error) => io_fault(error),
        _ => None,
    }
}

/// The fault that an I/O error carries, however often it was wrapped.
pub fn io_fault(error: &io::Error) -> Option<&Fault> {
    let mut inner = error.get_ref()?;
    loop {
        if let Some(fault) = inner.downcast_ref::<Fault>() {
            return Some(fault);
        }
        inner = match (inner.downcast_ref::<io::Error>(), inner.downcast_ref::<Error>()) {
            (Some(error), _) => error.get_ref()?,
            (None, Some(Error::Io(error))) => error.get_ref()?,
            _ => return None,
        };
    }
}

/// An agent whose connections obey `watch`. Without `allow_plain`, other machines are reached encrypted only.
pub fn agent(config: Config, watch: &Watch, allow_plain: bool) -> Agent {
    let connector = Connect { watch: watch.clone() }.chain(RustlsConnector::default());
    Agent::with_parts(config, connector, Resolve { watch: watch.clone(), allow_plain })
}

#[derive(Debug)]
struct Resolve {
    watch: Watch,
    allow_plain: bool,
}

impl Resolver for Resolve {
    fn resolve(&self, uri: &Uri, _config: &Config, _timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let encrypted = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let found = self
            .watch
            .wait_for(move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter))
            .map_err(Fault::from)?
            .ok_or_else(|| Fault::Unreachable("no thread could be started".to_owned()))?;
        // What the resolver says differs from system to system, and is mostly that there is no such name.
        let found = found.map_err(|_| Fault::UnknownHost)?;
        let mut allowed = self.empty();
        let mut refused = Fault::UnknownHost;
        for socket in found {
            match address::refusal(socket.ip(), encrypted || self.allow_plain) {
                None if allowed.len() < MAX_ADDRESSES => allowed.push(socket),
                None => {}
                Some(reason) => refused = Fault::Refused(reason),
            }
        }
        match allowed.is_empty() {
            true => Err(refused.into()),
            false => Ok(allowed),
        }
    }
}

#[derive(Debug)]
struct Connect {
    watch: Watch,
}

impl Connector for Connect {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _chained: Option<()>) -> Result<Option<Connection>, Error> {
        let mut last = Fault::UnknownHost;
        for address in details.addrs.iter().copied() {
            match self.try_address(address)? {
                Ok(stream) => {
                    let config = details.config;
                    let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
                    return Ok(Some(Connection { stream, buffers, watch: self.watch.clone() }));
                }
                Err(error) => last = Fault::Unreachable(plain(&error)),
            }
        }
        Err(last.into())
    }
}

impl Connect {
    fn try_address(&self, address: SocketAddr) -> Result<io::Result<TcpStream>, Fault> {
        let limit = self.watch.left().min(CONNECT_LIMIT).max(Duration::from_millis(1));
        let connect = move || {
            let stream = TcpStream::connect_timeout(&address, limit)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(super::watch::TICK))?;
            stream.set_write_timeout(Some(super::watch::TICK))?;
            Ok(stream)
        };
        self.watch.wait_for(connect)?.ok_or_else(|| Fault::Unreachable("no thread could be started".to_owned()))
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
    watch: Watch,
}

impl Connection {
    /// Does `io` until it gets somewhere.
    fn patiently(&mut self, mut io: impl FnMut(&mut Self) -> io::Result<usize>) -> Result<usize, Error> {
        loop {
            self.watch.check().map_err(Fault::from)?;
            match io(self) {
                Ok(count) => return Ok(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                    _ => return Err(Error::Io(error)),
                },
            }
        }
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _timeout: NextTimeout) -> Result<(), Error> {
        let mut sent = 0;
        while sent < amount {
            match self.patiently(|connection| connection.stream.write(&connection.buffers.output()[sent..amount]))? {
                0 => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                count => sent += count,
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _timeout: NextTimeout) -> Result<bool, Error> {
        let count = self.patiently(|connection| connection.stream.read(connection.buffers.input_append_buf()))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Nothing may arrive between requests: whatever it is, this connection is out of step.
        let silent = |stream: &TcpStream| {
            stream.set_nonblocking(true)?;
            let silent = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            stream.set_nonblocking(false)?;
            Ok::<_, io::Error>(silent)
        };
        silent(&self.stream).unwrap_or(false)
    }
}

/// What the operating system said, without the number that Rust adds.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer".to_owned(),
        _ => {
            let text = error.to_string();
            text.split_once(" (os error").map_or(text.clone(), |(plain, _)| plain.to_owned())
        }
    }
}
