//! Lists: what goes before an item.

use crate::error::Result;
use crate::limits::Guard;
use crate::xml::{Token, Xml};
use std::collections::HashMap;

/// Levels that a list can have.
const LEVELS: usize = 9;

#[derive(Clone)]
struct Level {
    is_bullet: bool,
    /// No mark at all: an indented paragraph.
    is_plain: bool,
    start: u32,
}

impl Default for Level {
    fn default() -> Self {
        Self { is_bullet: true, is_plain: false, start: 1 }
    }
}

/// The lists of a document, and how far each has been counted.
#[derive(Default)]
pub struct Lists {
    /// By `abstractNumId`.
    kinds: HashMap<String, Vec<Level>>,
    /// From `numId` to `abstractNumId`.
    lists: HashMap<String, String>,
    counted: HashMap<String, [u32; LEVELS]>,
}

impl Lists {
    pub fn read(text: &str, guard: &Guard) -> Result<Self> {
        let mut lists = Self::default();
        let mut xml = Xml::new(text, guard);
        // The kind or list that is open, and the level in it.
        let (mut kind, mut list, mut level) = (None, None, 0);
        while let Some(token) = xml.next()? {
            let Token::Start(element) = token else { continue };
            let value = || element.attribute("val").unwrap_or_default();
            match element.name() {
                "abstractNum" => kind = element.attribute("abstractNumId"),
                "num" => {
                    kind = None;
                    list = element.attribute("numId");
                }
                "abstractNumId" => {
                    if let Some(list) = list.take() {
                        lists.lists.insert(list, value());
                    }
                }
                "lvl" => {
                    let number = element.attribute("ilvl").and_then(|level| level.parse::<usize>().ok());
                    level = number.unwrap_or(0).min(LEVELS - 1);
                }
                name @ ("numFmt" | "start") => {
                    let Some(kind) = &kind else { continue };
                    let levels = lists.kinds.entry(kind.clone()).or_insert_with(|| vec![Level::default(); LEVELS]);
                    if name == "start" {
                        levels[level].start = value().parse().unwrap_or(1).min(9999);
                    } else {
                        levels[level].is_bullet = value() == "bullet";
                        levels[level].is_plain = value() == "none";
                    }
                }
                _ => {}
            }
        }
        Ok(lists)
    }

    /// The mark of the next item of `list` at `level`: `-` or a number; `None` where the list shows none.
    pub fn mark(&mut self, list: &str, level: usize) -> Option<String> {
        let level = level.min(LEVELS - 1);
        let kind = self.lists.get(list).cloned().unwrap_or_default();
        let look = self.kinds.get(&kind).map(|levels| levels[level].clone()).unwrap_or_default();
        if look.is_plain {
            return None;
        }
        if look.is_bullet {
            return Some("-".to_owned());
        }
        // Lists of one kind count together.
        let counted = self.counted.entry(kind).or_default();
        counted[level] = counted[level].saturating_add(1);
        counted[level + 1..].fill(0);
        Some(format!("{}.", (counted[level] - 1).saturating_add(look.start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn items_are_counted_by_level() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let text = "<w:numbering><w:abstractNum w:abstractNumId='7'>\
            <w:lvl w:ilvl='0'><w:start w:val='3'/><w:numFmt w:val='decimal'/></w:lvl>\
            <w:lvl w:ilvl='1'><w:start w:val='1'/><w:numFmt w:val='lowerLetter'/></w:lvl>\
            <w:lvl w:ilvl='2'><w:numFmt w:val='none'/></w:lvl></w:abstractNum>\
            <w:num w:numId='1'><w:abstractNumId w:val='7'/></w:num></w:numbering>";
        let mut lists = Lists::read(text, &guard).unwrap();
        let marks: Vec<_> = [0, 1, 1, 0, 1, 2].map(|level| lists.mark("1", level)).into();
        let marks: Vec<_> = marks.iter().map(|mark| mark.as_deref()).collect();
        assert_eq!(marks, [Some("3."), Some("1."), Some("2."), Some("4."), Some("1."), None]);
        assert_eq!(lists.mark("unknown", 99).as_deref(), Some("-"));
    }
}
