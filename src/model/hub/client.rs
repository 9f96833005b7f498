//! Requests to a hub.
//!
//! The token goes to the hub itself and to no other host, whoever redirects there; from an encrypted connection nothing
//! leads to one that is not. Reads are bounded by the silence between them, not by their sum, as a file may take hours. A
//! cancelled download shuts its sockets down ([`shut_down_when_cancelled`]); only looking up a name and connecting go on
//! for seconds then, which nobody waits for.

use super::listing::{self, Listing};
use super::token::Token;
use super::HubError;
use crate::error::ModelError;
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo};
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use ureq::http::{HeaderMap, Uri};
use ureq::Agent;

/// Most redirects of one request.
const MOST_REDIRECTS: usize = 5;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// How soon a cancelled download notices.
const PATIENCE: Duration = Duration::from_millis(50);

/// Longest wait that a hub may ask for.
const MOST_WAIT: Duration = Duration::from_secs(60);

/// Why a request gave nothing.
#[derive(Debug)]
pub enum Trouble {
    /// Another attempt may do better, after a while that the hub may have named.
    Passing {
        reason: String,
        wait: Option<Duration>,
    },
    Final(ModelError),
}

impl From<HubError> for Trouble {
    fn from(error: HubError) -> Self {
        Trouble::Final(error.into_error())
    }
}

impl From<ModelError> for Trouble {
    fn from(error: ModelError) -> Self {
        Trouble::Final(error)
    }
}

/// An answer whose body is to be read.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: ureq::BodyReader<'static>,
}

/// The address of the Hub, as its own library has it.
fn hub_address() -> Result<String, ModelError> {
    let internal = || ModelError::Internal("the Hub's library does not tell the Hub's address".to_owned());
    // The library loads and stores nothing for this.
    let builder = ApiBuilder::from_cache(Cache::new(std::env::temp_dir())).with_progress(false);
    let api = builder.build().map_err(|_| internal())?;
    let file = api.repo(Repo::model("o/n".to_owned())).url("f");
    file.strip_suffix("/o/n/resolve/main/f").map(str::to_owned).ok_or_else(internal)
}

/// The way to one repository of a hub.
pub struct Client {
    agent: Agent,
    /// Without a slash at the end.
    endpoint: String,
    origin: Uri,
    repo: String,
    token: Option<Token>,
}

impl Client {
    /// An empty endpoint is the Hub itself.
    ///
    /// Errors: `InvalidArgument` for an endpoint that is no address, or to which a token would go in the clear.
    pub fn new(endpoint: &str, repo: &str, token: Option<Token>) -> Result<Self, ModelError> {
        let own = if endpoint.is_empty() { hub_address()? } else { String::new() };
        let endpoint = if endpoint.is_empty() { &own } else { endpoint }.trim_end_matches('/');
        let invalid = |reason: &str| ModelError::InvalidArgument(format!("\"pg_rag.hub_endpoint\" {reason}"));
        let origin: Uri = endpoint.parse().map_err(|_| invalid("is not an address"))?;
        if !is_web_address(&origin) || origin.query().is_some() || endpoint.contains('#') {
            return Err(invalid(
                "must be an address that begins with https:// or http://, without a user or a question",
            ));
        }
        let in_the_clear = origin.scheme_str() == Some("http") && !is_loopback(&origin);
        if token.is_some() && in_the_clear {
            return Err(invalid("must begin with https:// where a token is used"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT_LIMIT))
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_recv_response(Some(ANSWER_LIMIT))
            .timeout_per_read(Some(SILENCE_LIMIT))
            .timeout_per_write(Some(SILENCE_LIMIT))
            // A file is resumed by counting its bytes.
            .accept_encoding("identity")
            .user_agent(concat!("pg_rag/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = Agent::new_with_config(config);
        Ok(Self { agent, endpoint: endpoint.to_owned(), origin, repo: repo.to_owned(), token })
    }

    pub fn agent(&self) -> Agent {
        self.agent.clone()
    }

    /// Name of the hub for messages.
    pub fn host(&self) -> &str {
        self.origin.authority().map_or("", |authority| authority.as_str())
    }

    /// What the repository has at `revision`.
    pub fn listing(&self, revision: &str) -> Result<Listing, Trouble> {
        let revision = escape(revision, false);
        let address = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, self.repo);
        let what = || format!("repository \"{}\" with this revision", self.repo);
        let answer = self.get(&address, None, &what)?;
        if answer.status != 200 {
            return Err(HubError::Status { host: self.host().to_owned(), status: answer.status }.into());
        }
        let mut bytes = Vec::new();
        answer.body.take(listing::MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| passing(&error))?;
        if bytes.len() as u64 > listing::MOST_BYTES {
            let reason = format!("it is longer than {} bytes", listing::MOST_BYTES);
            return Err(HubError::Invalid { host: self.host().to_owned(), reason }.into());
        }
        Ok(Listing::from_answer(self.host(), &bytes)?)
    }

    /// Begins to read a file at `commit`, after the first `from` bytes. Status 200 gives it from its beginning, 206 from
    /// there, and 416 means that it has no such place.
    pub fn file(&self, commit: &str, name: &str, from: u64) -> Result<Answer, Trouble> {
        let address = format!("{}/{}/resolve/{commit}/{}", self.endpoint, self.repo, escape(name, true));
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let answer = self.get(&address, range.as_deref(), &|| format!("file \"{name}\" in \"{}\"", self.repo))?;
        match answer.status {
            200 | 206 | 416 => Ok(answer),
            status => Err(HubError::Status { host: self.host().to_owned(), status }.into()),
        }
    }

    fn get(&self, address: &str, range: Option<&str>, what: &dyn Fn() -> String) -> Result<Answer, Trouble> {
        let invalid = |reason: &str| HubError::Invalid { host: self.host().to_owned(), reason: reason.to_owned() };
        let mut address: Uri = address.parse().map_err(|_| invalid("an address is not one"))?;
        for _ in 0..=MOST_REDIRECTS {
            let at_home = same_origin(&address, &self.origin);
            let mut request = self.agent.get(address.clone());
            if let Some(range) = range {
                request = request.header("Range", range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| at_home) {
                request = request.header("Authorization", token.header());
            }
            let (head, body) = request.call().map_err(|error| passing_request(&error))?.into_parts();
            let status = head.status.as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let location = head.headers.get("Location").and_then(|value| value.to_str().ok());
                let next = location.and_then(|location| resolve(&address, location));
                address = next.ok_or_else(|| invalid("it redirects to where this cannot follow"))?;
                continue;
            }
            let host = || self.host().to_owned();
            return match status {
                200 | 206 | 416 => Ok(Answer { status, headers: head.headers, body: body.into_reader() }),
                401 | 403 if at_home => {
                    let (repo, with_token) = (self.repo.clone(), self.token.is_some());
                    Err(HubError::Denied { host: host(), repo, with_token }.into())
                }
                404 | 410 => Err(HubError::NotFound { host: host(), what: what() }.into()),
                // Addresses to which a hub redirects are valid for a while only.
                401 | 403 | 408 | 425 | 429 | 500 | 502..=504 => {
                    let seconds = head.headers.get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
                    let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(MOST_WAIT));
                    Err(Trouble::Passing { reason: format!("status {status}"), wait })
                }
                _ => Err(HubError::Status { host: host(), status }.into()),
            };
        }
        Err(invalid("it redirects too often").into())
    }
}

/// Shuts down all sockets of `agent` once the download is cancelled; returns when `ended` has no sender any more.
pub fn shut_down_when_cancelled(agent: Agent, is_cancelled: &dyn Fn() -> bool, ended: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PATIENCE) {
        if is_cancelled() {
            return agent.shutdown();
        }
    }
}

