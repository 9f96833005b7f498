//! Extents, directories and the free list: an index that grows by inserts.

use super::super::allocate::{ExtentPlan, Listing};
use super::super::directory::DIRECTORY_ENTRIES;
use super::super::extents::{extent_blocks, growth_pages, locate, ExtentMap, INLINE_EXTENTS};
use super::super::node::NodeState;
use super::super::node_edit::NodeMut;
use super::super::reader::IndexReader;
use super::super::upper::UpperMut;
use super::*;
use crate::test_scale::scaled;

#[test]
fn extents_hold_all_pages_in_order() {
    let mut page = 0;
    for extent in 0..300 {
        assert_eq!(growth_pages(extent), page);
        for within in 0..extent_blocks(extent) {
            assert_eq!(locate(page), (extent, within));
            page += 1;
        }
    }
    let (extent, within) = locate(u32::MAX);
    assert_eq!((within, u64::from(extent)), (63, 6 + (1u64 << 26) - 1));
}

/// Assigns a plan and writes what goes with it, as one record would.
fn assign(meta: &mut Meta, pages: &mut MemoryPages, plan: &ExtentPlan) {
    pages.extend_to(plan.fork_blocks());
    assert!(meta.assign_extent(plan).unwrap());
    match plan.listing {
        Listing::Inline => {}
        Listing::Directory { block } => plan.list(pages.page_mut(block).unwrap()).unwrap(),
        Listing::NewDirectory { block, previous, .. } => {
            plan.list(pages.page_mut(block).unwrap()).unwrap();
            if let Some(previous) = previous {
                plan.link(pages.page_mut(previous).unwrap()).unwrap();
            }
        }
    }
}

fn write_meta(meta: &Meta, pages: &mut MemoryPages) {
    meta.encode(pages.page_mut(META_BLOCK).unwrap()).unwrap();
}

/// The page of a class, initialised if it is new.
fn class_page<'p>(pages: &'p mut MemoryPages, meta: &Meta, class: PageClass, page_index: u32) -> &'p mut Page {
    let mut map = ExtentMap::new(meta.class(class));
    let mut next = meta.class(class).directory_head;
    while let (false, Some(block)) = (map.is_complete(), next) {
        next = map.take_directory(class, pages.page(block).unwrap(), meta.next_block).unwrap();
    }
    let page = pages.page_mut(map.block(page_index).unwrap()).unwrap();
    if special::is_new(page) {
        special::init(page, class.kind(), page_index);
    }
    special::check(page, class.kind(), page_index).unwrap();
    page
}

/// Inserts a node of this level as the README says; the code is its ordinal.
fn insert(meta: &mut Meta, pages: &mut MemoryPages, level: u8) -> u32 {
    let layout = meta.identity.layout().unwrap();
    let mut after = meta.clone();
    after.append_node(level).unwrap();
    while let Some(class) = after.lacking_class(&layout) {
        let plan = meta.plan_extent(class).unwrap();
        assign(meta, pages, &plan);
        after = meta.clone();
        after.append_node(level).unwrap();
    }
    let new = meta.append_node(level).unwrap();
    let address = layout.nodes().address(new.ordinal);
    let page = class_page(pages, meta, PageClass::Node, address.page_index);
    NodeMut::in_page(page, &layout, address).unwrap().begin(level, new.first_upper).unwrap();
    write_meta(meta, pages);
    for piece in layout.code_pieces(new.ordinal) {
        let page = class_page(pages, meta, PageClass::Code, piece.page_index);
        page[piece.offset..piece.offset + piece.length_bytes].fill(new.ordinal as u8);
    }
    for upper_level in 1..=level {
        let record = new.first_upper.unwrap() + u32::from(upper_level) - 1;
        let address = layout.uppers().address(record);
        let page = class_page(pages, meta, PageClass::Upper, address.page_index);
        UpperMut::in_page(page, &layout, address).unwrap().begin(new.ordinal, upper_level).unwrap();
    }
    let page = class_page(pages, meta, PageClass::Node, address.page_index);
    let mut node = NodeMut::in_page(page, &layout, address).unwrap();
    node.set_neighbours(&[new.ordinal / 2]).unwrap();
    node.publish(HeapTid::new(new.ordinal, 1).unwrap()).unwrap();
    new.ordinal
}

fn check_all(pages: &MemoryPages, inserted: std::ops::Range<u32>, code_bytes: usize) {
    let reader = IndexReader::open(pages).unwrap();
    let mut code = Vec::new();
    for ordinal in inserted {
        let node = reader.node(ordinal).unwrap();
        assert_eq!(node.heap_tid, HeapTid::new(ordinal, 1));
        assert_eq!(node.neighbours.iter().collect::<Vec<_>>(), [ordinal / 2]);
        reader.code(ordinal, &mut code).unwrap();
        assert_eq!(code, vec![ordinal as u8; code_bytes]);
        for level in 1..=node.level {
            assert!(reader.neighbours(ordinal, level).unwrap().is_empty());
        }
    }
}

