//! Writes a built graph in its final order: every page once, in block order, no page unused.
//!
//! Blocks: the metapage, then the base extents of codes, nodes, upper lists, heap tids and keys. The build calls
//! [`write_graph`] when the graph is done and numbered; `sink` gets each block once, with zeroes for PostgreSQL's header.

use super::error::PageError;
use super::layout::{CodeLength, Layout};
use super::meta::Meta;
use super::node::CodePlace;
use super::node_edit::NodeMut;
use super::special::{self, PageKind};
use super::terms::PageClass;
use super::tids::{HeapTid, TidChunkMut, CHUNK_TIDS};
use super::upper::UpperMut;
use super::{Page, MAX_LEVEL, META_BLOCK, NONE, PAGE_BYTES};
use crate::hnsw::filter::RowShape;

/// A finished graph, by ordinal. Each method replaces what is in the buffer it is given. Nodes are asked for in ascending
/// order, by one method at a time, several times over.
pub trait BuiltGraph {
    /// Why it could not be read.
    type Error;

    /// Fewer than [`NONE`].
    fn nodes(&self) -> u32;
    /// Where a search begins.
    fn entry(&self) -> Option<u32>;
    /// At most [`MAX_LEVEL`].
    fn level(&self, ordinal: u32) -> u8;
    /// At a level up to the node's own.
    fn neighbours(&mut self, ordinal: u32, level: u8, into: &mut Vec<u32>) -> Result<(), Self::Error>;
    /// The code, and behind it the row's filter keys.
    fn code(&mut self, ordinal: u32, into: &mut Vec<u8>) -> Result<(), Self::Error>;
    /// At least one.
    fn heap_tids(&mut self, ordinal: u32, into: &mut Vec<HeapTid>) -> Result<(), Self::Error>;
}

/// Why a graph was not written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError<E> {
    /// The graph does not fit the index.
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("the graph could not be read, or a page not be written")]
    Storage(E),
}

/// Writes the graph as a whole new fork. `meta` is [`Meta::empty`] of the index, with the calibration if there is one;
/// its counts and extents are computed here, and it is block 0.
pub fn write_graph<E>(
    mut meta: Meta,
    graph: &mut impl BuiltGraph<Error = E>,
    sink: impl FnMut(u32, &Page) -> Result<(), E>,
) -> Result<Meta, WriteError<E>> {
    let layout = meta.identity.layout()?;
    count_records(&mut meta, &layout, graph)?;
    place_classes(&mut meta, &layout)?;
    let mut pages = PageStream { sink, page: Box::new([0; PAGE_BYTES]), next_block: META_BLOCK };
    meta.encode(&mut pages.page)?;
    pages.flush()?;
    write_codes(&mut pages, &meta, &layout, graph)?;
    write_nodes(&mut pages, &meta, &layout, graph)?;
    write_uppers(&mut pages, &meta, &layout, graph)?;
    write_tids(&mut pages, &meta, graph)?;
    write_keys(&mut pages, &meta, &layout, graph)?;
    Ok(meta)
}

/// Counts what will be handed out, and checks that the levels and the entry are possible.
fn count_records<E>(
    meta: &mut Meta,
    layout: &Layout,
    graph: &mut impl BuiltGraph<Error = E>,
) -> Result<(), WriteError<E>> {
    let keys = meta.identity.row_keys();
    let (mut code, mut tids) = (Vec::new(), Vec::new());
    for ordinal in 0..graph.nodes() {
        meta.append_node(graph.level(ordinal))?;
        graph.heap_tids(ordinal, &mut tids).map_err(WriteError::Storage)?;
        for _ in 0..further_chunks(&tids) {
            meta.append_tid_chunk()?;
        }
        if let CodeLength::Variable { .. } = layout.code_length() {
            read_code(graph, ordinal, &keys, &mut code)?;
            meta.append_code(code.len() as u32)?;
        }
    }
    meta.entry = match graph.entry() {
        Some(entry) if entry < graph.nodes() => Some((entry, graph.level(entry))),
        None if graph.nodes() == 0 => None,
        _ => return Err(PageError::Refused("entry is no node of the graph").into()),
    };
    Ok(())
}

/// Gives every class its base extent.
fn place_classes(meta: &mut Meta, layout: &Layout) -> Result<(), PageError> {
    for &class in PageClass::ALL {
        let full = PageError::Refused("graph needs more blocks than a relation has");
        let pages = u32::try_from(meta.pages_in_use(layout, class)).map_err(|_| full)?;
        let base_block = meta.next_block;
        meta.next_block = base_block.checked_add(pages).filter(|&end| end < NONE).ok_or(full)?;
        if pages > 0 {
            let extents = meta.class_mut(class);
            extents.base_block = base_block;
            extents.base_pages = pages;
        }
    }
    Ok(())
}

/// Chunks for the heap tids beyond the first.
fn further_chunks(tids: &[HeapTid]) -> usize {
    tids.len().saturating_sub(1).div_ceil(CHUNK_TIDS)
}