/// Trouble with reading from a socket.
pub fn passing(error: &std::io::Error) -> Trouble {
    let reason = match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "the connection was lost".to_owned(),
        kind => kind.to_string(),
    };
    Trouble::Passing { reason, wait: None }
}

fn passing_request(error: &ureq::Error) -> Trouble {
    // None of these texts has an address or a header in it.
    let reason = match error {
        ureq::Error::Io(error) => return passing(error),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::HostNotFound => "its name is not known".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Rustls(error) => format!("no secure connection: {error}"),
        ureq::Error::Protocol(_) => "it does not speak HTTP".to_owned(),
        _ => "the request failed".to_owned(),
    };
    Trouble::Passing { reason, wait: None }
}

fn is_web_address(address: &Uri) -> bool {
    let Some(authority) = address.authority() else { return false };
    matches!(address.scheme_str(), Some("http" | "https"))
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
}

fn is_loopback(address: &Uri) -> bool {
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("https") { Some(443) } else { Some(80) });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme_str() == other.scheme_str() && host(one) == host(other) && port(one) == port(other)
}

/// Where a redirect from `current` leads, if it may be followed.
fn resolve(current: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let scheme = current.scheme_str()?;
    let address = match location {
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{}{location}", current.authority()?),
        _ => location.to_owned(),
    };
    let next: Uri = address.parse().ok()?;
    let weaker = scheme == "https" && next.scheme_str() != Some("https");
    (is_web_address(&next) && !weaker).then_some(next)
}

/// `text` as a part of an address.
fn escape(text: &str, keep_slashes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' if keep_slashes => escaped.push('/'),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_as_safe_as_they_were() {
        let at = |address: &str| address.parse::<Uri>().unwrap();
        let hub = at("https://hub.example/o/n/resolve/main/x");
        for (location, expected) in [
            ("/o/m/resolve/main/x", Some("https://hub.example/o/m/resolve/main/x")),
            ("https://cdn.example/a?sig=1#part", Some("https://cdn.example/a?sig=1")),
            ("//cdn.example/a", Some("https://cdn.example/a")),
            ("http://cdn.example/a", None),
            ("https://user:secret@cdn.example/a", None),
            ("file:///etc/passwd", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(resolve(&hub, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
        assert!(resolve(&at("http://127.0.0.1:1/a"), "http://127.0.0.1:2/b").is_some());
        assert!(same_origin(&at("https://Hub.example/a"), &at("https://hub.example:443/b")));
        assert!(!same_origin(&at("http://127.0.0.1:1/a"), &at("http://127.0.0.1:2/a")));
        assert!(!same_origin(&at("https://hub.example.evil/a"), &at("https://hub.example/a")));
    }

    #[test]
    fn a_token_goes_over_encrypted_connections_only() {
        let path = std::env::temp_dir().join(format!("pg_rag-client-token-{}", std::process::id()));
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let token = Token::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let with_token = |endpoint: &str| Client::new(endpoint, "o/n", Some(token.clone())).map(drop);
        for endpoint in ["", "https://hub.example", "http://127.0.0.1:8080", "http://[::1]/", "http://localhost/hub"] {
            with_token(endpoint).unwrap();
        }
        with_token("http://hub.example").unwrap_err();
        with_token("http://127.0.0.1.example").unwrap_err();
        Client::new("http://hub.example", "o/n", None).map(drop).unwrap();
        for endpoint in ["hub.example", "ftp://hub.example", "https://u:p@hub.example", "https://h/?a=b", "https://"] {
            Client::new(endpoint, "o/n", None).map(drop).unwrap_err();
        }
    }
}
