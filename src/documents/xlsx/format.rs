//! How the number in a cell is shown: which styles are dates, times and percentages, and what those look like as text.
//!
//! Only what changes the meaning is applied: 45000 with the format of a date is a date, 0.25 with that of a percentage is
//! 25 %. Dates are written as ISO 8601 has them, whatever the format's order, so that they read alike everywhere.

use crate::error::Result;
use crate::limits::Guard;
use crate::xml::{Token, Xml};
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Number,
    Date,
    Time,
    DateTime,
    Percent,
}

/// Formats of cells by the number of their style.
#[derive(Default)]
pub struct Formats {
    styles: Vec<Format>,
}

impl Formats {
    pub fn read(text: &str, guard: &Guard) -> Result<Self> {
        let mut xml = Xml::new(text, guard);
        let mut own: HashMap<u32, Format> = HashMap::new();
        let mut ids: Vec<u32> = Vec::new();
        let mut cell_styles: Option<usize> = None;
        while let Some(token) = xml.next()? {
            match token {
                Token::Start(element) => {
                    let id = || element.attribute("numFmtId").and_then(|id| id.parse().ok()).unwrap_or(0);
                    match element.name() {
                        "numFmt" => {
                            own.insert(id(), of_code(&element.attribute("formatCode").unwrap_or_default()));
                        }
                        "cellXfs" => cell_styles = Some(xml.depth()),
                        "xf" if cell_styles.is_some() => ids.push(id()),
                        _ => {}
                    }
                }
                Token::End if cell_styles.is_some_and(|depth| depth > xml.depth()) => cell_styles = None,
                _ => {}
            }
        }
        let format = |id: u32| own.get(&id).copied().unwrap_or_else(|| built_in(id));
        Ok(Self { styles: ids.into_iter().map(format).collect() })
    }

    pub fn of_style(&self, style: usize) -> Format {
        self.styles.get(style).copied().unwrap_or_default()
    }
}

/// Formats that need no code in the file.
fn built_in(id: u32) -> Format {
    match id {
        9 | 10 => Format::Percent,
        14..=17 | 27..=31 | 34..=36 | 50..=58 => Format::Date,
        18..=21 | 32 | 33 | 45..=47 => Format::Time,
        22 => Format::DateTime,
        _ => Format::Number,
    }
}

/// What a code such as `dd/mm/yyyy;@` stands for. Text in quotes, in brackets (colours, conditions) and behind
/// backslashes means nothing here, but `[h]` is hours.
fn of_code(code: &str) -> Format {
    let (mut date, mut time, mut percent) = (false, false, false);
    let mut characters = code.split(';').next().unwrap_or_default().chars();
    while let Some(character) = characters.next() {
        match character.to_ascii_lowercase() {
            '"' => {
                let _ = characters.by_ref().find(|&character| character == '"');
            }
            '\\' | '_' | '*' => {
                characters.next();
            }
            '[' => {
                let inside: String = characters.by_ref().take_while(|&character| character != ']').collect();
                time |= !inside.is_empty() && inside.chars().all(|c| matches!(c.to_ascii_lowercase(), 'h' | 'm' | 's'));
            }
            'y' | 'd' => date = true,
            'h' | 's' => time = true,
            // Months or minutes: whatever the rest is.
            'm' => {}
            '%' => percent = true,
            _ => {}
        }
    }
    match (date, time) {
        (true, true) => Format::DateTime,
        (true, false) => Format::Date,
        (false, true) => Format::Time,
        (false, false) if percent => Format::Percent,
        (false, false) if is_month_only(code) => Format::Date,
        _ => Format::Number,
    }
}

fn is_month_only(code: &str) -> bool {
    code.to_ascii_lowercase().starts_with("mmm")
}

