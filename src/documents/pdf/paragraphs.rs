//! From the fragments of a region to lines, and from lines to paragraphs.
//!
//! A line that reaches the right edge of its region goes on in the next one; words that were hyphenated at its end are put
//! together again. Lines of code keep their breaks and their indentation.

use super::fragments::Fragment;
use crate::blocks::is_invisible;
use crate::error::Result;
use crate::limits::Guard;

/// Marks at the beginning of items of lists.
pub const BULLETS: [char; 12] = ['•', '◦', '▪', '▫', '■', '□', '●', '○', '‣', '⁃', '➢', '❖'];

#[derive(Debug, Clone)]
pub struct Line {
    pub x0: f64,
    pub x1: f64,
    pub y: f64,
    pub size: f64,
    pub text: String,
    pub is_bold: bool,
    pub is_monospaced: bool,
}

/// A paragraph, or something else that stands by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Paragraph {
    pub text: String,
    pub lines: usize,
    pub size: f64,
    /// Of the first line.
    pub y: f64,
    pub is_bold: bool,
    pub is_code: bool,
}

/// The lines of a region, from top to bottom.
pub fn lines(mut fragments: Vec<Fragment>, guard: &Guard) -> Result<Vec<Line>> {
    fragments.sort_by(|a, b| b.y.total_cmp(&a.y));
    let mut groups: Vec<Vec<Fragment>> = Vec::new();
    for fragment in fragments {
        guard.step()?;
        // The line above is the only one that a fragment can belong to, once they are sorted.
        match groups.last_mut() {
            Some(group) if is_on_line(group, &fragment) => group.push(fragment),
            _ => groups.push(vec![fragment]),
        }
    }
    groups.into_iter().map(|group| line(group, guard)).collect()
}

/// Whether a fragment has the base line of these, or is raised or lowered beside one of them.
fn is_on_line(group: &[Fragment], fragment: &Fragment) -> bool {
    let largest =
        group.iter().fold(&group[0], |largest, other| if other.size > largest.size { other } else { largest });
    let shift = (largest.y - fragment.y).abs();
    let (size, smaller) = (largest.size.max(fragment.size), largest.size.min(fragment.size));
    shift < 0.25 * smaller || (smaller < 0.85 * size && shift < 0.4 * size)
}

fn line(mut group: Vec<Fragment>, guard: &Guard) -> Result<Line> {
    group.sort_by(|a, b| a.x0.total_cmp(&b.x0));
    let size =
        group.iter().map(|fragment| (fragment.size, fragment.chars)).fold((0.0, 0), |best: (f64, usize), next| {
            if next.1 > best.1 {
                next
            } else {
                best
            }
        });
    let largest =
        group.iter().fold(&group[0], |largest, other| if other.size > largest.size { other } else { largest });
    let (y, x0) = (largest.y, group[0].x0);
    let is_right_to_left = is_right_to_left(&group);
    let chars: usize = group.iter().map(|fragment| fragment.chars).sum();
    let bold: usize = group.iter().map(|fragment| fragment.bold_chars).sum();
    let monospaced: usize = group.iter().map(|fragment| fragment.monospaced_chars).sum();
    let mut text = String::new();
    let mut reached = f64::NEG_INFINITY;
    let mut before: Option<&Fragment> = None;
    for fragment in &group {
        guard.step()?;
        // Text that is drawn twice in the same place, for a shadow.
        let is_twice = before.is_some_and(|before| {
            before.text == fragment.text && (before.x0 - fragment.x0).abs() < 0.15 * fragment.size
        });
        before = Some(fragment);
        if is_twice {
            continue;
        }
        let gap = fragment.x0 - reached;
        if reached.is_finite() && gap > 0.12 * fragment.size.min(size.0.max(1.0)) && !text.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(fragment.text.trim_end());
        reached = reached.max(fragment.x1);
    }
    if is_right_to_left {
        text = reversed(&text);
    }
    text.retain(|character| character == '\u{ad}' || !is_invisible(character));
    Ok(Line {
        x0,
        x1: reached,
        y,
        size: size.0,
        text: text.trim().to_owned(),
        is_bold: 10 * bold > 9 * chars,
        is_monospaced: 10 * monospaced > 7 * chars,
    })
}

fn is_hebrew_or_arabic(character: char) -> bool {
    matches!(character, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}')
}

