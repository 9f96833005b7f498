//! Inserting a row (Malkov and Yashunin, 2018, algorithm 1), one atomic change after the other, in the order that the page
//! format's README gives: whatever the last one before a crash is, the graph is sound.
//!
//! Any number of insertions run at once. They hold no page between changes; what one decides from what it read may be old
//! when it is written, which costs at most a good edge.

use super::allocate::Allocated;
use super::codes::CodeBatch;
use super::node_set::NodeSet;
use super::open::Index;
use super::read::{IndexGraph, Row, Scratch};
use super::store::PageStore;
use super::write::only;
use crate::code::{CodeError, Query, Values};
use crate::hnsw::filter::KeyRow;
use crate::hnsw::graph::{EntryPoint, Graph, Near};
use crate::hnsw::page::{HeapTid, Meta, Metric, PageError, META_BLOCK};
use crate::hnsw::search::{Search, INSERT_DESCENT};
use crate::hnsw::select::select_neighbours;

/// How far back a live node is looked for.
const LOOK_BACK: u32 = 1000;

/// Memory of an insertion that the next one uses again.
#[derive(Default)]
pub struct Inserter {
    search: Search<Row>,
    pub(super) scratch: Scratch,
    codes: CodeBatch,
    starts: Vec<Near>,
}

/// Why a row was not inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError<E> {
    /// The value does not fit the index.
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error("the index could not be read or written")]
    Store(E),
}

impl<S: PageStore> Index<S> {
    /// Inserts a row with this value and these filter keys.
    pub fn insert(
        &mut self,
        inserter: &mut Inserter,
        value: Values<'_>,
        keys: KeyRow<'_>,
        heap_tid: HeapTid,
    ) -> Result<(), InsertError<S::Error>> {
        let query = self.shape.codec.query(value)?;
        let mut code = Vec::new();
        self.shape.codec.encode_into(value, &mut code)?;
        self.insert_code(inserter, &query, &code, keys, heap_tid).map_err(InsertError::Store)
    }

    pub(super) fn insert_code(
        &mut self,
        inserter: &mut Inserter,
        query: &Query,
        code: &[u8],
        keys: KeyRow<'_>,
        heap_tid: HeapTid,
    ) -> Result<(), S::Error> {
        let mut candidates = Vec::new();
        if let Some(entry) = self.entry_point()? {
            candidates = self.candidates(inserter, query, entry, 0)?;
            if let Some(twin) = self.twin(inserter, code, keys, &candidates)? {
                if self.add_heap_tid(twin, heap_tid)? {
                    return Ok(());
                }
            }
        }
        let node = self.allocate_node(code.len() as u32)?;
        self.write_code(&node, code)?;
        self.write_keys(&node, keys)?;
        let entry = match self.entry_point()? {
            Some(entry) => entry,
            None if self.publish_first(&node, code.len() as u32, heap_tid)? => return Ok(()),
            // Another first node was quicker.
            None => match self.entry_point()? {
                Some(entry) => entry,
                None => return Err(PageError::Refused("index has lost its entry").into()),
            },
        };
        if candidates.is_empty() {
            candidates = self.candidates(inserter, query, entry, 0)?;
        }
        let mut linked = vec![self.choose(inserter, &candidates, 0)?];
        for level in 1..=node.level.min(entry.level) {
            let candidates = self.candidates(inserter, query, entry, level)?;
            linked.push(self.choose(inserter, &candidates, level)?);
        }
        let mut lists: Vec<Vec<u32>> =
            linked.iter().map(|chosen| chosen.iter().map(|near| near.node).collect()).collect();
        if let (Some(list), Some(before)) = (lists.first_mut(), self.hung_on(node.ordinal)?) {
            if !list.contains(&before) {
                list.truncate(self.shape.layout.max_neighbours(0) - 1);
                list.push(before);
            }
        }
        self.publish(&node, &lists, code.len() as u32, heap_tid)?;
        for level in (0..=node.level.min(entry.level)).rev() {
            let chosen = linked.get(usize::from(level)).map_or(&[][..], Vec::as_slice);
            let owners: Vec<(u32, f32)> = chosen.iter().map(|near| (near.node, near.distance)).collect();
            self.link_back(node.ordinal, code, level, &owners)?;
        }
        if linked[0].is_empty() {
            return self.begin_anew(inserter, &node, entry);
        }
        self.ensure_linked(node.ordinal, &linked[0])?;
        if node.level > entry.level {
            self.raise_entry(node.ordinal, node.level)?;
        }
        Ok(())
    }

    /// Makes the only live node, beside which a vacuum is about to remove all others, the entry instead of a dead one; or links
    /// it to those of an insertion that was quicker.
    fn begin_anew(&mut self, inserter: &mut Inserter, node: &Allocated, dead: EntryPoint) -> Result<(), S::Error> {
        let is_entry = self.store.change(&[META_BLOCK], |pages| {
            let page = only(pages)?;
            let mut meta = Meta::decode(page)?;
            let is_free = meta.entry.is_none_or(|(entry, _)| entry == dead.node);
            if is_free {
                meta.entry = Some((node.ordinal, node.level));
                meta.encode(page)?;
            }
            Ok(is_free)
        })?;
        if !is_entry {
            self.reconnect(inserter, node.ordinal, &NodeSet::default())?;
        }
        Ok(())
    }

