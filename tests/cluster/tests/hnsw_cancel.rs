//! Whatever works on an hnsw index ends when it is told to, and the index stays sound.

use pg_rag_cluster_tests::data::vector_of;
use pg_rag_cluster_tests::hnsw::{add_rows, assert_all_found, assert_clean, lost_rows, use_index};
use pg_rag_cluster_tests::session::{execute, expect_error, rows, run_in_background_of, value, Background};
use pg_rag_cluster_tests::{process, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::time::{Duration, Instant};

/// How long a statement may take to end. Unhindered, each would take longer on the machines that run the tests, but
/// what shows that it was ended is its error.
const LIMIT: Duration = Duration::from_secs(10);

/// Processor time of a backend, in clock ticks, after which it is deep in its work.
const AT_WORK: u64 = 25;

const DIMENSIONS: usize = 64;

/// A statement that makes a table `name` of many rows, without an index, fast.
fn many_rows(name: &str, rows: usize) -> String {
    format!(
        "CREATE TABLE {name} (id bigint PRIMARY KEY, v vector({DIMENSIONS}));
         INSERT INTO {name} SELECT g, (SELECT array_agg(random()) FROM generate_series(1 + g * 0, {DIMENSIONS}))::vector
           FROM generate_series(1, {rows}) g"
    )
}

/// A cluster with the table `items` of few rows, whose only index is `near`.
fn start() -> (Cluster, Client) {
    let cluster = Cluster::with_extension(ClusterOptions { conf: &[("autovacuum", "off")], ..Default::default() });
    let mut client = cluster.connect();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE items (id bigint, v vector({DIMENSIONS}));
             CREATE INDEX near ON items USING hnsw (v vector_l2_ops)"
        ),
    );
    add_rows(&mut client, "items", (1_000_000..1_000_500).map(|id| (id, vector_of(id, DIMENSIONS))));
    (cluster, client)
}

fn wait_until_at_work(running: &Background) {
    let before = process::cpu_ticks(running.backend);
    wait_until("the statement is at work", || {
        assert!(!running.is_finished(), "the statement ended before the test could look at it");
        process::cpu_ticks(running.backend) >= before + AT_WORK
    });
}

/// Cancels the statement, which must end by that. Returns its session.
fn cancel(observer: &mut Client, running: Background, what: &str) -> Client {
    let from = Instant::now();
    observer.execute("SELECT pg_cancel_backend($1)", &[&running.backend]).unwrap();
    wait_until(&format!("{what} ends"), || running.is_finished());
    let ended = running.join();
    expect_error(ended.result, &SqlState::QUERY_CANCELED);
    report(what, from, ended.at);
    ended.client
}

fn report(what: &str, from: Instant, to: Instant) {
    let taken = to.saturating_duration_since(from);
    eprintln!("{what}: {:.1} ms", taken.as_secs_f64() * 1000.0);
    assert!(taken <= LIMIT, "{what} took {taken:?}");
}

/// Runs a statement that takes longer than this timeout.
fn time_out(client: &mut Client, milliseconds: u64, statement: &str) {
    execute(client, &format!("SET statement_timeout = {milliseconds}"));
    let from = Instant::now() + Duration::from_millis(milliseconds);
    let result = client.batch_execute(statement);
    report("statement_timeout", from, Instant::now());
    expect_error(result, &SqlState::QUERY_CANCELED);
    execute(client, "SET statement_timeout = 0");
}

fn index_works(client: &mut Client) {
    assert_clean(client, "near");
    assert_all_found(client, "items", 200);
}

#[test]
fn builds_end() {
    let (cluster, mut client) = start();
    execute(&mut client, &many_rows("large", 30_000));
    let exists = "SELECT to_regclass('built') IS NOT NULL";
    // In memory; in parts; each with workers.
    for settings in [
        "SET max_parallel_maintenance_workers = 0",
        "SET max_parallel_maintenance_workers = 0; SET maintenance_work_mem = '1MB'",
        "SET max_parallel_maintenance_workers = 2; ALTER TABLE large SET (parallel_workers = 2)",
        "SET max_parallel_maintenance_workers = 2; SET maintenance_work_mem = '1MB'",
    ] {
        let build = "INDEX built ON large USING hnsw (v vector_l2_ops) WITH (ef_construction = 400)";
        let mut session = cluster.connect();
        execute(&mut session, settings);
        let building = run_in_background_of(session, &format!("CREATE {build}"));
        wait_until_at_work(&building);
        let mut session = cancel(&mut client, building, &format!("build with {settings}"));
        assert_eq!(value(&mut client, exists).as_deref(), Some("f"));
        for timeout in [20, 500] {
            time_out(&mut session, timeout, &format!("CREATE {build}"));
            assert_eq!(value(&mut client, exists).as_deref(), Some("f"));
        }
    }
    let building = run_in_background_of(
        cluster.connect(),
        "CREATE INDEX CONCURRENTLY built ON large USING hnsw (v vector_l2_ops) WITH (ef_construction = 400)",
    );
    wait_until_at_work(&building);
    cancel(&mut client, building, "CREATE INDEX CONCURRENTLY");
    execute(&mut client, "DROP INDEX built");

    let building = run_in_background_of(cluster.connect(), "CREATE INDEX built ON large USING hnsw (v vector_l2_ops)");
    wait_until_at_work(&building);
    client.execute("SELECT pg_terminate_backend($1)", &[&building.backend]).unwrap();
    wait_until("the terminated build ends", || building.is_finished());
    assert!(building.join().result.is_err());
    execute(&mut client, "DELETE FROM large WHERE id > 300");
    execute(&mut client, "VACUUM large");
    execute(&mut client, "CREATE INDEX built ON large USING hnsw (v vector_l2_ops)");
    assert_clean(&mut client, "built");
    assert_all_found(&mut client, "large", 200);
}

