//! DROP EXTENSION leaves no object and no process.

use pg_rag_cluster_tests::session::{rows, value};
use pg_rag_cluster_tests::{wait_until, Cluster, ClusterOptions};
use postgres::Client;
use std::collections::BTreeSet;

/// Everything that the database's catalogues hold, but for what autovacuum counts.
fn objects(client: &mut Client) -> BTreeSet<String> {
    let query = "
        SELECT 'dependency ' || pg_describe_object(classid, objid, objsubid) || ' on '
                             || pg_describe_object(refclassid, refobjid, refobjsubid) FROM pg_depend
        UNION ALL SELECT 'relation ' || oid::regclass FROM pg_class
        UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc
        UNION ALL SELECT 'type ' || oid::regtype FROM pg_type
        UNION ALL SELECT 'operator ' || oid::regoperator FROM pg_operator
        UNION ALL SELECT 'cast ' || castsource::regtype || ' to ' || casttarget::regtype FROM pg_cast
        UNION ALL SELECT 'schema ' || nspname FROM pg_namespace
        UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
        UNION ALL SELECT 'policy ' || polname FROM pg_policy
        UNION ALL SELECT 'rule ' || rulename || ' on ' || ev_class::regclass FROM pg_rewrite
        UNION ALL SELECT 'comment ' || classoid || ' ' || objoid || ' ' || objsubid FROM pg_description
        UNION ALL SELECT 'initial privileges ' || classoid || ' ' || objoid FROM pg_init_privs
        UNION ALL SELECT 'extension ' || extname FROM pg_extension
        UNION ALL SELECT 'shared dependency ' || classid || ' ' || objid FROM pg_shdepend";
    rows(client, query).into_iter().filter_map(|mut row| row.remove(0)).collect()
}

const DOCUMENTS: &str = "
    CREATE TABLE notes (id integer PRIMARY KEY, body text);
    INSERT INTO notes VALUES (1, 'Bread is made of flour, water and salt.'), (2, 'The moon goes round the earth.')";

#[test]
fn drop_by_a_session_that_never_used_the_library_leaves_nothing() {
    for preload in [false, true] {
        let cluster = Cluster::start(ClusterOptions { preload, ..Default::default() });
        let mut client = cluster.connect();
        client.batch_execute(DOCUMENTS).unwrap();
        let before = objects(&mut client);

        client.batch_execute("CREATE EXTENSION pg_rag; SELECT rag_create_index('notes', 'body')").unwrap();
        assert_eq!(cluster.server_pids().len(), 1);
        assert!(objects(&mut client).len() > before.len());
        drop(client);

        let mut other = cluster.connect();
        other.batch_execute("DROP EXTENSION pg_rag CASCADE").unwrap();
        wait_until("server and supervisor are gone", || {
            cluster.server_pids().is_empty() && cluster.supervisor_pids().is_empty()
        });
        let after = objects(&mut other);
        let left: Vec<_> = after.difference(&before).collect();
        assert!(left.is_empty(), "left behind: {left:#?}");
        let lost: Vec<_> = before.difference(&after).collect();
        assert!(lost.is_empty(), "dropped too much: {lost:#?}");
        assert_eq!(value(&mut other, "SELECT count(*) FROM notes").as_deref(), Some("2"));

        other.batch_execute("CREATE EXTENSION pg_rag; SELECT rag_create_index('notes', 'body')").unwrap();
        let found = value(&mut other, "SELECT source_key->>'id' FROM rag_search('How do I bake?', k => 1)");
        assert_eq!(found.as_deref(), Some("1"));
    }
}

#[test]
fn rolled_back_drop_keeps_the_server() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    value(&mut client, "SELECT embed('a text')");
    let server = cluster.server_pid();
    let mut other = cluster.connect();
    other.batch_execute("BEGIN; DROP EXTENSION pg_rag; ROLLBACK").unwrap();
    other.batch_execute("CREATE TABLE afterwards (id integer)").unwrap();
    value(&mut other, "SELECT embed('another text')");
    assert_eq!(cluster.server_pid(), server);
}

#[test]
fn drop_in_one_database_does_not_take_the_server_from_another() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    cluster.connect().batch_execute("CREATE DATABASE other").unwrap();
    let mut other = cluster.connect_to("other");
    other.batch_execute("CREATE EXTENSION pg_rag").unwrap();
    let mut user = cluster.connect();
    value(&mut user, "SELECT embed('before')");
    other.batch_execute("DROP EXTENSION pg_rag").unwrap();
    for text in ["first after it", "second after it"] {
        let dims = value(&mut user, &format!("SELECT vector_dims(embed('{text}'))"));
        assert_eq!(dims.as_deref(), Some("384"));
    }
}
