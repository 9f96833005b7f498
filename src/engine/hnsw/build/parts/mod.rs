//! A build whose graph does not fit into memory.
//!
//! The rows' codes go to a temporary file; when all are there, they are divided into parts that fit ([`cells`]), each
//! row into two or a few more. Each part is built in the arena as a graph of its own ([`part`]), or as some that overlap if it
//! does not fit after all ([`shares`]). A row's node gets its
//! ordinal where the row is at home; the lists of its parts are merged when the pages are written ([`graph`]). The
//! levels above 0 are one more graph, of a sixteenth of the nodes, or of as many of them as fit. What the parts have
//! not connected is connected on pages afterwards ([`Index::complete`](crate::hnsw::index::Index::complete)), where
//! recall is measured, too.
//!
//! Memory: the arena, 4 bytes a row for the rows' ordinals, and the lists that other parts made for one part, a fifth of
//! the arena. All files are written from begin to end; those of rows are read in their order, too, but with gaps.

mod cells;
pub mod files;
mod graph;
mod part;
mod records;
mod shares;

#[cfg(test)]
mod tests;

use super::arena::{self, Arena, ArenaShape, NodeName};
use super::calibrate::{Samples, MOST_SAMPLES};
use super::{Builder, Inserted};
use crate::code::Codec;
use crate::hnsw::level::level_of;
use crate::hnsw::page::meta::Identity;
use crate::hnsw::page::{HeapTid, Metric};
use cells::{memberships_for, pivots_for, Cells, Sample};
use files::{TempFile, TempFiles};
pub use graph::PartedGraph;
use part::{Built, PartBuilder};
use records::{append_code, encode_tid, read_code, Member};

/// The share of the arena that parts are planned to fill.
const FILLED: f64 = 0.8;
/// Rows that the sizes of cells are estimated with, for each part.
const SAMPLE_PER_PART: usize = 200;
/// Nodes of the smallest arena.
const LEAST_NODES: usize = 1024;
/// Rows between two reports.
const REPORT_EVERY: u64 = 64;

/// Who does a build, and may end it.
pub trait Team<E> {
    /// `done` of `total` rows of a phase were worked on.
    fn report(&mut self, phase: Phase, done: u64, total: u64) -> Result<(), E>;

    /// Called in long loops.
    fn check(&mut self) -> Result<(), E>;

    /// Links all rows that wait in the arena, by [`Builder::link_waiting`] until it gives false; and waits for others who do
    /// the same.
    fn link(&mut self, arena: Arena<'_>, builder: &mut Builder<'_, '_>, progress: &mut Progress) -> Result<(), E>;

    /// [`Team::link`] for who is alone.
    fn link_alone(&mut self, builder: &mut Builder<'_, '_>, progress: &mut Progress) -> Result<(), E> {
        while builder.link_waiting() {
            progress.step(self)?;
        }
        Ok(())
    }
}

/// What a build in parts is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are being assigned to parts.
    Divide,
    /// Parts are being built; a row counts as often as it belongs to one.
    Parts,
    /// The levels above 0 are being built.
    Above,
}

/// Progress within a phase.
pub struct Progress {
    phase: Phase,
    done: u64,
    total: u64,
}

impl Progress {
    fn begin<E>(phase: Phase, total: u64, team: &mut impl Team<E>) -> Result<Progress, E> {
        team.report(phase, 0, total)?;
        Ok(Progress { phase, done: 0, total })
    }

    /// So many rows more than were counted are to come.
    fn expect_more(&mut self, rows: u64) {
        self.total += rows;
    }

    /// One row more.
    pub fn step<E, W: Team<E> + ?Sized>(&mut self, team: &mut W) -> Result<(), E> {
        self.advance(1, team)
    }

    /// So many rows more.
    pub fn advance<E, W: Team<E> + ?Sized>(&mut self, rows: u64, team: &mut W) -> Result<(), E> {
        let before = self.done / REPORT_EVERY;
        self.done += rows;
        if self.done / REPORT_EVERY > before {
            team.check()?;
            team.report(self.phase, self.done.min(self.total), self.total)?;
        }
        Ok(())
    }
}

/// The rows, by number: their codes one after the other, and their places in the table.
struct Rows<T: TempFiles> {
    codes: T::File,
    tids: T::File,
    count: u32,
    /// What they take in an arena.
    arena_bytes: u64,
}

