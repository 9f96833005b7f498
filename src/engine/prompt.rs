//! The prompt around retrieved passages, as a pure function: packing into a token budget, rendering, and reading the
//! citations in an answer.
//!
//! Passages are data. Each stands numbered between two fence lines with a word that the caller chooses for this
//! prompt; wherever the word occurs in a passage it is blanked, so no passage can close its block. Placeholders are
//! replaced in one pass over the template, so one spelled out in a passage stays text.
//!
//! Token counts come from the caller, who alone has the model's tokenizer.

use std::fmt::Write;

use crate::text::{ends_sentence, sentence_starts};

/// The system message: short, since a model of a hundred million parameters follows one instruction, not ten.
pub const SYSTEM: &str = "Answer the question in one to three sentences, using only the passages. \
    Cite the passages you use like [1]. If the passages do not contain the answer, say that they do not.";

/// The user message: passages first, the question last, where a small model still attends to it. Being told to use
/// its own words keeps a model of a hundred million parameters from copying the first passage to its end.
pub const DEFAULT_TEMPLATE: &str =
    "Passages:\n\n{context}\n\nAnswer the question in your own words, using the passages. Question: {question}";

/// A cut passage keeps at least this many tokens; less is left out. The first passage is always kept.
const MIN_CUT_TOKENS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    #[error("prompt template has no placeholder \"{{{0}}}\"")]
    MissingPlaceholder(&'static str),
    #[error("prompt template has the placeholder \"{{{0}}}\" more than once")]
    RepeatedPlaceholder(&'static str),
    #[error("prompt template has the unknown placeholder \"{{{0}}}\"")]
    UnknownPlaceholder(String),
    #[error("fence of a prompt must be 4 to 64 ASCII letters and digits")]
    Fence,
}

/// A retrieved passage. `tokens` counts the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    pub title: Option<String>,
    pub content: String,
    pub tokens: usize,
}

/// A passage that goes into the prompt, whole or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedPassage {
    /// Its place among the passages given to [`pack`].
    pub index: usize,
    /// How much of its content is kept, ending on a character boundary.
    pub keep_bytes: usize,
    pub truncated: bool,
    /// What it takes of the budget, title and overhead included; estimated where it is cut.
    pub tokens: usize,
}

impl PackedPassage {
    /// The passage as it goes into the prompt; `passages` are those given to [`pack`].
    pub fn apply(&self, passages: &[Passage]) -> Passage {
        let whole = &passages[self.index];
        let content = whole.content[..self.keep_bytes].to_owned();
        let tokens =
            if self.truncated { proportion(whole.tokens, self.keep_bytes, &whole.content) } else { whole.tokens };
        Passage { title: whole.title.clone(), content, tokens }
    }
}

/// Tokens of the first `bytes` of a content, if its tokens were spread evenly; rounded up.
fn proportion(tokens: usize, bytes: usize, content: &str) -> usize {
    (tokens as u128 * bytes as u128).div_ceil(content.len().max(1) as u128) as usize
}

/// Chooses passages, in the order given, best first, up to `budget_tokens`. `per_passage_overhead_tokens` covers the
/// number and the fence lines; a title is counted at its content's tokens per byte, and at least at one token per four
/// bytes.
///
/// Whole passages are taken while they fit. The first that does not is cut at a sentence or word, if enough room is
/// left for it to say anything, and ends the list. The first passage is always in, cut to the budget if need be. A cut
/// assumes that tokens are spread evenly over the content and takes a tenth off for where they are not.
pub fn pack(passages: &[Passage], budget_tokens: usize, per_passage_overhead_tokens: usize) -> Vec<PackedPassage> {
    let mut packed = Vec::new();
    let mut left = budget_tokens;
    for (index, passage) in passages.iter().enumerate() {
        let title_bytes = passage.title.as_ref().map_or(0, String::len);
        let title_tokens = proportion(passage.tokens, title_bytes, &passage.content).max(title_bytes.div_ceil(4));
        let overhead = per_passage_overhead_tokens.saturating_add(title_tokens);
        let whole = overhead.saturating_add(passage.tokens);
        if whole <= left {
            packed.push(PackedPassage { index, keep_bytes: passage.content.len(), truncated: false, tokens: whole });
            left -= whole;
            continue;
        }
        let room = left.saturating_sub(overhead);
        if index == 0 || room >= MIN_CUT_TOKENS {
            let keep_bytes = cut(&passage.content, passage.tokens, room);
            let tokens = overhead + proportion(passage.tokens, keep_bytes, &passage.content);
            packed.push(PackedPassage { index, keep_bytes, truncated: true, tokens });
        }
        break;
    }
    packed
}

