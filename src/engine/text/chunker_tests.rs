use super::super::measure::TokenMeasure;
use super::*;
use proptest::prelude::{prop, prop_oneof, proptest, ProptestConfig};
// Not under its own name, which is that of the chunking strategy.
use crate::test_scale::scaled;
use proptest::strategy::Strategy as Generate;

fn options(strategy: Strategy, size: usize, overlap: usize) -> ChunkOptions {
    ChunkOptions { strategy, size, overlap }
}

fn by_chars(text: &str, strategy: Strategy, size: usize, overlap: usize) -> Vec<Chunk> {
    chunk(text, &CharMeasure::new(text), &options(strategy, size, overlap)).unwrap()
}

fn contents<'a>(text: &'a str, chunks: &[Chunk]) -> Vec<&'a str> {
    chunks.iter().map(|chunk| &text[chunk.range.clone()]).collect()
}

/// Tokens as a byte-level tokenizer gives them: a word in pieces of up to three characters, or for a character outside
/// the Basic Multilingual Plane three tokens that each carry the range of the whole character.
fn tokens(text: &str) -> TokenMeasure {
    let (mut starts, mut ends) = (vec![0], vec![0]);
    let mut open = 0;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            open = 0;
        } else if c.len_utf8() == 4 {
            starts.extend([at as u32; 3]);
            ends.extend([(at + 4) as u32; 3]);
            open = 0;
        } else if open == 0 {
            starts.push(at as u32);
            ends.push((at + c.len_utf8()) as u32);
            open = 2;
        } else {
            *ends.last_mut().unwrap() = (at + c.len_utf8()) as u32;
            open -= 1;
        }
    }
    TokenMeasure::new(starts, ends)
}

/// Every guarantee that the module states.
fn assert_guarantees(text: &str, measure: &dyn Measure, options: &ChunkOptions) {
    let chunks = chunk(text, measure, options).unwrap();
    assert_eq!(chunks.is_empty(), text.trim().is_empty());
    let mut covered = 0;
    let mut chars = (0, 0);
    let mut previous: Option<&Chunk> = None;
    for chunk in &chunks {
        let content = &text[chunk.range.clone()];
        assert!(!content.is_empty() && content == content.trim(), "{content:?} is not trimmed");
        assert_eq!(chunk.size, measure.size(chunk.range.clone()));
        assert!(chunk.size <= options.size || content.chars().count() == 1, "{content:?} is larger than the budget");
        if chunk.range.start > covered {
            assert!(text[covered..chunk.range.start].trim().is_empty(), "a gap before {content:?}");
        }
        if let Some(previous) = previous {
            assert!(chunk.range.start > previous.range.start && chunk.range.end > previous.range.end);
            let repeated = chunk.range.start.min(previous.range.end)..previous.range.end;
            assert!(measure.size(repeated) <= options.overlap);
        }
        covered = chunk.range.end;
        // Counted onward from the chunk before, so that the check itself is linear.
        let (byte, count) = chars;
        let start = if byte <= chunk.range.start {
            count + text[byte..chunk.range.start].chars().count()
        } else {
            count - text[chunk.range.start..byte].chars().count()
        };
        assert_eq!(chunk.char_range, start..start + content.chars().count());
        chars = (chunk.range.start, start);
        previous = Some(chunk);
    }
    assert!(text[covered..].trim().is_empty());
}

const STRATEGIES: [Strategy; 3] = [Strategy::Recursive, Strategy::Sentence, Strategy::Markdown];

#[test]
fn options_are_validated() {
    let error = |size, overlap| {
        chunk("x", &CharMeasure::new("x"), &options(Strategy::Recursive, size, overlap)).unwrap_err().to_string()
    };
    assert_eq!(error(0, 0), "chunk size must be at least 1, not 0");
    assert_eq!(error(10, 10), "chunk overlap must be less than the chunk size of 10, not 10");
}

