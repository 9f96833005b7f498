//! Every way to end a call ends it at once, and the server stops working on it.

use pg_rag_cluster_tests::session::{
    describe, expect_error, generating, load_models, run_in_background, start_long_generation, value,
};
use pg_rag_cluster_tests::{wait_until, Cluster, ClusterOptions, Stop};
use postgres::error::SqlState;
use postgres::Client;
use std::time::{Duration, Instant};

/// The design asks for 100 ms; the test allows for a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(1);

/// The same for the server, which ends its step of computation first. To finish the generation would take much longer.
const SERVER_LIMIT: Duration = Duration::from_secs(5);

fn report(what: &str, from: Instant, to: Instant, limit: Duration) {
    let taken = to.saturating_duration_since(from);
    eprintln!("{what}: {:.1} ms", taken.as_secs_f64() * 1000.0);
    assert!(taken <= limit, "{what} took {taken:?}");
}

fn server_stops_generating(observer: &mut Client) {
    let from = Instant::now();
    wait_until("the server stops generating", || generating(observer) == 0);
    report("server stopped generating", from, Instant::now(), SERVER_LIMIT);
}

fn session_still_works(client: &mut Client) {
    let answer = value(client, "SELECT generate('Say hello.', max_tokens => 4)");
    assert!(answer.is_some_and(|text| !text.is_empty()));
}

#[test]
fn cancel_ends_a_generation() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut observer = cluster.connect();
    let call = start_long_generation(&cluster, &mut observer);
    let from = Instant::now();
    observer.execute("SELECT pg_cancel_backend($1)", &[&call.backend]).unwrap();
    let mut ended = call.join();
    report("pg_cancel_backend", from, ended.at, LIMIT);
    expect_error(ended.result, &SqlState::QUERY_CANCELED);
    server_stops_generating(&mut observer);
    session_still_works(&mut ended.client);
}

#[test]
fn cancel_ends_the_reading_of_a_long_prompt() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut observer = cluster.connect();
    load_models(&mut observer);
    let call = run_in_background(&cluster, "SELECT generate(repeat('The harbour lay quiet. ', 1200), max_tokens => 1)");
    wait_until("the prompt is being read", || generating(&mut observer) == 1);
    let from = Instant::now();
    observer.execute("SELECT pg_cancel_backend($1)", &[&call.backend]).unwrap();
    let ended = call.join();
    report("pg_cancel_backend in a long prompt", from, ended.at, LIMIT);
    expect_error(ended.result, &SqlState::QUERY_CANCELED);
    server_stops_generating(&mut observer);
}

#[test]
fn statement_timeout_ends_a_generation() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    load_models(&mut client);
    client.batch_execute("SET statement_timeout = '500ms'").unwrap();
    let from = Instant::now() + Duration::from_millis(500);
    let result = client.batch_execute(pg_rag_cluster_tests::session::LONG_GENERATION);
    report("statement_timeout", from, Instant::now(), LIMIT);
    expect_error(result, &SqlState::QUERY_CANCELED);
    server_stops_generating(&mut observer);
}

#[test]
fn terminated_backend_stops_its_generation() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut observer = cluster.connect();
    let call = start_long_generation(&cluster, &mut observer);
    let from = Instant::now();
    observer.execute("SELECT pg_terminate_backend($1)", &[&call.backend]).unwrap();
    let ended = call.join();
    report("pg_terminate_backend", from, ended.at, LIMIT);
    // The server ends right after its message, which the client may then not have read.
    match ended.result {
        Err(failure) if failure.is_closed() => {
            assert!(cluster.log().contains("terminating connection due to administrator command"));
        }
        result => drop(expect_error(result, &SqlState::ADMIN_SHUTDOWN)),
    }
    server_stops_generating(&mut observer);
}

#[test]
fn fast_shutdown_does_not_wait_for_a_generation() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut observer = cluster.connect();
    let call = start_long_generation(&cluster, &mut observer);
    let from = Instant::now();
    cluster.stop(Stop::Fast);
    let stopped = Instant::now();
    let ended = call.join();
    report("pg_ctl stop -m fast, for the call", from, ended.at, LIMIT);
    eprintln!("pg_ctl stop -m fast returned: {:.1} ms", (stopped - from).as_secs_f64() * 1000.0);
    assert!(ended.result.is_err());
    assert!(
        !cluster.log().contains("connection to the model server was lost"),
        "the call saw the shutdown of the server"
    );
    assert!(cluster.server_pids().is_empty(), "the model server outlived the cluster");
}

#[test]
fn cursor_closed_early_stops_its_generation() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    load_models(&mut client);
    client
        .batch_execute(
            "BEGIN; DECLARE pieces CURSOR FOR SELECT generate_stream(
                 'Write a very long story about a lighthouse keeper, with many chapters.',
                 max_tokens => 1500, temperature => 1.0, seed => 7)",
        )
        .unwrap();
    let first = value(&mut client, "FETCH 1 FROM pieces");
    assert!(first.is_some_and(|piece| !piece.is_empty()));
    assert_eq!(generating(&mut observer), 1);
    client.batch_execute("CLOSE pieces").unwrap();
    server_stops_generating(&mut observer);
    client.batch_execute("COMMIT").unwrap_or_else(|failure| panic!("{}", describe(&failure)));
    session_still_works(&mut client);
}

#[test]
fn cancel_during_the_first_call_leaves_a_working_session() {
    // The cancel may hit the wait for the server to start, the loading of the model, or the embedding itself.
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut observer = cluster.connect();
    let call = run_in_background(
        &cluster,
        "SELECT embed(array_agg('sentence number ' || i || repeat(' and so on', 100)), 'all-MiniLM-L6-v2')
           FROM generate_series(1, 2000) i",
    );
    wait_until("the call runs", || {
        let query = format!("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = {}", call.backend);
        value(&mut observer, &query).as_deref() == Some("t")
    });
    let from = Instant::now();
    observer.execute("SELECT pg_cancel_backend($1)", &[&call.backend]).unwrap();
    let mut ended = call.join();
    report("pg_cancel_backend of a first call", from, ended.at, LIMIT);
    expect_error(ended.result, &SqlState::QUERY_CANCELED);
    assert_eq!(value(&mut ended.client, "SELECT vector_dims(embed('a text'))").as_deref(), Some("384"));
}
