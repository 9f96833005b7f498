//! Many sessions that insert, delete, update, search and vacuum at once lose no row of an hnsw index.

use pg_rag_cluster_tests::data::{vector_of, Random};
use pg_rag_cluster_tests::hnsw::{
    add_rows, assert_all_found, assert_clean, assert_no_row_twice, assert_uses_index, ids, nearest, use_index,
    use_no_index,
};
use pg_rag_cluster_tests::session::{describe, execute, rows, run_in_background, value};
use pg_rag_cluster_tests::{short_or_long, wait_until, Cluster, ClusterOptions};
use postgres::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const CLIENTS: i64 = 20;
const DIMENSIONS: usize = 16;
/// Rows of one client at most.
const MANY_ROWS: usize = 120;
/// Numbers of rows, and of their vectors, that belong to one client.
const RANGE: i64 = 1_000_000;

fn start(rows: i64) -> Cluster {
    let cluster = Cluster::with_extension(ClusterOptions { conf: &[("autovacuum", "off")], ..Default::default() });
    let mut client = cluster.connect();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS}), note text) WITH (fillfactor = 80);
             CREATE INDEX near ON items USING hnsw (v vector_l2_ops)"
        ),
    );
    add_rows(&mut client, "items", (0..rows).map(|id| (id, vector_of(id, DIMENSIONS))));
    cluster
}

/// Whether a search finds a row by its own vector. An approximate one may miss it; a wide one must not, but for the moment
/// in which a vacuum has repaired lists and not yet walked the graph.
fn finds_own(client: &mut Client, id: i64, vector: &str) -> bool {
    let mut finds = || nearest(client, "items", "<->", vector, 1) == [(id, 0.0)];
    if finds() {
        return true;
    }
    execute(client, "SET hnsw.ef_search = 1000");
    wait_until("a wide search finds the row", || nearest(client, "items", "<->", vector, 1) == [(id, 0.0)]);
    execute(client, "RESET hnsw.ef_search");
    false
}

/// One client: changes its own rows and searches everybody's. Returns its rows: key and the number of the vector.
fn work(mut client: Client, number: i64, until: Instant) -> (BTreeMap<i64, i64>, usize) {
    use_index(&mut client);
    let mut random = Random::new(number.cast_unsigned());
    let mut mine = BTreeMap::new();
    let mut next = number * RANGE;
    let mut fresh = || {
        next += 1;
        next
    };
    let mut statements = 0;
    let (mut searches, mut missed) = (0, 0);
    while Instant::now() < until {
        let some = |random: &mut Random, mine: &BTreeMap<i64, i64>| mine.keys().nth(random.below(mine.len())).copied();
        match random.below(10) {
            0..=3 if mine.len() < MANY_ROWS => {
                let new: Vec<i64> = (0..1 + random.below(5)).map(|_| fresh()).collect();
                let values: Vec<_> = new.iter().map(|id| format!("({id}, '{}')", vector_of(*id, DIMENSIONS))).collect();
                execute(&mut client, &format!("INSERT INTO items VALUES {}", values.join(", ")));
                mine.extend(new.into_iter().map(|id| (id, id)));
            }
            4..=5 if mine.len() > 10 => {
                let old: Vec<i64> = mine.keys().copied().take(1 + random.below(8)).collect();
                let list: Vec<String> = old.iter().map(i64::to_string).collect();
                execute(&mut client, &format!("DELETE FROM items WHERE id IN ({})", list.join(", ")));
                mine.retain(|id, _| !old.contains(id));
            }
            6 if !mine.is_empty() => {
                let (id, vector) = (some(&mut random, &mine).expect("a row"), fresh());
                let update = format!("UPDATE items SET v = '{}' WHERE id = {id}", vector_of(vector, DIMENSIONS));
                execute(&mut client, &update);
                mine.insert(id, vector);
            }
            7 if !mine.is_empty() => {
                let id = some(&mut random, &mine).expect("a row");
                execute(&mut client, &format!("UPDATE items SET note = 'note {statements}' WHERE id = {id}"));
            }
            8 => {
                // What is undone leaves entries of rows that never were.
                let new = fresh();
                let vector = vector_of(new, DIMENSIONS);
                execute(&mut client, &format!("BEGIN; INSERT INTO items VALUES ({new}, '{vector}'); ROLLBACK"));
            }
            _ => {
                let to = vector_of(-1 - random.below(1_000) as i64, DIMENSIONS);
                let near = nearest(&mut client, "items", "<->", &to, 20);
                assert_no_row_twice(&near.iter().map(|row| row.0).collect::<Vec<_>>());
                if let Some(id) = (!mine.is_empty()).then(|| some(&mut random, &mine).expect("a row")) {
                    searches += 1;
                    missed += usize::from(!finds_own(&mut client, id, &vector_of(mine[&id], DIMENSIONS)));
                }
            }
        }
        statements += 1;
    }
    assert!(missed <= 2 + searches / 200, "client {number}: {missed} of {searches} searches missed their row");
    (mine, statements)
}

