//! The headings of a Markdown text: what every reader of structured documents here writes, found again in one place.

use crate::Heading;

/// Longer headings are reported cut.
const MAX_TITLE_CHARS: usize = 200;

/// Headings with `#` marks outside fenced code, in order, the first `most` of them.
pub fn headings(markdown: &str, most: usize) -> Vec<Heading> {
    let mut headings = Vec::new();
    let mut fence: Option<(u8, usize)> = None;
    let mut char_start = 0;
    for line in markdown.split_inclusive('\n') {
        if headings.len() >= most {
            break;
        }
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        if indent < 4 {
            let mark = text.bytes().next().filter(|mark| matches!(mark, b'`' | b'~'));
            let run = mark.map_or(0, |mark| text.bytes().take_while(|byte| *byte == mark).count());
            match (fence, mark) {
                (None, Some(mark)) if run >= 3 => fence = Some((mark, run)),
                (Some((open, length)), Some(mark)) if mark == open && run >= length && text.trim_end().len() == run => {
                    fence = None;
                }
                (None, _) => headings.extend(heading(text).map(|(level, title)| Heading { level, title, char_start })),
                _ => {}
            }
        }
        char_start += line.chars().count();
    }
    headings
}

fn heading(line: &str) -> Option<(u8, String)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let rest = &line[level..];
    if !(1..=6).contains(&level) || !rest.starts_with([' ', '\t', '\n']) {
        return None;
    }
    let rest = rest.trim();
    let without_closing = rest.trim_end_matches('#');
    let title =
        if without_closing.is_empty() || without_closing.ends_with(' ') { without_closing.trim_end() } else { rest };
    (!title.is_empty()).then(|| (level as u8, title.chars().take(MAX_TITLE_CHARS).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_in_characters_and_code_has_no_headings() {
        let text = "é\n# One ##\n\n```\n# not\n~~~\n```\n\n  ## Two#\n#no\n    # code\n####### seven\n#\n";
        let found: Vec<(u8, String, usize)> =
            headings(text, 9).into_iter().map(|h| (h.level, h.title, h.char_start)).collect();
        let at = |needle: &str| text[..text.find(needle).unwrap()].chars().count();
        assert_eq!(headings(text, 1).len(), 1);
        assert_eq!(found, [(1, "One".into(), at("# One")), (2, "Two#".into(), at("  ## Two"))]);
    }
}