#[test]
fn whitespace_gives_no_chunk_and_a_short_text_gives_one() {
    for strategy in STRATEGIES {
        assert!(by_chars("", strategy, 10, 2).is_empty());
        assert!(by_chars(" \n\t\u{a0}\n", strategy, 10, 2).is_empty());
        assert_eq!(contents("  a b \n", &by_chars("  a b \n", strategy, 10, 2)), ["a b"]);
    }
}

#[test]
fn a_paragraph_end_in_the_second_half_beats_later_sentences() {
    let text = "First paragraph of the text.\n\nSecond one. It has several sentences. And more.";
    let chunks = by_chars(text, Strategy::Recursive, 45, 0);
    assert_eq!(
        contents(text, &chunks),
        ["First paragraph of the text.", "Second one. It has several sentences.", "And more."]
    );
}

#[test]
fn sentences_are_filled_whole_and_a_long_one_is_cut_at_a_word() {
    let text = "One two. Three four. Five six seven eight nine ten eleven twelve. End.";
    let chunks = by_chars(text, Strategy::Sentence, 22, 0);
    assert_eq!(
        contents(text, &chunks),
        ["One two. Three four.", "Five six seven eight", "nine ten eleven", "twelve. End."]
    );
}

#[test]
fn overlap_repeats_whole_sentences_or_else_words() {
    let text = "Alpha beta gamma. Delta ends. Epsilon zeta eta theta. Iota.";
    let chunks = by_chars(text, Strategy::Sentence, 36, 12);
    assert_eq!(
        contents(text, &chunks),
        ["Alpha beta gamma. Delta ends.", "Delta ends. Epsilon zeta eta theta.", "eta theta. Iota."]
    );
}

#[test]
fn a_scrap_at_the_end_takes_from_the_chunk_before() {
    let text = vec!["word"; 21].join(" ");
    let sizes: Vec<usize> = by_chars(&text, Strategy::Recursive, 100, 0).iter().map(|chunk| chunk.size).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes[1] >= 24, "{sizes:?}");
}

#[test]
fn markdown_chunks_do_not_cross_sections_and_carry_their_headings() {
    let body = "A sentence of the section that fills it well. ".repeat(3);
    let text = format!("# Indexes\n\n{body}\n\n## Partial Indexes\n\n{body}\n\n## Covering\n\n{body}");
    let chunks = by_chars(&text, Strategy::Markdown, 200, 30);
    let headings: Vec<String> = chunks.iter().map(|chunk| chunk.headings.join(" / ")).collect();
    assert_eq!(headings, ["Indexes", "Indexes / Partial Indexes", "Indexes / Covering"]);
    assert!(contents(&text, &chunks).iter().all(|content| content.starts_with('#')));
}

#[test]
fn markdown_merges_small_sections_but_not_into_a_higher_one() {
    let text = "# A\n\n## B\n\nb\n\n## C\n\nc\n\n# D\n\nd";
    let chunks = by_chars(text, Strategy::Markdown, 200, 0);
    // A, B and C are small and below A; D is of A's level: a sibling.
    assert_eq!(contents(text, &chunks), [text]);
    assert_eq!(chunks[0].headings, ["A", "B"]);

    let text = "## C\n\nc\n\n# D\n\nd";
    let chunks = by_chars(text, Strategy::Markdown, 200, 0);
    assert_eq!(contents(text, &chunks), ["## C\n\nc", "# D\n\nd"]);
    assert_eq!(chunks[1].headings, ["D"]);
}

#[test]
fn a_bare_heading_stays_with_the_section_below() {
    let body = "A sentence of the section. ".repeat(12);
    let text = format!("# Chapter\n\n## Section\n\n{body}");
    let chunks = by_chars(&text, Strategy::Markdown, 120, 0);
    assert!(contents(&text, &chunks)[0].starts_with("# Chapter\n\n## Section\n\nA sentence"));
    assert!(chunks.len() > 2 && chunks.iter().all(|chunk| chunk.headings == ["Chapter", "Section"]));
}

