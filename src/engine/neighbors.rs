//! A chunk together with the chunks before and after it, as one text.
//!
//! Chunks of a row repeat a little of one another, and the white space between two is in neither. Joined, what is repeated
//! stands once, and white space stands for white space, as many characters: so a character of the joined text is that of
//! the row's text at the same distance from its beginning. Called by the search functions.

use std::ops::Range;

/// More white space than this between two chunks is a gap that joining them would not bridge.
const MOST_BETWEEN: usize = 256;

/// A chunk of a row, in the order of the row's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub text: String,
    /// Characters of the row's text.
    pub chars: Range<usize>,
}

/// The piece at `own`, extended to both sides as far as the pieces there join on. What does not, ends it: chunks of a row
/// that changes while it is read, say.
pub fn joined(pieces: &[Piece], own: usize) -> Piece {
    let mut whole = pieces[own].clone();
    for next in &pieces[own + 1..] {
        let Some(longer) = append(&whole, next) else { break };
        whole = longer;
    }
    for before in pieces[..own].iter().rev() {
        let Some(longer) = append(before, &whole) else { break };
        whole = longer;
    }
    whole
}

/// Both as one, if the second begins after the beginning of the first and ends after its end, and they agree where they
/// overlap.
fn append(first: &Piece, second: &Piece) -> Option<Piece> {
    if second.chars.start <= first.chars.start || second.chars.end <= first.chars.end {
        return None;
    }
    let chars = first.chars.start..second.chars.end;
    let Some(repeated) = first.chars.end.checked_sub(second.chars.start) else {
        let between = blank(second.chars.start - first.chars.end)?;
        return Some(Piece { text: format!("{}{between}{}", first.text, second.text), chars });
    };
    let cut = second.text.char_indices().nth(repeated).map_or(second.text.len(), |(at, _)| at);
    let (again, rest) = second.text.split_at(cut);
    first.text.ends_with(again).then(|| Piece { text: format!("{}{rest}", first.text), chars })
}

/// White space of so many characters: one is a space, more are an empty line.
fn blank(chars: usize) -> Option<String> {
    match chars {
        0 => Some(String::new()),
        1 => Some(" ".to_owned()),
        2..=MOST_BETWEEN => Some("\n".repeat(2) + &" ".repeat(chars - 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{chunk, CharMeasure, ChunkOptions, Strategy as Chunking};
    use proptest::prelude::*;

    fn piece(text: &str, start: usize) -> Piece {
        Piece { text: text.to_owned(), chars: start..start + text.chars().count() }
    }

    #[test]
    fn what_is_repeated_stands_once() {
        let pieces = [piece("Eins zwei", 0), piece("zwei drei", 5), piece("vier", 15)];
        assert_eq!(joined(&pieces, 1), piece("Eins zwei drei vier", 0));
        assert_eq!(joined(&pieces[1..2], 0), pieces[1]);
    }

    #[test]
    fn what_does_not_join_on_ends_it() {
        // Other text where they overlap, a chunk within the other, a gap too wide.
        assert_eq!(joined(&[piece("abc", 0), piece("xbcd", 1)], 1), piece("xbcd", 1));
        assert_eq!(joined(&[piece("abcdef", 0), piece("cd", 2)], 0), piece("abcdef", 0));
        assert_eq!(joined(&[piece("abc", 0), piece("def", 1000)], 0), piece("abc", 0));
        assert_eq!(joined(&[piece("abc", 7), piece("def", 0)], 0), piece("abc", 7));
    }

    fn flat(text: &str) -> String {
        text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect()
    }

    proptest! {
        #[test]
        fn chunks_of_a_text_join_to_the_text(
            text in "[a-zé🦀.\n ]{1,300}", size in 5usize..60, overlap in 0usize..20, from in 0usize..20, take in 1usize..20, own in 0usize..20
        ) {
            let options = ChunkOptions { strategy: Chunking::Recursive, size, overlap: overlap % size };
            let chunks = chunk(&text, &CharMeasure::new(&text), &options).unwrap();
            let pieces: Vec<Piece> = chunks
                .iter()
                .map(|chunk| Piece { text: text[chunk.range.clone()].to_owned(), chars: chunk.char_range.clone() })
                .collect();
            if pieces.is_empty() {
                return Ok(());
            }
            let from = from % pieces.len();
            let window = &pieces[from..(from + take).min(pieces.len())];
            let whole = joined(window, own % window.len());
            let expected: String = text.chars().skip(whole.chars.start).take(whole.chars.len()).collect();
            prop_assert_eq!(flat(&whole.text), flat(&expected));
            // White space of more than MOST_BETWEEN characters does not occur here in practice; nothing else ends a window.
            prop_assert!(whole.chars == (window[0].chars.start..window[window.len() - 1].chars.end));
        }
    }
}
