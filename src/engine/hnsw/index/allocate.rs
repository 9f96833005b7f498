//! Handing out nodes and chunks of heap tids: changes of the metapage together with the record that is handed out.

use super::open::{prepare, Index};
use super::store::PageStore;
use crate::hnsw::level::level_of;
use crate::hnsw::page::allocate::Listing;
use crate::hnsw::page::node_edit::NodeMut;
use crate::hnsw::page::tids::{TidChunkMut, TidChunkRef};
use crate::hnsw::page::{HeapTid, Meta, Page, PageClass, PageError, META_BLOCK};

/// A node that was handed out: its record says that it is being inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allocated {
    pub(super) ordinal: u32,
    pub(super) level: u8,
    pub(super) first_upper: Option<u32>,
    /// The first chunk of its code, with codes of variable length.
    pub(super) first_chunk: u32,
}

/// What two pages of a change are, when one of them is the metapage, block 0.
pub(super) fn meta_and<'q>(pages: &'q mut [&mut Page]) -> Result<(&'q mut Page, &'q mut Page), PageError> {
    match pages {
        [meta, page, ..] => Ok((meta, page)),
        _ => Err(PageError::Refused("change of too few pages")),
    }
}

impl<S: PageStore> Index<S> {
    /// Hands out a node for a code of so many bytes: a free one, or the next.
    pub(super) fn allocate_node(&mut self, code_bytes: u32) -> Result<Allocated, S::Error> {
        loop {
            self.store.check_interrupts()?;
            let meta = self.meta()?;
            let allocated = match meta.counts.free_head {
                // With codes of variable length a free slot has room for some other code only; its chunks stay unused.
                Some(free) => self.claim_node(free, code_bytes)?,
                None => self.append_node(meta, code_bytes)?,
            };
            if let Some(allocated) = allocated {
                self.entry.nodes = self.entry.nodes.max(allocated.ordinal + 1);
                return Ok(allocated);
            }
        }
    }

    /// Takes a node off the free list; None if it is not its head any more.
    fn claim_node(&mut self, free: u32, code_bytes: u32) -> Result<Option<Allocated>, S::Error> {
        let layout = self.shape.layout;
        if layout.codes_are_variable() && !self.grow(|meta| meta.append_code(code_bytes).map(drop))? {
            return Ok(None);
        }
        let address = layout.nodes().address(free);
        let block = self.block(PageClass::Node, address.page_index)?;
        self.store.change(&[META_BLOCK, block], |pages| {
            let (meta_page, page) = meta_and(pages)?;
            let mut meta = Meta::decode(meta_page)?;
            if meta.counts.free_head != Some(free) {
                return Ok(None);
            }
            let first_chunk = match layout.codes_are_variable() {
                true => meta.append_code(code_bytes)?,
                false => 0,
            };
            if meta.lacking_class(&layout).is_some() {
                // The room was taken meanwhile.
                return Ok(None);
            }
            let mut node = NodeMut::in_page(page, &layout, address)?;
            let next_free = node.claim()?;
            meta.pop_free_node(next_free)?;
            let head = node.read()?;
            let allocated = Allocated { ordinal: free, level: head.level, first_upper: head.first_upper, first_chunk };
            meta.encode(meta_page)?;
            Ok(Some(allocated))
        })
    }

    /// Takes the next ordinal; None if another insertion was quicker.
    fn append_node(&mut self, meta: Meta, code_bytes: u32) -> Result<Option<Allocated>, S::Error> {
        let layout = self.shape.layout;
        let ordinal = meta.counts.nodes;
        // The level follows from the ordinal, so that it is known before.
        let level = level_of(self.shape.identity.code_seed, u64::from(ordinal), layout.m());
        let take = |meta: &mut Meta| {
            let node = meta.append_node(level)?;
            let first_chunk = match layout.codes_are_variable() {
                true => meta.append_code(code_bytes)?,
                false => 0,
            };
            Ok::<_, PageError>(Allocated { ordinal: node.ordinal, level, first_upper: node.first_upper, first_chunk })
        };
        if !self.grow(|meta| take(meta).map(drop))? {
            return Ok(None);
        }
        let address = layout.nodes().address(ordinal);
        let block = self.block(PageClass::Node, address.page_index)?;
        self.store.change(&[META_BLOCK, block], |pages| {
            let (meta_page, page) = meta_and(pages)?;
            let mut meta = Meta::decode(meta_page)?;
            if meta.counts.nodes != ordinal {
                return Ok(None);
            }
            let allocated = take(&mut meta)?;
            if meta.lacking_class(&layout).is_some() {
                return Ok(None);
            }
            prepare(page, PageClass::Node, address.page_index)?;
            NodeMut::in_page(page, &layout, address)?.begin(level, allocated.first_upper)?;
            meta.encode(meta_page)?;
            Ok(Some(allocated))
        })
    }

