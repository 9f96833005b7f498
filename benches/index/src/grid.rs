//! A grid of conditions: how many rows pass and where they lie.
//!
//! Rows have two more columns: `anywhere`, which has nothing to do with the vector, and `near`, their place in the order of
//! distance from a pivot; both from 0 to 9,999. The queries are those nearest to the pivot, so that the rows of the lowest
//! `near` are near to them (correlated), and those of the highest are far (anti-correlated). There are B-trees of both
//! columns; the hnsw index has them as filter columns or not.

use crate::case::Case;
use crate::cell::Cell;
use crate::load::comment;
use crate::random::mix;
use crate::side::{Outcome, Side};
use crate::vectors::dot;
use std::io::Write;
use std::time::Instant;

/// The range of both columns.
pub const VALUES: usize = 10_000;
/// Shares of rows that pass, of [`VALUES`].
pub const SHARES: [usize; 6] = [10, 100, 500, 2_000, 5_000, 9_000];
const QUERIES: usize = 100;

#[derive(Clone, Copy)]
pub enum Place {
    Anywhere,
    Near,
    Far,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Anywhere => "uncorrelated",
            Place::Near => "correlated",
            Place::Far => "anti-correlated",
        }
    }

    pub fn clause(self, share: usize) -> String {
        match self {
            Place::Anywhere => format!("anywhere < {share}"),
            Place::Near => format!("near < {share}"),
            Place::Far => format!("near >= {}", VALUES - share),
        }
    }
}

/// What the columns of the rows are, and which queries are asked.
pub struct Grid {
    anywhere: Vec<usize>,
    near: Vec<usize>,
    pub queries: Vec<usize>,
}

impl Grid {
    pub fn of(case: &Case<'_>) -> Grid {
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

    pub fn passes(&self, place: Place, share: usize, row: usize) -> bool {
        match place {
            Place::Anywhere => self.anywhere[row] < share,
            Place::Near => self.near[row] < share,
            Place::Far => self.near[row] >= VALUES - share,
        }
    }
}

/// Which columns the hnsw index has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Indexed {
    VectorAndColumns,
    Vector,
}

impl Indexed {
    pub fn name(self) -> &'static str {
        match self {
            Indexed::VectorAndColumns => "filter columns",
            Indexed::Vector => "mask",
        }
    }

    /// How ours is called with this index.
    pub fn server(self) -> &'static str {
        match self {
            Indexed::VectorAndColumns => "ours",
            Indexed::Vector => "ours, mask",
        }
    }

    pub fn table(self, case: &Case<'_>) -> String {
        let name = if self == Indexed::VectorAndColumns { "filtered" } else { "masked" };
        format!("{name}_{}", case.dimensions())
    }
}

impl Grid {
    /// The searches of one field.
    pub fn cell(&self, case: &Case<'_>, indexed: Indexed, place: Place, share: usize, limit: usize) -> Cell<'_> {
        let clauses = vec![place.clause(share)];
        Cell::of(case, &indexed.table(case), clauses, limit, &self.queries, move |_, row| {
            self.passes(place, share, row)
        })
    }

    /// Makes the table and its indexes where the last run has not.
    pub fn ensure(&self, side: &mut Side, case: &Case<'_>, indexed: Indexed) -> Outcome<()> {
        let (table, items, metric) = (indexed.table(case), case.table(), case.metric.name());
        let stamp = format!("{metric} rows {} of {:016x}", case.data.rows, case.data.fingerprint);
        if comment(side, &table)?.as_deref() == Some(&stamp) {
            return Ok(());
        }
        side.client.batch_execute(&format!(
            "DROP TABLE IF EXISTS {table}; CREATE TEMP TABLE places (id bigint, anywhere integer, near integer)"
        ))?;
        let mut writer = side.client.copy_in("COPY places FROM STDIN")?;
        for row in 0..case.data.rows {
            writeln!(writer, "{row}\t{}\t{}", self.anywhere[row], self.near[row])?;
        }
        writer.finish()?;
        let columns = if indexed == Indexed::VectorAndColumns { ", anywhere, near" } else { "" };
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
}