/// A row that is searched for to measure recall, and inserted last.
#[derive(Debug, Clone)]
pub struct HeldOut {
    pub code: Vec<u8>,
    pub heap_tid: HeapTid,
}

/// A build in parts, while rows come.
pub struct PartedBuild<'c, T: TempFiles> {
    codec: &'c Codec,
    shape: ArenaShape,
    metric: Metric,
    seed: u64,
    ef_construction: u16,
    files: T,
    rows: Rows<T>,
    held: Vec<HeldOut>,
}

/// What is left to do on pages.
pub struct Remainder {
    pub held: Vec<HeldOut>,
    pub samples: Samples,
}

impl<'c, T: TempFiles> PartedBuild<'c, T> {
    /// For an index with this identity, whose codec this is.
    pub fn new(identity: &Identity, codec: &'c Codec, mut files: T) -> Result<Self, T::Error> {
        let rows = Rows { codes: files.create()?, tids: files.create()?, count: 0, arena_bytes: 0 };
        Ok(PartedBuild {
            codec,
            shape: ArenaShape::of(identity),
            metric: identity.metric,
            seed: identity.code_seed,
            ef_construction: identity.ef_construction,
            files,
            rows,
            held: Vec::new(),
        })
    }

    /// Rows so far, also those held out.
    pub fn rows(&self) -> u64 {
        u64::from(self.rows.count) + self.held.len() as u64
    }

    /// Takes a row.
    pub fn add(&mut self, code: &[u8], heap_tid: HeapTid) -> Result<(), T::Error> {
        append_code(&mut self.rows.codes, code)?;
        self.rows.tids.append(&encode_tid(heap_tid))?;
        self.rows.count += 1;
        self.rows.arena_bytes += self.shape.mean_node_bytes(code.len()) as u64;
        Ok(())
    }

    /// Takes a row to measure recall with; false if there are enough.
    pub fn hold_out(&mut self, code: &[u8], heap_tid: HeapTid) -> bool {
        let has_room = self.held.len() < MOST_SAMPLES as usize;
        if has_room {
            self.held.push(HeldOut { code: code.to_vec(), heap_tid });
        }
        has_room
    }

