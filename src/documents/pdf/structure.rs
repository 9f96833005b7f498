//! What the pages of a document have in common: which paragraphs are headings, and which lines are the heads and feet of
//! pages.
//!
//! A PDF says how text looks, seldom what it is. Headings are short paragraphs in letters larger than those that most of
//! the text is in (or bold ones with a number); sizes, from the largest, are the levels. What stands at the top or bottom
//! of many pages, but for its numbers, is no text of theirs.

use super::paragraphs::{append, continues, Paragraph, BULLETS};
use crate::blocks::Blocks;
use crate::error::Result;
use crate::limits::Guard;
use std::collections::HashMap;

/// A heading has letters this many times as large as those of the text.
const HEADING_SIZE: f64 = 1.12;

const MAX_HEADING_LINES: usize = 4;
const MAX_HEADING_CHARS: usize = 200;

/// Levels of headings that sizes can make.
const MAX_LEVELS: usize = 4;

/// Paragraphs from the edge that a head or foot of a page can be.
const EDGE_PARAGRAPHS: usize = 2;

/// Fewer pages have no heads in common.
const MIN_PAGES: usize = 4;

/// A line in the same place of so many pages is a head or foot; chapters have heads of their own.
const ALIKE_PAGES: usize = 3;

/// A paragraph, and where a column ended before it.
pub struct Placed {
    pub paragraph: Paragraph,
    pub begins_region: bool,
}

/// Sizes are told apart by halves of a point.
fn rounded(size: f64) -> i64 {
    (size * 2.0).round() as i64
}

/// The size that most text is in.
fn body_size(pages: &[Vec<Placed>]) -> f64 {
    let mut chars: HashMap<i64, usize> = HashMap::new();
    for placed in pages.iter().flatten() {
        *chars.entry(rounded(placed.paragraph.size)).or_default() += placed.paragraph.text.len();
    }
    chars.into_iter().max_by_key(|(size, chars)| (*chars, -size)).map_or(0.0, |(size, _)| size as f64 / 2.0)
}

/// Removes heads and feet of pages.
pub fn remove_edges(pages: &mut [Vec<Placed>], guard: &Guard) -> Result<()> {
    if pages.len() < MIN_PAGES {
        return Ok(());
    }
    // Chapters begin at the top of pages, too, in larger letters.
    let largest = HEADING_SIZE * body_size(pages);
    let mut counts: HashMap<(String, i64), usize> = HashMap::new();
    for page in pages.iter() {
        guard.step()?;
        for index in edges(page, largest) {
            *counts.entry(alike(&page[index].paragraph)).or_default() += 1;
        }
    }
    for page in pages.iter_mut() {
        guard.step()?;
        let mut gone: Vec<usize> = edges(page, largest)
            .into_iter()
            .filter(|&index| counts.get(&alike(&page[index].paragraph)).is_some_and(|&count| count >= ALIKE_PAGES))
            .collect();
        gone.sort_unstable();
        for index in gone.into_iter().rev() {
            page.remove(index);
        }
    }
    Ok(())
}

/// The highest and lowest paragraphs of a page that are one line.
fn edges(page: &[Placed], largest: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..page.len()).collect();
    order.sort_by(|&a, &b| page[b].paragraph.y.total_cmp(&page[a].paragraph.y));
    let short = |index: &&usize| {
        let paragraph = &page[**index].paragraph;
        paragraph.lines == 1 && paragraph.text.len() < 160 && paragraph.size <= largest
    };
    let top = order.iter().take(EDGE_PARAGRAPHS).take_while(short);
    let bottom = order.iter().rev().take(EDGE_PARAGRAPHS).take_while(short);
    let mut edges: Vec<usize> = top.chain(bottom).copied().collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// What heads and feet of pages have in common: the text but for its numbers, and the place on the page.
fn alike(paragraph: &Paragraph) -> (String, i64) {
    (without_numbers(&paragraph.text), (paragraph.y / 4.0).round() as i64)
}

/// The text with each number as `#`, so that page 7 and page 8 are alike; Roman numbers too, where they stand alone.
fn without_numbers(text: &str) -> String {
    if !text.is_empty() && text.chars().all(|character| "ivxlc".contains(character)) {
        return "#".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_numeric() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(character),
        }
    }
    out
}

/// Levels of headings by size.
pub struct Levels {
    body: f64,
    sizes: Vec<i64>,
}

impl Levels {
    pub fn of(pages: &[Vec<Placed>]) -> Self {
        let body = body_size(pages);
        let is_larger = |paragraph: &&Paragraph| is_short(paragraph) && paragraph.size > HEADING_SIZE * body;
        let mut sizes: Vec<i64> =
            pages.iter().flatten().map(|placed| &placed.paragraph).filter(is_larger).map(|p| rounded(p.size)).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        // Sizes that differ by little are one: a title set by hand, a rounding.
        sizes.dedup_by(|next, kept| *next as f64 > 0.94 * *kept as f64);
        Self { body, sizes }
    }

