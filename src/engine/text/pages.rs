//! Chunks of a document with pages: each knows the pages it is from and the headings it stands under.
//!
//! Pages without names (of a PDF, of a letter) are one text: a paragraph that goes on over the page's end is put together,
//! chunks may reach from one page into the next, and headings stay in force. Pages with names (slides, sheets, chapters)
//! are cut one by one: nothing of one belongs to the next, and the name is the outermost of a chunk's headings.
//!
//! The text is joined first ([`PagedText::join`]), so that it can be tokenised once, as a whole, and measured like any
//! other; then it is cut ([`chunk_pages`]). Offsets of chunks are those of the joined text. Whoever keeps the joined text
//! keeps [`PagedText::marks`] beside it, of which [`PagedText::from_marks`] makes the same again.

use std::ops::Range;

use super::chunker::{chunk, Chunk, ChunkError, ChunkOptions};
use super::measure::{CharMeasure, Measure};

/// A page as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageText<'a> {
    /// From 1.
    pub number: u32,
    pub name: Option<&'a str>,
    pub text: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    number: u32,
    name: Option<String>,
    /// Where its text starts.
    start: usize,
}

/// Where a page starts in a joined text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageMark {
    /// From 1.
    pub number: u32,
    pub name: Option<String>,
    /// Characters before the page.
    pub char_start: usize,
}

/// What a page takes of a joined text, without white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSpan<'a> {
    /// None for a text without pages.
    pub number: Option<u32>,
    pub name: Option<&'a str>,
    /// In bytes.
    pub range: Range<usize>,
    pub char_range: Range<usize>,
}

/// The pages of a document as one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagedText {
    text: String,
    /// In order; pages without text are left out.
    pages: Vec<Page>,
}

/// A chunk and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageChunk {
    /// Its headings are those of the text, led by the name of the page where it has one.
    pub chunk: Chunk,
    pub first_page: u32,
    pub last_page: u32,
    /// Characters of the first page before the chunk, without white space that the page begins with.
    pub page_char_start: usize,
}

impl PagedText {
    pub fn join<'a>(pages: impl IntoIterator<Item = PageText<'a>>) -> Self {
        let mut joined = Self::default();
        for page in pages {
            if page.text.trim().is_empty() {
                continue;
            }
            let is_named = page.name.is_some() || joined.pages.last().is_some_and(|last| last.name.is_some());
            joined.text.truncate(joined.text.trim_end().len());
            let text = page.text.trim_start();
            if !joined.text.is_empty() {
                let goes_on = !is_named && goes_on(&joined.text, text);
                joined.text.push_str(if goes_on { " " } else { "\n\n" });
            }
            let start = joined.text.len();
            joined.pages.push(Page { number: page.number, name: page.name.map(str::to_owned), start });
            joined.text.push_str(text);
        }
        joined
    }

    /// A joined text whose pages start at `marks`; None if these are not in order or lie outside the text.
    pub fn from_marks(text: String, marks: &[PageMark]) -> Option<Self> {
        let mut pages = Vec::with_capacity(marks.len());
        let mut starts = text.char_indices().map(|(byte, _)| byte).enumerate();
        let mut least = 0;
        for mark in marks {
            // Starts grow, so one walk over the text finds them all.
            if mark.char_start < least {
                return None;
            }
            let (_, start) = starts.by_ref().find(|(at, _)| *at == mark.char_start)?;
            least = mark.char_start + 1;
            pages.push(Page { number: mark.number, name: mark.name.clone(), start });
        }
        // Text before the first page would be on none.
        (pages.first().is_none_or(|first| first.start == 0)).then_some(Self { text, pages })
    }

    /// Where the pages start, in order.
    pub fn marks(&self) -> Vec<PageMark> {
        let chars = CharMeasure::new(&self.text);
        let mark = |page: &Page| PageMark {
            number: page.number,
            name: page.name.clone(),
            char_start: chars.chars_before(page.start),
        };
        self.pages.iter().map(mark).collect()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it says of no chunk on which page it is.
    pub fn is_without_pages(&self) -> bool {
        self.pages.is_empty()
    }

    /// The pages in order, or the whole text as the only one where there are none.
    pub fn spans(&self) -> Vec<PageSpan<'_>> {
        let chars = CharMeasure::new(&self.text);
        let span = |number, name, range: Range<usize>| {
            let (start, text) = (range.start, &self.text[range]);
            let start = start + (text.len() - text.trim_start().len());
            let range = start..start + text.trim().len();
            PageSpan { number, name, char_range: chars.chars_before(range.start)..chars.chars_before(range.end), range }
        };
        if self.pages.is_empty() {
            return vec![span(None, None, 0..self.text.len())];
        }
        let pages = self.pages.iter().enumerate();
        pages.map(|(at, page)| span(Some(page.number), page.name.as_deref(), page.start..self.end(at))).collect()
    }

    /// Where the text of the page at `index` ends, with the white space behind it.
    fn end(&self, index: usize) -> usize {
        self.pages.get(index + 1).map_or(self.text.len(), |next| next.start)
    }

    /// The page at a byte of the text.
    fn page_at(&self, byte: usize) -> usize {
        self.pages.partition_point(|page| page.start <= byte).saturating_sub(1)
    }

    /// Runs of pages that are cut together.
    fn parts(&self) -> Vec<Range<usize>> {
        if self.pages.is_empty() {
            return std::iter::once(0..self.text.len()).collect();
        }
        let mut parts: Vec<Range<usize>> = Vec::new();
        for (index, page) in self.pages.iter().enumerate() {
            let follows = index > 0 && page.name.is_none() && self.pages[index - 1].name.is_none();
            match parts.last_mut() {
                Some(part) if follows => part.end = self.end(index),
                _ => parts.push(page.start..self.end(index)),
            }
        }
        parts
    }
}

