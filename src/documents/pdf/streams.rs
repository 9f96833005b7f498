//! The bytes of a stream, unpacked under the guard.
//!
//! The library could unpack them, too, but without a limit. What is damaged gives as much as was readable: half a page is
//! worth more than none.

use super::predictor::Predictor;
use crate::archive::inflate_as_far_as_possible;
use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use hayro_syntax::object::{Array, Dict, Name, Object, Stream};
use hayro_syntax::Filter;

/// Filters that a stream goes through; nobody writes more than three.
const MAX_FILTERS: usize = 8;

/// The contents of a stream that is not an image; empty for one that is.
pub fn contents(stream: &Stream, guard: &Guard) -> Result<Vec<u8>> {
    let raw = stream.raw_data();
    guard.unpack(raw.len() as u64)?;
    let filters = stream.filters();
    let mut bytes = raw.into_owned();
    for filter in filters.iter().take(MAX_FILTERS) {
        bytes = match filter {
            Filter::FlateDecode => inflate_as_far_as_possible(&bytes, true, guard)?.0,
            Filter::LzwDecode => lzw(&bytes, early_change(stream), guard)?,
            Filter::AsciiHexDecode => ascii_hex(&bytes),
            Filter::Ascii85Decode => ascii_85(&bytes),
            Filter::RunLengthDecode => run_length(&bytes, guard)?,
            Filter::Crypt => bytes,
            Filter::CcittFaxDecode | Filter::Jbig2Decode | Filter::DctDecode | Filter::JpxDecode => {
                return Ok(Vec::new())
            }
        };
    }
    match predictor(stream) {
        Some(predictor) => predictor.undo(bytes, guard),
        None => Ok(bytes),
    }
}

fn parameters<'a>(stream: &Stream<'a>) -> Option<Dict<'a>> {
    let dict = stream.dict();
    dict.get::<Dict>("DecodeParms")
        .or_else(|| dict.get::<Array>("DecodeParms")?.iter::<Object>().find_map(Object::into_dict))
}

fn predictor(stream: &Stream) -> Option<Predictor> {
    let parameters = parameters(stream)?;
    let number = |name: &str, usual: i32| parameters.get::<i32>(name).unwrap_or(usual);
    let kind = parameters.get::<i32>("Predictor")?;
    Some(Predictor {
        kind,
        colors: number("Colors", 1),
        bits: number("BitsPerComponent", 8),
        columns: number("Columns", 1),
    })
}

fn early_change(stream: &Stream) -> bool {
    parameters(stream).and_then(|parameters| parameters.get::<i32>("EarlyChange")) != Some(0)
}

fn lzw(packed: &[u8], is_early: bool, guard: &Guard) -> Result<Vec<u8>> {
    const CLEAR: usize = 256;
    const END: usize = 257;
    // Each entry is the range of an earlier output: the text of the entry before plus one byte.
    let mut table: Vec<(usize, usize)> = Vec::new();
    let mut plain: Vec<u8> = Vec::new();
    let (mut bits, mut bit_count, mut width) = (0u32, 0u32, 9u32);
    let mut previous: Option<(usize, usize)> = None;
    for &byte in packed {
        bits = (bits << 8) | u32::from(byte);
        bit_count += 8;
        if bit_count < width {
            continue;
        }
        bit_count -= width;
        let code = ((bits >> bit_count) & ((1 << width) - 1)) as usize;
        bits &= (1 << bit_count) - 1;
        if code == END {
            break;
        }
        if code == CLEAR {
            table.clear();
            previous = None;
            width = 9;
            continue;
        }
        let start = plain.len();
        match (code, previous) {
            (0..=255, _) => plain.push(code as u8),
            (_, Some((from, to))) => {
                let (from, to) = match table.get(code - 258) {
                    Some(&range) => range,
                    // The entry that is about to be made: the text before and its first byte.
                    None if code - 258 == table.len() => (from, to + 1),
                    None => break,
                };
                guard.unpack((to - from) as u64)?;
                for at in from..to {
                    plain.push(plain[at]);
                }
            }
            (_, None) => break,
        }
        guard.unpack(1)?;
        if let Some((from, to)) = previous {
            if table.len() < 4096 - 258 {
                table.push((from, to + 1));
            }
        }
        previous = Some((start, plain.len()));
        let next = table.len() + 258 + 1 + usize::from(is_early);
        width = match next {
            0..=512 => 9,
            513..=1024 => 10,
            1025..=2048 => 11,
            _ => 12,
        };
    }
    Ok(plain)
}

fn ascii_hex(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for &byte in text {
        let digit = match byte {
            b'>' => break,
            byte => (byte as char).to_digit(16),
        };
        let Some(digit) = digit else { continue };
        match high.take() {
            None => high = Some(digit),
            Some(high) => plain.push((high * 16 + digit) as u8),
        }
    }
    plain.extend(high.map(|high| (high * 16) as u8));
    plain
}

fn ascii_85(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len() / 5 * 4);
    let (mut group, mut count) = (0u32, 0usize);
    for &byte in text {
        match byte {
            b'z' if count == 0 => plain.extend([0; 4]),
            b'!'..=b'u' => {
                group = group.wrapping_mul(85).wrapping_add(u32::from(byte - b'!'));
                count += 1;
                if count == 5 {
                    plain.extend(group.to_be_bytes());
                    (group, count) = (0, 0);
                }
            }
            b'~' => break,
            _ => {}
        }
    }
    if count > 1 {
        for _ in count..5 {
            group = group.wrapping_mul(85).wrapping_add(84);
        }
        plain.extend(&group.to_be_bytes()[..count - 1]);
    }
    plain
}

fn run_length(packed: &[u8], guard: &Guard) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = packed;
    while let [length, tail @ ..] = rest {
        match *length {
            128 => break,
            length @ 0..=127 => {
                let count = (usize::from(length) + 1).min(tail.len());
                plain.extend_from_slice(&tail[..count]);
                rest = &tail[count..];
            }
            length => {
                let Some((&byte, after)) = tail.split_first() else { break };
                let count = 257 - usize::from(length);
                guard.unpack(count as u64)?;
                plain.resize(plain.len() + count, byte);
                rest = after;
            }
        }
    }
    Ok(plain)
}

/// The name that a dictionary has for `key`.
pub fn name(dict: &Dict, key: &str) -> Option<String> {
    dict.get::<Name>(key).map(|name| String::from_utf8_lossy(&name).into_owned())
}

/// A page with more pieces than this is not for reading.
pub fn too_many(what: &'static str, limit: usize) -> DocumentError {
    DocumentError::StructureLimit { what, limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn filters_give_what_went_in() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        assert_eq!(ascii_hex(b"48 65 6C6c 6F7>zz"), b"Hello\x70");
        assert_eq!(ascii_85(b"87cURD]i,\"Ebo80~>"), b"Hello World!");
        assert_eq!(run_length(&[2, b'a', b'b', b'c', 254, b'x', 128, 7], &guard).unwrap(), b"abcxxx");
        // The example of the PDF specification.
        let packed = [0x80, 0x0B, 0x60, 0x50, 0x22, 0x0C, 0x0C, 0x85, 0x01];
        assert_eq!(lzw(&packed, true, &guard).unwrap(), [45, 45, 45, 45, 45, 65, 45, 45, 45, 66]);
    }
}
