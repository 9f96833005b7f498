//! A hot standby embeds, searches and answers, with the results of its primary.

use pg_rag_cluster_tests::session::{expect_error, rows, value};
use pg_rag_cluster_tests::{wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;

fn wait_for_replay(primary: &mut Client, standby: &mut Client) {
    let position = value(primary, "SELECT pg_current_wal_lsn()").expect("a position");
    wait_until("the standby has replayed everything", || {
        value(standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'")).as_deref() == Some("t")
    });
}

#[test]
fn standby_gives_the_results_of_its_primary() {
    let primary = Cluster::with_extension(ClusterOptions::default());
    let mut on_primary = primary.connect();
    on_primary
        .batch_execute(
            "CREATE TABLE notes (id integer PRIMARY KEY, body text);
             INSERT INTO notes VALUES (1, 'Bread is made of flour, water, yeast and salt.'),
                                      (2, 'The moon goes round the earth once in about a month.');
             SELECT rag_create_index('notes', 'body')",
        )
        .unwrap();
    let standby = Cluster::standby_of(&primary);
    let mut on_standby = standby.connect();
    assert_eq!(value(&mut on_standby, "SELECT pg_is_in_recovery()").as_deref(), Some("t"));
    assert!(standby.server_pids().is_empty(), "the base backup took no server along");

    // Rows that came by replay, not with the base backup.
    on_primary
        .batch_execute(
            "INSERT INTO notes VALUES (3, 'A bicycle stays upright because its rider steers into the fall.');",
        )
        .unwrap();
    assert_eq!(value(&mut on_primary, "SELECT rag_wait('notes_rag')").as_deref(), Some("t"));
    wait_for_replay(&mut on_primary, &mut on_standby);

    for query in [
        "SELECT embed('a text that was never embedded before', 'all-MiniLM-L6-v2')",
        "SELECT rank, source_key, chunk, score FROM rag_search('Why does a bike not fall over?')",
        "SELECT rank, source_key FROM rag_search('What goes round our planet?', where_sql => 'id < 3')",
        "SELECT index, state, source_rows, coverage, pending, failed FROM rag_index_status",
        "SELECT id FROM notes_rag ORDER BY embedding <=> embed_query('baking') LIMIT 1",
        "SELECT generate('What is the capital of France?', max_tokens => 12)",
        "SELECT answer, sources FROM rag_ask('What is bread made of?', k => 2, max_tokens => 16)",
    ] {
        let expected = rows(&mut on_primary, query);
        assert!(!expected.is_empty());
        assert_eq!(rows(&mut on_standby, query), expected, "{query}");
    }
    assert_eq!(primary.server_pids().len(), 1);
    assert_eq!(standby.server_pids().len(), 1);

    for write in [
        "SELECT rag_refresh('notes_rag')",
        "SELECT rag_wait('notes_rag')",
        "SELECT rag_retry('notes_rag')",
        "SELECT rag_create_index('notes', 'body', name => 'second')",
    ] {
        expect_error(on_standby.batch_execute(write), &SqlState::READ_ONLY_SQL_TRANSACTION);
    }
}
