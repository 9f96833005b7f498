//! Filter keys on pages: writing those of a node, and asking which nodes pass a filter.
//!
//! Keys are written once in a node's use, before it is published, so whoever was told of a node finds them. The keys of a
//! freed node stay until the next use: they make a dead node match at worst, which is no result.

use std::rc::Rc;

use super::allocate::Allocated;
use super::node_set::NodeSet;
use super::open::{prepare, written, Index};
use super::store::PageStore;
use super::write::only;
use crate::hnsw::filter::{Filter, KeyRow};
use crate::hnsw::page::{PageClass, PageError};

/// Pages that an estimate reads.
const SAMPLED_PAGES: u32 = 8;

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

    /// Whether a node passes a filter.
    pub(super) fn passes(&mut self, filter: &Filter, node: u32) -> Result<bool, S::Error> {
        let layout = *self.shape.layout.keys();
        let (page_index, slot) = layout.address(node);
        let block = self.block(PageClass::Keys, page_index)?;
        let read = self.store.read(block, |page| match written(page, PageClass::Keys, page_index)? {
            Some(page) => filter.passes(&layout, page, slot),
            None => Ok::<_, PageError>(false),
        })?;
        Ok(read?)
    }

    /// All nodes that pass a filter, whatever their state.
    pub(super) fn matching(&mut self, filter: &Filter) -> Result<NodeSet, S::Error> {
        let mut set = NodeSet::with_nodes(self.entry.nodes);
        let mut words = Vec::new();
        for page_index in 0..self.shape.layout.keys().pages(self.entry.nodes) {
            let first = self.matching_of_page(filter, page_index, &mut words)?;
            for (at, &word) in (0u32..).zip(&words) {
                set.insert_word(first + 64 * at, word);
            }
        }
        Ok(set)
    }

    /// About which share of the nodes passes a filter.
    pub(super) fn share_matching(&mut self, filter: &Filter) -> Result<f64, S::Error> {
        let pages = self.shape.layout.keys().pages(self.entry.nodes);
        let sampled = pages.min(SAMPLED_PAGES);
        let (mut words, mut nodes, mut matching) = (Vec::new(), 0u32, 0u32);
        for sample in 0..sampled {
            let page_index = (u64::from(sample) * u64::from(pages) / u64::from(sampled)) as u32;
            let first = self.matching_of_page(filter, page_index, &mut words)?;
            nodes += (self.entry.nodes - first).min(self.shape.layout.keys().nodes_per_page());
            matching += words.iter().map(|word| word.count_ones()).sum::<u32>();
        }
        Ok(f64::from(matching) / f64::from(nodes.max(1)))
    }

    /// A bit for each node of a key page that the index has, and the first of them.
    fn matching_of_page(&mut self, filter: &Filter, page_index: u32, into: &mut Vec<u64>) -> Result<u32, S::Error> {
        self.store.check_interrupts()?;
        let layout = *self.shape.layout.keys();
        let first = page_index.saturating_mul(layout.nodes_per_page());
        let nodes = self.entry.nodes.saturating_sub(first).min(layout.nodes_per_page());
        let block = self.block(PageClass::Keys, page_index)?;
        let read = self.store.read(block, |page| match written(page, PageClass::Keys, page_index)? {
            Some(page) => filter.matching(&layout, page, nodes, into),
            None => {
                into.clear();
                Ok::<_, PageError>(())
            }
        })?;
        read?;
        Ok(first)
    }
}
