//! EPUB: the chapters of a book, in the order of its spine, each a page through the HTML reader.

use crate::archive::Archive;
use crate::encoding;
use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use crate::office::resolve;
use crate::xml::{self, Token, Xml};
use crate::{headings, html, Properties, ReadPage, Reading};
use encoding_rs::UTF_8;
use std::collections::{HashMap, HashSet};

/// What the package document says.
#[derive(Default)]
struct Package {
    properties: Properties,
    /// Name in the archive and whether it is text to read, by id.
    items: HashMap<String, (String, bool)>,
    spine: Vec<String>,
}

pub fn read(bytes: &[u8], guard: &Guard) -> Result<Reading> {
    let archive = Archive::open(bytes, guard)?;
    let container = archive.require("META-INF/container.xml", guard)?;
    let root = root_file(&xml::text(&container, guard)?, guard)?
        .ok_or_else(|| DocumentError::damaged("the book does not say where its contents are"))?;
    let package = package(&xml::text(&archive.require(&root, guard)?, guard)?, &root, guard)?;
    let encrypted = encrypted_files(&archive, guard)?;
    let mut reading = Reading { properties: package.properties, ..Reading::default() };
    for id in &package.spine {
        guard.page(reading.pages.len() + 1)?;
        let Some((name, is_text)) = package.items.get(id) else { continue };
        if !is_text {
            continue;
        }
        if encrypted.contains(name) {
            return Err(DocumentError::Encrypted);
        }
        let chapter = archive.require(name, guard).and_then(|bytes| chapter(&bytes, guard));
        match chapter {
            Ok(text) => {
                let name = headings::headings(&text, 1).into_iter().next().map(|heading| heading.title);
                reading.pages.push(ReadPage { name, text });
            }
            Err(error) if error.is_damage() => {
                reading.notices.push(format!("Chapter \"{name}\" could not be read: {error}."));
                reading.pages.push(ReadPage::default());
            }
            Err(error) => return Err(error),
        }
    }
    if reading.pages.is_empty() {
        return Err(DocumentError::damaged("the book has no chapters"));
    }
    Ok(reading)
}

fn chapter(bytes: &[u8], guard: &Guard) -> Result<String> {
    let in_document = xml::declared_encoding(bytes).or_else(|| html::declared_encoding(bytes));
    let decoded = encoding::decode(bytes, None, in_document, Some(UTF_8), guard)?;
    html::convert(&decoded.text, Some(guard))
}

fn root_file(text: &str, guard: &Guard) -> Result<Option<String>> {
    let mut xml = Xml::new(text, guard);
    while let Some(token) = xml.next()? {
        if let Token::Start(element) = token {
            if element.name() == "rootfile" {
                return Ok(element.attribute("full-path").map(|path| resolve("", &path)));
            }
        }
    }
    Ok(None)
}

fn package(text: &str, name: &str, guard: &Guard) -> Result<Package> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut package = Package::default();
    let mut xml = Xml::new(text, guard);
    while let Some(token) = xml.next()? {
        let Token::Start(element) = token else { continue };
        let properties = &mut package.properties;
        let field = match element.name() {
            "title" => &mut properties.title,
            "creator" => &mut properties.author,
            "subject" => &mut properties.subject,
            "language" => &mut properties.language,
            "date" => &mut properties.created,
            "item" => {
                let (Some(id), Some(href)) = (element.attribute("id"), element.attribute("href")) else { continue };
                let media_type = element.attribute("media-type").unwrap_or_default();
                // The table of contents repeats the headings.
                let is_contents =
                    element.attribute("properties").is_some_and(|p| p.split(' ').any(|word| word == "nav"));
                let is_text = !is_contents && (media_type.contains("html") || media_type.is_empty());
                package.items.insert(id, (resolve(folder, &percent_decoded(&href)), is_text));
                continue;
            }
            "itemref" => {
                package.spine.extend(element.attribute("idref"));
                continue;
            }
            _ => continue,
        };
        let text = xml.text()?;
        if field.is_none() {
            *field = Some(text);
        }
    }
    Ok(package)
}

/// Files that digital rights management locks. Fonts are scrambled in many books, which does no harm.
fn encrypted_files(archive: &Archive, guard: &Guard) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    let Some(bytes) = archive.read("META-INF/encryption.xml", guard)? else { return Ok(names) };
    let text = xml::text(&bytes, guard)?;
    let mut xml = Xml::new(&text, guard);
    while let Some(token) = xml.next()? {
        if let Token::Start(element) = token {
            if element.name() == "CipherReference" {
                names.extend(element.attribute("URI").map(|uri| resolve("", &percent_decoded(&uri))));
            }
        }
    }
    Ok(names)
}

fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn references_are_decoded() {
        assert_eq!(percent_decoded("a%20b%C3%A9%zz%"), "a bé%zz%");
    }
}
