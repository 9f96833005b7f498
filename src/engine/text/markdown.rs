//! The structure of a Markdown text: its boundaries, what should stay whole, and its sections with their headings.
//!
//! Read with pulldown-cmark (CommonMark with tables), whose parser keeps its own stack, so that deep nesting is safe.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::boundary::{Boundaries, Level};

/// Longer headings are reported cut; they are titles, and every chunk below carries them.
const MAX_HEADING_BYTES: usize = 512;

/// A heading and the text up to the next heading of any level. Only headings outside lists and quotes open one.
#[derive(Debug)]
pub(super) struct Section {
    pub start: usize,
    /// Where the text after the heading line starts.
    pub body: usize,
    /// 1 to 6; 0 for what comes before the first heading.
    pub level: u8,
    title: String,
    parent: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Document {
    pub boundaries: Boundaries,
    /// Code blocks and tables, sorted, apart.
    pub wholes: Vec<Range<usize>>,
    /// At least one; the first starts at 0.
    pub sections: Vec<Section>,
}

impl Document {
    pub fn parse(text: &str) -> Self {
        let mut boundaries = Boundaries::of_words(text);
        let mut wholes: Vec<Range<usize>> = Vec::new();
        let mut sections = vec![Section { start: 0, body: 0, level: 0, title: String::new(), parent: None }];
        // Containers (quotes, lists, items) that are open, and the heading that is.
        let mut depth = 0usize;
        let mut title: Option<String> = None;

        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(tag) => {
                    let level = if depth == 0 { Level::Block } else { Level::Line };
                    match tag {
                        Tag::Heading { level, .. } if depth == 0 => {
                            boundaries.add(Level::Block, range.start);
                            open_section(&mut sections, range, level as u8);
                            title = Some(String::new());
                        }
                        Tag::Paragraph | Tag::Heading { .. } => {
                            boundaries.add(level, range.start);
                            boundaries.add_sentences(text, range);
                        }
                        Tag::BlockQuote(_) | Tag::List(_) => {
                            boundaries.add(level, range.start);
                            depth += 1;
                        }
                        Tag::Item => {
                            boundaries.add(Level::Line, range.start);
                            depth += 1;
                        }
                        Tag::CodeBlock(_) | Tag::HtmlBlock => {
                            boundaries.add(level, range.start);
                            add_lines(&mut boundaries, text, range.clone());
                            if matches!(tag, Tag::CodeBlock(_)) {
                                wholes.push(range);
                            }
                        }
                        Tag::Table(_) => {
                            boundaries.add(level, range.start);
                            wholes.push(range);
                        }
                        Tag::TableRow => boundaries.add(Level::Line, range.start),
                        _ => {}
                    }
                }
                Event::End(tag) => match tag {
                    TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item => depth = depth.saturating_sub(1),
                    TagEnd::Heading(_) => {
                        if let (Some(title), Some(section)) = (title.take(), sections.last_mut()) {
                            section.title = title.split_whitespace().collect::<Vec<_>>().join(" ");
                        }
                    }
                    _ => {}
                },
                Event::Text(words) | Event::Code(words) => {
                    // Text of a tight list item has no paragraph of its own.
                    if let Some(title) = &mut title {
                        push_bounded(title, &words);
                    } else if depth > 0 {
                        boundaries.add_sentences(text, range);
                    }
                }
                Event::SoftBreak => {
                    if let Some(title) = &mut title {
                        push_bounded(title, " ");
                    }
                }
                Event::HardBreak => boundaries.add(Level::Line, range.end),
                Event::Rule => boundaries.add(Level::Block, range.start),
                _ => {}
            }
        }
        boundaries.sort();
        Document { boundaries, wholes, sections }
    }

    /// The headings in force in a section, outermost first, its own included.
    pub fn headings(&self, section: usize) -> Vec<String> {
        let mut path = Vec::new();
        let mut next = Some(section);
        while let Some(index) = next {
            let section = &self.sections[index];
            if !section.title.is_empty() {
                path.push(section.title.clone());
            }
            next = section.parent;
        }
        path.reverse();
        path
    }

    /// The section of the first text of a chunk that is not a heading. `from` is a section at or before the chunk.
    pub fn section_at(&self, text: &str, from: usize, chunk: &Range<usize>) -> usize {
        let following = &self.sections[from + 1..];
        let mut section = from + following.iter().take_while(|next| next.start <= chunk.start).count();
        while let Some(next) = self.sections.get(section + 1) {
            let body = self.sections[section].body.max(chunk.start);
            let bare = body >= next.start || text[body..next.start].trim().is_empty();
            if !bare || next.start >= chunk.end || next.level <= self.sections[section].level {
                break;
            }
            section += 1;
        }
        section
    }

    /// Where a section's own text ends.
    pub fn section_end(&self, section: usize, text: &str) -> usize {
        self.sections.get(section + 1).map_or(text.len(), |next| next.start)
    }
}

/// The parent is the nearest section before with a smaller level; the chain of parents is at most six long.
fn open_section(sections: &mut Vec<Section>, range: Range<usize>, level: u8) {
    let mut parent = Some(sections.len() - 1);
    while let Some(index) = parent {
        if sections[index].level < level {
            break;
        }
        parent = sections[index].parent;
    }
    sections.push(Section { start: range.start, body: range.end, level, title: String::new(), parent });
}

fn push_bounded(title: &mut String, words: &str) {
    let room = MAX_HEADING_BYTES.saturating_sub(title.len());
    title.push_str(&words[..words.floor_char_boundary(room)]);
}

fn add_lines(boundaries: &mut Boundaries, text: &str, range: Range<usize>) {
    let mut at = range.start;
    for line in text[range.clone()].split_inclusive('\n') {
        if at > range.start {
            boundaries.add(Level::Line, at);
        }
        at += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_scale::scaled;

    #[test]
    fn headings_form_paths() {
        let text =
            "intro\n\n# Indexes\n\n## Partial `Indexes`\n\ntext\n\n### Deep\n\n## Other\n\nSetext\n===\n\n> # quoted\n";
        let document = Document::parse(text);
        let paths: Vec<String> =
            (0..document.sections.len()).map(|index| document.headings(index).join(" / ")).collect();
        assert_eq!(
            paths,
            [
                "",
                "Indexes",
                "Indexes / Partial Indexes",
                "Indexes / Partial Indexes / Deep",
                "Indexes / Other",
                "Setext"
            ]
        );
        assert!(text[document.sections[2].start..].starts_with("## Partial"));
        assert_eq!(text[document.sections[2].body..].trim_start().split('\n').next(), Some("text"));
    }

    #[test]
    fn code_and_tables_are_wholes() {
        let text = "a\n\n```sql\nselect 1;\n```\n\n|x|y|\n|-|-|\n|1|2|\n\n- item\n\n      code\n";
        let document = Document::parse(text);
        let wholes: Vec<&str> = document.wholes.iter().map(|range| text[range.clone()].trim()).collect();
        assert_eq!(wholes, ["```sql\nselect 1;\n```", "|x|y|\n|-|-|\n|1|2|", "code"]);
    }

    #[test]
    fn a_heading_of_any_length_is_reported_bounded() {
        let text = format!("# {}\n\ntext", "é".repeat(scaled(10_000, 500)));
        let document = Document::parse(&text);
        assert!(document.headings(1)[0].len() <= MAX_HEADING_BYTES);
    }
}
