//! Any bytes give a value or an error: random pages, and valid indexes with bytes changed.

use super::super::extents::ExtentMap;
use super::super::meta::Entry;
use super::super::node::NodeRef;
use super::super::node_edit::NodeMut;
use super::super::reader::IndexReader;
use super::super::tids::{TidChunkMut, TidChunkRef};
use super::super::upper::{UpperMut, UpperRef};
use super::*;
use crate::test_scale::scaled;

fn fill(page: &mut Page, numbers: &mut Numbers) {
    let style = numbers.below(4);
    for bytes in page.as_chunks_mut::<8>().0 {
        // Small numbers reach further into decoders than large ones.
        let number = match style {
            0 => numbers.next(),
            1 => numbers.next() & 0x0303_0303_0303_0303,
            2 => numbers.next() & numbers.next() & numbers.next() & numbers.next(),
            _ if numbers.below(8) == 0 => numbers.next(),
            _ => 0,
        };
        *bytes = number.to_le_bytes();
    }
}

fn layouts() -> Vec<Layout> {
    vec![
        Layout::new(384, CodeLength::Fixed(392), 16, &[4, 8]).unwrap(),
        Layout::new(16_000, CodeLength::Fixed(64_000), 100, &[16; 31]).unwrap(),
        Layout::new(1000, CodeLength::Variable { max_bytes: 8000 }, 2, &[1]).unwrap(),
    ]
}

/// Lets every decoder and every change loose on a page.
fn decode_all(page: &mut Page, layout: &Layout, slot: u32) {
    let _ = special::read(page).and_then(|special| special::check(page, special.kind, special.page_index));
    let _ = Meta::decode(page);
    let _ = Entry::decode(page);
    let mut map = ExtentMap::new(&extents::ClassExtents { extents: 40, ..Default::default() });
    let _ = map.take_directory(PageClass::Code, page, 1000);
    let _ = map.block(slot);
    for &class in PageClass::ALL {
        let _ = directory::entries(page, class).map(|entries| entries.fold(0, u32::wrapping_add));
    }
    let at = |records: Records| Address { page_index: 0, ..records.address(slot % records.per_page()) };
    if let Ok(node) = NodeRef::in_page(page, layout, at(layout.nodes())) {
        let _ = node.neighbours.iter().chain(node.upper(1)).fold(0, u32::wrapping_add);
    }
    if let Ok(mut node) = NodeMut::in_page(page, layout, at(layout.nodes())) {
        let _ = (node.claim(), node.publish(HeapTid::new(1, 1).unwrap()), node.push_neighbour(3));
        let _ = (node.replace_neighbour(2, 4), node.mark_dead(), node.free(None), node.read().unwrap());
    }
    if let Ok(Some(upper)) = UpperRef::in_page(page, layout, at(layout.uppers())) {
        let _ = upper.neighbours.iter().fold(0, u32::wrapping_add);
    }
    if let Ok(mut upper) = UpperMut::in_page(page, layout, at(layout.uppers())) {
        let _ = (upper.push_neighbour(3), upper.replace_neighbour(2, 4));
    }
    let _ = TidChunkRef::in_page(page, at(layout.tids())).map(|chunk| chunk.heap_tids().count());
    if let Ok(mut chunk) = TidChunkMut::in_page(page, at(layout.tids())) {
        let _ = (chunk.push(HeapTid::new(1, 1).unwrap()), chunk.retain(|tid| tid.block() > 5));
    }
    let _ = layout.keys().get(page, 0, slot);
}

#[test]
fn random_pages_never_panic() {
    let mut numbers = Numbers::new(1);
    let layouts = layouts();
    let mut page: Page = [0; PAGE_BYTES];
    for case in 0..scaled(20_000u32, 60) {
        if case % 8 == 0 {
            fill(&mut page, &mut numbers);
        }
        // Every other page has a special area that passes.
        if case % 2 == 0 {
            let kind = PageKind::ALL[numbers.below(7) as usize];
            let mut valid: Page = [0; PAGE_BYTES];
            special::init(&mut valid, kind, 0);
            page[SPECIAL_OFFSET..].copy_from_slice(&valid[SPECIAL_OFFSET..]);
        }
        let slot = numbers.below(200) as u32;
        decode_all(&mut page, &layouts[case as usize % layouts.len()], slot);
    }
}

#[test]
fn an_index_with_changed_bytes_never_panics() {
    const NODES: u32 = scaled(150, 12);
    let mut numbers = Numbers::new(2);
    for (code_length, keys) in [
        (CodeLength::Fixed(100), vec![4u8, 1]),
        (CodeLength::Fixed(9000), vec![]),
        (CodeLength::Variable { max_bytes: 9000 }, vec![8]),
    ] {
        let (_, pages) = written(identity(code_length, 4, &keys), NODES, 4);
        let (mut code, mut tids) = (Vec::new(), Vec::new());
        let mut opened = 0;
        for _ in 0..scaled(1500, 3) {
            let mut pages = pages.clone();
            for _ in 0..1 + numbers.below(3) {
                let block = if numbers.below(3) == 0 { 0 } else { numbers.below(u64::from(pages.blocks())) as u32 };
                // Of the metapage mostly the part with content.
                let end = if block == 0 { 1000 } else { PAGE_BYTES as u64 };
                let offset = numbers.below(end) as usize;
                pages.page_mut(block).unwrap()[offset] = numbers.next() as u8 & 0x83;
            }
            let Ok(reader) = IndexReader::open(&pages) else { continue };
            opened += 1;
            let _ = reader.free_nodes();
            for ordinal in (0..NODES).step_by(scaled(7, 4)).chain([numbers.next() as u32]) {
                let _ = (reader.code(ordinal, &mut code), reader.heap_tids(ordinal, &mut tids));
                let _ = (0..4).map(|level| reader.neighbours(ordinal, level)).filter(Result::is_ok).count();
                let _ = reader.key(ordinal, 0);
            }
        }
        assert!(opened > scaled(300, 0), "most changes are behind the metapage");
    }
}

#[test]
fn truncated_records_are_errors() {
    for layout in layouts() {
        for length in (0..layout.nodes().stride_bytes()).step_by(scaled(1, 5)) {
            let mut record = vec![0u8; length];
            if length > 18 {
                record[16] = 1;
                record[18] = 2 * layout.m() as u8;
            }
            assert!(NodeRef::parse(&record, &layout).is_err() || record.iter().all(|&byte| byte == 0), "{length}");
        }
        for length in 0..8 {
            UpperRef::parse(&vec![1; length], &layout).unwrap_err();
        }
    }
}
