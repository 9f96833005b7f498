//! Searching with a filter: one of three ways, by how many nodes pass, as far as that is seen.
//!
//! - [`Regime::Beam`], where most pass: the graph is searched as without a filter, and results that do not pass are dropped;
//!   the search goes on before anything is returned until the beam was as much wider as what passes there is less.
//! - [`Regime::Hops`], in the middle: only nodes that pass are scored, and the others lead on ([`hops`](super::hops)); the
//!   search begins also at some of them that lie anywhere, so that it finds them where they are far from the query.
//! - [`Regime::Exact`], where few pass: all of them are scored.
//!
//! An estimate from a few pages of keys decides whether a beam is worth trying; how many of its first results pass, how
//! it goes on. Where few do, because the rows that pass are far from the query, and wherever the others are chosen, all
//! keys are read: a set of the nodes that pass and their true number. A walk that takes more work than looking at all
//! of these goes over to that, as does one that has reached its end: so a scan gives every row that passes, and no way
//! costs much more than the best.

use std::collections::HashSet;

use super::hops::{HopGraph, HopState};
use super::node_set::NodeSet;
use super::open::Index;
use super::read::IndexGraph;
use super::scan::{is_looked_through, Candidate, Scan, SCORED_AT_ONCE, WIDEST};
use super::store::PageStore;
use crate::code::Query;
use crate::hnsw::filter::Filter;
use crate::hnsw::graph::{EntryPoint, Graph, Near};

/// The share of a node's neighbours that a search has not seen yet, at its largest.
const UNSEEN_SHARE: f64 = 0.55;
/// The least share of nodes that pass with which a beam is tried.
const LEAST_BEAM_SHARE: f64 = 0.1;
/// Of the results of a beam, the share that suffices.
const ENOUGH_PASSING: f64 = 0.6;
/// With a share s of rows that pass, the beam is s to this power wider: the nearest ten of them are among more of the
/// nearest of all, and a beam finds a hundred of these with a smaller multiple of its width than ten.
const WIDENING_POWER: f64 = 0.5;
/// Nodes that pass, spread over all, at which a walk begins.
const SEEDS: usize = 32;
/// Costs, in those of a node that a walk scores: a node that is scored among all that pass; a bridge that is crossed.
const EXACT_COST: f64 = 0.4;
const HOPS_COST: f64 = 7.0;
/// Keys that are tested in the time of scoring a node (60,000 take 16 us, a node 0.06), and nodes whose rows are looked up
/// in a mask.
const KEYS_PER_COST: f64 = 250.0;
const ROWS_PER_COST: f64 = 5.0;
/// What a row costs: read from the table for its exact distance, in the order of the table; read in the order of distance,
/// and by the executor once more, which does not want it; found by another index and taken into a mask (12,000 rows on
/// 8,000 pages take 2.7 ms, most of it for PostgreSQL's bitmap).
const FETCH_COST: f64 = 12.0;
const REJECTED_ROW_COST: f64 = 30.0;
const MASKED_ROW_COST: f64 = 3.5;
/// The first batch of nodes out of all that were scored, twice as many in each further one: what is returned of ten rows
/// wanted is among a few more, and each candidate costs a look at its node and at its code.
const FIRST_EXACT_BATCH: usize = 20;
/// Where the rows near the query do not pass, a walk needs a beam so many times as wide.
const MISLED_WIDENING: usize = 4;

/// How a filter is searched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    Beam,
    Hops,
    Exact,
}

impl Regime {
    pub fn name(self) -> &'static str {
        match self {
            Regime::Beam => "beam",
            Regime::Hops => "hops",
            Regime::Exact => "exact",
        }
    }
}

/// What a filtered scan remembers.
pub struct FilteredScan {
    filter: Filter,
    regime: Regime,
    entry: EntryPoint,
    /// A beam has found too few.
    is_misled: bool,
    /// What looking at all nodes that pass should cost, in nodes scored.
    expected_cost: f64,
    /// The nodes that pass; None while only a beam needs to know.
    matches: Option<NodeSet>,
    /// Nodes given to the caller.
    returned: Vec<u32>,
    hops: HopState,
    /// Under [`Regime::Exact`]: what is left, and how many of these the next batch takes.
    left: Vec<Near>,
    batch_nodes: usize,
    scored: usize,
}

