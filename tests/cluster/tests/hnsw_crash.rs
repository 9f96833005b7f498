//! Whatever crashes while an hnsw index is written: every committed row is found afterwards, and the index is sound.
//!
//! Each round lets sessions insert, delete and vacuum, or build an index, and crashes the cluster at a random moment:
//! by an immediate stop, or by the death of one backend. The sessions remember what the server has confirmed.
//! `PG_RAG_LONG_TESTS=1` runs many more rounds. PostgreSQL itself compares each page that recovery has written with the
//! page that was logged (`wal_consistency_checking`).

use pg_rag_cluster_tests::crash::{crash, Crash};
use pg_rag_cluster_tests::data::{vector_of, Random};
use pg_rag_cluster_tests::hnsw::{assert_all_found, assert_clean, assert_recall, ids, use_no_index};
use pg_rag_cluster_tests::session::{backend_pid, describe, run_in_background_of, value};
use pg_rag_cluster_tests::{short_or_long, wait_until, Cluster, ClusterOptions};
use postgres::Client;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DIMENSIONS: usize = 24;
const WRITERS: usize = 3;
const FIRST_ROWS: i64 = 600;
/// Above this, writers delete more than they insert.
const MANY_ROWS: usize = 1_200;
const INDEX: &str = "USING hnsw (id, v vector_l2_ops)";

/// What the client knows of the table.
#[derive(Default)]
struct Known {
    /// Rows whose insert was confirmed, and no delete was sent.
    live: BTreeSet<i64>,
    /// Rows of statements that the crash may have cut off.
    open: BTreeSet<i64>,
    next_id: i64,
}

fn start_cluster(full_page_writes: &str) -> Cluster {
    // When only processes die, the operating system still writes what they gave it: no fsync is needed.
    let cluster = Cluster::with_extension(ClusterOptions {
        conf: &[
            ("wal_consistency_checking", "generic"),
            ("full_page_writes", full_page_writes),
            ("autovacuum", "off"),
            ("max_wal_size", "4GB"),
        ],
        ..Default::default()
    });
    cluster
        .connect()
        .batch_execute(&format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS})); CREATE INDEX near ON items {INDEX}"
        ))
        .unwrap();
    cluster
}

fn insert_of(rows: impl Iterator<Item = i64>) -> String {
    let rows: Vec<String> = rows.map(|id| format!("({id}, '{}')", vector_of(id, DIMENSIONS))).collect();
    format!("INSERT INTO items VALUES {}", rows.join(", "))
}

