//! Searches with a WHERE clause: a grid of how many rows pass and where they lie, each server with the best plan it has.
//!
//! Rows have two more columns: `anywhere`, which has nothing to do with the vector, and `near`, their place in the order of
//! distance from a pivot; both from 0 to 9,999. The queries are those nearest to the pivot, so that the rows of the lowest
//! `near` are near to them (correlated), and those of the highest are far (anti-correlated). Both sides have B-trees of both
//! columns; ours has them in the hnsw index, too, and is measured with its default settings and the plan that it chooses.
//! The peer is measured with its hnsw index and iterative scans in strict order, at the first `hnsw.ef_search` that reaches
//! the recall, and with the B-trees and a sort; the faster counts.

use crate::case::Case;
use crate::load::comment;
use crate::random::mix;
use crate::report::{median, print_table, shown, Report};
use crate::side::{Outcome, Parameter, Side};
use crate::vectors::dot;
use std::io::Write;
use std::time::{Duration, Instant};

/// The range of both columns.
const VALUES: usize = 10_000;
/// Shares of rows that pass, of [`VALUES`].
const SHARES: [usize; 6] = [10, 100, 500, 2_000, 5_000, 9_000];
const QUERIES: usize = 100;
const WANTED: usize = 10;
const RECALL: f64 = 0.95;
/// Fast plans are measured for as long, at least.
const LEAST_TIME: Duration = Duration::from_millis(1500);
/// What the peer is tried with until it reaches [`RECALL`].
const PEER_EF_SEARCH: [usize; 4] = [40, 100, 200, 400];

#[derive(Clone, Copy)]
enum Place {
    Anywhere,
    Near,
    Far,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Anywhere => "uncorrelated",
            Place::Near => "correlated",
            Place::Far => "anti-correlated",
        }
    }

    fn clause(self, share: usize) -> String {
        match self {
            Place::Anywhere => format!("anywhere < {share}"),
            Place::Near => format!("near < {share}"),
            Place::Far => format!("near >= {}", VALUES - share),
        }
    }
}

/// What the columns of the rows are, and which queries are asked.
struct Grid {
    anywhere: Vec<usize>,
    near: Vec<usize>,
    queries: Vec<usize>,
}

impl Grid {
    fn of(case: &Case<'_>) -> Grid {
        let data = case.data;
        let similarity = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE);
        let pivot = data.queries.row(0);
        let ranked = |count: usize, of: &dyn Fn(usize) -> f32| {
            let mut order: Vec<(f32, usize)> = (0..count).map(|row| (-of(row), row)).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0));
            order.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
        };
        let order = ranked(data.rows, &|row| similarity(data.collection.row(row), pivot));
        let mut near = vec![0; data.rows];
        order.iter().enumerate().for_each(|(rank, &row)| near[row] = rank * VALUES / data.rows);
        let mut queries = ranked(data.queries.len(), &|row| similarity(data.queries.row(row), pivot));
        queries.truncate(QUERIES);
        let anywhere = (0..data.rows).map(|row| (mix(0xF117, row as u64) % VALUES as u64) as usize).collect();
        Grid { anywhere, near, queries }
    }

    fn passes(&self, place: Place, share: usize, row: usize) -> bool {
        match place {
            Place::Anywhere => self.anywhere[row] < share,
            Place::Near => self.near[row] < share,
            Place::Far => self.near[row] >= VALUES - share,
        }
    }
}

fn table(case: &Case<'_>) -> String {
    format!("filtered_{}", case.dimensions())
}

