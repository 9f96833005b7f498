//! What the three formats of Office share: relationships between parts, and properties of the document.

use crate::archive::Archive;
use crate::error::Result;
use crate::limits::Guard;
use crate::xml::{self, Token, Xml};
use crate::Properties;
use std::collections::HashMap;

/// What another part is to a part.
pub struct Relation {
    /// Last word of the type: `slide`, `notesSlide`, `styles`.
    pub kind: String,
    /// Name of the part in the archive.
    pub target: String,
}

/// The relationships of the part `name`, by id. Parts without any have none; targets outside the archive are left out.
pub fn relations(archive: &Archive, name: &str, guard: &Guard) -> Result<HashMap<String, Relation>> {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let separator = if folder.is_empty() { "" } else { "/" };
    let mut relations = HashMap::new();
    let Some(bytes) = archive.read(&format!("{folder}{separator}_rels/{file}.rels"), guard)? else {
        return Ok(relations);
    };
    let text = xml::text(&bytes, guard)?;
    let mut xml = Xml::new(&text, guard);
    while let Some(token) = xml.next()? {
        let Token::Start(element) = token else { continue };
        if element.name() != "Relationship" || element.attribute("TargetMode").as_deref() == Some("External") {
            continue;
        }
        let (Some(id), Some(target)) = (element.attribute("Id"), element.attribute("Target")) else { continue };
        let kind = element.attribute("Type").unwrap_or_default();
        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
        relations.insert(id, Relation { kind, target: resolve(folder, &target) });
    }
    Ok(relations)
}

/// The name of a part from a reference in a part in `folder`. `..` cannot leave the archive: there is nothing above.
pub fn resolve(folder: &str, target: &str) -> String {
    let target = target.split(['#', '?']).next().unwrap_or_default();
    let mut path: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => folder.split('/').filter(|part| !part.is_empty()).collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.join("/")
}

/// Title, author and so on.
pub fn properties(archive: &Archive, guard: &Guard) -> Result<Properties> {
    let mut properties = Properties::default();
    let Some(bytes) = archive.read("docProps/core.xml", guard)? else { return Ok(properties) };
    let text = xml::text(&bytes, guard)?;
    let mut xml = Xml::new(&text, guard);
    while let Some(token) = xml.next()? {
        let Token::Start(element) = token else { continue };
        let field = match element.name() {
            "title" => &mut properties.title,
            "creator" => &mut properties.author,
            "subject" => &mut properties.subject,
            "language" => &mut properties.language,
            "created" => &mut properties.created,
            _ => continue,
        };
        *field = Some(xml.text()?);
    }
    Ok(properties)
}

/// The text of an element whose runs lie in elements `t`, as in shared strings and in slides; `skipped` are left out.
pub fn run_text(xml: &mut Xml, skipped: &str) -> Result<String> {
    let outside = xml.depth().saturating_sub(1);
    let mut text = String::new();
    while xml.depth() > outside {
        let Some(token) = xml.next()? else { break };
        let Token::Start(element) = token else { continue };
        match element.name() {
            "t" => text.push_str(&xml.text()?),
            "br" => text.push('\n'),
            "tab" => text.push('\t'),
            name if name == skipped => xml.skip()?,
            _ => {}
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn references_stay_in_the_archive() {
        assert_eq!(resolve("ppt/slides", "../notesSlides/n1.xml"), "ppt/notesSlides/n1.xml");
        assert_eq!(resolve("ppt", "/xl/sheet.xml"), "xl/sheet.xml");
        assert_eq!(resolve("a", "../../../etc/passwd#x"), "etc/passwd");
        assert_eq!(resolve("", "./b"), "b");
    }
}
