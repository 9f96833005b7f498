//! The body: paragraphs, tables, notes, page breaks.
//!
//! One loop over the tokens with a stack of open frames (the body, cells of tables, text boxes), so that nesting costs
//! memory in proportion to its depth, which [`Xml`] bounds.

use super::lists::Lists;
use super::styles::{Look, Styles};
use crate::blocks::Blocks;
use crate::error::Result;
use crate::limits::Guard;
use crate::xml::{Token, Xml};
use crate::ReadPage;
use std::collections::HashMap;

/// Footnotes and endnotes by kind and id.
#[derive(Default)]
pub struct Notes {
    texts: HashMap<(bool, String), String>,
}

/// A paragraph that is being read.
#[derive(Default)]
struct Paragraph {
    text: String,
    style: Option<String>,
    outline_level: Option<usize>,
    list: Option<(Option<String>, Option<usize>)>,
}

/// Something that paragraphs lie in.
enum Frame {
    Table(Vec<Vec<String>>),
    /// Paragraphs of the cell so far, as lines.
    Cell(String),
    TextBox,
}

struct Body<'a> {
    guard: &'a Guard<'a>,
    styles: &'a Styles,
    lists: Lists,
    notes: &'a Notes,
    pages: Vec<ReadPage>,
    blocks: Blocks<'a>,
    /// Open frames, each with the depth of its element.
    frames: Vec<(usize, Frame)>,
    /// Open paragraphs, each with the depth of its element: a text box lies in a paragraph and has its own.
    paragraphs: Vec<(usize, Paragraph)>,
    /// Notes that the page refers to: number and text.
    page_notes: Vec<(usize, String)>,
    noted: usize,
    /// Whether breaks of pages come from a writer that laid the document out.
    has_rendered_breaks: bool,
    /// A page ended in the current paragraph.
    page_ended: bool,
    /// The current run is not shown.
    is_hidden: bool,
}

/// The pages of the document whose main part is `text`.
pub fn read<'a>(
    text: &'a str,
    styles: &'a Styles,
    lists: Lists,
    notes: &'a Notes,
    guard: &'a Guard<'a>,
) -> Result<Vec<ReadPage>> {
    let mut body = Body {
        guard,
        styles,
        lists,
        notes,
        pages: Vec::new(),
        blocks: Blocks::new(guard),
        frames: Vec::new(),
        paragraphs: Vec::new(),
        page_notes: Vec::new(),
        noted: 0,
        has_rendered_breaks: text.contains("lastRenderedPageBreak"),
        page_ended: false,
        is_hidden: false,
    };
    let mut xml = Xml::new(text, guard);
    while let Some(token) = xml.next()? {
        match token {
            Token::Start(element) => match element.name() {
                // Alternatives repeat what stands before them for older programs; the others are not text of today.
                "Fallback" | "del" | "moveFrom" | "instrText" | "delText" | "sectPrChange" | "pPrChange"
                | "rPrChange" => {
                    xml.skip()?;
                }
                "p" => body.paragraphs.push((xml.depth(), Paragraph::default())),
                "r" => body.is_hidden = false,
                "vanish" => body.is_hidden = element.is_on(),
                "tbl" => body.frames.push((xml.depth(), Frame::Table(Vec::new()))),
                "tr" => body.begin_row()?,
                "tc" => body.frames.push((xml.depth(), Frame::Cell(String::new()))),
                "txbxContent" => body.frames.push((xml.depth(), Frame::TextBox)),
                "t" => {
                    let text = xml.text()?;
                    body.push_text(&text)?;
                }
                "tab" | "ptab" => body.push_text("\t")?,
                "cr" => body.push_text("\n")?,
                "noBreakHyphen" => body.push_text("-")?,
                "br" => match element.attribute("type").as_deref() {
                    Some("page") if body.has_rendered_breaks => {}
                    Some("page") => body.break_page()?,
                    _ => body.push_text("\n")?,
                },
                "lastRenderedPageBreak" => body.break_page()?,
                "footnoteReference" => body.refer(false, element.attribute("id"))?,
                "endnoteReference" => body.refer(true, element.attribute("id"))?,
                "pageBreakBefore" if element.is_on() && !body.has_rendered_breaks => body.break_page()?,
                name => body.property(name, element.attribute("val")),
            },
            Token::End => body.end(xml.depth())?,
            Token::Text(_) => {}
        }
    }
    body.end_page()?;
    Ok(body.pages)
}

