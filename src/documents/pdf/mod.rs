//! PDF: text per page, in the order of reading.
//!
//! A PDF holds glyphs at places. What they show, how they stand beside each other, what is a word, a line, a column, a
//! paragraph, is found here; the syntax of the file (objects, cross-references and their repair, decryption with the
//! empty password) is read by `hayro-syntax`, the predefined character maps by `hayro-cmap`.
//!
//! From the bottom up:
//! - [`predictor`], [`streams`]: unpacked contents, under limits;
//! - [`encodings`], [`fonts`]: what codes show;
//! - [`content`]: glyphs with their places;
//! - [`fragments`], [`columns`], [`paragraphs`]: words, order, paragraphs;
//! - [`structure`]: headings, heads and feet of pages.
//!
//! The library is meant to bear any input, and is fuzzed; yet it is not ours. A panic in it is caught here, which is sound
//! because nothing that it could leave half done outlives the call, and becomes an error (`Reader`). Its use of memory for
//! compressed object tables is not bounded by our limits: the server runs PDFs in a process with a memory limit.

mod columns;
mod content;
mod encodings;
mod fonts;
mod fragments;
mod paragraphs;
mod predictor;
mod streams;
mod structure;

use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use crate::{Properties, ReadPage, Reading};
use content::FontCache;
use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use structure::{Levels, Placed};

/// A glyph on a page.
struct PlacedGlyph {
    text: String,
    x: f64,
    y: f64,
    /// From its place to that of the next glyph.
    dx: f64,
    dy: f64,
    /// Where its line goes.
    along: (f64, f64),
    /// Height of the letters, as they are on the page.
    size: f64,
    is_bold: bool,
    is_monospaced: bool,
}

/// What a page shows.
#[derive(Default)]
struct Glyphs {
    glyphs: Vec<PlacedGlyph>,
    /// Glyphs that are not known to show anything.
    unknown: usize,
    images: usize,
}

pub fn read(bytes: &Arc<Vec<u8>>, guard: &Guard) -> Result<Reading> {
    catch_unwind(AssertUnwindSafe(|| read_pages(bytes, guard)))
        .unwrap_or_else(|_| Err(DocumentError::Reader("the reader of PDF files failed on it".to_owned())))
}

fn read_pages(bytes: &Arc<Vec<u8>>, guard: &Guard) -> Result<Reading> {
    let pdf = Pdf::new(bytes.clone()).map_err(|error| match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => DocumentError::Encrypted,
        LoadPdfError::Decryption(DecryptionError::UnsupportedAlgorithm) => {
            DocumentError::Unsupported { found: "a PDF document encrypted in an unknown way".to_owned() }
        }
        LoadPdfError::Decryption(_) => DocumentError::damaged("its encryption is not valid"),
        LoadPdfError::Invalid => DocumentError::damaged("no pages of the PDF file can be found"),
    })?;
    guard.look()?;
    if pdf.pages().is_empty() {
        return Err(DocumentError::damaged("no pages of the PDF file can be found"));
    }
    let mut fonts = FontCache::default();
    let mut pages: Vec<Vec<Placed>> = Vec::new();
    let (mut without_text, mut unreadable) = (Vec::new(), Vec::new());
    for page in pdf.pages().iter() {
        guard.page(pages.len() + 1)?;
        let glyphs = content::glyphs(page, &mut fonts, guard)?;
        let number = pages.len() + 1;
        if glyphs.glyphs.is_empty() && glyphs.images > 0 {
            without_text.push(number);
        }
        if glyphs.unknown * 5 > glyphs.glyphs.len() && glyphs.unknown > 10 {
            unreadable.push(number);
        }
        pages.push(paragraphs_of(glyphs, guard)?);
    }
    structure::remove_edges(&mut pages, guard)?;
    let levels = Levels::of(&pages);
    let mut reading = Reading { properties: properties(&pdf), ..Reading::default() };
    for page in pages {
        let text = structure::write(page, &levels, guard)?;
        reading.pages.push(ReadPage { name: None, text });
    }
    if !without_text.is_empty() {
        reading.notices.push(format!("{} images and no text.", page_list(&without_text, "has", "have")));
    }
    if !unreadable.is_empty() {
        reading.notices.push(format!(
            "{} text in fonts that do not tell what their glyphs mean.",
            page_list(&unreadable, "has", "have")
        ));
    }
    Ok(reading)
}

fn paragraphs_of(glyphs: Glyphs, guard: &Guard) -> Result<Vec<Placed>> {
    let mut placed = Vec::new();
    for direction in fragments::fragments(glyphs, guard)? {
        for region in columns::regions(direction, guard)? {
            let lines = paragraphs::lines(region, guard)?;
            for (index, paragraph) in paragraphs::paragraphs(&lines, guard)?.into_iter().enumerate() {
                placed.push(Placed { paragraph, begins_region: index == 0 });
            }
        }
    }
    Ok(placed)
}

/// `Pages 1-3 and 7 have`, and so on.
fn page_list(pages: &[usize], singular: &str, plural: &str) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &page in pages {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == page => *last = page,
            _ => ranges.push((page, page)),
        }
    }
    const SHOWN: usize = 10;
    let mut list: Vec<String> = ranges
        .iter()
        .take(SHOWN)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    if ranges.len() > SHOWN {
        list.push("others".to_owned());
    }
    match pages {
        [only] => format!("Page {only} {singular}"),
        _ => format!("Pages {} {plural}", list.join(", ")),
    }
}

fn properties(pdf: &Pdf) -> Properties {
    let metadata = pdf.metadata();
    let text = |bytes: &Option<Box<[u8]>>| bytes.as_deref().map(encodings::text_string);
    Properties {
        title: text(&metadata.title),
        author: text(&metadata.author),
        subject: text(&metadata.subject),
        language: None,
        created: metadata
            .creation_date
            .as_ref()
            .map(|date| format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)),
    }
}

#[cfg(test)]
mod tests {
    use super::page_list;

    #[test]
    fn pages_are_listed_in_ranges() {
        assert_eq!(page_list(&[4], "has", "have"), "Page 4 has");
        assert_eq!(page_list(&[1, 2, 3, 7], "has", "have"), "Pages 1-3, 7 have");
    }
}
