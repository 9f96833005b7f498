//! Real documents go into a collection and are found again with their pages.

use pg_rag_cluster_tests::session::{execute, rows, value};
use pg_rag_cluster_tests::{Cluster, ClusterOptions};
use postgres::Client;
use std::path::Path;

fn ingest(client: &mut Client, file: &str) -> i64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/documents").join(file);
    let document = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    client.query_one("SELECT rag_ingest('library', $1::bytea, $2)", &[&document, &file]).unwrap().get(0)
}

#[test]
fn documents_are_found_with_their_pages() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    execute(&mut client, "SELECT rag_create_collection('library', filter_columns => '{type}')");
    let files = [
        "libreoffice.pdf",
        "libreoffice.docx",
        "libreoffice.pptx",
        "libreoffice.xlsx",
        "pandoc.epub",
        "pandoc.html",
        "article.md",
    ];
    for (at, file) in files.iter().enumerate() {
        assert_eq!(ingest(&mut client, file), at as i64 + 1, "{file}");
    }
    assert_eq!(ingest(&mut client, "pandoc.epub"), 5);
    assert_eq!(value(&mut client, "SELECT rag_wait('library_rag', '2 min')").as_deref(), Some("t"));
    let unindexed =
        "SELECT string_agg(uri, ', ') FROM library l WHERE NOT EXISTS (SELECT FROM library_rag r WHERE r.id = l.id)";
    assert_eq!(value(&mut client, unindexed), None);
    // Each chunk is the text between its offsets, and lies on pages that the document has.
    let wrong =
        "SELECT count(*) FROM library_rag WHERE substr(content, char_start + 1, char_end - char_start) <> chunk";
    assert_eq!(value(&mut client, wrong).as_deref(), Some("0"));
    let off = "SELECT count(*) FROM library_rag r WHERE page IS NOT NULL AND NOT EXISTS (
                   SELECT FROM jsonb_array_elements(r.pages) p WHERE (p ->> 'page')::integer = r.page) OR page > last_page";
    assert_eq!(value(&mut client, off).as_deref(), Some("0"));
    let paged = "SELECT string_agg(DISTINCT type, ',' ORDER BY type) FROM library_rag WHERE page IS NOT NULL";
    assert_eq!(value(&mut client, paged).as_deref(), Some("epub,pdf,pptx,xlsx"));
    // What stands on a page is found there.
    let found = rows(
        &mut client,
        "SELECT r.id, r.page, r.chunk FROM library_rag r WHERE type = 'pptx' AND page = 2 ORDER BY chunk_seq LIMIT 1",
    );
    let [id, page, chunk] = &found[0][..] else { panic!("three columns expected") };
    let question = chunk.as_deref().unwrap().replace('\'', "''");
    let hit = format!(
        "SELECT source_key ->> 'id' || ' ' || (metadata ->> 'page')
           FROM rag_search('{question}', 'library_rag', where_sql => 'type = $1 ->> ''type''', where_args => '{{\"type\": \"pptx\"}}', k => 1)"
    );
    assert_eq!(value(&mut client, &hit), Some(format!("{} {}", id.as_deref().unwrap(), page.as_deref().unwrap())));
}
