//! A whole server in this process, over a real socket, with models that live in memory.

use super::testing::*;
use pg_rag_protocol::document::{Bytes, ExtractOptions};
use pg_rag_protocol::frame;
use pg_rag_protocol::message::*;
use pg_rag_protocol::{build_id, PROTOCOL_VERSION};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

fn vectors(response: Response) -> Vec<f32> {
    match response {
        Response::Embeddings { dimensions: 2, values, .. } => values,
        other => panic!("{other:?}"),
    }
}

fn failure(response: Response) -> Failure {
    match response {
        Response::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_socket_is_private_and_a_stale_one_is_replaced() {
    let server = Running::start("private", 8);
    let mode = std::fs::metadata(server.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.retire();

    let stale = temporary_folder("stale");
    let path = stale.join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(super::listen(&path).is_ok());
    std::fs::remove_dir_all(stale).unwrap();
}

#[test]
fn a_client_of_another_build_is_told_and_the_server_stays() {
    let server = Running::start("mismatch", 8);
    for (protocol, build) in [(PROTOCOL_VERSION, build_id() ^ 1), (PROTOCOL_VERSION + 1, build_id())] {
        let mut client = server.stranger();
        let response = client.ask(&Request::Hello { protocol, build });
        let expected = Response::Mismatch { protocol: PROTOCOL_VERSION, build: build_id(), restarting: false };
        assert_eq!(response, expected);
        assert_eq!(client.receive(), None);
    }
    server.client().status();
    server.retire();
}

#[test]
fn a_server_whose_executable_was_replaced_ends_for_a_client_of_another_build() {
    let server = Running::start("replaced", 8);
    let mut busy = server.client();
    busy.begin_generation(50);
    std::fs::write(server.folder.join("new"), "version 2").unwrap();
    std::fs::rename(server.folder.join("new"), server.folder.join("executable")).unwrap();
    // Clients of its own build do not end it.
    server.client().status();
    let response = server.stranger().ask(&Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() ^ 1 });
    assert!(matches!(response, Response::Mismatch { restarting: true, .. }), "{response:?}");
    busy.end_generation();
    let socket = server.socket();
    server.join();
    assert!(!socket.exists());
}

#[test]
fn an_unreadable_hello_is_a_mismatch_and_another_first_message_ends_the_connection() {
    let server = Running::start("no_hello", 8);
    let mut client = server.stranger();
    client.stream.write_all(&[3, 0, 0, 0, 250, 250, 250]).unwrap();
    assert!(matches!(client.receive(), Some(Response::Mismatch { .. })));
    let mut client = server.stranger();
    client.send(&Request::Status);
    assert_eq!(client.receive(), None);
    let mut client = server.stranger();
    client.stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(client.receive(), None);
    server.retire();
}

#[test]
fn a_client_that_says_nothing_is_disconnected() {
    let server = Running::start("silent", 8);
    let mut silent = server.stranger();
    let mut dripping = server.stranger();
    dripping.stream.write_all(&[1]).unwrap();
    assert_eq!(silent.receive(), None);
    assert_eq!(dripping.receive(), None);
    server.client().wait_until(|status| status.connections == 1);
    server.retire();
}

#[test]
fn malformed_and_oversized_frames_end_only_their_connection() {
    let server = Running::start("malformed", 8);
    let mut other = server.client();
    for bytes in [vec![2, 0, 0, 0, 255, 255], u32::MAX.to_le_bytes().to_vec(), vec![0, 0, 0, 0]] {
        let mut client = server.client();
        client.stream.write_all(&bytes).unwrap();
        assert_eq!(client.receive(), None);
    }
    let mut client = server.client();
    client.send(&Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() });
    assert_eq!(client.receive(), None, "a second hello");
    // A connection is counted until its thread has ended, a moment after its client sees the end.
    other.wait_until(|status| status.connections == 1);
    server.retire();
}

#[test]
fn concurrent_connections_get_their_own_rows_in_order() {
    let server = Running::start("concurrent", 64);
    std::thread::scope(|scope| {
        for number in 0..12 {
            let mut client = server.client();
            scope.spawn(move || {
                let lane = if number % 3 == 0 { Lane::Bulk } else { Lane::Interactive };
                for round in 0..20 {
                    let texts: Vec<String> =
                        (0..=(number * 7 + round) % 40).map(|i| "x".repeat((i * 37 + number) % 300)).collect();
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    let expected: Vec<f32> = texts.iter().flat_map(|text| expected_vector(text)).collect();
                    assert_eq!(vectors(client.ask(&embed_request("m", &texts, lane))), expected);
                }
            });
        }
    });
    let status = server.client().status();
    assert_eq!((status.queued, status.models[0].requests), (0, 240));
    server.retire();
}

#[test]
fn waiting_requests_share_a_forward_pass() {
    let server = Running::start("batching", 64);
    server.probe.close_gate();
    let mut clients: Vec<_> = (0..6).map(|_| server.client()).collect();
    clients[0].send(&embed_request("gated", &["a"], Lane::Interactive));
    let mut observer = server.client();
    observer.wait_until(|status| status.queued == 1);
    for client in &mut clients[1..] {
        client.send(&embed_request("gated", &["b", "cd"], Lane::Interactive));
    }
    observer.wait_until(|status| status.queued == 6);
    server.probe.open_gate();
    for client in &mut clients {
        vectors(client.receive().unwrap());
    }
    let batches = server.probe.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().sum::<usize>(), 11);
    assert!(batches.len() <= 3, "{batches:?}");
    server.retire();
}