impl FilteredScan {
    pub(super) fn regime(&self) -> Regime {
        self.regime
    }

    pub(super) fn scored(&self) -> usize {
        self.scored
    }

    /// The beam of a walk.
    fn walk_width(&self, ef: usize) -> usize {
        if self.is_misled {
            MISLED_WIDENING * ef
        } else {
            ef
        }
    }
}

/// About how many nodes a search with this beam scores at level 0. It is pgvector's published estimate: `2m · ef · s`,
/// where `s = 0.55 · ln N / (ln m · (1 + ln ef))` leaves out neighbours that were seen before.
pub fn nodes_scored(nodes: f64, m: f64, ef: f64) -> f64 {
    let (log_nodes, log_m) = (nodes.max(2.0).ln(), m.max(2.0).ln());
    let share = UNSEEN_SHARE * log_nodes / (log_m * (1.0 + ef.max(1.0).ln()));
    (2.0 * m * ef * share).max(ef).min(nodes)
}

/// What a filter looks at of all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LooksAt {
    pub keys: bool,
    pub rows: bool,
}

impl LooksAt {
    fn of(filter: &Filter) -> LooksAt {
        LooksAt { keys: filter.has_conditions(), rows: filter.mask().is_some() }
    }

    /// What finding the nodes that pass costs.
    fn cost(self, nodes: f64) -> f64 {
        let per = |is: bool, per_cost: f64| if is { nodes / per_cost } else { 0.0 };
        per(self.keys, KEYS_PER_COST) + per(self.rows, ROWS_PER_COST)
    }
}

/// What finding the nodes that pass and scoring them costs.
fn exact_cost(nodes: f64, share: f64, looks_at: LooksAt) -> f64 {
    looks_at.cost(nodes) + share * nodes * EXACT_COST
}

/// What reading so many rows of the table for their exact distances costs, in nodes scored.
pub fn fetch_cost(rows: f64) -> f64 {
    rows * FETCH_COST
}

/// What a search has cost that scored so many nodes and gave rows in vain, in nodes scored.
pub fn spent(scored: f64, rejected_rows: f64) -> f64 {
    scored + rejected_rows * REJECTED_ROW_COST
}

/// What finding so many rows by other indexes costs, in nodes scored.
pub fn mask_cost(rows: f64) -> f64 {
    rows * MASKED_ROW_COST
}

/// The width of a beam where this share of the nodes passes.
fn widened(ef: f64, share: f64) -> f64 {
    ef / share.powf(WIDENING_POWER)
}

/// The way to search where this share of the nodes passes, and what it costs, in nodes scored.
pub fn plan(nodes: f64, m: f64, ef: f64, share: f64, looks_at: LooksAt) -> (Regime, f64) {
    let least = if share >= LEAST_BEAM_SHARE { Regime::Beam } else { Regime::Hops };
    let ways = [least, Regime::Hops, Regime::Exact].map(|way| (way, cost_of(way, nodes, m, ef, share, looks_at)));
    ways.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(ways[2])
}

/// What one way costs, in nodes scored.
pub fn cost_of(regime: Regime, nodes: f64, m: f64, ef: f64, share: f64, looks_at: LooksAt) -> f64 {
    match regime {
        Regime::Beam => nodes_scored(nodes, m, widened(ef, share)),
        Regime::Hops => looks_at.cost(nodes) + nodes_scored(share * nodes, m, ef) * HOPS_COST,
        Regime::Exact => exact_cost(nodes, share, looks_at),
    }
}

impl<S: PageStore> Index<S> {
    /// As [`Index::begin_scan`], for rows that pass a filter.
    pub fn begin_filtered_scan(
        &mut self,
        scan: &mut Scan,
        query: Query,
        ef: usize,
        filter: Filter,
        batch: &mut Vec<Candidate>,
    ) -> Result<(), S::Error> {
        if filter.is_empty() {
            return self.begin_scan(scan, query, ef, batch);
        }
        self.begin_filtered_scan_by(scan, query, ef, filter, None, batch)
    }

