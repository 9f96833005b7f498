//! The types of documents: their names, and how bytes are recognised.
//!
//! Archives are told apart by the files in them, never by the name of anything outside. What is recognised but not read
//! gets an error that says what it is: "document is a JPEG image" is worth more than "not supported".

use crate::archive::Archive;
use crate::encoding;
use crate::error::{DocumentError, Result};
use crate::limits::Guard;

/// A type of document that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Text,
    Markdown,
    Html,
    Docx,
    Pptx,
    Xlsx,
    Epub,
    Pdf,
}

impl Kind {
    pub const ALL: [Kind; 8] =
        [Kind::Text, Kind::Markdown, Kind::Html, Kind::Docx, Kind::Pptx, Kind::Xlsx, Kind::Epub, Kind::Pdf];

    /// The short name, which is also the usual extension.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Markdown => "markdown",
            Kind::Html => "html",
            Kind::Docx => "docx",
            Kind::Pptx => "pptx",
            Kind::Xlsx => "xlsx",
            Kind::Epub => "epub",
            Kind::Pdf => "pdf",
        }
    }

    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Kind::Text => "plain text",
            Kind::Markdown => "Markdown",
            Kind::Html => "an HTML page",
            Kind::Docx => "a DOCX document",
            Kind::Pptx => "a PPTX presentation",
            Kind::Xlsx => "an XLSX workbook",
            Kind::Epub => "an EPUB book",
            Kind::Pdf => "a PDF document",
        }
    }

    /// From a short name, an extension or a media type, in any case; parameters of a media type are ignored.
    pub fn from_name(name: &str) -> Option<Kind> {
        let name = name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some(match name.trim_start_matches('.') {
            "text" | "txt" | "text/plain" | "plain" | "csv" | "text/csv" | "log" => Kind::Text,
            "markdown" | "md" | "text/markdown" | "text/x-markdown" => Kind::Markdown,
            "html" | "htm" | "xhtml" | "text/html" | "application/xhtml+xml" => Kind::Html,
            "docx" | "docm" | "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Kind::Docx,
            "pptx" | "pptm" | "application/vnd.openxmlformats-officedocument.presentationml.presentation" => Kind::Pptx,
            "xlsx" | "xlsm" | "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => Kind::Xlsx,
            "epub" | "application/epub+zip" => Kind::Epub,
            "pdf" | "application/pdf" | "application/x-pdf" => Kind::Pdf,
            _ => return None,
        })
    }

    /// Whether these are text with or without marks, which any bytes could be.
    pub fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::Markdown | Kind::Html)
    }
}

/// Where a PDF's header may begin, as readers of PDF have always allowed.
const PDF_HEADER_WITHIN: usize = 1024;

/// Beginnings of files that are no document of ours.
const FOREIGN: [(&[u8], &str); 22] = [
    (b"{\\rtf", "an RTF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"RIFF", "a RIFF container (WebP, WAV or AVI)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"%!PS", "a PostScript document"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ\x90\0", "a Windows program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PGDMP", "a PostgreSQL dump"),
    (b"OggS", "an Ogg recording"),
    (b"ID3", "an MP3 recording"),
    (b"\x1aE\xdf\xa3", "a Matroska film"),
];

/// Whether bytes begin as those of an archive or a PDF do.
pub fn looks_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK") || find(&bytes[..bytes.len().min(PDF_HEADER_WITHIN)], b"%PDF-")
}

/// The type of `bytes`, checked against what the caller declared. What looks binary is text if its encoding was declared:
/// letters of some are zeros and control codes.
pub fn recognise(bytes: &[u8], declared: Option<Kind>, has_encoding: bool, guard: &Guard) -> Result<Kind> {
    let found = match sniff(bytes, guard) {
        Err(DocumentError::Unsupported { found }) if has_encoding && found == BINARY => Ok(Kind::Text),
        found => found,
    };
    match (declared, found) {
        (None, found) => found,
        // Text can look like anything, and a declared encoding can make text of what looks binary.
        (Some(declared), Ok(found)) if declared.is_text() && found.is_text() => Ok(declared),
        (Some(declared), Ok(found)) if declared == found => Ok(declared),
        (Some(declared), Err(DocumentError::Unsupported { found })) => match declared.is_text() && found == BINARY {
            true => Ok(declared),
            false => Err(DocumentError::OtherType { declared, found }),
        },
        (Some(declared), Ok(found)) => {
            Err(DocumentError::OtherType { declared, found: found.with_article().to_owned() })
        }
        (Some(_), Err(error)) => Err(error),
    }
}

const BINARY: &str = "binary data";

fn sniff(bytes: &[u8], guard: &Guard) -> Result<Kind> {
    let unsupported = |found: &str| Err(DocumentError::Unsupported { found: found.to_owned() });
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return sniff_archive(bytes, guard);
    }
    if bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        // Office puts encrypted packages into the container of its older formats.
        let name: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
        return match find(bytes, &name) {
            true => Err(DocumentError::Encrypted),
            false => unsupported("a document of an older Microsoft Office (DOC, XLS, PPT)"),
        };
    }
    let head = &bytes[..bytes.len().min(PDF_HEADER_WITHIN)];
    if find(head, b"%PDF-") {
        return Ok(Kind::Pdf);
    }
    if let Some((_, found)) = FOREIGN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return unsupported(found);
    }
    if encoding::looks_binary(bytes) {
        return unsupported(BINARY);
    }
    Ok(sniff_text(&encoding::beginning(bytes)))
}

