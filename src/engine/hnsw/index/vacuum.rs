//! Vacuum, in three passes over node pages: rows that are dead leave their nodes, and nodes without rows are marked dead;
//! lists that lead to dead nodes are repaired; dead nodes go to the free list.
//!
//! One vacuum runs at a time; insertions and searches go on meanwhile. Between the passes insertions under way are waited
//! for: those that come after the first see which nodes are dead, and make no edge to them; those that come after the second
//! meet none of them. A search that still holds a dead node finds it free, or another row's that its snapshot does not show,
//! and goes on at the others that it has. A vacuum that is interrupted leaves dead nodes that the next one finds.

use super::allocate::meta_and;
use super::heap_tids::ChunkRead;
use super::insert::Inserter;
use super::node_set::NodeSet;
use super::open::{written, Index};
use super::store::PageStore;
use super::write::only;
use crate::hnsw::page::node::{NodeRef, NodeState};
use crate::hnsw::page::node_edit::NodeMut;
use crate::hnsw::page::tids::{TidChunkMut, TidChunkRef};
use crate::hnsw::page::upper::UpperRef;
use crate::hnsw::page::{HeapTid, Meta, PageClass, PageError, META_BLOCK};

/// How often the graph is walked to connect what is not reached.
const CONNECT_ROUNDS: usize = 3;

/// What a vacuum did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VacuumReport {
    pub rows_removed: u64,
    pub rows_left: u64,
    /// Nodes put on the free list.
    pub nodes_freed: u32,
    pub lists_repaired: u32,
    /// Nodes to which nothing led any more.
    pub nodes_reconnected: u32,
}

/// What the first pass finds.
struct Marked {
    dead: NodeSet,
    /// Nodes that were being inserted, with their versions.
    inserting: Vec<(u32, u16)>,
    /// The highest live node.
    best: Option<(u32, u8)>,
}

impl<S: PageStore> Index<S> {
    /// Removes the rows for which `is_dead` says so.
    pub fn vacuum(&mut self, mut is_dead: impl FnMut(HeapTid) -> bool) -> Result<VacuumReport, S::Error> {
        let mut report = VacuumReport::default();
        self.look()?;
        let mut marked = self.mark(&mut is_dead, &mut report)?;
        if marked.dead.is_empty() && marked.inserting.is_empty() {
            return Ok(report);
        }
        self.store.drain_inserts()?;
        self.look()?;
        self.mark_abandoned(&mut marked)?;
        if marked.dead.is_empty() {
            return Ok(report);
        }
        if marked.best.is_none() {
            // No row is left of those that were there; some may have come meanwhile.
            marked.best = self.any_live()?;
        }
        self.store.change(&[META_BLOCK], |pages| {
            let page = only(pages)?;
            let mut meta = Meta::decode(page)?;
            meta.counts.dead_nodes = marked.dead.len();
            meta.vacuum_epoch += 1;
            // An insertion that finds this entry dead makes its own node the entry: then that is the better one.
            if meta.entry.is_some_and(|(entry, _)| marked.dead.contains(entry)) {
                meta.entry = marked.best;
            }
            meta.encode(page)
        })?;
        let dead = marked.dead;
        let mut inserter = Inserter::default();
        self.unlink(&mut inserter, &dead, &mut report)?;
        self.connect(&mut inserter, &dead, &mut report)?;
        self.store.drain_inserts()?;
        self.free(&dead, &mut report)?;
        Ok(report)
    }

