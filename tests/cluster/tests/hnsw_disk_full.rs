//! An hnsw index on a disk that runs full: the statement fails, the database goes on, nothing is lost.
//!
//! The table lies on a disk of its own, so only the index runs out of space. Without the right to mount one, the tests
//! say so and do nothing.

use pg_rag_cluster_tests::data::vector_of;
use pg_rag_cluster_tests::disk::SmallDisk;
use pg_rag_cluster_tests::hnsw::{add_rows, assert_all_found, assert_clean, ids, use_no_index};
use pg_rag_cluster_tests::session::{expect_error, value};
use pg_rag_cluster_tests::{Cluster, ClusterOptions, Stop};
use postgres::error::SqlState;
use postgres::Client;
use std::collections::BTreeSet;

const DIMENSIONS: usize = 128;
/// Vectors of random numbers have no neighbourhoods: at 200, every other index of some thousand misses one of them.
const WIDE: usize = 1000;
const INDEX: &str = "INDEX near ON items USING hnsw (v vector_l2_ops) TABLESPACE small";

/// A cluster with the table `items` and the tablespace `small`.
fn start(disk: &SmallDisk) -> (Cluster, Client) {
    let cluster = Cluster::with_extension(ClusterOptions { conf: &[("autovacuum", "off")], ..Default::default() });
    let mut client = cluster.connect();
    client.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.space().display())).unwrap();
    client.batch_execute(&format!("CREATE TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS}))")).unwrap();
    (cluster, client)
}

fn add(client: &mut Client, rows: std::ops::Range<i64>) {
    add_rows(client, "items", rows.map(|id| (id, vector_of(id, DIMENSIONS))));
}

fn index_exists(client: &mut Client) -> bool {
    value(client, "SELECT to_regclass('near') IS NOT NULL").as_deref() == Some("t")
}

#[test]
fn build_without_space_fails_and_succeeds_later() {
    let Some(mut disk) = SmallDisk::mount(16) else { return };
    let (cluster, mut client) = start(&disk);
    add(&mut client, 0..2_000);
    // In memory, and in parts.
    for memory in ["64MB", "1MB"] {
        client.batch_execute(&format!("SET maintenance_work_mem = '{memory}'")).unwrap();
        for kilobytes in [0, 8, 64, 300] {
            disk.leave(kilobytes);
            expect_error(client.batch_execute(&format!("CREATE {INDEX}")), &SqlState::DISK_FULL);
            assert!(!index_exists(&mut client));
            // What the failed build has taken goes with the next checkpoint.
            client.batch_execute("CHECKPOINT").unwrap();
        }
        disk.leave(64);
        expect_error(client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {}", &INDEX[6..])), &SqlState::DISK_FULL);
        client.batch_execute("DROP INDEX near").unwrap();

        disk.free(8_192);
        client.batch_execute(&format!("CREATE {INDEX}")).unwrap();
        assert_clean(&mut client, "near");
        assert_all_found(&mut client, "items", 100);

        // A rebuild that fails leaves the old index.
        disk.leave(64);
        expect_error(client.batch_execute("REINDEX INDEX near"), &SqlState::DISK_FULL);
        assert_clean(&mut client, "near");
        assert_all_found(&mut client, "items", 100);
        client.batch_execute("DROP INDEX near").unwrap();
        disk.free(8_192);
    }
    drop(cluster);
}

/// Inserts until the disk is full; returns the rows whose insert was confirmed.
fn insert_until_full(client: &mut Client, first: i64, rows_at_once: i64) -> BTreeSet<i64> {
    let mut confirmed = BTreeSet::new();
    for start in (first..first + 20_000).step_by(rows_at_once as usize) {
        let rows: Vec<_> =
            (start..start + rows_at_once).map(|id| format!("({id}, '{}')", vector_of(id, DIMENSIONS))).collect();
        match client.batch_execute(&format!("INSERT INTO items VALUES {}", rows.join(", "))) {
            Ok(()) => confirmed.extend(start..start + rows_at_once),
            result => {
                expect_error(result, &SqlState::DISK_FULL);
                return confirmed;
            }
        }
    }
    panic!("the disk never ran full");
}

#[test]
fn inserts_without_space_fail_and_succeed_later() {
    let Some(mut disk) = SmallDisk::mount(32) else { return };
    let (cluster, mut client) = start(&disk);
    client.batch_execute(&format!("CREATE {INDEX}")).unwrap();
    let mut known: BTreeSet<i64> = (0..500).collect();
    add(&mut client, 0..500);
    let mut next = 500;
    for (kilobytes, rows_at_once) in [(0, 1), (8, 1), (16, 3), (24, 1), (40, 10), (64, 1), (200, 50)] {
        disk.leave(kilobytes);
        known.extend(insert_until_full(&mut client, next, rows_at_once));
        next += 20_000;
        // Other statements go on, and so does the next attempt, which fails again or finds a place.
        let _ = insert_until_full(&mut client, next, 1).into_iter().map(|id| known.insert(id)).count();
        next += 20_000;
        use_no_index(&mut client);
        assert_eq!(ids(&mut client, "SELECT id FROM items ORDER BY id"), known.iter().copied().collect::<Vec<_>>());
        assert_clean(&mut client, "near");
        assert_all_found(&mut client, "items", WIDE);

        disk.free(2_048);
        add(&mut client, next..next + 50);
        known.extend(next..next + 50);
        next += 50;
        assert_clean(&mut client, "near");
        assert_all_found(&mut client, "items", WIDE);
    }

    // Space that the failed inserts have taken is not lost for good, and a vacuum needs none.
    disk.leave(0);
    client.batch_execute("DELETE FROM items WHERE id % 2 = 0").unwrap();
    client.batch_execute("VACUUM items").unwrap();
    add(&mut client, next..next + 5);
    assert_clean(&mut client, "near");
    assert_all_found(&mut client, "items", WIDE);
    drop(client);

    // A crash with a full disk.
    cluster.stop(Stop::Immediate);
    cluster.start_server();
    let mut client = cluster.connect();
    assert_clean(&mut client, "near");
    assert_all_found(&mut client, "items", WIDE);
    disk.free(2_048);
    add(&mut client, next + 5..next + 50);
    assert_clean(&mut client, "near");
    assert_all_found(&mut client, "items", WIDE);
    drop(cluster);
}