/// The page that is being filled, and where it goes.
struct PageStream<F> {
    sink: F,
    page: Box<Page>,
    next_block: u32,
}

impl<F> PageStream<F> {
    fn flush<E>(&mut self) -> Result<(), WriteError<E>>
    where
        F: FnMut(u32, &Page) -> Result<(), E>,
    {
        (self.sink)(self.next_block, &self.page).map_err(WriteError::Storage)?;
        self.next_block += 1;
        Ok(())
    }

    /// Begins the pages of a class; its blocks are the next ones.
    fn class<E>(&mut self, class: PageClass, pages: u32) -> ClassStream<'_, F>
    where
        F: FnMut(u32, &Page) -> Result<(), E>,
    {
        special::init(&mut self.page, class.kind(), 0);
        ClassStream { stream: self, kind: class.kind(), page_index: 0, pages }
    }
}

/// The pages of one class, in order.
struct ClassStream<'s, F> {
    stream: &'s mut PageStream<F>,
    kind: PageKind,
    page_index: u32,
    pages: u32,
}

impl<F> ClassStream<'_, F> {
    /// The page with this index, which is the present one or later.
    fn page<E>(&mut self, page_index: u32) -> Result<&mut Page, WriteError<E>>
    where
        F: FnMut(u32, &Page) -> Result<(), E>,
    {
        if page_index < self.page_index || page_index >= self.pages {
            let error = PageError::Beyond { what: "page to be written", index: page_index, count: self.pages };
            return Err(error.into());
        }
        self.advance(page_index)?;
        Ok(&mut self.stream.page)
    }

    /// Writes all pages before `page_index`, and makes that one present unless it is the end.
    fn advance<E>(&mut self, page_index: u32) -> Result<(), WriteError<E>>
    where
        F: FnMut(u32, &Page) -> Result<(), E>,
    {
        while self.page_index < page_index {
            self.stream.flush()?;
            self.page_index += 1;
            special::init(&mut self.stream.page, self.kind, self.page_index);
        }
        Ok(())
    }

    fn finish<E>(mut self) -> Result<(), WriteError<E>>
    where
        F: FnMut(u32, &Page) -> Result<(), E>,
    {
        self.advance(self.pages)
    }
}

fn check_code(layout: &Layout, code: &[u8]) -> Result<(), PageError> {
    let fits = match layout.code_length() {
        CodeLength::Fixed(bytes) => code.len() == bytes as usize,
        CodeLength::Variable { max_bytes } => (1..=max_bytes as usize).contains(&code.len()),
    };
    if fits {
        Ok(())
    } else {
        Err(PageError::Value { field: "length of a code", found: code.len() as u64 })
    }
}

/// Reads a code without the keys behind it.
fn read_code<E>(
    graph: &mut impl BuiltGraph<Error = E>,
    ordinal: u32,
    keys: &RowShape,
    into: &mut Vec<u8>,
) -> Result<(), WriteError<E>> {
    graph.code(ordinal, into).map_err(WriteError::Storage)?;
    into.truncate(into.len().saturating_sub(keys.bytes()));
    Ok(())
}

fn write_codes<E>(
    pages: &mut PageStream<impl FnMut(u32, &Page) -> Result<(), E>>,
    meta: &Meta,
    layout: &Layout,
    graph: &mut impl BuiltGraph<Error = E>,
) -> Result<(), WriteError<E>> {
    let keys = meta.identity.row_keys();
    let mut stream = pages.class(PageClass::Code, meta.class(PageClass::Code).pages());
    let mut code = Vec::new();
    let mut next_chunk = 0u32;
    for ordinal in 0..graph.nodes() {
        read_code(graph, ordinal, &keys, &mut code)?;
        check_code(layout, &code)?;
        let pieces = match layout.code_length() {
            CodeLength::Fixed(_) => layout.code_pieces(ordinal),
            CodeLength::Variable { .. } => layout.chunk_pieces(next_chunk, code.len() as u32),
        };
        next_chunk = next_chunk.saturating_add(Layout::chunks(code.len() as u32));
        let mut rest = code.as_slice();
        for piece in pieces {
            let page = stream.page(piece.page_index)?;
            let place = page.get_mut(piece.offset..piece.offset + piece.length_bytes);
            if let (Some(place), Some((head, tail))) = (place, rest.split_at_checked(piece.length_bytes)) {
                place.copy_from_slice(head);
                rest = tail;
            }
        }
    }
    stream.finish()
}

fn check_neighbours(nodes: u32, ids: &[u32]) -> Result<(), PageError> {
    match ids.iter().find(|&&id| id >= nodes) {
        Some(&index) => Err(PageError::Beyond { what: "neighbour", index, count: nodes }),
        None => Ok(()),
    }
}

