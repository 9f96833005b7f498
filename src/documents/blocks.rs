//! Writes the Markdown of a page, block by block: headings, paragraphs, list items, tables.
//!
//! What readers of structured documents have in common. Text comes in as the document has it; white space is made plain
//! here, marks that text would be misread by are escaped, and every byte is counted by the guard before it is kept.

use crate::error::Result;
use crate::limits::Guard;

/// Levels of lists that are indented; deeper ones stay at this level.
const INDENTED_LEVELS: usize = 8;

/// Cells that a short row of a table is filled up with at most.
const FILLED_COLUMNS: usize = 64;

/// What the last block was: items of one list and rows of one table have no empty line between them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Block,
    Item,
}

/// The text of one page.
pub struct Blocks<'a> {
    guard: &'a Guard<'a>,
    out: String,
    last: Last,
}

impl<'a> Blocks<'a> {
    pub fn new(guard: &'a Guard<'a>) -> Self {
        Self { guard, out: String::new(), last: Last::Nothing }
    }

    fn begin(&mut self, block: Last, bytes: usize) -> Result<()> {
        self.guard.write(bytes + 2)?;
        match (self.last, block) {
            (Last::Nothing, _) => {}
            (Last::Item, Last::Item) => self.out.push('\n'),
            _ => self.out.push_str("\n\n"),
        }
        self.last = block;
        Ok(())
    }

    /// A heading of level 1 to 6; deeper ones become 6.
    pub fn heading(&mut self, level: usize, text: &str) -> Result<()> {
        let text = one_line(text);
        if text.is_empty() {
            return Ok(());
        }
        let level = level.clamp(1, 6);
        self.begin(Last::Block, text.len() + level + 1)?;
        self.out.push_str(&"######"[..level]);
        self.out.push(' ');
        self.out.push_str(&text);
        Ok(())
    }

    /// Lines of the text stay lines.
    pub fn paragraph(&mut self, text: &str) -> Result<()> {
        let text = lines(text);
        if text.is_empty() {
            return Ok(());
        }
        self.begin(Last::Block, text.len() + 1)?;
        self.push_escaped(&text);
        Ok(())
    }

    /// Lines of code, fenced; indentation stays.
    pub fn code(&mut self, text: &str) -> Result<()> {
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat((longest + 1).max(3));
        self.begin(Last::Block, text.len() + 2 * fence.len() + 2)?;
        for piece in [fence.as_str(), "\n", text, "\n", fence.as_str()] {
            self.out.push_str(piece);
        }
        Ok(())
    }

    /// An item at `level` (0 is the outermost) behind `mark`, which is `-` or a number.
    pub fn item(&mut self, level: usize, mark: &str, text: &str) -> Result<()> {
        let text = lines(text);
        if text.is_empty() {
            return Ok(());
        }
        let indent = 2 * level.min(INDENTED_LEVELS);
        self.begin(Last::Item, text.len() + indent + mark.len() + 2)?;
        for _ in 0..indent {
            self.out.push(' ');
        }
        self.out.push_str(mark);
        self.out.push(' ');
        let mut is_first = true;
        for line in text.split('\n') {
            if !is_first {
                self.guard.write(indent + mark.len() + 2)?;
                self.out.push('\n');
                for _ in 0..indent + mark.len() + 1 {
                    self.out.push(' ');
                }
            }
            self.out.push_str(line);
            is_first = false;
        }
        Ok(())
    }

    /// Rows of cells. A table of one column is paragraphs; the first row of others is taken for their header.
    pub fn table(&mut self, rows: &[Vec<String>]) -> Result<()> {
        let filled: Vec<&Vec<String>> =
            rows.iter().filter(|row| row.iter().any(|cell| !cell.trim().is_empty())).collect();
        let columns = filled.iter().map(|row| row.len()).max().unwrap_or(0);
        if columns < 2 {
            return filled.iter().try_for_each(|row| self.paragraph(&row.concat()));
        }
        self.rows(columns.min(FILLED_COLUMNS), filled.into_iter().map(|row| Ok(row.as_slice())))
    }

    /// Rows of a table as they come, so that nobody has to hold all of it; short ones are filled up to `columns`.
    /// With none, the table has no header.
    pub fn rows<R: AsRef<[String]>>(&mut self, columns: usize, rows: impl Iterator<Item = Result<R>>) -> Result<()> {
        for (index, row) in rows.enumerate() {
            self.row(row?.as_ref(), columns, index == 0)?;
            if index == 0 && columns > 0 {
                self.guard.write(6 * columns + 2)?;
                self.out.push_str("\n|");
                for _ in 0..columns {
                    self.out.push_str(" --- |");
                }
            }
        }
        Ok(())
    }

    fn row(&mut self, row: &[String], columns: usize, is_first: bool) -> Result<()> {
        if is_first {
            self.begin(Last::Block, 2)?;
        } else {
            self.guard.write(2)?;
            self.out.push('\n');
        }
        self.out.push('|');
        for index in 0..columns.max(row.len()) {
            let cell = row.get(index).map(|cell| one_line(cell).replace('|', "\\|")).unwrap_or_default();
            self.guard.write(cell.len() + 3)?;
            self.out.push(' ');
            self.out.push_str(&cell);
            self.out.push_str(" |");
        }
        Ok(())
    }

    /// Text that Markdown would take for a heading or a fence gets a backslash.
    fn push_escaped(&mut self, text: &str) {
        if text.starts_with('#') || text.starts_with("```") || text.starts_with("~~~") {
            self.out.push('\\');
        }
        self.out.push_str(text);
    }

    /// The text, with a newline at its end unless it is empty.
    pub fn finish(mut self) -> String {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out
    }
}

/// Words with one space between them; what cannot be seen is left out.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut space = false;
    for character in text.chars() {
        if character.is_whitespace() {
            space = true;
        } else if !is_invisible(character) {
            if space && !line.is_empty() {
                line.push(' ');
            }
            space = false;
            line.push(character);
        }
    }
    line
}

/// The same line by line; empty lines go.
pub fn lines(text: &str) -> String {
    if !text.contains('\n') {
        return one_line(text);
    }
    let lines: Vec<String> = text.split('\n').map(one_line).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

pub fn is_invisible(character: char) -> bool {
    character.is_control() || matches!(character, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn blocks_are_apart_and_items_and_rows_are_not() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let mut blocks = Blocks::new(&guard);
        blocks.heading(9, " Deep\n title ").unwrap();
        blocks.paragraph("# one\u{a0} two\n\n three\0").unwrap();
        blocks.item(0, "-", "a").unwrap();
        blocks.item(1, "2.", "b\nc").unwrap();
        blocks.paragraph(" ").unwrap();
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        blocks.table(&[row(&["x", "y"]), row(&["", " "]), row(&["1|2"])]).unwrap();
        blocks.table(&[row(&["only"]), row(&["column"])]).unwrap();
        assert_eq!(
            blocks.finish(),
            "###### Deep title\n\n\\# one two\nthree\n\n- a\n  2. b\n     c\n\n| x | y |\n| --- | --- |\n| 1\\|2 |  |\n\nonly\n\ncolumn\n"
        );
    }

    #[test]
    fn text_beyond_the_limit_is_not_kept() {
        let limits = Limits { output_bytes: 20, ..Limits::default() };
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let mut blocks = Blocks::new(&guard);
        blocks.paragraph("ten bytes.").unwrap();
        assert!(blocks.paragraph("ten bytes.").is_err());
        assert_eq!(blocks.finish(), "ten bytes.\n");
    }
}
