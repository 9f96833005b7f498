//! Which words of a question select the rows that are ranked.

/// A word of a question and about how many rows have it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    pub rows: f64,
}

/// The words to select rows by: rarest first, while about `most_rows` rows have one of them; the rarest always.
/// Gives their places in `terms`, in order.
///
/// A row that has none of them can still be among the best by several commoner words. It is left out, as the price of
/// never reading a large part of the table; all words count in the score of the rows that are read.
pub fn selecting(terms: &[Term], most_rows: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..terms.len()).collect();
    order.sort_by(|&a, &b| terms[a].rows.total_cmp(&terms[b].rows).then(a.cmp(&b)));
    let mut rows = 0.0;
    let mut chosen: Vec<usize> = order
        .into_iter()
        .enumerate()
        .take_while(|&(place, term)| {
            rows += terms[term].rows.max(0.0);
            place == 0 || rows <= most_rows
        })
        .map(|(_, term)| term)
        .collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(rows: &[f64]) -> Vec<Term> {
        rows.iter().map(|&rows| Term { rows }).collect()
    }

    #[test]
    fn the_rarest_words_select_while_they_give_few_rows() {
        assert_eq!(selecting(&terms(&[5000.0, 3.0, 800.0, 900.0]), 1000.0), [1, 2]);
        assert_eq!(selecting(&terms(&[5000.0, 3.0, 800.0, 100.0]), 1000.0), [1, 2, 3]);
    }

    #[test]
    fn a_question_of_common_words_selects_by_the_rarest() {
        assert_eq!(selecting(&terms(&[50_000.0, 20_000.0]), 1000.0), [1]);
        assert_eq!(selecting(&[], 1000.0), Vec::<usize>::new());
    }
}
