//! Documents that are broken or built to do harm: each ends with a result or an error, within its limits, and never with a
//! panic.

use crate::document_tests::fixture;
use crate::testing::{zip, zip_of, Packed};
use crate::{extract, Document, DocumentError, Hints, Limits, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FIXTURES: [&str; 14] = [
    "pandoc.docx",
    "libreoffice.docx",
    "pandoc.pptx",
    "libreoffice.xlsx",
    "pandoc.epub",
    "libreoffice.pdf",
    "ghostscript.pdf",
    "encrypted_empty.pdf",
    "groff.pdf",
    "pandoc.html",
    "article.md",
    "locked.docx",
    "scripts.docx",
    "scripts.pdf",
];

/// Small enough that no mutation can make a test slow.
pub fn tight() -> Limits {
    Limits {
        output_bytes: 1 << 20,
        pages: 200,
        unpacked_bytes: 32 << 20,
        time: Duration::from_secs(2),
        ..Limits::default()
    }
}

pub fn read(bytes: Vec<u8>, limits: &Limits) -> Result<Document> {
    let started = Instant::now();
    let result = extract(&Arc::new(bytes), &Hints::default(), limits, &|| false);
    assert!(started.elapsed() < limits.time + Duration::from_secs(3), "{:?}", started.elapsed());
    if let Ok(document) = &result {
        assert!(document.text().len() <= limits.output_bytes + document.pages.len());
        assert!(!document.text().contains('\0'));
    }
    // A panic in the library for PDF is contained, but none is known.
    assert!(!matches!(result, Err(DocumentError::Reader(_))), "the library panicked");
    result
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

#[test]
fn truncated_anywhere() {
    for name in FIXTURES {
        let whole = fixture(name);
        for fiftieth in 0..50 {
            let _ = read(whole[..whole.len() * fiftieth / 50].to_vec(), &tight());
        }
    }
}

#[test]
fn mutated_at_random() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for name in FIXTURES {
        let whole = fixture(name);
        let (mut read_anyway, mut refused) = (0, 0);
        for _ in 0..300 {
            let mut bytes = whole.to_vec();
            for _ in 0..1 + random.below(8) {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = random.below(256) as u8,
                    2 => {
                        let end = (at + random.below(64)).min(bytes.len());
                        bytes.drain(at..end);
                    }
                    _ => {
                        let from = random.below(bytes.len());
                        let end = (from + random.below(64)).min(bytes.len());
                        let piece = bytes[from..end].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
            }
            match read(bytes, &tight()) {
                Ok(_) => read_anyway += 1,
                Err(_) => refused += 1,
            }
        }
        assert_eq!(read_anyway + refused, 300, "{name}");
    }
}

/// The XML inside of an archive is reached by few mutations of its packed bytes: mutated before it is packed.
#[test]
fn mutated_inside_of_archives() {
    let mut random = Random(77);
    let body = "<w:document><w:body><w:p><w:pPr><w:pStyle w:val='a'/><w:numPr><w:ilvl w:val='0'/><w:numId w:val='1'/></w:numPr></w:pPr>\
                <w:r><w:t>text &amp; more</w:t><w:br w:type='page'/></w:r></w:p><w:tbl><w:tr><w:tc><w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc></w:tr></w:tbl>\
                </w:body></w:document>";
    let sheet = "<worksheet><sheetData><row r='1'><c r='A1' t='s'><v>0</v></c><c r='XFD1' s='1'><v>45000.5</v></c></row></sheetData></worksheet>";
    let book = "<workbook><sheets><sheet name='S' r:id='r1'/></sheets></workbook>";
    let relations = "<Relationships><Relationship Id='r1' Type='x/worksheet' Target='sheet.xml'/></Relationships>";
    let mutate = |text: &str, random: &mut Random| {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..random.below(4) {
            let (at, from) = (random.below(bytes.len()), random.below(bytes.len()));
            let piece = bytes[from..(from + random.below(40)).min(bytes.len())].to_vec();
            let end = (at + random.below(10)).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        bytes
    };
    for _ in 0..1500 {
        let document = mutate(body, &mut random);
        let _ = read(zip(&[("word/document.xml", &document)]), &tight());
        let (sheet, book, relations) =
            (mutate(sheet, &mut random), mutate(book, &mut random), mutate(relations, &mut random));
        let files: [(&str, &[u8]); 3] =
            [("xl/workbook.xml", &book), ("xl/_rels/workbook.xml.rels", &relations), ("xl/sheet.xml", &sheet)];
        let _ = read(zip(&files), &tight());
    }
}

#[test]
fn a_zip_bomb_is_refused_before_it_is_unpacked() {
    let mut body = b"<w:document><w:body><w:p><w:r><w:t>".to_vec();
    body.resize(700 << 20, b'a');
    let bytes = zip(&[("word/document.xml", &body)]);
    drop(body);
    assert!(bytes.len() < 1 << 20);
    let started = Instant::now();
    assert!(matches!(read(bytes, &Limits::default()), Err(DocumentError::UnpackLimit { .. })));
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// 10 GB of zeros in 10 MB, behind a directory that tells the truth or claims that they are nothing.
#[test]
fn ten_gigabytes_of_zeros_end_at_the_limit() {
    let packed = Packed::zeros(10 << 30);
    assert!(packed.bytes.len() < 16 << 20, "{}", packed.bytes.len());
    for claimed in [u32::MAX - 1, 0] {
        let bytes = zip_of(&[("word/document.xml", &Packed { plain_bytes: claimed, ..packed.clone() })]);
        let started = Instant::now();
        let error = read(bytes, &tight()).unwrap_err();
        assert_eq!(error, DocumentError::UnpackLimit { limit: tight().unpacked_bytes });
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

/// One packed file that a thousand names share, as in the bombs that overlap.
#[test]
fn files_that_overlap_are_counted_each_time() {
    let slides = 1000;
    let ids: String = (0..slides).map(|slide| format!("<p:sldId r:id='r{slide}'/>")).collect();
    let main = format!("<p:presentation><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>");
    let relations: String = (0..slides)
        .map(|slide| format!("<Relationship Id='r{slide}' Type='x/slide' Target='s{slide}.xml'/>"))
        .collect();
    let relations = format!("<Relationships>{relations}</Relationships>");
    let slide = format!("<p:sld>{}</p:sld>", " ".repeat(1 << 20));
    let names: Vec<String> = (0..slides).map(|slide| format!("ppt/s{slide}.xml")).collect();
    let (main, relations, slide) =
        (Packed::new(main.as_bytes()), Packed::new(relations.as_bytes()), Packed::new(slide.as_bytes()));
    let mut files = vec![("ppt/presentation.xml", &main), ("ppt/_rels/presentation.xml.rels", &relations)];
    files.extend(names.iter().map(|name| (name.as_str(), &slide)));
    let bytes = zip_of(&files);
    assert!(bytes.len() < 200_000, "the slides are not shared: {}", bytes.len());
    let limit = crate::limits::RATIO_FREE_BYTES;
    assert_eq!(read(bytes, &Limits::default()).unwrap_err(), DocumentError::UnpackLimit { limit });
}

#[test]
fn more_files_than_an_archive_may_have_are_refused() {
    let nothing = Packed::new(b"");
    let names: Vec<String> = (0..70_000).map(|number| format!("{number}")).collect();
    let files: Vec<(&str, &Packed)> = names.iter().map(|name| (name.as_str(), &nothing)).collect();
    let error = read(zip_of(&files), &tight()).unwrap_err();
    assert_eq!(error, DocumentError::StructureLimit { what: "files in its archive", limit: 65_535 });
}

#[test]
fn an_archive_in_an_archive_is_not_opened() {
    let inner = zip(&[("word/document.xml", b"<w:document/>")]);
    let outer = zip(&[("inner.docx", &inner)]);
    let error = read(outer, &tight()).unwrap_err();
    assert_eq!(error, DocumentError::Unsupported { found: "a ZIP archive".into() });
}

#[test]
fn xml_that_is_deep_or_full_of_entities_is_refused_or_harmless() {
    let deep = "<w:p>".repeat(1 << 20);
    let error = read(zip(&[("word/document.xml", deep.as_bytes())]), &tight()).unwrap_err();
    assert!(matches!(error, DocumentError::StructureLimit { .. }), "{error}");
    let mut laughs = "<!DOCTYPE d [<!ENTITY a0 'ha'>".to_owned();
    for level in 1..40 {
        laughs += &format!("<!ENTITY a{level} '&a{};&a{};'>", level - 1, level - 1);
    }
    laughs += "]><w:document><w:body><w:p><w:r><w:t>x&a39;y</w:t></w:r></w:p></w:body></w:document>";
    let document = read(zip(&[("word/document.xml", laughs.as_bytes())]), &tight()).unwrap();
    assert_eq!(document.text(), "xy\n");
}

#[test]
fn a_sheet_with_cells_far_apart_stays_small() {
    let mut sheet = "<worksheet><sheetData>".to_owned();
    for row in 1..=2000 {
        sheet += &format!("<row r='{row}'><c r='A{row}'><v>1</v></c><c r='XFD{row}'><v>2</v></c></row>");
    }
    sheet += "</sheetData></worksheet>";
    let files: [(&str, &[u8]); 3] = [
        ("xl/workbook.xml", b"<workbook><sheets><sheet name='S' r:id='r1'/></sheets></workbook>"),
        (
            "xl/_rels/workbook.xml.rels",
            b"<Relationships><Relationship Id='r1' Type='x/worksheet' Target='sheet.xml'/></Relationships>",
        ),
        ("xl/sheet.xml", sheet.as_bytes()),
    ];
    let document = read(zip(&files), &tight()).unwrap();
    assert_eq!(document.pages[0].name.as_deref(), Some("S"));
    assert!(document.text().len() < 40_000);
}

/// Markup of a megabyte that is as deep, as long or as open as can be.
#[test]
fn html_that_never_ends_takes_no_time() {
    let pieces = [
        "<div>",
        "<table><tr><td>",
        "<ul><li>",
        "<blockquote>",
        "<b><i>",
        "<a href='x'>",
        "<!--",
        "<![CDATA[",
        "<p title=\"",
        "&#x41;&amp",
        "<pre><code>",
        "<script>",
        "</div>",
        "<h1>",
        "<",
        "<select><option>",
        "<dl><dt>",
    ];
    for piece in pieces {
        let page = format!("<!DOCTYPE html><html><body>{}", piece.repeat((1 << 20) / piece.len()));
        let started = Instant::now();
        let _ = read(page.into_bytes(), &tight());
        assert!(started.elapsed() < Duration::from_secs(1), "{piece}: {:?}", started.elapsed());
    }
}

#[test]
fn what_is_locked_with_a_password_says_so() {
    for name in ["locked.docx", "locked.pdf"] {
        let error = extract(&fixture(name), &Hints::default(), &Limits::default(), &|| false);
        assert_eq!(error, Err(DocumentError::Encrypted), "{name}");
    }
    let hints = Hints { kind: Some("docx".into()), encoding: None };
    assert_eq!(extract(&fixture("locked.docx"), &hints, &tight(), &|| false), Err(DocumentError::Encrypted));
}

#[test]
fn a_document_of_500_mb_is_refused_by_its_size() {
    let bytes = Arc::new(vec![b'%'; 500 << 20]);
    let limits = Limits { input_bytes: 128 << 20, ..Limits::default() };
    let started = Instant::now();
    let error = extract(&bytes, &Hints::default(), &limits, &|| false).unwrap_err();
    assert_eq!(error, DocumentError::InputLimit { bytes: 500 << 20, limit: limits.input_bytes });
    assert!(started.elapsed() < Duration::from_millis(50), "nothing was looked at");
    assert_eq!(Arc::strong_count(&bytes), 1);
}

#[test]
fn a_cancel_ends_the_work() {
    for name in ["ghostscript.pdf", "pandoc.docx", "pandoc.epub"] {
        let result = extract(&fixture(name), &Hints::default(), &Limits::default(), &|| true);
        assert_eq!(result, Err(DocumentError::Cancelled), "{name}");
    }
}