/// How many bytes of a content of `tokens` tokens to keep in `room` tokens: to the end of a sentence if that keeps at
/// least half of what fits, else to the end of a word, else to a character. At least one character.
fn cut(content: &str, tokens: usize, room: usize) -> usize {
    let fitting = content.len() as u128 * room as u128 * 9 / (tokens.max(1) as u128 * 10);
    let limit = content.floor_char_boundary(fitting.min(content.len() as u128) as usize);
    let head = &content[..limit];
    let sentence = last_sentence_end(head).filter(|&end| end > limit / 2);
    let word = || head.rfind(char::is_whitespace).map(|at| head[..at].trim_end().len()).filter(|&end| end > 0);
    let keep = sentence.or_else(word).unwrap_or(limit);
    if keep > 0 {
        keep
    } else {
        content.chars().next().map_or(0, char::len_utf8)
    }
}

/// Where the last finished sentence ends.
fn last_sentence_end(text: &str) -> Option<usize> {
    let text = text.trim_end();
    if ends_sentence(text) {
        return Some(text.len());
    }
    sentence_starts(text).last().map(|start| text[..start].trim_end().len())
}

/// The user message. `template` has `{context}` once and `{question}` at least once; every other brace is text, unless
/// it encloses a word, which is taken for a misspelt placeholder. `fence` is 4 to 64 ASCII letters and digits.
pub fn render(question: &str, passages: &[Passage], fence: &str, template: &str) -> Result<String, PromptError> {
    if !(4..=64).contains(&fence.len()) || !fence.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(PromptError::Fence);
    }
    let parts = placeholders(template)?;
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Question => out.push_str(&without_fence(question.trim(), fence)),
            Part::Context => write_context(&mut out, passages, fence),
        }
    }
    Ok(out)
}

/// Whether [`render`] takes a template.
pub fn check_template(template: &str) -> Result<(), PromptError> {
    placeholders(template).map(drop)
}

enum Part<'a> {
    Text(&'a str),
    Question,
    Context,
}

fn placeholders(template: &str) -> Result<Vec<Part<'_>>, PromptError> {
    let mut parts = Vec::new();
    let (mut questions, mut contexts) = (0, 0);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let inside = &rest[open + 1..];
        let length = inside.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        if length == 0 || inside.as_bytes().get(length) != Some(&b'}') {
            parts.push(Part::Text(&rest[..=open]));
            rest = inside;
            continue;
        }
        parts.push(Part::Text(&rest[..open]));
        parts.push(match &inside[..length] {
            "question" => {
                questions += 1;
                Part::Question
            }
            "context" => {
                contexts += 1;
                Part::Context
            }
            unknown => return Err(PromptError::UnknownPlaceholder(unknown.to_owned())),
        });
        rest = &inside[length + 1..];
    }
    parts.push(Part::Text(rest));
    match (questions, contexts) {
        (0, _) => Err(PromptError::MissingPlaceholder("question")),
        (_, 0) => Err(PromptError::MissingPlaceholder("context")),
        // Twice the context would be twice the budget.
        (_, 2..) => Err(PromptError::RepeatedPlaceholder("context")),
        _ => Ok(parts),
    }
}

