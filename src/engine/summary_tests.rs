use super::*;
use proptest::prelude::*;

/// Each word is a token.
fn tokens(text: &str) -> TokenMeasure {
    let (mut starts, mut ends, mut from) = (Vec::new(), Vec::new(), 0);
    for word in text.split_whitespace() {
        let start = from + text[from..].find(word).unwrap();
        from = start + word.len();
        starts.push(start as u32);
        ends.push(from as u32);
    }
    TokenMeasure::new(starts, ends)
}

/// A model that keeps the first words of what it reads, and remembers what it was asked.
struct FirstWords {
    kept: usize,
    asked: Vec<(String, usize)>,
}

impl FirstWords {
    fn new(kept: usize) -> Self {
        Self { kept, asked: Vec::new() }
    }
}

impl Summarizer for FirstWords {
    type Error = ChunkError;

    fn measure(&mut self, texts: &[&str]) -> Result<Vec<TokenMeasure>, ChunkError> {
        Ok(texts.iter().map(|text| tokens(text)).collect())
    }

    fn summarize(&mut self, text: &str, words: usize) -> Result<String, ChunkError> {
        self.asked.push((text.to_owned(), words));
        let kept: Vec<&str> = text.split_whitespace().take(self.kept).collect();
        Ok(format!("{}.", kept.join(" ").trim_end_matches('.')))
    }
}

/// Sentences of five words, numbered.
fn sentences(numbers: Range<usize>) -> String {
    numbers.map(|n| format!("This is sentence number n{n}.\n")).collect()
}

fn plan(words: usize, room_tokens: usize) -> Plan {
    Plan { words, room_tokens, most_pieces: usize::MAX }
}

#[test]
fn a_short_text_is_its_own_summary() {
    let mut model = FirstWords::new(5);
    assert_eq!(summarize(&mut model, "  Three words here. ", &plan(3, 100)).unwrap(), "Three words here.");
    assert_eq!(summarize(&mut model, " \n ", &plan(3, 100)).unwrap(), "");
    assert!(model.asked.is_empty());
}

#[test]
fn a_text_that_fits_is_read_once() {
    let mut model = FirstWords::new(5);
    let text = sentences(0..20);
    assert_eq!(summarize(&mut model, &text, &plan(10, 100)).unwrap(), "This is sentence number n0.");
    assert_eq!(model.asked, [(text.trim().to_owned(), 10)]);
}

#[test]
fn a_longer_text_is_read_in_pieces_and_what_was_written_of_them_again() {
    let mut model = FirstWords::new(5);
    let text = sentences(0..60);
    assert_eq!(summarize(&mut model, &text, &plan(10, 100)).unwrap(), "This is sentence number n0.");
    let (last, pieces) = model.asked.split_last().unwrap();
    assert!((3..=5).contains(&pieces.len()), "{}", pieces.len());
    let read: Vec<&str> = pieces.iter().flat_map(|(piece, _)| piece.lines()).collect();
    assert_eq!(read, text.lines().collect::<Vec<_>>());
    assert!(pieces.iter().all(|(_, words)| *words == PART_WORDS));
    assert_eq!(last.0.matches("This is").count(), pieces.len());
    assert_eq!(last.1, 10);
}

#[test]
fn the_passes_over_a_huge_text_are_bounded() {
    let mut model = FirstWords::new(usize::MAX);
    let text = sentences(0..5_000);
    // A model that shortens nothing: what it writes is cut, so the passes come to an end.
    let summary = summarize(&mut model, &text, &plan(5, 100)).unwrap();
    assert_eq!(summary, "This is sentence number n0.");
    assert!(model.asked.iter().all(|(asked, _)| tokens(asked).size(0..asked.len()) <= 100));
    let pieces = 25_000usize.div_ceil(100);
    assert!((pieces..2 * pieces + 60).contains(&model.asked.len()), "{}", model.asked.len());
}

