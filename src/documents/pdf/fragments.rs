//! From glyphs to fragments: runs of glyphs that stand beside each other on one line.
//!
//! Everything after this works in coordinates of the reading direction: `x` along the line, `y` up. Text that runs in
//! another direction than most of the page (a title along an axis, a stamp) is turned upright and comes last.

use super::{encodings, Glyphs, PlacedGlyph};
use crate::error::Result;
use crate::limits::Guard;

/// A gap of this many sizes is a space. Spaces are a quarter to a third wide; tight lines shrink them to a half of that.
const SPACE_GAP: f64 = 0.11;

/// A gap of this many sizes ends a fragment: a column, a tab stop.
const BREAK_GAP: f64 = 1.4;

/// Glyphs whose base lines differ by more than this many sizes are not beside each other.
const BASELINE_SHIFT: f64 = 0.45;

#[derive(Debug, Clone, PartialEq)]
pub struct Fragment {
    pub x0: f64,
    pub x1: f64,
    /// Of the base line.
    pub y: f64,
    pub size: f64,
    pub text: String,
    pub chars: usize,
    pub bold_chars: usize,
    pub monospaced_chars: usize,
}

impl Fragment {
    pub fn top(&self) -> f64 {
        self.y + 0.75 * self.size
    }

    pub fn bottom(&self) -> f64 {
        self.y - 0.22 * self.size
    }
}

/// Quarter turns that a direction is from going right; `None` if it is none of the four.
fn quarter_turns((dx, dy): (f64, f64)) -> Option<usize> {
    let length = dx.hypot(dy);
    let (x, y) = (dx / length, dy / length);
    match () {
        () if x > 0.98 => Some(0),
        () if y > 0.98 => Some(1),
        () if x < -0.98 => Some(2),
        () if y < -0.98 => Some(3),
        () => None,
    }
}

/// Turns a point so that text of this direction runs right.
fn upright((x, y): (f64, f64), turns: usize) -> (f64, f64) {
    match turns {
        0 => (x, y),
        1 => (y, -x),
        2 => (-x, -y),
        _ => (-y, x),
    }
}

/// The fragments of a page by direction: those of the main one first, slanted text last.
pub fn fragments(glyphs: Glyphs, guard: &Guard) -> Result<Vec<Vec<Fragment>>> {
    let mut by_direction: [Vec<Fragment>; 5] = Default::default();
    let mut glyph_counts = [0usize; 5];
    let mut last_direction = None;
    let mut builder = Builder::default();
    for glyph in glyphs.glyphs {
        guard.step()?;
        // Slanted text is kept together in the order of drawing, as if it were upright.
        let direction = quarter_turns(glyph.along).unwrap_or(4);
        if last_direction != Some(direction) {
            if let Some(last) = last_direction {
                by_direction[last].extend(builder.take());
            }
            last_direction = Some(direction);
        }
        glyph_counts[direction] += 1;
        by_direction[direction].extend(builder.push(glyph, direction));
    }
    if let Some(last) = last_direction {
        by_direction[last].extend(builder.take());
    }
    let main = (0..4).max_by_key(|&direction| (glyph_counts[direction], 4 - direction)).unwrap_or(0);
    let mut order: Vec<usize> = vec![main];
    order.extend((0..5).filter(|&direction| direction != main));
    Ok(order
        .into_iter()
        .map(|direction| std::mem::take(&mut by_direction[direction]))
        .filter(|f| !f.is_empty())
        .collect())
}

/// The fragment that is being built.
#[derive(Default)]
struct Builder {
    open: Option<Fragment>,
    /// Where the last glyph began, to see the same one drawn twice for a bold look.
    last_x: f64,
    last_text: String,
    /// A space was drawn behind the last glyph.
    has_space: bool,
}

impl Builder {
    fn take(&mut self) -> Option<Fragment> {
        self.has_space = false;
        self.open.take().filter(|fragment| !fragment.text.trim().is_empty())
    }

