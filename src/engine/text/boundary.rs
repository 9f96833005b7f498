//! Where a text can be cut, found in one pass and kept as sorted offsets per level. A boundary is the offset at which
//! the part after the cut starts, never 0.
//!
//! Sentences end at a terminator followed by a space, or at a CJK terminator; a line break is a space, since most line
//! breaks in prose are wrapping. This is close to Unicode Standard Annex #29, which ends a sentence at every line break
//! and whose rule SB8 looks ahead without bound: here every text takes one pass.

use std::ops::Range;

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

/// Kinds of boundaries, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// After whitespace.
    Word,
    Sentence,
    /// A line, list item, table row or line of code.
    Line,
    /// A paragraph, list, table or code block.
    Block,
}

impl Level {
    pub const STRONGEST_FIRST: [Level; 4] = [Level::Block, Level::Line, Level::Sentence, Level::Word];
}

/// The boundaries of one text, each level sorted. Offsets are `u32`: the chunker refuses longer texts.
#[derive(Debug, Default)]
pub struct Boundaries {
    levels: [Vec<u32>; 4],
}

impl Boundaries {
    /// Word boundaries only; the Markdown reader adds the others from the document's structure.
    pub(super) fn of_words(text: &str) -> Self {
        let mut boundaries = Boundaries::default();
        let mut after_space = false;
        for (at, c) in text.char_indices() {
            let space = c.is_whitespace();
            if after_space && !space {
                boundaries.add(Level::Word, at);
            }
            after_space = space;
        }
        boundaries
    }

    /// Plain text: a blank line starts a block. A line break starts a line unless it looks like wrapping, that is, the
    /// line before does not end a sentence and the line after starts in lower case.
    pub(super) fn of_plain_text(text: &str) -> Self {
        let mut boundaries = Boundaries::of_words(text);
        let (mut blank, mut previous, mut at) = (false, None::<&str>, 0);
        for line in text.split_inclusive('\n') {
            let content = line.trim();
            if content.is_empty() {
                blank = true;
            } else {
                let start = at + (line.len() - line.trim_start().len());
                if let Some(previous) = previous {
                    let wrapped = !ends_sentence(previous) && content.starts_with(char::is_lowercase);
                    if blank {
                        boundaries.add(Level::Block, start);
                    } else if !wrapped {
                        boundaries.add(Level::Line, start);
                    }
                }
                (blank, previous) = (false, Some(content));
            }
            at += line.len();
        }
        boundaries.add_sentences(text, 0..text.len());
        boundaries
    }

    /// Adds the sentence boundaries inside a range of prose; both ends are character boundaries.
    pub(super) fn add_sentences(&mut self, text: &str, range: Range<usize>) {
        for at in sentence_starts(&text[range.clone()]) {
            self.add(Level::Sentence, range.start + at);
        }
    }

    pub(super) fn add(&mut self, level: Level, at: usize) {
        // The chunker has checked that the text's length fits into u32.
        self.levels[level as usize].push(at as u32);
    }

    /// Brings every level into order; needed after boundaries were added out of order.
    pub(super) fn sort(&mut self) {
        for level in &mut self.levels {
            level.sort_unstable();
            level.dedup();
        }
    }

    /// The last boundary of a level that is after `low` and not after `high`.
    pub(super) fn last_within(&self, level: Level, low: usize, high: usize) -> Option<usize> {
        let offsets = &self.levels[level as usize];
        let count = offsets.partition_point(|&offset| offset as usize <= high);
        let last = *offsets[..count].last()? as usize;
        (last > low).then_some(last)
    }

    /// The first boundary of a level between `low` and `high` (exclusive both) that `accept`s; `accept` is false up to
    /// some offset and true from there.
    pub(super) fn first_accepted(
        &self,
        level: Level,
        low: usize,
        high: usize,
        accept: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let offsets = &self.levels[level as usize];
        let from = offsets.partition_point(|&offset| offset as usize <= low);
        let to = offsets.partition_point(|&offset| (offset as usize) < high);
        let inside = offsets.get(from..to)?;
        inside.get(inside.partition_point(|&offset| !accept(offset as usize))).map(|&offset| offset as usize)
    }
}

const CLOSERS: [char; 16] = ['"', '\'', ')', ']', '}', '”', '’', '»', '›', '」', '』', '）', '】', '*', '_', '`'];

/// What ends a sentence when a space follows.
const TERMINATORS: [char; 10] = ['.', '!', '?', '…', '।', '॥', '؟', '۔', '።', '။'];

/// What ends a sentence by itself: these scripts put no space after it.
const CJK_TERMINATORS: [char; 5] = ['。', '！', '？', '．', '｡'];