/// Makes the table and its indexes where the last run has not.
fn ensure(side: &mut Side, case: &Case<'_>, grid: &Grid) -> Outcome<()> {
    let (table, items, metric) = (table(case), case.table(), case.metric.name());
    let stamp = format!("{metric} rows {} of {:016x}", case.data.rows, case.data.fingerprint);
    if comment(side, &table)?.as_deref() == Some(&stamp) {
        return Ok(());
    }
    side.client.batch_execute(&format!(
        "DROP TABLE IF EXISTS {table}; CREATE TEMP TABLE places (id bigint, anywhere integer, near integer)"
    ))?;
    let mut writer = side.client.copy_in("COPY places FROM STDIN")?;
    for row in 0..case.data.rows {
        writeln!(writer, "{row}\t{}\t{}", grid.anywhere[row], grid.near[row])?;
    }
    writer.finish()?;
    let columns = if side.label == "ours" { ", anywhere, near" } else { "" };
    let started = Instant::now();
    side.client.batch_execute(&format!(
        "CREATE TABLE {table} WITH (autovacuum_enabled = off) AS
             SELECT id, anywhere, near, v FROM {items} JOIN places USING (id) ORDER BY id;
         DROP TABLE places;
         ALTER TABLE {table} SET (parallel_workers = {});
         CREATE INDEX ON {table} (anywhere);
         CREATE INDEX ON {table} (near);
         CREATE INDEX {table}_v_idx ON {table} USING hnsw (v vector_{metric}_ops{columns})
             WITH (m = {}, ef_construction = {})",
        case.options.workers, case.options.m, case.options.ef_construction
    ))?;
    println!("{}: {table} and its indexes made in {:.1} s", side.label, started.elapsed().as_secs_f64());
    side.client.batch_execute(&format!("VACUUM (FREEZE, ANALYZE) {table}"))?;
    side.client.batch_execute(&format!("COMMENT ON TABLE {table} IS '{stamp}'"))?;
    Ok(())
}

/// What a plan gives.
#[derive(Clone)]
struct Measured {
    per_s: f64,
    recall: f64,
    fewest: usize,
    plan: String,
}

/// A cell of the grid.
struct Cell<'a> {
    statement: String,
    /// By query: the similarity of the last wanted row, and how many rows pass.
    tenth: Vec<(f32, usize)>,
    grid: &'a Grid,
}

impl<'a> Cell<'a> {
    fn of(case: &Case<'_>, grid: &'a Grid, place: Place, share: usize) -> Self {
        let passing: Vec<usize> = (0..case.data.rows).filter(|&row| grid.passes(place, share, row)).collect();
        let tenth = grid.queries.iter().map(|&query| {
            let mut all: Vec<f32> = passing.iter().map(|&row| similarity(case, query, row)).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            (all.get(WANTED - 1).or(all.last()).copied().unwrap_or(f32::INFINITY), all.len())
        });
        let statement = format!(
            "SELECT id FROM {} WHERE {} ORDER BY v {} $1 LIMIT {WANTED}",
            table(case),
            place.clause(share),
            case.metric.operator()
        );
        Cell { statement, tenth: tenth.collect(), grid }
    }

    /// Asks all queries, `passes` times after one to warm up.
    fn measure(&self, side: &mut Side, case: &Case<'_>, passes: usize) -> Outcome<Measured> {
        let elements: Vec<String> = case.data.queries.row(self.grid.queries[0]).iter().map(f32::to_string).collect();
        let literal = format!("'[{}]'", elements.join(","));
        let rows = side.client.query(&format!("EXPLAIN {}", self.statement.replace("$1", &literal)), &[])?;
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let scan =
            plan.iter().map(|line| line.trim().trim_start_matches("->").trim()).find(|line| line.contains("Scan"));
        let plan = scan.and_then(|line| line.split("  ").next()).unwrap_or("?").to_string();
        let statement = side.client.prepare(&self.statement)?;
        let (mut speeds, mut found, mut wanted, mut fewest) = (Vec::new(), 0, 0, usize::MAX);
        let began = Instant::now();
        for pass in 0.. {
            if pass > passes && began.elapsed() > LEAST_TIME {
                break;
            }
            let started = Instant::now();
            for (&query, &(tenth, passing)) in self.grid.queries.iter().zip(&self.tenth) {
                let rows = side.client.query(&statement, &[&Parameter(case.data.queries.row(query))])?;
                if pass == 0 {
                    // Rows as near as the tenth count, whichever they are.
                    let near = |id: i64| similarity(case, query, id as usize) >= tenth - 1e-6;
                    found += rows.iter().filter(|row| near(row.get(0))).count();
                    wanted += passing.min(WANTED);
                    fewest = fewest.min(rows.len() + WANTED - passing.min(WANTED));
                }
            }
            if pass > 0 {
                speeds.push(self.grid.queries.len() as f64 / started.elapsed().as_secs_f64());
            }
        }
        Ok(Measured { per_s: median(speeds), recall: found as f64 / wanted as f64, fewest, plan })
    }
}

