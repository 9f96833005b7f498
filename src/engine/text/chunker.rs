//! Greedy chunking: from where the last chunk ended, as far as the budget goes, back to the best boundary.
//!
//! The rule for the best boundary. Of the boundaries that fill more than half of the budget, those of the strongest
//! level ([`Level`]) are taken, and the last of them. If none fills half, the last boundary of any level; if there is
//! none at all, the word itself is cut. The sentence strategy fills as far as whole sentences go. A code block or
//! table that fits the budget is not cut: the chunk ends before it. If what is left is only a little more than one
//! budget, the chunk ends earlier, at a boundary no weaker, so that the last one is not a scrap.
//!
//! Markdown is cut into sections first. A chunk does not reach from one section into the next, but a small section
//! (under a quarter of the budget) is merged with its neighbour where both fit one chunk and the later is not of a
//! higher level; and a heading without text of its own stays with the section below it.
//!
//! Every step is a search in sorted offsets, so n chunks of a text of m bytes take O(m + n log m).
//!
//! Guarantees, whatever the text: chunks come in order, each starts after the start and ends after the end of the one
//! before, and no non-space character is in none. A chunk neither starts nor ends with whitespace and has at most
//! `size` units, unless a single character has more.

use std::ops::Range;

use super::boundary::{cut_inside_word, Boundaries, Level};
use super::markdown::Document;
use super::measure::{CharMeasure, Measure};

/// Where to prefer to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Plain text: paragraphs, then lines, sentences, words.
    Recursive,
    /// Plain text: as many whole sentences as fit.
    Sentence,
    /// Markdown: sections, then blocks, lines, sentences, words.
    Markdown,
}

/// How to cut. `size` and `overlap` are in units of the measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkOptions {
    pub strategy: Strategy,
    pub size: usize,
    /// The most that a chunk repeats of the one before; it repeats whole sentences, or else whole words.
    pub overlap: usize,
}

impl ChunkOptions {
    pub fn validate(&self) -> Result<(), ChunkError> {
        if self.size < 1 {
            return Err(ChunkError::Size(self.size));
        }
        if self.overlap >= self.size {
            return Err(ChunkError::Overlap { overlap: self.overlap, size: self.size });
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("chunk size must be at least 1, not {0}")]
    Size(usize),
    #[error("chunk overlap must be less than the chunk size of {size}, not {overlap}")]
    Overlap { overlap: usize, size: usize },
    #[error("text of {bytes} bytes is too long to be cut into chunks")]
    TooLong { bytes: usize },
}

/// A part of the text: `text[range]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// In bytes, on character boundaries.
    pub range: Range<usize>,
    /// The same in characters, from 0.
    pub char_range: Range<usize>,
    /// In units of the measure.
    pub size: usize,
    /// Markdown: the headings in force at the first text of the chunk that is not a heading, outermost first.
    pub headings: Vec<String>,
}

/// Cuts a text into chunks. A text of whitespace gives none.
pub fn chunk(text: &str, measure: &dyn Measure, options: &ChunkOptions) -> Result<Vec<Chunk>, ChunkError> {
    options.validate()?;
    if u32::try_from(text.len()).is_err() {
        return Err(ChunkError::TooLong { bytes: text.len() });
    }
    let chars = CharMeasure::new(text);
    let (cutter, document) = match options.strategy {
        Strategy::Markdown => {
            let mut document = Document::parse(text);
            let boundaries = std::mem::take(&mut document.boundaries);
            let wholes = std::mem::take(&mut document.wholes);
            (Cutter { text, measure, options, boundaries, wholes }, Some(document))
        }
        _ => {
            let boundaries = Boundaries::of_plain_text(text);
            (Cutter { text, measure, options, boundaries, wholes: Vec::new() }, None)
        }
    };
    let groups = match &document {
        Some(document) => cutter.groups(document),
        None => vec![(0, 0..text.len())],
    };
    let mut chunks = Vec::new();
    for (first_section, group) in groups {
        let mut section = first_section;
        cutter.cut(group, |range| {
            let headings = match &document {
                Some(document) => {
                    section = document.section_at(text, section, &range);
                    document.headings(section)
                }
                None => Vec::new(),
            };
            chunks.push(Chunk {
                char_range: chars.chars_before(range.start)..chars.chars_before(range.end),
                size: measure.size(range.clone()),
                range,
                headings,
            });
        });
    }
    Ok(chunks)
}

struct Cutter<'a> {
    text: &'a str,
    measure: &'a dyn Measure,
    options: &'a ChunkOptions,
    boundaries: Boundaries,
    wholes: Vec<Range<usize>>,
}

