//! Values at the edges: equal ones, NULL, zero vectors, and searches for more rows than the index keeps in sight.

use pg_rag_cluster_tests::data::{dense, vector_of, Random};
use pg_rag_cluster_tests::hnsw::{
    add_rows, assert_clean, assert_no_row_twice, assert_uses_index, ids, nearest, use_index, use_no_index,
};
use pg_rag_cluster_tests::session::{execute, value};
use pg_rag_cluster_tests::{Cluster, ClusterOptions};
use postgres::Client;

/// A session that searches the empty table `items` through its index.
fn with_index(cluster: &Cluster, dimensions: usize, class: &str) -> Client {
    let mut client = cluster.connect();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, v vector({dimensions}));
             CREATE INDEX near ON items USING hnsw (v {class})"
        ),
    );
    use_index(&mut client);
    client
}

fn rebuild(client: &mut Client) {
    execute(client, "REINDEX INDEX near");
    assert_clean(client, "near");
}

#[test]
fn ten_thousand_equal_vectors() {
    const ROWS: i64 = 10_000;
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = with_index(&cluster, 3, "vector_l2_ops");
    add_rows(&mut client, "items", (0..ROWS).map(|id| (id, "[1,2,3]")));
    for build in [false, true] {
        if build {
            rebuild(&mut client);
        }
        for limit in [1, 10, 100, 1_000] {
            let near = nearest(&mut client, "items", "<->", "[1,2,4]", limit);
            assert_eq!(near.len(), limit);
            assert_no_row_twice(&near.iter().map(|row| row.0).collect::<Vec<_>>());
            assert!(near.iter().all(|row| row.1 == 1.0));
        }
    }
    // Equal vectors share what the index stores: it must lose the deleted rows and keep the others.
    execute(&mut client, "DELETE FROM items WHERE id % 10 <> 0");
    execute(&mut client, "VACUUM items");
    assert_clean(&mut client, "near");
    assert_eq!(nearest(&mut client, "items", "<->", "[1,2,4]", 500).len(), 500);
    add_rows(&mut client, "items", [(ROWS, "[1,2,4]")]);
    assert_eq!(nearest(&mut client, "items", "<->", "[1,2,4]", 1), [(ROWS, 0.0)]);
    execute(&mut client, "DELETE FROM items");
    execute(&mut client, "VACUUM items");
    assert_clean(&mut client, "near");
    assert!(nearest(&mut client, "items", "<->", "[1,2,4]", 10).is_empty());
}

#[test]
fn equal_vectors_do_not_hide_others() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = with_index(&cluster, 3, "vector_l2_ops");
    add_rows(&mut client, "items", (0..2_000).map(|id| (id, "[0,0,0]")));
    add_rows(&mut client, "items", (2_000..2_050).map(|id| (id, format!("[{},0,0]", id - 1_999))));
    for build in [false, true] {
        if build {
            rebuild(&mut client);
        }
        for (id, at) in [(2_000, 1), (2_025, 26), (2_049, 50)] {
            assert_eq!(nearest(&mut client, "items", "<->", &format!("[{at},0,0]"), 1), [(id, 0.0)]);
        }
    }
}

#[test]
fn null_vectors_are_not_found_and_harm_nothing() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = with_index(&cluster, 8, "vector_l2_ops");
    let value_of = |id: i64| if id % 2 == 0 { "\\N".to_owned() } else { vector_of(id, 8) };
    add_rows(&mut client, "items", (0..200).map(|id| (id, value_of(id))));
    for build in [false, true] {
        if build {
            rebuild(&mut client);
        }
        let query = format!("SELECT id FROM items ORDER BY v <-> '{}'", vector_of(7, 8));
        assert_uses_index(&mut client, &query);
        let found = ids(&mut client, &query);
        assert_eq!(found.len(), 100);
        assert_no_row_twice(&found);
        assert!(found.iter().all(|id| id % 2 == 1));
        // Nothing is nearer to NULL than anything else.
        let found = ids(&mut client, "SELECT id FROM items ORDER BY v <-> (SELECT NULL::vector)");
        assert_no_row_twice(&found);
        assert!(found.len() >= 100);
    }
    execute(
        &mut client,
        "UPDATE items SET v = NULL WHERE id % 4 = 1; UPDATE items SET v = '[1,1,1,1,1,1,1,1]' WHERE id = 0",
    );
    execute(&mut client, "VACUUM items");
    assert_clean(&mut client, "near");
    assert_eq!(nearest(&mut client, "items", "<->", "[1,1,1,1,1,1,1,1]", 1), [(0, 0.0)]);
    assert_eq!(nearest(&mut client, "items", "<->", "[1,1,1,1,1,1,1,1]", 200).len(), 51);
}

