//! A standby has the same hnsw index as its primary, byte for byte, and searches it while it is replayed.
//!
//! The standby compares each page that it has replayed with the page that was logged (`wal_consistency_checking`), and
//! ends when they differ.

use pg_rag_cluster_tests::data::{vector_of, Element, Source};
use pg_rag_cluster_tests::hnsw::{
    add_rows, assert_all_found, assert_clean, assert_no_row_twice, assert_uses_index, ids, use_index,
};
use pg_rag_cluster_tests::session::{rows, value};
use pg_rag_cluster_tests::{run, wait_until, Cluster, ClusterOptions};
use postgres::Client;
use std::sync::atomic::{AtomicBool, Ordering};

const DIMENSIONS: usize = 64;

const CONF: &[(&str, &str)] = &[
    ("wal_consistency_checking", "generic"),
    ("autovacuum", "off"),
    // Searches on the standby hold back the vacuum of what they see, and are not cancelled.
    ("hot_standby_feedback", "on"),
    ("max_standby_streaming_delay", "-1"),
];

struct Pair {
    primary: Cluster,
    standby: Cluster,
}

fn start() -> (Pair, Client, Client) {
    let primary = Cluster::with_extension(ClusterOptions { conf: CONF, ..Default::default() });
    let standby = Cluster::standby_of(&primary);
    let mut on_primary = primary.connect();
    let mut on_standby = standby.connect();
    use_index(&mut on_primary);
    use_index(&mut on_standby);
    (Pair { primary, standby }, on_primary, on_standby)
}

fn wait_for_replay(primary: &mut Client, standby: &mut Client) {
    let position = value(primary, "SELECT pg_current_wal_lsn()").expect("a position");
    wait_until("the standby has replayed everything", || {
        value(standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'")).as_deref() == Some("t")
    });
}

/// The same rows in the same order, from both.
fn assert_same(primary: &mut Client, standby: &mut Client, operator: &str, queries: &[String], when: &str) {
    wait_for_replay(primary, standby);
    for query in queries {
        let search = format!("SELECT id, v {operator} '{query}' FROM items ORDER BY v {operator} '{query}' LIMIT 30");
        assert_uses_index(primary, &search);
        let expected = rows(primary, &search);
        assert_eq!(expected.len(), 30);
        assert_eq!(rows(standby, &search), expected, "{when}");
    }
    let everything = format!("SELECT id FROM items ORDER BY v {operator} '{}'", queries[0]);
    let expected = rows(primary, &everything);
    assert_eq!(rows(standby, &everything), expected, "{when}: the whole index");
    for client in [primary, standby] {
        assert_clean(client, "near");
    }
}

/// What happens to an index in its life, compared after each step.
fn live(primary: &mut Client, standby: &mut Client, element: Element, (metric, operator): (&str, &str)) {
    let mut source = Source::new(element, DIMENSIONS, 10, 5);
    let queries = source.values(30);
    let name = element.name();
    let index = format!("CREATE INDEX near ON items USING hnsw (v {name}_{metric}_ops)");
    let mut step = |primary: &mut Client, statement: &str| {
        if !statement.is_empty() {
            primary.batch_execute(statement).unwrap();
        }
        assert_same(primary, standby, operator, &queries, &format!("{name}: {statement}"));
    };
    primary
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS items; CREATE TABLE items (id bigint PRIMARY KEY, v {name}({DIMENSIONS}))"
        ))
        .unwrap();
    add_rows(primary, "items", (0..).zip(source.values(800)));
    step(primary, &index);
    add_rows(primary, "items", (800..).zip(source.values(200)));
    step(primary, "");
    step(primary, "UPDATE items SET v = (SELECT v FROM items o WHERE o.id = items.id - 1) WHERE id % 10 = 1");
    step(primary, "DELETE FROM items WHERE id % 4 = 0");
    step(primary, "VACUUM items");
    add_rows(primary, "items", (1_000..).zip(source.values(200)));
    step(primary, "");
    // From here on, changes without images of whole pages, and images again.
    step(primary, "CHECKPOINT");
    step(primary, "DELETE FROM items WHERE id % 4 = 3");
    step(primary, "VACUUM (INDEX_CLEANUP on) items");
    step(primary, "REINDEX INDEX near");
    primary.batch_execute(&format!("TRUNCATE items; DROP INDEX near; {index}")).unwrap();
    add_rows(primary, "items", (0..).zip(source.values(300)));
    step(primary, "");
}

