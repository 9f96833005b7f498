//! From bytes in some encoding to text.
//!
//! The order of belief: a byte order mark, what the caller declared, what the document declares, UTF-8 if the bytes are
//! valid UTF-8, UTF-16 if every second byte says so. Text that is none of these is refused rather than guessed at, save
//! HTML, for which the standard has an answer (windows-1252). Sequences that the encoding does not have become U+FFFD
//! and a notice: one bad byte should not cost a document.

use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, UTF_8, WINDOWS_1252};
use std::borrow::Cow;

/// Bytes that are looked at to tell text from anything else.
const SAMPLE_BYTES: usize = 4096;

/// An encoding by any of its names: those of the web, and those of PostgreSQL.
pub fn by_name(name: &str) -> Result<&'static Encoding> {
    let lower = name.trim().to_ascii_lowercase();
    // PostgreSQL ignores everything but letters and digits in names of encodings, and has names of its own.
    let plain: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    let label = match plain.as_str() {
        "sqlascii" => "us-ascii",
        "latin1" => "iso-8859-1",
        "latin2" => "iso-8859-2",
        "latin3" => "iso-8859-3",
        "latin4" => "iso-8859-4",
        "latin5" => "iso-8859-9",
        "latin6" => "iso-8859-10",
        "latin7" => "iso-8859-13",
        "latin8" => "iso-8859-14",
        "latin9" => "iso-8859-15",
        "latin10" => "iso-8859-16",
        "koi8" | "koi8r" => "koi8-r",
        "koi8u" => "koi8-u",
        "alt" | "win866" => "ibm866",
        "win" => "windows-1251",
        "tcvn" | "abc" | "vscii" => "windows-1258",
        "mskanji" | "shiftjis" | "win932" => "shift_jis",
        "uhc" | "win949" => "euc-kr",
        "win950" => "big5",
        "win936" => "gbk",
        "euccn" => "gbk",
        "unicode" => "utf-8",
        "utf16" => "utf-16",
        win if win.starts_with("win") && win[3..].parse::<u16>().is_ok() => {
            return label(&format!("windows-{}", &win[3..]), name)
        }
        iso if iso.starts_with("iso8859") && iso.len() > 7 => return label(&format!("iso-8859-{}", &iso[7..]), name),
        euc if euc.starts_with("euc") && euc.len() > 3 => return label(&format!("euc-{}", &euc[3..]), name),
        _ => lower.as_str(),
    };
    label_of(label).or_else(|| label_of(&plain)).ok_or_else(|| DocumentError::UnknownEncoding(name.to_owned()))
}

fn label_of(label: &str) -> Option<&'static Encoding> {
    // The web's "replacement" encoding stands for those that are not to be decoded.
    Encoding::for_label(label.as_bytes()).filter(|encoding| *encoding != encoding_rs::REPLACEMENT)
}

fn label(label: &str, name: &str) -> Result<&'static Encoding> {
    label_of(label).ok_or_else(|| DocumentError::UnknownEncoding(name.to_owned()))
}

/// Text, and whether some of it could not be decoded.
pub struct Decoded<'a> {
    pub text: Cow<'a, str>,
    pub is_damaged: bool,
}

/// Decodes `bytes`; `in_document` is what the document says of itself, `last` what to take if nothing else is known.
pub fn decode<'a>(
    bytes: &'a [u8],
    declared: Option<&'static Encoding>,
    in_document: Option<&'static Encoding>,
    last: Option<&'static Encoding>,
    guard: &Guard,
) -> Result<Decoded<'a>> {
    let (encoding, bytes) = match Encoding::for_bom(bytes) {
        Some((encoding, mark_bytes)) => (encoding, &bytes[mark_bytes..]),
        None => match declared.or(in_document).or_else(|| guess(bytes)).or(last) {
            Some(encoding) => (encoding, bytes),
            None => return Err(DocumentError::UndeclaredEncoding),
        },
    };
    // No encoding makes more than three bytes of one, so this is bounded by the input.
    let (text, is_damaged) = encoding.decode_without_bom_handling(bytes);
    guard.look()?;
    Ok(Decoded { text, is_damaged })
}

