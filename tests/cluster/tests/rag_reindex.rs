//! An index is built anew while it is read and written, and whatever happens to the worker and the cluster meanwhile.

use pg_rag_cluster_tests::crash::{crash, Crash};
use pg_rag_cluster_tests::session::{execute, rows, value};
use pg_rag_cluster_tests::{process, wait_until, Cluster, ClusterOptions, Stop};
use postgres::Client;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows whose embedding takes some seconds.
const MANY: usize = 500;

fn start(options: ClusterOptions<'_>) -> (Cluster, Client) {
    let cluster = Cluster::with_extension(options);
    let mut client = cluster.connect();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE notes (id integer PRIMARY KEY, title text, body text);
             INSERT INTO notes SELECT i, 'Title ' || i, 'Note ' || i || string_agg(' tells that ' || i * j || ' is a number.', '' ORDER BY j)
                 FROM generate_series(1, {MANY}) i, generate_series(1, 8) j GROUP BY i;
             SELECT rag_create_index('notes', 'body', chunking => '{{\"size\": 120}}')"
        ),
    );
    wait_for(&mut client, "notes_rag");
    (cluster, client)
}

fn wait_for(client: &mut Client, index: &str) {
    assert_eq!(value(client, &format!("SELECT rag_wait('{index}', '3 min')")).as_deref(), Some("t"), "{index}");
}

/// Begins, and waits until some rows are in the new index.
fn begin(client: &mut Client) {
    let new =
        value(client, "SELECT rag_reindex('notes_rag', template => '{title}: {chunk}', chunking => '{\"size\": 60}')");
    assert_eq!(new.as_deref(), Some("notes_rag_new"));
    wait_until("some rows are in the new index", || {
        value(client, "SELECT count(*) > 20 FROM notes_rag_new").as_deref() == Some("t")
    });
}

fn is_done(client: &mut Client) -> bool {
    value(client, "SELECT count(*) FROM rag_indexes WHERE replaces IS NOT NULL").as_deref() == Some("0")
}

/// The index is the new one, complete, and nothing is left of the old one.
fn assert_switched(client: &mut Client) {
    wait_until("the new index has taken over", || is_done(client));
    wait_for(client, "notes_rag");
    wait_until("the old chunks are gone", || {
        value(client, "SELECT count(*) FROM rag.replaced").as_deref() == Some("0")
    });
    let definition = "SELECT template || ' ' || size FROM rag_indexes WHERE index = 'notes_rag'::regclass";
    assert_eq!(value(client, definition).as_deref(), Some("{title}: {chunk} 60"));
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'notes\\_rag\\_chunks%'";
    assert_eq!(value(client, tables).as_deref(), Some("1"));
    execute(
        client,
        "SELECT rag_create_index('notes', 'body', name => 'fresh', template => '{title}: {chunk}', chunking => '{\"size\": 60}', sync => 'manual')",
    );
    let content = |index: &str| format!("SELECT id, chunk_seq, chunk, char_start, char_end, title FROM {index}");
    for (one, other) in [("notes_rag", "fresh"), ("fresh", "notes_rag")] {
        let differing = format!("SELECT count(*) FROM (({}) EXCEPT ALL ({})) d", content(one), content(other));
        assert_eq!(value(client, &differing).as_deref(), Some("0"), "{differing}");
    }
    let apart =
        "SELECT count(*) FROM notes_rag a JOIN fresh b USING (id, chunk_seq) WHERE a.embedding <-> b.embedding > 1e-3";
    assert_eq!(value(client, apart).as_deref(), Some("0"));
    execute(client, "SELECT rag_drop_index('fresh')");
}

#[test]
fn readers_and_writers_do_not_notice() {
    let (cluster, mut client) = start(ClusterOptions::default());
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (cluster, ends) = (&cluster, &ends);
            scope.spawn(move || {
                let mut client = cluster.connect();
                for round in 0.. {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = 1 + (round * 7 + writer) % MANY;
                    execute(&mut client, &format!("UPDATE notes SET body = 'Round {round}' WHERE id = {id}"));
                    execute(&mut client, &format!("DELETE FROM notes WHERE id = {}", 10_000 + writer));
                    execute(
                        &mut client,
                        &format!("INSERT INTO notes VALUES ({}, 'New', 'Number {round}')", 10_000 + writer),
                    );
                    std::thread::sleep(std::time::Duration::from_millis(250));
                }
            });
        }
        let (cluster, ends) = (&cluster, &ends);
        scope.spawn(move || {
            let mut client = cluster.connect();
            while !ends.load(Ordering::Relaxed) {
                let found = rows(&mut client, "SELECT source_key FROM rag_search('a number', 'notes_rag', k => 5)");
                assert_eq!(found.len(), 5);
                assert_ne!(value(&mut client, "SELECT count(*) FROM notes_rag").as_deref(), Some("0"));
            }
        });
        begin(&mut client);
        // The writers go on: the new index catches up with them.
        wait_until("the new index has taken over", || is_done(&mut client));
        ends.store(true, Ordering::Relaxed);
    });
    assert_switched(&mut client);
}

