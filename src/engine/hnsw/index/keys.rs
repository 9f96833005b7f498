//! Filter keys on pages: writing those of a node, and asking which nodes pass a filter, by their keys and rows.
//!
//! Keys are written once in a node's use, before it is published, so whoever was told of a node finds them. The keys of a
//! freed node stay until the next use: they make a dead node match at worst, which is no result.

use std::ops::Range;
use std::rc::Rc;

use super::allocate::Allocated;
use super::node_set::NodeSet;
use super::open::{prepare, written, Index};
use super::read::Row;
use super::store::{PageStore, Span};
use super::write::only;
use crate::hnsw::filter::{Filter, KeyRow, RowMask};
use crate::hnsw::page::node::NodeRef;
use crate::hnsw::page::{PageClass, PageError};
use crate::hnsw::search::Found;

/// Pages that an estimate reads.
const SAMPLED_PAGES: u32 = 8;
/// Pages whose keys are tested between two looks for interrupts.
const TESTED_PAGES: usize = 64;
/// How much of a page's keys is fetched ahead: the CPU sees by itself that the rest follows.
const FETCHED_KEY_BYTES: usize = 512;
/// Rows that a block may hold of which nothing else is known.
const ROWS_PER_WHOLE_BLOCK: u64 = 8;

impl<S: PageStore> Index<S> {
    /// Writes the keys of a node, which nothing leads to yet.
    pub(super) fn write_keys(&mut self, node: &Allocated, keys: KeyRow<'_>) -> Result<(), S::Error> {
        let shape = Rc::clone(&self.shape);
        let layout = shape.layout.keys();
        if layout.columns() == 0 {
            return Ok(());
        }
        let (page_index, slot) = layout.address(node.ordinal);
        let block = self.block(PageClass::Keys, page_index)?;
        self.store.change(&[block], |pages| {
            let page = only(pages)?;
            prepare(page, PageClass::Keys, page_index)?;
            shape.row_keys.put(keys, layout, page, slot)
        })
    }

    /// Whether a node has these keys.
    pub(super) fn has_keys(&mut self, node: u32, keys: KeyRow<'_>) -> Result<bool, S::Error> {
        let shape = Rc::clone(&self.shape);
        let layout = shape.layout.keys();
        if layout.columns() == 0 {
            return Ok(true);
        }
        let (page_index, slot) = layout.address(node);
        let block = self.block(PageClass::Keys, page_index)?;
        let read = self.store.read(block, |page| match written(page, PageClass::Keys, page_index)? {
            Some(page) => shape.row_keys.is_at(keys, layout, page, slot),
            None => Ok::<_, PageError>(false),
        })?;
        Ok(read?)
    }

    /// Which of these results of a search pass a filter. Of a node with several rows it is not known: it passes the mask.
    ///
    /// Keys are read without a lock: those of a node that was found were written before it could be, and change when it is
    /// another row's, which is no result then.
    pub(super) fn passing(
        &mut self,
        filter: &Filter,
        found: &[Found<Row>],
        into: &mut Vec<bool>,
    ) -> Result<(), S::Error> {
        into.clear();
        if filter.has_conditions() {
            let layout = *self.shape.layout.keys();
            let mut spans = Vec::with_capacity(found.len());
            for found in found {
                let (page_index, slot) = layout.address(found.node);
                let block = self.block(PageClass::Keys, page_index)?;
                let Range { start, end } = filter.first_key_range(&layout, slot)?;
                spans.push(Span { block, offset: start, length_bytes: end - start });
            }
            into.resize(found.len(), false);
            let mut damage = None;
            self.store.read_stable(&spans, |index, page| {
                let (Some(found), Some(passes)) = (found.get(index), into.get_mut(index)) else { return };
                match filter.passes(&layout, page, layout.address(found.node).1) {
                    Ok(meets) => *passes = meets,
                    Err(error) => damage = Some(error),
                }
            })?;
            if let Some(damage) = damage {
                return Err(damage.into());
            }
        } else {
            into.resize(found.len(), true);
        }
        if let Some(mask) = filter.mask() {
            for (passes, found) in into.iter_mut().zip(found) {
                *passes &= found.row.overflow.is_some() || mask.contains(found.row.heap_tid);
            }
        }
        Ok(())
    }

    /// All nodes that pass a filter, and perhaps some that are no results.
    pub(super) fn matching(&mut self, filter: &Filter) -> Result<NodeSet, S::Error> {
        let meeting = if filter.has_conditions() { Some(self.meeting(filter)?) } else { None };
        match meeting {
            Some(meeting) if filter.mask().is_none() => Ok(meeting),
            among => self.within_mask(filter, among),
        }
    }

