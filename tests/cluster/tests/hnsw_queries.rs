//! Searches through an hnsw index in all the ways that a statement can be run, and updates of what they find.

use pg_rag_cluster_tests::data::vector_of;
use pg_rag_cluster_tests::hnsw::{ids, nearest};
use pg_rag_cluster_tests::items::{assert_works, everything, make, start, DIMENSIONS};
use pg_rag_cluster_tests::session::{execute, rows};
use pg_rag_cluster_tests::wait_until;

#[test]
fn prepared_statements_cursors_and_rescans() {
    let (_cluster, mut client) = start();
    make(&mut client, "");
    // Often enough that the plan becomes a generic one.
    execute(&mut client, "PREPARE search (vector) AS SELECT id FROM items ORDER BY v <-> $1 LIMIT 3");
    for id in 0..12 {
        assert_eq!(ids(&mut client, &format!("EXECUTE search ('{}')", vector_of(id, DIMENSIONS)))[0], id);
    }
    let statement = client.prepare("SELECT id FROM items ORDER BY v <-> $1::text::vector LIMIT 2").unwrap();
    for id in 0..12 {
        let found = client.query(&statement, &[&vector_of(id, DIMENSIONS)]).unwrap();
        assert_eq!((found.len(), found[0].get::<_, i64>(0)), (2, id));
    }

    let expected = everything(&mut client);
    let query = format!("SELECT id FROM items ORDER BY v <-> '{}'", vector_of(-1, DIMENSIONS));
    // Its rows are kept when the transaction ends, whatever happens to the table.
    execute(&mut client, &format!("BEGIN; DECLARE held CURSOR WITH HOLD FOR {query}"));
    let mut found = ids(&mut client, "FETCH 5 FROM held");
    execute(&mut client, "COMMIT; DELETE FROM items WHERE id >= 200");
    found.extend(ids(&mut client, "FETCH ALL FROM held"));
    assert_eq!(found, expected);
    execute(&mut client, "CLOSE held");

    // Back and forth.
    let expected = everything(&mut client);
    execute(&mut client, &format!("BEGIN; DECLARE c SCROLL CURSOR FOR {query}"));
    assert_eq!(ids(&mut client, "FETCH 20 FROM c"), expected[..20]);
    assert_eq!(ids(&mut client, "FETCH BACKWARD 5 FROM c"), [18, 17, 16, 15, 14].map(|at| expected[at]));
    assert_eq!(ids(&mut client, "FETCH ABSOLUTE 100 FROM c"), expected[99..100]);
    assert_eq!(ids(&mut client, "FETCH FIRST FROM c"), expected[..1]);
    execute(&mut client, "COMMIT");

    // Each outer row starts the scan anew; NULL among them, and scans that are left early.
    let lateral = "SELECT o.id FROM (SELECT id, CASE WHEN id % 10 <> 0 THEN v END AS v FROM items) o
         CROSS JOIN LATERAL (SELECT id FROM items i ORDER BY i.v <-> o.v LIMIT 4) n
         WHERE o.id % 10 = 0 OR o.id IN (SELECT id FROM (SELECT id FROM items i ORDER BY i.v <-> o.v LIMIT 1) first)";
    assert_eq!(ids(&mut client, lateral).len(), 200 * 4);
    let each = "SELECT o.id FROM items o WHERE EXISTS (SELECT FROM (SELECT id FROM items i ORDER BY i.v <-> o.v LIMIT 2) n WHERE n.id = o.id)";
    assert_eq!(ids(&mut client, each).len(), 200);
}

#[test]
fn updates_that_touch_the_vector_or_not() {
    let (_cluster, mut client) = start();
    make(&mut client, "");
    for round in 0..3 {
        // The new versions fit on their pages, and the index need not know (HOT).
        execute(&mut client, &format!("UPDATE items SET note = 'round {round}'"));
        assert_works(&mut client, 300);
        // The same vector for a new version of the row.
        execute(&mut client, "UPDATE items SET id = id + 1000 WHERE id BETWEEN 0 AND 50");
        assert_works(&mut client, 300);
        execute(&mut client, "UPDATE items SET id = id - 1000 WHERE id >= 1000");
        assert_works(&mut client, 300);
        // A new vector, and back.
        execute(&mut client, &format!("UPDATE items SET v = '{}' WHERE id = 7", vector_of(5_000 + round, DIMENSIONS)));
        assert_eq!(nearest(&mut client, "items", "<->", &vector_of(5_000 + round, DIMENSIONS), 1), [(7, 0.0)]);
        execute(&mut client, &format!("UPDATE items SET v = '{}' WHERE id = 7", vector_of(7, DIMENSIONS)));
        assert_eq!(nearest(&mut client, "items", "<->", &vector_of(7, DIMENSIONS), 1), [(7, 0.0)]);
        assert_works(&mut client, 300);
        execute(&mut client, "VACUUM items");
        assert_works(&mut client, 300);
    }
    let hot = "SELECT pg_stat_force_next_flush() IS NOT NULL, n_tup_hot_upd > 0 FROM pg_stat_user_tables WHERE relname = 'items'";
    wait_until("an update was HOT", || rows(&mut client, hot)[0][1].as_deref() == Some("t"));
}