#[test]
fn no_row_is_lost_between_writers_and_vacuum() {
    let cluster = start(0);
    let until = Instant::now() + short_or_long(Duration::from_secs(10), Duration::from_secs(240));
    let mut known = BTreeMap::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|number| {
                let client = cluster.connect();
                scope.spawn(move || work(client, number, until))
            })
            .collect();
        let mut client = cluster.connect();
        let mut vacuums = 0;
        while Instant::now() < until {
            execute(&mut client, "VACUUM items");
            vacuums += 1;
        }
        let mut statements = 0;
        for client in clients {
            let (rows, count) = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            known.extend(rows);
            statements += count;
        }
        eprintln!("{statements} statements and {vacuums} vacuums, {} rows left", known.len());
    });

    let mut client = cluster.connect();
    for vacuumed in [false, true] {
        if vacuumed {
            execute(&mut client, "VACUUM items");
        }
        use_no_index(&mut client);
        let live: BTreeSet<i64> = ids(&mut client, "SELECT id FROM items").into_iter().collect();
        assert!(live.iter().eq(known.keys()), "the table has the confirmed rows");
        assert_clean(&mut client, "near");
        assert_all_found(&mut client, "items", 200);
        for (id, vector) in known.iter().step_by(20) {
            let near = nearest(&mut client, "items", "<->", &vector_of(*vector, DIMENSIONS), 1);
            assert_eq!(near, [(*id, 0.0)]);
        }
    }
}

/// The rest of the cursor `c`.
fn rest(client: &mut Client) -> Vec<i64> {
    ids(client, "FETCH ALL FROM c")
}