fn is_right_to_left(group: &[Fragment]) -> bool {
    let count = |test: fn(char) -> bool| group.iter().flat_map(|f| f.text.chars()).filter(|c| test(*c)).count();
    count(is_hebrew_or_arabic) > count(|character| character.is_alphabetic() && !is_hebrew_or_arabic(character))
}

/// Glyphs lie from left to right on the page whatever they are: turns a line of Hebrew or Arabic round, but numbers and
/// words of other scripts in it not.
fn reversed(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut end = characters.len();
    let goes_right = |character: char| character.is_alphanumeric() && !is_hebrew_or_arabic(character);
    while end > 0 {
        let mut start = end - 1;
        if goes_right(characters[start]) {
            while start > 0
                && (goes_right(characters[start - 1])
                    || (start > 1
                        && matches!(characters[start - 1], '.' | ',' | ':' | '/')
                        && goes_right(characters[start - 2])))
            {
                start -= 1;
            }
        }
        match start + 1 == end {
            true => out.push(match characters[start] {
                '(' => ')',
                ')' => '(',
                '[' => ']',
                ']' => '[',
                character => character,
            }),
            false => out.extend(&characters[start..end]),
        }
        end = start;
    }
    out
}

/// The paragraphs of the lines of one region.
pub fn paragraphs(lines: &[Line], guard: &Guard) -> Result<Vec<Paragraph>> {
    let left = lines.iter().map(|line| line.x0).fold(f64::INFINITY, f64::min);
    let right = lines.iter().map(|line| line.x1).fold(f64::NEG_INFINITY, f64::max);
    let mut pitches: Vec<f64> =
        lines.windows(2).map(|pair| pair[0].y - pair[1].y).filter(|pitch| *pitch > 0.0).collect();
    pitches.sort_by(f64::total_cmp);
    // Most lines follow another one of their paragraph: the pitch of these is in the lower half.
    let pitch = pitches.get(pitches.len() * 2 / 5).copied().unwrap_or(0.0);
    let mut paragraphs: Vec<Paragraph> = Vec::new();
    let mut first = 0;
    for index in 0..lines.len() {
        guard.step()?;
        let is_last =
            index + 1 == lines.len() || begins_paragraph(&lines[first..=index], &lines[index + 1], pitch, left, right);
        if is_last {
            paragraphs.push(join(&lines[first..=index], left, right));
            first = index + 1;
        }
    }
    paragraphs.retain(|paragraph| !paragraph.text.is_empty());
    Ok(paragraphs)
}

fn begins_item(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let Some(mark) = words.next() else { return false };
    if words.next().is_none() {
        return false;
    }
    let number = mark.trim_start_matches('(').trim_end_matches([')', '.']);
    let is_number = number.len() < mark.len()
        && (1..=3).contains(&number.len())
        && (number.bytes().all(|byte| byte.is_ascii_digit()) || (number.len() == 1 && number.is_ascii()));
    mark.starts_with(BULLETS)
        || matches!(mark, "-" | "–" | "—" | "*")
        || (is_number && number.chars().all(char::is_alphanumeric))
}

fn begins_paragraph(open: &[Line], next: &Line, pitch: f64, left: f64, right: f64) -> bool {
    let Some(last) = open.last() else { return true };
    let step = last.y - next.y;
    let size = last.size.max(next.size);
    if (last.size - next.size).abs() > 0.12 * size
        || last.is_bold != next.is_bold && open.len() == 1 && last.size >= next.size
    {
        return true;
    }
    if step <= 0.0 || step > (1.35 * pitch).max(1.25 * size) {
        return true;
    }
    if last.is_monospaced && next.is_monospaced {
        return false;
    }
    if begins_item(&next.text) {
        return true;
    }
    // An indented first line, where lines begin at the edge otherwise.
    let indent = next.x0 - left;
    let is_hanging = open.len() > 1 && last.x0 - left > 0.5 * size;
    let ends_short = right - last.x1 > 0.12 * (right - left);
    indent > 0.8 * size
        && indent < 4.0 * size
        && last.x0 - left < 0.4 * size
        && !is_hanging
        && !begins_item(&open[0].text)
        || ends_short
            && last.text.ends_with(['.', '!', '?', ':'])
            && indent.abs() < 0.4 * size
            && last.x0 - left > -0.4 * size
}

