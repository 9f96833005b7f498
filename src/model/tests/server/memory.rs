//! How much memory a load takes at its height.

use super::process::*;
use pg_rag_protocol::message::*;

/// What a process takes before it has a model, with the tokenizer and the buffers of a pass.
const BESIDES: u64 = 40 << 20;

#[test]
fn a_load_takes_the_weights_once() {
    let mut server = Server::start("height");
    let mut client = server.connect();
    let before = server.status_bytes("VmHWM");
    assert_eq!(client.ask(&Request::Load { model: embed_model() }), Response::Done);
    client.embed(&["a text"], Lane::Interactive);
    let file = std::fs::metadata(std::path::Path::new(&embed_model().path).join("model.safetensors")).unwrap().len();
    let (height, private) = (server.status_bytes("VmHWM"), server.status_bytes("RssAnon"));
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    eprintln!(
        "file of {:.1} MB: resident {:.1} MB before, {:.1} MB at most, {:.1} MB private now",
        megabytes(file),
        megabytes(before),
        megabytes(height),
        megabytes(private),
    );
    assert!(height < file + BESIDES, "{height} bytes at most for a file of {file}");
}

/// What `rag_model_memory` says.
fn estimate(client: &mut Client, model: ModelRef, context_tokens: Option<u32>) -> ModelMemory {
    match client.ask(&Request::ModelMemory { model, context_tokens, kind: None }) {
        Response::ModelMemory(memory) => memory,
        other => panic!("{other:?}"),
    }
}

/// An estimate and what it is of.
fn expect_near(what: &str, memory: &ModelMemory, before: u64, resident: u64) {
    let (estimate, growth) = (memory.total_bytes as f64, (resident - before) as f64);
    let off = estimate / growth - 1.0;
    eprintln!(
        "{what}: estimated {:.1} MB, taken {:.1} MB, {:+.1} %; {memory:?}",
        estimate / 1e6,
        growth / 1e6,
        100.0 * off
    );
    assert!(off.abs() < 0.15, "{what}: estimated {estimate} bytes, taken {growth}");
}

/// Asks for a continuation of about so many different words that fills a context; the most that is resident meanwhile.
fn resident_while_answering(server: &Server, client: &mut Client, words: u32, first: u32, tokens: u32) -> u64 {
    let text: String = (first..first + words).map(|number| format!("word{} ", number % 10)).collect();
    client.send(&generate(&format!("{first} {text}"), tokens));
    let mut most = 0;
    loop {
        match client.receive() {
            Response::Token(_) => most = most.max(server.status_bytes("VmRSS")),
            Response::Generated { usage, .. } => {
                eprintln!("{} tokens, then {}", usage.prompt_tokens, usage.completion_tokens);
                return most;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_estimate_for_an_embedding_model_is_near_what_it_takes() {
    let mut server = Server::start("embedding");
    let mut client = server.connect();
    let before = server.status_bytes("VmRSS");
    let text = "a rather long text about vacuum, tuples, indexes and tables. ".repeat(60);
    let texts = vec![text.as_str(); 64];
    for _ in 0..3 {
        client.embed(&texts, Lane::Bulk);
    }
    let resident = server.status_bytes("VmRSS");
    expect_near("MiniLM", &estimate(&mut client, embed_model(), None), before, resident);
}

#[test]
fn the_estimate_for_a_generation_model_is_near_what_it_takes() {
    let mut server = Server::start("generation");
    let mut client = server.connect();
    let before = server.status_bytes("VmRSS");
    // Fills the store of beginnings, too.
    for first in 0..4 {
        resident_while_answering(&server, &mut client, 500, first, 2);
    }
    for (context, words) in [(512, 150), (2048, 640)] {
        let resident = resident_while_answering(&server, &mut client, words, 7, 16);
        let memory = estimate(&mut client, generate_model(), Some(context));
        expect_near(&format!("SmolLM2 with {context} tokens"), &memory, before, resident);
    }
}