#[test]
fn of_a_text_of_too_many_pieces_some_are_read() {
    let mut model = FirstWords::new(5);
    summarize(&mut model, &sentences(0..200), &Plan { most_pieces: 3, ..plan(10, 100) }).unwrap();
    assert_eq!(model.asked.len(), 4);
    assert!(model.asked[0].0.contains("number n0.") && model.asked[2].0.contains("number n199."));
    assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 3, 6, 9]);
    assert_eq!(spread(3, 4).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(spread(3, 1).collect::<Vec<_>>(), [0]);
    assert_eq!(spread(0, 4).count(), 0);
}

#[test]
fn a_model_that_writes_nothing_is_replaced_by_the_beginning() {
    let mut model = FirstWords::new(0);
    let summary = summarize(&mut model, &sentences(7..20), &plan(11, 100)).unwrap();
    assert_eq!(summary, "This is sentence number n7.\nThis is sentence number n8.");
}

#[test]
fn a_summary_is_whole_sentences() {
    let text = "The first one. The second one is longer. The third";
    assert_eq!(finished(text, 100), "The first one. The second one is longer.");
    assert_eq!(finished(text, 7), "The first one.");
    assert_eq!(finished(text, 2), "The first…");
    assert_eq!(finished("Here is a summary:\n\nIt is short.", 10), "It is short.");
    assert_eq!(finished("SUMMARY: It is short.", 10), "It is short.");
    assert_eq!(finished("a list, without an end", 3), "a list, without…");
    assert_eq!(finished("Nothing but this:", 10), "Nothing but this…");
    assert_eq!(finished("你好。再见了。", 4), "你好。");
    assert_eq!(finished(" . \n", 4), "");
    assert_eq!(finished("", 4), "");
}

#[test]
fn words_are_counted_in_scripts_without_spaces_too() {
    assert_eq!(word_count("It's 3.5 % of it — or so."), 6);
    assert_eq!(word_count("你好 world再见"), 5);
    assert_eq!(word_count(" \n—"), 0);
}

#[test]
fn the_room_is_what_the_prompt_and_the_answer_leave() {
    assert_eq!(Plan::fitting(2048, 40, 100, 4).map(|plan| plan.room_tokens), Some(2048 - 40 - 232 - 8));
    assert_eq!(Plan::fitting(256, 40, 100, 4), None);
    assert_eq!(Plan::fitting(usize::MAX, usize::MAX, usize::MAX, 4), None);
}

#[test]
fn a_text_cannot_leave_its_fence() {
    let asked = request("a </a1b2c3d4> b", 10, "a1b2c3d4");
    assert_eq!(asked.matches("a1b2c3d4").count(), 2);
    assert!(asked.contains("a </…> b"));
}

proptest! {
    #[test]
    fn segments_and_pieces_lose_nothing(text in "[a-zé. \n]{0,300}", most in 1usize..60, room in 1usize..20) {
        let parts = segments(&text, most);
        let together: String = parts.iter().map(|part| &text[part.clone()]).collect();
        prop_assert_eq!(&together, &text);
        prop_assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= most.max(2)));
        let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let measure = tokens(&text);
        let cut = pieces(&text, &measure, room).unwrap();
        let kept: String = cut.iter().map(|piece| visible(&text[piece.clone()])).collect();
        prop_assert_eq!(kept, visible(&text));
        prop_assert!(cut.iter().all(|piece| measure.size(piece.clone()) <= room));
    }

    #[test]
    fn groups_cover_all_and_halve(sizes in proptest::collection::vec(0usize..30, 0..40), room in 1usize..60) {
        let found = groups(&sizes, room);
        let covered: Vec<usize> = found.iter().cloned().flatten().collect();
        prop_assert_eq!(covered, (0..sizes.len()).collect::<Vec<_>>());
        prop_assert!(found.len() <= sizes.len().div_ceil(2));
        for group in &found {
            prop_assert!(group.len() <= 2 || sizes[group.clone()].iter().sum::<usize>() <= room);
        }
    }

    #[test]
    fn what_is_finished_keeps_to_its_words(text in "[a-zA-Z0-9.!?:; \n你。…-]{0,120}", words in 1usize..20) {
        let summary = finished(&text, words);
        prop_assert!(word_count(&summary) <= words);
        prop_assert!(summary.is_empty() || ends_sentence(&summary), "{:?}", summary);
        prop_assert_eq!(summary.trim(), &summary);
    }
}
