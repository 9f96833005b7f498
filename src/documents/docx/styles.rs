//! Styles of paragraphs: outline levels, inherited along `basedOn`.
//!
//! A heading is a paragraph with an outline level, its own or of its style or of a style that this is based on. Names of
//! styles are only a second way: Word writes the built-in ones in English whatever the language of its user, other
//! programs may not, and then the outline level is there.

use crate::error::Result;
use crate::limits::Guard;
use crate::xml::{Token, Xml};
use std::collections::HashMap;

/// Longest chain of styles that is followed; a longer one is a circle or a joke.
const LONGEST_CHAIN: usize = 32;

/// Levels 0 to 8 are headings, 9 is body text.
const BODY_LEVEL: usize = 9;

#[derive(Default, Clone)]
struct Style {
    based_on: Option<String>,
    outline_level: Option<usize>,
    /// Number of a list, and the level in it.
    list: Option<(Option<String>, Option<usize>)>,
    is_contents: bool,
    is_title: bool,
}

#[derive(Default)]
pub struct Styles {
    styles: HashMap<String, Style>,
}

/// What its style makes of a paragraph.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Look {
    /// 1 is the outermost.
    pub heading: Option<usize>,
    /// The title of the whole document.
    pub is_title: bool,
    /// An entry of a table of contents.
    pub is_contents: bool,
    pub list: Option<(String, usize)>,
}

impl Styles {
    pub fn read(text: &str, guard: &Guard) -> Result<Self> {
        let mut styles = HashMap::new();
        let mut xml = Xml::new(text, guard);
        let mut current: Option<(String, Style, usize)> = None;
        while let Some(token) = xml.next()? {
            match token {
                Token::Start(element) => {
                    let value = || element.attribute("val");
                    match (element.name(), &mut current) {
                        ("style", None) if element.attribute("type").as_deref() != Some("character") => {
                            let id = element.attribute("styleId").unwrap_or_default();
                            current = Some((id, Style::default(), xml.depth()));
                        }
                        ("name", Some((_, style, _))) => style.named(&value().unwrap_or_default()),
                        ("basedOn", Some((_, style, _))) => style.based_on = value(),
                        ("outlineLvl", Some((_, style, _))) => {
                            style.outline_level = value().and_then(|level| level.parse().ok());
                        }
                        ("numId", Some((_, style, _))) => style.list.get_or_insert_default().0 = value(),
                        ("ilvl", Some((_, style, _))) => {
                            style.list.get_or_insert_default().1 = value().and_then(|level| level.parse().ok());
                        }
                        _ => {}
                    }
                }
                Token::End => {
                    if let Some((id, style, depth)) = current.take() {
                        if xml.depth() < depth {
                            styles.insert(id, style);
                        } else {
                            current = Some((id, style, depth));
                        }
                    }
                }
                Token::Text(_) => {}
            }
        }
        Ok(Self { styles })
    }

    pub fn look(&self, id: &str) -> Look {
        let mut look = Look::default();
        let mut outline_level = None;
        let (mut list_id, mut list_level) = (None, None);
        let mut next = Some(id);
        for generation in 0..LONGEST_CHAIN {
            let Some((id, style)) = next.and_then(|id| self.styles.get_key_value(id)) else { break };
            outline_level = outline_level.or(style.outline_level);
            if let Some((id, level)) = &style.list {
                list_id = list_id.or(id.as_deref());
                list_level = list_level.or(*level);
            }
            look.is_contents |= style.is_contents;
            // What is based on the title (a subtitle) is not another one.
            look.is_title |= style.is_title && generation == 0;
            next = style.based_on.as_deref().filter(|parent| parent != id);
        }
        look.heading = outline_level.filter(|&level| level < BODY_LEVEL).map(|level| level + 1);
        look.list = list_id.filter(|id| *id != "0").map(|id| (id.to_owned(), list_level.unwrap_or(0)));
        look
    }
}

impl Style {
    fn named(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        if let Some(level) = name.strip_prefix("heading ").and_then(|level| level.parse::<usize>().ok()) {
            self.outline_level = self.outline_level.or(level.checked_sub(1));
        }
        self.is_title |= name == "title";
        self.is_contents |= name.strip_prefix("toc ").is_some_and(|level| level.parse::<u8>().is_ok())
            || name.strip_prefix("contents ").is_some_and(|level| level.parse::<u8>().is_ok())
            || name == "toc heading"
            || name == "contents heading";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn outline_levels_are_inherited_and_names_do_not_matter() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let text = "<w:styles>\
            <w:style w:type='paragraph' w:styleId='berschrift1'><w:name w:val='Überschrift 1'/><w:pPr><w:outlineLvl w:val='0'/></w:pPr></w:style>\
            <w:style w:type='paragraph' w:styleId='Mine'><w:name w:val='mine'/><w:basedOn w:val='berschrift1'/></w:style>\
            <w:style w:type='paragraph' w:styleId='H2'><w:name w:val='heading 2'/><w:pPr><w:numPr><w:ilvl w:val='1'/><w:numId w:val='3'/></w:numPr></w:pPr></w:style>\
            <w:style w:type='paragraph' w:styleId='Body'><w:basedOn w:val='H2'/><w:pPr><w:outlineLvl w:val='9'/></w:pPr></w:style>\
            <w:style w:type='paragraph' w:styleId='TOC1'><w:name w:val='toc 1'/></w:style>\
            <w:style w:type='paragraph' w:styleId='A'><w:basedOn w:val='B'/></w:style>\
            <w:style w:type='paragraph' w:styleId='B'><w:basedOn w:val='A'/></w:style></w:styles>";
        let styles = Styles::read(text, &guard).unwrap();
        assert_eq!(styles.look("Mine").heading, Some(1));
        assert_eq!(styles.look("H2"), Look { heading: Some(2), list: Some(("3".into(), 1)), ..Look::default() });
        assert_eq!(styles.look("Body").heading, None);
        assert!(styles.look("TOC1").is_contents);
        assert_eq!(styles.look("A"), Look::default());
        assert_eq!(styles.look("unknown"), Look::default());
    }
}
