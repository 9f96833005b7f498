//! Back-links: offering a node to the lists of others.
//!
//! A list with room takes it. For a full one the owner's neighbours and the newcomer are chosen from anew, by the
//! heuristic of [`select_neighbours`]; at most one entry is replaced. The choice is made without a lock and checked
//! under it: if the list has changed meanwhile, it is made again, a few times.
//!
//! Whatever could be reached before can be reached afterwards: a neighbour leaves a list of level 0 only if another entry
//! of that list, or the newcomer, names it. The exception is two insertions at once that count on each other's lists; the
//! next vacuum connects what they have lost.

use std::rc::Rc;

use super::codes::CodeBatch;
use super::open::Index;
use super::store::{PageStore, MAX_CHANGED_PAGES};
use crate::hnsw::page::node::NodeRef;
use crate::hnsw::page::node_edit::NodeMut;
use crate::hnsw::page::upper::{UpperMut, UpperRef};
use crate::hnsw::page::{Address, Layout, Metric, Page, PageClass, PageError};
use crate::hnsw::select::select_neighbours;

/// How often a list that changes meanwhile is tried: a back-link more or less does not matter.
const TRIES: usize = 3;

/// How many neighbours are asked to leave a full list, the least useful first.
const VICTIMS: usize = 3;

/// What is to happen to a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    owner: u32,
    block: u32,
    address: Address,
    /// The neighbour to be replaced if the list is full; None if it should have room.
    replaced: Option<u32>,
}

/// A node that is offered to lists.
struct Newcomer<'a> {
    node: u32,
    code: &'a [u8],
    level: u8,
    /// What other lists have been chosen to do.
    planned: &'a [Edit],
}

impl<S: PageStore> Index<S> {
    /// Offers `node`, whose code this is, to the lists of `owners` at a level; with each its distance.
    pub(super) fn link_back(
        &mut self,
        node: u32,
        code: &[u8],
        level: u8,
        owners: &[(u32, f32)],
    ) -> Result<(), S::Error> {
        let mut left: Vec<(u32, f32)> = owners.to_vec();
        let mut batch = CodeBatch::default();
        for _ in 0..TRIES {
            let mut edits = Vec::with_capacity(left.len());
            for &(owner, distance) in &left {
                self.store.check_interrupts()?;
                let edit =
                    self.plan_edit(&Newcomer { node, code, level, planned: &edits }, owner, distance, &mut batch)?;
                edits.extend(edit);
            }
            let failed = self.apply_edits(node, level, edits)?;
            left.retain(|(owner, _)| failed.contains(owner));
            if left.is_empty() {
                break;
            }
            // A list may name nodes that are newer than what is known of the index.
            self.look()?;
        }
        Ok(())
    }

    /// What should happen to the list of an owner: None if it stays as it is.
    fn plan_edit(
        &mut self,
        newcomer: &Newcomer<'_>,
        owner: u32,
        distance: f32,
        batch: &mut CodeBatch,
    ) -> Result<Option<Edit>, S::Error> {
        let (layout, level) = (self.shape.layout, newcomer.level);
        let mut list = Vec::with_capacity(layout.max_neighbours(level));
        let head = self.list(owner, level, &mut list)?;
        if !head.state.is_linked() || head.level < level || list.contains(&newcomer.node) {
            return Ok(None);
        }
        let (address, class) = match level {
            0 => (layout.nodes().address(owner), PageClass::Node),
            _ => (layout.uppers().address(NodeRef::upper_of(head.first_upper, head.level, level)?), PageClass::Upper),
        };
        let block = self.block(class, address.page_index)?;
        let mut edit = Edit { owner, block, address, replaced: None };
        if list.len() < layout.max_neighbours(level) {
            return Ok(Some(edit));
        }
        edit.replaced = self.crowded_out(newcomer, &list, owner, distance, batch)?;
        Ok(edit.replaced.map(|_| edit))
    }

