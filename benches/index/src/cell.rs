//! A search with a WHERE clause: its statement, what it should find, and how fast a plan of it is.

use crate::case::Case;
use crate::report::median;
use crate::side::{Outcome, Parameter, Side};
use crate::vectors::dot;
use std::time::{Duration, Instant};

/// A plan that finds less is not counted.
pub const RECALL: f64 = 0.95;
/// What the peer is tried with until it reaches [`RECALL`].
const PEER_EF_SEARCH: [usize; 4] = [40, 100, 200, 400];

/// What a plan gives.
#[derive(Clone)]
pub struct Measured {
    pub per_s: f64,
    pub recall: f64,
    /// Of all queries the fewest rows that came, and those that could not come.
    pub fewest: usize,
    pub plan: String,
    /// What EXPLAIN tells of it, without costs.
    pub explained: Vec<String>,
}

/// A search, asked for several vectors.
pub struct Cell<'a> {
    /// What the query's vector, and how many rows are wanted, is put in; the clause differs by query.
    table: String,
    clauses: Vec<String>,
    limit: usize,
    queries: &'a [usize],
    /// By query: the similarity of the last wanted row, and how many rows pass.
    last: Vec<(f32, usize)>,
}

impl<'a> Cell<'a> {
    /// `clauses`: one for all queries, or one for each. `passes`: whether the row of this number passes that of a query.
    pub fn of(
        case: &Case<'_>,
        table: &str,
        clauses: Vec<String>,
        limit: usize,
        queries: &'a [usize],
        passes: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let all = clauses.len() == 1;
        let rows_of = |place: usize| (0..case.data.rows).filter(|&row| passes(place, row)).collect::<Vec<_>>();
        let first = rows_of(0);
        let last = queries.iter().enumerate().map(|(place, &query)| {
            let own = if all { None } else { Some(rows_of(place)) };
            let passing = own.as_ref().unwrap_or(&first);
            let mut near: Vec<f32> = passing.iter().map(|&row| similarity(case, query, row)).collect();
            near.sort_by(|a, b| b.total_cmp(a));
            (near.get(limit - 1).or(near.last()).copied().unwrap_or(f32::INFINITY), near.len())
        });
        Cell { table: table.into(), last: last.collect(), clauses, limit, queries }
    }

    fn statement(&self, case: &Case<'_>, clause: &str) -> String {
        let Cell { table, limit, .. } = self;
        format!("SELECT id FROM {table} WHERE {clause} ORDER BY v {} $1 LIMIT {limit}", case.metric.operator())
    }

    /// What EXPLAIN tells of the plan.
    fn explained(&self, side: &mut Side, case: &Case<'_>) -> Outcome<Vec<String>> {
        let elements: Vec<String> = case.data.queries.row(self.queries[0]).iter().map(f32::to_string).collect();
        let statement = self.statement(case, &self.clauses[0]);
        let literal = format!("'[{}]'", elements.join(","));
        let rows = side.client.query(&format!("EXPLAIN (COSTS OFF) {}", statement.replace("$1", &literal)), &[])?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Asks all queries, `passes` times and as long as `least` after one time to warm up.
    pub fn measure(&self, side: &mut Side, case: &Case<'_>, passes: usize, least: Duration) -> Outcome<Measured> {
        let explained = self.explained(side, case)?;
        let statements = self.clauses.iter().map(|clause| side.client.prepare(&self.statement(case, clause)));
        let statements = statements.collect::<Result<Vec<_>, _>>()?;
        let (mut speeds, mut found, mut wanted, mut fewest) = (Vec::new(), 0, 0, usize::MAX);
        let began = Instant::now();
        for pass in 0.. {
            if pass > passes && began.elapsed() > least {
                break;
            }
            let started = Instant::now();
            for (place, (&query, &(last, passing))) in self.queries.iter().zip(&self.last).enumerate() {
                let statement = &statements[place % statements.len()];
                let rows = side.client.query(statement, &[&Parameter(case.data.queries.row(query))])?;
                if pass == 0 {
                    // Rows as near as the last wanted count, whichever they are.
                    let near = |id: i64| similarity(case, query, id as usize) >= last - 1e-6;
                    found += rows.iter().filter(|row| near(row.get(0))).count();
                    wanted += passing.min(self.limit);
                    fewest = fewest.min(rows.len() + self.limit - passing.min(self.limit));
                }
            }
            if pass > 0 {
                speeds.push(self.queries.len() as f64 / started.elapsed().as_secs_f64());
            }
        }
        let recall = if wanted > 0 { found as f64 / wanted as f64 } else { 1.0 };
        Ok(Measured { per_s: median(speeds), recall, fewest, plan: scan_of(&explained), explained })
    }

    /// Whether a plan found what it should.
    pub fn is_good(&self, measured: &Measured) -> bool {
        measured.recall >= RECALL && measured.fewest >= self.limit
    }

    /// The best of the peer's plans: B-trees and a sort, and its index at the first `hnsw.ef_search` that suffices.
    pub fn best_of_peer(&self, side: &mut Side, case: &Case<'_>, least: Duration) -> Outcome<Measured> {
        let mut all = Vec::new();
        side.client.batch_execute("SET enable_seqscan = on; SET enable_indexscan = off")?;
        all.push(self.measure(side, case, 1, least)?);
        side.client.batch_execute(
            "SET enable_indexscan = on; SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off;
             SET hnsw.iterative_scan = strict_order; SET hnsw.max_scan_tuples = 2147483647;
             SET hnsw.scan_mem_multiplier = 100",
        )?;
        for ef_search in PEER_EF_SEARCH {
            side.client.batch_execute(&format!("SET hnsw.ef_search = {ef_search}"))?;
            all.push(self.measure(side, case, 1, least)?);
            if all.last().is_some_and(|measured| measured.recall >= RECALL) {
                break;
            }
        }
        side.client.batch_execute(
            "RESET enable_sort; RESET enable_bitmapscan; SET enable_seqscan = on; RESET hnsw.ef_search",
        )?;
        let good = all.iter().filter(|measured| self.is_good(measured));
        let best = good.max_by(|a, b| a.per_s.total_cmp(&b.per_s));
        Ok(best.or(all.last()).expect("measured").clone())
    }
}

/// The scan of a plan, with the mask if it has one.
fn scan_of(explained: &[String]) -> String {
    let nodes = explained.iter().map(|line| line.trim().trim_start_matches("->").trim());
    let scan = nodes.clone().find(|node| node.contains("Scan")).unwrap_or("?");
    let has_mask = scan.starts_with("Custom") && nodes.clone().any(|node| node.starts_with("Bitmap"));
    if has_mask {
        format!("{scan}, mask")
    } else {
        scan.to_owned()
    }
}

fn similarity(case: &Case<'_>, query: usize, row: usize) -> f32 {
    let (query, row) = (case.data.queries.row(query), case.data.collection.row(row));
    dot(query, row) / dot(row, row).sqrt().max(f32::MIN_POSITIVE)
}
