//! Requests for models that run elsewhere, through the server: turns, cancelling, what is not there.

use super::testing::{embed_model, generate_request, Client, Running, ANYBODY};
use crate::remote::testing::{head, json, Act, TestServer};
use pg_rag_protocol::message::*;
use pg_rag_protocol::remote::RemoteServer;
use std::time::{Duration, Instant};

fn far(server: &TestServer) -> RemoteServer {
    RemoteServer { base_url: server.url(), timeout_ms: 60_000, ..RemoteServer::new("far") }
}

fn model(server: &TestServer, kind: ModelKind) -> ModelRef {
    let options = if kind == ModelKind::Embed { r#"{"model": "m", "dimensions": 2}"# } else { r#"{"model": "m"}"# };
    ModelRef {
        kind,
        path: "remote:far".into(),
        files: Vec::new(),
        options_json: options.into(),
        remote: Some(Box::new(far(server))),
        ..embed_model("far model")
    }
}

fn embed(server: &TestServer) -> Request {
    Request::Embed {
        model: model(server, ModelKind::Embed),
        texts: vec!["text".into()],
        purpose: Purpose::Query,
        lane: Lane::Interactive,
        caller: ANYBODY,
    }
}

fn generate(server: &TestServer) -> Request {
    let Request::Generate { messages, params, caller, .. } = generate_request(8, true) else { unreachable!() };
    Request::Generate { model: model(server, ModelKind::Generate), messages, params, stream: true, caller }
}

fn failure(response: Response) -> Failure {
    match response {
        Response::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

const ONE: &str = r#"{"data": [{"index": 0, "embedding": [1, 2]}]}"#;

#[test]
fn a_registration_asks_for_a_vector_only_where_it_must() {
    let running = Running::start("remote-inspect", 8);
    let mut client = running.client();
    let server = TestServer::always(json(ONE));
    let mut inspect = |kind, options_json: &str| {
        client.ask(&Request::InspectRemote {
            kind,
            server: far(&server),
            options_json: options_json.into(),
            caller: ANYBODY,
        })
    };
    let Response::Inspected(info) = inspect(ModelKind::Embed, r#"{"model": "m"}"#) else { panic!() };
    assert_eq!((info.dimensions, info.max_tokens, info.files.len(), info.architecture.as_str()), (2, 512, 0, "remote"));
    let Response::Inspected(info) = inspect(ModelKind::Embed, r#"{"model": "m", "dimensions": 7}"#) else { panic!() };
    assert_eq!(info.dimensions, 7);
    let Response::Inspected(info) = inspect(ModelKind::Generate, r#"{"model": "m", "max_tokens": 99}"#) else {
        panic!()
    };
    assert_eq!((info.dimensions, info.max_tokens), (0, 99));
    assert_eq!(failure(inspect(ModelKind::Generate, "{}")).kind, FailureKind::InvalidArgument);
    assert_eq!(server.received().len(), 1);
    running.retire();
}

#[test]
fn vectors_and_pieces_reach_the_client_and_files_are_not_there() {
    let running = Running::start("remote-answers", 8);
    let mut client = running.client();
    let server = TestServer::always(json(ONE));
    assert_eq!(client.ask(&embed(&server)), Response::Embeddings { dimensions: 2, values: vec![1.0, 2.0], tokens: 0 });
    // The registered length counts, not the answer's.
    let Request::Embed { mut model, texts, purpose, lane, caller } = embed(&server) else { unreachable!() };
    model.options_json = r#"{"model": "m", "dimensions": 3}"#.into();
    let told = failure(client.ask(&Request::Embed { model: model.clone(), texts, purpose, lane, caller }));
    assert_eq!(told.kind, FailureKind::RemoteProtocol);

    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"One\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\" two\"},\"finish_reason\":\"stop\"}]}\n\n";
    let server = TestServer::always(vec![head("text/event-stream"), Act::Send(events.into()), Act::Close]);
    assert_eq!(client.ask(&generate(&server)), Response::Token("One".into()));
    assert_eq!(client.receive(), Some(Response::Token(" two".into())));
    let Some(Response::Generated { text, finish, usage }) = client.receive() else { panic!() };
    assert_eq!((text.as_str(), finish), ("One two", FinishReason::EndOfTurn));
    assert!(usage.prompt_tokens > 0 && usage.completion_tokens == 2, "{usage:?}");

    for request in [
        Request::Load { model: model.clone() },
        Request::Detokenize { model: model.clone(), ids: vec![1] },
        Request::EmbedTokens { model: model.clone(), text: "a".into(), caller: ANYBODY },
        Request::ModelMemory { model: model.clone(), context_tokens: None, kind: None },
        Request::Quantize {
            model: model.clone(),
            name: "q".into(),
            kind: "q8_0".into(),
            waiter: Waiter { pid: 1, database: 1 },
        },
    ] {
        let told = failure(client.ask(&request));
        assert_eq!(told.kind, FailureKind::RemoteModel);
        assert!(told.message.starts_with("model \"far model\" runs elsewhere"), "{told:?}");
    }
    let Response::Tokens(tokens) =
        client.ask(&Request::Tokenize { model, texts: vec!["Hello, world".into()], add_special: false })
    else {
        panic!()
    };
    assert_eq!(tokens[0].ids.len(), 5);
    running.retire();
}

#[test]
fn a_client_that_leaves_closes_the_connection_within_a_second() {
    let running = Running::start("remote-leave", 8);
    for request in [embed as fn(&TestServer) -> Request, generate] {
        let server = TestServer::always(vec![Act::Wait(Duration::from_secs(60))]);
        let mut client = running.client();
        client.send(&request(&server));
        wait_until(|| server.received().len() == 1);
        let began = Instant::now();
        drop(client);
        wait_until(|| server.given_up() == 1);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    running.retire();
}

#[test]
fn a_server_that_does_not_answer_holds_up_neither_others_nor_the_engine() {
    let running = Running::start_with("remote-turns", |config| config.max_queued = 3);
    let stuck = TestServer::always(vec![Act::Wait(Duration::from_secs(60))]);
    let mut clients: Vec<Client> = Vec::new();
    // As many as may run at one address, and those that may wait for it.
    for _ in 0..16 + 3 {
        let mut client = running.client();
        client.send(&embed(&stuck));
        clients.push(client);
    }
    wait_until(|| stuck.received().len() == 16);
    let mut client = running.client();
    client.wait_until(|status| status.queued == 3);
    let told = failure(client.ask(&embed(&stuck)));
    assert_eq!((told.kind, told.message.as_str()), (FailureKind::Overloaded, "too many requests are waiting (3)"));
    // The engine is not concerned.
    client.begin_generation(3);
    client.end_generation();
    // Those that leave make room, and the ones that waited get their turn.
    clients.drain(..4);
    wait_until(|| stuck.received().len() >= 18);
    let other = TestServer::always(json(ONE));
    assert!(matches!(client.ask(&embed(&other)), Response::Embeddings { .. }));
    drop(clients);
    client.wait_until(|status| status.queued == 0);
    running.retire();
}

fn wait_until(holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not come to that");
}