#[test]
fn an_empty_index_grows_node_by_node() {
    const NODES: u32 = scaled(600, 18);
    for code_bytes in scaled([4000, 20_000], [400, 9_000]) {
        let mut meta = Meta::empty(identity(CodeLength::Fixed(code_bytes), 16, &[])).unwrap();
        let mut pages = MemoryPages::new();
        pages.extend_to(1);
        write_meta(&meta, &mut pages);
        for i in 0..NODES {
            assert_eq!(insert(&mut meta, &mut pages, if i.is_multiple_of(16) { (i % 3) as u8 + 1 } else { 0 }), i);
        }
        check_all(&pages, 0..NODES, code_bytes as usize);
        assert_eq!(pages.blocks(), meta.next_block);
    }
}

#[test]
fn a_built_index_grows_behind_its_base_extents() {
    const NODES: u32 = scaled(500, 20);
    const MORE: u32 = scaled(200, 12);
    let (mut graph, mut pages) = written(identity(CodeLength::Fixed(392), 16, &[]), NODES, 5);
    let mut meta = Meta::decode(pages.page(META_BLOCK).unwrap()).unwrap();
    for _ in 0..MORE {
        insert(&mut meta, &mut pages, 1);
    }
    check_all(&pages, NODES..NODES + MORE, 392);
    let reader = IndexReader::open(&pages).unwrap();
    let (mut code, mut expected) = (Vec::new(), Vec::new());
    for ordinal in 0..NODES {
        reader.code(ordinal, &mut code).unwrap();
        graph.code(ordinal, &mut expected).unwrap();
        assert_eq!(code, expected);
    }
}

#[test]
fn extents_go_on_in_directory_pages() {
    let mut meta = Meta::empty(identity(CodeLength::Fixed(392), 16, &[])).unwrap();
    let mut directories = MemoryPages::new();
    let extents = INLINE_EXTENTS + 2 * DIRECTORY_ENTRIES + 3;
    let mut expected = Vec::new();
    // The directory pages alone are real: a fork of that length would be 2 GB.
    let mut blocks = Vec::new();
    for _ in 0..extents {
        let plan = meta.plan_extent(PageClass::Code).unwrap();
        assert!(meta.assign_extent(&plan).unwrap());
        assert!(!meta.assign_extent(&plan).unwrap(), "a plan is assigned once");
        if let Listing::NewDirectory { block, previous, chain_index } = plan.listing {
            assert_eq!(chain_index as usize, blocks.len());
            blocks.push(block);
            directories.extend_to(blocks.len() as u32);
            if previous.is_some() {
                plan.link(directories.page_mut(chain_index - 1).unwrap()).unwrap();
            }
        }
        if plan.listing != Listing::Inline {
            plan.list(directories.page_mut(blocks.len() as u32 - 1).unwrap()).unwrap();
        }
        expected.push(plan.first_block);
    }
    assert_eq!(blocks.len(), 3);
    let mut map = ExtentMap::new(meta.class(PageClass::Code));
    let mut next = meta.class(PageClass::Code).directory_head;
    for (index, &block) in blocks.iter().enumerate() {
        assert_eq!(next, Some(block));
        next = map.take_directory(PageClass::Code, directories.page(index as u32).unwrap(), meta.next_block).unwrap();
    }
    assert!(map.is_complete() && next.is_none());
    assert_eq!(map.pages(), growth_pages(extents as u32));
    for (extent, &first) in (0..).zip(&expected) {
        assert_eq!(map.block(growth_pages(extent)).unwrap(), first);
        assert_eq!(map.block(growth_pages(extent + 1) - 1).unwrap(), first + extent_blocks(extent) - 1);
    }
    map.block(map.pages()).unwrap_err();
    let mut page: Page = [0; PAGE_BYTES];
    meta.encode(&mut page).unwrap();
    assert_eq!(Meta::decode(&page).unwrap(), meta);
    // The wrong page of a chain, and the chain of another class, are noticed.
    let mut map = ExtentMap::new(meta.class(PageClass::Code));
    let wrong = map.take_directory(PageClass::Code, directories.page(1).unwrap(), meta.next_block);
    assert_eq!(wrong, Err(PageError::PageIndex { expected: 0, found: 1 }));
    map.take_directory(PageClass::Node, directories.page(0).unwrap(), meta.next_block).unwrap_err();
}

