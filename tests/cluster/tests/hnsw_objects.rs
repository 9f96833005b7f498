//! An hnsw index is an index like any other: for every kind of table, and for every statement that moves or rewrites it.

use pg_rag_cluster_tests::crash::{crash, Crash};
use pg_rag_cluster_tests::data::vector_of;
use pg_rag_cluster_tests::hnsw::{assert_all_found, assert_clean, ids, use_index};
use pg_rag_cluster_tests::items::{add, assert_works, everything, make, start, DIMENSIONS, INDEX};
use pg_rag_cluster_tests::session::{backend_pid, describe, execute, run_in_background, value};
use pg_rag_cluster_tests::{account, wait_until};

#[test]
fn create_concurrently_beside_writers() {
    let (cluster, mut client) = start();
    make(&mut client, "");
    execute(&mut client, "DROP INDEX near");
    // Rows that the build has to wait for, and rows that it does not see at first.
    let mut writer = cluster.connect();
    execute(&mut writer, "BEGIN");
    add(&mut writer, "items", 300..350);
    let building = run_in_background(&cluster, &format!("CREATE INDEX CONCURRENTLY near ON items {INDEX}"));
    wait_until("the build waits for the writer", || {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' AND wait_event_type = 'Lock'";
        value(&mut client, waits).as_deref() == Some("1")
    });
    execute(&mut writer, "COMMIT; DELETE FROM items WHERE id < 20");
    add(&mut writer, "items", 350..400);
    execute(&mut writer, "UPDATE items SET note = 'x' WHERE id BETWEEN 100 AND 120");
    building.join().result.unwrap_or_else(|failure| panic!("{}", describe(&failure)));
    assert_works(&mut client, 380);
}

#[test]
fn reindex() {
    let (cluster, mut client) = start();
    make(&mut client, "");
    execute(&mut client, "DELETE FROM items WHERE id % 2 = 0");
    for statement in [
        "REINDEX INDEX near",
        "REINDEX INDEX CONCURRENTLY near",
        "REINDEX TABLE items",
        "REINDEX TABLE CONCURRENTLY items",
        "VACUUM FULL items",
        "CLUSTER items USING items_pkey",
        "ALTER TABLE items ALTER COLUMN id TYPE numeric; ALTER TABLE items ALTER COLUMN id TYPE bigint",
    ] {
        execute(&mut client, statement);
        assert_works(&mut client, 150);
    }
    // Beside a writer.
    let mut writer = cluster.connect();
    execute(&mut writer, "BEGIN");
    add(&mut writer, "items", 300..350);
    let building = run_in_background(&cluster, "REINDEX INDEX CONCURRENTLY near");
    wait_until("the rebuild waits for the writer", || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'";
        value(&mut client, waits).as_deref() == Some("1")
    });
    execute(&mut writer, "COMMIT");
    building.join().result.unwrap_or_else(|failure| panic!("{}", describe(&failure)));
    assert_works(&mut client, 200);
}

#[test]
fn unlogged_tables_are_empty_after_a_crash_and_usable() {
    let (cluster, mut client) = start();
    make(&mut client, "UNLOGGED");
    assert_works(&mut client, 300);
    execute(&mut client, "DELETE FROM items WHERE id < 100");
    execute(&mut client, "VACUUM items");
    assert_works(&mut client, 200);
    drop(client);
    cluster.restart();
    let mut client = cluster.connect();
    assert_works(&mut client, 200);

    for killed in [false, true] {
        let how = if killed { Crash::KilledBackend(backend_pid(&mut client)) } else { Crash::ImmediateStop };
        crash(&cluster, how);
        client = cluster.connect();
        use_index(&mut client);
        assert!(everything(&mut client).is_empty());
        assert_clean(&mut client, "near");
        add(&mut client, "items", 0..100);
        assert_works(&mut client, 100);
    }
    // From then on it survives.
    execute(&mut client, "ALTER TABLE items SET LOGGED");
    crash(&cluster, Crash::ImmediateStop);
    let mut client = cluster.connect();
    assert_works(&mut client, 100);
}

