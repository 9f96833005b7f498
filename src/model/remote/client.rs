//! One request to a server: attempts, pauses between them, limits of time and size, and what the status means.
//!
//! An attempt is repeated where that can help and cannot hurt: when the server says that it is busy or has failed, and when
//! the connection breaks before the answer has begun. An answer that has begun is asked for again only if the caller says that
//! asking twice does nothing (vectors). All of it happens within the server's time for a request.

use super::error::{clean, quote, RemoteError};
use super::key::{self, Key};
use super::retry_after;
use super::transport::{self, Fault};
use super::watch::{Abandoned, Stop, Watch};
use pg_rag_protocol::message::FailureKind;
use pg_rag_protocol::remote::{Endpoint, RemoteServer};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Error};

/// Longest body of an answer that says what is wrong.
const MAX_ERROR_BYTES: u64 = 64 * 1024;

/// Pause before the second attempt; it doubles from attempt to attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause that the server has not asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;

/// A server as one request of the database sees it: with its key, and with connections that are kept in between.
pub struct Client {
    server: RemoteServer,
    endpoint: Endpoint,
    key: Option<Key>,
    agent: Agent,
    watch: Watch,
}

/// An answer whose body has not been read.
pub struct Answer {
    content_type: String,
    body: Capped,
}

/// A failed attempt.
struct Failed {
    error: RemoteError,
    /// Whether another attempt can help.
    again: bool,
    /// How long the server asks to wait.
    after: Option<Duration>,
}

impl From<RemoteError> for Failed {
    fn from(error: RemoteError) -> Self {
        Self { error, again: false, after: None }
    }
}

impl Client {
    /// Reads the key and what else the options name; connects to nothing.
    pub fn new(server: &RemoteServer, abandoned: Abandoned) -> Result<Self, RemoteError> {
        let forbidden = |reason: String| {
            RemoteError::new(FailureKind::RemoteForbidden, format!("server \"{}\": {reason}", server.name))
        };
        // The database has checked them when they were set, perhaps in another version.
        server.check().map_err(|error| forbidden(error.to_string()))?;
        let endpoint = Endpoint::parse(&server.base_url).map_err(|error| forbidden(error.to_string()))?;
        let key = server.api_key_file.as_ref().map(|path| Key::read(&server.name, Path::new(path))).transpose()?;
        let mut tls = TlsConfig::builder();
        if let Some(path) = &server.ca_file {
            tls = tls.root_certs(certificates(&server.name, Path::new(path))?);
        }
        let config = Config::builder()
            .http_status_as_error(false)
            // Neither to another host, which would get the key, nor to another address here.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .accept_encoding(AutoHeaderValue::None)
            .user_agent(concat!("pg_rag/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        let watch = Watch::new(time_of(server), abandoned);
        let agent = transport::agent(config, &watch, server.allow_http);
        Ok(Self { server: server.clone(), endpoint, key, agent, watch })
    }

    /// Name of the foreign server.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Sends `body` and reads the JSON that comes back. `repeatable` if asking twice does nothing.
    pub fn post(&self, path: &str, body: &[u8], repeatable: bool) -> Result<Vec<u8>, RemoteError> {
        self.attempts(|| {
            let mut answer = self.send(path, body, "application/json")?;
            self.require(&answer, "application/json")?;
            let mut bytes = Vec::new();
            if let Err(error) = answer.body.read_to_end(&mut bytes) {
                let failed = self.reading_failed(&error);
                return Err(Failed { again: failed.again && repeatable, ..failed });
            }
            // A connection that breaks can look like the end of an answer that told no length.
            match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
                Err(error) if error.is_eof() => {
                    let error = RemoteError::protocol(&self.server.name, "its JSON ends early");
                    Err(Failed { error, again: repeatable, after: None })
                }
                _ => Ok(bytes),
            }
        })
    }

    /// Sends `body` and returns when server-sent events begin to come back; the caller reads them.
    pub fn stream(&self, path: &str, body: &[u8]) -> Result<Answer, RemoteError> {
        self.attempts(|| {
            let answer = self.send(path, body, "text/event-stream")?;
            self.require(&answer, "text/event-stream")?;
            Ok(answer)
        })
    }

    /// The next bytes of a stream; none at its end.
    pub fn read<'a>(&self, answer: &mut Answer, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], RemoteError> {
        buffer.resize(READ_BYTES, 0);
        loop {
            match answer.body.read(buffer) {
                Ok(count) => return Ok(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.reading_failed(&error).error),
            }
        }
    }

