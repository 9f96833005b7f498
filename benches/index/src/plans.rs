//! How often the planner takes the fastest of the plans that there are, over the [grid](crate::grid).
//!
//! Ours alone. The plans: the one that it chooses; a scan of other indexes or of the table, and a sort; the hnsw index
//! without a mask, and with one. One that finds too little is not counted, but told. They are measured in turns, each
//! at its best, so that what else the machine does falls on all. A choice is right if it finds what it should and is at
//! least nine tenths as fast as the fastest.

use crate::case::Case;
use crate::cell::{Cell, Measured};
use crate::grid::{Grid, Indexed, Place, SHARES, VALUES};
use crate::report::{print_table, shown, Report};
use crate::side::{Outcome, Side, PLANNER};
use std::time::Duration;

const LIMITS: [usize; 2] = [10, 100];
const ROUNDS: usize = 3;
/// In each round.
const LEAST_TIME: Duration = Duration::from_millis(70);
const RIGHT: f64 = 0.9;
/// A plan that takes so many times as long is not measured again.
const SLOW: f64 = 4.0;

/// What leads the planner to each plan; the first leaves the choice to it.
const LEADS: [&str; 4] = [
    "SET enable_seqscan = on; SET enable_sort = on; SET enable_indexscan = on; SET enable_bitmapscan = on",
    "SET enable_seqscan = on; SET enable_sort = on; SET enable_indexscan = off; SET enable_bitmapscan = on",
    "SET enable_seqscan = off; SET enable_sort = off; SET enable_indexscan = on; SET enable_bitmapscan = off",
    "SET enable_seqscan = off; SET enable_sort = off; SET enable_indexscan = on; SET enable_bitmapscan = on",
];

/// The different plans of a search, the chosen one first.
fn plans_of(cell: &Cell<'_>, side: &mut Side, case: &Case<'_>) -> Outcome<Vec<Measured>> {
    let (mut leads, mut seen) = (Vec::new(), Vec::new());
    for lead in LEADS {
        side.client.batch_execute(lead)?;
        let explained = cell.explained(side, case)?;
        if !seen.contains(&explained) {
            seen.push(explained);
            leads.push(lead);
        }
    }
    let mut plans: Vec<Measured> = Vec::new();
    for round in 0..ROUNDS {
        for (at, lead) in leads.iter().enumerate() {
            // What takes long is told from the others at once.
            let is_slow = |plan: &Measured| plans.iter().any(|other| plan.per_s * SLOW < other.per_s);
            if round > 0 && at > 0 && is_slow(&plans[at]) {
                continue;
            }
            side.client.batch_execute(lead)?;
            let measured = cell.measure(side, case, 1, LEAST_TIME)?;
            match plans.get_mut(at) {
                Some(before) if before.per_s < measured.per_s => *before = measured,
                Some(_) => {}
                None => plans.push(measured),
            }
        }
    }
    Ok(plans)
}

/// How many choices there were, and how many of them were right.
#[derive(Default)]
struct Choices {
    right: usize,
    all: usize,
}

impl Choices {
    fn add(&mut self, is_right: bool) {
        self.right += usize::from(is_right);
        self.all += 1;
    }

    fn tell(&self, name: String, report: &mut Report) {
        report.add(name, "share", vec![Some(self.right as f64 / self.all as f64)]);
    }
}

pub fn run(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let Some(side) = sides.iter_mut().find(|side| side.label == "ours") else { return Ok(()) };
    let grid = Grid::of(case);
    side.client.batch_execute("SET plan_cache_mode = force_generic_plan; RESET hnsw.ef_search")?;
    let titles = ["table", "LIMIT", "clause", "%", "chosen", "queries/s", "fastest", "queries/s", "lost"];
    let mut lines = vec![titles.map(String::from).to_vec()];
    let mut not_counted =
        vec![["not counted", "LIMIT", "clause", "%", "recall", "fewest rows"].map(String::from).to_vec()];
    let mut overall = Choices::default();
    for indexed in [Indexed::VectorAndColumns, Indexed::Vector] {
        grid.ensure(side, case, indexed)?;
        let mut choices = Choices::default();
        for limit in LIMITS {
            for place in [Place::Anywhere, Place::Near, Place::Far] {
                for share in SHARES {
                    let cell = grid.cell(case, indexed, place, share, limit);
                    let plans = plans_of(&cell, side, case)?;
                    let field =
                        [limit.to_string(), place.name().into(), (share as f64 / VALUES as f64 * 100.0).to_string()];
                    for plan in plans.iter().filter(|plan| !cell.is_good(plan)) {
                        let figures = [format!("{:.4}", plan.recall), plan.fewest.to_string()];
                        not_counted.push([vec![plan.plan.clone()], field.to_vec(), figures.to_vec()].concat());
                    }
                    let chosen = &plans[0];
                    let good = plans.iter().filter(|plan| cell.is_good(plan));
                    let fastest = good.max_by(|a, b| a.per_s.total_cmp(&b.per_s)).unwrap_or(chosen);
                    let is_right = cell.is_good(chosen) && chosen.per_s >= RIGHT * fastest.per_s;
                    choices.add(is_right);
                    overall.add(is_right);
                    let lost = if is_right {
                        "hit".into()
                    } else if cell.is_good(chosen) {
                        format!("{:.2}", fastest.per_s / chosen.per_s)
                    } else {
                        "finds too little".into()
                    };
                    let of = |plan: &Measured| [plan.plan.clone(), shown(Some(plan.per_s))];
                    let ends = [&of(chosen)[..], &of(fastest)[..], &[lost]].concat();
                    lines.push([vec![indexed.table(case)], field.to_vec(), ends].concat());
                }
            }
        }
        choices.tell(case.name(&format!("planner is right, {}", indexed.name())), report);
    }
    overall.tell(case.name("planner is right"), report);
    side.client.batch_execute(PLANNER)?;
    print_table(&lines);
    if not_counted.len() > 1 {
        print_table(&not_counted);
    }
    Ok(())
}
