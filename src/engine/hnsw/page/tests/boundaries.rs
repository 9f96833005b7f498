//! Layouts at their limits: records that just fit, the README's table of sizes, shapes that are refused.

use super::super::span::{CHUNK_BYTES, MAX_CODE_BYTES};
use super::*;
use crate::test_scale::scaled;

fn fixed(code_bytes: u32, m: u16) -> Layout {
    Layout::new(384, CodeLength::Fixed(code_bytes), m, &[]).unwrap()
}

/// Bytes of index per row in a large index, with 1/(m-1) upper records per row.
fn row_bytes(layout: &Layout) -> f64 {
    let codes = f64::from(layout.codes().span_pages()) / f64::from(layout.codes().per_span());
    let nodes = 1.0 / f64::from(layout.nodes().per_page());
    let uppers = 1.0 / f64::from(layout.uppers().per_page()) / f64::from(layout.m() - 1);
    PAGE_BYTES as f64 * (codes + nodes + uppers)
}

#[test]
fn sizes_per_row_are_those_of_the_readme() {
    // Code bytes; records and pages of a span; bytes per row.
    let table = [
        (128 + 8, 59, 1, 293),
        (384 + 8, 20, 1, 563),
        (768 + 8, 10, 1, 973),
        (1536 + 8, 5, 1, 1792),
        (4096 + 8, 7, 4, 4835),
        (128 * 4, 15, 1, 700),
        (384 * 4, 5, 1, 1792),
        (768 * 4, 5, 2, 3431),
        (1536 * 4, 5, 4, 6707),
        (4096 * 4, 4, 9, 18_586),
        (16_000 * 4, 1, 8, 65_690),
    ];
    for (code_bytes, records, pages, bytes) in table {
        let layout = fixed(code_bytes, 16);
        let found = (layout.codes().per_span(), layout.codes().span_pages(), row_bytes(&layout).round() as u32);
        assert_eq!(found, (records, pages, bytes), "{code_bytes}");
    }
}

#[test]
fn records_of_the_usual_index_have_the_strides_of_the_readme() {
    let layout = fixed(392, 16);
    assert_eq!((layout.nodes().stride_bytes(), layout.nodes().per_page()), (148, 55));
    assert_eq!((layout.uppers().stride_bytes(), layout.uppers().per_page()), (72, 113));
    assert_eq!((layout.tids().stride_bytes(), layout.tids().per_page()), (72, 113));
    let variable = Layout::new(384, CodeLength::Variable { max_bytes: 8000 }, 16, &[]).unwrap();
    assert_eq!((variable.nodes().stride_bytes(), variable.list_offset()), (156, 28));
    assert!(variable.codes_cross_pages() && !layout.codes_cross_pages());
}

#[test]
fn codes_that_just_fit_a_page_and_those_one_byte_longer() {
    // The whole page, and an exact part of it.
    for parts in [1, 2, 4, 8] {
        let exact = (PAYLOAD_BYTES / parts / 4 * 4) as u32;
        let layout = fixed(exact, 16);
        assert_eq!((layout.codes().per_span(), layout.codes().span_pages()), (parts as u32, 1));
        let last = layout.code_address(parts as u32 - 1);
        assert!(last.offset + exact as usize <= SPECIAL_OFFSET && last.page_index == 0);
        assert_eq!(layout.code_address(parts as u32), Address { page_index: 1, offset: PAYLOAD_OFFSET });
    }
    let longer = fixed(PAYLOAD_BYTES as u32 + 1, 16);
    assert!(longer.codes_cross_pages());
    let pieces: Vec<Piece> = longer.code_pieces(0).collect();
    assert_eq!(pieces.iter().map(|piece| piece.length_bytes).collect::<Vec<_>>(), [PAYLOAD_BYTES, 1]);
    assert_eq!((pieces[1].page_index, pieces[1].offset), (1, PAYLOAD_OFFSET));
}

#[test]
fn codes_up_to_an_eighth_of_a_page_never_cross() {
    for code_bytes in (1..=(PAYLOAD_BYTES / 8) as u32).step_by(scaled(1, 17)) {
        assert!(!fixed(code_bytes, 16).codes_cross_pages(), "{code_bytes}");
    }
}

#[test]
fn codes_of_any_length_lie_apart_within_their_span_and_waste_little() {
    let lengths = (1..9000)
        .step_by(scaled(1, 331))
        .chain((9000..MAX_CODE_BYTES as u32).step_by(scaled(997, 9970)))
        .chain([MAX_CODE_BYTES as u32]);
    for code_bytes in lengths {
        let layout = fixed(code_bytes, 16);
        let (records, pages) = (layout.codes().per_span(), layout.codes().span_pages());
        let used = f64::from(records) * f64::from(code_bytes) / (f64::from(pages) * PAYLOAD_BYTES as f64);
        let least = if code_bytes < 64 { 0.2 } else { 0.5 };
        assert!(used <= 1.0 && used >= least, "{code_bytes}: {used}");
        // The end of the last record, and the beginning of the next span.
        let end = layout.code_pieces(records - 1).last().unwrap();
        assert!(end.page_index < pages && end.offset + end.length_bytes <= SPECIAL_OFFSET, "{code_bytes}");
        assert_eq!(layout.code_address(records), Address { page_index: pages, offset: PAYLOAD_OFFSET });
        let mut before = (0, 0);
        for piece in (0..records.min(9)).flat_map(|record| layout.code_pieces(record)) {
            assert!((piece.page_index, piece.offset) >= before, "{code_bytes}");
            before = (piece.page_index, piece.offset + piece.length_bytes);
        }
    }
}

