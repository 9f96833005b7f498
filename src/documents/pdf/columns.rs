//! The order of reading: columns are found and put one after the other.
//!
//! A region is cut, again and again, where white space goes all the way through it. A cut from top to bottom makes columns,
//! but only where both sides are running text: the columns of a table belong together line by line. A cut from side to
//! side is kept only if there are columns above it or below: a title across two columns. Everything else is one region,
//! so that paragraphs are not torn apart.

use super::fragments::Fragment;
use crate::error::Result;
use crate::limits::Guard;

/// White space between columns has at least this many sizes of the text.
const MIN_GUTTER: f64 = 0.7;

/// Fewer fragments are no columns.
const MIN_FRAGMENTS: usize = 6;

const MAX_DEPTH: usize = 24;

/// Splits fragments into regions, each of which is read from top to bottom, in the order of reading.
pub fn regions(fragments: Vec<Fragment>, guard: &Guard) -> Result<Vec<Vec<Fragment>>> {
    let mut regions = Vec::new();
    split(fragments, 0, guard, &mut regions)?;
    Ok(regions)
}

/// Whether there were columns.
fn split(fragments: Vec<Fragment>, depth: usize, guard: &Guard, out: &mut Vec<Vec<Fragment>>) -> Result<bool> {
    guard.look()?;
    if fragments.len() < MIN_FRAGMENTS || depth >= MAX_DEPTH {
        out.push(fragments);
        return Ok(false);
    }
    if let Some(x) = gutter(&fragments, guard)? {
        let (left, right): (Vec<_>, Vec<_>) = fragments.into_iter().partition(|f| f.x0 + f.x1 < 2.0 * x);
        split(left, depth + 1, guard, out)?;
        split(right, depth + 1, guard, out)?;
        return Ok(true);
    }
    let Some(y) = widest_gap(&fragments, guard)? else {
        out.push(fragments);
        return Ok(false);
    };
    let (above, below): (Vec<_>, Vec<_>) = fragments.iter().cloned().partition(|f| f.y > y);
    let mut parts = Vec::new();
    let has_columns_above = split(above, depth + 1, guard, &mut parts)?;
    let has_columns_below = split(below, depth + 1, guard, &mut parts)?;
    match has_columns_above || has_columns_below {
        true => out.extend(parts),
        false => out.push(fragments),
    }
    Ok(has_columns_above || has_columns_below)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    if numbers.is_empty() {
        return 0.0;
    }
    let middle = numbers.len() / 2;
    *numbers.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The middle of the widest white space from top to bottom with running text on both sides.
fn gutter(fragments: &[Fragment], guard: &Guard) -> Result<Option<f64>> {
    let size = median(fragments.iter().map(|fragment| fragment.size).collect());
    let mut spans: Vec<(f64, f64)> = fragments.iter().map(|fragment| (fragment.x0, fragment.x1)).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut gaps: Vec<(f64, f64)> = Vec::new();
    let mut reached = f64::NEG_INFINITY;
    for (x0, x1) in spans {
        guard.step()?;
        if reached.is_finite() && x0 - reached >= MIN_GUTTER * size {
            gaps.push((reached, x0));
        }
        reached = reached.max(x1);
    }
    gaps.sort_by(|a, b| (b.1 - b.0).total_cmp(&(a.1 - a.0)));
    for (from, to) in gaps.into_iter().take(4) {
        let x = (from + to) / 2.0;
        let (left, right): (Vec<&Fragment>, Vec<&Fragment>) = fragments.iter().partition(|f| f.x0 + f.x1 < 2.0 * x);
        if is_running_text(&left) && is_running_text(&right) && overlap_vertically(&left, &right) {
            return Ok(Some(x));
        }
    }
    Ok(None)
}

/// Whether most lines of a column are as wide as the column, and long enough to be text.
fn is_running_text(column: &[&Fragment]) -> bool {
    if column.len() < 3 {
        return false;
    }
    let x0 = column.iter().map(|f| f.x0).fold(f64::INFINITY, f64::min);
    let x1 = column.iter().map(|f| f.x1).fold(f64::NEG_INFINITY, f64::max);
    // Lines, from fragments with about the same base line.
    let mut sorted: Vec<&&Fragment> = column.iter().collect();
    sorted.sort_by(|a, b| b.y.total_cmp(&a.y));
    let mut lines: Vec<(f64, f64, usize)> = Vec::new();
    for fragment in sorted {
        match lines.last_mut() {
            Some((y, width, chars)) if (*y - fragment.y).abs() < 0.5 * fragment.size => {
                *width += fragment.x1 - fragment.x0;
                *chars += fragment.chars;
            }
            _ => lines.push((fragment.y, fragment.x1 - fragment.x0, fragment.chars)),
        }
    }
    let full = lines.iter().filter(|(_, width, chars)| *width > 0.6 * (x1 - x0) && *chars >= 15).count();
    lines.len() >= 3 && 2 * full >= lines.len()
}

fn overlap_vertically(left: &[&Fragment], right: &[&Fragment]) -> bool {
    let range = |column: &[&Fragment]| {
        let low = column.iter().map(|f| f.y).fold(f64::INFINITY, f64::min);
        (low, column.iter().map(|f| f.y).fold(f64::NEG_INFINITY, f64::max))
    };
    let ((low, high), (other_low, other_high)) = (range(left), range(right));
    low.max(other_low) < high.min(other_high)
}

/// The middle of the widest white space from side to side.
fn widest_gap(fragments: &[Fragment], guard: &Guard) -> Result<Option<f64>> {
    let mut spans: Vec<(f64, f64)> = fragments.iter().map(|fragment| (fragment.top(), fragment.bottom())).collect();
    spans.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut widest: Option<(f64, f64)> = None;
    let mut reached = f64::INFINITY;
    for (top, bottom) in spans {
        guard.step()?;
        let gap = reached - top;
        if reached.is_finite() && gap > 0.0 && widest.is_none_or(|(width, _)| gap > width) {
            widest = Some((gap, (reached + top) / 2.0));
        }
        reached = reached.min(bottom);
    }
    Ok(widest.map(|(_, y)| y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn fragment(x0: f64, x1: f64, y: f64, text: &str) -> Fragment {
        let chars = text.chars().count();
        Fragment { x0, x1, y, size: 10.0, text: text.into(), chars, bold_chars: 0, monospaced_chars: 0 }
    }

    fn read(fragments: Vec<Fragment>) -> Vec<Vec<String>> {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let texts = |region: Vec<Fragment>| region.into_iter().map(|fragment| fragment.text).collect();
        regions(fragments, &guard).unwrap().into_iter().map(texts).collect()
    }

    #[test]
    fn a_title_and_two_columns_under_it() {
        let mut page = vec![fragment(50.0, 350.0, 700.0, "a title across the columns")];
        for line in 0..5 {
            let y = 660.0 - 12.0 * f64::from(line);
            page.push(fragment(0.0, 190.0, y, "left column of running text"));
            page.push(fragment(205.0, 400.0, y, "right column of running text"));
        }
        let regions = read(page);
        assert_eq!(regions.len(), 3);
        assert_eq!(regions[0], ["a title across the columns"]);
        assert!(regions[1].iter().all(|text| text.starts_with("left")) && regions[1].len() == 5);
        assert!(regions[2].iter().all(|text| text.starts_with("right")));
    }

    #[test]
    fn columns_of_a_table_stay_together() {
        let mut page = Vec::new();
        for row in 0..6 {
            let y = 600.0 - 12.0 * f64::from(row);
            page.push(fragment(0.0, 40.0, y, "name"));
            page.push(fragment(150.0, 170.0, y, "12"));
            page.push(fragment(250.0, 280.0, y, "text"));
        }
        assert_eq!(read(page).len(), 1);
    }
}
