//! The graph that the parts make together, as [`BuiltGraph`]: read from their files in the order of ordinals, each node's
//! lists merged as it comes.

use super::files::{TempFile, TempFiles};
use super::part::Built;
use super::records::{read_code, read_list, read_tids, Neighbour};
use crate::hnsw::build::arena::{Arena, NodeName};
use crate::hnsw::page::write::BuiltGraph;
use crate::hnsw::page::{HeapTid, NONE};

/// A file of one record per ordinal, read in that order, as often as wanted.
struct Sequence<F> {
    file: F,
    next: u32,
    offset: u64,
}

impl<F: TempFile> Sequence<F> {
    fn new(file: F) -> Self {
        Sequence { file, next: 0, offset: 0 }
    }

    /// Reads the record of an ordinal by `read`, which gives the offset behind it.
    fn read(
        &mut self,
        ordinal: u32,
        mut read: impl FnMut(&mut F, u64) -> Result<u64, F::Error>,
    ) -> Result<(), F::Error> {
        if ordinal < self.next {
            (self.next, self.offset) = (0, 0);
        }
        while self.next <= ordinal {
            self.offset = read(&mut self.file, self.offset)?;
            self.next += 1;
        }
        Ok(())
    }
}

/// All parts as one graph, with the levels above 0 from the arena.
pub struct PartedGraph<'m, T: TempFiles> {
    nodes: u32,
    ordinals: Vec<u32>,
    codes: Sequence<T::File>,
    lists: Sequence<T::File>,
    tids: Sequence<T::File>,
    parts: Vec<(u32, T::File)>,
    /// The part whose mail is in memory, and that: ordinals, and where their lists are in `mail_lists`.
    part: Option<usize>,
    mail: Vec<(u32, u32, u32)>,
    mail_lists: Vec<Neighbour>,
    arena: Arena<'m>,
    /// Nodes on levels above 0, ascending.
    above: Vec<(u32, NodeName)>,
    bytes: Vec<u8>,
    own: Vec<Neighbour>,
}

impl<'m, T: TempFiles> PartedGraph<'m, T> {
    /// `arena` has the levels above 0 of the nodes `above`; a node's heap tid in it is its ordinal.
    pub(super) fn new(built: Built<T>, arena: Arena<'m>, above: Vec<(u32, NodeName)>) -> Self {
        PartedGraph {
            nodes: built.nodes,
            ordinals: built.ordinals,
            codes: Sequence::new(built.codes),
            lists: Sequence::new(built.lists),
            tids: Sequence::new(built.tids),
            parts: built.parts,
            part: None,
            mail: Vec::new(),
            mail_lists: Vec::new(),
            arena,
            above,
            bytes: Vec::new(),
            own: Vec::new(),
        }
    }

    fn name_above(&self, ordinal: u32) -> Option<NodeName> {
        let at = self.above.binary_search_by_key(&ordinal, |&(ordinal, _)| ordinal).ok()?;
        self.above.get(at).map(|&(_, name)| name)
    }

    /// Reads what other parts found for the nodes of the part that an ordinal is at home in.
    fn take_mail_for(&mut self, ordinal: u32) -> Result<(), T::Error> {
        // Parts without nodes begin where the next one does.
        let part = self.parts.partition_point(|&(first, _)| first <= ordinal).saturating_sub(1);
        if self.part == Some(part) {
            return Ok(());
        }
        self.part = Some(part);
        self.mail.clear();
        self.mail_lists.clear();
        let Some((_, file)) = self.parts.get_mut(part) else { return Ok(()) };
        let mut offset = 0;
        while offset < file.len_bytes() {
            let mut row = [0; 4];
            file.read_at(offset, &mut row)?;
            let first = self.mail_lists.len() as u32;
            offset = read_list(file, offset + 4, &mut self.bytes, &mut self.mail_lists)?;
            let ordinal = self.ordinals.get(u32::from_le_bytes(row) as usize).copied().unwrap_or(NONE);
            self.mail.push((ordinal, first, self.mail_lists.len() as u32));
        }
        self.mail.sort_unstable();
        Ok(())
    }

    /// The list of a node at level 0 out of those that its parts made: the diverse ones of all, nearest first, then
    /// the redundant ones. What one part found redundant is.
    fn merged(&mut self, ordinal: u32, into: &mut Vec<u32>) -> Result<(), T::Error> {
        self.take_mail_for(ordinal)?;
        let Self { lists, bytes, own, .. } = self;
        lists.read(ordinal, |file, offset| {
            own.clear();
            read_list(file, offset, bytes, own)
        })?;
        let first = self.mail.partition_point(|&(other, ..)| other < ordinal);
        for &(_, from, to) in self.mail.iter().skip(first).take_while(|&&(other, ..)| other == ordinal) {
            own.extend(self.mail_lists.get(from as usize..to as usize).unwrap_or_default());
        }
        for neighbour in own.iter_mut() {
            neighbour.row = self.ordinals.get(neighbour.row as usize).copied().unwrap_or(NONE);
        }
        own.retain(|neighbour| neighbour.row != NONE && neighbour.row != ordinal);
        own.sort_unstable_by(|a, b| a.row.cmp(&b.row).then(b.is_redundant.cmp(&a.is_redundant)));
        own.dedup_by_key(|neighbour| neighbour.row);
        own.sort_unstable_by(|a, b| {
            a.is_redundant.cmp(&b.is_redundant).then(a.distance.total_cmp(&b.distance)).then(a.row.cmp(&b.row))
        });
        into.extend(own.iter().take(self.arena.shape().room(0)).map(|neighbour| neighbour.row));
        Ok(())
    }
}

impl<T: TempFiles> BuiltGraph for PartedGraph<'_, T> {
    type Error = T::Error;

    fn nodes(&self) -> u32 {
        self.nodes
    }

    fn entry(&self) -> Option<u32> {
        match self.arena.entry() {
            Some(name) => self.arena.first_row(name),
            None => (self.nodes > 0).then_some(0),
        }
    }

    fn level(&self, ordinal: u32) -> u8 {
        self.name_above(ordinal).map_or(0, |name| self.arena.level(name))
    }

    fn neighbours(&mut self, ordinal: u32, level: u8, into: &mut Vec<u32>) -> Result<(), T::Error> {
        into.clear();
        if level == 0 {
            return self.merged(ordinal, into);
        }
        if let Some(list) = self.name_above(ordinal).and_then(|name| self.arena.list(name, level)) {
            into.extend(list.names().filter_map(|name| self.arena.first_row(name)));
        }
        Ok(())
    }

    fn code(&mut self, ordinal: u32, into: &mut Vec<u8>) -> Result<(), T::Error> {
        self.codes.read(ordinal, |file, offset| read_code(file, offset, into))
    }

    fn heap_tids(&mut self, ordinal: u32, into: &mut Vec<HeapTid>) -> Result<(), T::Error> {
        let bytes = &mut self.bytes;
        self.tids.read(ordinal, |file, offset| read_tids(file, offset, bytes, into))
    }
}
