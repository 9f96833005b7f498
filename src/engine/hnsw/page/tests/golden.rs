//! The bytes of one page of every kind. If one of these fails, the format has changed: that takes a new version, and
//! code that still reads the old one; never only a new golden text.

use super::super::allocate::Listing;
use super::super::calibration::{Calibration, CalibrationPoint};
use super::super::extents::INLINE_EXTENTS;
use super::super::node::CodePlace;
use super::super::node_edit::NodeMut;
use super::super::tids::TidChunkMut;
use super::super::upper::UpperMut;
use super::*;

/// The lines of 16 bytes that are not all zero, with their offset.
fn dump(page: &Page) -> String {
    let mut text = String::new();
    for (line, offset) in page.chunks(16).zip((0..).step_by(16)) {
        if line.iter().any(|&byte| byte != 0) {
            text += &format!("{offset:04}:");
            for four in line.chunks(4) {
                text += &four.iter().fold(" ".to_owned(), |text, byte| format!("{text}{byte:02x}"));
            }
            text += "\n";
        }
    }
    text
}

fn assert_dump(page: &Page, expected: &str) {
    let expected: String =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).map(|l| format!("{l}\n")).collect();
    let found = dump(page);
    assert!(found == expected, "the page is\n{found}instead of\n{expected}");
}

fn fresh(kind: PageKind, page_index: u32) -> Page {
    let mut page: Page = [0; PAGE_BYTES];
    special::init(&mut page, kind, page_index);
    page
}

#[test]
fn metapage() {
    let identity = identity(CodeLength::Fixed(392), 16, &[4]);
    let mut meta = Meta::empty(identity).unwrap();
    for class in [PageClass::Node, PageClass::Code, PageClass::Keys, PageClass::Upper] {
        let plan = meta.plan_extent(class).unwrap();
        assert!(meta.assign_extent(&plan).unwrap());
    }
    meta.append_node(0).unwrap();
    meta.append_node(3).unwrap();
    meta.append_node(0).unwrap();
    meta.counts.dead_nodes = 2;
    meta.push_free_nodes(2, 1).unwrap();
    meta.entry = Some((1, 3));
    (meta.vacuum_epoch, meta.reuse_epoch) = (0x1122_3344_5566_7788, 9);
    let points =
        vec![CalibrationPoint { ef_search: 40, recall: 0.75 }, CalibrationPoint { ef_search: 200, recall: 1.0 }];
    meta.calibration = Calibration::new(10, 1000, 3, points).unwrap();
    let mut page: Page = [0; PAGE_BYTES];
    meta.encode(&mut page).unwrap();
    assert_dump(
        &page,
        "
        0016: 00000000 00000000 70677268 01000000
        0032: 01030300 80010000 efcdab89 67452301
        0048: 88010000 88010000 10004000 94003700
        0064: 03000000 01000000 01000000 02000000
        0080: 03000000 00000000 ffffffff 00000000
        0096: 01000000 03000000 05000000 00000000
        0112: 88776655 44332211 09000000 00000000
        0192: 02000a00 e8030000 03000000 00000000
        0208: 28000000 0000403f c8000000 0000803f
        0336: 01000000 00000000 02040100 02020202
        0352: 02020202 02020202 00000000 00000000
        0896: 00000000 00000000 01000000 ffffffff
        0912: ffffffff 00000000 00000000 00000000
        0928: 02000000 00000000 00000000 00000000
        1056: 00000000 00000000 01000000 ffffffff
        1072: ffffffff 00000000 00000000 00000000
        1088: 01000000 00000000 00000000 00000000
        1216: 00000000 00000000 01000000 ffffffff
        1232: ffffffff 00000000 00000000 00000000
        1248: 04000000 00000000 00000000 00000000
        1376: 00000000 00000000 00000000 ffffffff
        1392: ffffffff 00000000 00000000 00000000
        1536: 00000000 00000000 01000000 ffffffff
        1552: ffffffff 00000000 00000000 00000000
        1568: 03000000 00000000 00000000 00000000
        1696: 00000000 00000000 00000000 ffffffff
        1712: ffffffff 00000000 00000000 00000000
        1856: 00000000 00000000 00000000 ffffffff
        1872: ffffffff 00000000 00000000 00000000
        2016: 00000000 00000000 00000000 ffffffff
        2032: ffffffff 00000000 00000000 00000000
        8176: 70677268 01010000 00000000 ffffffff
    ",
    );
}

