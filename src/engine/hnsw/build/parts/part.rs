//! Building one part: its rows go into the arena, and its nodes' lists into files.
//!
//! In a part's arena a node's heap tids are not places of rows: they are *tags*, the numbers of its rows and whether the
//! part is home to them. Equal rows have equal parts, so the rows of a node are all at home or all not.

use super::files::{TempFile, TempFiles};
use super::records::{append_code, append_list, append_tids, decode_tid, read_code, Member, Neighbour};
use super::records::{MEMBER_BYTES, TID_BYTES};
use super::shares::Shares;
use super::{Progress, Rows, Team};
use crate::code::Codec;
use crate::hnsw::build::arena::{Arena, NodeName};
use crate::hnsw::build::calibrate::Samples;
use crate::hnsw::build::finish::FinishedGraph;
use crate::hnsw::build::Builder;
use crate::hnsw::level::level_of;
use crate::hnsw::page::write::BuiltGraph;
use crate::hnsw::page::{HeapTid, NONE};

const AT_HOME: u16 = 1;
const VISITING: u16 = 2;

fn tag(row: u32, is_home: bool) -> Option<HeapTid> {
    HeapTid::new(row, if is_home { AT_HOME } else { VISITING })
}

/// Where the members of a part are in its file.
fn member_offsets<F: TempFile>(members: &F) -> std::iter::StepBy<std::ops::Range<u64>> {
    (0..members.len_bytes()).step_by(MEMBER_BYTES)
}

/// What parts leave behind, node by node in the order of their ordinals.
pub(super) struct Built<T: TempFiles> {
    /// By row: the ordinal of its node.
    pub(super) ordinals: Vec<u32>,
    pub(super) nodes: u32,
    /// Codes, lists and heap tids of the nodes.
    pub(super) codes: T::File,
    pub(super) lists: T::File,
    pub(super) tids: T::File,
    /// By part: the first of its ordinals, and the lists that other parts found for its rows, each after the row.
    pub(super) parts: Vec<(u32, T::File)>,
    /// Nodes that are on levels above 0, and where their codes are.
    pub(super) above: Vec<(u32, u64)>,
}

impl<T: TempFiles> Built<T> {
    pub(super) fn new(files: &mut T, parts: u32, rows: u32) -> Result<Self, T::Error> {
        let mut mail = Vec::with_capacity(parts as usize);
        for _ in 0..parts {
            mail.push((0, files.create()?));
        }
        Ok(Built {
            ordinals: vec![NONE; rows as usize],
            nodes: 0,
            codes: files.create()?,
            lists: files.create()?,
            tids: files.create()?,
            parts: mail,
            above: Vec::new(),
        })
    }
}

/// Builds the parts, one after the other.
pub(super) struct PartBuilder<'m, 'c, 'r, T: TempFiles> {
    pub(super) arena: Arena<'m>,
    pub(super) codec: &'c Codec,
    pub(super) seed: u64,
    pub(super) ef_construction: u16,
    pub(super) rows: &'r mut Rows<T>,
    pub(super) samples: &'r mut Samples,
    pub(super) built: Built<T>,
}

