//! The client against a server that behaves, and against one that does everything else.

use super::options::RemoteOptions;
use super::testing::{answer, head, json, Act, TestServer};
use super::{chat, embeddings, rerank, Client, RemoteError};
use pg_rag_protocol::message::{ChatMessage, FailureKind, FinishReason, GenerateParams, ModelKind, Purpose, Role};
use pg_rag_protocol::remote::RemoteServer;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

const KEY: &str = "sk-test-0123456789abcdef";

/// Options of `server`, impatient and without attempts after the first.
fn remote(url: &str) -> RemoteServer {
    RemoteServer { base_url: url.to_owned(), timeout_ms: 1500, max_retries: 0, ..RemoteServer::new("far") }
}

fn client(server: &RemoteServer) -> Client {
    Client::new(server, Arc::new(|| false)).unwrap()
}

fn options(kind: ModelKind, more: &str) -> RemoteOptions {
    RemoteOptions::parse(kind, &format!(r#"{{"model": "m"{more}}}"#)).unwrap()
}

fn embed_with(server: &RemoteServer, more: &str, texts: &[&str]) -> Result<Vec<f32>, RemoteError> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
    let options = options(ModelKind::Embed, more);
    embeddings::embed(&client(server), &options, &texts, Purpose::Passage, Some(2)).map(|vectors| vectors.values)
}

fn embed(server: &RemoteServer) -> Result<Vec<f32>, RemoteError> {
    embed_with(server, "", &["a", "b"])
}

/// What becomes of vectors for two texts when the server does this.
fn embed_fails(acts: Vec<Act>) -> RemoteError {
    let server = TestServer::always(acts);
    let began = Instant::now();
    let error = embed(&remote(&server.url())).expect_err("the server misbehaved");
    assert!(began.elapsed() < Duration::from_secs(4), "{error:?}");
    error
}

const TWO: &str = r#"{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [3, 4]}]}"#;

fn params() -> GenerateParams {
    GenerateParams {
        max_tokens: 16,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repeat_penalty: 1.1,
        seed: 7,
        stop: Vec::new(),
        whole_sentences: false,
        json_schema: None,
    }
}

fn generate_with(
    server: &RemoteServer,
    params: &GenerateParams,
    stream: bool,
) -> Result<(chat::Completion, Vec<String>), RemoteError> {
    let mut pieces = Vec::new();
    let mut take = |piece| pieces.push(piece);
    let piece: Option<&mut dyn FnMut(String)> = if stream { Some(&mut take) } else { None };
    let messages = [ChatMessage { role: Role::User, content: "How?".to_owned() }];
    let options = options(ModelKind::Generate, "");
    let completion = chat::complete(&client(server), &options, &messages, params, piece)?;
    Ok((completion, pieces))
}

fn generate_fails(acts: Vec<Act>, stream: bool) -> RemoteError {
    let server = TestServer::always(acts);
    generate_with(&remote(&server.url()), &params(), stream).expect_err("the server misbehaved")
}

fn told(kind: FailureKind, message: &str) -> (FailureKind, String) {
    (kind, message.to_owned())
}

fn of(error: &RemoteError) -> (FailureKind, String) {
    (error.kind, error.message.clone())
}

#[test]
fn texts_go_in_batches_over_one_connection_with_the_key() {
    let server = TestServer::start(|request, _| {
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        let inputs = body["input"].as_array().unwrap();
        // From the last to the first: their places count.
        let vector = |(index, text): (usize, &serde_json::Value)| serde_json::json!({ "index": index, "embedding": [text.as_str().unwrap().len(), index] });
        let data: Vec<_> = inputs.iter().enumerate().map(vector).rev().collect();
        json(&serde_json::json!({ "data": data, "usage": { "total_tokens": 5 } }).to_string())
    });
    let path = std::env::temp_dir().join(format!("pg_rag-remote-key-{}", std::process::id()));
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let remote = RemoteServer { api_key_file: Some(path.display().to_string()), ..remote(&server.url()) };
    let texts: Vec<String> = ["", "a", "ab", "abc", "\"ä\n"].iter().map(|text| text.to_string()).collect();
    let more =
        r#", "batch": 2, "passage_prefix": "p: ", "dimensions": 2, "send_dimensions": true, "request": {"user": "db"}"#;
    let vectors =
        embeddings::embed(&client(&remote), &options(ModelKind::Embed, more), &texts, Purpose::Passage, Some(2))
            .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(vectors.values, [3.0, 0.0, 4.0, 1.0, 5.0, 0.0, 6.0, 1.0, 7.0, 0.0]);
    assert_eq!(vectors.tokens, 15);
    let received = server.received();
    assert_eq!(received.len(), 3);
    for request in &received {
        assert_eq!(request.line, "POST /v1/embeddings");
        assert_eq!(request.header("authorization"), Some("Bearer sk-test-0123456789abcdef"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("accept-encoding"), None);
    }
    assert_eq!(
        received[2].body,
        r#"{"model":"m","input":["p: \"ä\n"],"dimensions":2,"user":"db"}"#.replace('\n', "\\n")
    );
}

#[test]
fn answers_come_whole_and_in_pieces() {
    let whole = json(
        r#"{"choices": [{"index": 0, "message": {"role": "assistant", "content": "By hand.\u0000"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2}}"#,
    );
    let server = TestServer::always(whole);
    let mut asked = params();
    asked.stop = vec!["END".into()];
    asked.temperature = 0.7;
    let (completion, _) = generate_with(&remote(&server.url()), &asked, false).unwrap();
    assert_eq!((completion.text.as_str(), completion.finish), ("By hand.", FinishReason::EndOfTurn));
    assert_eq!((completion.usage.prompt_tokens, completion.usage.completion_tokens), (3, 2));
    assert_eq!(
        server.received()[0].body,
        r#"{"model":"m","messages":[{"role":"user","content":"How?"}],"max_tokens":16,"temperature":0.7,"seed":7,"stop":["END"]}"#
    );

    // Cut inside of a character, with a comment and an event without an answer.
    let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n: ping\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Größe\"}}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" 7.\"},\"finish_reason\":\"length\"}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";
    let mut acts = vec![head("text/event-stream; charset=utf-8")];
    for piece in stream.as_bytes().chunks(3) {
        acts.push(Act::Send(piece.to_vec()));
    }
    acts.push(Act::Close);
    let server = TestServer::always(acts);
    let (completion, pieces) = generate_with(&remote(&server.url()), &params(), true).unwrap();
    assert_eq!((completion.text.as_str(), completion.finish), ("Größe 7.", FinishReason::Length));
    assert_eq!(pieces, ["Größe", " 7."]);
    assert_eq!((completion.usage.prompt_tokens, completion.usage.completion_tokens), (9, 4));
    assert!(server.received()[0].body.contains(r#""stream":true"#));
    assert_eq!(server.received()[0].header("accept"), Some("text/event-stream"));
}

#[test]
fn a_document_of_a_schema_is_checked() {
    let reply = |content: &str, reason: &str| {
        json(&serde_json::json!({"choices": [{"message": {"content": content}, "finish_reason": reason}]}).to_string())
    };
    let mut asked = params();
    asked.json_schema = Some(r#"{"type": "object", "properties": {"b": {}, "a": {}}}"#.to_owned());
    let server = TestServer::always(reply("{\"b\": 1}", "stop"));
    let (completion, _) = generate_with(&remote(&server.url()), &asked, false).unwrap();
    assert_eq!(completion.text, "{\"b\": 1}");
    let sent = &server.received()[0].body;
    assert!(sent.contains(r#""response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":{"type":"object","properties":{"b":{},"a":{}}}}}"#), "{sent}");
    for (content, reason, kind) in
        [("{\"b\": ", "length", FailureKind::InvalidInput), ("Sure! {}", "stop", FailureKind::RemoteProtocol)]
    {
        let server = TestServer::always(reply(content, reason));
        assert_eq!(generate_with(&remote(&server.url()), &asked, false).unwrap_err().kind, kind);
    }
    asked.json_schema = Some("{".to_owned());
    assert_eq!(generate_with(&remote(&server.url()), &asked, false).unwrap_err().kind, FailureKind::InvalidArgument);
}

#[test]
fn scores_are_asked_for_in_batches() {
    let server = TestServer::start(|request, before| {
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!((&body["query"], &body["documents"]), (&"q".into(), &body["texts"]));
        let count = body["documents"].as_array().unwrap().len();
        let results: Vec<_> = (0..count)
            .map(|index| serde_json::json!({ "index": index, "relevance_score": before * 10 + index }))
            .collect();
        json(&serde_json::json!({ "results": results }).to_string())
    });
    let passages: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let options = options(ModelKind::Rerank, r#", "batch": 2"#);
    let scores = rerank::score(&client(&remote(&server.url())), &options, "q", &passages).unwrap();
    assert_eq!(scores, [0.0, 1.0, 10.0]);
    assert_eq!(server.received()[0].line, "POST /v1/rerank");
}

#[test]
fn bodies_that_are_wrong() {
    use FailureKind::RemoteProtocol;
    let unexpected = |reason: &str| told(RemoteProtocol, &format!("unexpected answer of server \"far\": {reason}"));
    assert_eq!(of(&embed_fails(json("{\"data\": ["))), unexpected("its JSON ends early"));
    assert_eq!(of(&embed_fails(json("nonsense"))), unexpected("it is not JSON (line 1, column 2)"));
    assert_eq!(of(&embed_fails(json("{\"data\": []}"))), unexpected("it has 0 vectors for 2 texts"));
    let nan = TWO.replace("[3, 4]", "[3, NaN]");
    assert!(embed_fails(json(&nan)).message.starts_with("unexpected answer of server \"far\": it is not JSON"));
    let twice = TWO.replace("\"index\": 1", "\"index\": 0");
    assert_eq!(of(&embed_fails(json(&twice))), unexpected("it has two vectors at place 0"));
    let html = answer(200, "Content-Type: text/html\r\n", "<html>login</html>");
    assert_eq!(of(&embed_fails(html)), unexpected("it is text/html, not application/json"));
    assert_eq!(of(&embed_fails(answer(200, "", TWO))), unexpected("it is of no known type, not application/json"));
    assert_eq!(
        of(&embed_fails(answer(200, "Content-Type: nonsense\r\n", TWO))),
        unexpected("it is of no known type, not application/json")
    );
    assert_eq!(of(&embed_fails(answer(204, "", ""))), unexpected("status 204"));
    assert_eq!(
        of(&embed_fails(vec![Act::Send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()), Act::Close])),
        unexpected("it is not HTTP")
    );
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(matches!(
        embed_fails(vec![Act::Send(long.into_bytes()), Act::Close]).kind,
        RemoteProtocol | FailureKind::RemoteLost
    ));
    let two = "{\"choices\": [{\"message\": {\"content\": \"a\"}}, {\"message\": {\"content\": \"b\"}}]}";
    assert_eq!(of(&generate_fails(json(two), false)), unexpected("it has 2 answers, not one"));
    assert_eq!(of(&generate_fails(json("{\"choices\": []}"), false)), unexpected("it has 0 answers, not one"));
}

#[test]
fn bodies_that_do_not_end_or_are_too_large() {
    let endless = vec![head("application/json"), Act::Endless(vec![b' '; 1 << 16], Duration::ZERO)];
    let server = TestServer::always(endless);
    let mut far = remote(&server.url());
    far.max_response_bytes = 1 << 20;
    far.timeout_ms = 20_000;
    let began = Instant::now();
    let error = embed(&far).unwrap_err();
    assert_eq!(error.message, "unexpected answer of server \"far\": it has more than 1048576 bytes");
    assert!(error.hint.unwrap().contains("max_response_bytes"));
    assert!(began.elapsed() < Duration::from_secs(10));

    // A length that nobody believes.
    let huge = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999999\r\n\r\n{".to_vec();
    assert_eq!(embed_fails(vec![Act::Send(huge), Act::Close]).kind, FailureKind::RemoteLost);

    // Single bytes, each in time, and all of them not.
    let slow = vec![head("application/json"), Act::Endless(b" ".to_vec(), Duration::from_millis(20))];
    let error = embed_fails(slow);
    assert_eq!(of(&error), told(FailureKind::RemoteLost, "server \"far\" did not answer within 1500 ms"));
    // Nothing at all, before and after the head.
    let silent = vec![Act::Wait(Duration::from_secs(30))];
    assert_eq!(of(&embed_fails(silent)), told(FailureKind::RemoteLost, "server \"far\" did not answer within 1500 ms"));
    let stuck = vec![head("text/event-stream"), Act::Wait(Duration::from_secs(30))];
    assert_eq!(generate_fails(stuck, true).message, "server \"far\" did not answer within 1500 ms");
    let errors = vec![
        Act::Send(b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n".to_vec()),
        Act::Endless(vec![b'x'; 1 << 16], Duration::ZERO),
    ];
    assert_eq!(
        of(&embed_fails(errors)),
        told(FailureKind::RemoteRefused, "server \"far\" refused the request (status 400)")
    );
}

#[test]
fn streams_that_are_wrong() {
    use FailureKind::{RemoteLost, RemoteProtocol};
    let stream = |events: &str, end: Act| vec![head("text/event-stream"), Act::Send(events.as_bytes().to_vec()), end];
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    for (acts, kind, message) in [
        (stream(piece, Act::Close), RemoteLost, "server \"far\" ended its answer before it was complete"),
        (stream("", Act::Close), RemoteLost, "server \"far\" ended its answer before it was complete"),
        (
            stream("data: {\n\n", Act::Close),
            RemoteProtocol,
            "unexpected answer of server \"far\": in an event, its JSON ends early",
        ),
        (
            stream("data: {}\n\n", Act::Close),
            RemoteProtocol,
            "unexpected answer of server \"far\": in an event, there is no answer",
        ),
        (
            stream("data: \u{7}\n\n", Act::Close),
            RemoteProtocol,
            "unexpected answer of server \"far\": in an event, it is not JSON (line 1, column 1)",
        ),
        (
            stream("data: {\"choices\":[{\"index\":1,\"delta\":{}}]}\n\n", Act::Close),
            RemoteProtocol,
            "unexpected answer of server \"far\": in an event, there is a second answer",
        ),
        (
            stream("data: {\"error\":{\"message\":\"out of\\n memory\"}}\n\n", Act::Close),
            RemoteLost,
            "server \"far\" failed in the middle of its answer",
        ),
        (
            json("{}"),
            RemoteProtocol,
            "unexpected answer of server \"far\": it is application/json, not text/event-stream",
        ),
    ] {
        assert_eq!(of(&generate_fails(acts, true)), told(kind, message));
    }
    let error = generate_fails(stream("data: {\"error\":{\"message\":\"out of\\n memory\"}}\n\n", Act::Close), true);
    assert_eq!(error.detail.as_deref(), Some("The server said: out of memory"));
    let binary = vec![head("text/event-stream"), Act::Send(b"data: \xff\n\n".to_vec()), Act::Close];
    assert_eq!(generate_fails(binary, true).message, "unexpected answer of server \"far\": an event is not UTF-8");
    let line = vec![head("text/event-stream"), Act::Send(vec![b'x'; 2 << 20]), Act::Close];
    assert_eq!(
        generate_fails(line, true).message,
        "unexpected answer of server \"far\": an event has more than 1048576 bytes"
    );
    // What has been sent before a connection breaks has been passed on, and is not asked for again.
    let server = TestServer::always(stream(piece, Act::Reset));
    let mut far = remote(&server.url());
    far.max_retries = 5;
    assert_eq!(generate_with(&far, &params(), true).unwrap_err().kind, RemoteLost);
    assert_eq!(server.received().len(), 1);
}

#[test]
fn redirects_lead_nowhere() {
    let other = TestServer::always(json(TWO));
    for status in [301, 302, 303, 307, 308] {
        let to = format!("Location: {}/embeddings\r\n", other.url());
        let error = embed_fails(answer(status, &to, ""));
        let message = format!(
            "unexpected answer of server \"far\": it answered with a redirect (status {status}), which is not followed"
        );
        assert_eq!(of(&error), (FailureKind::RemoteProtocol, message));
    }
    assert_eq!(other.received().len(), 0, "somebody followed a redirect");
}

#[test]
fn refusals_are_told_without_the_key() {
    let path = std::env::temp_dir().join(format!("pg_rag-remote-refused-{}", std::process::id()));
    std::fs::write(&path, KEY).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = |status: u16| {
        let body = format!(r#"{{"error": {{"message": "no: {KEY}\u001b[2J\nreally"}}}}"#);
        let server = TestServer::always(answer(status, "Content-Type: application/json\r\n", &body));
        let far = RemoteServer { api_key_file: Some(path.display().to_string()), ..remote(&server.url()) };
        let error = embed(&far).unwrap_err();
        let all = format!("{error:?} {error}");
        assert!(!all.contains("0123456789"), "{all}");
        assert!(all.contains("far") && !all.contains(&server.address.to_string()), "{all}");
        error
    };
    assert_eq!(of(&refused(401)), told(FailureKind::RemoteKey, "server \"far\" refused the key (status 401)"));
    assert_eq!(refused(403).detail, None);
    let error = refused(400);
    assert_eq!(of(&error), told(FailureKind::RemoteRefused, "server \"far\" refused the request (status 400)"));
    assert_eq!(error.detail.as_deref(), Some("The server said: no: *** [2J really"));
    assert_eq!(refused(404).kind, FailureKind::RemoteUnknown);
    assert_eq!(refused(429).kind, FailureKind::RemoteBusy);
    assert_eq!(refused(500).kind, FailureKind::RemoteLost);
    for kind in [format!("{KEY}/x"), KEY.to_owned()] {
        let server = TestServer::always(answer(200, &format!("Content-Type: {kind}\r\n"), ""));
        let far = RemoteServer { api_key_file: Some(path.display().to_string()), ..remote(&server.url()) };
        let error = embed(&far).unwrap_err();
        assert!(!error.message.contains(KEY), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = embed_fails(answer(401, "", ""));
    assert_eq!(error.message, "server \"far\" wants a key (status 401)");
}

#[test]
fn what_may_pass_is_tried_again() {
    let start = |first: Vec<Vec<Act>>| {
        TestServer::start(move |_, before| first.get(before).cloned().unwrap_or_else(|| json(TWO)))
    };
    let patient = |server: &TestServer| RemoteServer { max_retries: 3, timeout_ms: 20_000, ..remote(&server.url()) };

    // A server that failed, one that broke the connection, one that did so in the middle of its answer.
    let partly = vec![head("application/json"), Act::Send(b"{\"data\"".to_vec()), Act::Reset];
    let server = start(vec![answer(500, "", ""), vec![Act::Reset], partly]);
    assert_eq!(embed(&patient(&server)).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(server.received().len(), 4);

    // As many times as told.
    let server = TestServer::always(answer(503, "", ""));
    assert_eq!(embed(&RemoteServer { max_retries: 2, ..patient(&server) }).unwrap_err().kind, FailureKind::RemoteLost);
    assert_eq!(server.received().len(), 3);

    // When it is told to.
    let server = start(vec![answer(429, "Retry-After: 1\r\n", "")]);
    assert!(embed(&patient(&server)).is_ok());
    let received = server.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));

    let dates = "Date: Mon, 01 Jan 2035 00:00:00 GMT\r\nRetry-After: Mon, 01 Jan 2035 00:00:01 GMT\r\n";
    let server = start(vec![answer(503, dates, "")]);
    assert!(embed(&patient(&server)).is_ok());
    let received = server.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));

    // Not when that is later than anybody waits.
    for late in ["3600", "18446744073709551615", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let server = start(vec![answer(429, &format!("Retry-After: {late}\r\n"), "")]);
        let began = Instant::now();
        assert_eq!(embed(&patient(&server)).unwrap_err().kind, FailureKind::RemoteBusy);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(server.received().len(), 1);
    }

    // Not when the answer would be the same.
    for status in [400, 401, 404, 413, 422, 501] {
        let server = TestServer::always(answer(status, "", ""));
        assert!(embed(&patient(&server)).is_err());
        assert_eq!(server.received().len(), 1, "{status}");
    }

    // An answer that has begun may have cost something.
    let partly = vec![head("application/json"), Act::Send(b"{".to_vec()), Act::Reset];
    let server = TestServer::always(partly);
    assert!(generate_with(&patient(&server), &params(), false).is_err());
    assert_eq!(server.received().len(), 1);
}

#[test]
fn nobody_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = embed(&remote(&format!("http://{free}"))).unwrap_err();
    assert_eq!(
        of(&error),
        told(FailureKind::RemoteUnreachable, "could not connect to server \"far\": Connection refused")
    );
    let error = embed(&remote("https://pg-rag-test.invalid/v1")).unwrap_err();
    assert_eq!(error.kind, FailureKind::RemoteUnreachable, "{error:?}");
}

#[test]
fn addresses_that_are_not_for_us() {
    for url in [
        "https://169.254.169.254/latest",
        "https://[fe80::1]",
        "https://0.0.0.0",
        "https://2852039166/",
        "https://0xA9FEA9FE",
    ] {
        let error = embed(&remote(url)).unwrap_err();
        assert!(
            matches!(error.kind, FailureKind::RemoteForbidden | FailureKind::RemoteUnreachable),
            "{url}: {error:?}"
        );
    }
    let error = embed(&remote("https://169.254.169.254/latest")).unwrap_err();
    assert_eq!(
        of(&error),
        told(FailureKind::RemoteForbidden, "will not connect to server \"far\": its address is link-local")
    );
    let error = Client::new(&remote("http://10.0.0.1/v1"), Arc::new(|| false)).err().unwrap();
    assert_eq!(error.kind, FailureKind::RemoteForbidden);
}

#[test]
fn tls_that_is_none() {
    let server = TestServer::always(vec![]);
    // The other side waits for a request in plain text and closes when it sees something else.
    let error = embed(&remote(&server.url().replace("http:", "https:"))).unwrap_err();
    assert!(matches!(error.kind, FailureKind::RemoteLost | FailureKind::RemoteUnreachable), "{error:?}");
    // Garbage in the place of a greeting.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let error = embed(&remote(&format!("https://{address}"))).unwrap_err();
    thread.join().unwrap();
    assert_eq!(error.kind, FailureKind::RemoteUnreachable);
    assert!(error.message.starts_with("could not connect to server \"far\": TLS: "), "{error:?}");
}

/// Answers one request over TLS, with the certificate of the test authority.
fn tls_server(body: &'static str) -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
    use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
    use std::io::{Read, Write};
    let file = |name: &str| format!("{}/../../tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let certificate = CertificateDer::from_pem_file(file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        // A client that does not trust the certificate ends the connection.
        let mut request = [0; 4096];
        if stream.read(&mut request).is_ok_and(|count| count > 0) {
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    });
    (address, thread)
}

#[test]
fn certificates_are_checked_against_the_named_authority() {
    let ca_file = format!("{}/../../tests/data/tls/ca.pem", env!("CARGO_MANIFEST_DIR"));
    for host in ["localhost", "127.0.0.1"] {
        let (address, thread) = tls_server(TWO);
        let trusting =
            RemoteServer { ca_file: Some(ca_file.clone()), ..remote(&format!("https://{host}:{}/v1", address.port())) };
        // The head and the body of the request come apart; the test server answers the first.
        assert_eq!(embed(&trusting).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        thread.join().unwrap();
    }
    let (address, thread) = tls_server(TWO);
    let error = embed(&remote(&format!("https://{address}/v1"))).unwrap_err();
    thread.join().unwrap();
    assert_eq!(error.kind, FailureKind::RemoteUnreachable);
    assert!(error.message.contains("TLS: invalid peer certificate"), "{error:?}");
    for (content, reason) in [
        ("", "it holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n", "it is damaged"),
    ] {
        let path = std::env::temp_dir().join(format!("pg_rag-remote-ca-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let server = RemoteServer { ca_file: Some(path.display().to_string()), ..remote("https://127.0.0.1:1") };
        let error = Client::new(&server, Arc::new(|| false)).err().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.message, format!("could not use the certificate file of server \"far\": {reason}"));
    }
}

#[test]
fn a_client_that_goes_away_ends_the_request_at_once() {
    let waits: [Vec<Act>; 3] = [
        vec![Act::Wait(Duration::from_secs(60))],
        vec![head("application/json"), Act::Endless(b" ".to_vec(), Duration::from_millis(5))],
        answer(429, "Retry-After: 50\r\n", ""),
    ];
    for acts in waits {
        let pauses = acts.len() == 1 && matches!(acts[0], Act::Send(_));
        let server = TestServer::always(acts);
        let far = RemoteServer { timeout_ms: 100_000, max_retries: 3, ..remote(&server.url()) };
        let gone = Arc::new(AtomicBool::new(false));
        let flag = gone.clone();
        let client = Client::new(&far, Arc::new(move || flag.load(Ordering::SeqCst))).unwrap();
        let left = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            gone.store(true, Ordering::SeqCst);
            Instant::now()
        });
        let error = client.post("/embeddings", b"{}", true).unwrap_err();
        let ended = Instant::now();
        assert!(ended - left.join().unwrap() < Duration::from_millis(500));
        assert_eq!(error.kind, FailureKind::Cancelled);
        drop(client);
        // The other side sees the end, too.
        for _ in 0..200 {
            if pauses || server.given_up() == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(pauses || server.given_up() == 1);
    }
}