#[test]
fn zero_vectors_under_cosine() {
    // They have no direction: their distance is NaN, behind all numbers. Whether the index has them is its own business.
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = with_index(&cluster, 4, "vector_cosine_ops");
    let value_of = |id: i64| if id % 5 == 0 { "[0,0,0,0]".to_owned() } else { vector_of(id, 4) };
    add_rows(&mut client, "items", (0..500).map(|id| (id, value_of(id))));
    for build in [false, true] {
        if build {
            rebuild(&mut client);
        }
        execute(&mut client, "SET hnsw.ef_search = 400");
        let to = vector_of(1_000, 4);
        let near = nearest(&mut client, "items", "<=>", &to, 400);
        use_no_index(&mut client);
        let exact = nearest(&mut client, "items", "<=>", &to, 400);
        use_index(&mut client);
        assert!(near.len() == 400 && near.iter().all(|row| row.0 % 5 != 0), "all but the zero vectors");
        let distances = |rows: &[(i64, f64)]| rows.iter().map(|row| row.1).collect::<Vec<_>>();
        assert_eq!(distances(&near), distances(&exact));
        // Nothing is known about the order; the search must only end well.
        nearest(&mut client, "items", "<=>", "[0,0,0,0]", 10);
    }
    execute(&mut client, "DELETE FROM items WHERE id % 10 = 0");
    execute(&mut client, "VACUUM items");
    assert_clean(&mut client, "near");
    // Nothing but zero vectors.
    execute(&mut client, "DELETE FROM items WHERE id % 5 <> 0; REINDEX INDEX near");
    assert_clean(&mut client, "near");
    nearest(&mut client, "items", "<=>", &vector_of(1_000, 4), 10);
}

#[test]
fn limit_beyond_ef_search_returns_all_rows() {
    const ROWS: usize = 3_000;
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = with_index(&cluster, 16, "vector_l2_ops");
    add_rows(&mut client, "items", (0..ROWS as i64).map(|id| (id, vector_of(id, 16))));
    for build in [false, true] {
        if build {
            rebuild(&mut client);
        }
        for ef_search in [1, 40, 1_000] {
            execute(&mut client, &format!("SET hnsw.ef_search = {ef_search}"));
            let query = format!("SELECT id FROM items ORDER BY v <-> '{}'", vector_of(-1, 16));
            assert_uses_index(&mut client, &query);
            let found = ids(&mut client, &query);
            assert_no_row_twice(&found);
            assert_eq!(found.len(), ROWS, "with hnsw.ef_search = {ef_search}");
            // A filter that few rows pass.
            let few = ids(
                &mut client,
                &format!("SELECT id FROM items WHERE id % 300 = 7 ORDER BY v <-> '{}' LIMIT 10", vector_of(-2, 16)),
            );
            assert_eq!(few.len(), 10, "with hnsw.ef_search = {ef_search}");
        }
    }
}

#[test]
fn tables_of_no_and_one_row() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = with_index(&cluster, 3, "vector_l2_ops");
    for build in [false, true] {
        if build {
            rebuild(&mut client);
        }
        assert!(nearest(&mut client, "items", "<->", "[1,2,3]", 5).is_empty());
        add_rows(&mut client, "items", [(1, "[1,2,2]")]);
        assert_eq!(nearest(&mut client, "items", "<->", "[1,2,3]", 5), [(1, 1.0)]);
        execute(&mut client, "DELETE FROM items");
        assert!(nearest(&mut client, "items", "<->", "[1,2,3]", 5).is_empty());
        execute(&mut client, "VACUUM items");
        assert!(nearest(&mut client, "items", "<->", "[1,2,3]", 5).is_empty());
        assert_clean(&mut client, "near");
    }
    assert_eq!(value(&mut client, "SELECT count(*) FROM items").as_deref(), Some("0"));
}

#[test]
fn extreme_numbers_are_searched_exactly() {
    // Large, tiny and mixed magnitudes: whatever codes the index computes with, the order is that of the numbers.
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = with_index(&cluster, 64, "vector_l2_ops");
    for scale in ["1e15", "1e-15", "1"] {
        let mut random = Random::new(3);
        let rows: Vec<String> =
            (0..100).map(|_| dense(&(0..64).map(|_| random.unit() - 0.5).collect::<Vec<_>>())).collect();
        execute(
            &mut client,
            "TRUNCATE items; DROP TABLE IF EXISTS plain; CREATE TABLE plain (id bigint, v vector(64))",
        );
        add_rows(&mut client, "plain", (0..).zip(&rows));
        let scaled = format!("array_fill({scale}::real, ARRAY[64])::vector");
        execute(
            &mut client,
            &format!("SET hnsw.ef_search = 200; INSERT INTO items SELECT id, v * {scaled} FROM plain"),
        );
        assert_clean(&mut client, "near");
        for query in [0, 50, 99] {
            let to = value(&mut client, &format!("SELECT v FROM items WHERE id = {query}")).expect("a vector");
            use_no_index(&mut client);
            let exact = nearest(&mut client, "items", "<->", &to, 20);
            use_index(&mut client);
            assert_eq!(nearest(&mut client, "items", "<->", &to, 20), exact, "scaled by {scale}");
        }
    }
}