    /// Pass 1: removes dead rows, and marks nodes that have lost all.
    fn mark(
        &mut self,
        is_dead: &mut impl FnMut(HeapTid) -> bool,
        report: &mut VacuumReport,
    ) -> Result<Marked, S::Error> {
        let layout = self.shape.layout;
        let nodes = self.entry.nodes;
        let mut marked = Marked { dead: NodeSet::with_nodes(nodes), inserting: Vec::new(), best: None };
        let mut heads = Vec::new();
        for page_index in 0..layout.nodes().pages(nodes) {
            self.heads(page_index, &mut heads)?;
            let mut dying = Vec::new();
            for &(ordinal, head) in &heads {
                match head.state {
                    NodeState::Dead => {
                        marked.dead.insert(ordinal);
                    }
                    NodeState::Inserting => marked.inserting.push((ordinal, head.version)),
                    NodeState::Empty | NodeState::Free => {}
                    NodeState::Live => {
                        let is_alive = match head.overflow {
                            Some(_) => self.prune_chain(ordinal, is_dead, report)?,
                            None => !head.heap_tid.is_some_and(&mut *is_dead),
                        };
                        if !is_alive {
                            dying.push(ordinal);
                        } else {
                            report.rows_left += u64::from(head.overflow.is_none());
                            if marked.best.is_none_or(|(_, level)| head.level > level) {
                                marked.best = Some((ordinal, head.level));
                            }
                        }
                    }
                }
            }
            while !dying.is_empty() {
                let block = self.block(PageClass::Node, page_index)?;
                let survivors = self.store.change(&[block], |pages| {
                    let page = only(pages)?;
                    let mut survivors = Vec::new();
                    for &ordinal in &dying {
                        let mut node = NodeMut::in_page(page, &layout, layout.nodes().address(ordinal))?;
                        if node.read()?.overflow.is_some() {
                            survivors.push(ordinal);
                        } else {
                            node.mark_dead()?;
                        }
                    }
                    Ok(survivors)
                })?;
                for &ordinal in dying.iter().filter(|ordinal| !survivors.contains(ordinal)) {
                    report.rows_removed += 1;
                    marked.dead.insert(ordinal);
                }
                // These have got a further row since they were read.
                dying.clear();
                for ordinal in survivors {
                    if !self.prune_chain(ordinal, is_dead, report)? {
                        dying.push(ordinal);
                    }
                }
            }
        }
        Ok(marked)
    }

    /// Removes dead rows of a live node that has several; false if only one is left, which is dead.
    fn prune_chain(
        &mut self,
        node: u32,
        is_dead: &mut impl FnMut(HeapTid) -> bool,
        report: &mut VacuumReport,
    ) -> Result<bool, S::Error> {
        loop {
            if let Some(is_alive) = self.try_prune_chain(node, is_dead, report)? {
                return Ok(is_alive);
            }
        }
    }

    /// [`Index::prune_chain`]; None if the chain has got another begin meanwhile.
    fn try_prune_chain(
        &mut self,
        node: u32,
        is_dead: &mut impl FnMut(HeapTid) -> bool,
        report: &mut VacuumReport,
    ) -> Result<Option<bool>, S::Error> {
        let layout = self.shape.layout;
        let node_address = layout.nodes().address(node);
        let node_block = self.block(PageClass::Node, node_address.page_index)?;
        let mut kept = 0u64;
        // From the chain's begin: chunks lose their dead; an empty chunk at the begin is given back.
        let mut before: Option<u32> = None;
        let mut links = 0u32;
        loop {
            self.store.check_interrupts()?;
            let Some(row) = self.node(node, None)?.row() else { return Ok(Some(true)) };
            let next = match before {
                None => row.overflow,
                Some(chunk) => self.chunk_of(node, chunk)?.1,
            };
            let Some(chunk) = next else { break };
            links = links.saturating_add(1);
            self.check_chain(links)?;
            let address = layout.tids().address(chunk);
            let block = self.block(PageClass::Tids, address.page_index)?;
            let (tids, _) = self.chunk_of(node, chunk)?;
            let rows = tids.len();
            let dead: Vec<HeapTid> = tids.into_iter().filter(|&tid| is_dead(tid)).collect();
            let left = if dead.is_empty() {
                rows
            } else {
                report.rows_removed += dead.len() as u64;
                self.store.change(&[block], |pages| {
                    let mut record = TidChunkMut::in_page(only(pages)?, address)?;
                    record.retain(|tid| !dead.contains(&tid))?;
                    Ok(record.read()?.len())
                })?
            };
            if left == 0 && before.is_none() {
                self.free_first_chunk(node, chunk)?;
                continue;
            }
            kept += left as u64;
            before = Some(chunk);
        }
        let Some(row) = self.node(node, None)?.row() else { return Ok(Some(true)) };
        if !is_dead(row.heap_tid) {
            report.rows_left += kept + 1;
            return Ok(Some(true));
        }
        let Some(chunk) = row.overflow else { return Ok(Some(false)) };
        // The first row is dead, others are not: one of those takes its place.
        let address = layout.tids().address(chunk);
        let block = self.block(PageClass::Tids, address.page_index)?;
        let blocks = [node_block.min(block), node_block.max(block)];
        let is_removed = self.store.change(&blocks, |pages| {
            let [lower, upper] = pages else { return Err(PageError::Refused("change of too few pages")) };
            let (node_page, page) = if node_block < block { (lower, upper) } else { (upper, lower) };
            let mut record = NodeMut::in_page(node_page, &layout, node_address)?;
            let mut chunk_record = TidChunkMut::in_page(page, address)?;
            let last = chunk_record.read()?.heap_tids().last();
            let (Some(last), true) = (last, record.read()?.overflow == Some(chunk)) else { return Ok(false) };
            chunk_record.retain(|tid| tid != last)?;
            record.set_heap_tid(last)?;
            Ok(true)
        })?;
        if !is_removed {
            return Ok(None);
        }
        report.rows_removed += 1;
        report.rows_left += kept;
        Ok(Some(true))
    }