fn guess(bytes: &[u8]) -> Option<&'static Encoding> {
    utf16_by_zeros(bytes).or_else(|| std::str::from_utf8(bytes).is_ok().then_some(UTF_8))
}

/// Latin text in UTF-16 has a zero in every second byte.
fn utf16_by_zeros(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES) & !1];
    let zeros = |offset: usize| sample.iter().skip(offset).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let many = (sample.len() / 2).saturating_mul(2) / 5;
    match (even, odd) {
        _ if sample.len() < 4 => None,
        (0, odd) if odd > many => Some(UTF_16LE),
        (even, 0) if even > many => Some(UTF_16BE),
        _ => None,
    }
}

/// Whether no text in any encoding looks like this.
pub fn looks_binary(bytes: &[u8]) -> bool {
    if Encoding::for_bom(bytes).is_some() || utf16_by_zeros(bytes).is_some() {
        return false;
    }
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let controls =
        sample.iter().filter(|&&byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | 0x1b)).count();
    sample.contains(&0) || controls * 20 > sample.len()
}

/// The beginning of text whose encoding does not matter yet: marks and ASCII come out right.
pub fn beginning(bytes: &[u8]) -> Cow<'_, str> {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let (encoding, skipped) = match Encoding::for_bom(sample) {
        Some((encoding, mark_bytes)) => (encoding, mark_bytes),
        None => (utf16_by_zeros(sample).unwrap_or(WINDOWS_1252), 0),
    };
    encoding.decode_without_bom_handling(&sample[skipped..]).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn text(bytes: &[u8], declared: Option<&str>) -> Result<(String, bool)> {
        let limits = Limits::default();
        let guard = Guard::start(&limits, bytes.len(), &|| false).unwrap();
        let declared = declared.map(by_name).transpose()?;
        decode(bytes, declared, None, None, &guard).map(|decoded| (decoded.text.into_owned(), decoded.is_damaged))
    }

    #[test]
    fn encodings_have_the_names_of_the_web_and_of_postgresql() {
        for (name, expected) in [
            ("UTF8", "UTF-8"),
            ("LATIN1", "windows-1252"),
            ("LATIN9", "ISO-8859-15"),
            ("WIN1251", "windows-1251"),
            ("win866", "IBM866"),
            ("ISO_8859_5", "ISO-8859-5"),
            ("EUC_JP", "EUC-JP"),
            ("EUC_KR", "EUC-KR"),
            ("SJIS", "Shift_JIS"),
            ("BIG5", "Big5"),
            ("GB18030", "gb18030"),
            ("KOI8U", "KOI8-U"),
            ("shift_jis", "Shift_JIS"),
            ("UTF-16LE", "UTF-16LE"),
            ("SQL_ASCII", "windows-1252"),
        ] {
            assert_eq!(by_name(name).unwrap().name(), expected, "{name}");
        }
        for name in ["MULE_INTERNAL", "hz-gb-2312", "x", ""] {
            assert_eq!(by_name(name), Err(DocumentError::UnknownEncoding(name.to_owned())));
        }
    }

    #[test]
    fn marks_declarations_and_valid_utf8_are_believed_in_this_order() {
        let plain = |text: &str| Ok((text.to_owned(), false));
        assert_eq!(text("é".as_bytes(), None), plain("é"));
        assert_eq!(text(b"\xef\xbb\xbfa", Some("latin1")), plain("a"));
        assert_eq!(text(b"\xff\xfea\0\xe9\0", Some("UTF8")), plain("aé"));
        assert_eq!(text(b"\0a\0b\0c", None), plain("abc"));
        assert_eq!(text(b"caf\xe9", Some("LATIN1")), plain("café"));
        assert_eq!(text(b"caf\xe9", None), Err(DocumentError::UndeclaredEncoding));
        assert_eq!(text(b"\x93\xfa\x96\x7b", Some("SJIS")), plain("日本"));
        assert_eq!(text(b"a\xff", Some("UTF8")), Ok(("a\u{fffd}".to_owned(), true)));
    }
}
