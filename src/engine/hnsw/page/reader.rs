//! Reads an index from pages in memory: the plain way from an ordinal to each of its records.
//!
//! The PostgreSQL layer goes the same way with buffers; this one serves tests and states what reading means. An index
//! may lie about every number: each method gives a value or an error, and no chain is followed for longer than it can be.

use super::error::PageError;
use super::extents::ExtentMap;
use super::ids::Ids;
use super::layout::{CodeLength, Layout};
use super::meta::Meta;
use super::node::NodeRef;
use super::span::Pieces;
use super::special;
use super::store::MemoryPages;
use super::terms::PageClass;
use super::tids::{HeapTid, TidChunkRef};
use super::upper::UpperRef;
use super::{Page, META_BLOCK};

/// An index, opened.
#[derive(Debug)]
pub struct IndexReader<'p> {
    pages: &'p MemoryPages,
    meta: Meta,
    layout: Layout,
    maps: [ExtentMap; PageClass::ALL.len()],
}

impl<'p> IndexReader<'p> {
    /// Reads the metapage and the directories.
    pub fn open(pages: &'p MemoryPages) -> Result<Self, PageError> {
        let meta = Meta::decode(pages.page(META_BLOCK)?)?;
        let layout = meta.identity.layout()?;
        let mut maps: [ExtentMap; PageClass::ALL.len()] = Default::default();
        for (map, &class) in maps.iter_mut().zip(PageClass::ALL) {
            let extents = meta.class(class);
            *map = ExtentMap::new(extents);
            let mut next = extents.directory_head;
            while let (false, Some(block)) = (map.is_complete(), next) {
                next = map.take_directory(class, pages.page(block)?, meta.next_block)?;
            }
        }
        Ok(IndexReader { pages, meta, layout, maps })
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A page of a class, checked to be that.
    pub fn page(&self, class: PageClass, page_index: u32) -> Result<&'p Page, PageError> {
        let page = self.pages.page(self.maps[class.slot()].block(page_index)?)?;
        special::check(page, class.kind(), page_index)?;
        Ok(page)
    }

    pub fn node(&self, ordinal: u32) -> Result<NodeRef<'p>, PageError> {
        self.check_ordinal(ordinal)?;
        let address = self.layout.nodes().address(ordinal);
        NodeRef::in_page(self.page(PageClass::Node, address.page_index)?, &self.layout, address)
    }

    /// The neighbours of a node at one of its levels.
    pub fn neighbours(&self, ordinal: u32, level: u8) -> Result<Ids<'p>, PageError> {
        let node = self.node(ordinal)?;
        if level == 0 {
            return Ok(node.neighbours);
        }
        let record = node.upper(level)?;
        let count = self.meta.counts.uppers;
        if record >= count {
            return Err(PageError::Beyond { what: "upper list", index: record, count });
        }
        let address = self.layout.uppers().address(record);
        let page = self.page(PageClass::Upper, address.page_index)?;
        match UpperRef::in_page(page, &self.layout, address)? {
            Some(upper) => upper.check_owner(ordinal, level).map(|()| upper.neighbours),
            None => Ok(Ids::EMPTY),
        }
    }

    /// Puts the code of a node into `into`, instead of what was there.
    pub fn code(&self, ordinal: u32, into: &mut Vec<u8>) -> Result<(), PageError> {
        into.clear();
        let pieces: Pieces = match self.layout.code_length() {
            CodeLength::Fixed(_) => {
                self.check_ordinal(ordinal)?;
                self.layout.code_pieces(ordinal)
            }
            CodeLength::Variable { .. } => match self.node(ordinal)?.code {
                Some(place) => self.layout.chunk_pieces(place.first_chunk, place.code_bytes),
                None => return Ok(()),
            },
        };
        for piece in pieces {
            let page = self.page(PageClass::Code, piece.page_index)?;
            let bytes = page.get(piece.offset..piece.offset + piece.length_bytes);
            into.extend_from_slice(bytes.ok_or(PageError::Refused("code exceeds its page"))?);
        }
        Ok(())
    }

    /// Puts all heap tids of a node into `into`, instead of what was there.
    pub fn heap_tids(&self, ordinal: u32, into: &mut Vec<HeapTid>) -> Result<(), PageError> {
        into.clear();
        let node = self.node(ordinal)?;
        into.extend(node.heap_tid);
        let count = self.meta.counts.tid_chunks;
        let mut links = 0;
        let mut next = node.overflow;
        while let Some(chunk) = next {
            if chunk >= count {
                return Err(PageError::Beyond { what: "tid chunk", index: chunk, count });
            }
            if links == count {
                return Err(PageError::Cycle("heap tids"));
            }
            links += 1;
            let address = self.layout.tids().address(chunk);
            let chunk = TidChunkRef::in_page(self.page(PageClass::Tids, address.page_index)?, address)?;
            if chunk.owner != Some(ordinal) {
                return Err(PageError::Value { field: "owner of a tid chunk", found: chunk.owner.unwrap_or(0).into() });
            }
            into.extend(chunk.heap_tids());
            next = chunk.next;
        }
        Ok(())
    }

    /// The filter key of a node, None for NULL.
    pub fn key(&self, ordinal: u32, column: usize) -> Result<Option<&'p [u8]>, PageError> {
        self.check_ordinal(ordinal)?;
        let keys = self.layout.keys();
        let (page_index, slot) = keys.address(ordinal);
        keys.get(self.page(PageClass::Keys, page_index)?, column, slot)
    }

    /// The ordinals of the free list, in its order.
    pub fn free_nodes(&self) -> Result<Vec<u32>, PageError> {
        let mut free = Vec::new();
        let mut next = self.meta.counts.free_head;
        while let Some(ordinal) = next {
            if free.len() as u32 >= self.meta.counts.free_nodes {
                return Err(PageError::Cycle("free nodes"));
            }
            let node = self.node(ordinal)?;
            if node.state != super::node::NodeState::Free {
                return Err(PageError::Value { field: "state of a free node", found: node.state as u64 });
            }
            free.push(ordinal);
            next = node.next_free;
        }
        Ok(free)
    }

    fn check_ordinal(&self, ordinal: u32) -> Result<(), PageError> {
        let count = self.meta.counts.nodes;
        if ordinal < count {
            Ok(())
        } else {
            Err(PageError::Beyond { what: "node", index: ordinal, count })
        }
    }
}