    fn attempts<T>(&self, mut attempt: impl FnMut() -> Result<T, Failed>) -> Result<T, RemoteError> {
        self.watch.restart(time_of(&self.server));
        let mut pause = FIRST_PAUSE;
        let mut left = self.server.max_retries;
        loop {
            let failed = match attempt() {
                Ok(result) => return Ok(result),
                Err(failed) => failed,
            };
            // Nobody should wait at the same time as everybody else.
            let jitter = RandomState::new().hash_one(left) % (pause.as_millis() as u64 / 2).max(1);
            let wait = longer(failed.after.unwrap_or(pause), jitter);
            if !failed.again || left == 0 || wait >= self.watch.left() {
                return Err(failed.error);
            }
            self.watch.pause(wait).map_err(|stop| self.stopped(stop))?;
            left -= 1;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn send(&self, path: &str, body: &[u8], accept: &str) -> Result<Answer, Failed> {
        let mut request = self
            .agent
            .post(self.endpoint.url(path))
            .header("Content-Type", "application/json")
            .header("Accept", accept);
        if let Some(key) = &self.key {
            request = request.header("Authorization", key.bearer());
        }
        let response = request.send(body).map_err(|error| self.sending_failed(&error))?;
        let (head, body) = response.into_parts();
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let answer = Answer {
            content_type: content_type.to_owned(),
            body: Capped { inner: Box::new(body.into_reader()), left: u64::from(self.server.max_response_bytes) },
        };
        match head.status {
            StatusCode::OK => Ok(answer),
            status => Err(self.refused(status, &head.headers, answer)),
        }
    }

    /// Errors: `RemoteProtocol` when the body is of another type.
    fn require(&self, answer: &Answer, wanted: &str) -> Result<(), RemoteError> {
        let found = answer.content_type.split(';').next().unwrap_or_default().trim();
        if found.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        let is_type = found.len() <= 80 && found.contains('/') && found.bytes().all(|byte| byte.is_ascii_graphic());
        let found = if is_type { clean(found, self.key.as_ref()) } else { "of no known type".to_owned() };
        Err(RemoteError::protocol(&self.server.name, format!("it is {found}, not {wanted}")))
    }

    /// What another status than 200 means.
    fn refused(&self, status: StatusCode, headers: &HeaderMap, mut answer: Answer) -> Failed {
        let name = &self.server.name;
        let number = status.as_u16();
        let (kind, message, again) = match number {
            300..=399 => {
                let reason = format!("it answered with a redirect (status {number}), which is not followed");
                return RemoteError::protocol(name, reason).into();
            }
            401 | 403 => {
                let what = if self.key.is_some() { "refused the key" } else { "wants a key" };
                // Nothing is quoted: some servers repeat parts of the key.
                return RemoteError::new(FailureKind::RemoteKey, format!("server \"{name}\" {what} (status {number})"))
                    .into();
            }
            404 => (FailureKind::RemoteUnknown, "does not know what was asked for", false),
            408 | 500 | 502 | 503 | 504 | 529 => (FailureKind::RemoteLost, "failed", true),
            429 => (FailureKind::RemoteBusy, "has too many requests", true),
            400..=499 => (FailureKind::RemoteRefused, "refused the request", false),
            500..=599 => (FailureKind::RemoteLost, "failed", false),
            _ => return RemoteError::protocol(name, format!("status {number}")).into(),
        };
        answer.body.left = answer.body.left.min(MAX_ERROR_BYTES);
        let mut bytes = Vec::new();
        // Whatever happens here, the status says enough.
        let _ = answer.body.read_to_end(&mut bytes);
        let words = serde_json::from_slice(&bytes).ok().and_then(|body: Value| words_of(&body));
        let after = retry_after::read(headers, SystemTime::now());
        let error = RemoteError::new(kind, format!("server \"{name}\" {message} (status {number})"))
            .with_detail(words.and_then(|words| quote(&words, self.key.as_ref())));
        Failed { error, again, after }
    }

    /// Why there is no answer.
    fn sending_failed(&self, error: &Error) -> Failed {
        let name = &self.server.name;
        let unreachable = |reason: &str| {
            RemoteError::new(
                FailureKind::RemoteUnreachable,
                format!("could not connect to server \"{name}\": {reason}"),
            )
        };
        // A certificate has names that the other side chose.
        let tls = |error: &dyn std::fmt::Display| unreachable(&clean(&format!("TLS: {error}"), self.key.as_ref()));
        if let Some(fault) = transport::fault_of(error) {
            return match fault {
                Fault::Abandoned => self.stopped(Stop::Abandoned).into(),
                Fault::TimeIsUp => self.stopped(Stop::TimeIsUp).into(),
                Fault::Refused(reason) => RemoteError::new(
                    FailureKind::RemoteForbidden,
                    format!("will not connect to server \"{name}\": its address {reason}"),
                )
                .into(),
                Fault::UnknownHost => unreachable("the name of its host is not known").into(),
                Fault::Unreachable(reason) => Failed { error: unreachable(reason), again: true, after: None },
            };
        }
        match error {
            // HTTP has an error of its own, so data are invalid to TLS.
            Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => tls(error).into(),
            Error::Io(error) => self.reading_failed(error),
            Error::Rustls(error) => tls(error).into(),
            Error::Tls(reason) => unreachable(&format!("TLS: {reason}")).into(),
            Error::LargeResponseHeader(..) => RemoteError::protocol(name, "its header is too large").into(),
            // Of HTTP itself; these texts quote nothing of the request.
            Error::Protocol(_) | Error::Http(_) => RemoteError::protocol(name, "it is not HTTP").into(),
            _ => RemoteError::protocol(name, "it cannot be understood").into(),
        }
    }

    /// Why an answer has no end.
    fn reading_failed(&self, error: &io::Error) -> Failed {
        let name = &self.server.name;
        let lost = |reason: &str| Failed { error: RemoteError::lost(name, reason), again: true, after: None };
        if error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) {
            let limit = self.server.max_response_bytes;
            return RemoteError::protocol(name, format!("it has more than {limit} bytes"))
                .with_hint("Increase option \"max_response_bytes\" of the foreign server, or ask for less at once.")
                .into();
        }
        match transport::io_fault(error) {
            Some(Fault::Abandoned) => self.stopped(Stop::Abandoned).into(),
            Some(Fault::TimeIsUp) => self.stopped(Stop::TimeIsUp).into(),
            _ => match error.kind() {
                io::ErrorKind::InvalidData => RemoteError::protocol(name, "it is not HTTP").into(),
                _ => lost("closed the connection before its answer was complete"),
            },
        }
    }

    fn stopped(&self, stop: Stop) -> RemoteError {
        match stop {
            Stop::Abandoned => RemoteError::cancelled(),
            Stop::TimeIsUp => {
                RemoteError::lost(&self.server.name, format!("did not answer within {} ms", self.server.timeout_ms))
                    .with_hint("Increase option \"timeout_ms\" of the foreign server, or ask for less at once.")
            }
        }
    }
}

/// A pause that the other side may have asked for, so of any length, and a little more.
fn longer(pause: Duration, jitter_ms: u64) -> Duration {
    pause.saturating_add(Duration::from_millis(jitter_ms))
}

fn time_of(server: &RemoteServer) -> Duration {
    Duration::from_millis(u64::from(server.timeout_ms))
}

fn certificates(server: &str, path: &Path) -> Result<RootCerts, RemoteError> {
    let bytes = key::read_certificates(server, path)?;
    let mut found: Vec<Certificate<'static>> = Vec::new();
    for item in ureq::tls::parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(key::refuse(server, "certificate", "it is damaged")),
        }
    }
    match found.is_empty() {
        true => Err(key::refuse(server, "certificate", "it holds no certificate")),
        false => Ok(RootCerts::Specific(Arc::new(found))),
    }
}

/// What an answer of a server that refuses says, in the shapes that are in use.
pub fn words_of(body: &Value) -> Option<String> {
    let places = [&body["error"]["message"], &body["error"], &body["message"], &body["detail"]];
    places.into_iter().find_map(Value::as_str).map(str::to_owned)
}

/// A body that is read up to a limit.
struct Capped {
    inner: Box<dyn Read>,
    left: u64,
}

/// The body is longer than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the body is too long")]
struct TooLong;

impl Read for Capped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => Err(io::Error::other(TooLong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_any_pause() {
        assert_eq!(longer(Duration::from_secs(u64::MAX), 3999), Duration::MAX);
        assert_eq!(longer(Duration::from_secs(2), 500), Duration::from_millis(2500));
    }
}
