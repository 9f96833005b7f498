//! What the server does for its clients, and when it ends.

use super::process::*;
use pg_rag_protocol::message::*;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

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