    /// Where searches begin now.
    pub(super) fn entry_point(&mut self) -> Result<Option<EntryPoint>, S::Error> {
        let entry = self.look()?;
        Ok(entry.node.map(|(node, level)| EntryPoint { node, level }))
    }

    /// The nearest live nodes at a level. Where all are dead, as far as the search goes, some live node of level 0; none only if
    /// there is none.
    pub(super) fn candidates(
        &mut self,
        inserter: &mut Inserter,
        query: &Query,
        entry: EntryPoint,
        level: u8,
    ) -> Result<Vec<Near>, S::Error> {
        let ef = usize::from(self.shape.identity.ef_construction);
        let Inserter { search, scratch, starts, .. } = inserter;
        let mut graph = IndexGraph { index: self, scratch };
        search.descend(&mut graph, query, entry, level + 1, INSERT_DESCENT, starts)?;
        search.begin(&mut graph, query, starts, ef, level, false)?;
        let mut nearest: Vec<Near> =
            search.results().map(|found| Near { distance: found.distance, node: found.node }).collect();
        if nearest.is_empty() && level == 0 {
            if let Some((node, _)) = self.any_live()? {
                let mut distances = Vec::new();
                IndexGraph { index: self, scratch }.score(query, &[node], &mut distances)?;
                nearest.extend(distances.into_iter().map(|distance| Near { distance, node }));
            }
        }
        Ok(nearest)
    }

    /// A live node with this very code and these keys among the nearest.
    fn twin(
        &mut self,
        inserter: &mut Inserter,
        code: &[u8],
        keys: KeyRow<'_>,
        nearest: &[Near],
    ) -> Result<Option<u32>, S::Error> {
        let Some(first) = nearest.first() else { return Ok(None) };
        let equal: Vec<u32> =
            nearest.iter().take_while(|near| near.distance == first.distance).map(|near| near.node).collect();
        self.codes(&equal, &mut inserter.codes)?;
        for (index, &node) in equal.iter().enumerate() {
            if inserter.codes.get(index) == code && self.has_keys(node, keys)? {
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    /// Chooses neighbours among candidates, which ascend in distance.
    pub(super) fn choose(
        &mut self,
        inserter: &mut Inserter,
        candidates: &[Near],
        level: u8,
    ) -> Result<Vec<Near>, S::Error> {
        let nodes: Vec<u32> = candidates.iter().map(|near| near.node).collect();
        self.codes(&nodes, &mut inserter.codes)?;
        let (codec, codes) = (&self.shape.codec, &inserter.codes);
        let distances: Vec<f32> = candidates.iter().map(|near| near.distance).collect();
        let mut chosen = Vec::new();
        let between = |a: usize, b: usize| codec.distance_between(codes.get(a), codes.get(b));
        select_neighbours(&distances, self.shape.layout.max_neighbours(level), between, &mut chosen);
        Ok(chosen.iter().filter_map(|&(index, _)| candidates.get(index).copied()).collect())
    }

    /// Makes a live node, which is linked, the entry if it is higher than the present one.
    fn raise_entry(&mut self, node: u32, level: u8) -> Result<(), S::Error> {
        self.store.change(&[META_BLOCK], |pages| {
            let page = only(pages)?;
            let mut meta = Meta::decode(page)?;
            if meta.entry.is_none_or(|(_, present)| present < level) {
                meta.entry = Some((node, level));
                meta.encode(page)?;
            }
            Ok(())
        })
    }

    /// Sees to it that a node is in some list: if all of its neighbours have declined it, the first takes it that can. Under
    /// the inner product it is in the list of the node that it hangs on, whatever others have done.
    pub(super) fn ensure_linked(&mut self, node: u32, chosen: &[Near]) -> Result<(), S::Error> {
        if let Some(before) = self.hung_on(node)? {
            if !self.put_into(before, node)? {
                self.hand_over(before, node)?;
            }
            return Ok(());
        }
        let mut list = Vec::new();
        for near in chosen {
            self.node(near.node, Some(&mut list))?;
            if list.contains(&node) {
                return Ok(());
            }
        }
        for near in chosen {
            if self.put_into(near.node, node)? {
                return Ok(());
            }
        }
        chosen.first().map_or(Ok(()), |near| self.hand_over(near.node, node))
    }

    /// The node that a new one hangs on. Under the inner product nearly all lists name the few longest vectors and
    /// decline the others, and searches need the edges between the longest: so each node is tied to the live one before
    /// it, both ways, and the other edges of lists are free to be the best.
    fn hung_on(&mut self, node: u32) -> Result<Option<u32>, S::Error> {
        match self.shape.identity.metric {
            Metric::InnerProduct => self.live_before(node),
            _ => Ok(None),
        }
    }

    /// The live node before this one.
    pub(super) fn live_before(&mut self, node: u32) -> Result<Option<u32>, S::Error> {
        for before in (node.saturating_sub(LOOK_BACK)..node).rev() {
            if self.node(before, None)?.row().is_some() {
                return Ok(Some(before));
            }
        }
        Ok(None)
    }

    /// Links a published node and others both ways at a level.
    pub(super) fn link_both(&mut self, node: u32, code: &[u8], level: u8, chosen: &[Near]) -> Result<(), S::Error> {
        let mut batch = CodeBatch::default();
        for near in chosen {
            self.codes(&[near.node], &mut batch)?;
            self.link_back(near.node, batch.get(0), level, &[(node, near.distance)])?;
            self.link_back(node, code, level, &[(near.node, near.distance)])?;
        }
        Ok(())
    }
}
