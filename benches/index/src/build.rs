//! CREATE INDEX: its time, what it logs, and the size of what comes out.

use crate::case::Case;
use crate::load::comment;
use crate::options::Options;
use crate::report::Report;
use crate::side::{Outcome, Side};
use std::time::Instant;

/// How the index was made, kept as its comment.
fn stamp(case: &Case<'_>) -> String {
    format!("{} m {} ef_construction {}", case.metric.name(), case.options.m, case.options.ef_construction)
}

/// What a build took.
struct Built {
    time_s: f64,
    /// Of the backend alone, so `None` where workers helped.
    cpu_s: Option<f64>,
    logged_mib: f64,
}

/// Drops what index there is and builds the wanted one.
fn create(side: &mut Side, case: &Case<'_>) -> Outcome<Built> {
    let (table, index) = (case.table(), case.index());
    let Options { workers, m, ef_construction, .. } = case.options;
    // As many workers for vectors that are stored out of line, whose table counts as small.
    side.client.batch_execute(&format!(
        "DROP INDEX IF EXISTS {index}; ALTER TABLE {table} SET (parallel_workers = {workers})"
    ))?;
    let before = side.log_position()?;
    let cpu_before = side.process.and_then(|process| process.cpu_s());
    let started = Instant::now();
    side.client.batch_execute(&format!(
        "CREATE INDEX {index} ON {table} USING hnsw (v vector_{}_ops) WITH (m = {m}, ef_construction = {ef_construction})",
        case.metric.name()
    ))?;
    let time_s = started.elapsed().as_secs_f64();
    let cpu_after = side.process.and_then(|process| process.cpu_s());
    let cpu_s = cpu_before.zip(cpu_after).map(|(before, after)| after - before).filter(|_| *workers == 0);
    let logged_mib = (side.log_position()? - before) / (1 << 20) as f64;
    side.client.batch_execute(&format!("COMMENT ON INDEX {index} IS '{}'", stamp(case)))?;
    Ok(Built { time_s, cpu_s, logged_mib })
}

/// Makes sure that there is the wanted index, without a measurement.
pub fn ensure(side: &mut Side, case: &Case<'_>) -> Outcome<()> {
    if comment(side, &case.index())?.as_deref() != Some(&stamp(case)) {
        println!("{}: no such index from an earlier run, building it", side.label);
        create(side, case)?;
    }
    Ok(())
}

/// Builds the index on each side.
pub fn run(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let (mut times, mut cpu, mut logged, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // No checkpoint on the way, nor between the builds and the changes that are measured later: then their logs compare.
    for side in sides.iter_mut() {
        side.client.batch_execute("CHECKPOINT")?;
    }
    for side in sides {
        let built = create(side, case)?;
        times.push(Some(built.time_s));
        cpu.push(built.cpu_s);
        logged.push(Some(built.logged_mib));
        memory.push(side.process.and_then(|process| process.private_mib()));
    }
    report.add(case.name(&format!("build, {} workers", case.options.workers)), "s", times);
    report.add(case.name("build, processor"), "s", cpu);
    report.add(case.name("build, log"), "MiB", logged);
    report.add(case.name("build, private memory of the backend after it"), "MiB", memory);
    Ok(())
}

/// Bytes of the index for each row.
pub fn size(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let mut sizes = Vec::new();
    for side in sides {
        let bytes: i64 = side.client.query_one("SELECT pg_relation_size($1::text::regclass)", &[&case.index()])?.get(0);
        sizes.push(Some(bytes as f64 / case.data.rows as f64));
    }
    report.add(case.name("size of the index"), "bytes/row", sizes);
    Ok(())
}

/// The plan must be a scan of the index.
pub fn check_plan(side: &mut Side, case: &Case<'_>) -> Outcome<()> {
    let elements: Vec<String> = case.data.queries.row(0).iter().map(f32::to_string).collect();
    let query = case.search_statement().replace("$1", &format!("'[{}]'", elements.join(",")));
    let rows = side.client.query(&format!("EXPLAIN {query}"), &[])?;
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    // The order by shows the whole vector.
    if plan.iter().any(|line| line.contains(&format!("Index Scan using {}", case.index()))) {
        return Ok(());
    }
    let plan: Vec<_> = plan.iter().map(|line| line.chars().take(100).collect::<String>()).collect();
    Err(format!("{}: the index is not used:\n{}", side.label, plan.join("\n")).into())
}