    /// Adds a glyph; gives the fragment before it, if it begins a new one.
    fn push(&mut self, glyph: PlacedGlyph, direction: usize) -> Option<Fragment> {
        let (x, y, width) = match direction {
            4 => (glyph.x, glyph.y, glyph.dx.hypot(glyph.dy)),
            turns => {
                let (x, y) = upright((glyph.x, glyph.y), turns);
                (x, y, upright((glyph.dx, glyph.dy), turns).0)
            }
        };
        let (x0, x1) = if width < 0.0 { (x + width, x) } else { (x, x + width) };
        if glyph.text.chars().all(char::is_whitespace) {
            self.has_space = true;
            return None;
        }
        if let Some(open) = &mut self.open {
            let size = open.size.max(glyph.size);
            let gap = x0 - open.x1;
            let is_beside = (y - open.y).abs() <= BASELINE_SHIFT * size
                && gap > -0.6 * size
                && gap < BREAK_GAP * size
                && glyph.size > 0.35 * open.size
                && open.size > 0.35 * glyph.size;
            let is_twice = (y - open.y).abs() < 0.1 * size
                && (x0 - self.last_x).abs() < 0.12 * size
                && self.last_text == glyph.text;
            if is_twice {
                open.bold_chars += 1;
                return None;
            }
            // An accent that was drawn before its letter, in the same place.
            if is_beside && x0 < open.x1 - 0.12 * size && !self.has_space {
                if let Some(letter) = composed(&self.last_text, &glyph.text) {
                    open.text.truncate(open.text.len() - self.last_text.len());
                    open.text.push_str(&letter);
                    open.x1 = open.x1.max(x1);
                    self.last_text = letter;
                    self.last_x = x0;
                    return None;
                }
            }
            if is_beside || direction == 4 {
                let is_apart = gap > SPACE_GAP * size || (self.has_space && gap > 0.03 * size);
                if is_apart && !open.text.ends_with(' ') {
                    open.text.push(' ');
                }
                open.x1 = open.x1.max(x1);
                // The line of a fragment is that of its larger letters: those beside are raised or lowered.
                if glyph.size > open.size * 1.05 {
                    open.y = y;
                    open.size = glyph.size;
                }
                self.add(&glyph, x0);
                return None;
            }
        }
        let before = self.take();
        self.open = Some(Fragment {
            x0,
            x1,
            y,
            size: glyph.size,
            text: String::new(),
            chars: 0,
            bold_chars: 0,
            monospaced_chars: 0,
        });
        self.add(&glyph, x0);
        before
    }

    fn add(&mut self, glyph: &PlacedGlyph, x0: f64) {
        self.has_space = false;
        self.last_x = x0;
        self.last_text.clone_from(&glyph.text);
        if let Some(open) = &mut self.open {
            let count = glyph.text.chars().count();
            open.text.push_str(&glyph.text);
            open.chars += count;
            open.bold_chars += if glyph.is_bold { count } else { 0 };
            open.monospaced_chars += if glyph.is_monospaced { count } else { 0 };
        }
    }
}

/// The letter that an accent by itself and a letter under it make. Fonts of 128 glyphs have no others.
fn composed(accent: &str, letter: &str) -> Option<String> {
    let name = match accent {
        "`" => "grave",
        "´" => "acute",
        "ˆ" | "^" => "circumflex",
        "¨" => "dieresis",
        "˜" | "~" => "tilde",
        "¯" => "macron",
        "˘" => "breve",
        "˙" => "dotaccent",
        "˚" => "ring",
        "¸" => "cedilla",
        "ˇ" => "caron",
        "˝" => "hungarumlaut",
        _ => return None,
    };
    let letter = match letter {
        "ı" => "i",
        "ȷ" => "j",
        letter => letter,
    };
    let is_letter = letter.len() == 1 && letter.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_letter.then(|| encodings::of_name(&format!("{letter}{name}"))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn glyph(text: &str, x: f64, y: f64, along: (f64, f64)) -> PlacedGlyph {
        let (dx, dy) = (5.0 * along.0, 5.0 * along.1);
        PlacedGlyph { text: text.into(), x, y, dx, dy, along, size: 10.0, is_bold: false, is_monospaced: false }
    }

    fn texts(glyphs: Vec<PlacedGlyph>) -> Vec<String> {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let all = fragments(Glyphs { glyphs, ..Glyphs::default() }, &guard).unwrap();
        all.into_iter().flatten().map(|fragment| fragment.text).collect()
    }

    #[test]
    fn gaps_are_spaces_and_wide_gaps_are_ends() {
        let right = (1.0, 0.0);
        let at = |text, x| glyph(text, x, 100.0, right);
        assert_eq!(texts(vec![at("a", 0.0), at("b", 5.0), at("c", 12.0), at("d", 60.0)]), ["ab c", "d"]);
        // Drawn twice a little apart, for a bold look.
        assert_eq!(texts(vec![at("a", 0.0), at("a", 0.4), at("b", 5.0)]), ["ab"]);
        // A raised figure.
        let mut raised = glyph("2", 5.0, 104.0, right);
        raised.size = 6.0;
        assert_eq!(texts(vec![at("x", 0.0), raised, at("y", 8.0)]), ["x2y"]);
    }

    #[test]
    fn an_accent_over_a_letter_is_one_letter() {
        let at = |text, x| glyph(text, x, 100.0, (1.0, 0.0));
        assert_eq!(texts(vec![at("r", 0.0), at("ˆ", 5.0), at("o", 5.0), at("l", 10.0), at("e", 15.0)]), ["rôle"]);
        assert_eq!(texts(vec![at("¨", 0.3), at("ı", 0.0), at("´", 5.0), at("x", 10.0)]), ["ï´x"]);
    }

    #[test]
    fn text_that_runs_up_is_turned_and_comes_last() {
        let up = (0.0, 1.0);
        let glyphs = vec![
            glyph("u", 0.0, 0.0, up),
            glyph("p", 0.0, 5.0, up),
            glyph("a", 0.0, 9.0, (1.0, 0.0)),
            glyph("b", 5.0, 9.0, (1.0, 0.0)),
            glyph("c", 10.0, 9.0, (1.0, 0.0)),
        ];
        assert_eq!(texts(glyphs), ["abc", "up"]);
    }
}
