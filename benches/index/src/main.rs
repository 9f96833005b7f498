//! Benchmark of the index access method `hnsw`, beside another server that has one of this name.
//!
//! ```text
//! pg_rag_bench_index --data DIR [--ours DSN] [--peer DSN] [--only build,size,search,filter,insert,vacuum]
//!     [--dims 384,768,1536] [--metric cosine,l2] [--rows 60000] [--m 16] [--ef-construction 64] [--ef-search 10,20,…]
//!     [--queries 1000] [--passes 3] [--inserts 2000] [--workers 1] [--memory 4GB] [--truth DIR] [--json FILE]
//! ```
//!
//! Two more parts have to be asked for: `plans`, whether the planner takes the fastest plan; and `conditions`, tenants, ranges
//! of time and arrays.
//!
//! A server is a DSN of a database with one of the extensions pg_rag and vector; one alone is measured alone. Two are
//! measured in turns and compared as ratios, ours to the peer's. Their clusters should have the same settings: a difference
//! is told. The measured share the machine with the one client; on a busy machine the time of a backend on a processor says
//! more than the clock's. All that can be set in a session is set: `--memory` is maintenance_work_mem, `--workers`
//! max_parallel_maintenance_workers.
//!
//! Tables and indexes stay in the database (schemas `bench_index_ours` and `bench_index_peer`): without `build`, a run takes
//! what an earlier one left. Insertions and deletions spoil a table, so the next run loads it anew.
//!
//! A benchmark is never a test.

mod build;
mod case;
mod cell;
mod change;
mod conditions;
mod data;
mod filter;
mod grid;
mod load;
mod npy;
mod options;
mod plans;
mod process;
mod random;
mod report;
mod search;
mod side;
mod truth;
mod vectors;

use case::Case;
use data::Source;
use options::Options;
use report::Report;
use side::{introduce, Outcome, Side};
use std::error::Error;
use std::process::ExitCode;
use truth::Truth;

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    let mut cause = Some(&*error as &dyn Error);
    while let Some(error) = cause {
        eprintln!("error: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

fn run() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let Some(source) = Source::read(&options.data)? else { return Ok(()) };
    let mut sides = Vec::new();
    for (label, dsn) in [("ours", &options.ours), ("peer", &options.peer)] {
        if let Some(dsn) = dsn {
            sides.push(Side::open(label, dsn, &options)?);
        }
    }
    introduce(&sides);
    let mut report = Report::new(&sides);
    for &dimensions in &options.dimensions {
        let data = source.dataset(options.rows, options.inserts, dimensions, options.queries)?;
        for &metric in &options.metrics {
            println!("\n{dimensions} dimensions, {}, {} rows", metric.name(), data.rows);
            let truth = Truth::of(&data, metric, &options.truth)?;
            measure(&mut sides, &Case { data: &data, metric, truth, options: &options }, &mut report)?;
            // After each case: a run takes long.
            if let Some(path) = &options.json {
                std::fs::write(path, report.to_json())?;
            }
        }
    }
    if let Some(path) = &options.json {
        println!("written to {}", path.display());
    }
    Ok(())
}

/// The wanted parts of one case.
fn measure(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let wants = |part| case.options.wants(part);
    for side in sides.iter_mut() {
        load::ensure(side, case)?;
        if !wants("build") {
            build::ensure(side, case)?;
        }
    }
    if wants("build") {
        build::run(sides, case, report)?;
    }
    for side in sides.iter_mut() {
        build::check_plan(side, case)?;
    }
    if wants("size") {
        build::size(sides, case, report)?;
    }
    if wants("search") {
        search::sweep(sides, case, report)?;
    }
    if wants("filter") {
        filter::run(sides, case, report)?;
    }
    if wants("plans") {
        plans::run(sides, case, report)?;
    }
    if wants("conditions") {
        conditions::run(sides, case, report)?;
    }
    if wants("insert") {
        change::insert(sides, case, report)?;
    }
    if wants("vacuum") {
        change::vacuum(sides, case, wants("insert"), report)?;
    }
    Ok(())
}