    /// Takes all rows of an arena that is full.
    pub fn take_arena(&mut self, arena: Arena<'_>, team: &mut impl Team<T::Error>) -> Result<(), T::Error> {
        let mut tids = Vec::new();
        for (at, name) in arena.names().enumerate() {
            if at.is_multiple_of(1024) {
                team.check()?;
            }
            arena.heap_tids(name, &mut tids);
            for &heap_tid in &tids {
                self.add(arena.code(name), heap_tid)?;
            }
        }
        for name in arena.held_out() {
            arena.heap_tids(name, &mut tids);
            for &heap_tid in &tids {
                if !self.hold_out(arena.code(name), heap_tid) {
                    self.add(arena.code(name), heap_tid)?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of the memory that [`PartedBuild::finish`] is to be given, if all that it takes is to be so many bytes: three
    /// quarters of what the ordinals leave, or what a few nodes take.
    pub fn arena_bytes(&self, limit_bytes: usize) -> usize {
        let ordinals = self.rows.count as usize * size_of::<u32>();
        let mean = (self.rows.arena_bytes / u64::from(self.rows.count).max(1)) as usize;
        (limit_bytes.saturating_sub(ordinals) / 4 * 3).max(LEAST_NODES * mean.max(arena::UNIT_BYTES))
    }

    /// Builds the graph in an empty arena that has room for a few hundred nodes.
    pub fn finish<'m>(
        mut self,
        arena: Arena<'m>,
        team: &mut impl Team<T::Error>,
    ) -> Result<(PartedGraph<'m, T>, Remainder), T::Error> {
        let members = self.divide(arena.usage_units().1 * arena::UNIT_BYTES, team)?;
        let mut samples =
            Samples::new(self.codec, self.held.iter().map(|held| held.code.as_slice()), u64::from(self.rows.count));
        let total: u64 = members.iter().map(|file| file.len_bytes() / records::MEMBER_BYTES as u64).sum();
        let mut progress = Progress::begin(Phase::Parts, total, team)?;
        let built = Built::new(&mut self.files, members.len() as u32, self.rows.count)?;
        let mut builder = PartBuilder {
            arena,
            codec: self.codec,
            seed: self.seed,
            ef_construction: self.ef_construction,
            rows: &mut self.rows,
            samples: &mut samples,
            built,
        };
        for (part, members) in members.into_iter().enumerate() {
            builder.build(part as u32, members, &mut progress, team)?;
        }
        let mut built = builder.built;
        let above = self.build_above(arena, &mut built, team)?;
        Ok((PartedGraph::new(built, arena, above), Remainder { held: self.held, samples }))
    }

    /// Divides the rows: the members of each part, by row.
    fn divide(&mut self, arena_bytes: usize, team: &mut impl Team<T::Error>) -> Result<Vec<T::File>, T::Error> {
        let mut progress = Progress::begin(Phase::Divide, u64::from(self.rows.count), team)?;
        let parts_of_rows = self.rows.arena_bytes as f64 / (FILLED * arena_bytes as f64);
        let memberships = memberships_for((2.0 * parts_of_rows) as usize);
        let wanted = (memberships as f64 * parts_of_rows).ceil() as usize;
        let pivots = pivots_for(wanted);
        let sample = self.sample(pivots, SAMPLE_PER_PART * wanted)?;
        let is_product = self.metric == Metric::InnerProduct;
        let mut cells = Cells::new(self.codec, is_product, sample, wanted, memberships);
        let mut members = Vec::with_capacity(cells.parts() as usize);
        for _ in 0..cells.parts() {
            members.push(self.files.create()?);
        }
        let (mut code, mut parts) = (Vec::new(), Vec::new());
        let mut offset = 0;
        for row in 0..self.rows.count {
            let code_offset = offset;
            offset = read_code(&mut self.rows.codes, offset, &mut code)?;
            let Ok(query) = self.codec.query_of_code(&code) else { continue };
            cells.parts_of(&query, &mut parts);
            let Some(&home) = parts.first() else { continue };
            for &part in &parts {
                if let Some(file) = members.get_mut(part as usize) {
                    file.append(&Member { row, home, code_offset }.encode())?;
                }
            }
            progress.step(team)?;
        }
        Ok(members)
    }

    /// So many codes that lie far from each other in the table, and so many others.
    fn sample(&mut self, pivots: usize, others: usize) -> Result<Sample, T::Error> {
        let mut sample = Sample::default();
        let rows = u64::from(self.rows.count).max(1);
        let (mut offset, mut code) = (0, Vec::new());
        // Whether the row is the first of the next of so many equal shares of the table.
        let begins = |row: u64, shares: usize| row * shares as u64 / rows != (row + 1) * shares as u64 / rows;
        for row in 0..u64::from(self.rows.count) {
            offset = read_code(&mut self.rows.codes, offset, &mut code)?;
            if begins(row, pivots) {
                sample.pivots.push(code.clone());
            } else if begins(row, others) {
                sample.others.push(code.clone());
            }
        }
        Ok(sample)
    }

    /// Builds the levels above 0 in the arena, in an order that has nothing to do with where nodes are: if the arena is
    /// full before the end, it is a fair sample. Gives the nodes on these levels, by ordinal.
    fn build_above(
        &self,
        arena: Arena<'_>,
        built: &mut Built<T>,
        team: &mut impl Team<T::Error>,
    ) -> Result<Vec<(u32, NodeName)>, T::Error> {
        let mut progress = Progress::begin(Phase::Above, built.above.len() as u64, team)?;
        let mut above = std::mem::take(&mut built.above);
        above.sort_unstable_by_key(|&(ordinal, _)| (ordinal.wrapping_mul(0x9E37_79B9), ordinal));
        let mut builder = Builder::new(arena, self.codec, self.seed, self.ef_construction);
        let mut names = Vec::with_capacity(above.len());
        let mut code = Vec::new();
        for (ordinal, offset) in above {
            read_code(&mut built.codes, offset, &mut code)?;
            let level = level_of(self.seed, u64::from(ordinal), self.shape.m);
            let (Some(tag), Ok(query)) = (HeapTid::new(ordinal, 1), self.codec.query_of_code(&code)) else { continue };
            match builder.insert_above(&code, &query, tag, level) {
                Inserted::Node(name) => names.push((ordinal, name)),
                Inserted::Full | Inserted::Duplicate(_) => break,
            }
            progress.step(team)?;
        }
        names.sort_unstable();
        Ok(names)
    }
}
