//! One sheet: cells, in tables between empty rows.

use super::format::{self, Format};
use super::Workbook;
use crate::blocks::{one_line, Blocks};
use crate::error::Result;
use crate::limits::Guard;
use crate::xml::{Element, Token, Xml};
use std::collections::BTreeMap;

/// Columns that a sheet can have.
const MAX_COLUMNS: usize = 16_384;

/// A table with more columns than this is written cell by cell, without places for empty ones.
const MAX_ALIGNED_COLUMNS: usize = 256;

/// The filled cells of a row.
type Row = Vec<(usize, String)>;

/// The text of a sheet.
pub fn read(text: &str, workbook: &Workbook, guard: &Guard) -> Result<String> {
    let mut blocks = Blocks::new(guard);
    let mut xml = Xml::new(text, guard);
    let mut table: Vec<Row> = Vec::new();
    let mut last_row = 0u32;
    let mut row_number = 0u32;
    let mut row: Row = Vec::new();
    let mut column = 0;
    let mut in_row = None;
    while let Some(token) = xml.next()? {
        match token {
            Token::Start(element) => match element.name() {
                "row" => {
                    row_number =
                        element.attribute("r").and_then(|r| r.parse().ok()).unwrap_or(row_number.saturating_add(1));
                    in_row = Some(xml.depth());
                    column = 0;
                }
                "c" => {
                    column = element.attribute("r").and_then(|r| column_of(&r)).unwrap_or(column);
                    let value = cell(&mut xml, &element, workbook)?;
                    if !value.is_empty() && column < MAX_COLUMNS {
                        // Held until the table ends, so counted as if it were written.
                        guard.write(value.len())?;
                        row.push((column, value));
                    }
                    column += 1;
                }
                _ => {}
            },
            Token::End if in_row.is_some_and(|depth| depth > xml.depth()) => {
                in_row = None;
                if row.is_empty() {
                    continue;
                }
                if row_number > last_row.saturating_add(1) {
                    write(&mut blocks, std::mem::take(&mut table), guard)?;
                }
                last_row = row_number;
                table.push(std::mem::take(&mut row));
            }
            _ => {}
        }
    }
    write(&mut blocks, table, guard)?;
    Ok(blocks.finish())
}

/// The value of the cell whose start is `element`, as text in one line.
fn cell(xml: &mut Xml, element: &Element, workbook: &Workbook) -> Result<String> {
    let kind = element.attribute("t").unwrap_or_default();
    let style = element.attribute("s").and_then(|style| style.parse().ok()).unwrap_or(0);
    let outside = xml.depth().saturating_sub(1);
    let (mut value, mut inline) = (String::new(), String::new());
    while xml.depth() > outside {
        let Some(token) = xml.next()? else { break };
        let Token::Start(child) = token else { continue };
        match child.name() {
            "v" => value = xml.text()?,
            "t" => inline.push_str(&xml.text()?),
            "f" | "rPh" => xml.skip()?,
            _ => {}
        }
    }
    Ok(match kind.as_str() {
        "s" => {
            let string = value.trim().parse::<usize>().ok().and_then(|index| workbook.strings.get(index));
            string.map(|string| one_line(string)).unwrap_or_default()
        }
        "inlineStr" => one_line(&inline),
        "str" | "d" => one_line(&value),
        "b" => if value.trim() == "1" { "TRUE" } else { "FALSE" }.to_owned(),
        // What could not be computed is no value.
        "e" => String::new(),
        _ if value.is_empty() => String::new(),
        _ => {
            let format: Format = workbook.formats.of_style(style);
            format::show(&value, format, workbook.counts_from_1904)
        }
    })
}

/// The column of a reference such as `AB12`, from 0.
fn column_of(reference: &str) -> Option<usize> {
    let letters = reference.bytes().take_while(u8::is_ascii_alphabetic);
    let number =
        letters.take(4).fold(0usize, |sum, letter| sum * 26 + usize::from(letter.to_ascii_uppercase() - b'A') + 1);
    number.checked_sub(1)
}

fn write(blocks: &mut Blocks, table: Vec<Row>, guard: &Guard) -> Result<()> {
    let mut places: BTreeMap<usize, usize> = table.iter().flatten().map(|(column, _)| (*column, 0)).collect();
    for (place, index) in places.values_mut().enumerate() {
        *index = place;
    }
    let width = places.len();
    if width < 2 {
        let cells = table.into_iter().flatten().map(|(_, value)| vec![value]);
        return blocks.table(&cells.collect::<Vec<_>>());
    }
    let is_aligned = width <= MAX_ALIGNED_COLUMNS;
    let rows = table.into_iter().map(|row| -> Result<Vec<String>> {
        guard.step()?;
        if !is_aligned {
            return Ok(row.into_iter().map(|(_, value)| value).collect());
        }
        let mut cells = vec![String::new(); width];
        for (column, value) in row {
            // Of two cells with the same reference the last counts.
            if let Some(cell) = places.get(&column).and_then(|&place| cells.get_mut(place)) {
                *cell = value;
            }
        }
        Ok(cells)
    });
    blocks.rows(if is_aligned { width } else { 0 }, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::xlsx::format::Formats;

    #[test]
    fn references_name_columns() {
        assert_eq!(column_of("A1"), Some(0));
        assert_eq!(column_of("Z9"), Some(25));
        assert_eq!(column_of("AA10"), Some(26));
        assert_eq!(column_of("XFD1"), Some(16_383));
        assert_eq!(column_of("12"), None);
    }

    #[test]
    fn cells_become_tables_between_empty_rows() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let workbook = Workbook {
            strings: vec!["Name".into(), "a\nb".into()],
            formats: Formats::default(),
            counts_from_1904: false,
        };
        let text = "<worksheet><sheetData>\
            <row r='1'><c r='B1' t='s'><v>0</v></c><c r='D1' t='inlineStr'><is><r><t>Si</t></r><r><t>ze</t></r></is></c></row>\
            <row r='2'><c r='B2' t='s'><v>1</v></c><c r='D2'><f>SUM(A1)</f><v>1.50</v></c><c r='E2' t='e'><v>#N/A</v></c></row>\
            <row r='3'><c r='A3'/></row>\
            <row r='9'><c t='b'><v>1</v></c><c t='s'><v>77</v></c></row></sheetData></worksheet>";
        let expected = "| Name | Size |\n| --- | --- |\n| a b | 1.5 |\n\nTRUE\n";
        assert_eq!(read(text, &workbook, &guard).unwrap(), expected);
    }
}
