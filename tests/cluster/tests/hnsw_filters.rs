//! Searches with conditions on filter columns of an hnsw index, or on columns that other indexes know: what they give next
//! to a scan of the table, while tables live on, and while rows change the values that are filtered by.

use pg_rag_cluster_tests::data::{vector_of, Element, Random, Source};
use pg_rag_cluster_tests::hnsw::{assert_clean, assert_no_row_twice, ids, nearest, use_index, use_no_index};
use pg_rag_cluster_tests::session::{execute, rows};
use pg_rag_cluster_tests::{short_or_long, Cluster, ClusterOptions};
use postgres::Client;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DIMENSIONS: usize = 64;
/// Beyond the size up to which an index is looked at whole.
const ROWS: usize = 9_000;

fn start() -> (Cluster, Client) {
    let cluster = Cluster::with_extension(ClusterOptions { conf: &[("autovacuum", "off")], ..Default::default() });
    let client = cluster.connect();
    (cluster, client)
}

/// Where conditions are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    /// In the hnsw index, by its filter columns.
    Inside,
    /// By other indexes, whose bitmap is the search's mask.
    Beside,
}

impl Answered {
    /// As many columns as there are conditions for, in the hnsw index or in others.
    fn indexes(self, columns: &[&str], others: &str) -> String {
        match self {
            Answered::Inside => {
                format!("CREATE INDEX near ON items USING hnsw (v vector_l2_ops, {})", columns.join(", "))
            }
            Answered::Beside => format!("CREATE INDEX near ON items USING hnsw (v vector_l2_ops); {others}"),
        }
    }

    fn use_index(self, client: &mut Client) {
        use_index(client);
        if self == Answered::Beside {
            execute(client, "SET enable_bitmapscan = on");
        }
    }
}

/// A random condition on the columns of `items`.
fn condition(random: &mut Random) -> String {
    let mut one = || match random.below(9) {
        0 => format!("tenant = {}", random.below(30)),
        1 => format!("tenant < {}", random.below(30)),
        2 => format!("tenant IN ({}, {}, {})", random.below(30), random.below(30), random.below(99)),
        3 => format!("at > timestamp '2024-01-01' + {} * interval '1 hour'", random.below(ROWS)),
        4 => format!("at BETWEEN '2024-02-01' AND timestamp '2024-02-01' + {} * interval '1 day'", random.below(300)),
        5 => format!("lang {} 'l{}'", ["=", "<>", "LIKE"][random.below(3)], random.below(5)),
        6 => format!("tags && '{{{},{}}}'", random.below(60), random.below(60)),
        7 => format!("tags @> '{{{}}}'", random.below(60)),
        _ => ["lang IS NULL", "tenant IS NOT NULL", "flag", "NOT flag"][random.below(4)].to_owned(),
    };
    let (first, second) = (one(), one());
    match random.below(4) {
        0 => format!("{first} AND {second}"),
        // One that no index knows.
        1 => format!("{first} AND id % 3 <> 1"),
        _ => first,
    }
}

/// Rows that searches with random conditions give are among those that pass, as many as wanted, and nearly the nearest.
fn assert_searches(
    client: &mut Client,
    answered: Answered,
    random: &mut Random,
    source: &mut Source,
    searches: usize,
    when: &str,
) {
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..searches {
        let (query, condition) = (source.value(), condition(random));
        let table = format!("(SELECT * FROM items WHERE {condition}) AS passing");
        use_no_index(client);
        let exact = nearest(client, &table, "<->", &query, 10);
        answered.use_index(client);
        let near = nearest(client, &table, "<->", &query, 10);
        assert_no_row_twice(&near.iter().map(|row| row.0).collect::<Vec<_>>());
        assert_eq!(near.len(), exact.len(), "{when}: {condition}");
        let list: Vec<String> = near.iter().map(|row| row.0.to_string()).collect();
        let others =
            format!("SELECT id FROM items WHERE id = ANY('{{{}}}') AND ({condition}) IS NOT TRUE", list.join(","));
        assert_eq!(ids(client, &others), [], "{when}: {condition}");
        let farthest = exact.last().map_or(0.0, |row| row.1);
        found += near.iter().filter(|row| row.1 <= farthest).count();
        wanted += exact.len();
    }
    let recall = found as f64 / wanted as f64;
    eprintln!("{when}: recall {recall:.4} of {searches} searches");
    assert!(recall >= 0.95, "{when}: recall {recall:.4}");
}

#[test]
fn random_conditions_on_filter_columns_give_the_nearest_rows_that_pass() {
    random_conditions_give_the_nearest_rows_that_pass(Answered::Inside);
}

#[test]
fn random_conditions_on_other_columns_give_the_nearest_rows_that_pass() {
    random_conditions_give_the_nearest_rows_that_pass(Answered::Beside);
}