/// A number as its cell shows it.
pub fn show(written: &str, format: Format, counts_from_1904: bool) -> String {
    let Ok(number) = written.trim().parse::<f64>() else { return written.trim().to_owned() };
    match format {
        Format::Number => plain(number, written),
        Format::Percent => format!("{}%", plain(number * 100.0, "")),
        _ => date_time(number, format, counts_from_1904).unwrap_or_else(|| plain(number, written)),
    }
}

/// With the 15 digits that a spreadsheet shows at most: 0.1 + 0.2 is 0.3.
fn plain(number: f64, written: &str) -> String {
    if !number.is_finite() || number.abs() >= 1e15 || (number != 0.0 && number.abs() < 1e-9) {
        return if written.is_empty() { number.to_string() } else { written.trim().to_owned() };
    }
    let digits_before = number.abs().log10().floor().max(0.0) as usize + 1;
    let text = format!("{number:.*}", 15usize.saturating_sub(digits_before));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

const SECONDS_A_DAY: f64 = 86_400.0;

/// Days since the end of 1899 or the beginning of 1904 as a date; `None` outside the calendar of spreadsheets.
fn date_time(days: f64, format: Format, counts_from_1904: bool) -> Option<String> {
    if !(0.0..2_958_466.0).contains(&days) {
        return None;
    }
    let mut day = days.floor() as i64;
    let mut seconds = ((days - days.floor()) * SECONDS_A_DAY).round() as i64;
    if seconds == 86_400 {
        day += 1;
        seconds = 0;
    }
    let (hours, minutes, seconds_left) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if format == Format::Time {
        // A duration may be more than a day.
        return Some(format!("{:02}:{minutes:02}:{seconds_left:02}", day * 24 + hours));
    }
    // Day 60 of 1900 is a 29 February that never was; before it, days are one off.
    let since_1970 = match counts_from_1904 {
        true => day - 24_107,
        false if day < 60 => day - 25_568,
        false => day - 25_569,
    };
    let (year, month, day_of_month) = civil(since_1970);
    let date = format!("{year:04}-{month:02}-{day_of_month:02}");
    Some(match format {
        Format::DateTime if seconds != 0 => format!("{date} {hours:02}:{minutes:02}:{seconds_left:02}"),
        _ => date,
    })
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: eras of 400 years begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * month_from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_formats() {
        for (code, format) in [
            ("General", Format::Number),
            ("#,##0.00", Format::Number),
            ("dd/mm/yyyy;@", Format::Date),
            ("[$-409]mmmm\\ d\\,\\ yyyy", Format::Date),
            ("mmm", Format::Date),
            ("h:mm AM/PM", Format::Time),
            ("[h]:mm:ss", Format::Time),
            ("yyyy-mm-dd hh:mm", Format::DateTime),
            ("0.0%", Format::Percent),
            ("[Red]0.00", Format::Number),
            ("0 \"days\"", Format::Number),
        ] {
            assert_eq!(of_code(code), format, "{code}");
        }
    }

    #[test]
    fn numbers_as_shown() {
        let number = |text| show(text, Format::Number, false);
        assert_eq!(number("0.30000000000000004"), "0.3");
        assert_eq!(number("1234567"), "1234567");
        assert_eq!(number("-2.50"), "-2.5");
        assert_eq!(number("1E-3"), "0.001");
        assert_eq!(number("1e300"), "1e300");
        assert_eq!(number("not a number"), "not a number");
        assert_eq!(show("0.125", Format::Percent, false), "12.5%");
    }

    #[test]
    fn days_are_dates() {
        let date = |text| show(text, Format::Date, false);
        assert_eq!(date("1"), "1900-01-01");
        assert_eq!(date("59"), "1900-02-28");
        assert_eq!(date("61"), "1900-03-01");
        assert_eq!(date("45351"), "2024-02-29");
        assert_eq!(date("-1"), "-1");
        assert_eq!(show("0", Format::Date, true), "1904-01-01");
        assert_eq!(show("45351.75", Format::DateTime, false), "2024-02-29 18:00:00");
        assert_eq!(show("1.5", Format::Time, false), "36:00:00");
    }
}
