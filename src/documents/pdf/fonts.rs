//! Fonts: what each code of a string shows, and how wide it is.
//!
//! The order of belief for what a code shows: the font's ToUnicode map; the glyph's name; the character collection of a
//! CJK font. A code without an answer shows nothing, and is counted.

use super::encodings::{self, Base};
use super::streams::{self, contents};
use crate::error::Result;
use crate::limits::Guard;
use hayro_cmap::{load_embedded, BfString, CMap, CMapName, CidFamily, WritingMode};
use hayro_syntax::object::{self, Array, Dict, Name, Object, Stream};
use std::collections::HashMap;

/// Widths of Helvetica and Times from the space to the tilde, in thousandths of the size: for files that leave them out.
const HELVETICA: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];
const TIMES: [u16; 95] = [
    250, 333, 408, 500, 500, 833, 778, 180, 333, 333, 500, 564, 250, 333, 250, 278, 500, 500, 500, 500, 500, 500, 500,
    500, 500, 500, 278, 278, 564, 564, 564, 444, 921, 722, 667, 667, 722, 611, 556, 722, 722, 333, 389, 722, 611, 889,
    722, 722, 556, 722, 667, 556, 611, 722, 722, 944, 722, 722, 611, 333, 278, 333, 469, 500, 333, 444, 500, 444, 500,
    444, 333, 500, 500, 278, 278, 500, 278, 778, 500, 500, 500, 500, 333, 389, 278, 500, 500, 722, 500, 500, 444, 480,
    200, 480, 541,
];

/// Widths that a composite font can have entries for: all its glyphs.
const MAX_WIDTHS: usize = 65_536;

enum Codes {
    /// One byte each: what it shows and how wide it is, in text space.
    Simple { texts: Vec<Option<String>>, widths: Vec<f64> },
    Composite {
        map: Box<CMap>,
        is_identity: bool,
        collection: Option<Box<CMap>>,
        widths: HashMap<u32, f64>,
        default_width: f64,
    },
}

pub struct Font {
    codes: Codes,
    to_unicode: Option<CMap>,
    pub is_vertical: bool,
    pub is_bold: bool,
    pub is_monospaced: bool,
}

/// One code of a string.
pub struct Glyph {
    pub text: Option<String>,
    /// In text space: a fraction of the size.
    pub width: f64,
    /// A single byte with the value of a space, which word spacing applies to.
    pub is_space_code: bool,
}

fn embedded_map(name: CMapName) -> Option<CMap> {
    CMap::parse(load_embedded(name)?, load_embedded)
}

impl Font {
    pub fn read(dict: &Dict, guard: &Guard) -> Result<Self> {
        let descendant = dict.get::<Array>("DescendantFonts").and_then(|fonts| fonts.iter::<Dict>().next());
        let described = descendant.as_ref().unwrap_or(dict);
        let descriptor = described.get::<Dict>("FontDescriptor");
        let name = streams::name(dict, "BaseFont").unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let flags = descriptor.as_ref().and_then(|descriptor| descriptor.get::<i32>("Flags")).unwrap_or(0);
        let weight = descriptor.as_ref().and_then(|descriptor| descriptor.get::<f32>("FontWeight")).unwrap_or(0.0);
        let to_unicode = match dict.get::<Stream>("ToUnicode") {
            Some(stream) => CMap::parse(&contents(&stream, guard)?, load_embedded),
            None => None,
        };
        let is_composite = streams::name(dict, "Subtype").as_deref() == Some("Type0");
        let (codes, is_vertical) = match is_composite {
            true => composite(dict, described, guard)?,
            false => (simple(dict, descriptor.as_ref(), &lower, guard)?, false),
        };
        Ok(Self {
            codes,
            to_unicode,
            is_vertical,
            is_bold: weight >= 600.0 || flags & (1 << 18) != 0 || lower.contains("bold") || lower.contains("black"),
            is_monospaced: flags & 1 != 0 || lower.contains("mono") || lower.contains("courier"),
        })
    }

    /// The codes of a string.
    pub fn glyphs(&self, string: &[u8], mut emit: impl FnMut(Glyph) -> Result<()>) -> Result<()> {
        match &self.codes {
            Codes::Simple { texts, widths } => {
                for &code in string {
                    let index = usize::from(code);
                    let text = self.mapped(u32::from(code)).or_else(|| texts.get(index).cloned().flatten());
                    let width = widths.get(index).copied().unwrap_or(0.5);
                    emit(Glyph { text, width, is_space_code: code == 32 })?;
                }
            }
            Codes::Composite { map, is_identity, collection, widths, default_width } => {
                let mut rest = string;
                while !rest.is_empty() {
                    let (code, length, cid) = next_code(map, *is_identity, rest);
                    rest = &rest[length..];
                    let text = self.mapped(code).or_else(|| shown(collection.as_ref()?.lookup_bf_string(cid)?));
                    let width = widths.get(&cid).copied().unwrap_or(*default_width);
                    emit(Glyph { text, width, is_space_code: length == 1 && code == 32 })?;
                }
            }
        }
        Ok(())
    }

