//! BM25: how well a text answers a few words (Robertson, Walker: Okapi at TREC-3, 1994; the form of the weight of rare
//! words that is never negative, as in Lucene).
//!
//! `score = Σ idf(t) · tf · (k1 + 1) / (tf + k1 · (1 - b + b · length / mean length))`, where `tf` is how often the word
//! occurs in the text, and `idf(t) = ln(1 + (n - df + 0.5) / (df + 0.5))` for a word in `df` of `n` texts.

/// How fast a further occurrence of a word counts less.
const K1: f64 = 1.2;
/// How much a long text is held against it.
const B: f64 = 0.75;

/// The weight of a word that `having` of `texts` have.
pub fn idf(texts: f64, having: f64) -> f64 {
    let texts = texts.max(1.0);
    let having = having.clamp(0.0, texts);
    (1.0 + (texts - having + 0.5) / (having + 0.5)).ln()
}

/// The score of one text: for each word of the question its weight and how often the text has it.
pub fn score(words: impl IntoIterator<Item = (f64, u32)>, length: f64, mean_length: f64) -> f64 {
    let relative = if mean_length > 0.0 { length / mean_length } else { 1.0 };
    let damping = K1 * (1.0 - B + B * relative);
    let of_word = |(weight, count): (f64, u32)| {
        let count = f64::from(count);
        weight * count * (K1 + 1.0) / (count + damping)
    };
    words.into_iter().filter(|&(_, count)| count > 0).map(of_word).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_weigh_more_and_none_weighs_nothing() {
        assert!(idf(1000.0, 1.0) > idf(1000.0, 10.0));
        assert!(idf(1000.0, 999.0) > 0.0);
        assert!((idf(1000.0, 1000.0) - (1.0f64 + 0.5 / 1000.5).ln()).abs() < 1e-12);
        // More texts than there are: a statistic may be old.
        assert_eq!(idf(10.0, 50.0), idf(10.0, 10.0));
        assert!(idf(0.0, 0.0).is_finite());
    }

    #[test]
    fn the_score_is_that_of_the_formula() {
        // Two words: weights 2 and 1, three and one occurrences, in a text half as long as the mean.
        let damping = 1.2 * (0.25 + 0.75 * 0.5);
        let expected = 2.0 * 3.0 * 2.2 / (3.0 + damping) + 2.2 / (1.0 + damping);
        assert!((score([(2.0, 3), (1.0, 1), (5.0, 0)], 50.0, 100.0) - expected).abs() < 1e-12);
        assert_eq!(score([(1.0, 0)], 50.0, 100.0), 0.0);
        assert!(score([(1.0, 1)], 10.0, 0.0).is_finite());
    }

    #[test]
    fn a_shorter_text_with_as_many_of_the_words_is_better() {
        assert!(score([(1.0, 2)], 20.0, 100.0) > score([(1.0, 2)], 200.0, 100.0));
    }
}
