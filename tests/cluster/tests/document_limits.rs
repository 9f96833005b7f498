//! Documents that are too large, built to do harm, or given up: told so, and nobody else notices.

use pg_rag_cluster_tests::process::private_kib;
use pg_rag_cluster_tests::session::{backend_pid, execute, expect_error, value};
use pg_rag_cluster_tests::{wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use std::time::{Duration, Instant};

/// What the server may have more of than before, in KiB: pieces that its allocator keeps.
const SLACK_KIB: u64 = 48 << 10;

/// Most memory that a process has ever had, in KiB.
fn peak_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a kernel that counts");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

#[test]
fn half_a_gigabyte_is_refused_before_it_is_fetched() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    execute(
        &mut client,
        "SELECT extract_text('to start the server');
         CREATE TABLE files (document bytea, words text);
         ALTER TABLE files ALTER document SET STORAGE EXTENDED;
         INSERT INTO files SELECT convert_to(w, 'SQL_ASCII'), w FROM repeat('x', 500 * 1024 * 1024) w;
         SELECT rag_create_collection('library')",
    );
    let before = private_kib(cluster.server_pid());
    let mut fresh = cluster.connect();
    let pid = backend_pid(&mut fresh);
    for statement in [
        "SELECT extract_text(document) FROM files",
        "SELECT count(*) FROM files, extract_pages(document)",
        "SELECT extract_properties(document) FROM files",
        "SELECT rag_ingest('library', document, 'a') FROM files",
    ] {
        let reported = expect_error(fresh.simple_query(statement), &SqlState::PROGRAM_LIMIT_EXCEEDED);
        assert_eq!(reported.message, "document of 524288000 bytes is larger than the limit of 134217728 bytes");
        assert_eq!(reported.hint, "Split the document.");
    }
    assert!(peak_kib(pid) < 400 << 10, "{} MB for a document that was not read", peak_kib(pid) >> 10);
    // A text is there already when a function is called with it.
    let text = "SELECT rag_ingest('library', words, 'a') FROM files";
    let reported = expect_error(fresh.simple_query(text), &SqlState::PROGRAM_LIMIT_EXCEEDED);
    assert_eq!(reported.message, "document of 524288000 bytes is larger than the limit of 134217728 bytes");
    let after = private_kib(cluster.server_pid());
    assert!(after < before + SLACK_KIB, "the server has grown from {before} to {after} KiB");
}

#[test]
fn what_a_large_document_took_comes_back() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    execute(&mut client, "SELECT extract_text('to start the server')");
    let server = cluster.server_pid();
    let before = private_kib(server);
    let most = "SELECT length(extract_text(convert_to(repeat('many words ', 5 * 1024 * 1024), 'SQL_ASCII')))";
    for _ in 0..3 {
        assert_eq!(value(&mut client, most).as_deref(), Some("57671680"));
    }
    let more = "SELECT length(extract_text(convert_to(repeat('many words ', 7 * 1024 * 1024), 'SQL_ASCII')))";
    let reported = expect_error(client.simple_query(more), &SqlState::PROGRAM_LIMIT_EXCEEDED);
    assert_eq!(reported.message, "document has more text than the limit of 67108864 bytes");
    assert_eq!(value(&mut client, "SELECT memory_bytes FROM rag_server_status").as_deref(), Some("0"));
    wait_until("the memory is given back", || private_kib(server) < before + SLACK_KIB);
    assert_eq!(cluster.server_pid(), server);
}

/// A page of a PDF that says `content`, with more objects.
fn pdf(content: &str, more: &str) -> Vec<u8> {
    format!(
        "%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n\
         3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /XObject << /F 5 0 R >> >> >>\nendobj\n\
         4 0 obj\n<< /Length {} >>\nstream\n{content}\nendstream\nendobj\n{more}trailer\n<< /Root 1 0 R >>\n",
        content.len()
    )
    .into_bytes()
}

/// Objects in objects, deeper than any stack.
#[test]
fn depths_without_a_ground_take_no_server_with_them() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    execute(&mut client, "SELECT extract_text('to start the server')");
    let server = cluster.server_pid();
    let deep = |piece: &str| piece.repeat(4_000_000 / piece.len());
    let documents = [
        pdf("q", &format!("5 0 obj\n{}\nendobj\n", deep("["))),
        pdf("q", &format!("5 0 obj\n{}\nendobj\n", deep("<< /A "))),
        pdf(&deep("["), ""),
        pdf(&deep("<< /A "), ""),
        pdf(&deep("("), ""),
        format!("%PDF-1.4\ntrailer\n<< /Root {} >>\n", deep("<< /A [")).into_bytes(),
        format!("<html>{}", deep("<table><tr><td><ul><li>")).into_bytes(),
        deep("> - > 1. ").into_bytes(),
    ];
    for (at, document) in documents.iter().enumerate() {
        // An error or a text; PostgreSQL's own errors are the extension's only if they are about the document.
        if let Err(failure) = client.query_one("SELECT length(extract_text($1))", &[document]) {
            let code = failure.code().unwrap_or_else(|| panic!("document {at}: {failure}")).code().to_owned();
            assert!(["22000", "0A000", "54000"].contains(&code.as_str()), "document {at}: {failure:?}");
        }
        assert_eq!(cluster.server_pid(), server, "document {at}");
        assert_eq!(value(&mut client, "SELECT extract_text('still there')").as_deref(), Some("still there"));
    }
}

#[test]
fn reading_is_given_up_with_its_statement() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    execute(&mut client, "SELECT extract_text('to start the server')");
    // Forms of which each draws the next one a hundred times, and bytes that raise the limits in proportion to them.
    let forms: String = (5..15)
        .map(|number| {
            let content = "/F Do\n".repeat(100);
            let resources = format!("/Resources << /XObject << /F {} 0 R >> >>", number + 1);
            let length = content.len();
            format!("{number} 0 obj\n<< /Type /XObject /Subtype /Form {resources} /Length {length} >>\nstream\n{content}\nendstream\nendobj\n")
        })
        .collect();
    let document = pdf("/F Do", &format!("{forms}%{}\n", "x".repeat(8 << 20)));
    execute(&mut client, "SET statement_timeout = '500ms'");
    for _ in 0..3 {
        let began = Instant::now();
        let outcome = client.query("SELECT extract_text($1)", &[&document]);
        expect_error(outcome, &SqlState::QUERY_CANCELED);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    execute(&mut client, "SET statement_timeout = 0");
    wait_until("only the server itself is left", || cluster.server_pids().len() == 1);
    let taken = "SELECT memory_bytes FROM rag_server_status";
    wait_until("the memory is given back", || value(&mut client, taken).as_deref() == Some("0"));
}