/// The starts of all sentences but the first.
///
/// A full stop ends none if a lower-case letter follows, or if it follows a single letter or digit: an initial, the
/// "e.g." kind of abbreviation, the number of a list item.
pub(crate) fn sentence_starts(text: &str) -> impl Iterator<Item = usize> + '_ {
    #[derive(Clone, Copy)]
    struct End {
        full_stop: bool,
        spaced: bool,
    }
    let mut end: Option<End> = None;
    // The characters before, nearest first; a missing one counts as a space.
    let mut before = [' '; 2];
    text.char_indices().filter_map(move |(at, c)| {
        let [previous, second] = before;
        before = [c, previous];
        if TERMINATORS.contains(&c) || CJK_TERMINATORS.contains(&c) {
            let single = previous.is_alphanumeric() && !second.is_alphanumeric();
            let ends = c != '.' || !single;
            end = ends.then_some(End { full_stop: c == '.', spaced: CJK_TERMINATORS.contains(&c) });
            return None;
        }
        let ended = end.as_mut()?;
        if c.is_whitespace() {
            ended.spaced = true;
            return None;
        }
        if CLOSERS.contains(&c) && !previous.is_whitespace() {
            return None;
        }
        let starts = ended.spaced && !(ended.full_stop && c.is_lowercase());
        end = None;
        starts.then_some(at)
    })
}

/// Whether prose ends a sentence, or announces what follows, here: its last character, closing quotes, brackets and
/// emphasis aside.
pub(crate) fn ends_sentence(text: &str) -> bool {
    // Bounded, so that a megabyte of closing brackets is not walked again and again.
    let last = text.trim_end().chars().rev().take(8).find(|c| !CLOSERS.contains(c));
    last.is_some_and(|c| TERMINATORS.contains(&c) || CJK_TERMINATORS.contains(&c) || matches!(c, ':' | ';'))
}

/// Bytes of context before a cut inside a word; a cluster of characters longer than this may be cut.
const CONTEXT_BYTES: usize = 128;

/// The best cut in a stretch without whitespace: the last start of a word in the sense of Annex #29 (Chinese, or
/// `a,b,c`), else the last between two grapheme clusters, else `limit` itself. All in the last bytes before `limit`,
/// after `low`; `low < limit`, and both are character boundaries.
pub(super) fn cut_inside_word(text: &str, low: usize, limit: usize) -> usize {
    let from = text.floor_char_boundary(low.max(limit.saturating_sub(CONTEXT_BYTES)));
    // What follows the limit decides whether the limit itself is a boundary.
    let to = text.ceil_char_boundary((limit + 32).min(text.len()));
    let window = &text[from..to];
    let word = window
        .split_word_bound_indices()
        .take_while(|(at, _)| from + at <= limit)
        .filter(|(at, part)| from + at > low && *at > 0 && part.starts_with(char::is_alphanumeric))
        .last();
    if let Some((at, _)) = word {
        return from + at;
    }
    let mut cursor = GraphemeCursor::new(limit - from, window.len(), true);
    if let Ok(true) = cursor.is_boundary(window, 0) {
        return limit;
    }
    match cursor.prev_boundary(window, 0) {
        Ok(Some(at)) if at > 0 && from + at > low => from + at,
        _ => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, level: Level) -> Vec<&str> {
        let boundaries = Boundaries::of_plain_text(text);
        let offsets = boundaries.levels[level as usize].iter().map(|&at| at as usize);
        offsets.map(|at| text[at..].split_whitespace().next().unwrap()).collect()
    }

    #[test]
    fn blank_lines_start_blocks_and_deliberate_breaks_start_lines() {
        let text = "Title\nSome prose that\nis wrapped here.\nnext sentence\n\n  \n  Second block\r\n\r\nthird";
        assert_eq!(parts(text, Level::Block), ["Second", "third"]);
        assert_eq!(parts(text, Level::Line), ["Some", "next"]);
    }

    #[test]
    fn wrapping_does_not_end_a_sentence() {
        let text = "This sentence is\nwrapped. And this one\nis too! 1.5 is a number.\nLast";
        assert_eq!(parts(text, Level::Sentence), ["And", "1.5", "Last"]);
        assert_eq!(parts("你好。再见。", Level::Sentence), ["再见。"]);
        assert_eq!(
            parts("He said \"no.\" \"Why?\" (Nobody knew.) End", Level::Sentence),
            ["\"Why?\"", "(Nobody", "End"]
        );
    }

    #[test]
    fn abbreviations_initials_and_list_numbers_end_no_sentence() {
        assert!(parts("1. See e.g. Smith, J. A. Doe etc. and so on, v. 1.5 or a.b", Level::Sentence).is_empty());
    }

    #[test]
    fn a_cut_inside_a_word_respects_words_without_spaces_and_clusters() {
        let list = "alpha,beta,gamma";
        assert_eq!(&list[..cut_inside_word(list, 0, 13)], "alpha,beta,");
        let family = "👨‍👩‍👧👨‍👩‍👧";
        let limit = family.len() - 4;
        assert_eq!(cut_inside_word(family, 0, limit), family.len() / 2);
        // One cluster longer than the budget is cut anyway.
        assert_eq!(cut_inside_word(family, 0, 4), 4);
        let unbroken = "x".repeat(500);
        assert_eq!(cut_inside_word(&unbroken, 100, 300), 300);
    }
}