    /// The live nodes of a set, or of all, that pass a filter's mask.
    fn within_mask(&mut self, filter: &Filter, among: Option<NodeSet>) -> Result<NodeSet, S::Error> {
        let (layout, nodes) = (self.shape.layout, self.entry.nodes);
        let mut set = NodeSet::with_nodes(nodes);
        for page_index in 0..layout.nodes().pages(nodes) {
            self.store.check_interrupts()?;
            let block = self.block(PageClass::Node, page_index)?;
            let read = self.store.read(block, |page| {
                let Some(page) = written(page, PageClass::Node, page_index)? else { return Ok(()) };
                for node in layout.nodes().ordinals(page_index).take_while(|&node| node < nodes) {
                    if among.as_ref().is_some_and(|among| !among.contains(node)) {
                        continue;
                    }
                    let rows = NodeRef::rows_in_page(page, &layout, layout.nodes().address(node))?;
                    let Some(rows) = rows else { continue };
                    if filter.mask().is_none_or(|mask| rows.overflow.is_some() || mask.contains(rows.heap_tid)) {
                        set.insert(node);
                    }
                }
                Ok::<_, PageError>(())
            })?;
            read?;
        }
        Ok(set)
    }

    /// All nodes that meet the conditions of a filter, whatever their state.
    fn meeting(&mut self, filter: &Filter) -> Result<NodeSet, S::Error> {
        let mut set = NodeSet::with_nodes(self.entry.nodes);
        let pages = self.shape.layout.keys().pages(self.entry.nodes);
        let mut words = Vec::new();
        for first in (0..pages).step_by(TESTED_PAGES) {
            let some: Vec<u32> = (first..pages).take(TESTED_PAGES).collect();
            self.matching_of_pages(filter, &some, &mut words)?;
            for (&page_index, words) in some.iter().zip(words.chunks(self.words_of_page())) {
                set.insert_words(self.first_of_page(page_index), words);
            }
        }
        Ok(set)
    }

    /// About which share of the nodes passes a filter. Conditions and mask are taken to be independent.
    pub(super) fn share_matching(&mut self, filter: &Filter) -> Result<f64, S::Error> {
        let meeting = if filter.has_conditions() { self.share_meeting(filter)? } else { 1.0 };
        Ok(filter.mask().map_or(meeting, |mask| meeting * self.share_masked(mask)))
    }

    /// About which share of the nodes has rows in a mask.
    fn share_masked(&self, mask: &RowMask) -> f64 {
        let rows = mask.rows() + u64::from(mask.whole_blocks()) * ROWS_PER_WHOLE_BLOCK;
        (rows as f64 / f64::from(self.entry.nodes.max(1))).min(1.0)
    }

    /// About which share of the nodes meets the conditions of a filter.
    fn share_meeting(&mut self, filter: &Filter) -> Result<f64, S::Error> {
        let pages = self.shape.layout.keys().pages(self.entry.nodes);
        let sampled = u64::from(pages.min(SAMPLED_PAGES));
        let some: Vec<u32> = (0..sampled).map(|sample| (sample * u64::from(pages) / sampled) as u32).collect();
        let mut words = Vec::new();
        self.matching_of_pages(filter, &some, &mut words)?;
        let nodes: u32 = some.iter().map(|&page_index| self.nodes_of_page(page_index)).sum();
        let matching: u32 = words.iter().map(|word| word.count_ones()).sum();
        Ok(f64::from(matching) / f64::from(nodes.max(1)))
    }

    /// The first node whose keys are on a page.
    fn first_of_page(&self, page_index: u32) -> u32 {
        page_index.saturating_mul(self.shape.layout.keys().nodes_per_page())
    }

    /// How many nodes of the index have their keys on a page.
    fn nodes_of_page(&self, page_index: u32) -> u32 {
        let nodes = self.entry.nodes.saturating_sub(self.first_of_page(page_index));
        nodes.min(self.shape.layout.keys().nodes_per_page())
    }

    /// Words with a bit for each node of a page.
    fn words_of_page(&self) -> usize {
        self.shape.layout.keys().nodes_per_page().div_ceil(64) as usize
    }

    /// A bit for each node of some key pages, which begin a word each: whether it meets the conditions of a filter. Replaces
    /// what is in `into`.
    ///
    /// Keys are read without a lock, as in [`Index::passing`].
    fn matching_of_pages(&mut self, filter: &Filter, pages: &[u32], into: &mut Vec<u64>) -> Result<(), S::Error> {
        self.store.check_interrupts()?;
        let layout = *self.shape.layout.keys();
        let mut spans = Vec::with_capacity(pages.len());
        for &page_index in pages {
            let block = self.block(PageClass::Keys, page_index)?;
            let Range { start, .. } = filter.first_key_range(&layout, 0)?;
            spans.push(Span { block, offset: start, length_bytes: FETCHED_KEY_BYTES });
        }
        let words_of_page = self.words_of_page();
        let nodes: Vec<u32> = pages.iter().map(|&page_index| self.nodes_of_page(page_index)).collect();
        into.clear();
        into.resize(pages.len() * words_of_page, 0);
        let mut damage: Vec<Option<PageError>> = vec![None; pages.len()];
        self.store.read_stable(&spans, |index, page| {
            let words = into.chunks_mut(words_of_page).nth(index);
            let (Some(words), Some(&page_index), Some(&nodes)) = (words, pages.get(index), nodes.get(index)) else {
                return;
            };
            let tested = match written(page, PageClass::Keys, page_index) {
                Ok(Some(page)) => filter.matching(&layout, page, nodes, words),
                Ok(None) => {
                    words.fill(0);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Some(damage) = damage.get_mut(index) {
                *damage = tested.err();
            }
        })?;
        damage.into_iter().flatten().next().map_or(Ok(()), |error| Err(error.into()))
    }
}
