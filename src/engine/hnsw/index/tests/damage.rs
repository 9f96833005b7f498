//! Damaged pages and lost ways: what is wrong is an error and no loop without end, and what nothing leads to is connected.

use super::*;
use crate::hnsw::index::heap_tids::ChunkRead;
use crate::hnsw::index::node_set::NodeSet;
use crate::hnsw::page::tids::TidChunkMut;
use crate::hnsw::page::{PageClass, META_BLOCK};
use crate::test_scale::scaled;

const CYCLE: MemoryError = MemoryError::Page(PageError::Cycle("heap tids"));

#[test]
fn a_chain_of_heap_tids_that_leads_into_itself_is_an_error() {
    let mut index = built(&vec![vec![1.0; 4]; 40], identity(4, Metric::L2, 4));
    let row = index.row_now(0, 0).unwrap().unwrap();
    let address = index.shape.layout.tids().address(row.overflow.unwrap());
    let block = index.block(PageClass::Tids, address.page_index).unwrap();
    let page = index.store().pages.page_mut(block).unwrap();
    TidChunkMut::in_page(page, address).unwrap().set_next(row.overflow);
    assert_eq!(index.heap_tids(0, row, &mut Vec::new()), Err(CYCLE));
    assert_eq!(index.vacuum(|_| false), Err(CYCLE));
    assert!(!index.check().unwrap().findings.is_empty());
}

#[test]
fn a_chunk_of_another_node_in_a_chain_ends_a_vacuum() {
    let mut index = built(&vec![vec![1.0; 4]; 40], identity(4, Metric::L2, 4));
    let first = index.row_now(0, 0).unwrap().unwrap().overflow.unwrap();
    let layout = index.shape.layout;
    let next = index.tid_chunk(0, first, &mut Vec::new()).unwrap();
    let ChunkRead::Next(Some(second)) = next else { panic!("{next:?}") };
    for chunk in [second, first] {
        let address = layout.tids().address(chunk);
        let block = index.block(PageClass::Tids, address.page_index).unwrap();
        let page = index.store().pages.page_mut(block).unwrap();
        TidChunkMut::in_page(page, address).unwrap().begin(1, None);
        let error = PageError::Value { field: "owner of a tid chunk", found: u64::from(chunk) };
        assert_eq!(index.vacuum(|_| false), Err(MemoryError::Page(error)));
    }
}

#[test]
fn an_end_of_the_index_far_behind_its_pages_is_an_error() {
    let mut index = built(&vectors(20, 4, 1), identity(4, Metric::L2, 4));
    let mut meta = index.meta().unwrap();
    meta.next_block = 1 << 24;
    meta.encode(index.store().pages.page_mut(META_BLOCK).unwrap()).unwrap();
    let found = u64::from(meta.next_block);
    let expected = MemoryError::Page(PageError::Value { field: "next block", found });
    assert_eq!(insert(&mut index, &[9.0; 4], 20), Err(expected));
}

#[test]
fn a_tree_of_ways_connects_every_node() {
    const NODES: u32 = scaled(400, 16);
    for m in [2u16, 4].into_iter().take(scaled(2, 1)) {
        let vectors = vectors(NODES as usize, 4, 3);
        let mut index = built(&vectors, identity(4, Metric::L2, m));
        for node in 0..NODES {
            // Every fourth node keeps its list: edges that the tree must keep, and full lists.
            if node % 4 != 0 {
                index.change_list(node, 0, |_| Some(Vec::new())).unwrap();
            }
        }
        let before = index.check().unwrap();
        assert!(before.reachable_nodes < before.live_nodes);
        let connected = index.connect_by_tree(&mut Inserter::default(), &NodeSet::default()).unwrap();
        assert!(connected > 0);
        assert_sound(&mut index);
    }
}
