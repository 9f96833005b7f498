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