    /// The same; `regime`: the way to begin with, unless it is to be chosen.
    pub(super) fn begin_filtered_scan_by(
        &mut self,
        scan: &mut Scan,
        query: Query,
        ef: usize,
        filter: Filter,
        regime: Option<Regime>,
        batch: &mut Vec<Candidate>,
    ) -> Result<(), S::Error> {
        batch.clear();
        scan.ef = ef.max(1);
        let looked = self.look()?;
        let Some((node, level)) = looked.node.filter(|_| !filter.is_never()) else {
            scan.filtered = None;
            scan.query = None;
            return self.complete_batch(scan, batch, f32::INFINITY);
        };
        scan.query = Some(query);
        let mut filtered = Box::new(FilteredScan {
            filter,
            regime: Regime::Exact,
            entry: EntryPoint { node, level },
            is_misled: false,
            expected_cost: f64::INFINITY,
            matches: None,
            returned: Vec::new(),
            hops: HopState::default(),
            left: Vec::new(),
            batch_nodes: FIRST_EXACT_BATCH,
            scored: 0,
        });
        let nodes = f64::from(looked.nodes);
        if !is_looked_through(&looked) && regime != Some(Regime::Exact) {
            let share = self.share_matching(&filtered.filter)?;
            let looks_at = LooksAt::of(&filtered.filter);
            filtered.expected_cost = exact_cost(nodes, share, looks_at);
            let chosen = || plan(nodes, f64::from(self.shape.layout.m()), scan.ef as f64, share, looks_at).0;
            filtered.regime = regime.unwrap_or_else(chosen);
        }
        let result = match filtered.regime {
            Regime::Beam => self.first_beam(scan, &mut filtered, batch),
            _ => self.begin_with_matches(scan, &mut filtered, regime, batch),
        };
        scan.filtered = Some(filtered);
        result
    }

    /// Goes on; false if every row that passes was given.
    pub(super) fn continue_filtered(&mut self, scan: &mut Scan, batch: &mut Vec<Candidate>) -> Result<bool, S::Error> {
        let Some(mut filtered) = scan.filtered.take() else { return Ok(false) };
        let result = match filtered.regime {
            Regime::Beam => self.next_beam(scan, &mut filtered, batch),
            Regime::Hops => self.next_hops(scan, &mut filtered, batch),
            Regime::Exact => self.next_exact(scan, &mut filtered, batch),
        };
        scan.filtered = Some(filtered);
        result
    }

    fn first_beam(
        &mut self,
        scan: &mut Scan,
        filtered: &mut FilteredScan,
        batch: &mut Vec<Candidate>,
    ) -> Result<(), S::Error> {
        self.find_starts(scan, filtered.entry)?;
        self.begin_beam(scan, scan.ef)?;
        self.take_passing(scan, filtered, batch)?;
        if self.widen_beam(scan, filtered, batch)? {
            return self.give(scan, filtered, batch, None);
        }
        filtered.is_misled = true;
        self.begin_with_matches(scan, filtered, None, batch)
    }

    fn next_beam(
        &mut self,
        scan: &mut Scan,
        filtered: &mut FilteredScan,
        batch: &mut Vec<Candidate>,
    ) -> Result<bool, S::Error> {
        if self.resume_beam(scan, scan.ef)? {
            self.take_passing(scan, filtered, batch)?;
            if self.widen_beam(scan, filtered, batch)? {
                self.give(scan, filtered, batch, None)?;
                return Ok(true);
            }
        }
        self.begin_exact(scan, filtered)?;
        self.next_exact(scan, filtered, batch)
    }

    fn resume_beam(&mut self, scan: &mut Scan, width: usize) -> Result<bool, S::Error> {
        let Some(query) = &scan.query else { return Ok(false) };
        let mut graph = IndexGraph { index: self, scratch: &mut scan.scratch };
        scan.search.resume(&mut graph, query, width)
    }

