//! The metapage as a value: what the index is, its counts, and where its pages are.
//!
//! A relation's cache keeps the parts that never change ([`Identity`], [`Layout`]); a search reads [`Entry`] per scan,
//! which is a handful of loads; an insert decodes the page, changes the counts and encodes it again. The bytes are in
//! `meta_codec.rs`.

use super::calibration::Calibration;
use super::error::{LayoutError, PageError};
use super::extents::ClassExtents;
use super::filter_columns::{self, FilterColumn};
use super::layout::{CodeLength, Layout};
use super::terms::{CodeKind, ElementType, Metric, PageClass, CLASS_SLOTS};
use super::MAX_LEVEL;

/// What is decided when the index is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub element: ElementType,
    pub metric: Metric,
    pub code_kind: CodeKind,
    pub code_length: CodeLength,
    /// Of the codes' random rotation.
    pub code_seed: u64,
    pub dimensions: u32,
    pub m: u16,
    pub ef_construction: u16,
    pub filter_columns: Vec<FilterColumn>,
}

/// The range of ef_construction, as pgvector's.
pub const MIN_EF_CONSTRUCTION: u16 = 4;
pub const MAX_EF_CONSTRUCTION: u16 = 1000;

impl Identity {
    /// The layout of such an index. Checks all that a user may have chosen.
    pub fn layout(&self) -> Result<Layout, PageError> {
        let limit = self.element.max_dimensions();
        if self.dimensions == 0 || self.dimensions > limit {
            return Err(LayoutError::Dimensions { found: self.dimensions, limit }.into());
        }
        if !(MIN_EF_CONSTRUCTION..=MAX_EF_CONSTRUCTION).contains(&self.ef_construction) {
            return Err(PageError::Value { field: "ef_construction", found: u64::from(self.ef_construction) });
        }
        filter_columns::check(&self.filter_columns)?;
        let key_bytes: Vec<u8> = self.filter_columns.iter().map(|column| column.key_bytes).collect();
        Ok(Layout::new(self.dimensions, self.code_length, self.m, &key_bytes)?)
    }
}

/// How many there are of what, and where free ones are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Ordinals handed out: every ordinal is below.
    pub nodes: u32,
    /// As the last vacuum found; those that a crash of it left behind, the next one counts again.
    pub dead_nodes: u32,
    pub free_nodes: u32,
    /// Head of the list of free nodes.
    pub free_head: Option<u32>,
    /// Upper records handed out.
    pub uppers: u32,
    /// Tid chunks handed out.
    pub tid_chunks: u32,
    /// Head of the list of free tid chunks.
    pub free_tid_chunk: Option<u32>,
    /// Chunks of codes handed out, with codes of variable length.
    pub code_chunks: u32,
}

/// What a search wants of the metapage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where to begin: node and its level; None in an empty index.
    pub node: Option<(u32, u8)>,
    /// Ordinals handed out.
    pub nodes: u32,
    /// Those of them that are rows: neither dead nor free.
    pub live_nodes: u32,
    /// The seed of the codes, which no two indexes share: it tells whether what a cache holds is this index.
    pub code_seed: u64,
    pub vacuum_epoch: u64,
    pub reuse_epoch: u64,
}

/// The metapage.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    pub identity: Identity,
    pub counts: Counts,
    /// Where a search begins: node and its level.
    pub entry: Option<(u32, u8)>,
    /// Blocks below are taken.
    pub next_block: u32,
    /// Vacuums that have marked their dead.
    pub vacuum_epoch: u64,
    /// Vacuums that have put nodes on the free list.
    pub reuse_epoch: u64,
    pub calibration: Calibration,
    pub(super) classes: [ClassExtents; CLASS_SLOTS],
}

impl Meta {
    /// The metapage of an empty index.
    pub fn empty(identity: Identity) -> Result<Self, PageError> {
        identity.layout()?;
        Ok(Meta {
            identity,
            counts: Counts::default(),
            entry: None,
            next_block: super::META_BLOCK + 1,
            vacuum_epoch: 0,
            reuse_epoch: 0,
            calibration: Calibration::default(),
            classes: Default::default(),
        })
    }

    pub fn class(&self, class: PageClass) -> &ClassExtents {
        &self.classes[class.slot()]
    }

    pub(super) fn class_mut(&mut self, class: PageClass) -> &mut ClassExtents {
        &mut self.classes[class.slot()]
    }

    /// Nodes that are neither dead nor free; counts those being inserted.
    pub fn live_nodes(&self) -> u32 {
        self.counts.nodes.saturating_sub(self.counts.dead_nodes).saturating_sub(self.counts.free_nodes)
    }

    /// Pages of the class that records handed out so far may lie on.
    pub fn pages_in_use(&self, layout: &Layout, class: PageClass) -> u64 {
        match class {
            PageClass::Code => match layout.code_length() {
                CodeLength::Fixed(_) => layout.codes().pages(self.counts.nodes),
                CodeLength::Variable { .. } => layout.codes().pages(self.counts.code_chunks),
            },
            PageClass::Node => u64::from(layout.nodes().pages(self.counts.nodes)),
            PageClass::Upper => u64::from(layout.uppers().pages(self.counts.uppers)),
            PageClass::Tids => u64::from(layout.tids().pages(self.counts.tid_chunks)),
            PageClass::Keys => u64::from(layout.keys().pages(self.counts.nodes)),
        }
    }

    /// Checks what must hold between the parts.
    pub(super) fn check(&self) -> Result<(), PageError> {
        let wrong = |field, found: u32| Err(PageError::Value { field, found: u64::from(found) });
        let Counts { nodes, dead_nodes, free_nodes, free_head, tid_chunks, free_tid_chunk, .. } = self.counts;
        if u64::from(dead_nodes) + u64::from(free_nodes) > u64::from(nodes) {
            return wrong("count of dead and free nodes", dead_nodes);
        }
        if free_head.is_some() != (free_nodes > 0) || free_head.is_some_and(|head| head >= nodes) {
            return wrong("head of the free list", free_head.unwrap_or(super::NONE));
        }
        if free_tid_chunk.is_some_and(|head| head >= tid_chunks) {
            return wrong("head of the free tid chunks", free_tid_chunk.unwrap_or(super::NONE));
        }
        if let Some((node, level)) = self.entry {
            if node >= nodes || level > MAX_LEVEL {
                return wrong("entry node", node);
            }
        }
        if self.next_block == super::META_BLOCK {
            return wrong("next block", self.next_block);
        }
        for (slot, class) in self.classes.iter().enumerate() {
            if slot >= PageClass::ALL.len() && *class != ClassExtents::default() {
                return wrong("unknown class", class.base_block);
            }
            class.check(self.next_block)?;
        }
        // Every block that is taken belongs to somebody: a wrong end would have the next insertion extend the fork up to it.
        let blocks_of = |class: &ClassExtents| u64::from(class.pages()) + u64::from(class.directory_pages());
        let taken = u64::from(super::META_BLOCK) + 1 + self.classes.iter().map(blocks_of).sum::<u64>();
        if taken != u64::from(self.next_block) {
            return wrong("next block", self.next_block);
        }
        let layout = self.identity.layout()?;
        for &class in PageClass::ALL {
            if self.pages_in_use(&layout, class) > u64::from(self.class(class).pages()) {
                return wrong("pages of a class", self.class(class).pages());
            }
        }
        Ok(())
    }
}
