//! The first tokens of a text, without tokenizing all of it.
//!
//! A model takes a few hundred tokens; a document may have a megabyte. Where the tokenizer treats what lies between
//! two spaces by itself, as BERT's does and those that mark words by a space before them, the tokens of a text up to a
//! space are the first tokens of the text. So a piece that is likely to suffice is tokenized, and a longer one where it was
//! not enough.

use crate::error::Result;
use crate::tokenizer::Tokenizer;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

/// Bytes of the first piece for each token wanted: several times what prose takes.
const BYTES_PER_TOKEN: usize = 16;
/// How much longer each next piece is.
const GROWTH: usize = 4;

/// Where a text can be cut without a change to the tokens before the cut.
#[derive(Clone, Copy)]
pub enum Cuts {
    /// Before white space; where it is said, after a Chinese character, too.
    Bert { after_chinese: bool },
    /// Before a space that follows a letter, a digit or punctuation: what the space begins is another word, whatever
    /// characters before it are composed to.
    Words,
}

impl Cuts {
    /// `None` where this is not known to be possible.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let inner = tokenizer.inner();
        // A token of the user's own could span a space.
        let spaces = |token: &tokenizers::AddedToken| token.content.contains([' ', '\t', '\n', '\r']);
        if inner.get_added_tokens_decoder().values().any(spaces) {
            return None;
        }
        match (inner.get_pre_tokenizer()?, inner.get_normalizer()) {
            (PreTokenizerWrapper::BertPreTokenizer(_), None) => Some(Self::Bert { after_chinese: false }),
            (PreTokenizerWrapper::BertPreTokenizer(_), Some(NormalizerWrapper::BertNormalizer(normalizer))) => {
                Some(Self::Bert { after_chinese: normalizer.handle_chinese_chars })
            }
            (splitter, normalizer) => {
                (splits_words(splitter) && normalizer.is_none_or(keeps_words_apart)).then_some(Self::Words)
            }
        }
    }

    /// The longest piece of at most `bytes` bytes that ends at a cut. Only the four kinds of white space that no
    /// normalisation removes count, and only the Chinese characters of the main block, which none changes.
    fn piece(self, text: &str, bytes: usize) -> Option<&str> {
        let piece = &text[..text.floor_char_boundary(bytes)];
        match self {
            Self::Bert { after_chinese } => piece.char_indices().rev().find_map(|(at, character)| match character {
                ' ' | '\t' | '\n' | '\r' => Some(&piece[..at]),
                '\u{4e00}'..='\u{9fff}' if after_chinese => Some(&piece[..at + character.len_utf8()]),
                _ => None,
            }),
            Self::Words => piece.rmatch_indices(' ').map(|(at, _)| &piece[..at]).find(|piece| {
                piece.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last.is_ascii_punctuation())
            }),
        }
    }
}

/// Whether words that a space begins are tokenized one by one.
fn splits_words(splitter: &PreTokenizerWrapper) -> bool {
    match splitter {
        PreTokenizerWrapper::Metaspace(metaspace) => metaspace.get_split(),
        PreTokenizerWrapper::ByteLevel(bytes) => bytes.use_regex,
        PreTokenizerWrapper::Sequence(parts) => {
            let parts: &[PreTokenizerWrapper] = parts.as_ref();
            matches!(parts.first(), Some(PreTokenizerWrapper::WhitespaceSplit(_)))
                && parts[1..].iter().all(splits_words)
        }
        _ => false,
    }
}

/// Whether a normalizer makes of a word and of what follows its space what it would make of each.
fn keeps_words_apart(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::NFC(_) | NormalizerWrapper::NFKC(_) | NormalizerWrapper::Precompiled(_) => true,
        NormalizerWrapper::Lowercase(_) | NormalizerWrapper::BertNormalizer(_) => true,
        NormalizerWrapper::Replace(replace) => {
            // SentencePiece: several spaces are one.
            serde_json::to_value(replace).is_ok_and(|it| it["pattern"]["Regex"] == " {2,}" && it["content"] == " ")
        }
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().all(keeps_words_apart),
        _ => false,
    }
}

