//! Context compression: which sentences of the passages found go into the prompt.
//!
//! A small model answers better from the few sentences that bear on a question than from whole passages, and reads them in
//! a third of the time. Sentences are scored by the caller; here they are found, and the best are chosen. A chosen sentence
//! that begins with a pronoun takes the one before it along, which says who is meant.

use std::ops::Range;

use crate::text::sentence_starts;

/// A sentence of a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Its passage's place among the passages given.
    pub passage: usize,
    /// Bytes of the passage, without white space around.
    pub range: Range<usize>,
}

/// How a sentence begins that says nothing alone. English: other languages keep sentences without their neighbours.
const REFERRING: [&str; 18] = [
    "he", "she", "it", "they", "his", "her", "its", "their", "this", "that", "these", "those", "such", "both", "there",
    "however", "instead", "one",
];

/// The sentences of the passages, in order. A line break between two blocks ends a sentence, too.
pub fn sentences(passages: &[&str]) -> Vec<Sentence> {
    let mut found = Vec::new();
    for (passage, text) in passages.iter().enumerate() {
        let mut from = 0;
        let mut ends: Vec<usize> = sentence_starts(text).chain(block_ends(text)).chain([text.len()]).collect();
        ends.sort_unstable();
        for end in ends {
            let piece = &text[from..end];
            let start = from + (piece.len() - piece.trim_start().len());
            let trimmed = start + piece.trim().len();
            if piece.chars().any(char::is_alphanumeric) {
                found.push(Sentence { passage, range: start..trimmed });
            }
            from = end;
        }
    }
    found
}

/// Where an empty line follows, or a line of a list or a table: no sentence goes on beyond.
fn block_ends(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.match_indices('\n').map(|(at, _)| at + 1).filter(|&next| {
        let rest = text[next..].trim_start_matches([' ', '\t']);
        rest.starts_with(['\n', '\r', '-', '*', '#', '|', '•', '>'])
    })
}

/// The places of the `most` best sentences by their scores, and of those that must stand before them; in order. What has no
/// number for a score is never chosen.
pub fn choose(passages: &[&str], sentences: &[Sentence], scores: &[f64], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sentences.len().min(scores.len())).filter(|&at| !scores[at].is_nan()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(most);
    let mut chosen = order.clone();
    for at in order {
        let Some(before) = at.checked_sub(1) else { continue };
        let (sentence, previous) = (&sentences[at], &sentences[before]);
        if previous.passage == sentence.passage && refers_back(&passages[sentence.passage][sentence.range.clone()]) {
            chosen.push(before);
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

fn refers_back(sentence: &str) -> bool {
    let word: String =
        sentence.chars().skip_while(|c| !c.is_alphanumeric()).take_while(|c| c.is_alphabetic()).collect();
    REFERRING.iter().any(|referring| word.eq_ignore_ascii_case(referring))
}

/// A passage cut down to its chosen sentences, in order: one after the other, with an ellipsis where some were left out
/// between them.
pub fn joined(passage: &str, chosen: &[Range<usize>]) -> String {
    let mut out = String::new();
    let mut end = 0;
    for range in chosen {
        if !out.is_empty() {
            out.push_str(if passage[end..range.start].trim().is_empty() { " " } else { " … " });
        }
        out.push_str(&passage[range.clone()]);
        end = range.end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Ada was born in 1815. She wrote the first program. The engine was never built.";

    fn texts<'a>(passages: &[&'a str], sentences: &[Sentence]) -> Vec<&'a str> {
        sentences.iter().map(|sentence| &passages[sentence.passage][sentence.range.clone()]).collect()
    }

    #[test]
    fn sentences_end_at_stops_and_blocks() {
        let passages = [TEXT, "A list:\n- one\n- two\n\n  Then text\nthat goes on. "];
        let expected = [
            "Ada was born in 1815.",
            "She wrote the first program.",
            "The engine was never built.",
            "A list:",
            "- one",
            "- two",
            "Then text\nthat goes on.",
        ];
        assert_eq!(texts(&passages, &sentences(&passages)), expected);
        assert_eq!(sentences(&["", " \n ", "***"]), []);
    }

    #[test]
    fn a_pronoun_takes_the_sentence_before_it_along() {
        let all = sentences(&[TEXT]);
        assert_eq!(choose(&[TEXT], &all, &[0.1, 0.9, 0.5], 1), [0, 1]);
        assert_eq!(choose(&[TEXT], &all, &[0.1, 0.5, 0.9], 1), [2]);
        assert_eq!(choose(&[TEXT], &all, &[f64::NAN, f64::NAN, f64::NAN], 3), Vec::<usize>::new());
        // Not from another passage.
        let two = ["Ada was born in 1815.", "She wrote it."];
        assert_eq!(choose(&two, &sentences(&two), &[0.1, 0.9], 1), [1]);
    }

    #[test]
    fn what_was_left_out_shows() {
        let ranges: Vec<_> = sentences(&[TEXT]).into_iter().map(|sentence| sentence.range).collect();
        let (first, second, third) = (ranges[0].clone(), ranges[1].clone(), ranges[2].clone());
        assert_eq!(joined(TEXT, &[first.clone(), third]), "Ada was born in 1815. … The engine was never built.");
        assert_eq!(joined(TEXT, &[first, second]), "Ada was born in 1815. She wrote the first program.");
    }

    proptest! {
        #[test]
        fn every_word_is_in_one_sentence(text in "[a-zA-Zé.!? \n-]{0,80}") {
            let passages = [text.as_str()];
            let all = sentences(&passages);
            let words = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            let together: String = texts(&passages, &all).into_iter().map(words).collect();
            prop_assert_eq!(together, words(&text));
            prop_assert!(all.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        }
    }
}