#[test]
fn transactions_that_read_the_old_index_hold_up_nobody_and_find_it_unchanged() {
    let (cluster, mut client) = start(ClusterOptions::default());
    let mut reader = cluster.connect();
    execute(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    let first = rows(&mut reader, "SELECT chunk FROM rag_search('a number', 'notes_rag', k => 3)");
    assert_eq!(first.len(), 3);
    let mut viewer = cluster.connect();
    execute(&mut viewer, "BEGIN");
    execute(&mut viewer, "SELECT count(*) FROM notes_rag");
    begin(&mut client);
    wait_until("nothing waits for the new index", || {
        value(&mut client, "SELECT state FROM rag_index_status WHERE replaces IS NOT NULL").as_deref() == Some("ready")
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!is_done(&mut client), "it must wait for who reads the old view");
    execute(&mut client, "SET statement_timeout = '10 s'");
    assert_eq!(rows(&mut client, "SELECT rank FROM rag_search('a number', 'notes_rag', k => 3)").len(), 3);
    execute(&mut client, "UPDATE notes SET body = 'Meanwhile' WHERE id = 1");
    execute(&mut client, "RESET statement_timeout");
    execute(&mut viewer, "COMMIT");
    wait_until("the new index has taken over", || is_done(&mut client));
    // Its snapshot is from before: it finds the same in what is not the index any more.
    assert_eq!(rows(&mut reader, "SELECT chunk FROM rag_search('a number', 'notes_rag', k => 3)"), first);
    assert_eq!(value(&mut client, "SELECT count(*) FROM rag.replaced").as_deref(), Some("1"));
    execute(&mut reader, "COMMIT");
    assert_switched(&mut client);
}

#[test]
fn crashes_leave_it_to_be_finished() {
    let options = ClusterOptions { preload: true, durable: true, ..Default::default() };
    let (cluster, mut client) = start(options);
    begin(&mut client);
    let [worker] = process::titled_in("pg_rag sync worker", &cluster.data())[..] else { panic!("one worker expected") };
    drop(client);
    crash(&cluster, Crash::KilledBackend(worker));
    let mut client = cluster.connect();
    assert!(!is_done(&mut client));
    assert_eq!(rows(&mut client, "SELECT rank FROM rag_search('a number', 'notes_rag', k => 3)").len(), 3);
    drop(client);
    cluster.stop(Stop::Immediate);
    cluster.start_server();
    let mut client = cluster.connect();
    assert_switched(&mut client);
}

/// A user's own view on the chunk table keeps it, and keeps neither the other one nor the worker.
#[test]
fn chunks_that_somebody_has_built_on_stay() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    for table in ["first", "second"] {
        execute(
            &mut client,
            &format!(
                "CREATE TABLE {table} (id integer PRIMARY KEY, body text);
                 INSERT INTO {table} VALUES (1, 'Bread is made of flour.');
                 SELECT rag_create_index('{table}', 'body')"
            ),
        );
        wait_for(&mut client, &format!("{table}_rag"));
    }
    let chunks = value(&mut client, "SELECT chunks FROM rag_indexes WHERE index = 'first_rag'::regclass").unwrap();
    execute(&mut client, &format!("CREATE VIEW mine AS SELECT chunk FROM {chunks}"));
    execute(
        &mut client,
        "SELECT rag_reindex('first_rag', template => '1: {chunk}'); SELECT rag_reindex('second_rag', template => '2: {chunk}')",
    );
    wait_until("the new indexes have taken over", || is_done(&mut client));
    wait_until("nothing waits to be dropped", || {
        value(&mut client, "SELECT count(*) FROM rag.replaced").as_deref() == Some("0")
    });
    assert_eq!(value(&mut client, "SELECT chunk FROM mine").as_deref(), Some("Bread is made of flour."));
    for (table, left) in [("first", "2"), ("second", "1")] {
        let tables = format!("SELECT count(*) FROM pg_tables WHERE tablename LIKE '{table}\\_rag\\_chunks%'");
        assert_eq!(value(&mut client, &tables).as_deref(), Some(left), "{table}");
    }
}