fn write_nodes<E>(
    pages: &mut PageStream<impl FnMut(u32, &Page) -> Result<(), E>>,
    meta: &Meta,
    layout: &Layout,
    graph: &mut impl BuiltGraph<Error = E>,
) -> Result<(), WriteError<E>> {
    let mut stream = pages.class(PageClass::Node, meta.class(PageClass::Node).pages());
    let (mut code, mut tids, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let (mut next_upper, mut next_tid_chunk, mut next_code_chunk) = (0u32, 0u32, 0u32);
    let keys = meta.identity.row_keys();
    for ordinal in 0..graph.nodes() {
        let address = layout.nodes().address(ordinal);
        let mut node = NodeMut::in_page(stream.page(address.page_index)?, layout, address)?;
        let level = graph.level(ordinal);
        node.begin(level, (level > 0).then_some(next_upper))?;
        next_upper = next_upper.saturating_add(u32::from(level));
        if let CodeLength::Variable { .. } = layout.code_length() {
            read_code(graph, ordinal, &keys, &mut code)?;
            node.set_code(CodePlace { first_chunk: next_code_chunk, code_bytes: code.len() as u32 })?;
            next_code_chunk = next_code_chunk.saturating_add(Layout::chunks(code.len() as u32));
        }
        graph.neighbours(ordinal, 0, &mut ids).map_err(WriteError::Storage)?;
        check_neighbours(graph.nodes(), &ids)?;
        node.set_neighbours(&ids)?;
        graph.heap_tids(ordinal, &mut tids).map_err(WriteError::Storage)?;
        node.publish(tids.first().copied().ok_or(PageError::Refused("node has no heap tid"))?)?;
        let chunks = further_chunks(&tids) as u32;
        if chunks > 0 {
            node.set_overflow(Some(next_tid_chunk))?;
            next_tid_chunk = next_tid_chunk.saturating_add(chunks);
        }
    }
    stream.finish()
}

fn write_uppers<E>(
    pages: &mut PageStream<impl FnMut(u32, &Page) -> Result<(), E>>,
    meta: &Meta,
    layout: &Layout,
    graph: &mut impl BuiltGraph<Error = E>,
) -> Result<(), WriteError<E>> {
    let mut stream = pages.class(PageClass::Upper, meta.class(PageClass::Upper).pages());
    let mut ids = Vec::new();
    let mut record = 0u32;
    for ordinal in 0..graph.nodes() {
        for level in 1..=graph.level(ordinal).min(MAX_LEVEL) {
            let address = layout.uppers().address(record);
            let mut upper = UpperMut::in_page(stream.page(address.page_index)?, layout, address)?;
            upper.begin(ordinal, level)?;
            graph.neighbours(ordinal, level, &mut ids).map_err(WriteError::Storage)?;
            check_neighbours(graph.nodes(), &ids)?;
            upper.set_neighbours(&ids)?;
            record = record.saturating_add(1);
        }
    }
    stream.finish()
}

fn write_tids<E>(
    pages: &mut PageStream<impl FnMut(u32, &Page) -> Result<(), E>>,
    meta: &Meta,
    graph: &mut impl BuiltGraph<Error = E>,
) -> Result<(), WriteError<E>> {
    let mut stream = pages.class(PageClass::Tids, meta.class(PageClass::Tids).pages());
    let mut tids = Vec::new();
    let mut record = 0u32;
    for ordinal in 0..graph.nodes() {
        graph.heap_tids(ordinal, &mut tids).map_err(WriteError::Storage)?;
        // The first chunk of a chain is the one that may have room: the last tids go first.
        let further = tids.get(1..).unwrap_or_default();
        let mut left = further_chunks(&tids);
        for part in further.chunks(CHUNK_TIDS).rev() {
            let address = super::layout::TIDS.address(record);
            let mut chunk = TidChunkMut::in_page(stream.page(address.page_index)?, address)?;
            left -= 1;
            chunk.begin(ordinal, (left > 0).then_some(record.saturating_add(1)));
            for &heap_tid in part {
                chunk.push(heap_tid)?;
            }
            record = record.saturating_add(1);
        }
    }
    stream.finish()
}

fn write_keys<E>(
    pages: &mut PageStream<impl FnMut(u32, &Page) -> Result<(), E>>,
    meta: &Meta,
    layout: &Layout,
    graph: &mut impl BuiltGraph<Error = E>,
) -> Result<(), WriteError<E>> {
    if meta.identity.filter_columns.is_empty() {
        return Ok(());
    }
    let keys = meta.identity.row_keys();
    let mut stream = pages.class(PageClass::Keys, meta.class(PageClass::Keys).pages());
    let mut code = Vec::new();
    for ordinal in 0..graph.nodes() {
        let (page_index, slot) = layout.keys().address(ordinal);
        graph.code(ordinal, &mut code).map_err(WriteError::Storage)?;
        keys.put(keys.split(&code).1, layout.keys(), stream.page(page_index)?, slot)?;
    }
    stream.finish()
}