#[test]
fn directory_page() {
    let mut meta = Meta::empty(identity(CodeLength::Fixed(392), 16, &[])).unwrap();
    let mut page: Page = [0; PAGE_BYTES];
    for extent in 0..INLINE_EXTENTS + 3 {
        let plan = meta.plan_extent(PageClass::Upper).unwrap();
        assert!(meta.assign_extent(&plan).unwrap());
        assert_eq!(plan.listing == Listing::Inline, extent < INLINE_EXTENTS);
        if extent >= INLINE_EXTENTS {
            plan.list(&mut page).unwrap();
        }
    }
    special::set_next_block(&mut page, Some(0x0102_0304));
    assert_dump(
        &page,
        "
        0016: 00000000 00000000 03000000 03000000
        0032: 82060000 c2060000 02070000 00000000
        8176: 70677268 02010000 00000000 04030201
    ",
    );
}

#[test]
fn code_page() {
    let layout = Layout::new(7, CodeLength::Fixed(9), 16, &[]).unwrap();
    let mut page = fresh(PageKind::Code, 2);
    for slot in 0..2 {
        let ordinal = 2 * layout.codes().per_span() + slot;
        for piece in layout.code_pieces(ordinal) {
            assert_eq!(piece.page_index, 2);
            page[piece.offset..piece.offset + piece.length_bytes].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        }
    }
    assert_dump(
        &page,
        "
        0016: 00000000 00000000 01020304 05060708
        0032: 09000000 01020304 05060708 09000000
        8176: 70677268 03010000 02000000 ffffffff
    ",
    );
}

#[test]
fn code_that_crosses_pages() {
    let layout = Layout::new(4096, CodeLength::Fixed(4104), 16, &[]).unwrap();
    let pieces: Vec<_> =
        layout.code_pieces(8).map(|piece| (piece.page_index, piece.offset, piece.length_bytes)).collect();
    assert_eq!(pieces, [(4, 4128, 4048), (5, 24, 56)]);
}

#[test]
fn node_page() {
    let layout = Layout::new(384, CodeLength::Fixed(392), 2, &[]).unwrap();
    let mut page = fresh(PageKind::Node, 0);
    let mut edit = |ordinal, change: fn(&mut NodeMut<'_>)| {
        change(&mut NodeMut::in_page(&mut page, &layout, layout.nodes().address(ordinal)).unwrap());
    };
    edit(0, |node| {
        node.begin(2, Some(0x0A0B_0C0D)).unwrap();
        node.set_neighbours(&[1, 2, 0x0102_0304]).unwrap();
        node.publish(HeapTid::new(0x1122_3344, 0x5566).unwrap()).unwrap();
        node.set_overflow(Some(0x0E0F_1011)).unwrap();
    });
    edit(1, |node| {
        node.begin(0, None).unwrap();
        node.mark_dead().unwrap();
        node.free(Some(3)).unwrap();
        node.claim().unwrap();
    });
    edit(2, |node| {
        node.begin(0, None).unwrap();
        node.publish(HeapTid::new(7, 1).unwrap()).unwrap();
        node.push_neighbour(9).unwrap();
        node.mark_dead().unwrap();
    });
    edit(3, |node| {
        node.begin(0, None).unwrap();
        node.mark_dead().unwrap();
        node.free(Some(2)).unwrap();
    });
    assert_dump(
        &page,
        "
        0016: 00000000 00000000 44332211 66550000
        0032: 0d0c0b0a 11100f0e 02020300 01000000
        0048: 02000000 04030201 00000000 00000000
        0064: 00000100 ffffffff ffffffff 01000000
        0096: 00000000 00000000 ffffffff ffffffff
        0112: 03000100 09000000 00000000 00000000
        0128: 00000000 02000000 00000000 ffffffff
        0144: ffffffff 04000000 00000000 00000000
        8176: 70677268 04010000 00000000 ffffffff
    ",
    );
}

