//! XML as the parts of office documents and books use it: start, text, end, by local names.
//!
//! There is no tree and no recursion here, and no entity is ever expanded but the five of XML itself and characters by
//! number: a document type declaration is skipped, so its entities do not exist. Depth is bounded, and each event costs
//! a step of the guard. Prefixes of namespaces are ignored: all that is read here has local names of its own.

use crate::encoding;
use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use encoding_rs::{Encoding, UTF_8};
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::Reader;
use std::borrow::Cow;

/// A start tag.
pub struct Element<'a>(BytesStart<'a>);

pub enum Token<'a> {
    Start(Element<'a>),
    Text(Cow<'a, str>),
    End,
}

impl Element<'_> {
    pub fn name(&self) -> &str {
        self.0.local_name().into_inner()
    }

    /// The value of the first attribute with this local name.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let attribute = attributes
            .with_checks(false)
            .filter_map(std::result::Result::ok)
            .find(|a| a.key.local_name().into_inner() == name)?;
        Some(match unescape(&attribute.value) {
            Ok(value) => value.into_owned(),
            // With an unknown entity in it: as written.
            Err(_) => attribute.value.into_owned(),
        })
    }

    /// The value of the attribute with this name, prefix included.
    pub fn prefixed_attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let attribute =
            attributes.with_checks(false).filter_map(std::result::Result::ok).find(|a| a.key.into_inner() == name)?;
        Some(unescape(&attribute.value).map_or_else(|_| attribute.value.to_string(), Cow::into_owned))
    }

    /// An attribute that switches something: there, and neither 0, false nor off.
    pub fn is_on(&self) -> bool {
        !matches!(self.attribute("val").as_deref(), Some("0" | "false" | "off" | "none"))
    }
}

/// Reads the tokens of one part.
pub struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    guard: &'a Guard<'a>,
    depth: usize,
}

/// The text of a part: UTF-8, or what its first bytes or its declaration say.
pub fn text<'a>(bytes: &'a [u8], guard: &Guard) -> Result<Cow<'a, str>> {
    let declared = declared_encoding(bytes);
    let decoded = encoding::decode(bytes, None, declared, Some(UTF_8), guard)?;
    Ok(decoded.text)
}

/// `encoding="…"` of an XML declaration.
pub fn declared_encoding(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = encoding::beginning(&bytes[..bytes.len().min(256)]);
    let declaration = head.strip_prefix("<?xml")?.split("?>").next()?;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let name = value[1..].split(quote).next()?;
    // Read as bytes of ASCII up to here, so it cannot be UTF-16, whatever it says.
    encoding::by_name(name).ok().filter(|encoding| encoding.is_ascii_compatible())
}

impl<'a> Xml<'a> {
    pub fn new(text: &'a str, guard: &'a Guard<'a>) -> Self {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.allow_dangling_amp = true;
        config.check_end_names = true;
        Self { reader, guard, depth: 0 }
    }

    /// How many elements are open.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The next token; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Token<'a>>> {
        loop {
            self.guard.step()?;
            let event = self.reader.read_event().map_err(DocumentError::damaged)?;
            return Ok(Some(match event {
                Event::Start(start) | Event::Empty(start) => {
                    self.depth += 1;
                    let limit = self.guard.limits.xml_depth;
                    if self.depth > limit {
                        return Err(DocumentError::StructureLimit { what: "levels of XML elements", limit });
                    }
                    Token::Start(Element(start))
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    Token::End
                }
                Event::Text(text) => Token::Text(text.xml10_content()),
                Event::CData(text) => Token::Text(text.xml10_content()),
                Event::GeneralRef(reference) => match resolve(&reference) {
                    Some(character) => Token::Text(character.to_string().into()),
                    None => continue,
                },
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
                Event::Eof if self.depth > 0 => return Err(DocumentError::damaged("XML ends too early")),
                Event::Eof => return Ok(None),
            }));
        }
    }

    /// Skips the rest of the element whose start was read last.
    pub fn skip(&mut self) -> Result<()> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside && self.next()?.is_some() {}
        Ok(())
    }

    /// The text of the element whose start was read last, without that of elements in it.
    pub fn text(&mut self) -> Result<String> {
        let inside = self.depth;
        let mut text = String::new();
        while let Some(token) = self.next()? {
            match token {
                Token::Text(piece) if self.depth == inside => text.push_str(&piece),
                Token::End if self.depth < inside => break,
                _ => {}
            }
        }
        Ok(text)
    }
}

fn resolve(reference: &quick_xml::events::BytesRef) -> Option<char> {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return Some(character);
    }
    match reference.as_ref() {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn tokens(text: &str, limits: &Limits) -> Result<String> {
        let guard = Guard::start(limits, text.len(), &|| false).unwrap();
        let mut xml = Xml::new(text, &guard);
        let mut out = String::new();
        while let Some(token) = xml.next()? {
            match token {
                Token::Start(element) => {
                    out.push_str(&format!("<{}:{}>", element.name(), element.attribute("val").unwrap_or_default()));
                }
                Token::Text(text) => out.push_str(&text),
                Token::End => out.push_str("</>"),
            }
        }
        Ok(out)
    }

    #[test]
    fn names_without_prefixes_and_no_entity_is_expanded() {
        let limits = Limits::default();
        let text = "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'boo'><!ENTITY b '&a;&a;'>]>\
                    <w:p w:val='1 &amp; 2'>A &amp; B &#233;&b;<br/><![CDATA[<c>]]></w:p>";
        assert_eq!(tokens(text, &limits).unwrap(), "<p:1 & 2>A & B é<br:></><c></>");
    }

    #[test]
    fn depth_is_bounded_and_what_is_cut_is_damaged() {
        let limits = Limits::default();
        let deep = "<a>".repeat(100_000);
        assert!(matches!(tokens(&deep, &limits), Err(DocumentError::StructureLimit { .. })));
        for broken in ["<a><b>", "<a></b>", "<a x='", "<a", "<!-- "] {
            assert!(matches!(tokens(broken, &limits), Err(DocumentError::Damaged(_))), "{broken}");
        }
    }

    #[test]
    fn parts_may_be_in_other_encodings() {
        assert_eq!(declared_encoding(b"<?xml version=\"1.0\" encoding='ISO-8859-1'?>").unwrap().name(), "windows-1252");
        assert!(declared_encoding(b"<?xml version=\"1.0\" encoding='UTF-16'?>").is_none());
        assert!(declared_encoding(b"<a encoding='x'>").is_none());
    }
}