/// Whether the text of the next page is the rest of a sentence.
fn goes_on(text: &str, next: &str) -> bool {
    let last_line = text.rsplit('\n').next().unwrap_or_default().trim_start();
    let is_prose = !last_line.starts_with(['#', '|', '-', '`', '>', '*', '+']) && !last_line.starts_with("[^");
    is_prose
        && next.chars().next().is_some_and(char::is_lowercase)
        && !text.ends_with(['.', '!', '?', ':', ';', '"', '”', ')', '|'])
}

/// The measure of a part of a text, whose offsets start at zero.
struct Shifted<'a> {
    whole: &'a dyn Measure,
    start: usize,
}

impl Measure for Shifted<'_> {
    fn size(&self, range: Range<usize>) -> usize {
        self.whole.size(range.start + self.start..range.end + self.start)
    }

    fn furthest_end(&self, start: usize, budget: usize) -> usize {
        self.whole.furthest_end(start + self.start, budget).saturating_sub(self.start)
    }
}

/// Cuts the text of a document; `measure` is of the joined text.
pub fn chunk_pages(
    paged: &PagedText,
    measure: &dyn Measure,
    options: &ChunkOptions,
) -> Result<Vec<PageChunk>, ChunkError> {
    options.validate()?;
    if u32::try_from(paged.text.len()).is_err() {
        return Err(ChunkError::TooLong { bytes: paged.text.len() });
    }
    let chars = CharMeasure::new(&paged.text);
    let mut chunks = Vec::new();
    for part in paged.parts() {
        let name = paged.pages.get(paged.page_at(part.start)).and_then(|page| page.name.as_deref());
        let chars_before = chars.chars_before(part.start);
        let shifted = Shifted { whole: measure, start: part.start };
        for mut chunk in chunk(&paged.text[part.clone()], &shifted, options)? {
            chunk.range = chunk.range.start + part.start..chunk.range.end + part.start;
            chunk.char_range = chunk.char_range.start + chars_before..chunk.char_range.end + chars_before;
            if let Some(name) = name.filter(|name| chunk.headings.first().is_none_or(|first| first != name)) {
                chunk.headings.insert(0, name.to_owned());
            }
            let first = paged.page_at(chunk.range.start);
            let last = paged.page_at(chunk.range.end.saturating_sub(1));
            let page_start = paged.pages.get(first).map_or(0, |page| page.start);
            chunks.push(PageChunk {
                first_page: paged.pages.get(first).map_or(1, |page| page.number),
                last_page: paged.pages.get(last).map_or(1, |page| page.number),
                page_char_start: chunk.char_range.start - chars.chars_before(page_start),
                chunk,
            });
        }
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Strategy;
    use proptest::prelude::*;

    fn page<'a>(number: u32, name: Option<&'a str>, text: &'a str) -> PageText<'a> {
        PageText { number, name, text }
    }

    fn cut(pages: &[PageText], size: usize) -> Vec<(String, u32, u32, String)> {
        let paged = PagedText::join(pages.iter().copied());
        let options = ChunkOptions { strategy: Strategy::Markdown, size, overlap: 0 };
        chunk_pages(&paged, &CharMeasure::new(paged.text()), &options)
            .unwrap()
            .into_iter()
            .map(|c| (paged.text()[c.chunk.range].to_owned(), c.first_page, c.last_page, c.chunk.headings.join(" / ")))
            .collect()
    }

    #[test]
    fn a_sentence_goes_on_over_the_page_and_headings_stay_in_force() {
        let pages = [
            page(1, None, "# Birds\n\nThe kestrel hovers in the\n"),
            page(2, None, " \n"),
            page(3, None, "wind over the moor.\n\n## Owls\n\nThey do not.\n"),
        ];
        assert_eq!(
            cut(&pages, 60),
            [
                ("# Birds\n\nThe kestrel hovers in the wind over the moor.".to_owned(), 1, 3, "Birds".to_owned()),
                ("## Owls\n\nThey do not.".to_owned(), 3, 3, "Birds / Owls".to_owned()),
            ]
        );
    }

    #[test]
    fn named_pages_are_cut_one_by_one_and_lead_the_headings() {
        let pages = [
            page(1, Some("Title"), "# Title\n\nfirst\n"),
            page(2, Some("Sheet"), "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
            page(3, None, "without a name\n"),
        ];
        assert_eq!(
            cut(&pages, 500),
            [
                ("# Title\n\nfirst".to_owned(), 1, 1, "Title".to_owned()),
                ("| a | b |\n| --- | --- |\n| 1 | 2 |".to_owned(), 2, 2, "Sheet".to_owned()),
                ("without a name".to_owned(), 3, 3, String::new()),
            ]
        );
    }

    #[test]
    fn pages_know_what_they_take_of_the_text() {
        let paged = PagedText::join([page(1, Some("Käse"), " ä b \n"), page(2, None, "  "), page(7, None, "c ü")]);
        let spans: Vec<_> =
            paged.spans().into_iter().map(|s| (s.number, s.name, &paged.text()[s.range], s.char_range)).collect();
        assert_eq!(spans, [(Some(1), Some("Käse"), "ä b", 0..3), (Some(7), None, "c ü", 5..8)]);
        let whole = PagedText::from_marks("\n ü x ".to_owned(), &[]).unwrap();
        let spans: Vec<_> =
            whole.spans().into_iter().map(|s| (s.number, &whole.text()[s.range], s.char_range)).collect();
        assert_eq!(spans, [(None, "ü x", 2..5)]);
    }

    #[test]
    fn marks_that_are_not_of_the_text_are_refused() {
        let mark = |char_start| PageMark { number: 1, name: None, char_start };
        let made = |marks: &[PageMark]| PagedText::from_marks("äöü".to_owned(), marks);
        assert!(made(&[]).is_some_and(|paged| paged.is_without_pages()));
        assert!(made(&[mark(0), mark(2)]).is_some());
        for wrong in [vec![mark(1)], vec![mark(0), mark(3)], vec![mark(0), mark(0)], vec![mark(0), mark(2), mark(1)]] {
            assert_eq!(made(&wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_offsets_are_right(
            texts in proptest::collection::vec("[a-zé#|.\n ]{0,60}", 1..6), named in any::<u8>(), size in 1usize..40,
        ) {
            let names: Vec<Option<String>> =
                (0..texts.len()).map(|index| (named >> index & 1 == 1).then(|| format!("page {index}"))).collect();
            let pages: Vec<PageText> = texts.iter().zip(&names).enumerate()
                .map(|(index, (text, name))| page(index as u32 + 1, name.as_deref(), text)).collect();
            let paged = PagedText::join(pages);
            let again = PagedText::from_marks(paged.text().to_owned(), &paged.marks());
            prop_assert_eq!(Some(&paged), again.as_ref());
            let options = ChunkOptions { strategy: Strategy::Recursive, size, overlap: 0 };
            let chunks = chunk_pages(&paged, &CharMeasure::new(paged.text()), &options).unwrap();
            let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let kept: String = chunks.iter().map(|c| visible(&paged.text()[c.chunk.range.clone()])).collect();
            prop_assert_eq!(&kept, &visible(&texts.concat()));
            for c in &chunks {
                let piece = &paged.text()[c.chunk.range.clone()];
                let by_chars: String = paged.text().chars().skip(c.chunk.char_range.start).take(c.chunk.char_range.len()).collect();
                prop_assert_eq!(piece, by_chars);
                prop_assert!(c.first_page <= c.last_page);
                let first = texts[c.first_page as usize - 1].trim_start();
                let rest: String = first.chars().skip(c.page_char_start).collect();
                let head: String = piece.chars().take_while(|c| !c.is_whitespace()).collect();
                prop_assert!(rest.starts_with(&head), "{:?} in {:?}", head, rest);
            }
        }
    }
}
