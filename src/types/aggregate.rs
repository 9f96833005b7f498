//! The aggregates `avg` and `sum`, plain, parallel and over moving windows.
//!
//! `avg` keeps `{count, sum of each dimension}`, as pgvector does. Over a moving window both keep
//! `{count, rounded, high sums, low sums}` (see `pg_rag_engine::vector::window`), from which a row can be taken away again
//! exactly; where it can't, PostgreSQL is told to add the window up anew.

use super::dense::Dense;
use super::element::SqlElement;
use super::error_map::{expected_dimensions, from_arithmetic, from_vector, Result};
use super::state::State;
use pg_rag_engine::vector::{aggregate, window};

/// The dimensions of a state of `avg`; 0 before the first row.
fn state_dimensions(state: &State) -> usize {
    state.numbers().len() - 1
}

fn check_dimensions(expected: usize, actual: usize) -> Result<()> {
    if expected == actual {
        Ok(())
    } else {
        Err(expected_dimensions(expected, actual))
    }
}

/// Adds a row.
pub(super) fn accumulate<E: SqlElement>(mut state: State, row: &[E]) -> Result<State> {
    if state_dimensions(&state) == 0 {
        state = State::new(&aggregate::empty_state(state.numbers()[0], row.len()));
    }
    aggregate::accumulate(state.numbers_mut(), row).map_err(from_arithmetic)?;
    Ok(state)
}

/// Adds what another worker has.
pub(super) fn combine(state: &State, other: &State) -> Result<State> {
    Ok(State::new(&aggregate::combine(state.numbers(), other.numbers()).map_err(from_arithmetic)?))
}

/// The mean; none of no rows.
pub(super) fn average<E: SqlElement>(state: &State) -> Result<Option<Dense<E>>> {
    Ok(aggregate::finish(state.numbers()).map_err(from_vector)?.map(Dense::checked))
}

/// Adds a row to a moving window.
pub(super) fn window_add<E: SqlElement>(mut state: State, row: &[E]) -> Result<State> {
    if state.numbers().len() == 1 {
        state = State::new(&vec![0.0; window::state_length(row.len())]);
    }
    check_dimensions(window::dimensions(state.numbers()), row.len())?;
    window::add(state.numbers_mut(), row);
    Ok(state)
}

/// Takes a row out of a moving window; none when that would not be exact.
pub(super) fn window_remove<E: SqlElement>(mut state: State, row: &[E]) -> Result<Option<State>> {
    check_dimensions(window::dimensions(state.numbers()), row.len())?;
    Ok(window::remove(state.numbers_mut(), row).then_some(state))
}

/// The mean of a moving window; none of no rows.
pub(super) fn window_average<E: SqlElement>(state: &State) -> Result<Option<Dense<E>>> {
    window::average(state.numbers()).map_err(from_vector)?.map(Dense::new).transpose()
}

/// The sum of a moving window; none of no rows.
pub(super) fn window_sum<E: SqlElement>(state: &State) -> Result<Option<Dense<E>>> {
    window::sum(state.numbers()).map_err(from_arithmetic)?.map(Dense::new).transpose()
}
