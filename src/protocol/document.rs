//! Documents on their way to the server, and what comes out of them.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Bytes that travel as they are. A plain `Vec<u8>` would be encoded number by number.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

/// Largest document that is read. Clients refuse what is larger before they fetch it, the server whatever comes all the same.
pub const MAX_DOCUMENT_BYTES: usize = 128 * 1024 * 1024;

// With room for what else is in its message.
const _: () = assert!(MAX_DOCUMENT_BYTES <= crate::frame::MAX_PAYLOAD_BYTES / 2);

/// What to know about a document that is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractOptions {
    /// Its type, by a short name, an extension or a media type; recognised if it is missing.
    pub kind: Option<String>,
    /// The encoding of text, by its name on the web or in PostgreSQL.
    pub encoding: Option<String>,
    /// Longest time that reading may take, in milliseconds; 0 for the server's own limit, which is never exceeded.
    pub time_limit_ms: u32,
}

/// A heading of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractedHeading {
    /// 1 is the outermost, 6 the innermost.
    pub level: u8,
    pub title: String,
    /// Characters of the page's text before the heading's line.
    pub char_start: u32,
}

/// A page, slide, sheet or chapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractedPage {
    /// From 1.
    pub number: u32,
    /// Name of a sheet, title of a slide or chapter.
    pub name: Option<String>,
    pub headings: Vec<ExtractedHeading>,
    pub text: String,
}

/// A document that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractedDocument {
    /// Short name of its type.
    pub kind: String,
    /// The text of its pages is Markdown.
    pub is_markdown: bool,
    pub title: Option<String>,
    pub author: Option<String>,
    pub subject: Option<String>,
    pub language: Option<String>,
    /// As the document has it.
    pub created: Option<String>,
    pub pages: Vec<ExtractedPage>,
    /// What could not be read, as sentences.
    pub notices: Vec<String>,
}
