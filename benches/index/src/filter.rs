//! Searches with a WHERE clause over the [grid](crate::grid), each server with the best plan it has.
//!
//! Ours is measured with its default settings and the plan that it chooses, once with filter columns in the hnsw index and
//! once without, where B-trees give a mask. The peer is measured with its hnsw index and iterative scans in strict order, at
//! the first `hnsw.ef_search` that reaches the recall, and with the B-trees and a sort; the faster counts.

use crate::case::Case;
use crate::cell::Measured;
use crate::grid::{Grid, Indexed, Place, SHARES, VALUES};
use crate::report::{print_table, shown, Report};
use crate::side::{Outcome, Side, PLANNER};
use std::time::Duration;

const WANTED: usize = 10;
/// Fast plans are measured for as long, at least.
const LEAST_TIME: Duration = Duration::from_millis(1500);

/// Measures the whole grid.
pub fn run(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let grid = Grid::of(case);
    for side in sides.iter_mut() {
        // The peer's index of the vector alone is all it has.
        let tables: &[Indexed] = match side.label {
            "ours" => &[Indexed::VectorAndColumns, Indexed::Vector],
            _ => &[Indexed::Vector],
        };
        for &indexed in tables {
            grid.ensure(side, case, indexed)?;
        }
        side.client.batch_execute("SET plan_cache_mode = force_generic_plan")?;
    }
    let titles = ["clause", "%", "server", "queries/s", "recall", "fewest rows", "plan"];
    let mut lines = vec![titles.map(String::from).to_vec()];
    for place in [Place::Anywhere, Place::Near, Place::Far] {
        for share in SHARES {
            let percent = share as f64 / VALUES as f64 * 100.0;
            let mut line = |server: &str, measured: &Measured| {
                lines.push(vec![
                    place.name().into(),
                    percent.to_string(),
                    server.into(),
                    shown(Some(measured.per_s)),
                    format!("{:.4}", measured.recall),
                    measured.fewest.to_string(),
                    measured.plan.clone(),
                ]);
            };
            let [mut with_columns, mut with_mask] = [Vec::new(), Vec::new()];
            for side in sides.iter_mut() {
                if side.label == "ours" {
                    side.client.batch_execute("SET enable_seqscan = on; RESET hnsw.ef_search")?;
                    for (indexed, into) in
                        [(Indexed::VectorAndColumns, &mut with_columns), (Indexed::Vector, &mut with_mask)]
                    {
                        let cell = grid.cell(case, indexed, place, share, WANTED);
                        let measured = cell.measure(side, case, case.options.passes, LEAST_TIME)?;
                        line(indexed.server(), &measured);
                        into.push(measured);
                    }
                } else {
                    let cell = grid.cell(case, Indexed::Vector, place, share, WANTED);
                    let measured = cell.best_of_peer(side, case, LEAST_TIME)?;
                    line(side.label, &measured);
                    with_columns.push(measured.clone());
                    with_mask.push(measured);
                }
            }
            for (what, all) in [("filter", with_columns), ("mask", with_mask)] {
                let name = |figure: &str| case.name(&format!("{what}, {}, {percent} %{figure}", place.name()));
                let figures =
                    |of: fn(&Measured) -> f64| all.iter().map(|measured| Some(of(measured))).collect::<Vec<_>>();
                report.add(name(""), "queries/s", figures(|measured| measured.per_s));
                report.keep(name(", recall"), "share", figures(|measured| measured.recall));
            }
        }
    }
    for side in sides.iter_mut() {
        side.client.batch_execute(PLANNER)?;
    }
    print_table(&lines);
    Ok(())
}
