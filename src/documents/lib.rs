//! Documents: from the bytes of a file to pages of text with their headings.
//!
//! [`extract`] takes bytes and what is known about them (a type, an encoding) and gives a [`Document`]. It knows no
//! PostgreSQL, no model, no file and no network; links in a document are never followed.
//!
//! What comes out. Structured documents (DOCX, PPTX, XLSX, EPUB, HTML, and PDF as far as its look tells) become Markdown:
//! headings, lists, tables as rows with pipes; so one chunker cuts them all along their headings. Plain text stays as it
//! is. A page is what the format has: a page of a PDF, a slide, a sheet, a chapter of a book; a DOCX has pages where its
//! writer noted them, other documents have one. Headers and footers of pages, tables of contents, hidden text and
//! everything that is not for reading are left out.
//!
//! Invariants, whatever the bytes are:
//! - no panic reaches the caller: readers return typed errors; that of PDF, which is built on a library, is contained in
//!   [`pdf`] besides;
//! - work and memory are bounded by [`Limits`]: input, output, pages, unpacked bytes (in all and in proportion), files
//!   in archives, depth of XML, and time; a cancel is noticed within some thousand steps of any loop;
//! - text has no NUL, which PostgreSQL cannot store;
//! - what is damaged gives an error that says so, or as much as was readable and a notice, never silence.
//!
//! The server runs documents of the binary formats in a process of their own, because a library that runs out of memory
//! or of stack takes its process with it; see the server's `extract`.
//!
//! From the bottom up:
//! - [`error`], [`limits`]: failures; what one document may take;
//! - [`encoding`], [`kind`]: bytes to text; recognising types;
//! - [`archive`], [`xml`]: the containers of office documents and books;
//! - [`blocks`], [`headings`]: writing Markdown, and finding its headings;
//! - [`html`], [`docx`], [`pptx`], [`xlsx`], [`epub`], [`pdf`]: one reader per format;
//! - [`office`]: what the three formats of Office share.

mod archive;
mod blocks;
#[cfg(test)]
mod document_tests;
mod docx;
mod encoding;
mod epub;
mod error;
mod headings;
#[cfg(test)]
mod hostile_pdf_tests;
#[cfg(test)]
mod hostile_tests;
pub mod html;
mod kind;
mod limits;
mod office;
mod pdf;
mod pptx;
#[cfg(test)]
mod testing;
mod xlsx;
mod xml;

pub use error::{DocumentError, Result};
pub use kind::Kind;
pub use limits::Limits;

use encoding_rs::WINDOWS_1252;
use limits::Guard;
use std::sync::Arc;

/// What the caller knows about a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// A type by its short name, extension or media type.
    pub kind: Option<String>,
    /// The encoding of text, by its name on the web or in PostgreSQL. Other documents know theirs.
    pub encoding: Option<String>,
}

/// How to read the text of a document's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    Plain,
    Markdown,
}

/// A heading of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// 1 is the outermost, 6 the innermost.
    pub level: u8,
    pub title: String,
    /// Characters of the page's text before the heading's line.
    pub char_start: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: usize,
    /// Name of a sheet, title of a slide or chapter.
    pub name: Option<String>,
    pub headings: Vec<Heading>,
    pub text: String,
}

/// What a document says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    pub title: Option<String>,
    pub author: Option<String>,
    pub subject: Option<String>,
    pub language: Option<String>,
    /// As written in the document.
    pub created: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub kind: Kind,
    pub markup: Markup,
    pub properties: Properties,
    pub pages: Vec<Page>,
    /// What could not be read, as sentences for people.
    pub notices: Vec<String>,
}

impl Document {
    /// The text of all pages.
    pub fn text(&self) -> String {
        let texts: Vec<&str> =
            self.pages.iter().map(|page| page.text.as_str()).filter(|text| !text.is_empty()).collect();
        match texts.as_slice() {
            [only] => (*only).to_owned(),
            texts => texts.join("\n"),
        }
    }
}

/// What a reader gives: a document without what all readers have in common.
#[derive(Default)]
struct Reading {
    properties: Properties,
    pages: Vec<ReadPage>,
    notices: Vec<String>,
}

#[derive(Default)]
struct ReadPage {
    name: Option<String>,
    text: String,
}