    fn mapped(&self, code: u32) -> Option<String> {
        shown(self.to_unicode.as_ref()?.lookup_bf_string(code)?)
    }
}

/// Text that says something: fonts map what they do not know to zero, to U+FFFD, or into the private area.
fn shown(text: BfString) -> Option<String> {
    let text = match text {
        BfString::Char(character) => character.to_string(),
        BfString::String(text) => text,
    };
    let text: String = text.chars().filter(|c| !matches!(c, '\0' | '\u{fffd}' | '\u{e000}'..='\u{f8ff}')).collect();
    if let Some(letters) = text.chars().next().filter(|_| text.chars().count() == 1).and_then(encodings::ligature) {
        return Some(letters.to_owned());
    }
    (!text.is_empty()).then_some(text)
}

fn next_code(map: &CMap, is_identity: bool, string: &[u8]) -> (u32, usize, u32) {
    if !is_identity {
        let mut code = 0u32;
        for (index, &byte) in string.iter().take(4).enumerate() {
            code = (code << 8) | u32::from(byte);
            if let Some(cid) = map.lookup_cid_code(code, index as u8 + 1) {
                return (code, index + 1, cid);
            }
        }
    }
    match string {
        [high, low, ..] => {
            let code = u32::from(*high) << 8 | u32::from(*low);
            (code, 2, if is_identity { code } else { 0 })
        }
        [only] => (u32::from(*only), 1, 0),
        [] => (0, 1, 0),
    }
}

fn composite(dict: &Dict, descendant: &Dict, guard: &Guard) -> Result<(Codes, bool)> {
    let encoding = streams::name(dict, "Encoding");
    let (map, is_identity) = match (&encoding, dict.get::<Stream>("Encoding")) {
        (_, Some(stream)) => {
            (CMap::parse(&contents(&stream, guard)?, load_embedded).unwrap_or_else(CMap::identity_h), false)
        }
        (Some(name), None) if name == "Identity-V" => (CMap::identity_v(), true),
        (Some(name), None) if name != "Identity-H" => {
            (embedded_map(CMapName::from_bytes(name.as_bytes())).unwrap_or_else(CMap::identity_h), false)
        }
        _ => (CMap::identity_h(), true),
    };
    let is_vertical = map.metadata().writing_mode == Some(WritingMode::Vertical)
        || encoding.as_deref().is_some_and(|name| name.ends_with("-V"));
    let info = descendant.get::<Dict>("CIDSystemInfo");
    let string = |key: &str| info.as_ref().and_then(|info| info.get::<object::String>(key)).map(|text| text.to_vec());
    let family = CidFamily::from_registry_ordering(
        &string("Registry").unwrap_or_default(),
        &string("Ordering").unwrap_or_default(),
    );
    let collection = family.ucs2_cmap().and_then(embedded_map).map(Box::new);
    let map = Box::new(map);
    let default_width = descendant.get::<f32>("DW").map_or(1.0, |width| f64::from(width) / 1000.0);
    let widths = descendant.get::<Array>("W").map(|array| composite_widths(&array, guard)).transpose()?;
    let widths = widths.unwrap_or_default();
    Ok((Codes::Composite { map, is_identity, collection, widths, default_width }, is_vertical))
}

/// `first [width …]` and `first last width`, in any order.
fn composite_widths(array: &Array, guard: &Guard) -> Result<HashMap<u32, f64>> {
    let mut widths = HashMap::new();
    let mut numbers: Vec<f64> = Vec::new();
    for item in array.iter::<Object>() {
        guard.step()?;
        match item {
            Object::Number(number) => {
                numbers.push(number.as_f64());
                if let [first, last, width] = numbers[..] {
                    numbers.clear();
                    let (first, last) = (first.max(0.0) as u32, last.max(0.0) as u32);
                    for cid in first..=last.min(first.saturating_add(MAX_WIDTHS as u32)) {
                        if widths.len() >= MAX_WIDTHS {
                            break;
                        }
                        widths.insert(cid, width / 1000.0);
                    }
                }
            }
            Object::Array(list) => {
                let first = numbers.pop().unwrap_or(0.0).max(0.0) as u32;
                numbers.clear();
                for (index, width) in list.iter::<f32>().take(MAX_WIDTHS).enumerate() {
                    if widths.len() >= MAX_WIDTHS {
                        break;
                    }
                    widths.insert(first.saturating_add(index as u32), f64::from(width) / 1000.0);
                }
            }
            _ => numbers.clear(),
        }
    }
    Ok(widths)
}

