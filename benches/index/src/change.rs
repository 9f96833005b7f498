//! Changes of an indexed table: rows inserted one by one, rows deleted and vacuumed; and recall after each.

use crate::case::Case;
use crate::load::spoil;
use crate::report::Report;
use crate::search::{pass, Point};
use crate::side::{Outcome, Parameter, Side};
use std::time::Instant;

/// Insertions between one server's turn and the next.
const TURN: usize = 250;
/// Values of `hnsw.ef_search` for recall afterwards.
const EF_SEARCH: [usize; 2] = [40, 100];
/// One row in this many is deleted.
const DELETED: usize = 5;

/// Inserts the rows that follow the collection, each in a transaction of its own.
pub fn insert(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let data = case.data;
    let statement = format!("INSERT INTO {} (id, v) VALUES ($1, $2)", case.table());
    let rows: Vec<usize> = (data.rows..data.collection.len()).collect();
    let mut totals_s = vec![0.0; sides.len()];
    let mut cpu_s = vec![Some(0.0); sides.len()];
    let mut logged = vec![0.0; sides.len()];
    for side in sides.iter_mut() {
        spoil(side, case)?;
    }
    for (turn, rows) in rows.chunks(TURN).enumerate() {
        for at in 0..sides.len() {
            let which = (turn + at) % sides.len();
            let side = &mut sides[which];
            let statement = side.client.prepare(&statement)?;
            let log_before = side.log_position()?;
            let cpu_before = side.process.and_then(|process| process.cpu_s());
            let started = Instant::now();
            for &row in rows {
                side.client.execute(&statement, &[&(row as i64), &Parameter(data.collection.row(row))])?;
            }
            totals_s[which] += started.elapsed().as_secs_f64();
            let cpu_after = side.process.and_then(|process| process.cpu_s());
            let spent = cpu_before.zip(cpu_after).map(|(before, after)| after - before);
            cpu_s[which] = cpu_s[which].zip(spent).map(|(sum, spent)| sum + spent);
            logged[which] += side.log_position()? - log_before;
        }
    }
    let count = rows.len() as f64;
    let name = case.name(&format!("insert, {count} rows"));
    report.add(format!("{name}, speed"), "rows/s", totals_s.iter().map(|total| Some(count / total)).collect());
    let cpu_us = cpu_s.iter().map(|total| total.map(|total| total * 1e6 / count)).collect();
    report.add(format!("{name}, processor"), "µs/row", cpu_us);
    report.add(format!("{name}, log"), "bytes/row", logged.iter().map(|bytes| Some(bytes / count)).collect());
    afterwards(sides, case, &|_| true, &name, report)
}

/// Deletes a fifth of the rows, and vacuums. `inserted` says whether the rows after the collection are there.
pub fn vacuum(sides: &mut [Side], case: &Case<'_>, inserted: bool, report: &mut Report) -> Outcome<()> {
    let table = case.table();
    let (mut times, mut cpu, mut logged) = (Vec::new(), Vec::new(), Vec::new());
    for side in sides.iter_mut() {
        spoil(side, case)?;
        side.client.batch_execute(&format!("DELETE FROM {table} WHERE id % {DELETED} = 0"))?;
        let before = side.log_position()?;
        let cpu_before = side.process.and_then(|process| process.cpu_s());
        let started = Instant::now();
        side.client.batch_execute(&format!("VACUUM (INDEX_CLEANUP on) {table}"))?;
        times.push(Some(started.elapsed().as_secs_f64()));
        let cpu_after = side.process.and_then(|process| process.cpu_s());
        cpu.push(cpu_before.zip(cpu_after).map(|(before, after)| after - before));
        logged.push(Some((side.log_position()? - before) / (1 << 20) as f64));
    }
    let name = case.name(&format!("vacuum, 1 of {DELETED} rows"));
    report.add(format!("{name}, time"), "s", times);
    report.add(format!("{name}, processor"), "s", cpu);
    report.add(format!("{name}, log"), "MiB", logged);
    let live = |row: usize| !row.is_multiple_of(DELETED) && (row < case.data.rows || inserted);
    afterwards(sides, case, &live, &name, report)
}

/// Recall and speed among the rows that are left; the first pass is to warm up.
fn afterwards(
    sides: &mut [Side],
    case: &Case<'_>,
    live: &dyn Fn(usize) -> bool,
    name: &str,
    report: &mut Report,
) -> Outcome<()> {
    let judge = case.truth.judge(live)?;
    for ef_search in EF_SEARCH {
        pass(sides, case, &judge, ef_search, 0)?;
        let turns = pass(sides, case, &judge, ef_search, 1)?;
        let points: Vec<Point> = turns.iter().map(|turns| Point::of(ef_search, turns)).collect();
        let name = format!("{name}, then ef_search {ef_search}");
        report.add(format!("{name}, recall"), "share", points.iter().map(|point| Some(point.recall)).collect());
        report.add(format!("{name}, speed"), "queries/s", points.iter().map(|point| Some(point.per_s)).collect());
    }
    Ok(())
}