    /// The level of a heading, `None` for other paragraphs.
    fn level(&self, paragraph: &Paragraph) -> Option<usize> {
        if !is_short(paragraph) {
            return None;
        }
        if paragraph.size > HEADING_SIZE * self.body {
            let size = rounded(paragraph.size) as f64;
            let level = self.sizes.iter().position(|&known| size > 0.94 * known as f64).unwrap_or(self.sizes.len());
            return Some(level.min(MAX_LEVELS - 1) + 1);
        }
        let begins_with_number = paragraph.text.split_whitespace().next().is_some_and(|word| {
            word.starts_with(|character: char| character.is_ascii_digit())
                && word.chars().all(|character| character.is_ascii_digit() || character == '.')
        });
        (paragraph.is_bold && paragraph.lines == 1 && begins_with_number && paragraph.size >= 0.95 * self.body)
            .then(|| self.sizes.len().min(MAX_LEVELS) + 1)
    }
}

fn is_short(paragraph: &Paragraph) -> bool {
    paragraph.lines <= MAX_HEADING_LINES
        && !paragraph.is_code
        && paragraph.text.chars().count() <= MAX_HEADING_CHARS
        // Entries of a table of contents repeat the headings, with dots up to the number of the page.
        && !["....", ". . . ."].iter().any(|dots| paragraph.text.contains(dots))
        && paragraph.text.chars().filter(|character| character.is_alphabetic()).count() >= 2
}

/// The text of a page.
pub fn write(page: Vec<Placed>, levels: &Levels, guard: &Guard) -> Result<String> {
    let mut blocks = Blocks::new(guard);
    let mut open: Option<String> = None;
    for Placed { paragraph, begins_region } in page {
        let level = levels.level(&paragraph);
        if let (Some(text), true, None) = (&mut open, begins_region, level) {
            // A paragraph that goes on in the next column.
            if !paragraph.is_code && (continues(text, &paragraph.text) || text.ends_with('\u{ad}')) {
                append(text, &paragraph.text);
                continue;
            }
        }
        if let Some(text) = open.take() {
            write_text(&text, &mut blocks)?;
        }
        match level {
            Some(level) => blocks.heading(level, &paragraph.text)?,
            None if paragraph.is_code && paragraph.lines > 1 => blocks.code(&paragraph.text)?,
            None => open = Some(paragraph.text),
        }
    }
    if let Some(text) = open {
        write_text(&text, &mut blocks)?;
    }
    Ok(blocks.finish())
}

/// A paragraph, or an item of a list if it begins with a bullet.
fn write_text(text: &str, blocks: &mut Blocks) -> Result<()> {
    match text.strip_prefix(BULLETS).filter(|rest| rest.starts_with([' ', '\n'])) {
        Some(item) => blocks.item(0, "-", item),
        None => blocks.paragraph(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn placed(text: &str, size: f64, y: f64) -> Placed {
        let paragraph = Paragraph { text: text.into(), lines: 1, size, y, is_bold: false, is_code: false };
        Placed { paragraph, begins_region: false }
    }

    #[test]
    fn heads_and_feet_go_and_larger_letters_are_headings() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let words = ["Text of the page", "Words", "Something else", "Another text", "The last page"];
        let mut pages: Vec<Vec<Placed>> = (1..=5usize)
            .map(|number| {
                vec![
                    placed("A Manual", 8.0, 800.0),
                    placed(&format!("Title {number} of the page"), 16.0, 770.0),
                    placed(&format!("{} that is longer than all the rest of it.", words[number - 1]), 10.0, 600.0),
                    placed(&format!("{number}"), 10.0, 20.0),
                ]
            })
            .collect();
        remove_edges(&mut pages, &guard).unwrap();
        let levels = Levels::of(&pages);
        let text = write(pages.swap_remove(0), &levels, &guard).unwrap();
        assert_eq!(text, "# Title 1 of the page\n\nText of the page that is longer than all the rest of it.\n");
        let pages =
            vec![vec![placed("Part", 20.0, 9.0), placed("Chapter", 14.0, 8.0), placed(&"text ".repeat(9), 10.0, 7.0)]];
        let levels = Levels::of(&pages);
        let text: Vec<String> = pages.into_iter().map(|page| write(page, &levels, &guard).unwrap()).collect();
        assert!(text[0].starts_with("# Part\n\n## Chapter\n\ntext text"));
    }

    #[test]
    fn bullets_are_items() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let page = vec![placed("• one", 10.0, 30.0), placed("▪ two", 10.0, 20.0), placed("•", 10.0, 10.0)];
        let levels = Levels { body: 10.0, sizes: Vec::new() };
        assert_eq!(write(page, &levels, &guard).unwrap(), "- one\n- two\n\n•\n");
    }

    #[test]
    fn a_paragraph_goes_on_in_the_next_column() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let mut second = placed("ued here. And more.", 10.0, 90.0);
        second.begins_region = true;
        let page = vec![placed("It is contin-", 10.0, 10.0), second];
        let levels = Levels { body: 10.0, sizes: Vec::new() };
        assert_eq!(write(page, &levels, &guard).unwrap(), "It is continued here. And more.\n");
    }
}