/// Puts the lines of a paragraph together.
fn join(lines: &[Line], left: f64, right: f64) -> Paragraph {
    let is_code = lines.iter().all(|line| line.is_monospaced);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            let last = &lines[index - 1];
            let ends_short = right - last.x1 > 0.25 * (right - left);
            match is_code || ends_short && !continues(&text, &line.text) {
                true => text.push('\n'),
                false => {
                    append(&mut text, &line.text);
                    continue;
                }
            }
        }
        if is_code {
            // Letters of code are six tenths of their size wide.
            let columns = ((line.x0 - left) / (0.6 * line.size.max(1.0))).round().clamp(0.0, 40.0) as usize;
            text.extend(std::iter::repeat_n(' ', columns));
        }
        text.push_str(&line.text);
    }
    let chars = |line: &Line| line.text.len();
    let size = lines.iter().max_by_key(|line| chars(line)).map_or(0.0, |line| line.size);
    Paragraph {
        text: text.replace('\u{ad}', ""),
        lines: lines.len(),
        size,
        y: lines.first().map_or(0.0, |line| line.y),
        is_bold: lines.iter().all(|line| line.is_bold),
        is_code,
    }
}

/// Whether a text plainly goes on: hyphenated, or a sentence that has not ended goes on in small letters.
pub fn continues(text: &str, next: &str) -> bool {
    let is_lower = next.chars().next().is_some_and(char::is_lowercase);
    is_lower && !text.ends_with(['.', '!', '?', ':', ';'])
}

/// Appends what follows on the next line, column or page.
pub fn append(text: &mut String, next: &str) {
    let is_lower = next.chars().next().is_some_and(char::is_lowercase);
    let mut ending = text.chars().rev();
    match (ending.next(), ending.next()) {
        (Some('\u{ad}'), _) => {
            text.pop();
        }
        (Some('-' | '\u{2010}'), Some(letter)) if letter.is_alphabetic() && is_lower => {
            text.pop();
        }
        // A compound that ends its line at its own hyphen, or a range.
        (Some('-' | '\u{2010}' | '–'), Some(letter)) if letter.is_alphanumeric() => {}
        (Some(last), _) if is_without_spaces(last) && next.chars().next().is_some_and(is_without_spaces) => {}
        _ => text.push(' '),
    }
    text.push_str(next);
}

/// Scripts that do not put spaces between words.
fn is_without_spaces(character: char) -> bool {
    matches!(character, '\u{3000}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn line_at(x0: f64, x1: f64, y: f64, text: &str) -> Line {
        Line { x0, x1, y, size: 10.0, text: text.into(), is_bold: false, is_monospaced: false }
    }

    fn read(lines: &[Line]) -> Vec<String> {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        paragraphs(lines, &guard).unwrap().into_iter().map(|paragraph| paragraph.text).collect()
    }

    #[test]
    fn lines_are_joined_and_hyphens_at_their_ends_go() {
        let lines = [
            line_at(10.0, 200.0, 100.0, "First line of a para-"),
            line_at(0.0, 200.0, 88.0, "graph with a self-"),
            line_at(0.0, 80.0, 76.0, "evident end."),
            line_at(10.0, 200.0, 64.0, "Second paragraph that"),
            line_at(0.0, 100.0, 52.0, "is indented."),
            line_at(0.0, 120.0, 20.0, "Far away."),
        ];
        assert_eq!(
            read(&lines),
            ["First line of a paragraph with a selfevident end.", "Second paragraph that is indented.", "Far away."]
        );
    }

    #[test]
    fn items_of_lists_begin_paragraphs() {
        let lines = [
            line_at(0.0, 200.0, 100.0, "The list that follows has:"),
            line_at(10.0, 200.0, 88.0, "• one thing that goes on"),
            line_at(20.0, 90.0, 76.0, "in a second line"),
            line_at(10.0, 90.0, 64.0, "2. another"),
        ];
        assert_eq!(
            read(&lines),
            ["The list that follows has:", "• one thing that goes on in a second line", "2. another"]
        );
    }

    #[test]
    fn words_go_on_without_spaces_where_a_script_has_none() {
        let mut text = "東京".to_owned();
        append(&mut text, "大学");
        assert_eq!(text, "東京大学");
        let mut text = "Nord-".to_owned();
        append(&mut text, "Süd");
        assert_eq!(text, "Nord-Süd");
        assert_eq!(reversed("(2024.5) םולש abc"), "abc שלום (2024.5)");
    }
}
