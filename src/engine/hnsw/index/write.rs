//! Writing a node that was handed out: its code, its lists, and its publication.

use super::allocate::{meta_and, Allocated};
use super::open::{prepare, Index};
use super::store::{PageStore, MAX_CHANGED_PAGES};
use crate::hnsw::page::node::{CodePlace, NodeRef};
use crate::hnsw::page::node_edit::NodeMut;
use crate::hnsw::page::upper::UpperMut;
use crate::hnsw::page::{CodeLength, HeapTid, Layout, Meta, Page, PageClass, PageError, Piece, META_BLOCK};

/// The only page of a change of one page.
pub(super) fn only<'q>(pages: &'q mut [&mut Page]) -> Result<&'q mut Page, PageError> {
    pages.first_mut().map(|page| &mut **page).ok_or(PageError::Refused("change of no page"))
}

impl<S: PageStore> Index<S> {
    /// Writes the code of a node, which nothing leads to yet.
    pub(super) fn write_code(&mut self, node: &Allocated, code: &[u8]) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        let pieces: Vec<Piece> = match layout.code_length() {
            CodeLength::Fixed(_) => layout.code_pieces(node.ordinal).collect(),
            CodeLength::Variable { .. } => layout.chunk_pieces(node.first_chunk, code.len() as u32).collect(),
        };
        let mut rest = code;
        for group in pieces.chunks(MAX_CHANGED_PAGES) {
            let mut places = Vec::with_capacity(group.len());
            for piece in group {
                let (bytes, behind) = rest.split_at(piece.length_bytes.min(rest.len()));
                places.push((self.block(PageClass::Code, piece.page_index)?, *piece, bytes));
                rest = behind;
            }
            // Extents of a class need not ascend.
            places.sort_unstable_by_key(|(block, ..)| *block);
            let blocks: Vec<u32> = places.iter().map(|(block, ..)| *block).collect();
            self.store.change(&blocks, |pages| {
                for (page, (_, piece, bytes)) in pages.iter_mut().zip(&places) {
                    prepare(page, PageClass::Code, piece.page_index)?;
                    let room = page.get_mut(piece.offset..piece.offset + bytes.len());
                    room.ok_or(PageError::Refused("code exceeds its page"))?.copy_from_slice(bytes);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes the lists of a node, by level, and makes it visible to searches with its row.
    pub(super) fn publish(
        &mut self,
        node: &Allocated,
        lists: &[Vec<u32>],
        code_bytes: u32,
        heap_tid: HeapTid,
    ) -> Result<(), S::Error> {
        for level in 1..=node.level {
            self.write_upper(node, level, lists.get(usize::from(level)).map_or(&[][..], Vec::as_slice))?;
        }
        let layout = self.shape.layout;
        let address = layout.nodes().address(node.ordinal);
        let block = self.block(PageClass::Node, address.page_index)?;
        let list = lists.first().map_or(&[][..], Vec::as_slice);
        self.store.change(&[block], |pages| put_node(only(pages)?, &layout, node, list, code_bytes, heap_tid))
    }

    /// Makes a node visible as the first of the index, and its entry. False if the index has an entry: nothing was done.
    pub(super) fn publish_first(
        &mut self,
        node: &Allocated,
        code_bytes: u32,
        heap_tid: HeapTid,
    ) -> Result<bool, S::Error> {
        for level in 1..=node.level {
            self.write_upper(node, level, &[])?;
        }
        let layout = self.shape.layout;
        let address = layout.nodes().address(node.ordinal);
        let block = self.block(PageClass::Node, address.page_index)?;
        self.store.change(&[META_BLOCK, block], |pages| {
            let (meta_page, page) = meta_and(pages)?;
            let mut meta = Meta::decode(meta_page)?;
            if meta.entry.is_some() {
                return Ok(false);
            }
            meta.entry = Some((node.ordinal, node.level));
            put_node(page, &layout, node, &[], code_bytes, heap_tid)?;
            meta.encode(meta_page)?;
            Ok(true)
        })
    }

    fn write_upper(&mut self, node: &Allocated, level: u8, list: &[u32]) -> Result<(), S::Error> {
        let layout = self.shape.layout;
        let record = NodeRef::upper_of(node.first_upper, node.level, level)?;
        let address = layout.uppers().address(record);
        let block = self.block(PageClass::Upper, address.page_index)?;
        self.store.change(&[block], |pages| {
            let page = only(pages)?;
            prepare(page, PageClass::Upper, address.page_index)?;
            let mut upper = UpperMut::in_page(page, &layout, address)?;
            upper.begin(node.ordinal, level)?;
            upper.set_neighbours(list)
        })
    }
}

fn put_node(
    page: &mut Page,
    layout: &Layout,
    node: &Allocated,
    list: &[u32],
    code_bytes: u32,
    heap_tid: HeapTid,
) -> Result<(), PageError> {
    let mut record = NodeMut::in_page(page, layout, layout.nodes().address(node.ordinal))?;
    if layout.codes_are_variable() {
        record.set_code(CodePlace { first_chunk: node.first_chunk, code_bytes })?;
    }
    record.set_neighbours(list)?;
    record.publish(heap_tid)
}