#[test]
fn standby_finds_the_same_rows_in_the_same_order() {
    let (_pair, mut on_primary, mut on_standby) = start();
    live(&mut on_primary, &mut on_standby, Element::Vector, ("l2", "<->"));
    live(&mut on_primary, &mut on_standby, Element::Halfvec, ("cosine", "<=>"));
    live(&mut on_primary, &mut on_standby, Element::Sparsevec, ("ip", "<#>"));
    live(&mut on_primary, &mut on_standby, Element::Bit, ("hamming", "<~>"));
}

fn table_of_numbers(client: &mut Client) {
    client
        .batch_execute(&format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS}));
             CREATE INDEX near ON items USING hnsw (v vector_l2_ops, id)"
        ))
        .unwrap();
    add_rows(client, "items", (0..600).map(|id| (id, vector_of(id, DIMENSIONS))));
}

#[test]
fn promoted_standby_goes_on_with_the_index() {
    let (pair, mut on_primary, mut on_standby) = start();
    table_of_numbers(&mut on_primary);
    on_primary.batch_execute("DELETE FROM items WHERE id % 3 = 0").unwrap();
    on_primary.batch_execute("VACUUM items").unwrap();
    wait_for_replay(&mut on_primary, &mut on_standby);
    pair.primary.stop(pg_rag_cluster_tests::Stop::Immediate);
    run(pair.standby.client_program("psql").args(["-X", "-q", "-d", "postgres", "-c", "SELECT pg_promote()"]));
    wait_until("the standby is a primary", || {
        value(&mut on_standby, "SELECT pg_is_in_recovery()").as_deref() == Some("f")
    });

    add_rows(&mut on_standby, "items", (600..900).map(|id| (id, vector_of(id, DIMENSIONS))));
    assert_all_found(&mut on_standby, "items", 200);
    on_standby.batch_execute("DELETE FROM items WHERE id % 3 = 1").unwrap();
    on_standby.batch_execute("VACUUM items").unwrap();
    add_rows(&mut on_standby, "items", (900..1_000).map(|id| (id, vector_of(id, DIMENSIONS))));
    assert_all_found(&mut on_standby, "items", 200);
    assert_clean(&mut on_standby, "near");
    pair.standby.stop(pg_rag_cluster_tests::Stop::Immediate);
    pair.standby.start_server();
    let mut client = pair.standby.connect();
    assert_all_found(&mut client, "items", 200);
    assert_clean(&mut client, "near");
}

#[test]
fn searches_on_the_standby_during_replay() {
    let (pair, mut on_primary, mut on_standby) = start();
    table_of_numbers(&mut on_primary);
    wait_for_replay(&mut on_primary, &mut on_standby);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..3)
            .map(|searcher| {
                let (done, mut client) = (&done, pair.standby.connect());
                use_index(&mut client);
                scope.spawn(move || {
                    let mut searches = 0;
                    while !done.load(Ordering::Relaxed) {
                        // Rows below 100 are never touched.
                        let id = (searches * 7 + searcher) % 100;
                        let to = vector_of(id, DIMENSIONS);
                        let query = format!("SELECT id FROM items ORDER BY v <-> '{to}' LIMIT 100");
                        let found = ids(&mut client, &query);
                        assert_eq!(found[0], id);
                        assert_no_row_twice(&found);
                        searches += 1;
                    }
                    searches
                })
            })
            .collect();
        for round in 0..8 {
            let first = 600 + round * 100;
            add_rows(&mut on_primary, "items", (first..first + 100).map(|id| (id, vector_of(id, DIMENSIONS))));
            on_primary.batch_execute(&format!("DELETE FROM items WHERE id >= 100 AND id % 8 = {round}")).unwrap();
            on_primary.batch_execute("VACUUM items").unwrap();
        }
        wait_for_replay(&mut on_primary, &mut on_standby);
        done.store(true, Ordering::Relaxed);
        let searches: i64 = searchers.into_iter().map(|searcher| searcher.join().expect("no search fails")).sum();
        eprintln!("{searches} searches during replay");
    });
    assert_clean(&mut on_standby, "near");
}
