//! PPTX: the slides of a presentation, in the order they are shown.
//!
//! A slide is a page: its title as heading and name, the paragraphs of its shapes in the order of the file (lists as
//! lists, tables as tables), then the speaker's notes. Placeholders for date, footer and number are left out.

use crate::archive::Archive;
use crate::blocks::Blocks;
use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use crate::office::{self, relations};
use crate::xml::{self, Token, Xml};
use crate::{ReadPage, Reading};

/// A paragraph of a shape.
struct Line {
    text: String,
    level: usize,
    is_item: bool,
}

/// Something on a slide.
enum Shape {
    Title(String),
    Lines(Vec<Line>),
    Table(Vec<Vec<String>>),
}

pub fn read(bytes: &[u8], guard: &Guard) -> Result<Reading> {
    let archive = Archive::open(bytes, guard)?;
    let main = "ppt/presentation.xml";
    let main = match archive.has(main) {
        true => main.to_owned(),
        false => relations(&archive, "", guard)?
            .into_values()
            .find(|relation| relation.kind == "officeDocument")
            .map_or_else(|| main.to_owned(), |relation| relation.target),
    };
    let slides = relations(&archive, &main, guard)?;
    let mut reading = Reading { properties: office::properties(&archive, guard)?, ..Reading::default() };
    for id in slide_ids(&xml::text(&archive.require(&main, guard)?, guard)?, guard)? {
        guard.page(reading.pages.len() + 1)?;
        let Some(slide) = slides.get(&id) else { continue };
        match read_slide(&archive, &slide.target, guard) {
            Ok(page) => reading.pages.push(page),
            Err(error) if error.is_damage() => {
                reading.notices.push(format!("Slide {} could not be read: {error}.", reading.pages.len() + 1));
                reading.pages.push(ReadPage::default());
            }
            Err(error) => return Err(error),
        }
    }
    if reading.pages.is_empty() && !slides.values().any(|relation| relation.kind == "slideMaster") {
        return Err(DocumentError::damaged("the presentation has no slides"));
    }
    Ok(reading)
}

/// Ids of the slides' relationships, in order.
fn slide_ids(text: &str, guard: &Guard) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut xml = Xml::new(text, guard);
    while let Some(token) = xml.next()? {
        if let Token::Start(element) = token {
            if element.name() == "sldId" {
                // `id` without a prefix is another number.
                ids.extend(element.prefixed_attribute("r:id").or_else(|| element.attribute("id")));
            }
        }
    }
    Ok(ids)
}

fn read_slide(archive: &Archive, name: &str, guard: &Guard) -> Result<ReadPage> {
    let bytes = archive.require(name, guard)?;
    let shapes = shapes(&xml::text(&bytes, guard)?, false, guard)?;
    let title = shapes.iter().find_map(|shape| match shape {
        Shape::Title(title) if !title.trim().is_empty() => Some(title.clone()),
        _ => None,
    });
    let mut blocks = Blocks::new(guard);
    if let Some(title) = &title {
        blocks.heading(1, title)?;
    }
    write(&shapes, &mut blocks)?;
    let relations = relations(archive, name, guard)?;
    if let Some(notes) = relations.values().find(|relation| relation.kind == "notesSlide") {
        if let Some(bytes) = archive.read(&notes.target, guard)? {
            write(&self::shapes(&xml::text(&bytes, guard)?, true, guard)?, &mut blocks)?;
        }
    }
    Ok(ReadPage { name: title, text: blocks.finish() })
}

fn write(shapes: &[Shape], blocks: &mut Blocks) -> Result<()> {
    for shape in shapes {
        match shape {
            Shape::Title(_) => {}
            Shape::Table(rows) => blocks.table(rows)?,
            Shape::Lines(lines) => {
                for line in lines {
                    match line.is_item {
                        true => blocks.item(line.level, "-", &line.text)?,
                        false => blocks.paragraph(&line.text)?,
                    }
                }
            }
        }
    }
    Ok(())
}

/// The shapes of a slide, or of its notes, where only the body is text of the speaker.
fn shapes(text: &str, is_notes: bool, guard: &Guard) -> Result<Vec<Shape>> {
    let mut xml = Xml::new(text, guard);
    let mut shapes = Vec::new();
    // The open shape: its depth, the type of its placeholder, its paragraphs.
    let mut shape: Option<(usize, Option<String>, Vec<Line>)> = None;
    let mut table: Option<(usize, Vec<Vec<String>>)> = None;
    while let Some(token) = xml.next()? {
        match token {
            Token::Start(element) => match element.name() {
                "Fallback" => xml.skip()?,
                "sp" => shape = Some((xml.depth(), None, Vec::new())),
                "ph" => {
                    if let Some((_, placeholder, _)) = &mut shape {
                        // The type of a placeholder that does not say is the content of the slide.
                        *placeholder = Some(element.attribute("type").unwrap_or_else(|| "obj".to_owned()));
                    }
                }
                "tbl" => table = Some((xml.depth(), Vec::new())),
                "tr" => {
                    if let Some((_, rows)) = &mut table {
                        rows.push(Vec::new());
                    }
                }
                "tc" => {
                    let text = office::run_text(&mut xml, "tcPr")?;
                    if let Some(row) = table.as_mut().and_then(|(_, rows)| rows.last_mut()) {
                        row.push(text);
                    }
                }
                "p" => {
                    let line = line(&mut xml, shape.as_ref().and_then(|(_, placeholder, _)| placeholder.as_deref()))?;
                    if let Some((_, _, lines)) = &mut shape {
                        lines.push(line);
                    }
                }
                _ => {}
            },
            Token::End => {
                if table.as_ref().is_some_and(|(depth, _)| *depth > xml.depth()) {
                    shapes.extend(table.take().map(|(_, rows)| Shape::Table(rows)));
                }
                if shape.as_ref().is_some_and(|(depth, _, _)| *depth > xml.depth()) {
                    if let Some((_, placeholder, lines)) = shape.take() {
                        shapes.extend(finished(placeholder.as_deref(), lines, is_notes));
                    }
                }
            }
            Token::Text(_) => {}
        }
    }
    Ok(shapes)
}

fn finished(placeholder: Option<&str>, lines: Vec<Line>, is_notes: bool) -> Option<Shape> {
    match placeholder {
        Some("title" | "ctrTitle") if !is_notes => {
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            Some(Shape::Title(texts.join(" ")))
        }
        Some("dt" | "ftr" | "sldNum" | "hdr" | "sldImg") => None,
        Some("body") => Some(Shape::Lines(lines)),
        _ if is_notes => None,
        _ => Some(Shape::Lines(lines)),
    }
}

/// The paragraph whose start was read last.
fn line(xml: &mut Xml, placeholder: Option<&str>) -> Result<Line> {
    let outside = xml.depth().saturating_sub(1);
    // The content of a slide is a list unless it says otherwise; that of notes and of free boxes is not.
    let mut line = Line { text: String::new(), level: 0, is_item: placeholder == Some("obj") };
    while xml.depth() > outside {
        let Some(token) = xml.next()? else { break };
        let Token::Start(element) = token else { continue };
        match element.name() {
            "pPr" => line.level = element.attribute("lvl").and_then(|level| level.parse().ok()).unwrap_or(0),
            "buNone" => line.is_item = false,
            "buChar" | "buAutoNum" => line.is_item = true,
            "t" => line.text.push_str(&xml.text()?),
            "br" => line.text.push('\n'),
            "tab" => line.text.push('\t'),
            _ => {}
        }
    }
    Ok(line)
}