impl<T: TempFiles> PartBuilder<'_, '_, '_, T> {
    /// Builds a part of these members.
    pub(super) fn build(
        &mut self,
        part: u32,
        mut members: T::File,
        progress: &mut Progress,
        team: &mut impl Team<T::Error>,
    ) -> Result<(), T::Error> {
        if let Some((first, _)) = self.built.parts.get_mut(part as usize) {
            *first = self.built.nodes;
        }
        let shares = self.shares_of(&mut members)?;
        let rows = members.len_bytes() / MEMBER_BYTES as u64;
        progress.expect_more(rows * (shares.graphs_of_row() - 1));
        for (a, b) in shares.graphs() {
            let mut homes = Homes::default();
            let mut code = Vec::new();
            for at in member_offsets(&members) {
                let member = self.member(&mut members, at, &mut code)?;
                let share = shares.of(&code);
                let is_home = member.home == part;
                let Some(tag) = tag(member.row, is_home).filter(|_| share == a || share == b) else { continue };
                let level = self.level(member.row);
                if !self.arena.add_waiting(level, &code, tag) {
                    // Many rows that are equal, so that shares are not: the rest is one more graph.
                    self.link_and_emit(part, &homes, progress, team)?;
                    homes.clear();
                    if !self.arena.add_waiting(level, &code, tag) {
                        continue;
                    }
                }
                if !is_home {
                    homes.push(member.row, member.home);
                }
            }
            self.link_and_emit(part, &homes, progress, team)?;
        }
        Ok(())
    }

    /// Reads a member, and its code.
    fn member(&mut self, members: &mut T::File, at: u64, code: &mut Vec<u8>) -> Result<Member, T::Error> {
        let mut bytes = [0; MEMBER_BYTES];
        members.read_at(at, &mut bytes)?;
        let member = Member::decode(bytes);
        read_code(&mut self.rows.codes, member.code_offset, code)?;
        Ok(member)
    }

    /// The level of a row in the graph of a part.
    fn level(&self, row: u32) -> u8 {
        level_of(self.seed, u64::from(row), self.arena.shape().m)
    }

    /// How the rows of a part are dealt out: not at all if the arena holds them.
    fn shares_of(&mut self, members: &mut T::File) -> Result<Shares, T::Error> {
        let shape = self.arena.shape();
        let mut code = Vec::new();
        let mut units = 0;
        for at in member_offsets(members) {
            let member = self.member(members, at, &mut code)?;
            units += shape.node_units(self.level(member.row), code.len());
        }
        Ok(Shares::for_rows(units, self.arena.waiting_units()))
    }

    /// Builds the graph of the rows that wait in the arena, writes and forgets it.
    fn link_and_emit(
        &mut self,
        part: u32,
        homes: &Homes,
        progress: &mut Progress,
        team: &mut impl Team<T::Error>,
    ) -> Result<(), T::Error> {
        self.arena.offer_waiting();
        let mut builder = Builder::new(self.arena, self.codec, self.seed, self.ef_construction);
        team.link(self.arena, &mut builder, progress)?;
        self.emit(part, homes, team)?;
        self.arena.clear();
        Ok(())
    }

    /// Writes what the arena holds. The first graph of this part that a row at home in it is in makes its node.
    fn emit(&mut self, part: u32, homes: &Homes, team: &mut impl Team<T::Error>) -> Result<(), T::Error> {
        let arena = self.arena;
        let mut graph = FinishedGraph::new(arena, self.codec, || team.check())?;
        let (mut code, mut tags, mut list, mut tids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for at in 0..graph.nodes() {
            if at.is_multiple_of(1024) {
                team.check()?;
            }
            let name = graph.name(at);
            neighbours(arena, name, &mut list);
            arena.heap_tids(name, &mut tags);
            let Some(first) = tags.first() else { continue };
            let is_home = first.offset() == AT_HOME;
            let row = arena.first_row(name).unwrap_or(first.block());
            if !is_home || self.built.ordinals.get(row as usize).is_some_and(|&ordinal| ordinal != NONE) {
                let home = if is_home { part } else { homes.of(row) };
                if let Some((_, mail)) = self.built.parts.get_mut(home as usize) {
                    mail.append(&row.to_le_bytes())?;
                    append_list(mail, list.iter().copied())?;
                }
                continue;
            }
            let ordinal = self.built.nodes;
            self.built.nodes += 1;
            tids.clear();
            for tag in &tags {
                if let Some(slot) = self.built.ordinals.get_mut(tag.block() as usize) {
                    *slot = ordinal;
                }
                let mut bytes = [0; TID_BYTES];
                self.rows.tids.read_at(u64::from(tag.block()) * TID_BYTES as u64, &mut bytes)?;
                tids.extend(decode_tid(bytes));
            }
            let Ok(()) = graph.code(at, &mut code);
            self.samples.see(&code);
            let offset = append_code(&mut self.built.codes, &code)?;
            append_list(&mut self.built.lists, list.iter().copied())?;
            append_tids(&mut self.built.tids, &tids)?;
            if level_of(self.seed, u64::from(ordinal), arena.shape().m) > 0 {
                self.built.above.push((ordinal, offset));
            }
        }
        Ok(())
    }
}

/// A node's list at level 0.
fn neighbours(arena: Arena<'_>, name: NodeName, into: &mut Vec<Neighbour>) {
    into.clear();
    let Some(list) = arena.list(name, 0) else { return };
    into.extend(list.entries().filter_map(|(name, is_redundant, distance)| {
        Some(Neighbour { row: arena.first_row(name)?, is_redundant, distance })
    }));
}

/// Where the rows of a part are at home that are not in it. Rows ascend.
#[derive(Default)]
struct Homes(Vec<(u32, u32)>);

impl Homes {
    fn push(&mut self, row: u32, home: u32) {
        self.0.push((row, home));
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn of(&self, row: u32) -> u32 {
        let at = self.0.binary_search_by_key(&row, |&(row, _)| row);
        at.ok().and_then(|at| self.0.get(at)).map_or(NONE, |&(_, home)| home)
    }
}
