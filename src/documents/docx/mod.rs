//! DOCX: the body of a Word document as Markdown.
//!
//! - [`styles`]: which paragraphs are headings, whatever language the styles have their names in;
//! - [`lists`]: which are items of lists, and their numbers;
//! - [`body`]: paragraphs, tables, notes and pages.
//!
//! Headers and footers are parts of their own that nobody reads here. Deleted and moved-away text of tracked changes is
//! left out, inserted text is in; so is the table of contents, which repeats the headings.

mod body;
mod lists;
mod styles;

use crate::archive::Archive;
use crate::error::Result;
use crate::limits::Guard;
use crate::{office, xml, Reading};
use lists::Lists;
use styles::Styles;

/// Reads a document.
pub fn read(bytes: &[u8], guard: &Guard) -> Result<Reading> {
    let archive = Archive::open(bytes, guard)?;
    let main = main_part(&archive, guard)?;
    let relations = office::relations(&archive, &main, guard)?;
    let part = |kind: &str| -> Result<Option<Vec<u8>>> {
        match relations.values().find(|relation| relation.kind == kind) {
            Some(relation) => archive.read(&relation.target, guard),
            None => Ok(None),
        }
    };
    let styles = match part("styles")? {
        Some(bytes) => Styles::read(&xml::text(&bytes, guard)?, guard)?,
        None => Styles::default(),
    };
    let lists = match part("numbering")? {
        Some(bytes) => Lists::read(&xml::text(&bytes, guard)?, guard)?,
        None => Lists::default(),
    };
    let mut notes = body::Notes::default();
    for (kind, element) in [("footnotes", "footnote"), ("endnotes", "endnote")] {
        if let Some(bytes) = part(kind)? {
            notes.read(&xml::text(&bytes, guard)?, element, guard)?;
        }
    }
    let document = archive.require(&main, guard)?;
    let pages = body::read(&xml::text(&document, guard)?, &styles, lists, &notes, guard)?;
    Ok(Reading { properties: office::properties(&archive, guard)?, pages, notices: Vec::new() })
}

/// Where the document is: what the package says, or where it always is.
fn main_part(archive: &Archive, guard: &Guard) -> Result<String> {
    let usual = "word/document.xml";
    if archive.has(usual) {
        return Ok(usual.to_owned());
    }
    let relations = office::relations(archive, "", guard)?;
    let main = relations.into_values().find(|relation| relation.kind == "officeDocument");
    Ok(main.map_or_else(|| usual.to_owned(), |relation| relation.target))
}
