//! XLSX: the sheets of a workbook, each a page with its name and its filled cells as rows of tables.
//!
//! - [`format`]: numbers, dates and percentages as their cells show them;
//! - [`sheet`]: cells of one sheet.
//!
//! Formulas come as the values that the last program computed. Empty rows end a table, columns without any value are
//! left out, hidden sheets are read like others (what is hidden is often the data).

mod format;
mod sheet;

use crate::archive::Archive;
use crate::error::Result;
use crate::limits::Guard;
use crate::office::{self, relations};
use crate::xml::{self, Token, Xml};
use crate::{ReadPage, Reading};
use format::Formats;

/// What cells refer to.
struct Workbook {
    strings: Vec<String>,
    formats: Formats,
    /// Dates count from 1904 instead of 1900.
    counts_from_1904: bool,
}

pub fn read(bytes: &[u8], guard: &Guard) -> Result<Reading> {
    let archive = Archive::open(bytes, guard)?;
    let main = "xl/workbook.xml";
    let main = match archive.has(main) {
        true => main.to_owned(),
        false => relations(&archive, "", guard)?
            .into_values()
            .find(|relation| relation.kind == "officeDocument")
            .map_or_else(|| main.to_owned(), |relation| relation.target),
    };
    let parts = relations(&archive, &main, guard)?;
    let part = |kind: &str| match parts.values().find(|relation| relation.kind == kind) {
        Some(relation) => archive.read(&relation.target, guard),
        None => Ok(None),
    };
    let (sheets, counts_from_1904) = sheets(&xml::text(&archive.require(&main, guard)?, guard)?, guard)?;
    let strings = match part("sharedStrings")? {
        Some(bytes) => shared_strings(&xml::text(&bytes, guard)?, guard)?,
        None => Vec::new(),
    };
    let formats = match part("styles")? {
        Some(bytes) => Formats::read(&xml::text(&bytes, guard)?, guard)?,
        None => Formats::default(),
    };
    let workbook = Workbook { strings, formats, counts_from_1904 };
    let mut reading = Reading { properties: office::properties(&archive, guard)?, ..Reading::default() };
    for (name, id) in sheets {
        guard.page(reading.pages.len() + 1)?;
        let target = parts.get(&id).filter(|relation| relation.kind == "worksheet").map(|relation| &relation.target);
        // Sheets of charts and macros have no cells.
        let Some(target) = target else { continue };
        let read =
            archive.require(target, guard).and_then(|bytes| sheet::read(&xml::text(&bytes, guard)?, &workbook, guard));
        let text = match read {
            Ok(text) => text,
            Err(error) if error.is_damage() => {
                reading.notices.push(format!("Sheet \"{name}\" could not be read: {error}."));
                String::new()
            }
            Err(error) => return Err(error),
        };
        reading.pages.push(ReadPage { name: Some(name), text });
    }
    Ok(reading)
}

/// Names of the sheets and ids of their relationships, in order; and how dates count.
fn sheets(text: &str, guard: &Guard) -> Result<(Vec<(String, String)>, bool)> {
    let mut sheets = Vec::new();
    let mut counts_from_1904 = false;
    let mut xml = Xml::new(text, guard);
    while let Some(token) = xml.next()? {
        let Token::Start(element) = token else { continue };
        match element.name() {
            "sheet" => {
                let id = element.prefixed_attribute("r:id").or_else(|| element.attribute("id"));
                sheets.push((element.attribute("name").unwrap_or_default(), id.unwrap_or_default()));
            }
            "workbookPr" => {
                counts_from_1904 = matches!(element.attribute("date1904").as_deref(), Some("1" | "true"));
            }
            _ => {}
        }
    }
    Ok((sheets, counts_from_1904))
}

fn shared_strings(text: &str, guard: &Guard) -> Result<Vec<String>> {
    let mut strings = Vec::new();
    let mut xml = Xml::new(text, guard);
    while let Some(token) = xml.next()? {
        let Token::Start(element) = token else { continue };
        if element.name() == "si" {
            // Phonetic hints say the same once more.
            strings.push(office::run_text(&mut xml, "rPh")?);
        }
    }
    Ok(strings)
}
