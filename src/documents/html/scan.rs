//! Splits HTML into tags and text, forgivingly and in linear time, as browsers do for all that matters to reading.
//!
//! Comments, declarations and the contents of raw-text elements (scripts, styles) do not come out at all. Attributes
//! are walked over, and only the ones that the writer asks about are kept, so a tag may have any number of them.

use std::borrow::Cow;

/// A start tag.
pub struct Tag<'a> {
    /// Lower case.
    pub name: Cow<'a, str>,
    pub class: &'a str,
    /// `start` of an ordered list.
    pub start: &'a str,
    /// `alt` of an image.
    pub alt: &'a str,
    pub self_closing: bool,
}

pub enum Token<'a> {
    /// With entities as written.
    Text(&'a str),
    Start(Tag<'a>),
    /// Lower-case name.
    End(Cow<'a, str>),
}

/// Iterator over the tokens of a document.
pub struct Scanner<'a> {
    html: &'a str,
    position: usize,
}

/// Elements whose content is not markup and not for reading.
const RAW_TEXT: [&str; 6] = ["script", "style", "title", "textarea", "xmp", "iframe"];

impl<'a> Scanner<'a> {
    pub fn new(html: &'a str) -> Self {
        Self { html, position: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.html.as_bytes()
    }

    /// Position of `byte` at or after `from`, or the end.
    fn find_byte(&self, byte: u8, from: usize) -> usize {
        self.bytes()[from..].iter().position(|b| *b == byte).map_or(self.html.len(), |offset| from + offset)
    }

    /// End of the run from `from` in which `accepts` holds.
    fn run(&self, from: usize, accepts: impl Fn(u8) -> bool) -> usize {
        self.bytes()[from..].iter().position(|b| !accepts(*b)).map_or(self.html.len(), |offset| from + offset)
    }

    fn name(&self, start: usize, end: usize) -> Cow<'a, str> {
        let name = &self.html[start..end];
        match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        }
    }

    /// Reads the tag whose name starts at `start`; leaves the position behind its `>`. `None` at the end of the input.
    fn tag(&mut self, start: usize) -> Option<Tag<'a>> {
        let bytes = self.bytes();
        let name_end = self.run(start, |byte| !byte.is_ascii_whitespace() && byte != b'/' && byte != b'>');
        let mut tag = Tag { name: self.name(start, name_end), class: "", start: "", alt: "", self_closing: false };
        let mut at = name_end;
        loop {
            at = self.run(at, |byte| byte.is_ascii_whitespace());
            match bytes.get(at) {
                None => {
                    self.position = at;
                    return None;
                }
                Some(b'>') => {
                    self.position = at + 1;
                    return Some(tag);
                }
                Some(b'/') => {
                    tag.self_closing = bytes.get(at + 1) == Some(&b'>');
                    at += 1;
                }
                Some(_) => at = self.attribute(at, &mut tag),
            }
        }
    }

    /// Reads the attribute at `at` and returns where it ends.
    fn attribute(&self, at: usize, tag: &mut Tag<'a>) -> usize {
        let bytes = self.bytes();
        // The first byte belongs to the name whatever it is, so that every call makes progress.
        let name_end = self
            .run(at + 1, |byte| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>' | b'='))
            .min(self.html.len());
        let equals = self.run(name_end, |byte| byte.is_ascii_whitespace());
        if bytes.get(equals) != Some(&b'=') {
            return name_end;
        }
        let value_start = self.run(equals + 1, |byte| byte.is_ascii_whitespace());
        let (value, end) = match bytes.get(value_start) {
            Some(quote @ (b'"' | b'\'')) => {
                let value_end = self.find_byte(*quote, value_start + 1);
                (&self.html[value_start + 1..value_end], (value_end + 1).min(self.html.len()))
            }
            _ => {
                let value_end = self.run(value_start, |byte| !byte.is_ascii_whitespace() && byte != b'>');
                (&self.html[value_start..value_end], value_end)
            }
        };
        // A byte position inside a character cannot be reached: all delimiters are ASCII.
        match bytes.get(at..name_end) {
            Some(name) if name.eq_ignore_ascii_case(b"class") => tag.class = value,
            Some(name) if name.eq_ignore_ascii_case(b"start") => tag.start = value,
            Some(name) if name.eq_ignore_ascii_case(b"alt") => tag.alt = value,
            _ => {}
        }
        end
    }

    /// Moves behind the end tag of the raw-text element `name`, or to the end.
    fn skip_raw_text(&mut self, name: &str) {
        let bytes = self.bytes();
        let mut at = self.position;
        loop {
            at = self.find_byte(b'<', at);
            if at == bytes.len() {
                break;
            }
            let name_start = at + 2;
            let closes = bytes.get(at + 1) == Some(&b'/')
                && bytes
                    .get(name_start..name_start + name.len())
                    .is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes()))
                && bytes
                    .get(name_start + name.len())
                    .is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>'));
            if closes {
                at = (self.find_byte(b'>', name_start) + 1).min(bytes.len());
                break;
            }
            at += 1;
        }
        self.position = at;
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.bytes();
        while self.position < bytes.len() {
            let start = self.position;
            if bytes[start] != b'<' {
                self.position = self.find_byte(b'<', start);
                return Some(Token::Text(&self.html[start..self.position]));
            }
            match bytes.get(start + 1) {
                Some(byte) if byte.is_ascii_alphabetic() => {
                    let Some(tag) = self.tag(start + 1) else { break };
                    if RAW_TEXT.contains(&tag.name.as_ref()) {
                        if !tag.self_closing {
                            self.skip_raw_text(&tag.name);
                        }
                        continue;
                    }
                    return Some(Token::Start(tag));
                }
                Some(b'/') if bytes.get(start + 2).is_some_and(u8::is_ascii_alphabetic) => {
                    let tag = self.tag(start + 2)?;
                    return Some(Token::End(tag.name));
                }
                Some(b'!') if bytes[start..].starts_with(b"<!--") => {
                    let body = &self.html[start + 4..];
                    self.position = body.find("-->").map_or(bytes.len(), |end| start + 4 + end + 3);
                }
                Some(b'!' | b'?' | b'/') => self.position = (self.find_byte(b'>', start) + 1).min(bytes.len()),
                _ => {
                    // A lone "<" is text, together with what follows it.
                    self.position = self.find_byte(b'<', start + 1);
                    return Some(Token::Text(&self.html[start..self.position]));
                }
            }
        }
        self.position = bytes.len();
        None
    }
}