#[test]
fn bulk_makes_room_between_two_passes() {
    let server = Running::start("interrupted", 8);
    server.probe.close_gate();
    let (mut bulk, mut interactive, mut observer) = (server.client(), server.client(), server.client());
    let texts: Vec<String> = (0..200).map(|i| "x".repeat(1 + i * 7 % 40)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    bulk.send(&embed_request("gated", &texts, Lane::Bulk));
    observer.wait_until(|status| status.queued == 1);
    interactive.send(&embed_request("gated", &["ab"], Lane::Interactive));
    observer.wait_until(|status| status.queued == 2);
    server.probe.open_gate();
    assert_eq!(vectors(interactive.receive().unwrap()), [195.0, 2.0]);
    let expected: Vec<f32> = texts.iter().flat_map(|text| [120.0 * text.len() as f32, text.len() as f32]).collect();
    assert_eq!(vectors(bulk.receive().unwrap()), expected);
    // Unless the interactive request was there before the engine began.
    let batches = server.probe.batches.lock().unwrap().clone();
    assert!(batches == [1, 1, 199] || batches == [1, 200], "{batches:?}");
    server.retire();
}

#[test]
fn bulk_of_a_slow_model_makes_room_for_other_bulk() {
    let server = Running::start("slow", 8);
    let (mut first, mut second) = (server.client(), server.client());
    let expected: Vec<f32> = (0..300).flat_map(|_| [120.0, 1.0]).collect();
    first.send(&embed_request("slow", &["x"; 300], Lane::Bulk));
    server.client().wait_until(|status| status.queued == 1);
    second.send(&embed_request("slow", &["ab"], Lane::Bulk));
    assert_eq!(vectors(second.receive().unwrap()), [195.0, 2.0]);
    assert_eq!(vectors(first.receive().unwrap()), expected);
    // Unless both were there before the engine began.
    let batches = server.probe.batches.lock().unwrap().clone();
    assert!(batches[0] < 300 && batches.iter().sum::<usize>() == 301, "{batches:?}");
    server.retire();
}

#[test]
fn tokens_are_streamed_in_order_and_add_up_to_the_text() {
    let server = Running::start("streaming", 8);
    let mut client = server.client();
    client.send(&generate_request(100, true));
    let mut streamed = String::new();
    let (text, usage) = loop {
        match client.receive().unwrap() {
            Response::Token(piece) => streamed.push_str(&piece),
            Response::Generated { text, usage, finish: FinishReason::Length } => break (text, usage),
            other => panic!("{other:?}"),
        }
    };
    assert!(text.starts_with("0 1 2 3 ") && text.ends_with("99 ."));
    assert_eq!(streamed, text);
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (5, 100));
    let whole = client.ask(&generate_request(100, false));
    assert!(matches!(whole, Response::Generated { text: again, .. } if again == text));
    assert_eq!(client.status().models[0].tokens, 210);
    server.retire();
}