#[test]
fn a_relation_and_the_ordinals_can_be_full() {
    let mut meta = Meta::empty(identity(CodeLength::Fixed(392), 16, &[])).unwrap();
    meta.next_block = NONE - 1;
    meta.plan_extent(PageClass::Code).unwrap_err();
    meta.counts.nodes = NONE - 1;
    assert_eq!(meta.append_node(0), Err(PageError::Refused("index has no room for more nodes")));
    meta.counts.nodes = 5;
    meta.counts.uppers = NONE - 2;
    meta.append_node(2).unwrap_err();
    assert_eq!(meta.counts.nodes, 5, "a refusal changes nothing");
}

#[test]
fn dead_nodes_are_freed_and_used_again() {
    const NODES: u32 = scaled(100, 30);
    let mut meta = Meta::empty(identity(CodeLength::Fixed(392), 16, &[])).unwrap();
    let layout = meta.identity.layout().unwrap();
    let mut pages = MemoryPages::new();
    pages.extend_to(1);
    for i in 0..NODES {
        insert(&mut meta, &mut pages, u8::from(i % 10 == 0));
    }
    fn edit(
        pages: &mut MemoryPages,
        meta: &Meta,
        layout: &Layout,
        ordinal: u32,
        change: impl FnOnce(&mut NodeMut<'_>),
    ) {
        let address = layout.nodes().address(ordinal);
        let page = class_page(pages, meta, PageClass::Node, address.page_index);
        change(&mut NodeMut::in_page(page, layout, address).unwrap());
    }
    for ordinal in [10, 20, 21] {
        edit(&mut pages, &meta, &layout, ordinal, |node| node.mark_dead().unwrap());
    }
    meta.counts.dead_nodes = 3;
    assert_eq!(meta.live_nodes(), NODES - 3);
    // One record per page: 10 alone, then 20 and 21.
    edit(&mut pages, &meta, &layout, 10, |node| node.free(None).unwrap());
    meta.push_free_nodes(10, 1).unwrap();
    edit(&mut pages, &meta, &layout, 20, |node| node.free(Some(10)).unwrap());
    edit(&mut pages, &meta, &layout, 21, |node| node.free(Some(20)).unwrap());
    meta.push_free_nodes(21, 2).unwrap();
    meta.push_free_nodes(21, 1).unwrap_err();
    write_meta(&meta, &mut pages);
    assert_eq!(IndexReader::open(&pages).unwrap().free_nodes().unwrap(), [21, 20, 10]);
    assert_eq!((meta.live_nodes(), meta.counts.dead_nodes), (NODES - 3, 0));

    for (expected, next) in [(21, Some(20)), (20, Some(10)), (10, None)] {
        assert_eq!(meta.counts.free_head, Some(expected));
        edit(&mut pages, &meta, &layout, expected, |node| assert_eq!(node.claim().unwrap(), next));
        meta.pop_free_node(next).unwrap();
    }
    assert_eq!((meta.counts.free_head, meta.counts.free_nodes), (None, 0));
    meta.pop_free_node(None).unwrap_err();
    write_meta(&meta, &mut pages);
    let reader = IndexReader::open(&pages).unwrap();
    let node = reader.node(10).unwrap();
    assert_eq!((node.state, node.version, node.level), (NodeState::Inserting, 1, 1));
    assert!(reader.neighbours(10, 1).unwrap().is_empty(), "upper records stay with the slot");
}

#[test]
fn a_cycle_in_the_free_list_or_among_heap_tids_ends() {
    const NODES: u32 = scaled(300, 20);
    let (_, mut pages) = written(identity(CodeLength::Fixed(40), 2, &[]), NODES, 9);
    let meta = Meta::decode(pages.page(META_BLOCK).unwrap()).unwrap();
    let layout = meta.identity.layout().unwrap();
    let owner = (0..NODES).find(|&o| IndexReader::open(&pages).unwrap().node(o).unwrap().overflow.is_some()).unwrap();
    let chunk = IndexReader::open(&pages).unwrap().node(owner).unwrap().overflow.unwrap();
    let address = layout.tids().address(chunk);
    let page = class_page(&mut pages, &meta, PageClass::Tids, address.page_index);
    tids::TidChunkMut::in_page(page, address).unwrap().set_next(Some(chunk));
    let reader = IndexReader::open(&pages).unwrap();
    assert_eq!(reader.heap_tids(owner, &mut Vec::new()), Err(PageError::Cycle("heap tids")));

    let mut meta = meta;
    let address = layout.nodes().address(3);
    let page = class_page(&mut pages, &meta, PageClass::Node, address.page_index);
    let mut node = NodeMut::in_page(page, &layout, address).unwrap();
    node.mark_dead().unwrap();
    node.free(Some(3)).unwrap();
    (meta.counts.free_head, meta.counts.free_nodes) = (Some(3), 1);
    write_meta(&meta, &mut pages);
    assert_eq!(IndexReader::open(&pages).unwrap().free_nodes(), Err(PageError::Cycle("free nodes")));
}