/// Whether `needle` occurs; linear in practice, and both are short or one is.
fn find(bytes: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

fn sniff_archive(bytes: &[u8], guard: &Guard) -> Result<Kind> {
    let archive = Archive::open(bytes, guard)?;
    for (part, kind) in [
        ("word/document.xml", Kind::Docx),
        ("ppt/presentation.xml", Kind::Pptx),
        ("xl/workbook.xml", Kind::Xlsx),
        ("META-INF/container.xml", Kind::Epub),
    ] {
        if archive.has(part) {
            return Ok(kind);
        }
    }
    // Names of main parts are a convention; the list of content types is the rule.
    if let Some(types) = archive.read("[Content_Types].xml", guard)? {
        let types = String::from_utf8_lossy(&types);
        for (word, kind) in [
            ("wordprocessingml.document.main+xml", Kind::Docx),
            ("presentationml.presentation.main+xml", Kind::Pptx),
            ("presentationml.slideshow.main+xml", Kind::Pptx),
            ("spreadsheetml.sheet.main+xml", Kind::Xlsx),
        ] {
            if types.contains(word) {
                return Ok(kind);
            }
        }
    }
    let mimetype = archive.read("mimetype", guard)?.unwrap_or_default();
    let found = match mimetype.as_slice() {
        b"application/epub+zip" => return Ok(Kind::Epub),
        b"application/vnd.oasis.opendocument.text" => "an OpenDocument text (ODT)",
        b"application/vnd.oasis.opendocument.spreadsheet" => "an OpenDocument spreadsheet (ODS)",
        b"application/vnd.oasis.opendocument.presentation" => "an OpenDocument presentation (ODP)",
        _ if archive.has("xl/workbook.bin") => "a binary Excel workbook (XLSB)",
        _ => "a ZIP archive",
    };
    Err(DocumentError::Unsupported { found: found.to_owned() })
}

fn sniff_text(text: &str) -> Kind {
    let mut rest = text.trim_start();
    // What may come before the root element of a page.
    while let Some(end) = (rest.starts_with("<?").then(|| rest.find("?>").map(|at| at + 2)).flatten())
        .or_else(|| rest.starts_with("<!--").then(|| rest.find("-->").map(|at| at + 3)).flatten())
    {
        rest = rest[end..].trim_start();
    }
    let begins = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if ["<!doctype html", "<html", "<head", "<body"].iter().any(|word| begins(word)) {
        return Kind::Html;
    }
    // A heading first and one more: a comment in a script is not followed by a second level.
    if rest.starts_with("# ") && text.contains("\n## ") {
        return Kind::Markdown;
    }
    Kind::Text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn kind(bytes: &[u8], declared: Option<Kind>) -> Result<Kind> {
        let limits = Limits::default();
        recognise(bytes, declared, false, &Guard::start(&limits, bytes.len(), &|| false).unwrap())
    }

    #[test]
    fn names_and_media_types() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("Text/HTML; charset=utf-8"), Some(Kind::Html));
        assert_eq!(Kind::from_name(".PDF"), Some(Kind::Pdf));
        assert_eq!(Kind::from_name("application/msword"), None);
    }

    #[test]
    fn text_is_told_apart_by_how_it_begins() {
        assert_eq!(kind(b"plain", None), Ok(Kind::Text));
        assert_eq!(kind(b"", None), Ok(Kind::Text));
        assert_eq!(kind(b"# Title\n\nwords\n\n## Part\n", None), Ok(Kind::Markdown));
        assert_eq!(kind(b"# a comment\nx = 1\n", None), Ok(Kind::Text));
        assert_eq!(kind(b"<?xml version='1.0'?>\n<!-- x -->\n<HTML lang=en>", None), Ok(Kind::Html));
        assert_eq!(kind("\u{feff}<!DOCTYPE html>".as_bytes(), None), Ok(Kind::Html));
        assert_eq!(kind(b"<note>xml</note>", None), Ok(Kind::Text));
        assert_eq!(kind(b"junk before\n%PDF-1.4\n", None), Ok(Kind::Pdf));
    }

    #[test]
    fn what_is_not_read_is_named() {
        let found = |bytes: &[u8]| kind(bytes, None).unwrap_err().to_string();
        assert_eq!(found(b"\x89PNG\r\n\x1a\n\0\0"), "document is a PNG image, which cannot be read");
        assert_eq!(
            found(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest"),
            "document is a document of an older Microsoft Office (DOC, XLS, PPT), which cannot be read"
        );
        assert_eq!(found(&[0, 1, 2, 3, 0, 0, 7]), "document is binary data, which cannot be read");
        let declared = kind(b"%PDF-1.4", Some(Kind::Docx)).unwrap_err();
        assert_eq!(declared.to_string(), "document is a PDF document, not a DOCX document as declared");
        let declared = kind(b"GIF89a", Some(Kind::Text)).unwrap_err();
        assert_eq!(declared.to_string(), "document is a GIF image, not plain text as declared");
        assert_eq!(kind(b"words", Some(Kind::Html)), Ok(Kind::Html));
    }
}