    /// Goes on with a beam until it was wide enough for the share of its results that pass; false if so few do that another
    /// way is better.
    fn widen_beam(
        &mut self,
        scan: &mut Scan,
        filtered: &FilteredScan,
        batch: &mut Vec<Candidate>,
    ) -> Result<bool, S::Error> {
        let mut width = scan.ef;
        loop {
            let (ef, share) = (scan.ef as f64, batch.len() as f64 / width as f64);
            if share >= ENOUGH_PASSING {
                return Ok(true);
            }
            let nodes = f64::from(self.entry.nodes);
            let m = f64::from(self.shape.layout.m());
            // Nobody knows how many pass elsewhere: at worst about as many as the estimate said.
            if share < LEAST_BEAM_SHARE || nodes_scored(nodes, m, widened(ef, share)) > filtered.expected_cost {
                return Ok(false);
            }
            let more = (widened(ef, share).ceil() as usize).min(WIDEST).saturating_sub(width);
            if more * 4 < width {
                return Ok(true);
            }
            if !self.resume_beam(scan, more)? {
                return Ok(!batch.is_empty());
            }
            self.take_passing(scan, filtered, batch)?;
            width += more;
        }
    }

    /// Adds those results of the search to `batch` that pass.
    fn take_passing(
        &mut self,
        scan: &mut Scan,
        filtered: &FilteredScan,
        batch: &mut Vec<Candidate>,
    ) -> Result<(), S::Error> {
        let Scan { found, passing, search, rejected, .. } = scan;
        found.clear();
        found.extend(search.results());
        self.passing(&filtered.filter, found, passing)?;
        let before = batch.len();
        batch.extend(
            found.iter().zip(passing.iter()).filter(|(_, &passes)| passes).map(|(&found, _)| Candidate::of(found)),
        );
        *rejected += (found.len() - (batch.len() - before)) as u64;
        Ok(())
    }

    /// Reads which nodes pass, and begins to search among them.
    fn begin_with_matches(
        &mut self,
        scan: &mut Scan,
        filtered: &mut FilteredScan,
        regime: Option<Regime>,
        batch: &mut Vec<Candidate>,
    ) -> Result<(), S::Error> {
        batch.clear();
        let matches = self.matching(&filtered.filter)?;
        scan.rejected += u64::from(self.entry.nodes - matches.len().min(self.entry.nodes));
        let count = f64::from(matches.len());
        let width = filtered.walk_width(scan.ef);
        let walk = nodes_scored(count, f64::from(self.shape.layout.m()), width as f64) * HOPS_COST;
        filtered.matches = Some(matches);
        let walks = regime.map_or(walk < count * EXACT_COST, |regime| regime == Regime::Hops);
        if !is_looked_through(&self.entry) && walks {
            filtered.regime = Regime::Hops;
            self.find_starts(scan, filtered.entry)?;
            self.add_seeds(scan, filtered)?;
            filtered.hops.clear();
            if self.walk(scan, filtered, false)? {
                batch.extend(scan.search.results().map(Candidate::of));
                return self.give(scan, filtered, batch, None);
            }
        }
        self.begin_exact(scan, filtered)?;
        self.next_exact(scan, filtered, batch)?;
        Ok(())
    }

    /// Adds nodes that pass to the starts, spread over all of them.
    fn add_seeds(&mut self, scan: &mut Scan, filtered: &FilteredScan) -> Result<(), S::Error> {
        let (Some(query), Some(matches)) = (&scan.query, &filtered.matches) else { return Ok(()) };
        let step = (matches.len() as usize / SEEDS).max(1);
        let seeds: Vec<u32> = matches.iter().skip(step / 2).step_by(step).take(SEEDS).collect();
        scan.distances.clear();
        IndexGraph { index: self, scratch: &mut scan.scratch }.score(query, &seeds, &mut scan.distances)?;
        let near = seeds.iter().zip(&scan.distances).map(|(&node, &distance)| Near { distance, node });
        scan.starts.extend(near);
        Ok(())
    }

    /// Walks among nodes that pass, from the starts or on; false if that was too much work, or there was nothing left.
    fn walk(&mut self, scan: &mut Scan, filtered: &mut FilteredScan, goes_on: bool) -> Result<bool, S::Error> {
        let (Some(query), Some(matches)) = (&scan.query, &filtered.matches) else { return Ok(false) };
        let graph = IndexGraph { index: self, scratch: &mut scan.scratch };
        let (budget, width) = (matches.len() as usize, filtered.walk_width(scan.ef));
        let mut graph = HopGraph { graph, matches, state: &mut filtered.hops, budget };
        let has_more = match goes_on {
            true => scan.search.resume(&mut graph, query, width)?,
            false => {
                scan.search.begin(&mut graph, query, &scan.starts, width, 0, true)?;
                true
            }
        };
        Ok(has_more && !graph.is_over_budget())
    }