#[test]
fn chunks_go_on_from_page_to_page() {
    let layout = Layout::new(100, CodeLength::Variable { max_bytes: 20_000 }, 16, &[]).unwrap();
    let per_page = layout.codes().per_span();
    assert_eq!(per_page, 127);
    let pieces: Vec<Piece> = layout.chunk_pieces(per_page - 1, 100).collect();
    assert_eq!(pieces.iter().map(|piece| piece.length_bytes).collect::<Vec<_>>(), [CHUNK_BYTES, 100 - CHUNK_BYTES]);
    assert_eq!(pieces.iter().map(|piece| piece.page_index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(layout.chunk_pieces(3, 0).count(), 0);
    assert_eq!([1, 64, 65, 8000].map(Layout::chunks), [1, 1, 2, 125]);
}

#[test]
fn the_highest_ordinals_have_addresses_or_pages_that_no_extent_has() {
    for code_bytes in [1, 392, 4104, MAX_CODE_BYTES as u32] {
        let layout = fixed(code_bytes, 100);
        for ordinal in [NONE - 1, NONE] {
            assert!(layout.nodes().address(ordinal).offset < SPECIAL_OFFSET);
            assert!(layout.uppers().address(ordinal).offset < SPECIAL_OFFSET);
            for piece in layout.code_pieces(ordinal) {
                assert!(piece.offset + piece.length_bytes <= SPECIAL_OFFSET);
            }
        }
    }
    assert_eq!(fixed(MAX_CODE_BYTES as u32, 16).code_address(NONE).page_index, u32::MAX);
}

#[test]
fn keys_of_any_widths_lie_apart_in_their_page() {
    let mut numbers = Numbers::new(11);
    let sets = (0..scaled(400, 4))
        .map(|_| (0..numbers.below(32)).map(|_| keys::KEY_WIDTHS[numbers.below(5) as usize]).collect::<Vec<u8>>());
    for widths in sets.chain([vec![16; 31], vec![1], vec![1; 31]]).collect::<Vec<_>>() {
        let layout = Layout::new(3, CodeLength::Fixed(12), 16, &widths).unwrap();
        let keys = layout.keys();
        let page: Page = [0; PAGE_BYTES];
        let mut end = page.as_ptr() as usize + PAYLOAD_OFFSET;
        let arrays = (0..widths.len()).map(|column| keys.column(&page, column).unwrap());
        for part in arrays.chain((0..widths.len()).map(|column| keys.nulls(&page, column).unwrap())) {
            assert!(part.as_ptr() as usize >= end && !part.is_empty(), "{widths:?}");
            end = part.as_ptr() as usize + part.len();
        }
        assert!(end <= page.as_ptr() as usize + SPECIAL_OFFSET, "{widths:?}");
        for column in 0..widths.len() {
            assert!((keys.column(&page, column).unwrap().as_ptr() as usize - page.as_ptr() as usize).is_multiple_of(8));
        }
        keys.column(&page, widths.len()).unwrap_err();
    }
}

#[test]
fn shapes_without_a_layout_are_refused() {
    let refused = |dimensions, code_length, m, keys: &[u8]| Layout::new(dimensions, code_length, m, keys).unwrap_err();
    let code = CodeLength::Fixed(392);
    assert!(matches!(refused(0, code, 16, &[]), LayoutError::Dimensions { .. }));
    assert!(matches!(refused(1_000_000_001, code, 16, &[]), LayoutError::Dimensions { .. }));
    assert!(matches!(refused(384, code, 1, &[]), LayoutError::M { found: 1, .. }));
    assert!(matches!(refused(384, code, 101, &[]), LayoutError::M { found: 101, .. }));
    assert!(matches!(refused(384, CodeLength::Fixed(0), 16, &[]), LayoutError::CodeBytes { found: 0, .. }));
    let too_long = MAX_CODE_BYTES as u32 + 1;
    assert!(matches!(refused(384, CodeLength::Fixed(too_long), 16, &[]), LayoutError::CodeBytes { .. }));
    let variable = CodeLength::Variable { max_bytes: too_long };
    assert!(matches!(refused(384, variable, 16, &[]), LayoutError::CodeBytes { .. }));
    assert_eq!(refused(384, code, 16, &[4, 3]), LayoutError::KeyBytes(3));
    assert!(matches!(refused(384, code, 16, &[4; 32]), LayoutError::FilterColumns { found: 32, .. }));
}

#[test]
fn limits_of_dimensions_are_those_of_the_element_type() {
    for (element, limit) in [
        (ElementType::Vector, 16_000),
        (ElementType::Halfvec, 16_000),
        (ElementType::Sparsevec, 1_000_000_000),
        (ElementType::Bit, 64_000),
    ] {
        let with = |dimensions| Identity { element, dimensions, ..identity(CodeLength::Fixed(8), 16, &[]) };
        with(limit).layout().unwrap();
        let found = limit + 1;
        assert_eq!(with(found).layout(), Err(LayoutError::Dimensions { found, limit }.into()));
    }
}
