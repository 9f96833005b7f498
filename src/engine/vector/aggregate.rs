//! The state of `avg` over dense vectors: `[count, sum of element 1, …, sum of element N]`, all `f64`.
//!
//! That is pgvector's state, a SQL array of `float8` that anyone can pass to the aggregate's functions, so nothing about
//! its numbers is taken for granted: a state of one number is one without rows, whatever the number says. Sums are
//! plain `f64` sums. The SQL layer calls these functions from the transition, combine and final functions; moving
//! windows have [`super::window`].

use super::{check_declared, check_dimensions, check_element, round_in_range, ArithmeticError, Element, VectorError};

/// The sum of no elements. Negative zero, because it leaves any number unchanged by addition, zeros of either sign too.
const EMPTY_SUM: f64 = -0.0;

/// A state that rows of these dimensions can be added to. `count` is that of the state it takes the place of, one
/// without dimensions; pgvector keeps it, though only 0 makes sense.
pub fn empty_state(count: f64, dimensions: usize) -> Vec<f64> {
    let mut state = vec![EMPTY_SUM; 1 + dimensions];
    state[0] = count;
    state
}

/// Adds a row. In place of a state without dimensions, the caller passes an [`empty_state`].
pub fn accumulate<E: Element>(state: &mut [f64], row: &[E]) -> Result<(), ArithmeticError> {
    let (count, sums) = split(state, row.len())?;
    *count += 1.0;
    for (sum, &element) in sums.iter_mut().zip(E::widen(row).iter()) {
        *sum += f64::from(element);
    }
    check_finite_sums(sums)
}

/// The state of the rows of both states. pgvector raises an error if neither has rows; here that is a state without
/// rows, so that a parallel plan over no rows gives NULL as a serial one does.
pub fn combine(a: &[f64], b: &[f64]) -> Result<Vec<f64>, ArithmeticError> {
    let (Some((count_a, sums_a)), Some((count_b, sums_b))) = (a.split_first(), b.split_first()) else {
        return Err(VectorError::Empty(f32::TYPE_NAME).into());
    };
    if *count_a == 0.0 && *count_b == 0.0 {
        return Ok(vec![0.0]);
    }
    // pgvector uses these checks, and the name `vector`, for both element types.
    if *count_a == 0.0 {
        check_dimensions::<f32>(sums_b.len())?;
        return Ok(b.to_vec());
    }
    check_dimensions::<f32>(sums_a.len())?;
    if *count_b == 0.0 {
        return Ok(a.to_vec());
    }
    check_declared(Some(sums_a.len()), sums_b.len())?;
    let combined: Vec<f64> = a.iter().zip(b).map(|(x, y)| x + y).collect();
    check_finite_sums(&combined[1..])?;
    Ok(combined)
}

/// The average, rounded to `f32` and then to the element type; `None` without rows.
pub fn finish<E: Element>(state: &[f64]) -> Result<Option<Vec<E>>, VectorError> {
    let Some((&count, sums)) = state.split_first().filter(|(count, _)| **count != 0.0) else { return Ok(None) };
    check_dimensions::<E>(sums.len())?;
    let average = |&sum: &f64| {
        let element = round_in_range((sum / count) as f32)?;
        check_element(element)?;
        Ok(element)
    };
    sums.iter().map(average).collect::<Result<Vec<E>, _>>().map(Some)
}

/// The count and the sums of a state that has the dimensions of a row.
fn split(state: &mut [f64], row_dimensions: usize) -> Result<(&mut f64, &mut [f64]), VectorError> {
    check_declared(Some(state.len().saturating_sub(1)), row_dimensions)?;
    state.split_first_mut().ok_or(VectorError::Empty(f32::TYPE_NAME))
}

fn check_finite_sums(sums: &[f64]) -> Result<(), ArithmeticError> {
    if sums.iter().any(|sum| sum.is_infinite()) {
        Err(ArithmeticError::Overflow)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    fn state_of<E: Element>(rows: &[Vec<E>]) -> Vec<f64> {
        let mut state = empty_state(0.0, rows[0].len());
        rows.iter().for_each(|row| accumulate(&mut state, row).unwrap());
        state
    }

    #[test]
    fn rows_are_counted_and_summed() {
        let state = state_of(&[vec![1f32, -0.0], vec![3.0, 0.5]]);
        assert_eq!(state, [2.0, 4.0, 0.5]);
        assert_eq!(finish::<f32>(&state).unwrap().unwrap(), [2.0, 0.25]);
        assert!(state_of(&[vec![-0.0f32]])[1].is_sign_negative());
    }

    #[test]
    fn no_rows_have_no_average() {
        assert_eq!(finish::<f32>(&[0.0]).unwrap(), None);
        assert_eq!(finish::<f32>(&[]).unwrap(), None);
        assert_eq!(finish::<f32>(&[1.0]), Err(VectorError::Empty("vector")));
    }

    #[test]
    fn faults_are_those_of_pgvector() {
        let error = accumulate(&mut [1.0, 1.0, 2.0], &[1f32]).unwrap_err();
        assert_eq!(error.to_string(), "expected 2 dimensions, not 1");
        assert_eq!(accumulate(&mut [1.0, f64::INFINITY], &[1f32]), Err(ArithmeticError::Overflow));
        assert_eq!(combine(&[1.0, f64::MAX], &[1.0, f64::MAX]), Err(ArithmeticError::Overflow));
        assert_eq!(combine(&[1.0, 1.0], &[1.0, 1.0, 1.0]).unwrap_err().to_string(), "expected 1 dimensions, not 2");
        assert_eq!(combine(&[1.0], &[0.0]), Err(VectorError::Empty("vector").into()));
        let error = |state: &[f64]| finish::<f16>(state).unwrap_err().to_string();
        assert_eq!(error(&[1.0, 65_536.0]), "\"65536\" is out of range for type halfvec");
        assert_eq!(error(&[1.0, 1e300]), "infinite value not allowed in halfvec");
        assert_eq!(error(&[1.0, f64::NAN]), "NaN not allowed in halfvec");
        assert_eq!(finish::<f32>(&[1.0, 1e300]), Err(VectorError::Infinite("vector")));
    }

    #[test]
    fn states_without_rows_are_neutral() {
        assert_eq!(combine(&[0.0], &[2.0, 1.0]).unwrap(), [2.0, 1.0]);
        assert_eq!(combine(&[2.0, 1.0], &[0.0]).unwrap(), [2.0, 1.0]);
        assert_eq!(combine(&[0.0], &[0.0]).unwrap(), [0.0]);
    }

    proptest! {
        #[test]
        fn halves_are_summed_exactly_in_any_grouping(
            rows in prop::collection::vec(prop::collection::vec(0u16..0x7c00, 3), 2..30), cut in 1usize..29
        ) {
            let rows: Vec<Vec<f16>> =
                rows.iter().map(|row| row.iter().map(|&bits| f16::from_bits(bits)).collect()).collect();
            let cut = cut.min(rows.len() - 1);
            let (state, first, second) = (state_of(&rows), state_of(&rows[..cut]), state_of(&rows[cut..]));
            prop_assert_eq!(&combine(&first, &second).unwrap(), &state);
        }
    }
}
