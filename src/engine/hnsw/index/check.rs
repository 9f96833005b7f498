//! The check of an index: every invariant that its pages must keep, and what share of its nodes searches can reach.
//!
//! It reads page by page while others may write, and reports only what no moment of a sound index shows.

use super::node_set::NodeSet;
use super::open::{written, Index};
use super::read::Row;
use super::store::PageStore;
use crate::hnsw::page::node::{NodeRef, NodeState};
use crate::hnsw::page::tids::TidChunkRef;
use crate::hnsw::page::upper::UpperRef;
use crate::hnsw::page::{special, HeapTid, PageClass, PageError, META_BLOCK};

/// Findings that a check reports before it only counts them.
pub const MAX_FINDINGS: usize = 100;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding(pub String);

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckReport {
    pub findings: Vec<Finding>,
    /// Beyond the first [`MAX_FINDINGS`].
    pub further_findings: u64,
    pub live_nodes: u32,
    pub dead_nodes: u32,
    pub free_nodes: u32,
    /// Being inserted, or left so by an insertion that failed.
    pub inserting_nodes: u32,
    /// Heap tids of live nodes.
    pub rows: u64,
    /// Live nodes that edges of level 0 lead to from the entry.
    pub reachable_nodes: u32,
    /// Edges at level 0.
    pub edges: u64,
    /// Nodes by level.
    pub levels: Vec<u32>,
}

impl CheckReport {
    fn find(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding(finding()));
        } else {
            self.further_findings += 1;
        }
    }
}

/// A node as the first pass saw it.
struct Seen {
    ordinal: u32,
    state: NodeState,
    level: u8,
    first_upper: Option<u32>,
    row: Option<Row>,
    neighbours: Vec<u32>,
}

impl<S: PageStore> Index<S> {
    /// Checks the index. An error is one of the storage; what is wrong with the pages is in the report.
    pub fn check(&mut self) -> Result<CheckReport, S::Error> {
        let mut report = CheckReport::default();
        self.look()?;
        let nodes = self.entry.nodes;
        let layout = self.shape.layout;
        let mut linked = NodeSet::with_nodes(nodes);
        let mut lists: Vec<(u32, u8, Vec<u32>)> = Vec::new();
        for page_index in 0..layout.nodes().pages(nodes) {
            for node in self.check_node_page(page_index, &mut report)? {
                if node.state.is_linked() {
                    linked.insert(node.ordinal);
                    self.check_node(&node, &mut report, &mut lists)?;
                    lists.push((node.ordinal, 0, node.neighbours));
                }
            }
        }
        self.check_lists(&lists, &linked, &mut report)?;
        self.check_entry(&mut report)?;
        self.check_free(&mut report)?;
        self.check_codes(nodes, &mut report)?;
        self.check_keys(&linked, &mut report)?;
        self.check_reach(&mut report)?;
        Ok(report)
    }

    /// Every node that searches meet has filter keys, if the index has any: its page was written before it was published.
    fn check_keys(&mut self, linked: &NodeSet, report: &mut CheckReport) -> Result<(), S::Error> {
        let layout = *self.shape.layout.keys();
        for page_index in 0..layout.pages(self.entry.nodes) {
            self.store.check_interrupts()?;
            let first = page_index * layout.nodes_per_page();
            let is_used = (first..first.saturating_add(layout.nodes_per_page())).any(|node| linked.contains(node));
            let block = self.block(PageClass::Keys, page_index)?;
            match self
                .store
                .read(block, |page| written(page, PageClass::Keys, page_index).map(|page| page.is_some()))?
            {
                Ok(true) => {}
                Ok(false) if !is_used => {}
                Ok(false) => report.find(|| format!("block {block}: nodes from {first} have no keys")),
                Err(error) => report.find(|| format!("block {block}: {error}")),
            }
        }
        Ok(())
    }

