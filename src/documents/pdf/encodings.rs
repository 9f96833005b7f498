//! From codes and glyph names of simple fonts to Unicode.
//!
//! Names of glyphs follow rules more than lists: letters with an accent are a letter and a word (`eacute`), ligatures are
//! parts with `_`, `uni20AC` and `u1F600` are numbers. What no rule gives is in [`NAMES`]; Greek letters and most signs
//! have the names that HTML has for them.

use encoding_rs::{MACINTOSH, WINDOWS_1252};
use web_atoms::NAMED_ENTITIES;

/// Encodings that fonts name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    Standard,
    WinAnsi,
    MacRoman,
    Symbol,
    Dingbats,
}

/// Accents as glyph names have them, and as HTML has them.
const ACCENTS: [(&str, &str); 14] = [
    ("hungarumlaut", "dblac"),
    ("circumflex", "circ"),
    ("commaaccent", "cedil"),
    ("dotaccent", "dot"),
    ("dieresis", "uml"),
    ("cedilla", "cedil"),
    ("macron", "macr"),
    ("ogonek", "ogon"),
    ("acute", "acute"),
    ("grave", "grave"),
    ("tilde", "tilde"),
    ("caron", "caron"),
    ("breve", "breve"),
    ("ring", "ring"),
];

/// Names that neither are a rule nor HTML's. Sorted.
const NAMES: &[(&str, &str)] = &[
    ("AE", "Æ"),
    ("Dcroat", "Đ"),
    ("Delta", "Δ"),
    ("Eth", "Ð"),
    ("Euro", "€"),
    ("Germandbls", "ẞ"),
    ("IJ", "Ĳ"),
    ("Lslash", "Ł"),
    ("OE", "Œ"),
    ("Omega", "Ω"),
    ("Oslash", "Ø"),
    ("Thorn", "Þ"),
    ("acute", "´"),
    ("ae", "æ"),
    ("ampersand", "&"),
    ("angleleft", "⟨"),
    ("angleright", "⟩"),
    ("approxequal", "≈"),
    ("arrowboth", "↔"),
    ("arrowdblright", "⇒"),
    ("arrowdown", "↓"),
    ("arrowleft", "←"),
    ("arrowright", "→"),
    ("arrowup", "↑"),
    ("asciicircum", "^"),
    ("asciitilde", "~"),
    ("asterisk", "*"),
    ("asteriskmath", "∗"),
    ("at", "@"),
    ("backslash", "\\"),
    ("bar", "|"),
    ("braceleft", "{"),
    ("braceright", "}"),
    ("bracketleft", "["),
    ("bracketright", "]"),
    ("breve", "˘"),
    ("brokenbar", "¦"),
    ("bullet", "•"),
    ("caron", "ˇ"),
    ("cedilla", "¸"),
    ("circlecopyrt", "©"),
    ("circumflex", "ˆ"),
    ("colon", ":"),
    ("comma", ","),
    ("copyright", "©"),
    ("dagger", "†"),
    ("daggerdbl", "‡"),
    ("dcroat", "đ"),
    ("degree", "°"),
    ("dieresis", "¨"),
    ("divide", "÷"),
    ("dollar", "$"),
    ("dotaccent", "˙"),
    ("dotlessi", "ı"),
    ("dotlessj", "ȷ"),
    ("eight", "8"),
    ("element", "∈"),
    ("ellipsis", "…"),
    ("emdash", "—"),
    ("endash", "–"),
    ("equal", "="),
    ("equivalence", "≡"),
    ("eth", "ð"),
    ("exclam", "!"),
    ("exclamdown", "¡"),
    ("existential", "∃"),
    ("ff", "ff"),
    ("ffi", "ffi"),
    ("ffl", "ffl"),
    ("fi", "fi"),
    ("five", "5"),
    ("fl", "fl"),
    ("florin", "ƒ"),
    ("four", "4"),
    ("fraction", "⁄"),
    ("germandbls", "ß"),
    ("grave", "`"),
    ("greater", ">"),
    ("greaterequal", "≥"),
    ("guillemotleft", "«"),
    ("guillemotright", "»"),
    ("guilsinglleft", "‹"),
    ("guilsinglright", "›"),
    ("hungarumlaut", "˝"),
    ("hyphen", "-"),
    ("ij", "ĳ"),
    ("infinity", "∞"),
    ("integral", "∫"),
    ("less", "<"),
    ("lessequal", "≤"),
    ("logicaland", "∧"),
    ("logicalnot", "¬"),
    ("logicalor", "∨"),
    ("lslash", "ł"),
    ("macron", "¯"),
    ("middot", "·"),
    ("minus", "−"),
    ("mu", "µ"),
    ("multiply", "×"),
    ("nbspace", " "),
    ("nine", "9"),
    ("notequal", "≠"),
    ("numbersign", "#"),
    ("oe", "œ"),
    ("ogonek", "˛"),
    ("one", "1"),
    ("onehalf", "½"),
    ("onequarter", "¼"),
    ("onesuperior", "¹"),
    ("ordfeminine", "ª"),
    ("ordmasculine", "º"),
    ("oslash", "ø"),
    ("paragraph", "¶"),
    ("parenleft", "("),
    ("parenright", ")"),
    ("partialdiff", "∂"),
    ("percent", "%"),
    ("period", "."),
    ("periodcentered", "·"),
    ("perthousand", "‰"),
    ("plus", "+"),
    ("plusminus", "±"),
    ("product", "∏"),
    ("question", "?"),
    ("questiondown", "¿"),
    ("quotedbl", "\""),
    ("quotedblbase", "„"),
    ("quotedblleft", "“"),
    ("quotedblright", "”"),
    ("quoteleft", "‘"),
    ("quoteright", "’"),
    ("quotesinglbase", "‚"),
    ("quotesingle", "'"),
    ("radical", "√"),
    ("registered", "®"),
    ("ring", "˚"),
    ("section", "§"),
    ("semicolon", ";"),
    ("seven", "7"),
    ("sfthyphen", "\u{ad}"),
    ("six", "6"),
    ("slash", "/"),
    ("space", " "),
    ("sterling", "£"),
    ("summation", "∑"),
    ("thorn", "þ"),
    ("three", "3"),
    ("threequarters", "¾"),
    ("threesuperior", "³"),
    ("tilde", "˜"),
    ("trademark", "™"),
    ("two", "2"),
    ("twosuperior", "²"),
    ("underscore", "_"),
    ("zero", "0"),
];

