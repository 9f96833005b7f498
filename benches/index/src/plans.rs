//! How often the planner takes the fastest of the plans that there are, over the [grid](crate::grid).
//!
//! Ours alone. The plans: the one that it chooses; a scan of other indexes or of the table, and a sort; the hnsw index
//! without a mask. One that finds too little is not counted. They are measured in turns, each at its best. A choice is right
//! if it is at least nine tenths as fast as the fastest other plan.

use crate::case::Case;
use crate::cell::Measured;
use crate::grid::{Grid, Indexed, Place, SHARES, VALUES};
use crate::report::{print_table, shown, Report};
use crate::side::{Outcome, Side};
use std::time::Duration;

const LIMITS: [usize; 2] = [10, 100];
const ROUNDS: usize = 3;
const LEAST_TIME: Duration = Duration::from_millis(60);
const RIGHT: f64 = 0.9;
/// A plan that takes so many times as long is not measured again.
const SLOW: f64 = 4.0;

/// What leads the planner to each plan; the first leaves the choice to it.
const PLANS: [&str; 3] = [
    "SET enable_seqscan = on; SET enable_sort = on; SET enable_indexscan = on; SET enable_bitmapscan = on",
    "SET enable_seqscan = on; SET enable_sort = on; SET enable_indexscan = off; SET enable_bitmapscan = on",
    "SET enable_seqscan = off; SET enable_sort = off; SET enable_indexscan = on; SET enable_bitmapscan = off",
];

pub fn run(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let Some(side) = sides.iter_mut().find(|side| side.label == "ours") else { return Ok(()) };
    let grid = Grid::of(case);
    side.client.batch_execute("SET plan_cache_mode = force_generic_plan; RESET hnsw.ef_search")?;
    let titles = ["index", "LIMIT", "clause", "%", "chosen", "queries/s", "fastest", "queries/s", "lost"];
    let mut lines = vec![titles.map(String::from).to_vec()];
    for indexed in [Indexed::VectorAndColumns, Indexed::Vector] {
        grid.ensure(side, case, indexed)?;
        let (mut right, mut all) = (0, 0);
        for limit in LIMITS {
            for place in [Place::Anywhere, Place::Near, Place::Far] {
                for share in SHARES {
                    let cell = grid.cell(case, indexed, place, share, limit);
                    let mut best: Vec<Measured> = Vec::new();
                    for round in 0..ROUNDS {
                        for (plan, settings) in PLANS.iter().enumerate() {
                            // What takes long is told from the others at once.
                            let is_slow = |plan: &Measured| plan.per_s * SLOW < best[0].per_s;
                            if round > 0 && best.get(plan).is_some_and(is_slow) {
                                continue;
                            }
                            side.client.batch_execute(settings)?;
                            let measured = cell.measure(side, case, 0, LEAST_TIME)?;
                            match best.get_mut(plan) {
                                Some(before) if before.per_s < measured.per_s => *before = measured,
                                Some(_) => {}
                                None => best.push(measured),
                            }
                        }
                    }
                    let chosen = best[0].clone();
                    let others = best.iter().filter(|other| other.explained != chosen.explained && cell.is_good(other));
                    let fastest = others.max_by(|a, b| a.per_s.total_cmp(&b.per_s)).unwrap_or(&chosen);
                    let is_right = chosen.per_s >= RIGHT * fastest.per_s && cell.is_good(&chosen);
                    right += usize::from(is_right);
                    all += 1;
                    lines.push(vec![
                        indexed.name().into(),
                        limit.to_string(),
                        place.name().into(),
                        (share as f64 / VALUES as f64 * 100.0).to_string(),
                        chosen.plan.clone(),
                        shown(Some(chosen.per_s)),
                        fastest.plan.clone(),
                        shown(Some(fastest.per_s)),
                        if is_right { String::new() } else { format!("{:.2}", fastest.per_s / chosen.per_s) },
                    ]);
                }
            }
        }
        let name = case.name(&format!("planner is right, {}", indexed.name()));
        report.add(name, "share", vec![Some(f64::from(right as u32) / f64::from(all))]);
    }
    side.client.batch_execute(PLANS[0])?;
    print_table(&lines);
    Ok(())
}
