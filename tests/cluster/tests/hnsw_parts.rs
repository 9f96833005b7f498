//! Graphs larger than `maintenance_work_mem` are built in parts: as good as others, announced, and bounded by
//! `temp_file_limit`.

use pg_rag_cluster_tests::data::{Element, Source};
use pg_rag_cluster_tests::hnsw::{add_rows, assert_all_found, assert_clean, assert_recall};
use pg_rag_cluster_tests::session::{execute, expect_error, value};
use pg_rag_cluster_tests::{Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::sync::{Arc, Mutex};

const DIMENSIONS: usize = 64;

/// A session, and the warnings and notices that it gets.
fn session(cluster: &Cluster) -> (Client, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&heard);
    let client = cluster.connect_and_hear(move |notice| {
        into.lock().unwrap().push(format!("{}: {}", notice.severity(), notice.message()));
    });
    (client, heard)
}

fn temp_bytes(client: &mut Client) -> i64 {
    execute(client, "SELECT pg_stat_force_next_flush()");
    let bytes = value(client, "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()");
    bytes.and_then(|bytes| bytes.parse().ok()).expect("a number")
}

fn fill(client: &mut Client, element: Element, dimensions: usize, rows: usize) -> Vec<String> {
    let mut source = Source::new(element, dimensions, 12, 3);
    execute(
        client,
        &format!(
            "DROP TABLE IF EXISTS items; CREATE TABLE items (id bigint PRIMARY KEY, v {}({dimensions}))",
            element.name()
        ),
    );
    add_rows(client, "items", (0..).zip(source.values(rows)));
    source.values(40)
}

#[test]
fn parts_find_what_one_graph_finds() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let (mut client, heard) = session(&cluster);
    for (element, dimensions, metric, operator) in [
        (Element::Vector, DIMENSIONS, "cosine", "<=>"),
        (Element::Vector, DIMENSIONS, "ip", "<#>"),
        (Element::Halfvec, DIMENSIONS, "l2", "<->"),
        (Element::Sparsevec, 500, "l2", "<->"),
        (Element::Bit, 256, "hamming", "<~>"),
    ] {
        let queries = fill(&mut client, element, dimensions, 6_000);
        let what = format!("{}({dimensions}) {metric}", element.name());
        execute(&mut client, "SET maintenance_work_mem = '1MB'; SET hnsw.ef_search = 100");
        if element == Element::Vector {
            execute(&mut client, "ALTER TABLE items SET (parallel_workers = 2)");
        }
        let before = temp_bytes(&mut client);
        heard.lock().unwrap().clear();
        execute(&mut client, &format!("CREATE INDEX near ON items USING hnsw (v {}_{metric}_ops)", element.name()));
        let announced =
            heard.lock().unwrap().iter().any(|message| message.starts_with("WARNING: index \"near\" needs about"));
        assert!(announced, "{what}: {:?}", heard.lock().unwrap());
        assert!(temp_bytes(&mut client) > before, "{what}: not built in parts");
        assert_clean(&mut client, "near");
        assert_recall(&mut client, "items", operator, &queries, 0.97, &format!("of {what} built in parts"));
        let reached = "SELECT hnsw_index_info('near') ->> 'reachable_share'";
        assert_eq!(value(&mut client, reached).as_deref(), Some("1.0"), "{what}");
        let measured = "SELECT jsonb_array_length(hnsw_index_info('near') -> 'calibration') > 0";
        assert_eq!(value(&mut client, measured).as_deref(), Some("t"), "{what}");
    }
    // It lives on as others do.
    execute(
        &mut client,
        "DELETE FROM items WHERE id % 4 = 0; INSERT INTO items SELECT id + 1000000, v FROM items WHERE id % 4 = 1",
    );
    execute(&mut client, "VACUUM items");
    assert_clean(&mut client, "near");
}

#[test]
fn build_goes_over_to_parts_when_the_estimate_was_wrong() {
    let cluster = Cluster::with_extension(ClusterOptions { conf: &[("autovacuum", "off")], ..Default::default() });
    let (mut client, heard) = session(&cluster);
    // The planner knows of pages with one row, and finds pages with dozens.
    execute(
        &mut client,
        &format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS}), filler text); ALTER TABLE items ALTER filler SET STORAGE PLAIN;
             INSERT INTO items (id, filler) SELECT -n, repeat('x', 7000) FROM generate_series(1, 50) n"
        ),
    );
    execute(&mut client, "VACUUM ANALYZE items");
    let mut source = Source::new(Element::Vector, DIMENSIONS, 12, 4);
    let values: Vec<String> = source.values(8_000).iter().enumerate().map(|(id, v)| format!("({id}, '{v}')")).collect();
    execute(&mut client, &format!("INSERT INTO items VALUES {}", values.join(", ")));
    execute(&mut client, "SET max_parallel_maintenance_workers = 0; SET maintenance_work_mem = '1MB'");
    heard.lock().unwrap().clear();
    execute(&mut client, "CREATE INDEX near ON items USING hnsw (v vector_l2_ops)");
    let messages = heard.lock().unwrap().clone();
    assert!(
        messages
            .iter()
            .any(|message| message.starts_with("NOTICE: hnsw graph no longer fits into maintenance_work_mem after")),
        "{messages:?}"
    );
    assert_clean(&mut client, "near");
    execute(&mut client, "DELETE FROM items WHERE v IS NULL");
    assert_all_found(&mut client, "items", 200);
}

#[test]
fn temporary_files_are_limited() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let (mut client, _) = session(&cluster);
    fill(&mut client, Element::Vector, DIMENSIONS, 6_000);
    execute(&mut client, "SET maintenance_work_mem = '1MB'; SET temp_file_limit = '300kB'");
    let build = "CREATE INDEX near ON items USING hnsw (v vector_l2_ops)";
    expect_error(client.batch_execute(build), &SqlState::CONFIGURATION_LIMIT_EXCEEDED);
    execute(&mut client, &format!("RESET temp_file_limit; {build}"));
    assert_clean(&mut client, "near");
    assert_all_found(&mut client, "items", 200);
}
