//! Servers that run models elsewhere, and how they may be reached: options and their limits.
//!
//! PostgreSQL checks options with this when a foreign server is created; the model server reads the address again before
//! it connects. Nothing here resolves a name or opens a file.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr};

/// Beginning of the source of a remote model; the name of the foreign server follows.
pub const REMOTE_SOURCE: &str = "remote:";

/// Longest address and longest path of a file among the options.
const MAX_TEXT_BYTES: usize = 1024;

/// A foreign server of the wrapper `pg_rag_remote`, with what the mapping of the calling user adds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteServer {
    /// Name in the database, for messages.
    pub name: String,
    pub base_url: String,
    /// Time of a request, all its attempts and pauses included.
    pub timeout_ms: u32,
    /// Longest body of an answer that is read.
    pub max_response_bytes: u32,
    /// Attempts after the first one.
    pub max_retries: u32,
    /// Whether `http` is allowed to other machines.
    pub allow_http: bool,
    /// Certificates (PEM) that are trusted instead of the public ones; read by the model server.
    pub ca_file: Option<String>,
    /// File that holds the key; read by the model server. The key itself is never in a message.
    pub api_key_file: Option<String>,
}

/// Names of the options of a server and of a user mapping, in the order of PostgreSQL's messages.
pub const SERVER_OPTIONS: [&str; 6] =
    ["base_url", "timeout_ms", "max_response_bytes", "max_retries", "allow_http", "ca_file"];
pub const MAPPING_OPTIONS: [&str; 1] = ["api_key_file"];

/// Why an option cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("invalid option \"{0}\"")]
    Unknown(String),
    #[error("invalid value for option \"{name}\": {reason}")]
    Invalid { name: String, reason: String },
}

impl RemoteServer {
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            base_url: String::new(),
            timeout_ms: 60_000,
            max_response_bytes: 16 << 20,
            max_retries: 3,
            allow_http: false,
            ca_file: None,
            api_key_file: None,
        }
    }

    /// Sets one option of the server or of a mapping, after checking it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let invalid = |reason: String| OptionError::Invalid { name: name.to_owned(), reason };
        let number = |low: u32, high: u32| match value.parse::<u32>() {
            Ok(number) if (low..=high).contains(&number) && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(number)
            }
            _ => Err(invalid(format!("it must be an integer between {low} and {high}"))),
        };
        match name {
            "base_url" => {
                Endpoint::parse(value).map_err(|error| invalid(error.to_string()))?;
                value.clone_into(&mut self.base_url);
            }
            "timeout_ms" => self.timeout_ms = number(100, 3_600_000)?,
            "max_response_bytes" => self.max_response_bytes = number(1024, 256 << 20)?,
            "max_retries" => self.max_retries = number(0, 10)?,
            "allow_http" => {
                self.allow_http = match value {
                    "true" | "on" => true,
                    "false" | "off" => false,
                    _ => return Err(invalid("it must be \"true\" or \"false\"".to_owned())),
                }
            }
            "ca_file" => self.ca_file = Some(absolute_path(value).map_err(invalid)?),
            "api_key_file" => self.api_key_file = Some(absolute_path(value).map_err(invalid)?),
            _ => return Err(OptionError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// Checks options together: there is an address, and it is encrypted where it has to be.
    pub fn check(&self) -> Result<(), OptionError> {
        let invalid = |reason: &str| OptionError::Invalid { name: "base_url".to_owned(), reason: reason.to_owned() };
        if self.base_url.is_empty() {
            return Err(invalid("it must be given"));
        }
        let endpoint = Endpoint::parse(&self.base_url).map_err(|error| invalid(&error.to_string()))?;
        if !endpoint.https && !self.allow_http && !endpoint.is_loopback() {
            return Err(invalid("\"http\" to another machine needs the option \"allow_http\""));
        }
        Ok(())
    }
}

fn absolute_path(value: &str) -> Result<String, String> {
    match value {
        _ if !value.starts_with('/') => Err("it must be an absolute path".to_owned()),
        _ if value.len() > MAX_TEXT_BYTES || value.chars().any(char::is_control) => {
            Err(format!("it must have at most {MAX_TEXT_BYTES} bytes and no control characters"))
        }
        _ => Ok(value.to_owned()),
    }
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub https: bool,
    /// A name or an address; without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// Empty, or with a slash in front and none at the end.
    pub path: String,
}

/// Why a text is not the address of an endpoint. The text itself is left out: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("it must begin with \"https://\" or \"http://\"")]
    Scheme,
    #[error("it must not have a user or password")]
    UserInfo,
    #[error("it must not have a query or fragment")]
    Query,
    #[error("its host is not a name or address")]
    Host,
    #[error("its port is not a number between 1 and 65535")]
    Port,
    #[error("its path has characters that must be escaped")]
    Path,
    #[error("it is too long")]
    Length,
}