/// What a glyph of this name shows.
pub fn of_name(name: &str) -> Option<String> {
    // What comes after a full stop tells variants of a glyph apart: small capitals, old figures.
    let plain = name.split('.').next().filter(|plain| !plain.is_empty())?;
    if plain.contains('_') {
        return plain.split('_').map(of_name).collect();
    }
    let mut characters = plain.chars();
    if let (Some(only), None) = (characters.next(), characters.next()) {
        return Some(only.to_string());
    }
    if let Ok(index) = NAMES.binary_search_by(|(known, _)| (*known).cmp(plain)) {
        return Some(NAMES[index].1.to_owned());
    }
    by_number(plain).or_else(|| accented(plain)).or_else(|| entity(plain))
}

fn by_number(name: &str) -> Option<String> {
    let is_hex = |digits: &str| digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digits) = name.strip_prefix("uni").filter(|digits| is_hex(digits) && digits.len() % 4 == 0) {
        let units: Vec<u16> =
            (0..digits.len() / 4).filter_map(|at| u16::from_str_radix(&digits[4 * at..4 * at + 4], 16).ok()).collect();
        return String::from_utf16(&units).ok();
    }
    let digits = name.strip_prefix('u').filter(|digits| is_hex(digits) && digits.len() <= 6)?;
    char::from_u32(u32::from_str_radix(digits, 16).ok()?).map(String::from)
}

fn accented(name: &str) -> Option<String> {
    let (accent, html) = ACCENTS.iter().find(|(accent, _)| name.len() > accent.len() && name.ends_with(accent))?;
    let letter = name.strip_suffix(accent)?;
    entity(&format!("{letter}{html}"))
}

fn entity(name: &str) -> Option<String> {
    match NAMED_ENTITIES.get(format!("{name};").as_str()) {
        Some(&(first, second)) if first != 0 => {
            Some([first, second].into_iter().filter(|code| *code != 0).filter_map(char::from_u32).collect())
        }
        _ => None,
    }
}

/// StandardEncoding from A1 on; a space stands for nothing.
const STANDARD_HIGH: &str =
    "¡¢£⁄¥ƒ§¤'“«‹›ﬁﬂ –†‡· ¶•‚„”»…‰ ¿ `´ˆ˜¯˘˙¨ ˚¸ ˝˛ˇ—                Æ ª    ŁØŒº     æ   ı  łøœß    ";

/// The Greek letters of the Symbol font, from A on; the same for small letters.
const SYMBOL_CAPITALS: &str = "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ";
const SYMBOL_LETTERS: &str = "αβχδεφγηιϕκλμνοπθρστυϖωξψζ";

