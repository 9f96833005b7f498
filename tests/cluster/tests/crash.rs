//! A crash in the middle of building an index leaves nothing half-written and no process behind.

use pg_rag_cluster_tests::session::{run_in_background, value, Background};
use pg_rag_cluster_tests::{process, wait_until, Cluster, ClusterOptions, Stop};
use postgres::Client;

/// A cluster with so many documents that indexing them takes much longer than the test looks at it.
fn durable_cluster() -> Cluster {
    let cluster = Cluster::with_extension(ClusterOptions { durable: true, ..Default::default() });
    cluster
        .connect()
        .batch_execute(
            "CREATE TABLE notes (id integer PRIMARY KEY, body text);
             INSERT INTO notes
                 SELECT i, 'Document ' || i || string_agg(' tells that ' || i * j || ' is a number.', '')
                   FROM generate_series(1, 2000) i, generate_series(1, 40) j GROUP BY i",
        )
        .unwrap();
    cluster
}

/// Starts to build an index and waits until chunks have been stored.
fn start_indexing(cluster: &Cluster) -> Background {
    let building = run_in_background(cluster, "SELECT rag_create_index('notes', 'body')");
    let mut observer = cluster.connect();
    wait_until("chunks are stored", || {
        assert!(!building.is_finished(), "the index was built before the test could look at it");
        value(&mut observer, "SELECT coalesce(sum(chunks_done), 0) > 0 FROM rag_index_progress").as_deref() == Some("t")
    });
    building
}

fn index_leaves_no_trace(client: &mut Client) {
    for query in [
        "SELECT count(*) FROM rag.index",
        "SELECT count(*) FROM pg_class WHERE relname LIKE '%notes_rag%'",
        "SELECT count(*) FROM pg_policy",
        "SELECT count(*) FROM rag_index_progress",
    ] {
        assert_eq!(value(client, query).as_deref(), Some("0"), "{query}");
    }
}

fn index_can_be_built(client: &mut Client) {
    client.batch_execute("DELETE FROM notes WHERE id > 20; SELECT rag_create_index('notes', 'body')").unwrap();
    assert_eq!(value(client, "SELECT count(DISTINCT id) FROM notes_rag").as_deref(), Some("20"));
    assert_eq!(value(client, "SELECT embedded FROM rag_refresh('notes_rag')").as_deref(), Some("0"));
}

#[test]
fn immediate_stop_while_indexing_leaves_nothing_half_written() {
    let cluster = durable_cluster();
    let building = start_indexing(&cluster);
    let server = cluster.server_pid();
    cluster.stop(Stop::Immediate);
    assert!(building.join().result.is_err());
    wait_until("the old server is gone", || !process::is_alive(server));
    cluster.start_server();
    let mut client = cluster.connect();
    index_leaves_no_trace(&mut client);
    index_can_be_built(&mut client);
    assert_eq!(cluster.server_pids().len(), 1);
}

#[test]
fn killed_backend_while_indexing_leaves_nothing_half_written() {
    let cluster = durable_cluster();
    let building = start_indexing(&cluster);
    let server = cluster.server_pid();
    // PostgreSQL ends all its processes after this, and starts over.
    process::send_signal("KILL", building.backend);
    assert!(building.join().result.is_err());
    // First this, which is part of the restart: until then, PostgreSQL may still take a connection only to end it.
    wait_until("the old server is gone", || !process::is_alive(server));
    wait_until("PostgreSQL has recovered", || {
        let Ok(mut client) = cluster.try_connect("postgres", "postgres") else { return false };
        client.batch_execute("SELECT 1").is_ok()
    });
    let mut client = cluster.connect();
    index_leaves_no_trace(&mut client);
    index_can_be_built(&mut client);
    assert_eq!(cluster.server_pids().len(), 1);
}

#[test]
fn killed_server_while_indexing_fails_the_call_and_writes_nothing() {
    let cluster = durable_cluster();
    let building = start_indexing(&cluster);
    cluster.kill_server_process();
    assert!(building.join().result.is_err());
    let mut client = cluster.connect();
    index_leaves_no_trace(&mut client);
    index_can_be_built(&mut client);
}