impl Body<'_> {
    fn push_text(&mut self, text: &str) -> Result<()> {
        self.guard.step()?;
        if let Some((_, paragraph)) = self.paragraphs.last_mut().filter(|_| !self.is_hidden) {
            paragraph.text.push_str(text);
        }
        Ok(())
    }

    fn property(&mut self, name: &str, value: Option<String>) {
        let Some((_, paragraph)) = self.paragraphs.last_mut() else { return };
        let number = || value.as_deref().and_then(|value| value.parse().ok());
        match name {
            "pStyle" => paragraph.style = value,
            "outlineLvl" => paragraph.outline_level = number(),
            "numId" => paragraph.list.get_or_insert_default().0 = value,
            "ilvl" => paragraph.list.get_or_insert_default().1 = number(),
            _ => {}
        }
    }

    fn refer(&mut self, is_endnote: bool, id: Option<String>) -> Result<()> {
        let key = (is_endnote, id.unwrap_or_default());
        if let Some(text) = self.notes.texts.get(&key) {
            self.noted += 1;
            self.page_notes.push((self.noted, text.clone()));
            // The same note may be referred to any number of times.
            self.guard.write(text.len())?;
            self.push_text(&format!("[^{}]", self.noted))?;
        }
        Ok(())
    }

    fn begin_row(&mut self) -> Result<()> {
        if let Some((_, Frame::Table(rows))) = self.frames.last_mut() {
            rows.push(Vec::new());
        }
        self.guard.step()
    }

    /// An element ended; `depth` are still open.
    fn end(&mut self, depth: usize) -> Result<()> {
        if self.paragraphs.last().is_some_and(|(at, _)| *at > depth) {
            if let Some((_, paragraph)) = self.paragraphs.pop() {
                self.end_paragraph(paragraph)?;
            }
        }
        if self.frames.last().is_some_and(|(at, _)| *at > depth) {
            if let Some((_, frame)) = self.frames.pop() {
                self.end_frame(frame)?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self, frame: Frame) -> Result<()> {
        match frame {
            Frame::TextBox => Ok(()),
            Frame::Cell(text) => {
                if let Some((_, Frame::Table(rows))) = self.frames.last_mut() {
                    if rows.is_empty() {
                        rows.push(Vec::new());
                    }
                    if let Some(row) = rows.last_mut() {
                        row.push(text);
                    }
                }
                Ok(())
            }
            Frame::Table(rows) => match self.outer_cell() {
                // A table in a cell is lines of that cell.
                Some(cell) => {
                    for row in rows {
                        cell.push_str(&row.join(" "));
                        cell.push('\n');
                    }
                    Ok(())
                }
                None => {
                    self.blocks.table(&rows)?;
                    self.turn_page()
                }
            },
        }
    }

    /// The innermost open cell, unless a text box is between.
    fn outer_cell(&mut self) -> Option<&mut String> {
        match self.frames.last_mut() {
            Some((_, Frame::Cell(text))) => Some(text),
            _ => None,
        }
    }

    fn end_paragraph(&mut self, paragraph: Paragraph) -> Result<()> {
        if let Some(cell) = self.outer_cell() {
            cell.push_str(&paragraph.text);
            cell.push('\n');
            return Ok(());
        }
        let look = paragraph.style.as_deref().map(|style| self.styles.look(style)).unwrap_or_default();
        if look.is_contents {
            return Ok(());
        }
        self.block(&paragraph, &look)?;
        match self.frames.is_empty() {
            true => self.turn_page(),
            false => Ok(()),
        }
    }

    /// A page ends here: at once before the first word of a paragraph, else after the paragraph or table.
    fn break_page(&mut self) -> Result<()> {
        let is_before_text = self.paragraphs.last().is_none_or(|(_, paragraph)| paragraph.text.trim().is_empty());
        if self.frames.is_empty() && is_before_text {
            return self.end_page();
        }
        self.page_ended = true;
        Ok(())
    }

    fn block(&mut self, paragraph: &Paragraph, look: &Look) -> Result<()> {
        let heading = match paragraph.outline_level {
            Some(level) => (level < 9).then_some(level + 1),
            None => look.heading,
        };
        if let Some(level) = heading {
            return self.blocks.heading(level, &paragraph.text);
        }
        if look.is_title {
            return self.blocks.heading(1, &paragraph.text);
        }
        let list = match (&paragraph.list, &look.list) {
            (Some((Some(id), level)), _) => Some((id.clone(), level.unwrap_or(0))),
            (Some((None, level)), Some((id, own))) => Some((id.clone(), level.unwrap_or(*own))),
            (_, Some((id, level))) => Some((id.clone(), *level)),
            _ => None,
        };
        // List 0 switches off the list of the style.
        let list = list.filter(|(id, _)| id != "0" && !paragraph.text.trim().is_empty());
        match list.and_then(|(id, level)| self.lists.mark(&id, level).map(|mark| (level, mark))) {
            Some((level, mark)) => self.blocks.item(level, &mark, &paragraph.text),
            None => self.blocks.paragraph(&paragraph.text),
        }
    }

    /// Turns the page, if it ended inside of what was written just now.
    fn turn_page(&mut self) -> Result<()> {
        if std::mem::take(&mut self.page_ended) {
            self.end_page()?;
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<()> {
        for (number, text) in std::mem::take(&mut self.page_notes) {
            self.blocks.paragraph(&format!("[^{number}]: {}", text.trim()))?;
        }
        let blocks = std::mem::replace(&mut self.blocks, Blocks::new(self.guard));
        self.pages.push(ReadPage { name: None, text: blocks.finish() });
        self.guard.page(self.pages.len())
    }
}

impl Notes {
    /// Reads a part with notes; `element` is what one note is called in it.
    pub fn read(&mut self, text: &str, element: &str, guard: &Guard) -> Result<()> {
        let mut xml = Xml::new(text, guard);
        let mut open: Option<(usize, String, String)> = None;
        while let Some(token) = xml.next()? {
            match token {
                Token::Start(start) => match (start.name(), &mut open) {
                    // Separators between text and notes are stored as notes with a type.
                    (name, None) if name == element && start.attribute("type").is_none_or(|kind| kind == "normal") => {
                        open = Some((xml.depth(), start.attribute("id").unwrap_or_default(), String::new()));
                    }
                    ("del" | "moveFrom" | "Fallback", _) => xml.skip()?,
                    ("p", Some((_, _, text))) if !text.is_empty() => text.push('\n'),
                    ("t", Some((_, _, text))) => text.push_str(&xml.text()?),
                    ("tab" | "br" | "cr", Some((_, _, text))) => text.push(' '),
                    _ => {}
                },
                Token::End => {
                    if open.as_ref().is_some_and(|(depth, _, _)| *depth > xml.depth()) {
                        if let Some((_, id, text)) = open.take() {
                            self.texts.insert((element == "endnote", id), text);
                        }
                    }
                }
                Token::Text(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn pages(body: &str) -> Vec<String> {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let text = format!("<w:document><w:body>{body}</w:body></w:document>");
        let (styles, notes) = (Styles::default(), Notes::default());
        let pages = read(&text, &styles, Lists::default(), &notes, &guard).unwrap();
        pages.into_iter().map(|page| page.text).collect()
    }

    #[test]
    fn deleted_and_hidden_text_goes_and_a_text_box_comes_once() {
        let text = pages(
            "<w:p><w:r><w:t>a</w:t></w:r><w:del><w:r><w:delText>b</w:delText></w:r></w:del><w:ins><w:r><w:t>c</w:t></w:r></w:ins>\
             <w:r><w:rPr><w:vanish/></w:rPr><w:t>d</w:t></w:r><w:r><w:t xml:space='preserve'> e</w:t></w:r></w:p>",
        );
        assert_eq!(text, ["ac e\n"]);
        let text = pages(
            "<w:p><w:r><w:t>out</w:t><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent>\
             </mc:Choice><mc:Fallback><w:p><w:r><w:t>again</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent><w:t>side</w:t></w:r></w:p>",
        );
        assert_eq!(text, ["box\n\noutside\n"]);
    }

    #[test]
    fn pages_end_where_the_writer_noted_it() {
        let paragraph = |text: &str, before: &str| format!("<w:p><w:r>{before}<w:t>{text}</w:t></w:r></w:p>");
        let explicit = "<w:br w:type='page'/>";
        assert_eq!(pages(&(paragraph("a", "") + &paragraph("b", explicit))), ["a\n", "b\n"]);
        // A break that the writer laid out counts, and the one that caused it not once more.
        let both = "<w:br w:type='page'/><w:lastRenderedPageBreak/>";
        assert_eq!(pages(&(paragraph("a", "") + &paragraph("b", both))), ["a\n", "b\n"]);
        // Inside of a paragraph, the rest of it stays with its beginning.
        let inside = "<w:p><w:r><w:t>a b </w:t><w:lastRenderedPageBreak/><w:t>c</w:t></w:r></w:p>";
        assert_eq!(pages(&(inside.to_owned() + &paragraph("d", ""))), ["a b c\n", "d\n"]);
    }

    #[test]
    fn a_table_in_a_cell_is_words_of_the_cell() {
        let cell = |text: &str| format!("<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>");
        let inner = format!("<w:tbl><w:tr>{}{}</w:tr></w:tbl>", cell("x"), cell("y"));
        let text = pages(&format!(
            "<w:tbl><w:tr>{}{}</w:tr><w:tr><w:tc>{inner}<w:p/></w:tc>{}</w:tr></w:tbl>",
            cell("A"),
            cell("B"),
            cell("2")
        ));
        assert_eq!(text, ["| A | B |\n| --- | --- |\n| x y | 2 |\n"]);
    }
}