#[test]
fn node_page_with_codes_of_variable_length() {
    let layout = Layout::new(384, CodeLength::Variable { max_bytes: 8000 }, 2, &[]).unwrap();
    let mut page = fresh(PageKind::Node, 0);
    let mut node = NodeMut::in_page(&mut page, &layout, layout.nodes().address(1)).unwrap();
    node.begin(0, None).unwrap();
    node.set_code(CodePlace { first_chunk: 0x0102_0304, code_bytes: 0x0506 }).unwrap();
    node.set_neighbours(&[5, 6]).unwrap();
    assert_dump(
        &page,
        "
        0064: 00000000 00000000 00000000 ffffffff
        0080: ffffffff 01000200 04030201 06050000
        0096: 05000000 06000000 00000000 00000000
        8176: 70677268 04010000 00000000 ffffffff
    ",
    );
}

#[test]
fn upper_page() {
    let layout = Layout::new(384, CodeLength::Fixed(392), 2, &[]).unwrap();
    let mut page = fresh(PageKind::Upper, 3);
    let mut upper = UpperMut::in_page(&mut page, &layout, layout.uppers().address(1)).unwrap();
    upper.begin(0x0102_0304, 5).unwrap();
    upper.set_neighbours(&[0x0A0B_0C0D]).unwrap();
    assert_dump(
        &page,
        "
        0032: 00000000 00000000 04030201 05010000
        0048: 0d0c0b0a 00000000 00000000 00000000
        8176: 70677268 05010000 03000000 ffffffff
    ",
    );
}

#[test]
fn tids_page() {
    let layout = Layout::new(384, CodeLength::Fixed(392), 2, &[]).unwrap();
    let mut page = fresh(PageKind::Tids, 0);
    let mut chunk = TidChunkMut::in_page(&mut page, layout.tids().address(0)).unwrap();
    chunk.begin(0x0102_0304, Some(0x0506_0708));
    chunk.push(HeapTid::new(0x1122_3344, 0x5566).unwrap()).unwrap();
    chunk.push(HeapTid::new(1, 2).unwrap()).unwrap();
    let mut free = TidChunkMut::in_page(&mut page, layout.tids().address(1)).unwrap();
    free.free(None);
    assert_dump(
        &page,
        "
        0016: 00000000 00000000 08070605 04030201
        0032: 02000000 44332211 66550100 00000200
        0096: ffffffff ffffffff 00000000 00000000
        8176: 70677268 06010000 00000000 ffffffff
    ",
    );
}

#[test]
fn keys_page() {
    let layout = Layout::new(384, CodeLength::Fixed(392), 2, &[4, 1, 8]).unwrap();
    assert_eq!(layout.keys().nodes_per_page(), 608);
    let mut page = fresh(PageKind::Keys, 1);
    layout.keys().set(&mut page, 0, 1, Some(&[1, 2, 3, 4])).unwrap();
    layout.keys().set(&mut page, 1, 2, Some(&[5])).unwrap();
    layout.keys().set(&mut page, 1, 1, None).unwrap();
    layout.keys().set(&mut page, 2, 607, Some(&[6, 7, 8, 9, 10, 11, 12, 13])).unwrap();
    layout.keys().set(&mut page, 2, 606, None).unwrap();
    assert_dump(
        &page,
        "
        0016: 00000000 00000000 00000000 01020304
        2448: 00000000 00000000 00000500 00000000
        7920: 06070809 0a0b0c0d 00000000 00000000
        8000: 00000000 02000000 00000000 00000000
        8144: 00000000 00000000 00000040 00000000
        8176: 70677268 07010000 01000000 ffffffff
    ",
    );
}