#[test]
fn closing_the_connection_stops_the_generation() {
    let server = Running::start("cancel", 8);
    let mut observer = server.client();
    let mut client = server.client();
    client.send(&generate_request(u32::MAX, true));
    for _ in 0..3 {
        assert!(matches!(client.receive(), Some(Response::Token(_))));
    }
    assert_eq!(observer.status().generating, 1);
    drop(client);
    observer.wait_until(|status| status.generating == 0 && status.connections == 1);
    let steps = server.probe.steps.load(Ordering::SeqCst);
    // The engine is free again, and nobody steps the old generation.
    vectors(observer.ask(&embed_request("m", &["still here"], Lane::Interactive)));
    assert_eq!(server.probe.steps.load(Ordering::SeqCst), steps);
    server.retire();
}

#[test]
fn a_request_out_of_turn_cancels_the_running_one() {
    let server = Running::start("out_of_turn", 8);
    let mut observer = server.client();
    let mut client = server.client();
    client.send(&generate_request(u32::MAX, false));
    observer.wait_until(|status| status.generating == 1);
    client.send(&Request::Status);
    observer.wait_until(|status| status.generating == 0);
    assert_eq!(client.receive(), None);
    server.retire();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let server = Running::start("not_reading", 8);
    let mut deaf = server.client();
    deaf.send(&generate_request(u32::MAX, true));
    let mut observer = server.client();
    observer.wait_until(|status| status.generating == 1);
    let mut client = server.client();
    assert!(matches!(client.ask(&generate_request(2000, false)), Response::Generated { .. }));
    drop(deaf);
    observer.wait_until(|status| status.generating == 0);
    server.retire();
}

#[test]
fn generations_share_the_engine_and_bulk_progresses_beside_them() {
    let server = Running::start("fairness", 16);
    let mut endless: Vec<_> = (0..super::scheduler::GENERATION_SLOTS).map(|_| server.client()).collect();
    for client in &mut endless {
        client.send(&generate_request(u32::MAX, false));
    }
    let mut observer = server.client();
    observer.wait_until(|status| status.generating as usize == super::scheduler::GENERATION_SLOTS);
    let texts = vec!["some text"; 2000];
    assert_eq!(vectors(observer.ask(&embed_request("m", &texts, Lane::Bulk))).len(), 4000);
    assert_eq!(vectors(observer.ask(&embed_request("m", &texts, Lane::Interactive))).len(), 4000);
    // One more generation waits for a slot and gets one when a client leaves.
    let mut patient = server.client();
    patient.send(&generate_request(3, false));
    observer.wait_until(|status| status.queued == 1);
    endless.pop();
    assert!(matches!(patient.receive(), Some(Response::Generated { .. })));
    drop(endless);
    observer.wait_until(|status| status.generating == 0);
    server.retire();
}

#[test]
fn more_than_the_limit_is_refused_and_the_others_are_served() {
    let server = Running::start("overloaded", 2);
    server.probe.close_gate();
    let mut first = server.client();
    first.send(&embed_request("gated", &["a"], Lane::Interactive));
    let mut observer = server.client();
    observer.wait_until(|status| status.queued == 1);
    let mut second = server.client();
    second.send(&embed_request("gated", &["b"], Lane::Bulk));
    observer.wait_until(|status| status.queued == 2);
    for request in [embed_request("gated", &["c"], Lane::Interactive), generate_request(1, false)] {
        let refused = failure(observer.ask(&request));
        assert_eq!(refused.kind, FailureKind::Overloaded);
        assert!(refused.hint.is_some());
    }
    server.probe.open_gate();
    vectors(first.receive().unwrap());
    vectors(second.receive().unwrap());
    vectors(observer.ask(&embed_request("gated", &["c"], Lane::Interactive)));
    server.retire();
}

