//! PDF files that are broken or built to do harm, written object by object.

use crate::hostile_tests::{read, tight};
use crate::DocumentError;

/// Objects of a PDF file with a table of references, and the first as its root.
fn pdf(objects: &[&str]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n{object}\nendobj\n", index + 1).bytes());
    }
    let table = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for place in places {
        bytes.extend(format!("{place:010} 00000 n \n").bytes());
    }
    bytes
        .extend(format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n", objects.len() + 1).bytes());
    bytes
}

fn stream(dictionary: &str, content: &str) -> String {
    format!("<< {dictionary} /Length {} >>\nstream\n{content}\nendstream", content.len())
}

const CATALOG: &str = "<< /Type /Catalog /Pages 2 0 R >>";
const PAGES: &str = "<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 600 800] >>";
const FONT: &str = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>";

/// Forms of which each draws the next one many times.
#[test]
fn forms_in_forms_end_at_a_limit() {
    let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /XObject << /F 6 0 R >> >> >>";
    let form = |next: usize| {
        let resources = format!("/Resources << /XObject << /F {next} 0 R >> /Font << /A 5 0 R >> >>");
        let content = format!("BT /A 10 Tf 50 50 Td (again) Tj ET {}", "/F Do ".repeat(10));
        stream(&format!("/Type /XObject /Subtype /Form {resources}"), &content)
    };
    let content = stream("", "/F Do");
    let forms: Vec<String> = (0..11).map(|index| form(7 + index)).collect();
    let mut objects = vec![CATALOG, PAGES, page, &content, FONT];
    objects.extend(forms.iter().map(String::as_str));
    let error = read(pdf(&objects), &tight()).unwrap_err();
    assert!(
        matches!(
            error,
            DocumentError::UnpackLimit { .. } | DocumentError::TimeLimit { .. } | DocumentError::OutputLimit { .. }
        ),
        "{error}"
    );
    // One that draws itself is drawn once.
    let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /XObject << /F 6 0 R >> >> >>";
    let own = form(6);
    let text = read(pdf(&[CATALOG, PAGES, page, &content, FONT, &own]), &tight()).map(|document| document.text());
    assert!(text.is_ok_and(|text| text.contains("again")));
}

#[test]
fn a_pdf_without_its_table_is_repaired() {
    let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /A 5 0 R >> >> >>";
    let content = stream("", "BT /A 10 Tf 50 700 Td (Still readable.) Tj ET");
    let mut bytes = pdf(&[CATALOG, PAGES, page, &content, FONT]);
    let table = bytes.windows(5).position(|window| window == b"xref\n").unwrap();
    bytes.truncate(table);
    assert_eq!(read(bytes, &tight()).unwrap().text(), "Still readable.\n");
}

#[test]
fn a_page_with_an_image_only_is_empty_and_noticed() {
    let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /XObject << /I 5 0 R >> >> >>";
    let image =
        stream("/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8", "x");
    let document =
        read(pdf(&[CATALOG, PAGES, page, &stream("", "q 100 0 0 100 0 0 cm /I Do Q"), &image]), &tight()).unwrap();
    assert_eq!((document.pages.len(), document.text().as_str()), (1, ""));
    assert_eq!(document.notices, ["Page 1 has images and no text."]);
}

/// What a page says, in a file whose other objects are these.
fn page_with(content: &str, others: &[&str]) -> Vec<u8> {
    let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /A 5 0 R >> >> >>";
    let content = stream("", content);
    let mut objects = vec![CATALOG, PAGES, page, &content];
    objects.extend(others);
    pdf(&objects)
}

#[test]
fn a_tree_of_pages_that_is_a_circle_ends() {
    let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /A 5 0 R >> >> >>";
    let content = stream("", "BT /A 10 Tf 50 700 Td (Once.) Tj ET");
    for pages in [
        // A node that is its own child, twice; two that are each other's; a parent that is its own; a count that lies.
        "<< /Type /Pages /Kids [2 0 R 3 0 R 2 0 R] /Count 3 /MediaBox [0 0 600 800] >>",
        "<< /Type /Pages /Kids [6 0 R 3 0 R] /Count 2 /MediaBox [0 0 600 800] >>",
        "<< /Type /Pages /Kids [3 0 R] /Parent 2 0 R /Count 1 /MediaBox [0 0 600 800] >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 2147483647 /MediaBox [0 0 600 800] >>",
    ] {
        let other = "<< /Type /Pages /Kids [2 0 R 6 0 R] /Count 2 >>";
        let document = read(pdf(&[CATALOG, pages, page, &content, FONT, other]), &tight()).unwrap();
        assert!(document.text().contains("Once.") && document.pages.len() <= 200, "{pages}");
    }
    // Each level has the next one twice: 2^40 pages in a few lines, refused at the limit or read as few.
    let levels: Vec<String> =
        (0..40).map(|level| format!("<< /Type /Pages /Kids [{0} 0 R {0} 0 R] /Count 2 >>", 6 + level)).collect();
    let mut objects =
        vec![CATALOG, "<< /Type /Pages /Kids [6 0 R 6 0 R] /Count 2 /MediaBox [0 0 600 800] >>", page, &content, FONT];
    objects.extend(levels.iter().map(String::as_str).skip(1));
    objects.push(page);
    let _ = read(pdf(&objects), &tight());
}