fn simple(dict: &Dict, descriptor: Option<&Dict>, name: &str, guard: &Guard) -> Result<Codes> {
    let subtype = streams::name(dict, "Subtype").unwrap_or_default();
    let encoding = dict.get::<Dict>("Encoding");
    let base_name = match &encoding {
        Some(encoding) => streams::name(encoding, "BaseEncoding"),
        None => streams::name(dict, "Encoding"),
    };
    let base = match base_name.as_deref() {
        Some("WinAnsiEncoding") => Some(Base::WinAnsi),
        Some("MacRomanEncoding") => Some(Base::MacRoman),
        Some("StandardEncoding") => Some(Base::Standard),
        _ if name.contains("zapfdingbats") || name.contains("wingdings") => Some(Base::Dingbats),
        _ if name == "symbol" || name.ends_with("+symbol") => Some(Base::Symbol),
        // A font with its own encoding, which programs make from one of these.
        _ if subtype == "TrueType" => Some(Base::WinAnsi),
        _ => None,
    };
    let mut texts: Vec<Option<String>> = Vec::with_capacity(256);
    let built_in = match (base, descriptor.and_then(|descriptor| descriptor.get::<Stream>("FontFile"))) {
        (None, Some(program)) => built_in_encoding(&contents(&program, guard)?),
        _ => HashMap::new(),
    };
    for code in 0..=255u8 {
        let named = built_in.get(&code).and_then(|name| encodings::of_name(name));
        texts.push(named.or_else(|| encodings::of_code(base.unwrap_or(Base::Standard), code)));
    }
    if let Some(differences) = encoding.and_then(|encoding| encoding.get::<Array>("Differences")) {
        let mut code = 0usize;
        for item in differences.iter::<Object>() {
            guard.step()?;
            match item {
                Object::Number(number) => code = number.as_f64().clamp(0.0, 256.0) as usize,
                Object::Name(name) => {
                    if let Some(text) = texts.get_mut(code) {
                        *text = encodings::of_name(&String::from_utf8_lossy(&name));
                    }
                    code = code.saturating_add(1);
                }
                _ => {}
            }
        }
    }
    Ok(Codes::Simple { texts, widths: simple_widths(dict, descriptor, name, &subtype) })
}

fn simple_widths(dict: &Dict, descriptor: Option<&Dict>, name: &str, subtype: &str) -> Vec<f64> {
    let scale = match subtype {
        // Widths of Type 3 fonts are in a space of their own.
        "Type3" => {
            let matrix = dict.get::<Array>("FontMatrix");
            matrix.and_then(|matrix| matrix.iter::<f32>().next()).map_or(0.001, |scale| f64::from(scale).abs())
        }
        _ => 0.001,
    };
    let Some(listed) = dict.get::<Array>("Widths") else {
        let table = if name.contains("times") || name.contains("serif") { &TIMES } else { &HELVETICA };
        let standard = |code: usize| match code.checked_sub(32).and_then(|index| table.get(index)) {
            _ if name.contains("courier") => 0.6,
            Some(&width) => f64::from(width) / 1000.0,
            None => 0.5,
        };
        return (0..256).map(standard).collect();
    };
    let missing = descriptor.and_then(|descriptor| descriptor.get::<f32>("MissingWidth")).unwrap_or(0.0);
    let mut widths = vec![f64::from(missing) * scale; 256];
    let first = dict.get::<i32>("FirstChar").unwrap_or(0).clamp(0, 255) as usize;
    for (place, width) in widths[first..].iter_mut().zip(listed.iter::<f32>()) {
        *place = f64::from(width) * scale;
    }
    widths
}

/// `dup 65 /A put` in the readable part of a Type 1 font.
fn built_in_encoding(program: &[u8]) -> HashMap<u8, String> {
    let mut names = HashMap::new();
    let end = program.windows(5).position(|window| window == b"eexec").unwrap_or(program.len().min(64 * 1024));
    let text = String::from_utf8_lossy(&program[..end]);
    let Some((_, encoding)) = text.split_once("/Encoding") else { return names };
    let mut words = encoding.split_ascii_whitespace();
    while let Some(word) = words.next() {
        match word {
            "def" | "readonly" if !names.is_empty() => break,
            "dup" => {
                let code = words.next().and_then(|code| code.parse::<u8>().ok());
                let name = words.next().and_then(|name| name.strip_prefix('/'));
                if let (Some(code), Some(name)) = (code, name) {
                    names.insert(code, name.to_owned());
                }
            }
            _ => {}
        }
    }
    names
}

/// The font that resources have under this name, with what identifies it.
pub fn find<'a>(fonts: &Dict<'a>, name: &[u8]) -> Option<(Option<object::ObjectIdentifier>, Dict<'a>)> {
    let name = Name::new(name)?;
    let dict = fonts.get::<Dict>(&name)?;
    Some((dict.obj_id(), dict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_in_a_type_1_program_is_read() {
        let program = b"%!PS\n/Encoding 256 array\n0 1 255 {1 index exch /.notdef put} for\ndup 65 /alpha put\n\
                        dup 12 /fi put\nreadonly def\ncurrentfile eexec dup 66 /B put";
        let names = built_in_encoding(program);
        assert_eq!(names.get(&65).map(String::as_str), Some("alpha"));
        assert_eq!(names.get(&12).map(String::as_str), Some("fi"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn what_says_nothing_is_not_shown() {
        assert_eq!(shown(BfString::Char('ﬁ')).as_deref(), Some("fi"));
        assert_eq!(shown(BfString::Char('\u{f0b7}')), None);
        assert_eq!(shown(BfString::String("st".into())).as_deref(), Some("st"));
    }
}