impl Endpoint {
    /// Reads `http(s)://host[:port][/path]`, and nothing else that a URL may have.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        if url.len() > MAX_TEXT_BYTES {
            return Err(UrlError::Length);
        }
        let lower = |prefix: &str| url.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
        let (https, rest) = match () {
            () if lower("https://") => (true, &url["https://".len()..]),
            () if lower("http://") => (false, &url["http://".len()..]),
            () => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => [80, 443][usize::from(https)],
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|&port| port > 0).ok_or(UrlError::Port)?
            }
            Some(_) => return Err(UrlError::Port),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
        if !path.bytes().all(allowed) {
            return Err(UrlError::Path);
        }
        Ok(Self { https, host, port, path: path.trim_end_matches('/').to_owned() })
    }

    /// Whether the host is written as this machine.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// The address of what lies at `path` below this endpoint.
    pub fn url(&self, path: &str) -> String {
        let scheme = ["http", "https"][usize::from(self.https)];
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        format!("{scheme}://{host}:{}{}{path}", self.port, self.path)
    }
}

fn split_port(authority: &str) -> Result<(String, Option<&str>), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address.to_string(), Some(port))),
            None if rest.is_empty() => Ok((address.to_string(), None)),
            None => Err(UrlError::Host),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(is_name) {
        return Err(UrlError::Host);
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> Result<(bool, String, u16, String), UrlError> {
        Endpoint::parse(url).map(|endpoint| (endpoint.https, endpoint.host, endpoint.port, endpoint.path))
    }

    #[test]
    fn addresses_have_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        assert_eq!(parts("https://api.openai.com/v1"), Ok((true, "api.openai.com".into(), 443, "/v1".into())));
        assert_eq!(parts("HTTP://127.0.0.1:8000/v1/"), Ok((false, "127.0.0.1".into(), 8000, "/v1".into())));
        assert_eq!(parts("http://[::1]:80"), Ok((false, "::1".into(), 80, String::new())));
        assert_eq!(Endpoint::parse("http://[::1]/v1").unwrap().url("/embeddings"), "http://[::1]:80/v1/embeddings");
    }

    #[test]
    fn what_else_a_url_may_have_is_refused() {
        for (url, error) in [
            ("", UrlError::Scheme),
            ("ftp://host", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("https://", UrlError::Host),
            ("https://user:secret@host/v1", UrlError::UserInfo),
            ("https://host/v1?key=secret", UrlError::Query),
            ("https://host#part", UrlError::Query),
            ("https://host:0", UrlError::Port),
            ("https://host:+80", UrlError::Port),
            ("https://host:65536", UrlError::Port),
            ("https://host:80:90", UrlError::Port),
            ("https://ho st", UrlError::Host),
            ("https://höst", UrlError::Host),
            ("https://[::1", UrlError::Host),
            ("https://[::1%25eth0]", UrlError::Host),
            ("https://[::1]x", UrlError::Host),
            ("https://host\\@other", UrlError::UserInfo),
            ("https://host/a b", UrlError::Path),
            ("https://host/a\r\nx: y", UrlError::Path),
            (&format!("https://host/{}", "x".repeat(2000)), UrlError::Length),
        ] {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn options_are_checked_one_by_one_and_together() {
        let mut server = RemoteServer::new("s");
        assert!(server.check().is_err(), "no address");
        server.set("base_url", "http://models.example/v1").unwrap();
        assert!(server.check().unwrap_err().to_string().contains("allow_http"));
        server.set("allow_http", "true").unwrap();
        assert_eq!(server.check(), Ok(()));
        for url in ["http://localhost:11434/v1", "http://127.3.2.1", "http://[::1]", "https://models.example"] {
            let mut server = RemoteServer::new("s");
            server.set("base_url", url).unwrap();
            assert_eq!(server.check(), Ok(()), "{url}");
        }
        for (name, value) in [
            ("timeout_ms", "99"),
            ("timeout_ms", "+500"),
            ("timeout_ms", "1e3"),
            ("max_retries", "11"),
            ("max_response_bytes", "0"),
            ("allow_http", "1"),
            ("api_key_file", "key"),
            ("ca_file", "/a\nb"),
        ] {
            assert!(matches!(server.set(name, value), Err(OptionError::Invalid { .. })), "{name} {value}");
        }
        assert_eq!(server.set("api_key", "sk"), Err(OptionError::Unknown("api_key".into())));
        for name in SERVER_OPTIONS.iter().chain(&MAPPING_OPTIONS) {
            assert!(!matches!(server.set(name, ""), Err(OptionError::Unknown(_)) | Ok(())), "{name}");
        }
    }
}
