//! Changes of records: what each state allows, and that a refusal leaves the bytes alone.

use super::super::node::{CodePlace, NodeRef, NodeState};
use super::super::node_edit::NodeMut;
use super::super::tids::{TidChunkMut, TidChunkRef, CHUNK_TIDS};
use super::super::upper::{UpperMut, UpperRef};
use super::*;

fn layout() -> Layout {
    Layout::new(384, CodeLength::Fixed(392), 4, &[4]).unwrap()
}

fn tid(block: u32) -> HeapTid {
    HeapTid::new(block, 7).unwrap()
}

#[test]
fn a_node_goes_through_its_states_and_no_other_way() {
    let layout = layout();
    let mut page: Page = [0; PAGE_BYTES];
    special::init(&mut page, PageKind::Node, 0);
    let address = layout.nodes().address(3);
    // What each state allows, of: begin, claim, publish, set tid, overflow, mark dead, free, list.
    type Change = fn(&mut NodeMut<'_>) -> Result<(), PageError>;
    let changes: [Change; 8] = [
        |node| node.begin(2, Some(9)),
        |node| node.claim().map(|_| ()),
        |node| node.publish(tid(1)),
        |node| node.set_heap_tid(tid(2)),
        |node| node.set_overflow(Some(4)),
        |node| node.mark_dead(),
        |node| node.free(Some(11)),
        |node| node.push_neighbour(5),
    ];
    let steps: [(NodeState, [bool; 8], Change); 5] = [
        (NodeState::Empty, [true, false, false, false, false, false, false, false], changes[0]),
        (NodeState::Inserting, [false, false, true, false, false, true, false, true], changes[2]),
        (NodeState::Live, [false, false, false, true, true, true, false, true], changes[5]),
        (NodeState::Dead, [false, false, false, false, false, false, true, true], changes[6]),
        (NodeState::Free, [false, true, false, false, false, false, false, false], changes[1]),
    ];
    for (state, allowed, onward) in steps {
        assert_eq!(NodeRef::in_page(&page, &layout, address).unwrap().state, state);
        for (index, change) in changes.iter().enumerate() {
            let mut copy = page;
            let result = change(&mut NodeMut::in_page(&mut copy, &layout, address).unwrap());
            assert_eq!(result.is_ok(), allowed[index], "change {index} in {state:?}");
            assert_eq!(result.is_err(), copy == page, "change {index} in {state:?}");
            NodeRef::in_page(&copy, &layout, address).unwrap();
        }
        onward(&mut NodeMut::in_page(&mut page, &layout, address).unwrap()).unwrap();
    }
    let node = NodeRef::in_page(&page, &layout, address).unwrap();
    assert_eq!((node.state, node.version, node.level), (NodeState::Inserting, 1, 2));
    assert_eq!((node.upper(1), node.upper(2)), (Ok(9), Ok(10)));
    assert!(node.upper(0).is_err() && node.upper(3).is_err());
}

#[test]
fn a_level_and_its_upper_records_belong_together() {
    let layout = layout();
    let mut page: Page = [0; PAGE_BYTES];
    let address = layout.nodes().address(0);
    let mut node = NodeMut::in_page(&mut page, &layout, address).unwrap();
    node.begin(1, None).unwrap_err();
    node.begin(0, Some(0)).unwrap_err();
    node.begin(MAX_LEVEL + 1, Some(0)).unwrap_err();
    node.begin(MAX_LEVEL, Some(0)).unwrap();
}

#[test]
fn lists_take_what_fits() {
    let layout = layout();
    let mut page: Page = [0; PAGE_BYTES];
    let address = layout.nodes().address(0);
    let mut node = NodeMut::in_page(&mut page, &layout, address).unwrap();
    node.begin(0, None).unwrap();
    node.set_neighbours(&[0; 9]).unwrap_err();
    node.set_neighbours(&[1, 2, 3, 4, 5, 6, 7]).unwrap();
    node.push_neighbour(8).unwrap();
    node.push_neighbour(9).unwrap_err();
    node.replace_neighbour(7, NONE - 1).unwrap();
    node.replace_neighbour(8, 1).unwrap_err();
    assert_eq!(node.read().unwrap().neighbours.iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, NONE - 1]);
    node.set_neighbours(&[]).unwrap();
    node.replace_neighbour(0, 1).unwrap_err();
    // The record after it is untouched.
    assert!(page[layout.nodes().address(1).offset..].iter().all(|&byte| byte == 0));

    let mut page: Page = [0; PAGE_BYTES];
    let address = layout.uppers().address(2);
    assert_eq!(UpperRef::in_page(&page, &layout, address).unwrap(), None);
    let mut upper = UpperMut::in_page(&mut page, &layout, address).unwrap();
    upper.push_neighbour(1).unwrap_err();
    upper.begin(17, 0).unwrap_err();
    upper.begin(17, 3).unwrap();
    upper.set_neighbours(&[1, 2, 3, 4, 5]).unwrap_err();
    upper.set_neighbours(&[1, 2, 3]).unwrap();
    upper.push_neighbour(4).unwrap();
    upper.push_neighbour(5).unwrap_err();
    upper.replace_neighbour(0, 6).unwrap();
    let upper = UpperRef::in_page(&page, &layout, address).unwrap().unwrap();
    assert_eq!(upper.neighbours.iter().collect::<Vec<_>>(), [6, 2, 3, 4]);
    upper.check_owner(17, 3).unwrap();
    upper.check_owner(17, 2).unwrap_err();
    upper.check_owner(16, 3).unwrap_err();
}

