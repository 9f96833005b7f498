//! A search with a WHERE clause: its statement, what it should find, and how fast a plan of it is.

use crate::case::Case;
use crate::report::median;
use crate::side::{Outcome, Parameter, Side};
use crate::vectors::dot;
use std::collections::HashSet;
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
    /// Whether a row passes the clause of a query, by its place: nothing else may come.
    passes: Box<dyn Fn(usize, usize) -> bool + 'a>,
}

impl<'a> Cell<'a> {
    /// `clauses`: one for all queries, or one for each. `passes`: whether the row of this number passes that of a query.
    pub fn of(
        case: &Case<'_>,
        table: &str,
        clauses: Vec<String>,
        limit: usize,
        queries: &'a [usize],
        passes: impl Fn(usize, usize) -> bool + 'a,
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
        let last = last.collect();
        Cell { table: table.into(), last, clauses, limit, queries, passes: Box::new(passes) }
    }

    /// The share of the rows that pass, in percent, on average over the queries.
    pub fn percent(&self, case: &Case<'_>) -> f64 {
        let passing: usize = self.last.iter().map(|&(_, passing)| passing).sum();
        passing as f64 / (self.last.len() * case.data.rows) as f64 * 100.0
    }

    fn statement(&self, case: &Case<'_>, clause: &str) -> String {
        let Cell { table, limit, .. } = self;
        format!("SELECT id FROM {table} WHERE {clause} ORDER BY v {} $1 LIMIT {limit}", case.metric.operator())
    }

    /// What EXPLAIN tells of the plan of each clause.
    fn explained_each(&self, side: &mut Side, case: &Case<'_>) -> Outcome<Vec<Vec<String>>> {
        let elements: Vec<String> = case.data.queries.row(self.queries[0]).iter().map(f32::to_string).collect();
        let literal = format!("'[{}]'", elements.join(","));
        let each = self.clauses.iter().map(|clause| {
            let statement = self.statement(case, clause).replace("$1", &literal);
            let rows = side.client.query(&format!("EXPLAIN (COSTS OFF) {statement}"), &[])?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        });
        each.collect()
    }

    /// The same as one text: two plans are the same where it is.
    pub fn explained(&self, side: &mut Side, case: &Case<'_>) -> Outcome<Vec<String>> {
        Ok(self.explained_each(side, case)?.concat())
    }

    /// Asks all queries, `passes` times, at least once, and as long as `least`, after one time to warm up.
    pub fn measure(&self, side: &mut Side, case: &Case<'_>, passes: usize, least: Duration) -> Outcome<Measured> {
        let explained = self.explained_each(side, case)?;
        let statements = self.clauses.iter().map(|clause| side.client.prepare(&self.statement(case, clause)));
        let statements = statements.collect::<Result<Vec<_>, _>>()?;
        let (mut speeds, mut found, mut wanted, mut wrong, mut fewest) = (Vec::new(), 0, 0, 0, usize::MAX);
        let began = Instant::now();
        for pass in 0.. {
            // Without a pass that counts, what takes long would have no speed at all.
            if pass > passes.max(1) && began.elapsed() > least {
                break;
            }
            let started = Instant::now();
            for (place, (&query, &(last, passing))) in self.queries.iter().zip(&self.last).enumerate() {
                let statement = &statements[place % statements.len()];
                let rows = side.client.query(statement, &[&Parameter(case.data.queries.row(query))])?;
                if pass == 0 {
                    let ids: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
                    let right: Vec<usize> =
                        ids.iter().map(|&id| id as usize).filter(|&row| (self.passes)(place, row)).collect();
                    wrong += rows.len() - right.len();
                    // Rows as near as the last wanted count, whichever they are.
                    found += right.iter().filter(|&&row| similarity(case, query, row) >= last - 1e-6).count();
                    wanted += passing.min(self.limit);
                    fewest = fewest.min(right.len() + self.limit - passing.min(self.limit));
                }
            }
            if pass > 0 {
                speeds.push(self.queries.len() as f64 / started.elapsed().as_secs_f64());
            }
        }
        if wrong > 0 {
            let statement = self.statement(case, &self.clauses[0]);
            println!("WARNING: {}: {wrong} rows that do not pass, or came twice: {statement}", side.label);
        }
        let recall = if wanted > 0 { found as f64 / wanted as f64 } else { 1.0 };
        Ok(Measured { per_s: median(speeds), recall, fewest, plan: scans_of(&explained) })
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
            if all.last().is_some_and(|measured| self.is_good(measured)) {
                break;
            }
        }
        side.client.batch_execute(
            "RESET enable_sort; RESET enable_bitmapscan; RESET hnsw.ef_search;
             RESET hnsw.iterative_scan; RESET hnsw.max_scan_tuples; RESET hnsw.scan_mem_multiplier",
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

/// The scans of several plans, each once, the most frequent first, with how often it is there.
fn scans_of(explained: &[Vec<String>]) -> String {
    let mut scans: Vec<(usize, String)> = Vec::new();
    for scan in explained.iter().map(|explained| scan_of(explained)) {
        match scans.iter_mut().find(|(_, known)| *known == scan) {
            Some((count, _)) => *count += 1,
            None => scans.push((1, scan)),
        }
    }
    if let [(_, scan)] = scans.as_slice() {
        return scan.clone();
    }
    scans.sort_by(|a, b| b.cmp(a));
    scans.iter().map(|(count, scan)| format!("{count} × {scan}")).collect::<Vec<_>>().join("; ")
}

fn similarity(case: &Case<'_>, query: usize, row: usize) -> f32 {
    let (query, row) = (case.data.queries.row(query), case.data.collection.row(row));
    dot(query, row) / dot(row, row).sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(plan: &str) -> Vec<String> {
        plan.lines().map(String::from).collect()
    }

    #[test]
    fn a_mask_is_told_only_of_a_search() {
        let masked = lines(
            "Limit
  ->  Custom Scan (PgRagFilteredSearch) on t
        ->  Index Scan using t_v_idx on t
              Order By: (v <=> $1)
        ->  BitmapAnd
              ->  Bitmap Index Scan on t_a_idx",
        );
        assert_eq!(scan_of(&masked), "Custom Scan (PgRagFilteredSearch) on t, mask");
        assert_eq!(scan_of(&masked[..4]), "Custom Scan (PgRagFilteredSearch) on t");
        let sorted = lines(
            "Limit\n  ->  Sort\n        ->  Bitmap Heap Scan on t\n              ->  Bitmap Index Scan on t_a_idx",
        );
        assert_eq!(scan_of(&sorted), "Bitmap Heap Scan on t");
    }

    #[test]
    fn different_plans_are_counted() {
        let (seq, index) = (lines("Seq Scan on t"), lines("Index Scan using i on t"));
        assert_eq!(scans_of(&[seq.clone(), seq.clone()]), "Seq Scan on t");
        assert_eq!(scans_of(&[seq, index.clone(), index]), "2 × Index Scan using i on t; 1 × Seq Scan on t");
    }
}
