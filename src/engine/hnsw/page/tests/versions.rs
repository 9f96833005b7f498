//! Pages of other magic, version, kind or place, and metapages that no release writes.

use super::super::calibration::{Calibration, CalibrationPoint, MAX_POINTS};
use super::super::meta::Entry;
use super::*;
use crate::test_scale::scaled;

/// Nodes of the indexes that are changed.
const NODES: u32 = scaled(300, 20);

fn page_of(kind: PageKind) -> Page {
    let mut page: Page = [0; PAGE_BYTES];
    special::init(&mut page, kind, 5);
    page
}

#[test]
fn pages_that_are_not_what_was_expected_say_what_they_are() {
    for kind in PageKind::ALL {
        let page = page_of(kind);
        special::check(&page, kind, 5).unwrap();
        let changed = |offset: usize, value: u8| {
            let mut page = page;
            page[offset] = value;
            special::check(&page, kind, 5).unwrap_err()
        };
        assert!(matches!(changed(SPECIAL_OFFSET, 0), PageError::Magic(_)));
        assert_eq!(changed(SPECIAL_OFFSET + 5, FORMAT_VERSION + 1), PageError::Version(2));
        assert_eq!(changed(SPECIAL_OFFSET + 5, 0), PageError::Version(0));
        assert!(matches!(changed(SPECIAL_OFFSET + 4, 200), PageError::Value { field: "page kind", found: 200 }));
        assert_eq!(changed(SPECIAL_OFFSET + 7, 1), PageError::Reserved(SPECIAL_OFFSET as u32 + 6));
        assert_eq!(changed(SPECIAL_OFFSET + 8, 6), PageError::PageIndex { expected: 5, found: 6 });
        let other = if kind == PageKind::Code { PageKind::Node } else { PageKind::Code };
        assert_eq!(special::check(&page, other, 5), Err(PageError::Kind { expected: other, found: kind as u8 }));
    }
    assert_eq!(special::check(&[0; PAGE_BYTES], PageKind::Code, 0), Err(PageError::New));
}

#[test]
fn chains_are_followed_by_their_next_block() {
    let mut page = page_of(PageKind::Directory);
    assert_eq!(special::read(&page).unwrap().next_block, None);
    special::set_next_block(&mut page, Some(0));
    assert_eq!(special::read(&page).unwrap().next_block, Some(0));
    special::check(&page, PageKind::Directory, 5).unwrap();
}

#[test]
fn no_page_but_the_metapage_has_a_hole_and_nothing_is_in_it() {
    let (_, pages) = written(identity(CodeLength::Fixed(392), 16, &[4]), NODES, 2);
    for kind in PageKind::ALL {
        assert_eq!(special::pd_lower(kind) == SPECIAL_OFFSET, kind != PageKind::Meta);
    }
    let page = pages.page(META_BLOCK).unwrap();
    assert!(page[special::pd_lower(PageKind::Meta)..SPECIAL_OFFSET].iter().all(|&byte| byte == 0));
    for block in 0..pages.blocks() {
        assert_eq!(pages.page(block).unwrap()[..HEADER_BYTES], [0; HEADER_BYTES], "PostgreSQL's header is not ours");
    }
}

fn full_meta() -> Meta {
    let (_, pages) = written(identity(CodeLength::Fixed(392), 16, &[4, 8]), NODES, 2);
    let mut meta = Meta::decode(pages.page(META_BLOCK).unwrap()).unwrap();
    let points =
        (1..=MAX_POINTS as u16).map(|i| CalibrationPoint { ef_search: i * 10, recall: f32::from(i) / 16.0 }).collect();
    meta.calibration = Calibration::new(10, 1000, 300, points).unwrap();
    (meta.vacuum_epoch, meta.reuse_epoch) = (u64::MAX, 1 << 40);
    meta
}

fn encoded(meta: &Meta) -> Page {
    let mut page: Page = [0xAA; PAGE_BYTES];
    meta.encode(&mut page).unwrap();
    page
}