#[test]
fn codes_of_variable_length_are_placed_by_their_node() {
    let layout = Layout::new(384, CodeLength::Variable { max_bytes: 500 }, 4, &[]).unwrap();
    let mut page: Page = [0; PAGE_BYTES];
    let mut node = NodeMut::in_page(&mut page, &layout, layout.nodes().address(1)).unwrap();
    node.begin(0, None).unwrap();
    assert_eq!(node.read().unwrap().code, None);
    let place = |code_bytes| CodePlace { first_chunk: 77, code_bytes };
    node.set_code(place(0)).unwrap_err();
    node.set_code(place(501)).unwrap_err();
    node.set_code(place(500)).unwrap();
    node.set_neighbours(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!(node.read().unwrap().code, Some(place(500)));
    assert_eq!(node.read().unwrap().neighbours.len(), 8);
    let fixed = self::layout();
    let mut page: Page = [0; PAGE_BYTES];
    let mut node = NodeMut::in_page(&mut page, &fixed, fixed.nodes().address(1)).unwrap();
    node.begin(0, None).unwrap();
    node.set_code(place(392)).unwrap_err();
}

#[test]
fn tid_chunks_fill_up_and_close_gaps() {
    let layout = layout();
    let mut page: Page = [0; PAGE_BYTES];
    let address = layout.tids().address(112);
    assert_eq!(address.page_index, 0);
    let mut chunk = TidChunkMut::in_page(&mut page, address).unwrap();
    chunk.begin(5, Some(3));
    for block in 0..CHUNK_TIDS as u32 {
        assert!(chunk.push(tid(block)).unwrap());
    }
    assert!(!chunk.push(tid(99)).unwrap());
    assert_eq!(chunk.retain(|tid| tid.block() % 3 != 0).unwrap(), 4);
    let blocks: Vec<u32> = chunk.read().unwrap().heap_tids().map(HeapTid::block).collect();
    assert_eq!(blocks, [1, 2, 4, 5, 7, 8]);
    chunk.set_next(None);
    assert_eq!((chunk.read().unwrap().next, chunk.read().unwrap().owner), (None, Some(5)));
    chunk.free(Some(8));
    chunk.push(tid(1)).unwrap_err();
    let chunk = TidChunkRef::in_page(&page, address).unwrap();
    assert_eq!((chunk.next, chunk.owner, chunk.is_empty()), (Some(8), None, true));
    assert_eq!(HeapTid::new(4, 0), None);
}

#[test]
fn keys_are_set_one_by_one() {
    let layout = Layout::new(3, CodeLength::Fixed(12), 16, &[4, 1, 16]).unwrap();
    let keys = layout.keys();
    let last = keys.nodes_per_page() - 1;
    let mut page: Page = [0; PAGE_BYTES];
    keys.set(&mut page, 0, last, Some(&[1, 2, 3, 4])).unwrap();
    keys.set(&mut page, 1, last, None).unwrap();
    keys.set(&mut page, 2, last, Some(&[9; 16])).unwrap();
    assert_eq!(keys.get(&page, 0, last).unwrap(), Some([1, 2, 3, 4].as_slice()));
    assert_eq!(keys.get(&page, 1, last).unwrap(), None);
    assert_eq!(keys.get(&page, 2, last).unwrap(), Some([9; 16].as_slice()));
    assert_eq!(keys.get(&page, 1, last - 1).unwrap(), Some([0].as_slice()));
    keys.set(&mut page, 1, last, Some(&[7])).unwrap();
    assert_eq!(keys.get(&page, 1, last).unwrap(), Some([7].as_slice()));
    keys.set(&mut page, 0, last, Some(&[1])).unwrap_err();
    keys.set(&mut page, 3, last, None).unwrap_err();
    keys.set(&mut page, 0, last + 1, None).unwrap_err();
    keys.get(&page, 0, u32::MAX).unwrap_err();
}
