//! Summaries of texts of any length, by a model that is a trait here ([`Summarizer`]).
//!
//! A text that fits one prompt is summarised at once. A longer one is cut at its best boundaries into pieces that fit
//! ([`pieces`]); each is summarised, and what was written is put together, as much as fits one prompt ([`groups`]), and
//! summarised again, until one prompt holds all of it. Each pass has at most half the parts of the one before.
//!
//! What a model writes is not believed to keep to what it was asked for: [`finished`] takes whole sentences of it, up to
//! the number of words that was wanted. Where it writes nothing, the first sentences of the text stand for it.
//!
//! The text is data: it stands between fences, as passages do (see [`crate::prompt`]).

use std::ops::{ControlFlow, Range};

use crate::prompt::without_fence;
use crate::text::{chunk, ends_sentence, sentence_starts, ChunkError, ChunkOptions, Measure, Strategy, TokenMeasure};

/// The system message: short, for small models.
pub const SYSTEM: &str = "You summarize texts in plain sentences. Write nothing that is not in the text.";

/// Least room for text that is worth a prompt.
pub const MIN_ROOM_TOKENS: usize = 64;

/// Words for a part of a text: with fewer, too little would be left of it for the next pass.
const PART_WORDS: usize = 60;

/// Text that is measured at once: so memory stays small, and a huge text can be given up before it is measured.
const SEGMENT_BYTES: usize = 256 << 10;

/// Between the summaries that are put together.
const SEPARATOR: &str = "\n\n";

/// What stands for the model.
pub trait Summarizer {
    type Error: From<ChunkError>;

    /// The tokens of each text.
    fn measure(&mut self, texts: &[&str]) -> Result<Vec<TokenMeasure>, Self::Error>;

    /// What the model writes of a text when asked for so many words.
    fn summarize(&mut self, text: &str, words: usize) -> Result<String, Self::Error>;
}

/// How to summarise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The most that the summary may have.
    pub words: usize,
    /// Tokens of text that go into one prompt; at least [`MIN_ROOM_TOKENS`].
    pub room_tokens: usize,
    /// Of a text of more pieces, so many are read, evenly spread over it; at least 1.
    pub most_pieces: usize,
}

impl Plan {
    /// For a model with a context of so many tokens, of which a prompt without text takes `fixed`. None if that leaves no room.
    pub fn fitting(context_tokens: usize, fixed_tokens: usize, words: usize, most_pieces: usize) -> Option<Self> {
        // A piece can come out a token or two longer by itself than within its text.
        let margin = 8;
        let taken = fixed_tokens.saturating_add(answer_tokens(words.max(PART_WORDS))).saturating_add(margin);
        let room_tokens = context_tokens.saturating_sub(taken);
        (room_tokens >= MIN_ROOM_TOKENS).then_some(Self { words, room_tokens, most_pieces: most_pieces.max(1) })
    }
}

/// Tokens that a model may write for so many words: some languages need two for one, and a sentence wants to be ended.
pub fn answer_tokens(words: usize) -> usize {
    words.saturating_mul(2).saturating_add(32)
}

/// The user message. `fence` is what [`crate::prompt::render`] takes for one.
pub fn request(text: &str, words: usize, fence: &str) -> String {
    let text = without_fence(text.trim(), fence);
    format!("Text:\n\n<{fence}>\n{text}\n</{fence}>\n\nSummarize the text in at most {words} words.")
}

/// The summary of a text. One that has no more words than are wanted is its own.
pub fn summarize<S: Summarizer>(model: &mut S, text: &str, plan: &Plan) -> Result<String, S::Error> {
    let text = text.trim();
    if word_count(text) <= plan.words {
        return Ok(text.to_owned());
    }
    let found = all_pieces(model, text, plan.room_tokens)?;
    let read: Vec<&str> = spread(found.len(), plan.most_pieces).map(|at| &text[found[at].clone()]).collect();
    if let [only] = read[..] {
        return written(model, only, plan.words);
    }
    let part_words = plan.words.max(PART_WORDS);
    let mut parts = read.into_iter().map(|piece| written(model, piece, part_words)).collect::<Result<Vec<_>, _>>()?;
    loop {
        let measures = model.measure(&parts.iter().map(String::as_str).collect::<Vec<_>>())?;
        // Whatever was written, several of them fit one prompt.
        let longest = plan.room_tokens / 4;
        let (mut sizes, mut kept) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for (part, measure) in parts.iter().zip(&measures) {
            let head = shortened(part, measure, longest);
            sizes.push(measure.size(0..head.len()) + 1);
            kept.push(head);
        }
        let joined: Vec<String> =
            groups(&sizes, plan.room_tokens).into_iter().map(|group| kept[group].join(SEPARATOR)).collect();
        if let [only] = &joined[..] {
            return written(model, only, plan.words);
        }
        parts = joined.iter().map(|text| written(model, text, part_words)).collect::<Result<Vec<_>, _>>()?;
    }
}

/// What the model makes of a text that fits its prompt.
fn written<S: Summarizer>(model: &mut S, text: &str, words: usize) -> Result<String, S::Error> {
    let summary = finished(&model.summarize(text, words)?, words);
    Ok(if summary.is_empty() { finished(text, words) } else { summary })
}