/// The first `count` token ids of `text`, which is lower-cased before if asked for; fewer if it has fewer.
pub fn leading_ids(
    tokenizer: &Tokenizer,
    cuts: Option<Cuts>,
    text: &str,
    lower_case: bool,
    count: usize,
) -> Result<Vec<u32>> {
    let encode = |text: &str| match lower_case {
        true => tokenizer.encode_ids(&text.to_lowercase(), false),
        false => tokenizer.encode_ids(text, false),
    };
    if let Some(cuts) = cuts {
        let mut bytes = count.saturating_mul(BYTES_PER_TOKEN);
        while bytes < text.len() {
            if let Some(piece) = cuts.piece(text, bytes) {
                let mut ids = encode(piece)?;
                if ids.len() >= count {
                    ids.truncate(count);
                    return Ok(ids);
                }
            }
            bytes = bytes.saturating_mul(GROWTH);
        }
    }
    let mut ids = encode(text)?;
    ids.truncate(count);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokenizer(normalizer: &str, pre_tokenizer: &str, added: &str) -> Tokenizer {
        let words = ["[UNK]", "a", "##a", "b", "##b", "ab", "##ab", "é", "数", "据", "-", "σ", "ς", "##ς", "x"];
        let vocabulary: std::collections::HashMap<_, _> = words.iter().zip(0..).collect();
        let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": parse(&format!("[{added}]")),
            "normalizer": parse(normalizer), "pre_tokenizer": {"type": pre_tokenizer}, "post_processor": null,
            "decoder": null, "model": {"type": "WordPiece", "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 5, "vocab": vocabulary},
        });
        Tokenizer::from_tokenizers(tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap()).unwrap()
    }

    const BERT: &str = r#"{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": true}"#;

    proptest! {
        #[test]
        fn the_first_ids_are_those_of_the_whole_text(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b", "ab", "aab", "ababab", " ", "  ", "\n", "\t", "\u{85}", "\u{a0}", "\u{200b}", "\u{2028}",
                    "e\u{301}", "\u{301}", "é", "数", "据", "-", "Σ", "x", "İ",
                ]),
                0..400,
            ),
            count in 1_usize..6,
            lower_case: bool,
            with_normalizer: bool,
        ) {
            let tokenizer = tokenizer(if with_normalizer { BERT } else { "null" }, "BertPreTokenizer", "");
            let cuts = Cuts::of(&tokenizer);
            prop_assert!(cuts.is_some());
            let text = pieces.concat();
            let mut whole = leading_ids(&tokenizer, None, &text, lower_case, usize::MAX).unwrap();
            whole.truncate(count);
            prop_assert_eq!(leading_ids(&tokenizer, cuts, &text, lower_case, count).unwrap(), whole);
        }
    }

    #[test]
    fn only_the_beginning_of_a_long_text_is_looked_at() {
        let tokenizer = tokenizer(BERT, "BertPreTokenizer", "");
        let cuts = Cuts::of(&tokenizer).unwrap();
        assert_eq!(cuts.piece("ab a b", 4), Some("ab"));
        assert_eq!(cuts.piece("ab数据a b", 8), Some("ab数据"));
        assert_eq!(cuts.piece("ab数据a b", 7), Some("ab数"));
        assert_eq!(cuts.piece("ababababab", 8), None);
        assert_eq!(Cuts::Words.piece("ab a  \u{301} b", 9), Some("ab a"));
        assert_eq!(Cuts::Words.piece("ab\ta\nb", 7), None);
    }

    #[test]
    fn other_tokenizers_see_the_whole_text() {
        assert!(Cuts::of(&tokenizer(BERT, "Punctuation", "")).is_none());
        assert!(Cuts::of(&tokenizer(r#"{"type": "NFD"}"#, "WhitespaceSplit", "")).is_none());
        assert!(Cuts::of(&tokenizer(r#"{"type": "NFC"}"#, "BertPreTokenizer", "")).is_none());
        let added = r#"{"id": 15, "content": "a b", "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": true, "special": false}"#;
        assert!(Cuts::of(&tokenizer(BERT, "BertPreTokenizer", added)).is_none());
    }
}