/// What a code shows in an encoding.
pub fn of_code(base: Base, code: u8) -> Option<String> {
    let character = match (base, code) {
        (Base::Dingbats, 0x21..) => '•',
        (_, 0..=0x1f) => return None,
        (Base::Symbol, b'A'..=b'Z') => SYMBOL_CAPITALS.chars().nth(usize::from(code - b'A'))?,
        (Base::Symbol, b'a'..=b'z') => SYMBOL_LETTERS.chars().nth(usize::from(code - b'a'))?,
        (Base::Symbol, 0x7f..) => match code {
            0xa3 => '≤',
            0xa5 => '∞',
            0xae => '→',
            0xac => '←',
            0xb0 => '°',
            0xb1 => '±',
            0xb3 => '≥',
            0xb4 => '×',
            0xb7 => '•',
            0xb9 => '≠',
            0xbb => '≈',
            0xce => '∈',
            0xe5 => '∑',
            _ => return None,
        },
        (Base::Standard, 0x27) => '’',
        (Base::Standard, 0x60) => '‘',
        (Base::Standard, 0xa1..) => {
            STANDARD_HIGH.chars().nth(usize::from(code - 0xa1)).filter(|character| *character != ' ')?
        }
        (Base::Standard, 0x7f..=0xa0) | (_, 0x7f) => return None,
        (Base::WinAnsi, 0xa0) | (Base::MacRoman, 0xca) => ' ',
        (_, 0..=0x7e) => code as char,
        (Base::MacRoman, _) => MACINTOSH.decode_without_bom_handling(&[code]).0.chars().next()?,
        (Base::WinAnsi, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d) => '•',
        (Base::WinAnsi, _) => WINDOWS_1252.decode_without_bom_handling(&[code]).0.chars().next()?,
    };
    Some(ligature(character).map_or_else(|| character.to_string(), str::to_owned))
}

/// The letters of a character that is only a way to print them.
pub fn ligature(character: char) -> Option<&'static str> {
    Some(match character {
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' | 'ﬆ' => "st",
        _ => return None,
    })
}

/// Text of the document's information: UTF-16 or UTF-8 with a mark, else PDFDocEncoding.
pub fn text_string(bytes: &[u8]) -> String {
    const LOW: &str = "˘ˇˆ˙˝˛˚˜";
    const HIGH: &str = "•†‡…—–ƒ⁄‹›−‰„“”‘’‚™ﬁﬂŁŒŠŸŽıłœšž";
    if let Some((encoding, mark_bytes)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(&bytes[mark_bytes..]).0.into_owned();
    }
    let character = |byte: u8| match byte {
        0x18..=0x1f => LOW.chars().nth(usize::from(byte - 0x18)),
        0x80..=0x9e => HIGH.chars().nth(usize::from(byte - 0x80)),
        0xa0 => Some('€'),
        byte => Some(byte as char),
    };
    bytes.iter().filter_map(|byte| character(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_glyphs() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| *name));
        for (name, text) in [
            ("A", "A"),
            ("eacute", "é"),
            ("Zcaron", "Ž"),
            ("ohungarumlaut", "ő"),
            ("aring", "å"),
            ("acircumflex", "â"),
            ("udieresis", "ü"),
            ("ccedilla", "ç"),
            ("abreve", "ă"),
            ("f_f_i", "ffi"),
            ("ffi", "ffi"),
            ("uni20AC", "€"),
            ("u1F600", "😀"),
            ("alpha", "α"),
            ("Omega", "Ω"),
            ("a.sc", "a"),
            ("zero.oldstyle", "0"),
            ("quoteright", "’"),
            ("copyright", "©"),
        ] {
            assert_eq!(of_name(name).as_deref(), Some(text), "{name}");
        }
        for name in [".notdef", "g123", "", "unknown"] {
            assert_eq!(of_name(name), None, "{name}");
        }
    }

    #[test]
    fn codes_of_encodings() {
        let code = |base, code| of_code(base, code).unwrap_or_default();
        assert_eq!(STANDARD_HIGH.chars().count(), 0x100 - 0xa1);
        assert_eq!([0x27, 0xae, 0xd0, 0xe8, 0xfb].map(|c| code(Base::Standard, c)), ["’", "fi", "—", "Ł", "ß"]);
        assert_eq!([0x80, 0x27, 0xe9].map(|c| code(Base::WinAnsi, c)), ["€", "'", "é"]);
        assert_eq!(code(Base::MacRoman, 0x8e), "é");
        assert_eq!([b'a', b'W', 0xb7].map(|c| code(Base::Symbol, c)), ["α", "Ω", "•"]);
        assert_eq!(text_string(b"\xfe\xff\0A\x20\xac"), "A€");
        assert_eq!(text_string(b"\x8dq\x8e \xe9"), "“q” é");
    }
}