#[test]
fn a_text_that_fails_or_panics_fails_only_its_own_request() {
    let server = Running::start("panic", 16);
    for (text, kind) in [("error", FailureKind::InvalidInput), ("panic", FailureKind::Internal)] {
        server.probe.close_gate();
        let mut blocker = server.client();
        blocker.send(&embed_request("gated", &["first"], Lane::Interactive));
        let mut observer = server.client();
        observer.wait_until(|status| status.queued == 1);
        let mut bad = server.client();
        bad.send(&embed_request("gated", &[text, "x"], Lane::Interactive));
        let mut good = server.client();
        good.send(&embed_request("gated", &["y"], Lane::Interactive));
        observer.wait_until(|status| status.queued == 3);
        server.probe.open_gate();
        vectors(blocker.receive().unwrap());
        assert_eq!(failure(bad.receive().unwrap()).kind, kind);
        assert_eq!(vectors(good.receive().unwrap()), expected_vector("y"));
        assert_eq!(vectors(bad.ask(&embed_request("gated", &["z"], Lane::Interactive))), expected_vector("z"));
    }
    server.retire();
}

#[test]
fn models_are_listed_loaded_and_unloaded() {
    let server = Running::start("models", 8);
    let mut client = server.client();
    assert!(client.status().models.is_empty());
    assert_eq!(client.ask(&Request::Load { model: embed_model("a") }), Response::Done);
    assert_eq!(client.ask(&Request::Load { model: generate_model("b") }), Response::Done);
    let status = client.status();
    assert_eq!(status.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(status.models[0].resident_bytes, 42);
    assert!(status.resident_bytes > 0 && status.threads == 1 && status.pid == std::process::id());
    assert_eq!(client.ask(&Request::Unload { name: "a".into() }), Response::Done);
    assert_eq!(client.status().models.len(), 1);
    let missing = failure(client.ask(&Request::Load { model: embed_model("missing") }));
    assert_eq!(missing.kind, FailureKind::ModelMissing);
    server.retire();
}

#[test]
fn light_requests_are_answered_on_the_connection() {
    let server = Running::start("light", 8);
    let mut client = server.client();
    let tokenize = Request::Tokenize { model: embed_model("a"), texts: vec!["ab".into()], add_special: false };
    let expected = TokenizedText { ids: vec![97, 98], starts: vec![0, 1], ends: vec![1, 2] };
    assert_eq!(client.ask(&tokenize), Response::Tokens(vec![expected]));
    let detokenize = Request::Detokenize { model: embed_model("a"), ids: vec![97, 98] };
    assert_eq!(client.ask(&detokenize), Response::Texts(vec!["ab".into()]));
    let messages = vec![ChatMessage { role: Role::User, content: "12345".into() }];
    let count = Request::CountPrompt { model: generate_model("b"), messages: messages.clone() };
    assert_eq!(client.ask(&count), Response::Count(5));
    let count = Request::CountPrompt { model: embed_model("a"), messages };
    assert_eq!(failure(client.ask(&count)).kind, FailureKind::InvalidArgument);
    assert_eq!(vectors(client.ask(&embed_request("a", &[], Lane::Interactive))), Vec::<f32>::new());
    let html = Request::HtmlToMarkdown { html: vec!["<h1>A</h1>".into(), "<p>b".into()] };
    assert_eq!(client.ask(&html), Response::Texts(vec!["# A\n".into(), "b\n".into()]));
    server.retire();
}

#[test]
fn text_is_extracted_and_what_cannot_be_is_told() {
    let server = Running::start("extract", 8);
    let mut client = server.client();
    let extract = |bytes: &[u8], kind: Option<&str>| Request::Extract {
        document: Bytes(bytes.to_vec()),
        options: ExtractOptions { kind: kind.map(str::to_owned), encoding: None, time_limit_ms: 0 },
        caller: Caller { role: 1, max_requests: 1 },
    };
    let Response::Document(document) = client.ask(&extract(b"<html><h1>A</h1><p>b</html>", None)) else {
        panic!("not a document")
    };
    assert_eq!((document.kind.as_str(), document.is_markdown), ("html", true));
    assert_eq!(document.pages[0].text, "# A\n\nb\n");
    assert_eq!(document.pages[0].headings[0].title, "A");
    let refused = failure(client.ask(&extract(b"GIF89a", None)));
    assert_eq!(refused.kind, FailureKind::DocumentUnsupported);
    assert!(refused.hint.is_some_and(|hint| hint.contains("docx")));
    assert_eq!(failure(client.ask(&extract(b"x", Some("tex")))).kind, FailureKind::InvalidArgument);
    let large = vec![b' '; 129 << 20];
    assert_eq!(failure(client.ask(&extract(&large, None))).kind, FailureKind::DocumentLimit);
    server.retire();
}

#[test]
fn retire_lets_others_finish_and_takes_no_new_requests() {
    let server = Running::start("retire", 8);
    let mut busy = server.client();
    let mut idle = server.client();
    busy.begin_generation(500);
    server.client().send(&Request::Retire);
    while server.socket().exists() {
        std::thread::yield_now();
    }
    if let Ok(()) = idle.stream.write_all(&frame::encode(&Request::Status).unwrap()) {
        // The generation may be done by now, and the connection closed with the server.
        if let Some(Response::Failed(refused)) = idle.receive() {
            assert_eq!(refused.kind, FailureKind::Stopping);
        }
    }
    busy.end_generation();
    server.join();
}

#[test]
fn progress_is_seen_by_others_until_it_is_withdrawn_or_its_connection_closes() {
    let server = Running::start("progress", 8);
    let mut observer = server.client();
    let seen = |observer: &mut Client| match observer.ask(&Request::Progress) {
        Response::Progress(reports) => reports.into_iter().map(|report| report.index).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let report = |index: &str| IndexProgress {
        pid: 1,
        database: 2,
        index: index.into(),
        rows_done: 3,
        rows_total: 4,
        chunks_done: 5,
        chunks_embedded: 6,
        elapsed_s: 0.0,
    };
    let mut first = server.client();
    let mut second = server.client();
    assert_eq!(first.ask(&Request::ReportProgress(Some(report("a")))), Response::Done);
    assert_eq!(first.ask(&Request::ReportProgress(Some(report("b")))), Response::Done);
    assert_eq!(second.ask(&Request::ReportProgress(Some(report("c")))), Response::Done);
    assert_eq!(seen(&mut observer), ["b", "c"]);
    assert_eq!(first.ask(&Request::ReportProgress(None)), Response::Done);
    assert_eq!(seen(&mut observer), ["c"]);
    drop(second);
    observer.wait_until(|status| status.connections == 2);
    assert!(seen(&mut observer).is_empty());
    server.retire();
}

#[test]
fn passages_are_scored_in_their_order() {
    let server = Running::start("rerank", 8);
    let mut client = server.client();
    match client.ask(&rerank_request("abc", &["abd", "", "abc", "x"])) {
        Response::Scores { values, tokens } => assert_eq!((values, tokens), (vec![2.0, 0.0, 3.0, 0.0], 4 * 4 + 7)),
        other => panic!("{other:?}"),
    }
    assert_eq!(*server.probe.batches.lock().unwrap(), [4]);
    assert_eq!(client.ask(&rerank_request("abc", &[])), Response::Scores { values: vec![], tokens: 0 });
    let wrong = Request::EmbedTokens { model: generate_model("counter"), text: "x".into(), caller: ANYBODY };
    assert!(matches!(client.ask(&wrong), Response::Failed(failure) if failure.kind == FailureKind::InvalidArgument));
    server.retire();
}

#[test]
fn vectors_of_tokens_come_with_the_tokens() {
    let server = Running::start("token vectors", 8);
    let mut client = server.client();
    match client.ask(&Request::EmbedTokens { model: embed_model("a"), text: "ab".into(), caller: ANYBODY }) {
        Response::TokenEmbeddings { dimensions, values, tokens, spellings } => {
            assert_eq!((dimensions, values, tokens.ids), (1, vec![97.0, 98.0], vec![97, 98]));
            assert_eq!((tokens.starts, tokens.ends, spellings), (vec![0, 1], vec![1, 2], vec!["a".into(), "b".into()]));
        }
        other => panic!("{other:?}"),
    }
    server.retire();
}

#[test]
fn a_forward_pass_ends_when_its_client_leaves() {
    let server = Running::start("abandoned pass", 8);
    let mut first = server.client();
    first.send(&embed_request("a", &["for ever"], Lane::Interactive));
    let mut second = server.client();
    second.wait_until(|status| status.queued == 1);
    drop(first);
    let served = second.ask(&embed_request("a", &["x"], Lane::Interactive));
    assert!(matches!(served, Response::Embeddings { .. }), "{served:?}");
    server.retire();
}