#[test]
fn metapages_read_back_as_they_were() {
    let meta = full_meta();
    let page = encoded(&meta);
    assert_eq!(Meta::decode(&page).unwrap(), meta);
    let entry = Entry::decode(&page).unwrap();
    assert_eq!((entry.node, entry.nodes), (meta.entry, NODES));
    assert_eq!((entry.vacuum_epoch, entry.reuse_epoch), (u64::MAX, 1 << 40));
    let variable = Identity {
        element: ElementType::Sparsevec,
        metric: Metric::L1,
        code_kind: CodeKind::Sparse,
        ..identity(CodeLength::Variable { max_bytes: 8000 }, 2, &[])
    };
    let empty = Meta::empty(variable).unwrap();
    assert_eq!(Meta::decode(&encoded(&empty)).unwrap(), empty);
}

#[test]
fn metapages_of_a_later_release_are_refused_by_name() {
    let mut page = encoded(&full_meta());
    page[28] = FORMAT_VERSION + 1;
    assert_eq!(Meta::decode(&page), Err(PageError::Version(2)));
    assert_eq!(Entry::decode(&page), Err(PageError::Version(2)));
    let mut page = encoded(&full_meta());
    page[30] = 4;
    assert_eq!(Meta::decode(&page), Err(PageError::Features(4)));
}

#[test]
fn every_reserved_byte_of_the_metapage_is_checked() {
    let page = encoded(&full_meta());
    let ranges = [108..112, 128..192, 204..208, 210..212, 337..344, 376..840, 840..896, 916..928, 2176..SPECIAL_OFFSET];
    for offset in ranges.into_iter().flatten().step_by(scaled(1, 61)) {
        let mut page = page;
        page[offset] = 1;
        assert!(matches!(Meta::decode(&page), Err(PageError::Reserved(_))), "{offset}");
    }
}

#[test]
fn metapages_that_contradict_themselves_are_refused() {
    type Change = fn(&mut Meta);
    let cases: [(&str, Change); 15] = [
        ("dead", |meta| meta.counts.dead_nodes = NODES + 1),
        ("free without head", |meta| meta.counts.free_nodes = 1),
        ("head without free", |meta| meta.counts.free_head = Some(1)),
        ("head beyond", |meta| (meta.counts.free_head, meta.counts.free_nodes) = (Some(NODES), 1)),
        ("tid head beyond", |meta| meta.counts.free_tid_chunk = Some(meta.counts.tid_chunks)),
        ("entry beyond", |meta| meta.entry = Some((NODES, 0))),
        ("entry too high", |meta| meta.entry = Some((1, MAX_LEVEL + 1))),
        ("no metapage", |meta| meta.next_block = 0),
        ("base beyond next block", |meta| meta.next_block -= 1),
        ("blocks that belong to nobody", |meta| meta.next_block += 1),
        ("base at metapage", |meta| meta.classes[0].base_block = 0),
        ("more nodes than pages", |meta| meta.counts.nodes += 1000),
        ("inline beyond count", |meta| meta.classes[1].inline[3] = 7),
        ("extents without blocks", |meta| meta.classes[1].extents = 2),
        ("unknown class", |meta| meta.classes[7].base_pages = 1),
    ];
    let whole = full_meta();
    for (name, change) in cases {
        let mut meta = whole.clone();
        change(&mut meta);
        assert!(matches!(Meta::decode(&encoded(&meta)), Err(PageError::Value { .. })), "{name}");
    }
    for (offset, value) in [(52, 1), (60, 1), (62, 1), (32, 9), (33, 0), (34, 7), (35, 2)] {
        let mut page = encoded(&whole);
        page[offset] = value;
        assert!(matches!(Meta::decode(&page), Err(PageError::Value { .. })), "{offset}");
    }
}

#[test]
fn calibrations_are_ascending_shares() {
    let point = |ef_search, recall| CalibrationPoint { ef_search, recall };
    Calibration::new(10, 1, 1, vec![]).unwrap();
    Calibration::new(10, 1, 1, vec![point(1, 0.0), point(2, 1.0)]).unwrap();
    for points in [
        vec![point(0, 0.5)],
        vec![point(2, 0.5), point(2, 0.6)],
        vec![point(2, f32::NAN)],
        vec![point(2, 1.5)],
        vec![point(2, -0.1)],
        (1..=17).map(|ef| point(ef, 0.5)).collect(),
    ] {
        Calibration::new(10, 1, 1, points).unwrap_err();
    }
}