    /// The nodes of a page, counted by state.
    fn check_node_page(&mut self, page_index: u32, report: &mut CheckReport) -> Result<Vec<Seen>, S::Error> {
        self.store.check_interrupts()?;
        let layout = self.shape.layout;
        let block = self.block(PageClass::Node, page_index)?;
        let nodes = self.entry.nodes;
        let mut seen = Vec::new();
        self.store.read(block, |page| {
            let page = match written(page, PageClass::Node, page_index) {
                Ok(Some(page)) => page,
                Ok(None) => return,
                Err(error) => return report.find(|| format!("block {block}: {error}")),
            };
            for ordinal in layout.nodes().ordinals(page_index).take_while(|&ordinal| ordinal < nodes) {
                match NodeRef::in_page(page, &layout, layout.nodes().address(ordinal)) {
                    Ok(node) => seen.push(Seen {
                        ordinal,
                        state: node.state,
                        level: node.level,
                        first_upper: node.first_upper,
                        row: node.heap_tid.map(|heap_tid| Row {
                            heap_tid,
                            overflow: node.overflow,
                            version: node.version,
                        }),
                        neighbours: node.neighbours.iter().collect(),
                    }),
                    Err(error) => report.find(|| format!("node {ordinal}: {error}")),
                }
            }
        })?;
        for node in &seen {
            match node.state {
                NodeState::Empty => {}
                NodeState::Inserting => report.inserting_nodes += 1,
                NodeState::Live => report.live_nodes += 1,
                NodeState::Dead => report.dead_nodes += 1,
                NodeState::Free => report.free_nodes += 1,
            }
            if node.state.is_linked() {
                let level = usize::from(node.level);
                if report.levels.len() <= level {
                    report.levels.resize(level + 1, 0);
                }
                report.levels[level] += 1;
            }
        }
        Ok(seen)
    }

    /// A linked node's rows and upper lists.
    fn check_node(
        &mut self,
        node: &Seen,
        report: &mut CheckReport,
        lists: &mut Vec<(u32, u8, Vec<u32>)>,
    ) -> Result<(), S::Error> {
        report.edges += node.neighbours.len() as u64;
        if let Some(row) = node.row {
            self.check_rows(node.ordinal, row, report)?;
        }
        for level in 1..=node.level {
            let record = match NodeRef::upper_of(node.first_upper, node.level, level) {
                Ok(record) => record,
                Err(error) => {
                    report.find(|| format!("node {}: {error}", node.ordinal));
                    continue;
                }
            };
            let layout = self.shape.layout;
            let address = layout.uppers().address(record);
            let block = self.block(PageClass::Upper, address.page_index)?;
            let list = self.store.read(block, |page| {
                let Some(page) = written(page, PageClass::Upper, address.page_index)? else { return Ok(None) };
                let Some(upper) = UpperRef::in_page(page, &layout, address)? else { return Ok(None) };
                upper.check_owner(node.ordinal, level)?;
                Ok::<_, PageError>(Some(upper.neighbours.iter().collect::<Vec<u32>>()))
            })?;
            match list {
                Ok(Some(list)) => lists.push((node.ordinal, level, list)),
                // A dead node may be one whose insertion was given up before it had lists.
                Ok(None) if node.state == NodeState::Dead => {}
                Ok(None) => report.find(|| format!("node {}: list of level {level} was never written", node.ordinal)),
                Err(error) => report.find(|| format!("node {}, level {level}: {error}", node.ordinal)),
            }
        }
        Ok(())
    }

    /// The heap tids of a live node.
    fn check_rows(&mut self, node: u32, row: Row, report: &mut CheckReport) -> Result<(), S::Error> {
        let mut tids: Vec<HeapTid> = vec![row.heap_tid];
        let mut next = row.overflow;
        let chunks = self.meta()?.counts.tid_chunks;
        let mut links = 0;
        while let Some(chunk) = next {
            if chunk >= chunks || links > chunks {
                report.find(|| format!("node {node}: chain of heap tids leads to chunk {chunk} of {chunks}"));
                break;
            }
            links += 1;
            let address = self.shape.layout.tids().address(chunk);
            let block = self.block(PageClass::Tids, address.page_index)?;
            let read = self.store.read(block, |page| {
                let Some(page) = written(page, PageClass::Tids, address.page_index)? else {
                    return Err(PageError::New);
                };
                let record = TidChunkRef::in_page(page, address)?;
                tids.extend(record.heap_tids());
                Ok((record.owner, record.next))
            })?;
            match read {
                Ok((Some(owner), following)) if owner == node => next = following,
                Ok((owner, _)) => {
                    // The node may have lost its rows since it was read.
                    if self.node(node, None)?.row() == Some(row) {
                        report.find(|| format!("node {node}: its chunk {chunk} belongs to {owner:?}"));
                    }
                    break;
                }
                Err(error) => {
                    report.find(|| format!("node {node}, chunk {chunk} of heap tids: {error}"));
                    break;
                }
            }
        }
        report.rows += tids.len() as u64;
        tids.sort_unstable();
        if let Some(twice) = tids.windows(2).find(|pair| pair[0] == pair[1]) {
            report.find(|| format!("node {node}: heap tid ({},{}) twice", twice[0].block(), twice[0].offset()));
        }
        Ok(())
    }

