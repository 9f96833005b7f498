//! How much of a budget a part of the text takes.
//!
//! The text is tokenised once, as a whole; every question after that is a look-up in sorted offsets. A part that is
//! tokenised by itself can come out a token or so different at its edges: budgets for a model with a hard limit leave
//! room for that and for the model's special tokens.

use std::ops::Range;

/// Sizes of parts of one text. Implementations are monotone: a part of a part is never larger.
pub trait Measure {
    /// The size of a byte range.
    fn size(&self, range: Range<usize>) -> usize;

    /// The furthest byte `end` with `size(start..end) <= budget`. It need not be a character boundary, and can be past
    /// the end of the text if all of it fits.
    fn furthest_end(&self, start: usize, budget: usize) -> usize;
}

/// Bytes between two entries of the character index.
const STRIDE_BYTES: usize = 64;

/// Counts Unicode characters (scalar values, as PostgreSQL's `length` does in a UTF-8 database).
pub struct CharMeasure<'a> {
    bytes: &'a [u8],
    /// Characters that start before byte `i * STRIDE_BYTES`.
    counts: Vec<u32>,
}

impl<'a> CharMeasure<'a> {
    /// Indexes the text; at most `u32::MAX` bytes of it are counted.
    pub fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut counts = Vec::with_capacity(bytes.len() / STRIDE_BYTES + 1);
        let mut total = 0u32;
        for stride in bytes.chunks(STRIDE_BYTES) {
            counts.push(total);
            total = total.saturating_add(char_starts(stride) as u32);
        }
        counts.push(total);
        CharMeasure { bytes, counts }
    }

    /// The number of characters before a byte offset that is a character boundary.
    pub fn chars_before(&self, byte: usize) -> usize {
        let byte = byte.min(self.bytes.len());
        let stride = byte / STRIDE_BYTES;
        self.counts[stride] as usize + char_starts(&self.bytes[stride * STRIDE_BYTES..byte])
    }
}

fn char_starts(bytes: &[u8]) -> usize {
    // A byte of the form 10xxxxxx continues a character.
    bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

impl Measure for CharMeasure<'_> {
    fn size(&self, range: Range<usize>) -> usize {
        self.chars_before(range.end).saturating_sub(self.chars_before(range.start))
    }

    fn furthest_end(&self, start: usize, budget: usize) -> usize {
        let target = self.chars_before(start).saturating_add(budget);
        // The last stride that begins with at most `target` characters holds the start of character `target`.
        let stride = self.counts.partition_point(|&count| count as usize <= target) - 1;
        let from = (stride * STRIDE_BYTES).min(self.bytes.len());
        let mut left = target - self.counts[stride] as usize;
        for (index, byte) in self.bytes[from..].iter().enumerate() {
            if byte & 0xc0 != 0x80 {
                if left == 0 {
                    return from + index;
                }
                left -= 1;
            }
        }
        self.bytes.len()
    }
}

/// Counts the tokens of a model that touch a range.
pub struct TokenMeasure {
    starts: Vec<u32>,
    ends: Vec<u32>,
}

impl TokenMeasure {
    /// From the byte offsets of each token in the text. Tokens with an empty range, as special tokens have, are left
    /// out; so is whatever one list has more than the other.
    pub fn new(starts: Vec<u32>, ends: Vec<u32>) -> Self {
        let (mut starts, mut ends): (Vec<u32>, Vec<u32>) =
            starts.into_iter().zip(ends).filter(|(start, end)| start < end).unzip();
        // Only counts of starts and of ends are ever asked for, so each list may be sorted by itself. Tokenizers give
        // them sorted, for which this is one pass.
        starts.sort_unstable();
        ends.sort_unstable();
        TokenMeasure { starts, ends }
    }
}

impl Measure for TokenMeasure {
    fn size(&self, range: Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        let begun = self.starts.partition_point(|&start| (start as usize) < range.end);
        let finished = self.ends.partition_point(|&end| end as usize <= range.start);
        begun.saturating_sub(finished)
    }

    fn furthest_end(&self, start: usize, budget: usize) -> usize {
        let finished = self.ends.partition_point(|&end| end as usize <= start);
        match self.starts.get(finished.saturating_add(budget)) {
            Some(&first_too_many) => (first_too_many as usize).max(start),
            None => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_counted_by_overlap_and_special_tokens_are_not() {
        // [CLS] "ab" "c" (gap) "def" [SEP]
        let measure = TokenMeasure::new(vec![0, 0, 2, 4, 0], vec![0, 2, 3, 7, 0]);
        assert_eq!(measure.size(0..7), 3);
        assert_eq!(measure.size(3..4), 0);
        assert_eq!(measure.size(1..3), 2);
        assert_eq!(measure.size(5..5), 0);
        assert_eq!(measure.furthest_end(0, 2), 4);
        assert!(measure.furthest_end(0, 3) >= 7);
        assert_eq!(measure.furthest_end(4, 0), 4);
        assert!(measure.furthest_end(0, usize::MAX) >= 7);
    }

    #[test]
    fn several_tokens_in_one_character_all_count() {
        let measure = TokenMeasure::new(vec![0, 0, 0, 4], vec![4, 4, 4, 5]);
        assert_eq!(measure.size(0..4), 3);
        assert_eq!(measure.furthest_end(0, 2), 0);
        assert_eq!(measure.furthest_end(0, 3), 4);
    }

    proptest! {
        #[test]
        fn characters_are_counted_as_the_standard_library_counts_them(text in "\\PC{0,300}", a in any::<u16>(), b in 0usize..400) {
            let measure = CharMeasure::new(&text);
            let offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let index = usize::from(a) % offsets.len();
            prop_assert_eq!(measure.size(0..offsets[index]), index);
            prop_assert_eq!(measure.size(offsets[index]..text.len()), offsets.len() - 1 - index);
            let expected = offsets.get(index + b).copied().unwrap_or(text.len());
            prop_assert_eq!(measure.furthest_end(offsets[index], b), expected);
        }
    }
}
