//! What the server does for its clients, and when it ends.

use super::process::*;
use pg_rag_protocol::document::{Bytes, ExtractOptions};
use pg_rag_protocol::message::*;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[test]
fn embeds_alike_alone_and_in_a_batch_and_close_texts_are_close() {
    let mut server = Server::start("embed");
    let mut client = server.connect();
    let long = "A partial index is built over a subset of a table. ".repeat(30);
    let texts =
        ["How do I create a partial index?", "An index over some rows of a table", "The cat sat on the mat", &long, ""];
    let batch = client.embed(&texts, Lane::Bulk);
    assert_eq!(batch.len(), texts.len());
    for (text, vector) in texts.iter().zip(&batch) {
        let single = client.embed(&[text], Lane::Interactive);
        assert!(cosine(&single[0], vector) > 0.99999, "{text}");
    }
    assert!(cosine(&batch[0], &batch[1]) > cosine(&batch[0], &batch[2]) + 0.2);
}

fn extract(document: Vec<u8>, time_limit_ms: u32) -> Request {
    let options = ExtractOptions { kind: None, encoding: None, time_limit_ms };
    Request::Extract { document: Bytes(document), options, caller: ANYBODY }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../tests/data/documents/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn documents_are_read_by_processes_that_end_with_their_requests() {
    let mut server = Server::start("extract");
    let mut client = server.connect();
    for (name, kind, piece) in [
        ("libreoffice.docx", "docx", "Kestrels hover in the wind"),
        ("ghostscript.pdf", "pdf", "Kestrels hover in the wind"),
        ("libreoffice.xlsx", "xlsx", "| Table | 240 |"),
    ] {
        match client.ask(&extract(fixture(name), 0)) {
            Response::Document(document) => {
                assert_eq!(document.kind, kind);
                assert!(document.pages.iter().any(|page| page.text.contains(piece)), "{document:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let failure = |response| match response {
        Response::Failed(failure) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(failure(client.ask(&extract(fixture("encrypted.pdf"), 0))).kind, FailureKind::DocumentUnsupported);
    let cut = fixture("libreoffice.docx")[..4000].to_vec();
    assert_eq!(failure(client.ask(&extract(cut, 0))).kind, FailureKind::InvalidInput);
    assert_eq!(client.status().memory_bytes, 0, "what was taken is given back");
}

/// A PDF with forms of which each draws the next one many times.
fn endless_pdf() -> Vec<u8> {
    let mut pdf = "%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n\
                   2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n\
                   3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R \
                   /Resources << /XObject << /F 4 0 R >> >> >>\nendobj\n"
        .to_owned();
    let content = "/F Do\n".repeat(100);
    for number in 4..14 {
        pdf += &format!(
            "{number} 0 obj\n<< /Type /XObject /Subtype /Form /Resources << /XObject << /F {} 0 R >> >> /Length {} >>\n\
             stream\n{content}\nendstream\nendobj\n",
            number + 1,
            content.len()
        );
    }
    pdf += "trailer\n<< /Root 1 0 R >>\n";
    // Many bytes that are nothing raise the limit that is in proportion to them.
    pdf += &format!("%{}\n", "x".repeat(8 << 20));
    pdf.into_bytes()
}

/// A PDF whose page is in an object stream that unpacks to a gigabyte; the library unpacks it at once.
fn exploding_pdf() -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1024 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    let packed = encoder.finish().unwrap();
    let mut pdf = b"%PDF-1.5\n".to_vec();
    let mut entries = vec![0; 6];
    let add = |pdf: &mut Vec<u8>, number: usize, head: &str, stream: Option<&[u8]>| {
        let place = pdf.len() as u32;
        pdf.extend(format!("{number} 0 obj\n{head}\n").bytes());
        if let Some(stream) = stream {
            pdf.extend(b"stream\n");
            pdf.extend(stream);
            pdf.extend(b"\nendstream\n");
        }
        pdf.extend(b"endobj\n");
        [&[1][..], &place.to_be_bytes(), &[0]].concat()
    };
    entries.extend(add(&mut pdf, 1, "<< /Type /Catalog /Pages 2 0 R >>", None));
    entries.extend(add(&mut pdf, 2, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>", None));
    // Object 3 is the first one in object stream 4.
    entries.extend([2, 0, 0, 0, 4, 0]);
    let head = format!("<< /Type /ObjStm /N 1 /First 10 /Filter /FlateDecode /Length {} >>", packed.len());
    entries.extend(add(&mut pdf, 4, &head, Some(&packed)));
    let table = pdf.len();
    let head = format!("<< /Type /XRef /Size 5 /W [1 4 1] /Root 1 0 R /Length {} >>", entries.len());
    add(&mut pdf, 5, &head, Some(&entries));
    pdf.extend(format!("startxref\n{table}\n%%EOF\n").bytes());
    pdf
}

#[test]
fn a_document_that_explodes_takes_nobody_with_it() {
    let mut server = Server::start("explode");
    let mut client = server.connect();
    match client.ask(&extract(exploding_pdf(), 0)) {
        Response::Failed(failure) => {
            assert_eq!(failure.kind, FailureKind::DocumentLimit, "{failure:?}");
            assert!(failure.message.contains("more memory"), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.status().memory_bytes, 0);
}

#[test]
fn an_endless_document_ends_with_its_time_or_its_client() {
    let mut server = Server::start("endless");
    let mut client = server.connect();
    let started = std::time::Instant::now();
    match client.ask(&extract(endless_pdf(), 300)) {
        Response::Failed(failure) => assert_eq!(failure.kind, FailureKind::DocumentLimit, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    let mut observer = server.connect();
    client.send(&extract(endless_pdf(), 0));
    observer.wait_until(|status| status.memory_bytes > 0);
    drop(client);
    observer.wait_until(|status| status.memory_bytes == 0);
}

#[test]
fn generates_beside_embeddings_with_one_copy_of_each_model() {
    let mut server = Server::start("generate");
    let mut observer = server.connect();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let generations: Vec<_> = (0..3)
            .map(|_| {
                let mut client = server.connect();
                scope.spawn(move || {
                    client.send(&generate("Name three colors.", 24));
                    let mut streamed = String::new();
                    loop {
                        match client.receive() {
                            Response::Token(piece) => streamed.push_str(&piece),
                            Response::Generated { text, usage, .. } => {
                                assert_eq!(text, streamed);
                                assert!(usage.prompt_tokens > 0 && usage.completion_tokens <= 24);
                                return text;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        let mut client = server.connect();
        scope.spawn(move || {
            for _ in 0..5 {
                assert_eq!(client.embed(&["text"; 20], Lane::Bulk).len(), 20);
            }
        });
        generations.into_iter().map(|generation| generation.join().unwrap()).collect()
    });
    assert!(answers[0].contains("Blue"), "{:?}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "greedy output is deterministic: {answers:?}");
    let status = observer.status();
    let names: Vec<&str> = status.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"]);
    assert_eq!((status.models[0].requests, status.models[1].requests), (3, 5));
}

#[test]
fn a_closed_connection_stops_its_generation() {
    let mut server = Server::start("cancel");
    let mut observer = server.connect();
    let mut client = server.connect();
    client.send(&generate("Write a very long story about a database.", 4000));
    assert!(matches!(client.receive(), Response::Token(_)));
    assert_eq!(observer.status().generating, 1);
    drop(client);
    observer.wait_until(|status| status.generating == 0);
}

#[test]
fn a_file_that_is_not_the_registered_one_is_refused() {
    let mut server = Server::start("changed");
    let mut client = server.connect();
    let mut changed = embed_model();
    changed.files[0].sha256 = "00".repeat(32);
    match client.ask(&Request::Load { model: changed }) {
        Response::Failed(failure) => assert_eq!(failure.kind, FailureKind::ModelChanged),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.ask(&Request::Load { model: embed_model() }), Response::Done);
}

#[test]
fn the_process_ends_with_its_supervisor_and_when_retired() {
    let mut server = Server::start("supervisor");
    let mut client = server.connect();
    client.send(&generate("Count to one thousand.", 1000));
    assert!(matches!(client.receive(), Response::Token(_)));
    server.control = None;
    assert!(server.wait().success());

    let mut server = Server::start("retired");
    server.connect().send(&Request::Retire);
    assert!(server.wait().success());
    assert!(!server.folder.join("socket").exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let mut server = Server::start("stale");
    server.connect();
    server.child.kill().unwrap();
    server.wait();
    assert!(server.folder.join("socket").exists());
    let (control, servers_end) = UnixStream::pair().unwrap();
    server.control = Some(control);
    server.child = Command::new(SERVER)
        .args(["serve", "--socket", "socket", "--threads", "1", "--control-fd", "0"])
        .current_dir(&server.folder)
        .stdin(Stdio::from(OwnedFd::from(servers_end)))
        .spawn()
        .unwrap();
    assert_eq!(server.connect().status().threads, 1);
}

#[test]
fn commands_for_people_print_or_explain() {
    let run = |arguments: &[&str]| Command::new(SERVER).args(arguments).output().unwrap();
    let version = run(&["--version"]);
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("pg_rag_server "));
    let inspected = run(&["inspect", "embed", &embed_model().path]);
    let info: ModelInfo = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!((info.dimensions, info.architecture.as_str()), (384, "bert"));
    for wrong in [&["serve"][..], &["serve", "--socket"], &["fetch", "--repo", "a/b"], &["inspect", "x", "y"], &[]] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("usage:"));
    }
    let missing = run(&["inspect", "embed", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(1));
}