#[test]
fn cursor_goes_on_after_deletes_a_vacuum_and_new_rows() {
    const ROWS: i64 = 1_500;
    let cluster = start(ROWS);
    let mut writer = cluster.connect();
    for fetched in [0, 1, 50, 500] {
        // Dead before the cursor's snapshot: the vacuum removes them under the scan.
        execute(&mut writer, "DELETE FROM items WHERE id % 3 = 0");
        let mut reader = cluster.connect();
        use_index(&mut reader);
        let query = format!("SELECT id FROM items ORDER BY v <-> '{}'", vector_of(-5, DIMENSIONS));
        assert_uses_index(&mut reader, &query);
        execute(&mut reader, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR {query}"));
        let snapshot: BTreeSet<i64> = ids(&mut reader, "SELECT id FROM items").into_iter().collect();
        let mut found = ids(&mut reader, &format!("FETCH {fetched} FROM c"));
        assert_eq!(found.len(), fetched);

        // Dead after it: the cursor still sees them.
        execute(&mut writer, "DELETE FROM items WHERE id % 3 = 1");
        execute(&mut writer, "VACUUM items");
        // New rows in the places of the old ones, with the same keys and other vectors.
        let again =
            (0..ROWS).filter(|id| id % 3 != 2).map(|id| (id, vector_of(id + RANGE * fetched as i64, DIMENSIONS)));
        add_rows(&mut writer, "items", again);
        execute(&mut writer, "VACUUM items");

        found.extend(ids(&mut reader, "FETCH 100 FROM c"));
        execute(&mut writer, "UPDATE items SET v = v WHERE id % 3 = 2");
        execute(&mut writer, "VACUUM items");
        found.extend(rest(&mut reader));
        execute(&mut reader, "COMMIT");
        assert_no_row_twice(&found);
        assert!(found.iter().all(|id| snapshot.contains(id)), "a row that the cursor's snapshot does not have");
        // The graph changes under the scan, so a few may be missed.
        assert!(found.len() * 100 >= snapshot.len() * 95, "{} rows of {}", found.len(), snapshot.len());
        assert_clean(&mut writer, "near");
        assert_all_found(&mut writer, "items", 200);
        use_no_index(&mut writer);
    }
}

#[test]
fn vacuums_beside_many_small_inserts() {
    let cluster = start(400);
    let mut observer = cluster.connect();
    // Each part is a transaction of its own, so that a vacuum can remove what was deleted meanwhile. It takes its time,
    // so that several vacuums fit in.
    let inserting = run_in_background(
        &cluster,
        &format!(
            "DO $$ BEGIN FOR part IN 1..150 LOOP
                 INSERT INTO items
                     SELECT 10 * part + g + 1000, (SELECT array_agg(random()) FROM generate_series(1 + g * 0, {DIMENSIONS}))::vector
                       FROM generate_series(0, 9) g;
                 COMMIT; PERFORM pg_sleep(0.005);
             END LOOP; END $$"
        ),
    );
    let mut vacuums = 0;
    while !inserting.is_finished() {
        let first = 100_000 * (1 + vacuums);
        add_rows(&mut observer, "items", (first..first + 30).map(|id| (id, vector_of(id, DIMENSIONS))));
        execute(&mut observer, "DELETE FROM items WHERE id >= 100000 OR id < 400 AND random() < 0.1");
        execute(&mut observer, "VACUUM items");
        vacuums += 1;
    }
    inserting.join().result.unwrap_or_else(|failure| panic!("{}", describe(&failure)));
    eprintln!("{vacuums} vacuums beside the inserts");
    assert!(vacuums > 1);
    assert_clean(&mut observer, "near");
    assert_all_found(&mut observer, "items", 200);
    assert_eq!(value(&mut observer, "SELECT count(*) FROM items WHERE id >= 1000").as_deref(), Some("1500"));
}

#[test]
fn rows_of_an_open_transaction_survive_a_vacuum() {
    let cluster = start(300);
    let mut observer = cluster.connect();
    let mut writer = cluster.connect();
    execute(&mut writer, "BEGIN");
    for id in 1_000..1_200 {
        execute(&mut writer, &format!("INSERT INTO items VALUES ({id}, '{}')", vector_of(id, DIMENSIONS)));
    }
    execute(&mut observer, "DELETE FROM items WHERE id < 300");
    execute(&mut observer, "VACUUM items");
    use_index(&mut observer);
    assert!(nearest(&mut observer, "items", "<->", &vector_of(1_100, DIMENSIONS), 10).is_empty());
    use_index(&mut writer);
    let near = nearest(&mut writer, "items", "<->", &vector_of(1_100, DIMENSIONS), 1);
    assert_eq!(near, [(1_100, 0.0)], "a transaction sees its own rows");
    execute(&mut writer, "COMMIT");
    assert_all_found(&mut observer, "items", 200);
    assert_eq!(rows(&mut observer, "SELECT id FROM items").len(), 200);

    // And rows of a transaction that is undone go away with the next vacuum, without a trace.
    execute(&mut writer, "BEGIN; INSERT INTO items SELECT id + 10000, v FROM items; ROLLBACK");
    execute(&mut observer, "VACUUM items");
    assert_clean(&mut observer, "near");
    assert_all_found(&mut observer, "items", 200);
    let query = format!("SELECT id FROM items ORDER BY v <-> '{}'", vector_of(-1, DIMENSIONS));
    assert_eq!(ids(&mut observer, &query).len(), 200);
}
