//! Repairing lists that lead to dead nodes: the dead are replaced by what they led to (as FreshDiskANN, Singh et al. 2021,
//! does), without searching the graph again.

use super::codes::CodeBatch;
use super::insert::Inserter;
use super::node_set::NodeSet;
use super::open::Index;
use super::store::PageStore;
use super::write::only;
use crate::code::Query;
use crate::hnsw::graph::{EntryPoint, Near};
use crate::hnsw::page::node::NodeRef;
use crate::hnsw::page::node_edit::NodeMut;
use crate::hnsw::page::upper::{UpperMut, UpperRef};
use crate::hnsw::page::{PageClass, PageError};

/// How many dead nodes in a row are gone through before a list takes what it has.
const DEAD_HOPS: usize = 200;
/// Candidates that a list chooses from, as a multiple of its room. The farther ones are needed: among the nearest two to a
/// room there are hardly any that lead elsewhere, and recall after a vacuum is lower by .006.
const CANDIDATES_PER_ROOM: usize = 8;
/// Where there are fewer candidates than this multiple, the dead that the dead lead to are gone through, too.
const LEAST_CANDIDATES_PER_ROOM: usize = 4;
/// How often a list that changes meanwhile is tried.
const TRIES: usize = 5;

impl<S: PageStore> Index<S> {
    /// Takes the dead out of a live node's list at a level, if there are any. A node that would be left alone is searched
    /// new neighbours for.
    pub(super) fn repair(
        &mut self,
        inserter: &mut Inserter,
        node: u32,
        level: u8,
        dead: &NodeSet,
    ) -> Result<bool, S::Error> {
        let (mut list, mut batch) = (Vec::new(), CodeBatch::default());
        for _ in 0..TRIES {
            self.store.check_interrupts()?;
            self.list(node, level, &mut list)?;
            if !list.iter().any(|&neighbour| dead.contains(neighbour)) {
                return Ok(false);
            }
            let chosen = self.without_dead(inserter, node, level, &list, dead)?;
            let ids: Vec<u32> = chosen.iter().map(|near| near.node).collect();
            if self.replace_list(node, level, &list, &ids)? {
                // The dead led here, too: their successors in the list are offered the node, as after an insertion.
                let new = chosen.iter().filter(|near| !list.contains(&near.node));
                let new: Vec<(u32, f32)> = new.map(|near| (near.node, near.distance)).collect();
                self.codes(&[node], &mut batch)?;
                self.link_back(node, batch.get(0), level, &new)?;
                return Ok(true);
            }
            // Its neighbours may be newer than what is known of the index.
            self.look()?;
        }
        // It changes all the time: only drop the dead, whatever else is in it.
        self.drop_dead(node, level, dead)?;
        Ok(true)
    }

    /// What a list should be without its dead.
    fn without_dead(
        &mut self,
        inserter: &mut Inserter,
        node: u32,
        level: u8,
        list: &[u32],
        dead: &NodeSet,
    ) -> Result<Vec<Near>, S::Error> {
        let mut live: Vec<u32> = Vec::new();
        let mut hops: Vec<u32> = Vec::new();
        let take = |from: &[u32], live: &mut Vec<u32>, hops: &mut Vec<u32>| {
            for &other in from {
                let into = if dead.contains(other) { &mut *hops } else { &mut *live };
                if other != node && !into.contains(&other) {
                    into.push(other);
                }
            }
        };
        take(list, &mut live, &mut hops);
        let (mut next, mut read) = (0, Vec::new());
        let room = self.shape.layout.max_neighbours(level);
        // Neighbours of the dead; neighbours of dead ones among these only while there are few.
        let first_hops = hops.len();
        while let Some(&hop) = hops.get(next) {
            if next >= DEAD_HOPS || (next >= first_hops && live.len() >= LEAST_CANDIDATES_PER_ROOM * room) {
                break;
            }
            next += 1;
            self.list(hop, level, &mut read)?;
            take(&read, &mut live, &mut hops);
        }
        let candidates = self.nearest_of(node, &live, CANDIDATES_PER_ROOM * room)?;
        self.choose(inserter, &candidates, level)
    }

