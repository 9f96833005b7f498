//! Searches: one client, a prepared statement, parameters and results in binary.

use crate::case::Case;
use crate::report::{median, print_table, ratio, shown, Report};
use crate::side::{Outcome, Parameter, Side};
use crate::truth::Judge;
use postgres::Statement;
use std::time::Instant;

/// Recalls at which speeds are compared.
const TARGETS: [f64; 2] = [0.95, 0.99];

/// Queries that a server answers before it is the other's turn: so few that what else the machine does falls on both alike.
const TURN: usize = 100;

/// What one turn says.
pub struct Turn {
    recall: f64,
    per_s: f64,
    /// Time of the backend on a processor for each query, in microseconds.
    cpu_us: Option<f64>,
}

/// What all turns of one `hnsw.ef_search` say: medians, and the mean of recall.
pub struct Point {
    ef_search: usize,
    pub recall: f64,
    pub per_s: f64,
    cpu_us: Option<f64>,
}

impl Point {
    pub fn of(ef_search: usize, turns: &[Turn]) -> Self {
        let cpu_us: Vec<f64> = turns.iter().filter_map(|turn| turn.cpu_us).collect();
        Self {
            ef_search,
            recall: turns.iter().map(|turn| turn.recall).sum::<f64>() / turns.len() as f64,
            per_s: median(turns.iter().map(|turn| turn.per_s).collect()),
            cpu_us: (!cpu_us.is_empty()).then(|| median(cpu_us)),
        }
    }
}

/// Asks every server all queries once. Returns the turns of each.
pub fn pass(
    sides: &mut [Side],
    case: &Case<'_>,
    judge: &Judge<'_>,
    ef_search: usize,
    round: usize,
) -> Outcome<Vec<Vec<Turn>>> {
    let mut statements = Vec::new();
    for side in sides.iter_mut() {
        side.client.batch_execute(&format!("SET hnsw.ef_search = {ef_search}"))?;
        statements.push(side.client.prepare(&case.search_statement())?);
    }
    let mut turns: Vec<Vec<Turn>> = sides.iter().map(|_| Vec::new()).collect();
    let queries: Vec<usize> = (0..case.data.queries.len()).collect();
    for (number, queries) in queries.chunks(TURN).enumerate() {
        for at in 0..sides.len() {
            let which = (at + number + round) % sides.len();
            turns[which].push(turn(&mut sides[which], &statements[which], case, judge, queries)?);
        }
    }
    Ok(turns)
}

fn turn(
    side: &mut Side,
    statement: &Statement,
    case: &Case<'_>,
    judge: &Judge<'_>,
    queries: &[usize],
) -> Outcome<Turn> {
    let count = queries.len() as f64;
    let mut answers = Vec::with_capacity(queries.len());
    let cpu_before = side.process.and_then(|process| process.cpu_s());
    let started = Instant::now();
    for &query in queries {
        answers.push(side.client.query(statement, &[&Parameter(case.data.queries.row(query))])?);
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    let cpu_after = side.process.and_then(|process| process.cpu_s());
    let recalls = queries.iter().zip(&answers).map(|(&query, rows)| {
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        judge.recall(query, &ids)
    });
    Ok(Turn {
        recall: recalls.sum::<f64>() / count,
        per_s: count / elapsed_s,
        cpu_us: cpu_before.zip(cpu_after).map(|(before, after)| (after - before) * 1e6 / count),
    })
}

/// Speed and recall over all values of `hnsw.ef_search`, in passes through all of them; the first is to warm up.
pub fn sweep(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let judge = case.truth.judge(|row| row < case.data.rows)?;
    let efs = &case.options.ef_search;
    let mut turns: Vec<Vec<Vec<Turn>>> = sides.iter().map(|_| efs.iter().map(|_| Vec::new()).collect()).collect();
    for round in 0..=case.options.passes {
        for (at, &ef_search) in efs.iter().enumerate() {
            for (turns, more) in turns.iter_mut().zip(pass(sides, case, &judge, ef_search, round)?) {
                if round > 0 {
                    turns[at].extend(more);
                }
            }
        }
    }
    let points: Vec<Vec<Point>> = turns
        .iter()
        .map(|turns| efs.iter().zip(turns).map(|(&ef_search, turns)| Point::of(ef_search, turns)).collect())
        .collect();
    show(sides, &points, case, report);
    for target in TARGETS {
        let at = points.iter().map(|points| speed_at(points, target));
        report.add(case.name(&format!("search, recall {target}")), "queries/s", at.collect());
    }
    let memory = sides.iter().map(|side| side.process.and_then(|process| process.private_mib())).collect();
    report.add(case.name("search, private memory of the backend after it"), "MiB", memory);
    Ok(())
}

/// A row for each `hnsw.ef_search`, with a column for each server and their ratio.
fn show(sides: &[Side], points: &[Vec<Point>], case: &Case<'_>, report: &mut Report) {
    type Column = (&'static str, &'static str, fn(&Point) -> Option<f64>);
    let columns: [Column; 3] = [
        ("recall", "share", |point| Some(point.recall)),
        ("speed", "queries/s", |point| Some(point.per_s)),
        ("processor", "µs/query", |point| point.cpu_us),
    ];
    let mut heading = vec!["ef_search".to_string()];
    for (name, unit, _) in &columns {
        let unit = if *name == "recall" { name } else { unit };
        heading.extend(sides.iter().map(|side| format!("{unit} {}", side.label)));
        heading.extend((sides.len() == 2).then(|| "ratio".to_string()));
    }
    let mut rows = vec![heading];
    for at in 0..points[0].len() {
        let ef_search = points[0][at].ef_search;
        let mut row = vec![ef_search.to_string()];
        for (name, unit, value) in &columns {
            let values: Vec<Option<f64>> = points.iter().map(|points| value(&points[at])).collect();
            row.extend(values.iter().map(|&value| shown(value)));
            row.extend((sides.len() == 2).then(|| ratio(&values).map_or("-".into(), |ratio| format!("{ratio:.3}"))));
            report.keep(case.name(&format!("search, ef_search {ef_search}, {name}")), unit, values);
        }
        rows.push(row);
    }
    print_table(&rows);
}

/// Speed at a recall, between two points in proportion to the logarithm. Where the first point is above it, that point's
/// speed, a lower bound; `None` where none reaches it.
fn speed_at(points: &[Point], target: f64) -> Option<f64> {
    let above = points.iter().position(|point| point.recall >= target)?;
    let right = &points[above];
    let Some(left) = above.checked_sub(1).map(|left| &points[left]) else {
        println!("  recall {target} is reached at the least ef_search already: its speed is a lower bound");
        return Some(right.per_s);
    };
    let share = (target - left.recall) / (right.recall - left.recall);
    Some((left.per_s.ln() + share * (right.per_s.ln() - left.per_s.ln())).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_lies_between_its_neighbours() {
        let point = |ef_search, recall, per_s| Point { ef_search, recall, per_s, cpu_us: None };
        let points = [point(10, 0.90, 1000.0), point(20, 0.96, 100.0), point(40, 0.98, 50.0)];
        let close = |speed: Option<f64>, wanted: f64| assert!((speed.unwrap() - wanted).abs() < 1e-6, "{speed:?}");
        close(speed_at(&points, 0.93), 100_000f64.sqrt());
        close(speed_at(&points, 0.96), 100.0);
        close(speed_at(&points, 0.8), 1000.0);
        assert_eq!(speed_at(&points, 0.99), None);
    }
}
