//! Faults that no code can catch: the process ends, its clients see that, and the next process serves.
//!
//! Panics are tested with models made for it, in `server/fault_tests.rs`.

use super::process::*;
use pg_rag_protocol::message::*;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

/// SIGBUS: the mapped file is shorter than it was.
const BUS_ERROR: i32 = 7;

#[test]
fn a_model_file_cut_while_it_is_used_ends_the_process_and_nothing_hangs() {
    let mut server = Server::start("cut");
    let original = generate_model();
    let copy = server.folder.join("copy.gguf");
    std::fs::copy(Path::new(&original.path), &copy).unwrap();
    let files = vec![ModelFile { name: "copy.gguf".into(), sha256: original.files[0].sha256.clone() }];
    let model = ModelRef { path: copy.to_str().unwrap().into(), files, ..original };
    let mut bystander = server.connect();
    let mut client = server.connect();
    assert_eq!(client.ask(&Request::Load { model: model.clone() }), Response::Done);
    let Request::Generate { messages, params, .. } = generate("Write a very long story.", 4000) else { unreachable!() };
    client.send(&Request::Generate { model, messages, params, stream: true, caller: ANYBODY });
    assert!(matches!(client.receive(), Response::Token(_)));
    // Compute threads read the weights of every layer for every token.
    std::fs::File::options().write(true).open(&copy).unwrap().set_len(4096).unwrap();
    while let Some(response) = client.receive_or_end() {
        assert!(matches!(response, Response::Token(_)), "{response:?}");
    }
    assert!(bystander.receive_or_end().is_none(), "the other connection ends too");
    assert_eq!(server.wait().signal(), Some(BUS_ERROR));

    // What the supervisor does then.
    let mut successor = Server::start("cut");
    assert_eq!(successor.connect().embed(&["a text"], Lane::Interactive).len(), 1);
}