    /// The nearest of these nodes to a node, ascending.
    pub(super) fn nearest_of(&mut self, node: u32, others: &[u32], most: usize) -> Result<Vec<Near>, S::Error> {
        let mut batch = CodeBatch::default();
        let mut nodes = others.to_vec();
        nodes.push(node);
        self.codes(&nodes, &mut batch)?;
        let codec = &self.shape.codec;
        let code = batch.get(others.len());
        let mut nearest: Vec<Near> = others
            .iter()
            .enumerate()
            .map(|(index, &node)| Near { distance: codec.distance_between(code, batch.get(index)), node })
            .collect();
        nearest.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.node.cmp(&b.node)));
        nearest.truncate(most);
        Ok(nearest)
    }

    /// Replaces a list if it still is what was read; says whether it did.
    fn replace_list(&mut self, node: u32, level: u8, before: &[u32], ids: &[u32]) -> Result<bool, S::Error> {
        self.change_list(node, level, |list| (list == before).then(|| ids.to_vec()))
    }

    /// Takes the dead out of a list and puts nothing in.
    fn drop_dead(&mut self, node: u32, level: u8, dead: &NodeSet) -> Result<bool, S::Error> {
        self.change_list(node, level, |list| {
            Some(list.iter().copied().filter(|&neighbour| !dead.contains(neighbour)).collect())
        })
    }

    /// Replaces a list by what `change` makes of it under the lock; None leaves it. Says whether it was replaced.
    pub(super) fn change_list(
        &mut self,
        node: u32,
        level: u8,
        change: impl FnOnce(&[u32]) -> Option<Vec<u32>>,
    ) -> Result<bool, S::Error> {
        let layout = self.shape.layout;
        let head = self.node(node, None)?;
        if !head.state.is_linked() || head.level < level {
            return Ok(true);
        }
        if level == 0 {
            let address = layout.nodes().address(node);
            let block = self.block(PageClass::Node, address.page_index)?;
            return self.store.change(&[block], |pages| {
                let mut record = NodeMut::in_page(only(pages)?, &layout, address)?;
                let list: Vec<u32> = record.read()?.neighbours.iter().collect();
                let Some(ids) = change(&list) else { return Ok(false) };
                record.set_neighbours(&ids)?;
                Ok(true)
            });
        }
        let address = layout.uppers().address(NodeRef::upper_of(head.first_upper, head.level, level)?);
        let block = self.block(PageClass::Upper, address.page_index)?;
        self.store.change(&[block], |pages| {
            let page = only(pages)?;
            let Some(upper) = UpperRef::in_page(page, &layout, address)? else { return Ok(true) };
            upper.check_owner(node, level)?;
            let list: Vec<u32> = upper.neighbours.iter().collect();
            let Some(ids) = change(&list) else { return Ok::<_, PageError>(false) };
            UpperMut::in_page(page, &layout, address)?.set_neighbours(&ids)?;
            Ok(true)
        })
    }

    /// A node's code, and the query for it; None if the code is none.
    pub(super) fn code_and_query(&mut self, node: u32) -> Result<Option<(Vec<u8>, Query)>, S::Error> {
        let mut batch = CodeBatch::default();
        self.codes(&[node], &mut batch)?;
        let query = self.shape.codec.query_of_code(batch.get(0)).ok();
        Ok(query.map(|query| (batch.get(0).to_vec(), query)))
    }

    /// Links a live node that nothing leads to: to the nearest that a search finds, both ways.
    pub(super) fn reconnect(&mut self, inserter: &mut Inserter, node: u32, dead: &NodeSet) -> Result<(), S::Error> {
        let Some((code, query)) = self.code_and_query(node)? else { return Ok(()) };
        let Some(entry) = self.entry_point()?.filter(|entry| entry.node != node) else { return Ok(()) };
        // At level 0 from the entry, as the walk: upper levels may lead to an island that `node` is part of.
        let mut candidates = self.candidates(inserter, &query, EntryPoint { level: 0, ..entry }, 0)?;
        candidates.retain(|near| near.node != node && !dead.contains(near.node));
        let chosen = self.choose(inserter, &candidates, 0)?;
        self.link_both(node, &code, 0, &chosen)?;
        self.ensure_linked(node, &chosen)
    }

    /// Puts a node into a list at level 0: at the end, or instead of an entry that may leave; false if none may.
    pub(super) fn put_into(&mut self, owner: u32, node: u32) -> Result<bool, S::Error> {
        let room = self.shape.layout.max_neighbours(0);
        let mut list = Vec::new();
        for _ in 0..TRIES {
            self.node(owner, Some(&mut list))?;
            if list.contains(&node) {
                return Ok(true);
            }
            let mut ids = list.clone();
            if list.len() >= room {
                let mut spare = None;
                for (index, &neighbour) in list.iter().enumerate().rev() {
                    if self.may_go(neighbour, owner, &list, node, &[])? {
                        spare = Some(index);
                        break;
                    }
                }
                let Some(spare) = spare else { return Ok(false) };
                ids.remove(spare);
            }
            ids.push(node);
            if self.replace_list(owner, 0, &list, &ids)? {
                return Ok(true);
            }
            self.look()?;
        }
        Ok(false)
    }

    /// Puts a node, which no list has taken, into a list at level 0 in the place of its last entry, which the node takes over.
    pub(super) fn hand_over(&mut self, owner: u32, node: u32) -> Result<(), S::Error> {
        let room = self.shape.layout.max_neighbours(0);
        let mut list = Vec::new();
        for _ in 0..TRIES {
            self.node(owner, Some(&mut list))?;
            let last = if list.len() >= room { list.last().copied() } else { None };
            if let Some(last) = last {
                self.change_list(node, 0, |own| {
                    let kept = own.iter().copied().filter(|&neighbour| neighbour != last).take(room - 1);
                    Some(kept.chain([last]).collect())
                })?;
            }
            let kept = list.iter().copied().filter(|&neighbour| Some(neighbour) != last && neighbour != node);
            let ids: Vec<u32> = kept.chain([node]).collect();
            if self.replace_list(owner, 0, &list, &ids)? {
                return Ok(());
            }
            self.look()?;
        }
        Ok(())
    }
}