    /// Whether a neighbour may leave the list of an owner for a newcomer, at level 0: something that the list still leads
    /// to then names it. Under the inner product edges between a node and the live one before it stay, where an insertion
    /// has made them, and a node that hangs on the one before it may leave all other lists.
    pub(super) fn may_go(
        &mut self,
        neighbour: u32,
        owner: u32,
        list: &[u32],
        newcomer: u32,
        planned: &[Edit],
    ) -> Result<bool, S::Error> {
        if self.shape.identity.metric == Metric::InnerProduct {
            let (first, second) = (neighbour.min(owner), neighbour.max(owner));
            if self.live_before(second)? == Some(first) {
                return Ok(false);
            }
            if let Some(before) = self.live_before(neighbour)? {
                if self.names(before, neighbour)? {
                    return Ok(true);
                }
            }
        }
        let is_dropped = |by: u32| planned.iter().any(|edit| edit.owner == by && edit.replaced == Some(neighbour));
        let mut own = Vec::new();
        self.node(neighbour, Some(&mut own))?;
        // Edges mostly go both ways, so neighbours of the neighbour are asked first.
        let (near, far): (Vec<u32>, Vec<u32>) = list.iter().partition(|&entry| own.contains(entry));
        for other in std::iter::once(newcomer).chain(near).chain(far) {
            if other != neighbour && !is_dropped(other) && self.names(other, neighbour)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a node is in the list of another at level 0.
    fn names(&mut self, owner: u32, node: u32) -> Result<bool, S::Error> {
        let mut list = Vec::new();
        self.node(owner, Some(&mut list))?;
        Ok(list.contains(&node))
    }

    /// Which neighbour of a full list gives way to a newcomer at this distance; None if none does.
    fn crowded_out(
        &mut self,
        newcomer: &Newcomer<'_>,
        list: &[u32],
        owner: u32,
        distance: f32,
        batch: &mut CodeBatch,
    ) -> Result<Option<u32>, S::Error> {
        let mut nodes = Vec::with_capacity(list.len() + 1);
        nodes.extend_from_slice(list);
        nodes.push(owner);
        self.codes(&nodes, batch)?;
        let shape = Rc::clone(&self.shape);
        let owner_code = batch.get(list.len());
        // The newcomer is number `list.len()`.
        let code_of = |index: usize| if index < list.len() { batch.get(index) } else { newcomer.code };
        let distance_to = |index: usize| shape.codec.distance_between(owner_code, batch.get(index));
        let mut order: Vec<(f32, usize)> = Vec::with_capacity(nodes.len());
        order.extend((0..list.len()).map(|index| (distance_to(index), index)));
        order.push((distance, list.len()));
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut chosen = Vec::with_capacity(order.len());
        // Under other metrics a list that has none to spare declines the newcomer, which others take.
        let victims = if shape.identity.metric == Metric::InnerProduct { VICTIMS } else { 1 };
        for _ in 0..victims {
            let distances: Vec<f32> = order.iter().map(|(distance, _)| *distance).collect();
            let index_at = |rank: usize| order.get(rank).map_or(0, |(_, index)| *index);
            let between = |a: usize, b: usize| shape.codec.distance_between(code_of(index_at(a)), code_of(index_at(b)));
            select_neighbours(&distances, order.len() - 1, between, &mut chosen);
            // One of them all was not chosen.
            let left_out = (0..order.len()).find(|rank| chosen.binary_search_by_key(rank, |(rank, _)| *rank).is_err());
            let Some(rank) = left_out else { return Ok(None) };
            let Some(&victim) = list.get(index_at(rank)) else { return Ok(None) };
            if newcomer.level > 0 || self.may_go(victim, owner, list, newcomer.node, newcomer.planned)? {
                return Ok(Some(victim));
            }
            // It stays, and another is looked for.
            order.remove(rank);
        }
        Ok(None)
    }

    /// Makes the edits, as many to a change as there may be; gives the owners whose list was not as planned.
    fn apply_edits(&mut self, node: u32, level: u8, mut edits: Vec<Edit>) -> Result<Vec<u32>, S::Error> {
        let layout = self.shape.layout;
        edits.sort_unstable_by_key(|edit| (edit.block, edit.address.offset));
        let mut failed = Vec::new();
        let mut rest = edits.as_slice();
        while !rest.is_empty() {
            let mut blocks: Vec<u32> = Vec::with_capacity(MAX_CHANGED_PAGES);
            let mut count = 0;
            for edit in rest {
                if blocks.last() != Some(&edit.block) {
                    if blocks.len() == MAX_CHANGED_PAGES {
                        break;
                    }
                    blocks.push(edit.block);
                }
                count += 1;
            }
            let (group, behind) = rest.split_at(count);
            rest = behind;
            let not_done = self.store.change(&blocks, |pages| {
                let mut not_done = Vec::new();
                for edit in group {
                    let index = blocks.iter().position(|&block| block == edit.block);
                    let page = index.and_then(|index| pages.get_mut(index));
                    let page = page.ok_or(PageError::Refused("change of too few pages"))?;
                    if !edit.apply(page, &layout, node, level)? {
                        not_done.push(edit.owner);
                    }
                }
                Ok(not_done)
            })?;
            failed.extend(not_done);
        }
        Ok(failed)
    }
}

impl Edit {
    /// Makes the edit; false if the list is not as planned.
    fn apply(&self, page: &mut Page, layout: &Layout, node: u32, level: u8) -> Result<bool, PageError> {
        let place = |list: &mut dyn Iterator<Item = u32>, room: usize| {
            let list: Vec<u32> = list.collect();
            if list.contains(&node) {
                return Place::Done;
            }
            if list.len() < room {
                return Place::End;
            }
            let replaced = self.replaced.and_then(|replaced| list.iter().position(|&other| other == replaced));
            replaced.map_or(Place::Nowhere, Place::At)
        };
        let room = layout.max_neighbours(level);
        if level == 0 {
            let mut record = NodeMut::in_page(page, layout, self.address)?;
            if !record.read()?.state.is_linked() {
                return Ok(true);
            }
            let found = place(&mut record.read()?.neighbours.iter(), room);
            match found {
                Place::Done => {}
                Place::End => record.push_neighbour(node)?,
                Place::At(index) => record.replace_neighbour(index, node)?,
                Place::Nowhere => return Ok(false),
            }
            return Ok(true);
        }
        let Some(list) = UpperRef::in_page(page, layout, self.address)? else { return Ok(true) };
        if list.owner != self.owner || list.level != level {
            return Ok(true);
        }
        let found = place(&mut list.neighbours.iter(), room);
        let mut record = UpperMut::in_page(page, layout, self.address)?;
        match found {
            Place::Done => {}
            Place::End => record.push_neighbour(node)?,
            Place::At(index) => record.replace_neighbour(index, node)?,
            Place::Nowhere => return Ok(false),
        }
        Ok(true)
    }
}

/// Where in a list the newcomer goes.
enum Place {
    /// It is there.
    Done,
    End,
    At(usize),
    Nowhere,
}
