//! Ordinary roles can use everything over their own tables, and see of other tables what they may see.

use pg_rag_cluster_tests::session::{expect_error, rows, value};
use pg_rag_cluster_tests::{Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;

/// Alice owns a table of notes, of which each role sees its own; Bob may read it, Carol may not.
fn cluster_with_roles() -> Cluster {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    cluster
        .connect()
        .batch_execute(
            "CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN;
             CREATE SCHEMA shared AUTHORIZATION alice; GRANT USAGE ON SCHEMA shared TO bob, carol",
        )
        .unwrap();
    cluster
        .connect_as("alice", "postgres")
        .batch_execute(
            "CREATE TABLE shared.notes (id integer PRIMARY KEY, reader name NOT NULL, body text);
             INSERT INTO shared.notes VALUES (1, 'bob', 'Bread is made of flour, water, yeast and salt.'),
                                             (2, 'alice', 'The password of the safe is four seven one one.'),
                                             (3, 'bob', 'The moon goes round the earth once in about a month.')",
        )
        .unwrap();
    cluster
}

fn ids(client: &mut Client, query: &str) -> Vec<String> {
    rows(client, query).into_iter().filter_map(|mut row| row.remove(0)).collect()
}

#[test]
fn ordinary_role_has_the_whole_path_over_its_own_table() {
    let cluster = cluster_with_roles();
    let mut alice = cluster.connect_as("alice", "postgres");
    assert_eq!(value(&mut alice, "SELECT vector_dims(embed('a text'))").as_deref(), Some("384"));
    assert_eq!(
        value(&mut alice, "SELECT rag_create_index('shared.notes', 'body', sync => 'manual')").as_deref(),
        Some("shared.notes_rag")
    );
    let owners =
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname IN ('notes_rag', 'notes_rag_chunks')";
    assert_eq!(ids(&mut alice, owners), ["alice"]);
    let found = value(&mut alice, "SELECT source_key FROM rag_search('How do I open the safe?', k => 1)");
    assert_eq!(found.as_deref(), Some("{\"id\": 2}"));
    let answered = value(&mut alice, "SELECT length(rag_answer('What is bread made of?', max_tokens => 16)) > 0");
    assert_eq!(answered.as_deref(), Some("t"));
    alice.batch_execute("UPDATE shared.notes SET body = 'Tea is brewed with hot water.' WHERE id = 3").unwrap();
    assert_eq!(value(&mut alice, "SELECT embedded FROM rag_refresh('shared.notes_rag')").as_deref(), Some("1"));
    alice.batch_execute("SELECT rag_drop_index('shared.notes_rag')").unwrap();
    assert_eq!(
        value(&mut alice, "SELECT count(*) FROM pg_class WHERE relname LIKE 'notes_rag%'").as_deref(),
        Some("0")
    );
}

#[test]
fn ordinary_role_cannot_touch_models_or_other_indexes() {
    let cluster = cluster_with_roles();
    cluster.connect_as("alice", "postgres").batch_execute("SELECT rag_create_index('shared.notes', 'body')").unwrap();
    cluster
        .connect_as("alice", "postgres")
        .batch_execute("GRANT SELECT ON shared.notes, shared.notes_rag TO bob")
        .unwrap();
    let mut bob = cluster.connect_as("bob", "postgres");
    value(&mut bob, "SELECT embed('a text')"); // the library is loaded, and has defined its settings
    for statement in [
        "SELECT rag_add_model('mine', 'embed', '/etc')",
        "SELECT rag_drop_model('all-MiniLM-L6-v2')",
        "SELECT rag_load_model('all-MiniLM-L6-v2')",
        "SELECT rag_unload_model('all-MiniLM-L6-v2')",
        "INSERT INTO rag.model SELECT * FROM rag.model",
        "DELETE FROM rag.index",
        "SET pg_rag.model_path = '/etc'",
        "SHOW pg_rag.model_path",
        "SELECT rag_create_index('shared.notes', 'body', name => 'mine')",
        "SELECT rag_refresh('shared.notes_rag')",
        "SELECT rag_drop_index('shared.notes_rag')",
        "SELECT rag_pause_index('shared.notes_rag')",
        "SELECT rag_resume_index('shared.notes_rag')",
        "SELECT rag_retry('shared.notes_rag')",
        "SELECT count(*) FROM rag.queue",
        "SELECT count(*) FROM rag.sync",
        "INSERT INTO rag.change SELECT index, now(), '{}' FROM rag_indexes",
        "CREATE TABLE rag.mine (id integer)",
        "DELETE FROM rag.notes_rag_chunks",
    ] {
        let result = bob.batch_execute(statement);
        assert!(result.is_err(), "bob may: {statement}");
        expect_error(result, &SqlState::INSUFFICIENT_PRIVILEGE);
    }
    assert_eq!(value(&mut bob, "SELECT count(*) FROM rag_indexes").as_deref(), Some("1"));
}

#[test]
fn model_path_set_before_the_library_is_loaded_counts_for_nothing() {
    let cluster = cluster_with_roles();
    let mut bob = cluster.connect_as("bob", "postgres");
    // PostgreSQL takes any value for a setting that it does not know yet.
    bob.batch_execute("SET pg_rag.model_path = '/nonexistent'").unwrap();
    assert_eq!(value(&mut bob, "SELECT vector_dims(embed('a text'))").as_deref(), Some("384"));
}

#[test]
fn row_security_of_the_table_hides_chunks_everywhere() {
    let cluster = cluster_with_roles();
    cluster.connect_as("alice", "postgres").batch_execute("SELECT rag_create_index('shared.notes', 'body')").unwrap();
    cluster
        .connect_as("alice", "postgres")
        .batch_execute(
            "ALTER TABLE shared.notes ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON shared.notes USING (reader = current_user);
             GRANT SELECT ON shared.notes, shared.notes_rag TO bob",
        )
        .unwrap();
    let mut bob = cluster.connect_as("bob", "postgres");
    for query in [
        "SELECT id FROM shared.notes_rag ORDER BY id",
        "SELECT source_id FROM rag.notes_rag_chunks ORDER BY 1",
        "SELECT source_key->>'id' FROM rag_search('What is the password of the safe?', k => 10) ORDER BY 1",
        "SELECT source_key->>'id' FROM rag_search('password', where_sql => 'true OR id = 2') ORDER BY 1",
        "SELECT s->'source_key'->>'id' FROM rag_ask('password', max_tokens => 4), jsonb_array_elements(sources) s ORDER BY 1",
    ] {
        assert_eq!(ids(&mut bob, query), ["1", "3"], "{query}");
    }
    // A function that tells what it sees is called only for visible rows.
    bob.batch_execute(
        "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
             $$ BEGIN IF $1 LIKE '%password%' THEN RAISE EXCEPTION 'seen: %', $1; END IF; RETURN true; END $$",
    )
    .unwrap();
    for query in [
        "SELECT count(*) FROM rag.notes_rag_chunks WHERE pg_temp.tell(chunk)",
        "SELECT count(*) FROM shared.notes_rag WHERE pg_temp.tell(chunk)",
        "SELECT count(*) FROM rag_search('password', where_sql => 'pg_temp.tell(body)')",
    ] {
        assert_eq!(value(&mut bob, query).as_deref(), Some("2"), "{query}");
    }
}

#[test]
fn role_that_may_not_read_the_table_sees_no_chunk() {
    let cluster = cluster_with_roles();
    cluster
        .connect_as("alice", "postgres")
        .batch_execute("SELECT rag_create_index('shared.notes', 'body'); GRANT SELECT ON shared.notes_rag TO carol")
        .unwrap();
    let mut carol = cluster.connect_as("carol", "postgres");
    for query in [
        "SELECT * FROM shared.notes_rag",
        "SELECT * FROM rag.notes_rag_chunks",
        "SELECT chunk FROM rag.notes_rag_chunks WHERE source_id = 2",
        "SELECT * FROM rag_search('password')",
        "SELECT rag_answer('password', max_tokens => 4)",
    ] {
        expect_error(carol.simple_query(query), &SqlState::INSUFFICIENT_PRIVILEGE);
    }
}