    fn next_hops(
        &mut self,
        scan: &mut Scan,
        filtered: &mut FilteredScan,
        batch: &mut Vec<Candidate>,
    ) -> Result<bool, S::Error> {
        if self.walk(scan, filtered, true)? {
            batch.extend(scan.search.results().map(Candidate::of));
            self.give(scan, filtered, batch, None)?;
            return Ok(true);
        }
        self.begin_exact(scan, filtered)?;
        self.next_exact(scan, filtered, batch)
    }

    /// Scores all nodes that pass and were not given yet.
    fn begin_exact(&mut self, scan: &mut Scan, filtered: &mut FilteredScan) -> Result<(), S::Error> {
        filtered.regime = Regime::Exact;
        let Some(query) = &scan.query else { return Ok(()) };
        let matches = match filtered.matches.take() {
            Some(matches) => matches,
            None => self.matching(&filtered.filter)?,
        };
        let returned: HashSet<u32> = filtered.returned.drain(..).collect();
        let mut left = Vec::with_capacity(matches.len() as usize);
        matches.for_each(|node| {
            if returned.is_empty() || !returned.contains(&node) {
                left.push(node);
            }
        });
        filtered.scored += left.len();
        scan.scored_apart += left.len() as u64;
        filtered.left.clear();
        filtered.left.reserve(left.len());
        for nodes in left.chunks(SCORED_AT_ONCE) {
            self.store.check_interrupts()?;
            scan.distances.clear();
            IndexGraph { index: self, scratch: &mut scan.scratch }.score(query, nodes, &mut scan.distances)?;
            let scored = nodes.iter().zip(&scan.distances).map(|(&node, &distance)| Near { distance, node });
            filtered.left.extend(scored);
        }
        Ok(())
    }

    /// The nearest of what is left, those of nodes that are live.
    fn next_exact(
        &mut self,
        scan: &mut Scan,
        filtered: &mut FilteredScan,
        batch: &mut Vec<Candidate>,
    ) -> Result<bool, S::Error> {
        batch.clear();
        let wanted = filtered.batch_nodes;
        filtered.batch_nodes = (2 * wanted).min(WIDEST);
        let order = |a: &Near, b: &Near| a.distance.total_cmp(&b.distance).then(a.node.cmp(&b.node));
        let mut nearest_left = f32::INFINITY;
        while batch.is_empty() && !filtered.left.is_empty() {
            let left = &mut filtered.left;
            let mut nearest = if left.len() > wanted {
                // The nearest of the others is then at the place where they begin.
                left.select_nth_unstable_by(wanted, order);
                nearest_left = left.get(wanted).map_or(f32::INFINITY, |near| near.distance);
                let rest = left.split_off(wanted);
                std::mem::replace(left, rest)
            } else {
                nearest_left = f32::INFINITY;
                std::mem::take(left)
            };
            nearest.sort_unstable_by(order);
            for Near { distance, node } in nearest {
                if let Some(row) = self.node(node, None)?.row() {
                    batch.push(Candidate { node, row, distance, bound: distance });
                }
            }
        }
        let found = !batch.is_empty();
        self.give(scan, filtered, batch, Some(nearest_left))?;
        Ok(found)
    }

    /// Completes a batch. `nearest_left`: the distance of the nearest that is left, or what the search says.
    fn give(
        &mut self,
        scan: &mut Scan,
        filtered: &mut FilteredScan,
        batch: &mut [Candidate],
        nearest_left: Option<f32>,
    ) -> Result<(), S::Error> {
        if filtered.regime != Regime::Exact {
            filtered.returned.extend(batch.iter().map(|candidate| candidate.node));
        }
        let nearest_left = nearest_left.unwrap_or_else(|| scan.search.nearest_left());
        self.complete_batch(scan, batch, nearest_left)
    }
}