impl Cutter<'_> {
    /// Runs of sections that are cut together, each with its first section.
    fn groups(&self, document: &Document) -> Vec<(usize, Range<usize>)> {
        let budget = self.options.size;
        let small = budget.div_ceil(4);
        let mut groups: Vec<(usize, Range<usize>)> = Vec::new();
        // Of the last section of the current group: its size, and whether it is a heading and nothing else.
        let mut previous: Option<(usize, bool)> = None;
        for (index, section) in document.sections.iter().enumerate() {
            let end = document.section_end(index, self.text);
            let text = &self.text[section.start..end];
            if text.trim().is_empty() {
                continue;
            }
            let size = self.measure.size(section.start..end);
            let heading_only = section.level > 0 && self.text[section.body..end].trim().is_empty();
            if let (Some((first, group)), Some((_, previous_heading_only))) = (groups.last_mut(), previous) {
                let below = section.level >= document.sections[*first].level;
                let group_size = self.measure.size(group.clone());
                let fits = self.measure.size(group.start..end) <= budget;
                let under_bare_heading = previous_heading_only && section.level > document.sections[index - 1].level;
                if under_bare_heading || (below && fits && (size < small || group_size < small)) {
                    group.end = end;
                    previous = Some((size, heading_only));
                    continue;
                }
            }
            groups.push((index, section.start..end));
            previous = Some((size, heading_only));
        }
        groups
    }

    /// Cuts one range and hands each chunk, trimmed, to `emit`.
    fn cut(&self, group: Range<usize>, mut emit: impl FnMut(Range<usize>)) {
        let end = group.start + self.text[group.clone()].trim_end().len();
        let mut start = self.skip_space(group.start, end);
        // The end of the chunk before: the next one has to reach beyond it.
        let mut reached = start;
        while start < end {
            let cut = self.next_cut(start, reached, end);
            emit(start..start + self.text[start..cut].trim_end().len());
            if cut >= end {
                break;
            }
            let next = self.skip_space(cut, end);
            start = match self.overlap_start(start, cut) {
                // Without room for a further character beyond the repeated part there is no overlap.
                Some(overlap) if self.limit(overlap, end) > next => overlap,
                _ => next,
            };
            reached = next;
        }
    }

    fn skip_space(&self, from: usize, end: usize) -> usize {
        end - self.text[from..end].trim_start().len()
    }

    /// How far the budget goes from `start`, on a character boundary, and at least one character.
    fn limit(&self, start: usize, end: usize) -> usize {
        self.reach(start, end, self.options.size)
    }

    fn reach(&self, start: usize, end: usize, budget: usize) -> usize {
        let furthest = self.text.floor_char_boundary(self.measure.furthest_end(start, budget).min(end));
        if furthest > start {
            furthest
        } else {
            self.text.ceil_char_boundary(start + 1).min(end)
        }
    }

    /// Where the chunk from `start` ends: after `reached`, at most at `end`.
    fn next_cut(&self, start: usize, reached: usize, end: usize) -> usize {
        let budget = self.options.size;
        let left = self.measure.size(start..end);
        if left <= budget {
            return end;
        }
        let (mut cut, level) = self.best_boundary(start, reached, self.limit(start, end));
        let scrap = budget / 4;
        if left < budget + scrap {
            let limit = self.reach(start, end, left - scrap);
            if limit > reached {
                let (earlier, earlier_level) = self.best_boundary(start, reached, limit);
                if earlier_level >= level {
                    cut = earlier;
                }
            }
        }
        self.before_whole(start.max(reached), cut)
    }

    /// The cut after `reached` and not after `limit`, with its level; none is a cut inside a word.
    fn best_boundary(&self, start: usize, reached: usize, limit: usize) -> (usize, Option<Level>) {
        let last = |level, low| self.boundaries.last_within(level, low, limit);
        if self.options.strategy == Strategy::Sentence {
            let sentences = [Level::Block, Level::Line, Level::Sentence];
            if let Some(cut) = sentences.into_iter().filter_map(|level| last(level, reached)).max() {
                return (cut, Some(Level::Sentence));
            }
        }
        let with_level = |low| move |level| last(level, low).map(|cut| (cut, Some(level)));
        let half = self.measure.furthest_end(start, self.options.size / 2).max(reached);
        Level::STRONGEST_FIRST
            .into_iter()
            .find_map(with_level(half))
            .or_else(|| Level::STRONGEST_FIRST.into_iter().filter_map(with_level(reached)).max())
            .unwrap_or_else(|| (cut_inside_word(self.text, reached, limit), None))
    }

    /// Moves a cut from inside a code block or table to its start, if that is after `low` and all of it fits a chunk.
    fn before_whole(&self, low: usize, cut: usize) -> usize {
        let after = self.wholes.partition_point(|whole| whole.start < cut);
        match after.checked_sub(1).map(|index| &self.wholes[index]) {
            Some(whole) if cut < whole.end && whole.start > low => {
                let fits = self.measure.size(whole.clone()) <= self.options.size;
                if fits {
                    whole.start
                } else {
                    cut
                }
            }
            _ => cut,
        }
    }

    /// Where the next chunk starts to repeat the end of `start..cut`: the first sentence, or else the first word, from
    /// which the rest is within the overlap.
    fn overlap_start(&self, start: usize, cut: usize) -> Option<usize> {
        if self.options.overlap == 0 {
            return None;
        }
        let within = |at: usize| self.measure.size(at..cut) <= self.options.overlap;
        let first = |level| self.boundaries.first_accepted(level, start, cut, within);
        let sentence = [Level::Block, Level::Line, Level::Sentence].into_iter().filter_map(first).min();
        // Where nothing but white space would be repeated there is nothing to repeat.
        sentence.or_else(|| first(Level::Word)).map(|at| self.skip_space(at, cut)).filter(|&at| at < cut)
    }
}

#[cfg(test)]
#[path = "chunker_tests.rs"]
mod tests;