#[test]
fn a_code_block_that_fits_is_not_cut() {
    let code = format!("```\n{}```", "let x = 1;\n".repeat(6));
    let text = format!("Some prose before it, two lines.\n\nAnother paragraph here.\n\n{code}\n\nAfter.");
    let chunks = by_chars(&text, Strategy::Markdown, 100, 0);
    assert!(contents(&text, &chunks).iter().any(|content| content.contains(&code)), "{chunks:?}");
}

#[test]
fn tokens_of_one_character_are_not_separated() {
    let text = "👍👍👍";
    let chunks = chunk(text, &tokens(text), &options(Strategy::Recursive, 4, 0)).unwrap();
    assert_eq!(contents(text, &chunks), ["👍", "👍", "👍"]);
    let chunks = chunk(text, &tokens(text), &options(Strategy::Recursive, 1, 0)).unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.size).collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn hostile_texts_of_megabytes_keep_the_guarantees() {
    const BYTES: usize = scaled(1 << 20, 1 << 6);
    let of = |unit: &str| unit.repeat(BYTES / unit.len());
    let texts = [
        of("x"),
        of("👨‍👩‍👧"),
        of("e\u{301}\u{301}\u{301}"),
        of("\u{301}"),
        of("🇩🇪"),
        of("好"),
        of("。"),
        of("."),
        of("a. "),
        of(". a"),
        of("\n"),
        format!("a{}b", of(" ")),
        format!("a.{}b", of(" ")),
        format!("a.{}b", of(")")),
        of("1.1"),
        of("# h\n"),
        of("# a\n\n## b\n\n"),
        of("- "),
        of("> "),
        of("* a\n"),
        of("|a"),
        of("`"),
        of("[a]("),
        of("\u{200d}"),
        of("A sentence of ordinary words. "),
    ];
    for text in &texts {
        for strategy in STRATEGIES {
            assert_guarantees(text, &CharMeasure::new(text), &options(strategy, 512, 64));
        }
        // An overlap of all but one unit makes a chunk for nearly every word.
        let head = &text[..text.floor_char_boundary(1 << 16)];
        assert_guarantees(head, &tokens(head), &options(Strategy::Recursive, 100, 99));
    }
}

#[test]
fn deep_nesting_is_read_without_recursion() {
    for unit in [">", "- ", "1. ", "[", "*a "] {
        let text = format!("{}deep", unit.repeat(scaled(20_000, 40)));
        assert_guarantees(&text, &CharMeasure::new(&text), &options(Strategy::Markdown, 50, 10));
    }
    let staircase: String = (0..scaled(500, 15)).map(|depth| format!("{}- item\n", "  ".repeat(depth))).collect();
    assert_guarantees(&staircase, &CharMeasure::new(&staircase), &options(Strategy::Markdown, 50, 10));
}

fn any_text() -> impl Generate<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z]{1,12}",
        "\\PC{1,6}",
        prop::sample::select(vec![
            " ",
            " ",
            " ",
            "\n",
            "\n\n",
            "\r\n",
            ". ",
            "! ",
            "? ",
            "。",
            "# ",
            "## ",
            "### ",
            "- ",
            "1. ",
            "> ",
            "    ",
            "```\n",
            "|",
            "|-|-|\n",
            "`",
            "**",
            "\u{301}",
            "👨‍👩‍👧",
            "🇩🇪",
            "é",
            "\u{a0}",
            "\t",
            "===\n",
            "<b>",
            "&amp;",
            "\u{2028}",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..scaled(120, 20)).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(scaled(600, 1)))]
    #[test]
    fn every_text_keeps_the_guarantees(text in any_text(), size in 1usize..80, overlap in 0usize..80, which in 0usize..3) {
        let options = options(STRATEGIES[which], size, overlap % size);
        assert_guarantees(&text, &CharMeasure::new(&text), &options);
        assert_guarantees(&text, &tokens(&text), &options);
    }
}

#[test]
fn white_space_alone_is_not_repeated() {
    let text = "```\n\n\na";
    let options = ChunkOptions { strategy: Strategy::Markdown, size: 5, overlap: 1 };
    assert_guarantees(text, &CharMeasure::new(text), &options);
}