    /// Lists name other nodes, each once, that are linked and have the level. A dead node's list, to which nothing leads any
    /// more while vacuum frees the dead page by page, may name nodes that are free already.
    fn check_lists(
        &mut self,
        lists: &[(u32, u8, Vec<u32>)],
        linked: &NodeSet,
        report: &mut CheckReport,
    ) -> Result<(), S::Error> {
        for (owner, level, list) in lists {
            self.store.check_interrupts()?;
            let mut sorted = list.clone();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                report.find(|| format!("node {owner}: a neighbour twice at level {level}"));
            }
            for &neighbour in list {
                if neighbour == *owner {
                    report.find(|| format!("node {owner}: its own neighbour at level {level}"));
                } else if neighbour >= self.entry.nodes {
                    report.find(|| format!("node {owner}: neighbour {neighbour} at level {level} does not exist"));
                } else if !linked.contains(neighbour) || *level > 0 {
                    // It may have been linked since the pass over it, or unlinked since the list was read.
                    let head = self.node(neighbour, None)?;
                    let is_wrong = !head.state.is_linked() || head.level < *level;
                    if is_wrong && self.still_lists(*owner, *level, neighbour)? {
                        report.find(|| {
                            format!("node {owner}: neighbour {neighbour} at level {level} is {:?}", head.state)
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn still_lists(&mut self, owner: u32, level: u8, neighbour: u32) -> Result<bool, S::Error> {
        let mut list = Vec::new();
        let head = self.list(owner, level, &mut list)?;
        Ok(head.state == NodeState::Live && list.contains(&neighbour))
    }

    /// The entry is a linked node of its level.
    fn check_entry(&mut self, report: &mut CheckReport) -> Result<(), S::Error> {
        match self.look()?.node {
            Some((node, level)) => {
                let head = self.node(node, None)?;
                if !head.state.is_linked() || head.level != level {
                    report.find(|| {
                        format!("entry node {node} of level {level} is {:?}, level {}", head.state, head.level)
                    });
                }
            }
            None if report.live_nodes > 0 => {
                report.find(|| "no entry node, but live nodes".to_owned());
            }
            None => {}
        }
        Ok(())
    }

    /// The free list is a chain of as many free nodes as are counted.
    fn check_free(&mut self, report: &mut CheckReport) -> Result<(), S::Error> {
        let meta = self.meta()?;
        let mut next = meta.counts.free_head;
        let mut count = 0u32;
        while let Some(node) = next {
            self.store.check_interrupts()?;
            if count >= meta.counts.free_nodes {
                break;
            }
            let head = self.node(node, None)?;
            if head.state != NodeState::Free {
                // Taken since the metapage was read?
                if self.meta()?.counts.free_head == meta.counts.free_head {
                    report.find(|| format!("node {node} on the free list is {:?}", head.state));
                }
                return Ok(());
            }
            count += 1;
            next = head.next_free;
        }
        if (next.is_some() || count != meta.counts.free_nodes) && self.meta()?.counts.free_head == meta.counts.free_head
        {
            report.find(|| format!("free list has other than {} nodes", meta.counts.free_nodes));
        }
        Ok(())
    }

    /// Pages of codes are that, or were never written.
    fn check_codes(&mut self, nodes: u32, report: &mut CheckReport) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        let pages = if layout.codes_are_variable() {
            layout.codes().pages(self.meta()?.counts.code_chunks)
        } else {
            layout.codes().pages(nodes)
        };
        for page_index in 0..u32::try_from(pages).unwrap_or(u32::MAX) {
            self.store.check_interrupts()?;
            let block = self.block(PageClass::Code, page_index)?;
            let checked = self.store.read(block, |page| written(page, PageClass::Code, page_index).map(drop))?;
            if let Err(error) = checked {
                report.find(|| format!("block {block}: {error}"));
            }
        }
        let checked = self.store.read(META_BLOCK, |page| special::read(page).map(drop))?;
        if let Err(error) = checked {
            report.find(|| format!("metapage: {error}"));
        }
        Ok(())
    }

    /// How many live nodes searches can reach.
    fn check_reach(&mut self, report: &mut CheckReport) -> Result<(), S::Error> {
        let Some((entry, _)) = self.look()?.node else { return Ok(()) };
        let mut reached = NodeSet::with_nodes(self.entry.nodes);
        self.reach(entry, &mut reached)?;
        for node in (0..self.entry.nodes).filter(|&node| reached.contains(node)) {
            self.store.check_interrupts()?;
            report.reachable_nodes += u32::from(self.node(node, None)?.state == NodeState::Live);
        }
        Ok(())
    }
}
