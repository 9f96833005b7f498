//! Signals: those that a terminal sends to all processes are not for the server; SIGTERM ends it at once.

use super::process::*;
use pg_rag_protocol::message::*;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Sends every one of `signals` to the process, `times` times, a few milliseconds apart.
fn shower(pid: u32, signals: &str, times: usize) -> Child {
    // The shell's own kill: the program of that name is not installed everywhere.
    let script = "for round in $(seq $3); do for signal in $2; do kill -s $signal $1 || exit 1; done; sleep 0.00$((round % 9)); done";
    let arguments = [script, "shower", &pid.to_string(), signals, &times.to_string()].map(str::to_owned);
    Command::new("sh").arg("-c").args(arguments).spawn().unwrap()
}

#[test]
fn hundreds_of_interrupts_change_nothing() {
    let mut server = Server::start("interrupts");
    let mut client = server.connect();
    let question = generate("What is the capital of France?", 24);
    let alone = |client: &mut Client| match client.answer(&question) {
        Response::Generated { text, .. } => (text, client.embed(&["a text", "and another one"], Lane::Bulk)),
        other => panic!("{other:?}"),
    };
    let expected = alone(&mut client);
    let mut shower = shower(server.child.id(), "INT HUP", 400);
    let mut rounds = 0;
    while shower.try_wait().unwrap().is_none() {
        assert_eq!(alone(&mut client), expected);
        assert_eq!(server.connect().embed(&["a text"], Lane::Interactive)[0], expected.1[0]);
        rounds += 1;
    }
    assert!(shower.wait().unwrap().success(), "the server was there for every signal");
    assert!(rounds > 1, "{rounds} rounds");
    assert_eq!(alone(&mut client), expected);
    server.expect_idle();
}

#[test]
fn terminate_ends_the_process_in_the_middle_of_its_work() {
    let mut server = Server::start("terminate");
    let mut client = server.connect();
    client.send(&generate("Write a very long story about a database.", 4000));
    assert!(matches!(client.receive(), Response::Token(_)));
    let from = Instant::now();
    shower(server.child.id(), "TERM", 1).wait().unwrap();
    assert_eq!(server.wait().signal(), Some(15));
    while client.receive_or_end().is_some() {}
    assert!(from.elapsed() < Duration::from_secs(5), "took {:?}", from.elapsed());
}