#[test]
fn long_inserts_end() {
    let (cluster, mut client) = start();
    execute(&mut client, &many_rows("large", 50_000));
    let insert = "INSERT INTO items SELECT id, v FROM large";
    let inserting = run_in_background_of(cluster.connect(), insert);
    wait_until_at_work(&inserting);
    let mut session = cancel(&mut client, inserting, "a long insert");
    index_works(&mut client);
    for timeout in [5, 50, 300] {
        time_out(&mut session, timeout, insert);
    }
    index_works(&mut client);
    // What they left behind is removed.
    execute(&mut client, "VACUUM items");
    index_works(&mut client);
    add_rows(&mut client, "items", (2_000_000..2_000_100).map(|id| (id, vector_of(id, DIMENSIONS))));
    index_works(&mut client);
}

#[test]
fn long_searches_end() {
    let (cluster, mut client) = start();
    execute(
        &mut client,
        &format!("{}; CREATE INDEX wide ON large USING hnsw (v vector_l2_ops)", many_rows("large", 4_000)),
    );
    // The whole index, in order, again and again.
    let search = "SELECT count(*) FROM items o, LATERAL (SELECT id FROM large ORDER BY v <-> o.v LIMIT 100000) l";
    // A condition that no other index answers.
    let fruitless =
        "SELECT o.id FROM items o, LATERAL (SELECT id FROM large WHERE id % 7 < 0 ORDER BY v <-> o.v LIMIT 1) l";
    for statement in [search, fruitless] {
        let mut session = cluster.connect();
        use_index(&mut session);
        let searching = run_in_background_of(session, statement);
        wait_until_at_work(&searching);
        let mut session = cancel(&mut client, searching, "a long search");
        time_out(&mut session, 100, statement);
        assert_eq!(value(&mut session, "SELECT count(*) FROM items").as_deref(), Some("500"));
    }
    index_works(&mut client);
    assert_clean(&mut client, "wide");
}

#[test]
fn vacuums_end() {
    let (cluster, mut client) = start();
    execute(&mut client, &format!("{}; INSERT INTO items SELECT id, v FROM large", many_rows("large", 1_200)));
    // The graph is between two states, so a search may miss a row in a hundred; a vacuum that gets done repairs that.
    let index_nearly_works = |client: &mut Client| {
        assert_clean(client, "near");
        let lost = lost_rows(client, "items", 200);
        assert!(lost.len() <= 5, "not found after an interrupted vacuum: {lost:?}");
    };
    for (remainder, depth) in [0, 40, 200].into_iter().enumerate() {
        execute(&mut client, &format!("DELETE FROM items WHERE id < 1000000 AND id % 3 = {remainder}"));
        let mut session = cluster.connect();
        // Slow enough to be caught in the index.
        execute(&mut session, "SET vacuum_cost_delay = '20ms'; SET vacuum_cost_limit = 20");
        let vacuuming = run_in_background_of(session, "VACUUM items");
        let phase = format!("SELECT phase FROM pg_stat_progress_vacuum WHERE pid = {}", vacuuming.backend);
        wait_until("the index is vacuumed", || {
            assert!(!vacuuming.is_finished(), "the vacuum ended before the test could look at it");
            rows(&mut client, &phase).first().is_some_and(|row| row[0].as_deref() == Some("vacuuming indexes"))
        });
        // Not always at its very start.
        std::thread::sleep(Duration::from_millis(depth));
        let mut session = cancel(&mut client, vacuuming, "a vacuum of the index");
        index_nearly_works(&mut client);
        // Wherever it is by then; it may also get done.
        execute(&mut session, "RESET vacuum_cost_delay; RESET vacuum_cost_limit");
        for timeout in [1, 3, 10, 30, 100] {
            execute(&mut session, &format!("SET statement_timeout = {timeout}"));
            let result = session.batch_execute("VACUUM items");
            if result.is_err() {
                expect_error(result, &SqlState::QUERY_CANCELED);
            }
            assert_clean(&mut client, "near");
        }
        index_nearly_works(&mut client);
        execute(&mut session, "SET statement_timeout = 0");
        execute(&mut session, "VACUUM items");
        index_works(&mut client);
    }
    add_rows(&mut client, "items", (2_000_000..2_000_100).map(|id| (id, vector_of(id, DIMENSIONS))));
    index_works(&mut client);
}