fn similarity(case: &Case<'_>, query: usize, row: usize) -> f32 {
    let (query, row) = (case.data.queries.row(query), case.data.collection.row(row));
    dot(query, row) / dot(row, row).sqrt().max(f32::MIN_POSITIVE)
}

fn ours(side: &mut Side, cell: &Cell<'_>, case: &Case<'_>) -> Outcome<Measured> {
    side.client.batch_execute("SET enable_seqscan = on; RESET hnsw.ef_search")?;
    cell.measure(side, case, case.options.passes)
}

/// The best of the peer's plans.
fn peer(side: &mut Side, cell: &Cell<'_>, case: &Case<'_>) -> Outcome<Measured> {
    let mut all = Vec::new();
    side.client.batch_execute("SET enable_seqscan = on; SET enable_indexscan = off")?;
    all.push(cell.measure(side, case, 1)?);
    side.client.batch_execute(
        "SET enable_indexscan = on; SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off;
         SET hnsw.iterative_scan = strict_order; SET hnsw.max_scan_tuples = 2147483647; SET hnsw.scan_mem_multiplier = 100",
    )?;
    for ef_search in PEER_EF_SEARCH {
        side.client.batch_execute(&format!("SET hnsw.ef_search = {ef_search}"))?;
        all.push(cell.measure(side, case, 1)?);
        if all.last().is_some_and(|measured| measured.recall >= RECALL) {
            break;
        }
    }
    side.client
        .batch_execute("RESET enable_sort; RESET enable_bitmapscan; SET enable_seqscan = on; RESET hnsw.ef_search")?;
    let good = |measured: &&Measured| measured.recall >= RECALL && measured.fewest >= WANTED;
    let best = all.iter().filter(good).max_by(|a, b| a.per_s.total_cmp(&b.per_s));
    Ok(best.or(all.last()).expect("measured").clone())
}

/// Measures the whole grid.
pub fn run(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let grid = Grid::of(case);
    for side in sides.iter_mut() {
        ensure(side, case, &grid)?;
        side.client.batch_execute("SET plan_cache_mode = force_generic_plan")?;
    }
    let mut lines =
        vec![["clause", "%", "server", "queries/s", "recall", "fewest rows", "plan"].map(String::from).to_vec()];
    for place in [Place::Anywhere, Place::Near, Place::Far] {
        for share in SHARES {
            let cell = Cell::of(case, &grid, place, share);
            let percent = share as f64 / VALUES as f64 * 100.0;
            let (mut speeds, mut recalls) = (Vec::new(), Vec::new());
            for side in sides.iter_mut() {
                let measured = match side.label {
                    "ours" => ours(side, &cell, case)?,
                    _ => peer(side, &cell, case)?,
                };
                let Measured { per_s, recall, fewest, plan } = measured;
                lines.push(vec![
                    place.name().into(),
                    percent.to_string(),
                    side.label.into(),
                    shown(Some(per_s)),
                    format!("{recall:.4}"),
                    fewest.to_string(),
                    plan,
                ]);
                speeds.push(Some(per_s));
                recalls.push(Some(recall));
            }
            report.add(case.name(&format!("filter, {}, {percent} %", place.name())), "queries/s", speeds);
            report.keep(case.name(&format!("filter, {}, {percent} %, recall", place.name())), "share", recalls);
        }
    }
    print_table(&lines);
    Ok(())
}
