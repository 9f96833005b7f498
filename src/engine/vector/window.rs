//! Sums over a moving window: rows come in at one end and leave at the other.
//!
//! A sum of rounded additions can't give up a row again: what was rounded away is lost, and after a huge row nothing of
//! the small ones is left. So each dimension is kept as the unevaluated sum of two `f64` (Dekker 1971; the error of an
//! addition by Knuth's two-sum), which is exact as long as the second addition rounds nothing away: 106 bits hold the sum of
//! any rows whose elements differ by less than about twenty powers of ten. The state notes when that ends, and from then
//! on refuses to remove a row, so that the caller adds the window up anew.
//!
//! State: `{rows, 1 if something was rounded, high part of each dimension, low part of each dimension}`. Callers: the
//! moving-aggregate functions of `avg` and `sum`.

use super::{ArithmeticError, Element, VectorError};

/// Numbers before the parts: the count and the note.
const PREFIX: usize = 2;

/// The length of the state of rows with so many dimensions.
pub fn state_length(dimensions: usize) -> usize {
    PREFIX + 2 * dimensions
}

/// The dimensions of a state.
pub fn dimensions(state: &[f64]) -> usize {
    state.len().saturating_sub(PREFIX) / 2
}

/// `a + b` and what rounding took away from it.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// Adds `sign · row` to the parts.
fn add_signed<E: Element>(state: &mut [f64], row: &[E], sign: f64) {
    let (prefix, parts) = state.split_at_mut(PREFIX.min(state.len()));
    let (high, low) = parts.split_at_mut(parts.len() / 2);
    let mut rounded = false;
    for ((high, low), &x) in high.iter_mut().zip(low).zip(row) {
        let (sum, error) = two_sum(*high, sign * f64::from(x.to_f32()));
        let (rest, lost) = two_sum(*low, error);
        // Keeps the two parts from overlapping, so that the low one stays small.
        (*high, *low) = two_sum(sum, rest);
        rounded |= lost != 0.0;
    }
    if let [rows, note] = prefix {
        *rows += sign;
        if rounded {
            *note = 1.0;
        }
    }
}

/// Adds a row of as many dimensions as the state has.
pub fn add<E: Element>(state: &mut [f64], row: &[E]) {
    add_signed(state, row, 1.0);
}

/// Removes a row that was added. `false`, with the state spoilt, when the result is not exact.
pub fn remove<E: Element>(state: &mut [f64], row: &[E]) -> bool {
    add_signed(state, row, -1.0);
    state.get(1) == Some(&0.0)
}

/// Sum of each dimension, divided by `divisor`; none of no rows.
fn totals(state: &[f64], divide: bool) -> Option<impl Iterator<Item = f64> + '_> {
    let rows = *state.first()?;
    if rows == 0.0 {
        return None;
    }
    let divisor = if divide { rows } else { 1.0 };
    let (high, low) = state[PREFIX.min(state.len())..].split_at(dimensions(state));
    Some(high.iter().zip(low).map(move |(high, low)| (high + low) / divisor))
}

/// The mean row; none of no rows. Its elements lie between those of the rows, so none overflows.
pub fn average<E: Element>(state: &[f64]) -> Result<Option<Vec<E>>, VectorError> {
    let Some(means) = totals(state, true) else { return Ok(None) };
    let means: Vec<f32> = means.map(|mean| mean as f32).collect();
    super::convert(&means).map(Some)
}

/// The sum of the rows; none of no rows.
///
/// Errors: `Overflow` when an element leaves the range of the type.
pub fn sum<E: Element>(state: &[f64]) -> Result<Option<Vec<E>>, ArithmeticError> {
    let Some(sums) = totals(state, false) else { return Ok(None) };
    let sums: Vec<E> = sums.map(|sum| E::round_from(sum as f32)).collect();
    if sums.iter().all(|sum| sum.to_f32().is_finite()) {
        Ok(Some(sums))
    } else {
        Err(ArithmeticError::Overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(rows: &[Vec<f32>]) -> Vec<f64> {
        let mut state = vec![0.0; state_length(rows.first().map_or(0, Vec::len))];
        rows.iter().for_each(|row| add(&mut state, row));
        state
    }

    #[test]
    fn a_huge_row_leaves_no_trace() {
        let mut state = window(&[vec![1e15, -1e12], vec![1e-7, 3.0], vec![0.25, -0.0]]);
        assert!(remove(&mut state, &[1e15_f32, -1e12]));
        assert_eq!(sum::<f32>(&state), Ok(Some(vec![0.250_000_1, 3.0])));
        assert_eq!(average::<f32>(&state), Ok(Some(vec![0.125_000_05, 1.5])));
    }

    #[test]
    fn what_106_bits_cannot_hold_is_noticed() {
        let mut state = window(&[vec![1e38], vec![1.0], vec![1e-38]]);
        assert!(!remove(&mut state, &[1e38_f32]));
    }

    #[test]
    fn no_rows_have_neither_sum_nor_average() {
        let mut state = window(&[vec![1.5]]);
        assert!(remove(&mut state, &[1.5_f32]));
        assert_eq!((sum::<f32>(&state), average::<f32>(&state)), (Ok(None), Ok(None)));
        assert_eq!(average::<f32>(&[0.0]), Ok(None));
    }

    #[test]
    fn sum_beyond_the_type_is_an_overflow() {
        assert_eq!(sum::<f32>(&window(&[vec![3e38], vec![3e38]])), Err(ArithmeticError::Overflow));
        assert_eq!(average::<f32>(&window(&[vec![3e38], vec![3e38]])), Ok(Some(vec![3e38])));
    }

    proptest! {
        #[test]
        fn moving_on_equals_starting_anew(
            rows in prop::collection::vec(prop::collection::vec(-1e6f32..1e6, 3), 2..40),
            width in 1usize..10,
        ) {
            let mut state = vec![0.0; state_length(3)];
            for (at, row) in rows.iter().enumerate() {
                add(&mut state, row);
                if at >= width {
                    prop_assert!(remove(&mut state, &rows[at - width]));
                }
                let fresh = window(&rows[(at + 1).saturating_sub(width)..=at]);
                prop_assert_eq!(sum::<f32>(&state), sum::<f32>(&fresh));
                prop_assert_eq!(state[0], fresh[0]);
            }
        }
    }
}