    /// Assigns extents until there is room for what `take` would hand out. False if the metapage was changed by another
    /// meanwhile, and the caller has to look again.
    pub(super) fn grow(&mut self, take: impl Fn(&mut Meta) -> Result<(), PageError>) -> Result<bool, S::Error> {
        let layout = self.shape.layout;
        loop {
            let mut wanted = self.meta()?;
            take(&mut wanted)?;
            let Some(class) = wanted.lacking_class(&layout) else { return Ok(true) };
            let plan = self.meta()?.plan_extent(class)?;
            self.store.extend_to(plan.fork_blocks())?;
            let mut blocks = vec![META_BLOCK];
            match plan.listing {
                Listing::Inline => {}
                Listing::Directory { block } | Listing::NewDirectory { block, previous: None, .. } => {
                    blocks.push(block)
                }
                Listing::NewDirectory { block, previous: Some(previous), .. } => {
                    blocks.extend([previous.min(block), previous.max(block)]);
                }
            }
            let at = |wanted: u32| blocks.iter().position(|&block| block == wanted);
            let assigned = self.store.change(&blocks, |pages| {
                let (Some(meta_page), rest) =
                    pages.split_first_mut().map_or((None, &mut [][..]), |(a, b)| (Some(a), b))
                else {
                    return Err(PageError::Refused("change of too few pages"));
                };
                let mut meta = Meta::decode(meta_page)?;
                if !meta.assign_extent(&plan)? {
                    return Ok(false);
                }
                match plan.listing {
                    Listing::Inline => {}
                    Listing::Directory { block } | Listing::NewDirectory { block, .. } => {
                        let index = at(block).and_then(|index| index.checked_sub(1));
                        let page = index.and_then(|index| rest.get_mut(index));
                        plan.list(page.ok_or(PageError::Refused("directory page is missing"))?)?;
                    }
                }
                if let Listing::NewDirectory { previous: Some(previous), .. } = plan.listing {
                    let index = at(previous).and_then(|index| index.checked_sub(1));
                    let page = index.and_then(|index| rest.get_mut(index));
                    plan.link(page.ok_or(PageError::Refused("directory page is missing"))?)?;
                }
                meta.encode(meta_page)?;
                Ok(true)
            })?;
            if !assigned {
                return Ok(false);
            }
        }
    }

    /// Adds a chunk with a heap tid before the chain of a live node, which begins with `first` now. False if the node or the
    /// chain have changed.
    pub(super) fn add_tid_chunk(&mut self, node: u32, first: Option<u32>, heap_tid: HeapTid) -> Result<bool, S::Error> {
        let layout = self.shape.layout;
        let meta = self.meta()?;
        let free = meta.counts.free_tid_chunk;
        if free.is_none() && !self.grow(|meta| meta.append_tid_chunk().map(drop))? {
            return Ok(false);
        }
        let chunk = free.unwrap_or(meta.counts.tid_chunks);
        let (node_address, chunk_address) = (layout.nodes().address(node), layout.tids().address(chunk));
        let node_block = self.block(PageClass::Node, node_address.page_index)?;
        let chunk_block = self.block(PageClass::Tids, chunk_address.page_index)?;
        let blocks = [META_BLOCK, node_block.min(chunk_block), node_block.max(chunk_block)];
        self.store.change(&blocks, |pages| {
            let [meta_page, lower, upper] = pages else { return Err(PageError::Refused("change of too few pages")) };
            let (node_page, chunk_page) = if node_block < chunk_block { (lower, upper) } else { (upper, lower) };
            let mut meta = Meta::decode(meta_page)?;
            let is_ours = match free {
                Some(free) => meta.counts.free_tid_chunk == Some(free),
                None => meta.counts.free_tid_chunk.is_none() && meta.counts.tid_chunks == chunk,
            };
            let mut node_record = NodeMut::in_page(node_page, &layout, node_address)?;
            let head = node_record.read()?;
            if !is_ours || head.heap_tid.is_none() || head.overflow != first {
                return Ok(false);
            }
            prepare(chunk_page, PageClass::Tids, chunk_address.page_index)?;
            if free.is_some() {
                let next_free = TidChunkRef::in_page(chunk_page, chunk_address)?.next;
                meta.pop_free_tid_chunk(next_free);
            } else {
                meta.append_tid_chunk()?;
                if meta.lacking_class(&layout).is_some() {
                    return Ok(false);
                }
            }
            let mut record = TidChunkMut::in_page(chunk_page, chunk_address)?;
            record.begin(node, first);
            record.push(heap_tid)?;
            node_record.set_overflow(Some(chunk))?;
            meta.encode(meta_page)?;
            Ok(true)
        })
    }
}
