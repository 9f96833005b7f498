//! From a stream of token ids to a stream of text.
//!
//! What has been handed out is never taken back: a character whose bytes are spread over tokens comes when it is
//! complete, and text that may turn out to be the start of a stop text is held until that is decided. A stream of whole
//! sentences hands out a sentence when it is complete, so that an answer that is cut at a limit can end with one.

use super::sentence::last_sentence_end;
use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;

/// A character has at most four bytes, so as many tokens without a whole character in the end are not text.
const MOST_INCOMPLETE_TOKENS: usize = 4;

#[derive(Default)]
pub struct TextStream {
    stops: Vec<String>,
    whole_sentences: bool,
    /// Tokens whose text is known (`..read`), kept as context for decoding the ones behind them.
    ids: Vec<u32>,
    read: usize,
    /// Text that may be the start of a stop text.
    held: String,
    text: String,
}

impl TextStream {
    /// Errors: `InvalidArgument` for an empty stop text, which would stop everything.
    pub fn new(stops: Vec<String>, whole_sentences: bool) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            return Err(ModelError::InvalidArgument("a stop text must not be empty".into()));
        }
        Ok(Self { stops, whole_sentences, ..Self::default() })
    }

    /// All text handed out so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the next token; returns new text and whether a stop text was reached, which is not part of it.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<(String, bool)> {
        self.ids.push(id);
        let known = tokenizer.decode(&self.ids[..self.read], true)?;
        let all = tokenizer.decode(&self.ids, true)?;
        let incomplete = all.ends_with('\u{fffd}') && self.ids.len() - self.read < MOST_INCOMPLETE_TOKENS;
        if incomplete {
            return Ok((String::new(), false));
        }
        // Decoders that treat the first token differently do so in both texts, so the difference is the new text.
        self.held.push_str(all.get(known.len()..).unwrap_or_default());
        self.ids.drain(..self.read);
        self.read = self.ids.len();
        let stop = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        let ready = stop.unwrap_or_else(|| {
            let decided = self.held.len() - self.undecided();
            match self.whole_sentences {
                true => last_sentence_end(&self.held[..decided], false).unwrap_or(0),
                false => decided,
            }
        });
        let out: String = self.held.drain(..ready).collect();
        if stop.is_some() {
            self.held.clear();
        }
        self.text.push_str(&out);
        Ok((out, stop.is_some()))
    }

    /// Ends the stream without a stop text: what was held is text after all. Bytes of an incomplete character are
    /// dropped. `cut` says that the text was to go on; a stream of whole sentences then drops an incomplete one, unless
    /// it is all there is.
    pub fn finish(&mut self, cut: bool) -> String {
        let mut out = std::mem::take(&mut self.held);
        if cut && self.whole_sentences {
            match last_sentence_end(&out, true) {
                Some(end) => out.truncate(end),
                None if self.text.is_empty() => {}
                None => out.clear(),
            }
        }
        self.text.push_str(&out);
        out
    }

    /// Bytes at the end of the held text that could be the start of a stop text.
    fn undecided(&self) -> usize {
        let longest = |stop: &String| {
            let starts = stop.char_indices().map(|(at, _)| at).skip(1);
            starts.filter(|&at| self.held.ends_with(&stop[..at])).max().unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::models::bpe::{Vocab, BPE};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    /// One token per byte.
    fn bytes() -> Tokenizer {
        let vocab: Vocab = ByteLevel::alphabet().into_iter().map(String::from).zip(0..).collect();
        let bpe = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap();
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
        Tokenizer::from_tokenizers(tokenizer).unwrap()
    }

    fn stream(text: &str, stops: &[&str]) -> (Vec<String>, String, bool) {
        stream_of(text, stops, false, false)
    }

    fn stream_of(text: &str, stops: &[&str], whole_sentences: bool, cut: bool) -> (Vec<String>, String, bool) {
        let tokenizer = bytes();
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = TextStream::new(stops, whole_sentences).unwrap();
        let mut parts = Vec::new();
        for id in tokenizer.encode_ids(text, false).unwrap() {
            let (part, stopped) = stream.push(&tokenizer, id).unwrap();
            parts.push(part);
            if stopped {
                assert_eq!(parts.concat(), stream.text());
                return (parts, stream.text().to_owned(), true);
            }
        }
        parts.push(stream.finish(cut));
        assert_eq!(parts.concat(), stream.text());
        (parts, stream.text().to_owned(), false)
    }

    #[test]
    fn characters_are_never_split() {
        let (parts, text, _) = stream("aé漢🐘z", &[]);
        assert_eq!(text, "aé漢🐘z");
        assert_eq!(parts, ["a", "", "é", "", "", "漢", "", "", "", "🐘", "z", ""]);
    }

    #[test]
    fn stop_text_ends_the_stream_and_is_not_part_of_it() {
        let (parts, text, stopped) = stream("one\n\ntwo", &["\n\n", "never"]);
        assert!(stopped);
        assert_eq!((text.as_str(), parts.last().unwrap().as_str()), ("one", ""));
        assert_eq!(stream("漢é漢!", &["é漢"]).1, "漢");
    }

    #[test]
    fn text_that_may_become_a_stop_is_held_and_released() {
        let (parts, text, stopped) = stream("xaabaac", &["aabaab"]);
        assert!(!stopped);
        assert_eq!(text, "xaabaac");
        assert_eq!(parts, ["x", "", "", "", "", "", "aabaac", ""]);
        assert_eq!(stream("ends in a", &["ab"]).1, "ends in a");
        assert_eq!(stream("aaab", &["aab"]).1, "a");
    }

    #[test]
    fn the_earliest_stop_counts() {
        assert_eq!(stream("abcdef", &["f", "def", "cdef"]).1, "ab");
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hold_the_stream_forever() {
        let tokenizer = bytes();
        let continuation = *tokenizer.encode_ids("é", false).unwrap().last().unwrap();
        let mut stream = TextStream::new(Vec::new(), false).unwrap();
        for _ in 0..8 {
            stream.push(&tokenizer, continuation).unwrap();
        }
        let letter = tokenizer.encode_ids("k", false).unwrap()[0];
        stream.push(&tokenizer, letter).unwrap();
        assert!(stream.text().starts_with('\u{fffd}') && stream.text().ends_with('k'), "{}", stream.text());
    }

    #[test]
    fn whole_sentences_are_handed_out_one_by_one_and_an_incomplete_one_is_dropped_at_a_limit() {
        let (parts, text, _) = stream_of("One is. Two was! Thr", &[], true, true);
        let parts: Vec<_> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        assert_eq!((parts, text.as_str()), (vec!["One is.", " Two was!"], "One is. Two was!"));
        assert_eq!(stream_of("One. Two was", &[], true, false).1, "One. Two was");
        assert_eq!(stream_of("no sentence at all", &[], true, true).1, "no sentence at all");
        assert_eq!(stream_of("One. Two.", &[], true, true).1, "One. Two.");
        assert_eq!(stream_of("One. Two STOP", &["STOP"], true, true).1, "One. Two ");
        assert_eq!(stream_of("One. Tw", &[], false, true).1, "One. Tw");
    }

    #[test]
    fn empty_stop_text_is_refused() {
        assert!(matches!(TextStream::new(vec![String::new()], false), Err(ModelError::InvalidArgument(_))));
    }
}
