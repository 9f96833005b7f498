//! Limits of a whole server: requests by role, memory, and models that nobody uses.

use super::testing::*;
use pg_rag_protocol::message::*;
use std::time::Duration;

fn failure(response: Option<Response>) -> Failure {
    match response {
        Some(Response::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn of_role(request: Request, caller: Caller) -> Request {
    match request {
        Request::Embed { model, texts, purpose, lane, .. } => Request::Embed { model, texts, purpose, lane, caller },
        Request::Generate { model, messages, params, stream, .. } => {
            Request::Generate { model, messages, params, stream, caller }
        }
        other => other,
    }
}

#[test]
fn a_role_beyond_its_limit_is_refused_and_others_are_served() {
    let server = Running::start("roles", 8);
    let limited = Caller { role: 77, max_requests: 1 };
    let mut first = server.client();
    first.send(&of_role(generate_request(100_000, true), limited));
    assert!(matches!(first.receive(), Some(Response::Token(_))));
    let mut second = server.client();
    let request = of_role(embed_request("a", &["x"], Lane::Interactive), limited);
    let refused = failure(Some(second.ask(&request)));
    assert_eq!((refused.kind, refused.message.as_str()), (FailureKind::RoleLimit, "too many requests of this role"));
    assert!(refused.detail.is_some() && refused.hint.is_some());
    let others = second.ask(&embed_request("a", &["x"], Lane::Interactive));
    assert!(matches!(others, Response::Embeddings { .. }), "{others:?}");
    // The end of the first one, here by leaving, makes room.
    drop(first);
    second.wait_until(|status| status.generating == 0);
    let served = second.ask(&request);
    assert!(matches!(served, Response::Embeddings { .. }), "{served:?}");
    // Its own answer is no longer counted when the client has it.
    let again = second.ask(&request);
    assert!(matches!(again, Response::Embeddings { .. }), "{again:?}");
    server.retire();
}

#[test]
fn a_generation_without_memory_waits_for_others_and_fails_alone() {
    // The model takes 42 bytes, a generation one for each token of its prompt of 5 and of its answer.
    let server = Running::start_with("memory", |config| config.max_memory_bytes = Some(42 + 5 + 3000));
    let mut first = server.client();
    first.begin_generation(2_000);
    let mut second = server.client();
    second.send(&generate_request(2_500, true));
    let mut observer = server.client();
    observer.wait_until(|status| status.queued == 1);
    assert_eq!(observer.status().memory_bytes, 42 + 5 + 2_000);
    first.end_generation();
    second.end_generation();
    let refused = failure(Some(observer.ask(&generate_request(3_001, false))));
    assert_eq!(refused.kind, FailureKind::OutOfMemory);
    assert_eq!(refused.message, "a generation of up to 3006 tokens needs 3006 bytes of memory, but only 3005 are left");
    assert_eq!(observer.status().memory_bytes, 42);
    server.retire();
}

#[test]
fn a_model_that_nobody_uses_is_unloaded() {
    let server = Running::start_with("idle", |config| config.idle_unload = Some(Duration::from_millis(200)));
    let mut client = server.client();
    client.ask(&embed_request("a", &["x"], Lane::Interactive));
    assert_eq!(client.status().models.len(), 1);
    client.wait_until(|status| status.models.is_empty() && status.memory_bytes == 0);
    let again = client.ask(&embed_request("a", &["x"], Lane::Interactive));
    assert!(matches!(again, Response::Embeddings { .. }), "{again:?}");
    server.retire();
}
