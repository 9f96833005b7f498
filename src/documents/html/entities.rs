//! Character references: `&eacute;`, `&#233;`, `&#xE9;`.

use std::borrow::Cow;
use web_atoms::{C1_REPLACEMENTS, NAMED_ENTITIES};

/// Longest name in the table of the HTML standard.
const LONGEST_NAME_BYTES: usize = 33;

/// Replaces every character reference of `text`. What is none stays as it is.
pub fn decode(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('&') else { return Cow::Borrowed(text) };
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    let mut ampersand = Some(first);
    while let Some(at) = ampersand {
        decoded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let used_bytes = if rest.starts_with('#') { numeric(rest, &mut decoded) } else { named(rest, &mut decoded) };
        if used_bytes == 0 {
            decoded.push('&');
        }
        rest = &rest[used_bytes..];
        ampersand = rest.find('&');
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// Decodes `#…` at the start of `text`; returns the bytes used, 0 when it is no reference.
fn numeric(text: &str, decoded: &mut String) -> usize {
    let (digits_at, radix) = if text[1..].starts_with(['x', 'X']) { (2, 16) } else { (1, 10) };
    let digits = text[digits_at..].bytes().take_while(|byte| (*byte as char).is_digit(radix)).count();
    if digits == 0 {
        return 0;
    }
    let end = digits_at + digits;
    // Too many digits to fit a number are no character either.
    let code = u32::from_str_radix(&text[digits_at..end], radix).unwrap_or(u32::MAX);
    let character = match code {
        0 => None,
        0x80..=0x9f => C1_REPLACEMENTS[(code - 0x80) as usize],
        _ => char::from_u32(code),
    };
    decoded.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
    end + usize::from(text[end..].starts_with(';'))
}

/// Decodes a name at the start of `text`; returns the bytes used, 0 when it is no reference.
///
/// A few old names count without their semicolon, so the longest name in the table wins.
fn named(text: &str, decoded: &mut String) -> usize {
    let letters = text.bytes().take(LONGEST_NAME_BYTES).take_while(u8::is_ascii_alphanumeric).count();
    let longest = letters + usize::from(text[letters..].starts_with(';'));
    for length in (2..=longest).rev() {
        // The table also holds prefixes of names, which stand for nothing.
        match NAMED_ENTITIES.get(&text[..length]) {
            Some(&(first, second)) if first != 0 => {
                decoded.extend([first, second].into_iter().filter(|code| *code != 0).filter_map(char::from_u32));
                return length;
            }
            _ => {}
        }
    }
    0
}