#[test]
fn temporary_tables() {
    let (cluster, mut client) = start();
    make(&mut client, "TEMPORARY");
    assert_works(&mut client, 300);
    execute(&mut client, "DELETE FROM items WHERE id < 100");
    execute(&mut client, "VACUUM items");
    assert_works(&mut client, 200);
    execute(&mut client, "REINDEX INDEX near");
    assert_works(&mut client, 200);
    let mut other = cluster.connect();
    make(&mut other, "TEMPORARY");
    assert_works(&mut other, 300);
    execute(&mut client, "DISCARD TEMP");
    execute(
        &mut client,
        &format!(
            "BEGIN; CREATE TEMPORARY TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS})) ON COMMIT DELETE ROWS;
             CREATE INDEX near ON items {INDEX}"
        ),
    );
    add(&mut client, "items", 0..50);
    assert_works(&mut client, 50);
    execute(&mut client, "COMMIT");
    assert!(everything(&mut client).is_empty());
    add(&mut client, "items", 0..50);
    assert!(everything(&mut client).is_empty(), "that was a transaction of its own");
    assert_clean(&mut client, "near");
}

#[test]
fn partitioned_tables() {
    let (_cluster, mut client) = start();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS})) PARTITION BY HASH (id);
             CREATE TABLE part_0 PARTITION OF items FOR VALUES WITH (MODULUS 3, REMAINDER 0);
             CREATE TABLE part_1 PARTITION OF items FOR VALUES WITH (MODULUS 3, REMAINDER 1);
             CREATE INDEX near ON items {INDEX};
             CREATE TABLE part_2 PARTITION OF items FOR VALUES WITH (MODULUS 3, REMAINDER 2)"
        ),
    );
    add(&mut client, "items", 0..600);
    for _ in 0..2 {
        assert_all_found(&mut client, "items", 200);
        let found = everything(&mut client);
        let distances = format!("SELECT id FROM items ORDER BY v <-> '{}', id", vector_of(-1, DIMENSIONS));
        execute(&mut client, "SET enable_indexscan = off; SET enable_sort = on; SET enable_seqscan = on");
        let exact = ids(&mut client, &distances);
        use_index(&mut client);
        assert_eq!(found.len(), exact.len());
        assert_eq!(found[..10], exact[..10], "the partitions' rows are merged by distance");
        for part in 0..3 {
            assert_clean(&mut client, &format!("part_{part}_v_idx"));
        }
        execute(&mut client, "DELETE FROM items WHERE id % 4 = 0");
        execute(&mut client, "VACUUM items");
    }
    execute(&mut client, "ALTER TABLE items DETACH PARTITION part_1; TRUNCATE part_1");
    add(&mut client, "part_1", 1_000..1_100);
    assert_all_found(&mut client, "part_1", 200);
    assert_all_found(&mut client, "items", 200);
}

#[test]
fn truncate() {
    let (_cluster, mut client) = start();
    make(&mut client, "");
    execute(&mut client, "BEGIN; TRUNCATE items");
    assert!(everything(&mut client).is_empty());
    add(&mut client, "items", 1_000..1_050);
    assert_works(&mut client, 50);
    execute(&mut client, "ROLLBACK");
    assert_works(&mut client, 300);
    execute(&mut client, "TRUNCATE items");
    assert!(everything(&mut client).is_empty());
    assert_clean(&mut client, "near");
    add(&mut client, "items", 1_000..1_050);
    assert_works(&mut client, 50);
    // Made and emptied in one transaction: without WAL at some settings.
    execute(&mut client, "DROP TABLE items; BEGIN");
    make(&mut client, "");
    execute(&mut client, "TRUNCATE items");
    add(&mut client, "items", 0..70);
    execute(&mut client, "COMMIT");
    assert_works(&mut client, 70);
}

#[test]
fn tablespaces() {
    let folder = tempfile::tempdir_in("/tmp").expect("/tmp is writable");
    account::give(folder.path());
    let (cluster, mut client) = start();
    make(&mut client, "");
    execute(&mut client, &format!("CREATE TABLESPACE other LOCATION '{}'", folder.path().display()));
    for (statement, count) in [
        ("ALTER INDEX near SET TABLESPACE other", 310),
        ("ALTER TABLE items SET TABLESPACE other", 320),
        ("REINDEX (TABLESPACE pg_default) INDEX near", 330),
        ("ALTER TABLE items SET TABLESPACE pg_default", 340),
    ] {
        execute(&mut client, statement);
        add(&mut client, "items", count as i64 - 10..count as i64);
        assert_works(&mut client, count);
    }
    execute(&mut client, "ALTER INDEX near SET TABLESPACE other");
    crash(&cluster, Crash::ImmediateStop);
    let mut client = cluster.connect();
    assert_works(&mut client, 340);
    drop(cluster);
}