/// Inserts and deletes until the session breaks. Its rows are those of `known`, nobody else's.
fn write(mut client: Client, mut known: Known, mut random: Random, confirmed: &AtomicUsize) -> Known {
    loop {
        let count = 1 + random.below(10);
        let delete = known.live.len() > MANY_ROWS / WRITERS || (random.below(3) == 0 && known.live.len() > 20);
        let (touched, statement): (Vec<i64>, String) = if delete {
            let old: Vec<i64> = known.live.iter().copied().skip(random.below(10)).take(2 * count).collect();
            let list: Vec<String> = old.iter().map(i64::to_string).collect();
            let statement = format!("DELETE FROM items WHERE id IN ({})", list.join(", "));
            (old, statement)
        } else {
            let new: Vec<i64> = (0..count as i64).map(|at| known.next_id + at * WRITERS as i64).collect();
            known.next_id += (count * WRITERS) as i64;
            let statement = insert_of(new.iter().copied());
            (new, statement)
        };
        let result = client.batch_execute(&statement);
        for id in &touched {
            known.live.remove(id);
        }
        match result {
            Ok(()) if delete => {}
            Ok(()) => known.live.extend(touched),
            Err(failure) => {
                assert!(ended_by_crash(&failure), "{}", describe(&failure));
                known.open.extend(touched);
                return known;
            }
        }
        confirmed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the session broke because the cluster went down.
fn ended_by_crash(failure: &postgres::Error) -> bool {
    // 57P02: crash of another server process; 57P01: the session was ended; 08: the connection.
    failure.is_closed()
        || failure.code().is_none_or(|code| ["57P01", "57P02"].contains(&code.code()) || code.code().starts_with("08"))
}

/// Vacuums until the session breaks, and at times makes a checkpoint, from which recovery will start.
fn vacuum(mut client: Client, mut random: Random) {
    loop {
        let statement = if random.below(8) == 0 { "CHECKPOINT" } else { "VACUUM items" };
        if let Err(failure) = client.batch_execute(statement) {
            assert!(ended_by_crash(&failure), "{}", describe(&failure));
            return;
        }
    }
}

/// One crash while sessions write, vacuum and, if `build` is given, one builds an index.
fn round(cluster: &Cluster, known: Known, random: &mut Random, build: Option<&str>, build_time: Duration) -> Known {
    let writes = build.is_none_or(|statement| statement.contains("CONCURRENTLY"));
    let stop = random.below(2) == 0;
    let victim = random.below(WRITERS + 1);
    let confirmed = AtomicUsize::new(0);
    let mut parts: Vec<Known> = (0..WRITERS).map(|_| Known::default()).collect();
    for id in &known.live {
        parts[(id % WRITERS as i64) as usize].live.insert(*id);
    }
    // The next multiple of WRITERS, so that each writer keeps to its own remainder.
    let first = (known.next_id / WRITERS as i64 + 1) * WRITERS as i64;
    std::thread::scope(|scope| {
        let mut pids = Vec::new();
        let mut connect = || {
            let mut client = cluster.connect();
            pids.push(backend_pid(&mut client));
            client
        };
        let writers: Vec<_> = (parts.into_iter().enumerate().filter(|_| writes))
            .map(|(at, mut part)| {
                part.next_id = first + at as i64;
                let (client, random, confirmed) = (connect(), Random::new(random.bits()), &confirmed);
                scope.spawn(move || write(client, part, random, confirmed))
            })
            .collect();
        let building = build.map(|statement| run_in_background_of(connect(), statement));
        if build.is_none() {
            let (client, random) = (connect(), Random::new(random.bits()));
            scope.spawn(move || vacuum(client, random));
        }
        if build.is_some() {
            // A random moment of the build, or just after it. Beside writers it takes longer.
            let longest = if writes { 12.0 } else { 1.1 };
            std::thread::sleep(build_time.mul_f32(random.unit() * longest));
        } else {
            let enough = 1 + random.below(150);
            wait_until("sessions write", || confirmed.load(Ordering::Relaxed) >= enough);
        }
        let victim = building.as_ref().map_or(pids[victim % pids.len()], |builder| builder.backend);
        crash(cluster, if stop { Crash::ImmediateStop } else { Crash::KilledBackend(victim) });
        if let Some(building) = building {
            let _ = building.join().result; // it may have been done
        }
        if writers.is_empty() {
            return known;
        }
        let mut after = Known::default();
        for writer in writers {
            let part = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            after.live.extend(part.live);
            after.open.extend(part.open);
            after.next_id = after.next_id.max(part.next_id);
        }
        after
    })
}

/// Compares the table with what is known of it, and the index with the table.
fn check(client: &mut Client, known: &mut Known, random: &mut Random) {
    use_no_index(client);
    let found: BTreeSet<i64> = ids(client, "SELECT id FROM items").into_iter().collect();
    assert!(known.live.is_subset(&found), "a confirmed row is gone");
    let unexpected: Vec<_> = found.difference(&known.live).filter(|id| !known.open.contains(id)).collect();
    assert!(unexpected.is_empty(), "deleted rows are back: {unexpected:?}");
    known.live = found;
    known.open.clear();

    assert_clean(client, "near");
    assert_all_found(client, "items", 200);
    let queries: Vec<String> = (0..10).map(|_| vector_of(-1 - random.below(1_000) as i64, DIMENSIONS)).collect();
    assert_recall(client, "items", "<->", &queries, 0.95, "after a crash");
    // The index has the rows' keys, too.
    let lost = "SELECT id FROM items o
                 WHERE id IS DISTINCT FROM (SELECT id FROM items i WHERE i.id = o.id ORDER BY i.v <-> o.v LIMIT 1)";
    assert_eq!(ids(client, lost), [], "rows are not found by their keys");
}

fn crashes(full_page_writes: &str, rounds: usize, seed: u64) {
    let cluster = start_cluster(full_page_writes);
    let mut random = Random::new(seed);
    cluster.connect().batch_execute(&insert_of(0..FIRST_ROWS)).unwrap();
    let mut known = Known { live: (0..FIRST_ROWS).collect(), next_id: FIRST_ROWS, ..Known::default() };
    for at in 0..rounds {
        let build = match at % 4 {
            0 | 2 => None,
            1 => Some(format!("CREATE INDEX near ON items {INDEX}")),
            _ => Some(format!("CREATE INDEX CONCURRENTLY near ON items {INDEX}")),
        };
        let mut build_time = Duration::ZERO;
        let mut client = cluster.connect();
        if build.is_some() {
            let began = Instant::now();
            client.batch_execute("REINDEX INDEX near").unwrap();
            build_time = began.elapsed();
            client.batch_execute("DROP INDEX near").unwrap();
        }
        known = round(&cluster, known, &mut random, build.as_deref(), build_time);

        let mut client = cluster.connect();
        // A build that was cut off leaves nothing, or with CONCURRENTLY an index that nobody uses.
        let state =
            "SELECT coalesce((SELECT indisvalid::text FROM pg_index WHERE indexrelid = to_regclass('near')), 'none')";
        let state = value(&mut client, state).expect("a text");
        eprintln!("round {at}: {build:?}, index valid: {state}, {} rows", known.live.len());
        match (state.as_str(), &build) {
            ("true", _) => {}
            ("false", Some(statement)) if statement.contains("CONCURRENTLY") => {
                client.batch_execute("REINDEX INDEX near").unwrap();
            }
            ("none", Some(_)) => client.batch_execute(&format!("CREATE INDEX near ON items {INDEX}")).unwrap(),
            _ => panic!("the index is lost"),
        }
        check(&mut client, &mut known, &mut random);
    }
}

#[test]
fn every_confirmed_row_survives_crashes() {
    crashes("on", short_or_long(8, 120), 1);
}

/// Without images of whole pages, recovery stands on the changes alone. Safe here: no page is torn, as the machine runs on.
#[test]
fn changes_alone_bring_the_index_back() {
    crashes("off", short_or_long(4, 80), 2);
}