fn random_conditions_give_the_nearest_rows_that_pass(answered: Answered) {
    let (_cluster, mut client) = start();
    let mut source = Source::new(Element::Vector, DIMENSIONS, 12, 71);
    let mut random = Random::new(72);
    execute(
        &mut client,
        &format!(
            "CREATE TABLE items (id bigint, v vector({DIMENSIONS}), tenant integer, at timestamp, lang text, tags integer[], flag boolean);
             {}",
            answered.indexes(
                &["tenant", "at", "lang", "tags", "flag"],
                "CREATE INDEX ON items (tenant); CREATE INDEX ON items (at); CREATE INDEX ON items (lang);
                 CREATE INDEX ON items USING gin (tags); CREATE INDEX ON items (flag)"
            )
        ),
    );
    let add = |client: &mut Client, source: &mut Source, from: usize, count: usize| {
        let values: Vec<String> =
            source.values(count).iter().zip(from..).map(|(v, id)| format!("({id}, '{v}'::vector)")).collect();
        execute(
            client,
            &format!(
                "INSERT INTO items
                 SELECT id, v, CASE WHEN id % 40 < 30 THEN id * 7 % 30 END, timestamp '2024-01-01' + id * interval '1 hour',
                        CASE WHEN id % 9 > 0 THEN 'l' || id % 5 END, ARRAY[id % 60, id * 13 % 50]::integer[], id % 6 = 0
                   FROM (VALUES {}) AS row (id, v)",
                values.join(", ")
            ),
        );
    };
    add(&mut client, &mut source, 0, ROWS - 1_000);
    execute(&mut client, "REINDEX INDEX near; ANALYZE items");
    assert_searches(&mut client, answered, &mut random, &mut source, short_or_long(60, 1_000), "built");
    add(&mut client, &mut source, ROWS - 1_000, 1_000);
    execute(&mut client, "DELETE FROM items WHERE id % 8 = 3; UPDATE items SET tenant = tenant + 1 WHERE id % 16 = 1");
    assert_searches(&mut client, answered, &mut random, &mut source, short_or_long(40, 1_000), "changed");
    execute(&mut client, "VACUUM items");
    assert_clean(&mut client, "near");
    assert_searches(&mut client, answered, &mut random, &mut source, short_or_long(40, 1_000), "vacuumed");
    execute(&mut client, "SET maintenance_work_mem = '1MB'; REINDEX INDEX near");
    assert_clean(&mut client, "near");
    assert_searches(&mut client, answered, &mut random, &mut source, short_or_long(40, 1_000), "built in parts");
}

#[test]
fn rows_that_change_their_values_are_found_by_the_present_ones() {
    rows_are_found_by_their_present_values(Answered::Inside);
}

#[test]
fn rows_that_change_values_of_other_indexes_are_found_by_the_present_ones() {
    rows_are_found_by_their_present_values(Answered::Beside);
}

fn rows_are_found_by_their_present_values(answered: Answered) {
    const TENANTS: i64 = 6;
    let (cluster, mut client) = start();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS}), tenant bigint) WITH (fillfactor = 60);
             {}",
            answered.indexes(&["tenant"], "CREATE INDEX ON items (tenant)")
        ),
    );
    let values: Vec<String> =
        (0..300).map(|id| format!("({id}, '{}', {})", vector_of(id, DIMENSIONS), id % TENANTS)).collect();
    execute(&mut client, &format!("INSERT INTO items VALUES {}", values.join(", ")));
    let over = AtomicBool::new(false);
    let ends = Instant::now() + Duration::from_secs(short_or_long(8, 120));
    std::thread::scope(|scope| {
        for writer in 0..2i64 {
            let (cluster, over) = (&cluster, &over);
            scope.spawn(move || {
                let mut client = cluster.connect();
                let mut random = Random::new(80 + writer as u64);
                while !over.load(Ordering::Relaxed) {
                    // Each row has one writer.
                    let id = 2 * random.below(150) as i64 + writer;
                    execute(
                        &mut client,
                        &format!("UPDATE items SET tenant = (tenant + 1) % {TENANTS} WHERE id = {id}"),
                    );
                }
            });
        }
        for reader in 0..2u64 {
            let (cluster, over) = (&cluster, &over);
            scope.spawn(move || {
                let mut client = cluster.connect();
                answered.use_index(&mut client);
                let mut random = Random::new(90 + reader);
                while !over.load(Ordering::Relaxed) {
                    let query = vector_of(random.below(300) as i64, DIMENSIONS);
                    // All tenants in one snapshot: every row is some tenant's.
                    let each: Vec<String> = (0..TENANTS)
                        .map(|tenant| {
                            format!("(SELECT id, tenant, {tenant} AS asked FROM items WHERE tenant = {tenant} ORDER BY v <-> '{query}' LIMIT 1000)")
                        })
                        .collect();
                    let found = rows(&mut client, &each.join(" UNION ALL "));
                    assert!(found.iter().all(|row| row[1] == row[2]), "another tenant's row");
                    let found: Vec<i64> = found.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
                    assert_no_row_twice(&found);
                    assert_eq!(found.len(), 300);
                }
            });
        }
        let mut vacuums = cluster.connect();
        while Instant::now() < ends {
            execute(&mut vacuums, "VACUUM items");
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    execute(&mut client, "VACUUM items");
    assert_clean(&mut client, "near");
}
