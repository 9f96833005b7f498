//! Real documents, made by LibreOffice, pandoc, LaTeX and groff (`tests/data/make_documents.py`).

use crate::{extract, Document, DocumentError, Hints, Kind, Limits, Markup};
use std::sync::Arc;

pub fn fixture(name: &str) -> Arc<Vec<u8>> {
    let path = format!("{}/../../tests/data/documents/{name}", env!("CARGO_MANIFEST_DIR"));
    Arc::new(std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
}

fn read(name: &str) -> Document {
    extract(&fixture(name), &Hints::default(), &Limits::default(), &|| false)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn has(document: &Document, pieces: &[&str]) {
    let text = document.text();
    for piece in pieces {
        assert!(text.contains(piece), "\"{piece}\" is not in:\n{text}");
    }
}

/// Headings of all pages: level and title.
fn outline(document: &Document) -> Vec<(u8, &str)> {
    document
        .pages
        .iter()
        .flat_map(|page| &page.headings)
        .map(|heading| (heading.level, heading.title.as_str()))
        .collect()
}

const ARTICLE: [&str; 5] = [
    "Kestrels hover in the wind, which few other birds of prey can do.",
    "an affable officer from Tromsø; his final figures fill a file of five hundred pages.",
    "The file is kept in the archive of the city.",
    "Nobody",
    "says Dr. Łukasz Żółć",
];

#[test]
fn word_documents_of_pandoc_and_libreoffice() {
    for name in ["pandoc.docx", "libreoffice.docx"] {
        let document = read(name);
        assert_eq!((document.kind, document.markup), (Kind::Docx, Markup::Markdown));
        assert_eq!(document.properties.title.as_deref(), Some("The Kestrel Report"), "{name}");
        has(&document, &ARTICLE);
        has(&document, &["[^1]: The file is kept", "hundred pages.[^1]"]);
        has(&document, &["- at the lighthouse,\n- in the old harbour,\n  - near the fish market,\n  - behind the customs house,\n- on the moor."]);
        has(&document, &["1. Count before sunrise.\n2. Count again at noon."]);
        has(
            &document,
            &["| Place | Morning | Noon |\n| --- | --- | --- |\n| Lighthouse | 12 | 7 |\n| Harbour | 3 | 0 |"],
        );
        let outline = outline(&document);
        let expected = [(1, "Introduction"), (2, "Method"), (2, "Results"), (1, "Discussion")];
        assert_eq!(
            outline.into_iter().filter(|(_, title)| *title != "The Kestrel Report").collect::<Vec<_>>(),
            expected,
            "{name}"
        );
        for page in &document.pages {
            for heading in &page.headings {
                let at: String = page.text.chars().skip(heading.char_start).take(40).collect();
                assert!(at.trim_start_matches(['#', ' ']).starts_with(&heading.title), "{name}: {at}");
            }
        }
    }
}

#[test]
fn presentations_have_a_page_for_each_slide() {
    for name in ["pandoc.pptx", "libreoffice.pptx"] {
        let document = read(name);
        assert_eq!(document.kind, Kind::Pptx);
        let names: Vec<_> = document.pages.iter().map(|page| page.name.as_deref().unwrap_or("")).collect();
        assert_eq!(names, ["Slides on Kestrels", "Hovering", "Numbers", "Thanks"], "{name}");
        let slide = &document.pages[1].text;
        assert!(slide.starts_with("# Hovering\n\n- into the wind\n- over the moor\n"), "{name}: {slide}");
        assert!(slide.contains("Say something about the wind."), "{name}: {slide}");
        assert!(
            document.pages[2].text.contains("| Place | Birds |\n| --- | --- |\n| Moor | 41 |"),
            "{name}: {}",
            document.pages[2].text
        );
    }
}

#[test]
fn sheets_show_what_their_cells_show() {
    let document = read("libreoffice.xlsx");
    assert_eq!((document.kind, document.pages.len()), (Kind::Xlsx, 1));
    assert_eq!(
        document.pages[0].text,
        "| Item | Price | Sold on | Share |\n| --- | --- | --- | --- |\n\
         | Lamp & bulb | 19.5 | 2024-02-29 | 12.5% |\n| Table | 240 | 2024-03-01 18:00:00 | 87.5% |\n"
    );
}

#[test]
fn books_come_chapter_by_chapter() {
    let document = read("pandoc.epub");
    assert_eq!(document.kind, Kind::Epub);
    assert_eq!(document.properties.title.as_deref(), Some("The Kestrel Report"));
    assert_eq!(document.properties.author.as_deref(), Some("Ada Example"));
    assert_eq!(document.properties.language.as_deref(), Some("en"));
    has(&document, &ARTICLE);
    has(&document, &["| Place | Morning | Noon |", "- at the lighthouse,", "SELECT place, count(*)\n  FROM birds"]);
    let introduction = document.pages.iter().position(|page| page.name.as_deref() == Some("Introduction")).unwrap();
    assert!(document.pages[introduction + 1..].iter().any(|page| page.name.as_deref() == Some("Discussion")));
}

#[test]
fn pages_of_the_web() {
    let document = read("pandoc.html");
    assert_eq!(document.kind, Kind::Html);
    assert_eq!(document.properties.title.as_deref(), Some("The Kestrel Report"));
    has(&document, &ARTICLE);
    has(&document, &["| Moor | 41 | 38 |"]);
}

#[test]
fn markdown_and_text_stay_as_they_are() {
    let bytes = fixture("article.md");
    let hints = Hints { kind: Some("text/markdown".into()), encoding: None };
    let document = extract(&bytes, &hints, &Limits::default(), &|| false).unwrap();
    assert_eq!(document.text().as_bytes(), bytes.as_slice());
    assert_eq!(outline(&document), [(1, "Introduction"), (2, "Method"), (2, "Results"), (1, "Discussion")]);
    let hints = Hints { kind: Some("txt".into()), encoding: Some("WIN1250".into()) };
    let document = extract(&Arc::new(b"\xa3\xf3d\x9f\0".to_vec()), &hints, &Limits::default(), &|| false).unwrap();
    assert_eq!((document.text().as_str(), document.markup), ("Łódź", Markup::Plain));
}

#[test]
fn text_of_any_declared_encoding_is_text() {
    let text = "\u{7801}\u{4e00}\u{0100}";
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let hints = Hints { kind: None, encoding: Some("UTF-16BE".into()) };
    let document = extract(&Arc::new(bytes), &hints, &Limits::default(), &|| false).unwrap();
    assert_eq!((document.kind, document.text().as_str()), (Kind::Text, text));
}

#[test]
fn pdf_of_libreoffice_and_ghostscript() {
    for name in ["libreoffice.pdf", "ghostscript.pdf"] {
        let document = read(name);
        assert_eq!(document.kind, Kind::Pdf);
        has(&document, &ARTICLE);
        has(&document, &["at the lighthouse,", "Count before sunrise.", "GROUP BY place;", "Moor 41 38"]);
        let outline = outline(&document);
        for title in ["Introduction", "Method", "Results", "Discussion"] {
            assert!(outline.iter().any(|(_, found)| found.ends_with(title)), "{name}: {title} in {outline:?}");
        }
        let level = |title: &str| outline.iter().find(|(_, found)| found.ends_with(title)).map(|(level, _)| *level);
        assert!(level("Introduction") < level("Method"), "{name}: {outline:?}");
    }
}

#[test]
fn pdf_with_two_columns_is_read_column_by_column() {
    let document = read("columns.pdf");
    let text = document.text();
    assert_eq!(outline(&document).iter().filter(|(_, title)| title.ends_with("section")).count(), 2, "{text}");
    // Every officer in the order of the source: no line of one column is mixed with one of the other.
    let mut rest = text.as_str();
    for part in 0..3 {
        for number in 0..8 {
            let officer = format!("The efficient officer {} filed a difficult affidavit", 10 * part + number);
            let at = rest.find(&officer).unwrap_or_else(|| panic!("no \"{officer}\" in order in:\n{text}"));
            rest = &rest[at + officer.len()..];
        }
    }
    // Words that were hyphenated in their lines, and ligatures.
    for word in ["characterization", "internationalization", "notwithstanding", "refrigerators", "affidavit", "flavour"]
    {
        let count = text.matches(word).count();
        assert!(count >= 22, "{word}: {count} of 24 in:\n{text}");
    }
}

#[test]
fn pdf_of_groff_has_fonts_with_encodings_of_their_own() {
    let document = read("groff.pdf");
    has(
        &document,
        &["On Typesetting", "A page by groff, with its own encoding of fonts: “quotes” and efficient ligatures."],
    );
}

#[test]
fn encrypted_pdf_is_read_without_a_password_or_not_at_all() {
    assert_eq!(read("encrypted_empty.pdf").text(), read("groff.pdf").text());
    let error = extract(&fixture("encrypted.pdf"), &Hints::default(), &Limits::default(), &|| false);
    assert_eq!(error, Err(DocumentError::Encrypted));
}

const SCRIPTS: [&str; 7] = [
    "Η γρήγορη αλεπού πηδάει πάνω από τον τεμπέλη σκύλο.",
    "Οι αριθμοί είναι 12, 34 και 56.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Второе предложение стоит в той же строке.",
    "敏捷的棕色狐狸跳过了懒狗。这是第二句话，里面有标点符号。",
    "いろはにほへと ちりぬるを。東京は日本の首都です。",
    "Zażółć gęślą jaźń. Årsmøte på Ærø. Ñandú, çedilha, ğüş, ő and ű; “quotes” – dashes — and an ellipsis…",
    "Η σημείωση αυτή είναι στα ελληνικά.",
];

const TITLES: [&str; 7] = ["Ελληνικά", "Русский", "Подраздел", "العربية", "中文", "日本語", "Latin"];

#[test]
fn scripts_of_the_world_in_every_format() {
    for name in ["scripts.docx", "scripts.epub", "scripts.html", "scripts.pptx", "scripts.pdf"] {
        let document = read(name);
        let text = document.text();
        // A line may end anywhere.
        let unbroken = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for piece in SCRIPTS {
            assert!(unbroken.contains(piece), "{name}: \"{piece}\" is not in:\n{text}");
        }
        assert_eq!(document.properties.title.as_deref(), Some("Многоязычный отчёт"), "{name}");
        if name != "scripts.html" {
            assert_eq!(document.properties.author.as_deref(), Some("Ωμέγα Παπαδοπούλου"), "{name}");
        }
        let titles: Vec<&str> = outline(&document).into_iter().map(|(_, title)| title).collect();
        let titles: Vec<&str> = titles.into_iter().filter(|title| TITLES.contains(title)).collect();
        let expected = TITLES.iter().filter(|title| name != "scripts.pptx" || **title != "Подраздел");
        assert!(titles.iter().eq(expected), "{name}: {titles:?}");
        assert!(unbroken.contains("- πρώτο στοιχείο") && unbroken.contains("- δεύτερο στοιχείο"), "{name}:\n{text}");
        assert!(unbroken.contains("Москва") && unbroken.contains("13 010"), "{name}");
        // From right to left, but for the number.
        let arabic = "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق. بيع منه 250 نسخة.";
        assert!(unbroken.contains(arabic), "{name}:\n{text}");
    }
    let error = extract(&fixture("scripts.odt"), &Hints::default(), &Limits::default(), &|| false).unwrap_err();
    assert_eq!(error.to_string(), "document is an OpenDocument text (ODT), which cannot be read");
}

#[test]
fn every_sentence_is_on_one_page_of_several_and_in_order() {
    let document = read("chapters.pdf");
    assert_eq!(document.pages.len(), 5);
    let outline = outline(&document);
    let chapters: Vec<&str> = outline.iter().filter(|(level, _)| *level == 2).map(|(_, title)| *title).collect();
    assert_eq!(chapters, ["Chapter 1", "Chapter 2", "Chapter 3", "Chapter 4"]);
    let text = document.text().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = text.as_str();
    for chapter in 1..=4 {
        for part in 1..=7 {
            for number in 1..=12 {
                let sentence = format!("Sentence {chapter}.{part}.{number} stands in part {part} of its chapter.");
                let at = rest.find(&sentence).unwrap_or_else(|| panic!("no \"{sentence}\" in order in:\n{text}"));
                rest = &rest[at + sentence.len()..];
            }
        }
    }
    // The numbers at the foot of the pages are gone.
    for page in &document.pages {
        let last = page.text.trim_end().lines().last().unwrap_or_default();
        assert!(last.parse::<u32>().is_err(), "{last}");
    }
}
