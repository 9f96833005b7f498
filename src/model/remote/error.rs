//! What can go wrong with a server that runs models elsewhere.
//!
//! Messages name the foreign server, not its address, which not everybody may see, and never the key. What the other side says is
//! quoted only where it has a place for messages: shortened, without control characters, and with the key blotted out.

use super::key::Key;
use pg_rag_protocol::message::FailureKind;

/// Most characters of the other side's own words.
const QUOTE_CHARS: usize = 300;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    pub kind: FailureKind,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<&'static str>,
}

impl RemoteError {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let hint = match kind {
            FailureKind::RemoteUnreachable => {
                Some("Check option \"base_url\" of the foreign server, and that it can be reached from this machine.")
            }
            FailureKind::RemoteForbidden => Some("Whoever owns the foreign server can change its options."),
            FailureKind::RemoteUnknown => {
                Some("Check option \"base_url\" of the foreign server and option \"model\" of the model.")
            }
            FailureKind::RemoteKey => Some(
                "Set option \"api_key_file\" in the user mapping of the foreign server, or renew the key in the file.",
            ),
            FailureKind::RemoteBusy => Some("Try again later."),
            _ => None,
        };
        Self { kind, message: message.into(), detail: None, hint }
    }

    pub fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    pub fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Nobody waits any more.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "request was cancelled")
    }

    /// An answer that is not what was asked for.
    pub fn protocol(server: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(FailureKind::RemoteProtocol, format!("unexpected answer of server \"{server}\": {reason}"))
    }

    /// A connection that ended, or a server that failed.
    pub fn lost(server: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(FailureKind::RemoteLost, format!("server \"{server}\" {reason}"))
    }
}

impl std::fmt::Display for RemoteError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for RemoteError {}

/// The other side's words as a sentence for a detail; None if it said nothing.
pub fn quote(words: &str, key: Option<&Key>) -> Option<String> {
    let short = clean(words, key);
    (!short.is_empty()).then(|| format!("The server said: {short}"))
}

/// Words in whose making the other side had a part, on one line, shortened, and without the key.
pub fn clean(words: &str, key: Option<&Key>) -> String {
    let blotted = match key {
        Some(key) => key.blot_out(words),
        None => words.to_owned(),
    };
    let words = blotted.split(|character: char| character.is_control() || character.is_whitespace());
    let plain = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    // Marks that turn the direction of writing would let a message look like another one.
    let visible = plain.chars().filter(|character| !is_invisible(*character));
    let mut short: String = visible.take(QUOTE_CHARS).collect();
    if plain.chars().count() > QUOTE_CHARS {
        short.push('…');
    }
    short
}

fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_other_side_are_shortened_and_cleaned() {
        assert_eq!(quote(" a\r\n\u{1b}[31mred\0 ", None).unwrap(), "The server said: a [31mred");
        assert_eq!(quote("a\u{202e}b", None).unwrap(), "The server said: ab");
        assert_eq!(quote("\n\t ", None), None);
        let long = quote(&"ä".repeat(10_000), None).unwrap();
        assert_eq!(long.chars().count(), "The server said: ".len() + QUOTE_CHARS + 1);
        let key = Key::for_test("sk-secret-0123456789");
        let told = quote("bad key sk-secret-0123456789, also sk-secret-0123456789x", Some(&key)).unwrap();
        assert_eq!(told, "The server said: bad key ***, also ***x");
    }
}