fn write_context(out: &mut String, passages: &[Passage], fence: &str) {
    for (index, passage) in passages.iter().enumerate() {
        if index > 0 {
            out.push_str("\n\n");
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "[{}]", index + 1);
        if let Some(title) = &passage.title {
            // On one line, so that a title cannot look like a fence.
            for word in without_fence(title, fence).split_whitespace() {
                out.push(' ');
                out.push_str(word);
            }
        }
        let content = without_fence(passage.content.trim(), fence);
        let _ = write!(out, "\n<{fence}>\n{content}\n</{fence}>");
    }
}

/// The text with every occurrence of the fence, in any case, replaced. The replacement is no part of a fence, so that
/// what remains on both sides cannot join to a new one.
pub(crate) fn without_fence(text: &str, fence: &str) -> String {
    let (lower_text, lower_fence) = (text.to_ascii_lowercase(), fence.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in lower_text.match_indices(&lower_fence) {
        out.push_str(&text[from..at]);
        out.push('…');
        from = at + fence.len();
    }
    out.push_str(&text[from..]);
    out
}

/// The answer without fence lines that the model copied: they mean nothing to the reader. A small model also makes up
/// fences like those it has seen, so any tag goes whose word is as long as the fence and made of hexadecimal digits.
pub fn strip_fences(answer: &str, fence: &str) -> String {
    drop_fence_tags(answer, fence).trim().to_owned()
}

fn drop_fence_tags(answer: &str, fence: &str) -> String {
    let mut out = String::with_capacity(answer.len());
    let mut rest = answer;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let length = fence_tag_bytes(rest.as_bytes(), fence).unwrap_or_else(|| {
            out.push('<');
            1
        });
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// The same for an answer that comes in pieces. What may become a fence tag is held back until it is one or not.
pub fn without_fences(pieces: impl Iterator<Item = String>, fence: String) -> impl Iterator<Item = String> {
    let mut held = String::new();
    let mut began = false;
    pieces.map(Some).chain([None]).filter_map(move |piece| {
        held.push_str(piece.as_deref().unwrap_or_default());
        let longest = fence.len() + "</>".len();
        let open = held.rfind('<').filter(|&open| piece.is_some() && held.len() - open < longest);
        let ready = held[..open.unwrap_or(held.len())].to_owned();
        held.drain(..ready.len());
        // White space at the ends is not part of the answer; at the end it is only known with what follows.
        let stripped = drop_fence_tags(&ready, &fence);
        let stripped = if began { stripped } else { stripped.trim_start().to_owned() };
        began |= !stripped.is_empty();
        (!stripped.is_empty()).then_some(stripped)
    })
}

/// The length of the fence tag, `<word>` or `</word>`, that `text` begins with.
fn fence_tag_bytes(text: &[u8], fence: &str) -> Option<usize> {
    let prefix = if text.starts_with(b"</") { 2 } else { 1 };
    let word = text.get(prefix..prefix + fence.len())?;
    let fenced = word.eq_ignore_ascii_case(fence.as_bytes()) || word.iter().all(u8::is_ascii_hexdigit);
    (fenced && text.get(prefix + fence.len()) == Some(&b'>')).then_some(prefix + fence.len() + 1)
}

/// The passages an answer cites, from 1, in order of first mention, each once: `[2]`, `[1][3]`, `[1, 2]`. Numbers of
/// passages that do not exist are left out.
pub fn citations(answer: &str, passages: usize) -> Vec<usize> {
    let mut cited: Vec<usize> = Vec::new();
    let mut seen = vec![false; passages];
    let mut rest = answer;
    while let Some(open) = rest.find('[') {
        rest = &rest[open + 1..];
        let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || b", ;".contains(byte)).count();
        let (inside, after) = rest.split_at(length);
        rest = after;
        if !after.starts_with(']') {
            continue;
        }
        for number in inside.split([',', ';', ' ']).filter_map(|number| number.parse::<usize>().ok()) {
            if let Some(seen @ false) = number.checked_sub(1).and_then(|index| seen.get_mut(index)) {
                *seen = true;
                cited.push(number);
            }
        }
    }
    cited
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