#[test]
fn references_that_lead_back_to_themselves_end() {
    let circles = [
        // The length of a stream, its filter, the widths and the map of a font are what they are part of.
        ("<< /Length 4 0 R >>\nstream\nBT /A 10 Tf (x) Tj ET\nendstream", FONT),
        ("<< /Length 20 /Filter 4 0 R >>\nstream\nBT /A 10 Tf (x) Tj ET\nendstream", FONT),
        ("<< /Length 20 >>\nstream\nBT /A 10 Tf (x) Tj ET\nendstream", "5 0 R"),
        (
            "<< /Length 20 >>\nstream\nBT /A 10 Tf (x) Tj ET\nendstream",
            "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding 5 0 R /DescendantFonts [5 0 R] /ToUnicode 5 0 R >>",
        ),
        (
            "<< /Length 20 >>\nstream\nBT /A 10 Tf (x) Tj ET\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /X /Widths 5 0 R /Encoding << /BaseEncoding 5 0 R /Differences 5 0 R >> >>",
        ),
    ];
    let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /A 5 0 R >> >> >>";
    for (content, font) in circles {
        let _ = read(pdf(&[CATALOG, PAGES, page, content, font]), &tight());
    }
    // Tables of references that name each other or themselves as the ones before.
    for before in [0usize, 9, 100] {
        let mut bytes = pdf(&[CATALOG, PAGES, page, &stream("", "BT ET"), FONT]);
        let text = String::from_utf8(bytes).unwrap();
        let table = text.rfind("xref\n0").unwrap();
        let previous = if before == 100 { table } else { before };
        bytes = text.replace("/Root 1 0 R", &format!("/Root 1 0 R /Prev {previous} /XRefStm {previous}")).into_bytes();
        let _ = read(bytes, &tight());
    }
}

#[test]
fn maps_and_operators_without_end_are_bounded() {
    let map =
        "/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00000000> <ffffffff> endcodespacerange \
               1 beginbfrange <00000000> <ffffffff> <0041> endbfrange endcmap";
    let font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>";
    let text = "BT /A 10 Tf 50 700 Td (Words) Tj ET";
    let _ = read(page_with(text, &[font, &stream("", map)]), &tight());
    // A font whose codes are all the numbers there are.
    let wide = "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [<< /Type /Font \
                /Subtype /CIDFontType2 /BaseFont /X /W [0 2147483647 500] /DW -1e38 >>] >>";
    let _ = read(page_with(text, &[wide]), &tight());
    let many = |piece: &str| piece.repeat(500_000 / piece.len());
    for content in [
        many("q "),
        many("Q "),
        many("BT "),
        many("/Span << /ActualText (a) >> BDC "),
        many("1e38 0 0 1e38 1e38 1e38 cm "),
        many("1 "),
        many("[ "),
        many("<< /A "),
        many("( "),
        many("BI /W 1 /H 1 ID "),
        format!("BT /A 1e30 Tf 50 700 Td {} ET", many("(x) Tj ")),
        format!("BT /A 0 Tf {} ET", many("(x) Tj 0 0 Td ")),
        format!("BT /A 10 Tf {} ET", many("1 0 0 1 9e99 -9e99 Tm (x) Tj ")),
    ] {
        let _ = read(page_with(&content, &[FONT]), &tight());
    }
}

/// Rows of pixels that a predictor unfolds, with dimensions that no memory has.
#[test]
fn predictors_of_absurd_sizes_are_no_harm() {
    for parameters in [
        "/Predictor 15 /Columns 2147483647 /Colors 32 /BitsPerComponent 16",
        "/Predictor 2 /Columns 0 /Colors 0",
        "/Predictor 15 /Columns -1 /Colors -1 /BitsPerComponent -8",
    ] {
        // Stored without compression: a header of zlib, one block, no checksum.
        let packed = "x\u{1}\u{1}\u{5}\0";
        let content = stream(&format!("/Filter /FlateDecode /DecodeParms << {parameters} >>"), packed);
        let page = "<< /Type /Page /Parent 2 0 R /Contents 4 0 R >>";
        let _ = read(pdf(&[CATALOG, PAGES, page, &content]), &tight());
    }
}