    /// The heap tids of a chunk of a node's chain, and the next chunk. Only a vacuum takes chunks away, and there is one at a
    /// time: a chunk that is not the node's is damage.
    fn chunk_of(&mut self, node: u32, chunk: u32) -> Result<(Vec<HeapTid>, Option<u32>), S::Error> {
        let mut tids = Vec::new();
        match self.tid_chunk(node, chunk, &mut tids)? {
            ChunkRead::Next(next) => Ok((tids, next)),
            ChunkRead::Gone => Err(PageError::Value { field: "owner of a tid chunk", found: u64::from(chunk) }.into()),
        }
    }

    /// Gives the empty chunk back with which a node's chain begins, unless it has got a row meanwhile.
    fn free_first_chunk(&mut self, node: u32, chunk: u32) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        let (node_address, chunk_address) = (layout.nodes().address(node), layout.tids().address(chunk));
        let node_block = self.block(PageClass::Node, node_address.page_index)?;
        let chunk_block = self.block(PageClass::Tids, chunk_address.page_index)?;
        let blocks = [META_BLOCK, node_block.min(chunk_block), node_block.max(chunk_block)];
        self.store.change(&blocks, |pages| {
            let [meta_page, lower, upper] = pages else { return Err(PageError::Refused("change of too few pages")) };
            let (node_page, page) = if node_block < chunk_block { (lower, upper) } else { (upper, lower) };
            let record = TidChunkRef::in_page(page, chunk_address)?;
            let mut node_record = NodeMut::in_page(node_page, &layout, node_address)?;
            if !record.is_empty() || node_record.read()?.overflow != Some(chunk) {
                return Ok(());
            }
            let next = record.next;
            let mut meta = Meta::decode(meta_page)?;
            let head = meta.push_free_tid_chunk(chunk);
            TidChunkMut::in_page(page, chunk_address)?.free(head);
            node_record.set_overflow(next)?;
            meta.encode(meta_page)
        })
    }

    /// The first live node, and its level.
    pub(super) fn any_live(&mut self) -> Result<Option<(u32, u8)>, S::Error> {
        let mut heads = Vec::new();
        for page_index in 0..self.shape.layout.nodes().pages(self.entry.nodes) {
            self.heads(page_index, &mut heads)?;
            if let Some((node, head)) = heads.iter().find(|(_, head)| head.row().is_some()) {
                return Ok(Some((*node, head.level)));
            }
        }
        Ok(None)
    }

    /// Marks nodes dead whose insertion was given up: nobody inserts them any more.
    fn mark_abandoned(&mut self, marked: &mut Marked) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        for (ordinal, version) in std::mem::take(&mut marked.inserting) {
            let address = layout.nodes().address(ordinal);
            let block = self.block(PageClass::Node, address.page_index)?;
            let is_abandoned = self.store.change(&[block], |pages| {
                let mut node = NodeMut::in_page(only(pages)?, &layout, address)?;
                let head = node.read()?;
                let is_abandoned = head.state == NodeState::Inserting && head.version == version;
                if is_abandoned {
                    node.mark_dead()?;
                }
                Ok(is_abandoned)
            })?;
            if is_abandoned {
                marked.dead.insert(ordinal);
            }
        }
        Ok(())
    }

    /// Pass 2: no live node's list leads to a dead one any more.
    fn unlink(&mut self, inserter: &mut Inserter, dead: &NodeSet, report: &mut VacuumReport) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        let nodes = self.entry.nodes;
        let mut broken = Vec::new();
        for page_index in 0..layout.nodes().pages(nodes) {
            self.store.check_interrupts()?;
            let block = self.block(PageClass::Node, page_index)?;
            broken.clear();
            let read = self.store.read(block, |page| {
                let Some(page) = written(page, PageClass::Node, page_index)? else { return Ok(()) };
                for ordinal in layout.nodes().ordinals(page_index).take_while(|&ordinal| ordinal < nodes) {
                    let node = NodeRef::in_page(page, &layout, layout.nodes().address(ordinal))?;
                    if node.state == NodeState::Live && node.neighbours.iter().any(|other| dead.contains(other)) {
                        broken.push(ordinal);
                    }
                }
                Ok::<_, PageError>(())
            })?;
            read?;
            for &ordinal in &broken {
                report.lists_repaired += u32::from(self.repair(inserter, ordinal, 0, dead)?);
            }
        }
        self.unlink_above(inserter, dead, report)
    }

    fn unlink_above(
        &mut self,
        inserter: &mut Inserter,
        dead: &NodeSet,
        report: &mut VacuumReport,
    ) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        let uppers = self.meta()?.counts.uppers;
        let mut broken = Vec::new();
        for page_index in 0..layout.uppers().pages(uppers) {
            self.store.check_interrupts()?;
            let block = self.block(PageClass::Upper, page_index)?;
            broken.clear();
            let read = self.store.read(block, |page| {
                let Some(page) = written(page, PageClass::Upper, page_index)? else { return Ok(()) };
                for record in layout.uppers().ordinals(page_index).take_while(|&record| record < uppers) {
                    let Some(upper) = UpperRef::in_page(page, &layout, layout.uppers().address(record))? else {
                        continue;
                    };
                    if !dead.contains(upper.owner) && upper.neighbours.iter().any(|other| dead.contains(other)) {
                        broken.push((upper.owner, upper.level));
                    }
                }
                Ok::<_, PageError>(())
            })?;
            read?;
            for &(owner, level) in &broken {
                report.lists_repaired += u32::from(self.repair(inserter, owner, level, dead)?);
            }
        }
        Ok(())
    }

    /// Gives a way to live nodes that none leads to any more.
    pub(super) fn connect(
        &mut self,
        inserter: &mut Inserter,
        dead: &NodeSet,
        report: &mut VacuumReport,
    ) -> Result<(), S::Error> {
        // A list that takes a node gives up another, to which there was a second way: seldom it was the first way of that.
        for _ in 0..CONNECT_ROUNDS {
            if !self.connect_once(inserter, dead, report)? {
                return Ok(());
            }
        }
        report.nodes_reconnected += self.connect_by_tree(inserter, dead)?;
        Ok(())
    }

    /// Walks the graph, and connects what is not reached; false if all was.
    fn connect_once(
        &mut self,
        inserter: &mut Inserter,
        dead: &NodeSet,
        report: &mut VacuumReport,
    ) -> Result<bool, S::Error> {
        let Some(entry) = self.entry_point()? else { return Ok(false) };
        let before = report.nodes_reconnected;
        let mut reached = NodeSet::with_nodes(self.entry.nodes);
        self.reach(entry.node, &mut reached)?;
        let mut heads = Vec::new();
        for page_index in 0..self.shape.layout.nodes().pages(self.entry.nodes) {
            self.heads(page_index, &mut heads)?;
            for &(ordinal, head) in &heads {
                if head.state == NodeState::Live && !reached.contains(ordinal) {
                    self.reconnect(inserter, ordinal, dead)?;
                    self.reach(ordinal, &mut reached)?;
                    report.nodes_reconnected += 1;
                }
            }
        }
        Ok(report.nodes_reconnected > before)
    }

    /// Adds all nodes that edges of level 0 lead to from a node, itself included.
    pub(super) fn reach(&mut self, from: u32, reached: &mut NodeSet) -> Result<(), S::Error> {
        let mut open = Vec::new();
        if reached.insert(from) {
            open.push(from);
        }
        let mut list = Vec::new();
        while let Some(node) = open.pop() {
            self.store.check_interrupts()?;
            self.node(node, Some(&mut list))?;
            open.extend(list.iter().copied().filter(|&other| reached.insert(other)));
        }
        Ok(())
    }

    /// Pass 3: the dead go to the free list.
    fn free(&mut self, dead: &NodeSet, report: &mut VacuumReport) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        for page_index in 0..layout.nodes().pages(self.entry.nodes) {
            self.store.check_interrupts()?;
            let mine: Vec<u32> =
                layout.nodes().ordinals(page_index).filter(|&ordinal| dead.contains(ordinal)).collect();
            if mine.is_empty() {
                continue;
            }
            let block = self.block(PageClass::Node, page_index)?;
            self.store.change(&[META_BLOCK, block], |pages| {
                let (meta_page, page) = meta_and(pages)?;
                let mut meta = Meta::decode(meta_page)?;
                let mut head = meta.counts.free_head;
                for &ordinal in &mine {
                    NodeMut::in_page(page, &layout, layout.nodes().address(ordinal))?.free(head)?;
                    head = Some(ordinal);
                }
                if let Some(head) = head {
                    meta.push_free_nodes(head, mine.len() as u32)?;
                }
                meta.reuse_epoch += 1;
                meta.encode(meta_page)
            })?;
            report.nodes_freed += mine.len() as u32;
        }
        Ok(())
    }
}
