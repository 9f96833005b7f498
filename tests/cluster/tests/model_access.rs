//! Who may use a model: its owner, those it is granted to, superusers, and nobody else, wherever it is used.

use pg_rag_cluster_tests::session::{execute, expect_error, rows, value};
use pg_rag_cluster_tests::{run, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::process::Stdio;

/// Alice has a model of her own; bob is a member of staff, carol of nothing.
fn cluster_with_roles() -> Cluster {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    execute(
        &mut cluster.connect(),
        "CREATE ROLE alice LOGIN; CREATE ROLE staff; CREATE ROLE bob LOGIN IN ROLE staff; CREATE ROLE carol LOGIN;
         GRANT EXECUTE ON FUNCTION rag_add_model(text, text, text, jsonb), rag_drop_model(text) TO alice, carol;
         GRANT CREATE ON SCHEMA public TO alice, bob, carol",
    );
    execute(&mut cluster.connect_as("alice", "postgres"), "SELECT rag_add_model('hers', 'embed', 'all-MiniLM-L6-v2')");
    cluster
}

fn granted_to(client: &mut Client, model: &str) -> Option<String> {
    value(client, &format!("SELECT granted_to FROM rag_models WHERE name = '{model}'"))
}

const USES: [&str; 8] = [
    "SELECT embed('a text', 'hers')",
    "SELECT embed(ARRAY['a text'], 'hers')",
    "SELECT embed_query('a text', 'hers')",
    "SELECT * FROM embed_tokens('a text', 'hers')",
    "SELECT token_count('a text', 'hers')",
    "SELECT tokenize('a text', 'hers')",
    "SELECT * FROM chunk('a text', model => 'hers')",
    "SELECT rag_model_memory('hers')",
];

#[test]
fn only_owner_granted_and_superusers_use_a_restricted_model() {
    let cluster = cluster_with_roles();
    let mut admin = cluster.connect();
    let of = |role: &str| cluster.connect_as(role, "postgres");
    let (mut alice, mut bob, mut carol) = (of("alice"), of("bob"), of("carol"));
    for client in [&mut alice, &mut bob, &mut carol] {
        USES.iter().for_each(|query| drop(rows(client, query)));
    }
    assert_eq!(granted_to(&mut bob, "hers").as_deref(), Some("{public}"));

    execute(&mut alice, "SELECT rag_revoke_model('hers', 'public'); SELECT rag_grant_model('hers', 'staff')");
    assert_eq!(granted_to(&mut carol, "hers").as_deref(), Some("{staff}"));
    for query in USES {
        for client in [&mut admin, &mut alice, &mut bob] {
            rows(client, query);
        }
        let denied = expect_error(carol.simple_query(query), &SqlState::INSUFFICIENT_PRIVILEGE);
        assert_eq!(denied.message, "permission denied for model \"hers\"", "{query}");
        assert!(denied.hint.contains("rag_grant_model"), "{query}: {}", denied.hint);
    }
    // By a setting, and through a function that acts for its owner.
    expect_error(
        carol.batch_execute("SET pg_rag.embedding_model = 'hers'; SELECT embed('a text')"),
        &SqlState::INSUFFICIENT_PRIVILEGE,
    );
    execute(
        &mut alice,
        "CREATE FUNCTION embed_for_all(text) RETURNS vector LANGUAGE sql SECURITY DEFINER AS $$ SELECT embed($1, 'hers') $$",
    );
    rows(&mut carol, "SELECT embed_for_all('a text')");

    // Only its owner decides.
    for statement in [
        "SELECT rag_grant_model('hers', 'carol')",
        "SELECT rag_revoke_model('hers', 'staff')",
        "SELECT rag_drop_model('hers')",
        "SELECT rag_revoke_model('all-MiniLM-L6-v2', 'public')",
        "INSERT INTO rag.model_grant VALUES ('hers', 'carol', 'use')",
        "DELETE FROM rag.restricted_model",
    ] {
        expect_error(carol.batch_execute(statement), &SqlState::INSUFFICIENT_PRIVILEGE);
    }
    expect_error(alice.batch_execute("SELECT rag_grant_model('hers', 'nobody')"), &SqlState::UNDEFINED_OBJECT);
    expect_error(alice.batch_execute("SELECT rag_grant_model('none', 'bob')"), &SqlState::UNDEFINED_OBJECT);

    // Taken back, and part of a transaction.
    execute(&mut alice, "BEGIN; SELECT rag_revoke_model('hers', 'staff'); ROLLBACK");
    rows(&mut bob, USES[0]);
    execute(&mut alice, "SELECT rag_revoke_model('hers', 'staff')");
    expect_error(bob.simple_query(USES[0]), &SqlState::INSUFFICIENT_PRIVILEGE);
    execute(&mut admin, "SELECT rag_grant_model('hers', 'public')");
    rows(&mut carol, USES[0]);
}

#[test]
fn roles_come_and_go() {
    let cluster = cluster_with_roles();
    let (mut admin, mut alice) = (cluster.connect(), cluster.connect_as("alice", "postgres"));
    execute(
        &mut alice,
        "SELECT rag_revoke_model('hers', 'public'); SELECT rag_grant_model('hers', 'bob'); SELECT rag_grant_model('hers', 'carol')",
    );
    execute(&mut admin, "ALTER ROLE bob RENAME TO robert");
    assert_eq!(granted_to(&mut admin, "hers").as_deref(), Some("{carol,robert}"));
    rows(&mut cluster.connect_as("robert", "postgres"), USES[0]);
    // A role with a grant can be dropped, and one that later has its name has not its grant.
    execute(&mut admin, "REVOKE CREATE ON SCHEMA public FROM robert; DROP ROLE robert; CREATE ROLE bob LOGIN");
    assert_eq!(granted_to(&mut admin, "hers").as_deref(), Some("{carol}"));
    let mut bob = cluster.connect_as("bob", "postgres");
    expect_error(bob.simple_query(USES[0]), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(value(&mut admin, "SELECT count(*) FROM rag.model_grant").as_deref(), Some("3"));
    execute(&mut alice, "SELECT rag_grant_model('hers', 'bob')");
    assert_eq!(value(&mut admin, "SELECT count(*) FROM rag.model_grant").as_deref(), Some("3"));
    // So can an owner; the model is the superusers' then.
    execute(
        &mut admin,
        "REVOKE CREATE ON SCHEMA public FROM alice;
         REVOKE ALL ON FUNCTION rag_add_model(text, text, text, jsonb), rag_drop_model(text) FROM alice; DROP ROLE alice",
    );
    assert_eq!(value(&mut admin, "SELECT owner FROM rag_models WHERE name = 'hers'"), None);
    execute(&mut admin, "SELECT rag_revoke_model('hers', 'bob')");
    expect_error(bob.simple_query(USES[0]), &SqlState::INSUFFICIENT_PRIVILEGE);
}

#[test]
fn indexes_ask_for_their_owner_and_searches_for_their_caller() {
    let cluster = cluster_with_roles();
    let of = |role: &str| cluster.connect_as(role, "postgres");
    let (mut alice, mut bob) = (of("alice"), of("bob"));
    execute(&mut alice, "SELECT rag_revoke_model('hers', 'public')");
    execute(&mut bob, "CREATE TABLE notes (id integer PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'Bread is made of flour.')");
    let create = "SELECT rag_create_index('notes', 'body', model => 'hers')";
    expect_error(bob.batch_execute(create), &SqlState::INSUFFICIENT_PRIVILEGE);
    execute(&mut alice, "SELECT rag_grant_model('hers', 'bob')");
    execute(&mut bob, create);
    execute(
        &mut bob,
        "GRANT SELECT ON notes, notes_rag TO carol; INSERT INTO notes VALUES (2, 'The moon goes round the earth.')",
    );
    assert_eq!(value(&mut bob, "SELECT rag_wait('notes_rag')").as_deref(), Some("t"));
    assert_eq!(value(&mut bob, "SELECT count(*) FROM rag_search('moon')").as_deref(), Some("2"));
    let mut carol = cluster.connect_as("carol", "postgres");
    expect_error(carol.simple_query("SELECT * FROM rag_search('moon')"), &SqlState::INSUFFICIENT_PRIVILEGE);

    // The worker acts for the index's owner, whoever changes the table.
    execute(&mut alice, "SELECT rag_revoke_model('hers', 'bob')");
    execute(&mut cluster.connect(), "INSERT INTO notes VALUES (3, 'Tea is brewed with hot water.')");
    let mut admin = cluster.connect();
    wait_until("the worker was refused", || {
        let error = "SELECT last_error FROM rag_index_status";
        value(&mut admin, error).is_some_and(|error| error.contains("permission denied for model \"hers\""))
    });
    execute(&mut alice, "SELECT rag_grant_model('hers', 'bob')");
    execute(&mut bob, "SELECT rag_retry('notes_rag')");
    wait_until("the row is in the index", || {
        value(&mut bob, "SELECT count(*) FROM notes_rag WHERE id = 3").as_deref() == Some("1")
    });
}

#[test]
fn a_restriction_survives_dump_and_restore_even_where_roles_are_missing() {
    let cluster = cluster_with_roles();
    execute(
        &mut cluster.connect(),
        "SELECT rag_revoke_model('hers', 'public'); SELECT rag_grant_model('hers', 'bob');
         SELECT rag_revoke_model('all-MiniLM-L6-v2', 'public'); SELECT rag_grant_model('all-MiniLM-L6-v2', 'carol')",
    );
    execute(&mut cluster.connect(), "CREATE DATABASE restored");
    execute(&mut cluster.connect(), "CREATE DATABASE elsewhere");
    let script = run(cluster.client_program("pg_dump").arg("postgres")).stdout;
    let restore = |database: &str| {
        let mut psql = cluster.client_program("psql");
        psql.args(["-X", "-q", "-d", database]).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut psql = psql.spawn().expect("psql runs");
        let mut input = psql.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, &script).expect("psql reads");
        drop(input);
        let output = psql.wait_with_output().expect("psql ends");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let access = "SELECT name, owner, granted_to FROM rag_models ORDER BY name COLLATE \"C\"";
    assert_eq!(restore("restored"), "");
    let expected = rows(&mut cluster.connect(), access);
    assert_eq!(rows(&mut cluster.connect_to("restored"), access), expected);
    let mut bob = cluster.connect_as("bob", "restored");
    rows(&mut bob, USES[0]);
    expect_error(bob.simple_query("SELECT embed('a text', 'all-MiniLM-L6-v2')"), &SqlState::INSUFFICIENT_PRIVILEGE);

    // Without carol, the grants cannot be restored; the restrictions are.
    execute(&mut cluster.connect_to("restored"), "DROP OWNED BY carol");
    execute(&mut cluster.connect(), "DROP OWNED BY carol; DROP ROLE carol");
    assert!(restore("elsewhere").contains("carol"));
    let mut bob = cluster.connect_as("bob", "elsewhere");
    for model in ["hers", "all-MiniLM-L6-v2"] {
        let query = format!("SELECT embed('a text', '{model}')");
        expect_error(bob.simple_query(&query), &SqlState::INSUFFICIENT_PRIVILEGE);
        rows(&mut cluster.connect_to("elsewhere"), &query);
    }
}