/// Whether the document has to be read by code that should not run beside anything else: everything but text.
pub fn needs_isolation(bytes: &[u8], hints: &Hints) -> bool {
    match hints.kind.as_deref().and_then(Kind::from_name) {
        Some(kind) if kind.is_text() && hints.encoding.is_some() => false,
        _ => kind::looks_packed(bytes),
    }
}

/// Reads a document. `cancelled` is asked again and again; once it is true, the work ends.
pub fn extract(bytes: &Arc<Vec<u8>>, hints: &Hints, limits: &Limits, cancelled: &dyn Fn() -> bool) -> Result<Document> {
    let guard = Guard::start(limits, bytes.len(), cancelled)?;
    let declared = match &hints.kind {
        Some(name) => Some(Kind::from_name(name).ok_or_else(|| DocumentError::UnknownTypeName(name.clone()))?),
        None => None,
    };
    let declared_encoding = hints.encoding.as_deref().map(encoding::by_name).transpose()?;
    let kind = match (declared, declared_encoding) {
        // Whoever declares both knows that these are not the bytes of a picture.
        (Some(kind), Some(_)) if kind.is_text() => kind,
        _ => kind::recognise(bytes, declared, declared_encoding.is_some(), &guard)?,
    };
    let reading = match kind {
        Kind::Text | Kind::Markdown => {
            let decoded = encoding::decode(bytes, declared_encoding, None, None, &guard)?;
            let text = without_nul(&decoded.text);
            guard.write(text.len())?;
            let notices = undecodable(decoded.is_damaged);
            Reading { pages: vec![ReadPage { name: None, text }], notices, ..Reading::default() }
        }
        Kind::Html => {
            let in_document = html::declared_encoding(bytes);
            let decoded = encoding::decode(bytes, declared_encoding, in_document, Some(WINDOWS_1252), &guard)?;
            let text = html::convert(&decoded.text, Some(&guard))?;
            let properties = Properties { title: html::title(&decoded.text), ..Properties::default() };
            let notices = undecodable(decoded.is_damaged);
            Reading { properties, pages: vec![ReadPage { name: None, text }], notices }
        }
        Kind::Docx => docx::read(bytes, &guard)?,
        Kind::Pptx => pptx::read(bytes, &guard)?,
        Kind::Xlsx => xlsx::read(bytes, &guard)?,
        Kind::Epub => epub::read(bytes, &guard)?,
        Kind::Pdf => pdf::read(bytes, &guard)?,
    };
    let markup = if kind == Kind::Text { Markup::Plain } else { Markup::Markdown };
    Ok(finish(kind, markup, reading))
}

fn undecodable(is_damaged: bool) -> Vec<String> {
    match is_damaged {
        true => vec!["Some bytes are not valid in the encoding of the text and were replaced.".to_owned()],
        false => Vec::new(),
    }
}

/// Adds what all formats have in common.
fn finish(kind: Kind, markup: Markup, reading: Reading) -> Document {
    let mut headings_left = MAX_HEADINGS;
    let pages: Vec<Page> = reading
        .pages
        .into_iter()
        .enumerate()
        .map(|(index, page)| {
            let text = if page.text.contains('\0') { without_nul(&page.text) } else { page.text };
            let headings = match markup {
                Markup::Markdown => headings::headings(&text, headings_left),
                Markup::Plain => Vec::new(),
            };
            headings_left -= headings.len();
            Page { number: index + 1, name: page.name.as_deref().and_then(named), headings, text }
        })
        .collect();
    let mut properties = reading.properties;
    for value in [
        &mut properties.title,
        &mut properties.author,
        &mut properties.subject,
        &mut properties.language,
        &mut properties.created,
    ] {
        *value = value.as_deref().and_then(named);
    }
    Document { kind, markup, properties, pages, notices: reading.notices }
}

/// Headings of a document that are listed; a text can be nothing but headings.
const MAX_HEADINGS: usize = 100_000;

/// Longest name or property that is kept.
const MAX_NAME_CHARS: usize = 500;

/// A name in one line, of bounded length, unless it is empty.
fn named(text: &str) -> Option<String> {
    let head: String = text.chars().take(4 * MAX_NAME_CHARS).collect();
    let line: String = blocks::one_line(&head).chars().take(MAX_NAME_CHARS).collect();
    (!line.is_empty()).then_some(line)
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}