fn all_pieces<S: Summarizer>(model: &mut S, text: &str, room_tokens: usize) -> Result<Vec<Range<usize>>, S::Error> {
    let mut all = Vec::new();
    for segment in segments(text, SEGMENT_BYTES) {
        let part = &text[segment.clone()];
        for measure in model.measure(&[part])? {
            let found = pieces(part, &measure, room_tokens)?;
            all.extend(found.into_iter().map(|piece| piece.start + segment.start..piece.end + segment.start));
        }
    }
    Ok(all)
}

/// A text in parts of at most so many bytes, cut after a line, else a word, where one ends in the second half.
fn segments(text: &str, most_bytes: usize) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), 0);
    while start < text.len() {
        let limit = text.floor_char_boundary(start + most_bytes);
        let mut end = limit.max(text.ceil_char_boundary(start + 1));
        if end < text.len() {
            let middle = text.floor_char_boundary(start + most_bytes / 2);
            let half = &text[middle.min(end)..end];
            let cut = half.rfind('\n').or_else(|| half.rfind(char::is_whitespace));
            end = cut.map(|at| text.ceil_char_boundary(middle + at + 1)).filter(|&at| at > start).unwrap_or(end);
        }
        found.push(start..end);
        start = end;
    }
    found
}

/// A text in pieces of at most so many tokens each, at its paragraphs, lines, sentences or words.
pub fn pieces(text: &str, measure: &dyn Measure, room_tokens: usize) -> Result<Vec<Range<usize>>, ChunkError> {
    let options = ChunkOptions { strategy: Strategy::Recursive, size: room_tokens, overlap: 0 };
    Ok(chunk(text, measure, &options)?.into_iter().map(|chunk| chunk.range).collect())
}

/// Runs of texts of these sizes that go into a prompt together: as many as fit, and two at least, so that there are fewer
/// runs than texts.
pub fn groups(sizes: &[usize], room: usize) -> Vec<Range<usize>> {
    let (mut found, mut start, mut taken) = (Vec::new(), 0, 0);
    for (at, &size) in sizes.iter().enumerate() {
        if at >= start + 2 && size.saturating_add(taken) > room {
            found.push(start..at);
            (start, taken) = (at, 0);
        }
        taken = taken.saturating_add(size);
    }
    if start < sizes.len() {
        found.push(start..sizes.len());
    }
    found
}

/// At most `most` of `count` places, evenly spread, the first and the last among them.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most.max(1));
    (0..taken).map(move |at| if taken > 1 { at * (count - 1) / (taken - 1) } else { 0 })
}

/// The beginning of a text that has at most so many tokens, to the end of a sentence if there is one.
fn shortened<'a>(text: &'a str, measure: &TokenMeasure, most_tokens: usize) -> &'a str {
    let limit = text.floor_char_boundary(measure.furthest_end(0, most_tokens).min(text.len()));
    if limit == text.len() {
        return text;
    }
    let head = &text[..limit];
    let end = sentence_starts(head).last().unwrap_or(limit);
    head[..end].trim_end()
}

/// What a model has written as a summary of at most so many words: whole sentences, as many as that allows, without a heading
/// over them. A single sentence that is longer is cut, which shows.
pub fn finished(written: &str, words: usize) -> String {
    let text = without_label(written.trim());
    let mut kept = 0;
    for end in sentence_starts(text).chain([text.len()]) {
        let head = text[..end].trim_end();
        if word_count(head) > words {
            break;
        }
        if ends_sentence(head) && !head.ends_with([':', ';']) && word_count(head) > 0 {
            kept = head.len();
        }
    }
    if kept > 0 {
        return text[..kept].to_owned();
    }
    let mut end = 0;
    let mut left = words;
    each_word(text, |word_end| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        (end, left) = (word_end, left - 1);
        ControlFlow::Continue(())
    });
    match text[..end].trim_end_matches(|c: char| !c.is_alphanumeric()) {
        "" => String::new(),
        head => format!("{head}…"),
    }
}

/// A text without a first line that only announces it (`Here is a summary:`, `Summary: …`).
fn without_label(text: &str) -> &str {
    let mut text = text;
    if let Some((first, rest)) = text.split_once('\n') {
        if first.trim_end().ends_with(':') && !rest.trim().is_empty() {
            text = rest.trim_start();
        }
    }
    let label = text.get(.."summary:".len()).filter(|start| start.eq_ignore_ascii_case("summary:"));
    label.map_or(text, |label| text[label.len()..].trim_start())
}

/// How many words a text has: what white space separates, and each character of a script that writes none between words.
pub fn word_count(text: &str) -> usize {
    let mut count = 0;
    each_word(text, |_| {
        count += 1;
        ControlFlow::Continue(())
    });
    count
}

/// Calls `visit` with where each word ends, the punctuation behind it included.
fn each_word(text: &str, mut visit: impl FnMut(usize) -> ControlFlow<()>) {
    let mut is_word = false;
    for (at, c) in text.char_indices() {
        let is_own = is_ideograph(c);
        if is_word && (c.is_whitespace() || is_own) {
            is_word = false;
            if visit(at).is_break() {
                return;
            }
        }
        if is_own && visit(at + c.len_utf8()).is_break() {
            return;
        }
        is_word |= !is_own && c.is_alphanumeric();
    }
    if is_word {
        let _ = visit(text.len());
    }
}

/// Chinese characters and Japanese syllables.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3134f}')
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
