//! Indexes follow their tables by themselves, whatever happens to the worker, the model server and the cluster meanwhile.

use pg_rag_cluster_tests::crash::{crash, Crash};
use pg_rag_cluster_tests::session::{execute, expect_error, rows, value};
use pg_rag_cluster_tests::{account, process, run, wait_until, Cluster, ClusterOptions, Stop};
use postgres::error::SqlState;
use postgres::Client;

/// Rows of a backfill that takes much longer than a test looks at it.
const MANY: usize = 600;

fn make_notes(client: &mut Client, count: usize) {
    execute(
        client,
        &format!(
            "CREATE TABLE notes (id integer PRIMARY KEY, body text, reads integer NOT NULL DEFAULT 0);
             INSERT INTO notes (id, body)
                 SELECT i, 'Note ' || i || string_agg(' tells that ' || i * j || ' is a number.', '' ORDER BY j)
                   FROM generate_series(1, {count}) i, generate_series(1, 12) j GROUP BY i"
        ),
    );
}

fn wait_for(client: &mut Client, index: &str) {
    assert_eq!(value(client, &format!("SELECT rag_wait('{index}', '2 min')")).as_deref(), Some("t"), "{index}");
}

/// The index has what an index would have that is made from scratch now.
fn assert_complete(client: &mut Client, index: &str) {
    let chunks = value(client, &format!("SELECT chunks FROM rag_indexes WHERE index = '{index}'::regclass")).unwrap();
    let source = value(client, &format!("SELECT source FROM rag_indexes WHERE index = '{index}'::regclass")).unwrap();
    let column =
        value(client, &format!("SELECT column_name FROM rag_indexes WHERE index = '{index}'::regclass")).unwrap();
    execute(
        client,
        &format!("SELECT rag_create_index('{source}', '{column}', name => 'from_scratch', sync => 'manual')"),
    );
    let content = |chunks: &str| {
        format!(
            "SELECT source_id, chunk_seq, chunk, char_start, char_end, tokens, headings, source_hash, chunk_hash FROM {chunks}"
        )
    };
    let (own, fresh) = (content(&chunks), content("rag.from_scratch_chunks"));
    for (one, other) in [(&own, &fresh), (&fresh, &own)] {
        let differing = format!("SELECT count(*) FROM (({one}) EXCEPT ALL ({other})) d");
        assert_eq!(value(client, &differing).as_deref(), Some("0"), "{differing}");
    }
    let apart = format!(
        "SELECT count(*) FROM {chunks} a JOIN rag.from_scratch_chunks b USING (source_id, chunk_seq)
          WHERE a.embedding <-> b.embedding > 1e-3"
    );
    assert_eq!(value(client, &apart).as_deref(), Some("0"));
    execute(client, "SELECT rag_drop_index('from_scratch')");
}

fn workers(cluster: &Cluster) -> Vec<i32> {
    process::titled_in("pg_rag sync worker", &cluster.data())
}

/// Starts a backfill and waits until some rows are in the index.
fn start_backfill(cluster: &Cluster, client: &mut Client) {
    make_notes(client, MANY);
    execute(client, "SELECT rag_create_index('notes', 'body', wait => false)");
    wait_until("some rows are in the index", || {
        let stored = value(client, "SELECT count(*) > 50 FROM rag.notes_rag_chunks").as_deref() == Some("t");
        assert!(
            value(client, "SELECT pending > 0 FROM rag_index_status").as_deref() == Some("t"),
            "the backfill ended before the test could look at it"
        );
        stored
    });
    assert_eq!(workers(cluster).len(), 1);
}

fn durable() -> ClusterOptions<'static> {
    ClusterOptions { durable: true, ..Default::default() }
}

#[test]
fn changes_reach_the_index_by_themselves_and_the_worker_leaves() {
    let conf = [("pg_rag.sync_worker_idle", "300ms")];
    let cluster = Cluster::with_extension(ClusterOptions { conf: &conf, ..Default::default() });
    let mut client = cluster.connect();
    make_notes(&mut client, 20);
    execute(&mut client, "SELECT rag_create_index('notes', 'body')");
    for change in [
        "INSERT INTO notes SELECT 100 + i, 'New note ' || i FROM generate_series(1, 40) i",
        "UPDATE notes SET body = 'Changed ' || body WHERE id % 3 = 0",
        "UPDATE notes SET id = id + 1000 WHERE id % 5 = 0",
        "UPDATE notes SET body = NULL WHERE id % 7 = 0",
        "DELETE FROM notes WHERE id % 11 = 0",
        "INSERT INTO notes VALUES (1, 'Upserted') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        "MERGE INTO notes n USING (VALUES (2, 'Merged'), (5000, 'Merged too')) m(id, body) ON n.id = m.id
             WHEN MATCHED THEN UPDATE SET body = m.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (m.id, m.body)",
        "WITH gone AS (DELETE FROM notes WHERE id % 13 = 0 RETURNING id) INSERT INTO notes SELECT id, 'Back' FROM gone",
        "TRUNCATE notes",
        "INSERT INTO notes VALUES (7, 'After the end')",
    ] {
        execute(&mut client, change);
        wait_for(&mut client, "notes_rag");
        assert_complete(&mut client, "notes_rag");
    }
    wait_until("the worker has left", || workers(&cluster).is_empty());
    execute(&mut client, "CREATE DATABASE copied TEMPLATE template0");
    execute(&mut client, "INSERT INTO notes VALUES (8, 'When nobody was there')");
    wait_until("the row arrives without a call", || {
        value(&mut client, "SELECT count(*) FROM notes_rag WHERE id = 8").as_deref() == Some("1")
    });
}

#[test]
fn killed_worker_leaves_a_complete_index() {
    let cluster = Cluster::with_extension(durable());
    let mut client = cluster.connect();
    start_backfill(&cluster, &mut client);
    let [worker] = workers(&cluster)[..] else { panic!("one worker expected") };
    drop(client);
    crash(&cluster, Crash::KilledBackend(worker));
    // Without any call: PostgreSQL starts the worker again.
    wait_until("a worker is back", || !workers(&cluster).is_empty());
    let mut client = cluster.connect();
    wait_for(&mut client, "notes_rag");
    assert_complete(&mut client, "notes_rag");
}

#[test]
fn stopped_cluster_leaves_a_complete_index() {
    let cluster = Cluster::with_extension(ClusterOptions { preload: true, ..durable() });
    let mut client = cluster.connect();
    start_backfill(&cluster, &mut client);
    drop(client);
    cluster.stop(Stop::Immediate);
    cluster.start_server();
    // Preloaded: the supervisor finds what was unfinished.
    wait_until("a worker is back", || !workers(&cluster).is_empty());
    let mut client = cluster.connect();
    wait_for(&mut client, "notes_rag");
    assert_complete(&mut client, "notes_rag");
}

#[test]
fn killed_model_server_leaves_a_complete_index() {
    let cluster = Cluster::with_extension(durable());
    let mut client = cluster.connect();
    start_backfill(&cluster, &mut client);
    cluster.kill_server_process();
    wait_for(&mut client, "notes_rag");
    assert_complete(&mut client, "notes_rag");
    assert_eq!(value(&mut client, "SELECT failed FROM rag_index_status").as_deref(), Some("0"));
}

#[test]
fn terminated_worker_comes_back() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    start_backfill(&cluster, &mut client);
    let status = "SELECT worker_pid FROM rag_index_status";
    let worker: i32 = value(&mut client, status).unwrap().parse().unwrap();
    execute(&mut client, &format!("SELECT pg_terminate_backend({worker})"));
    wait_until("the worker has ended", || !process::is_alive(worker));
    wait_for(&mut client, "notes_rag");
    assert_complete(&mut client, "notes_rag");
}

#[test]
fn databases_with_twenty_indexes_take_turns_where_there_is_one_slot() {
    // One slot for the supervisor, one for workers.
    let conf = [("max_worker_processes", "2"), ("max_logical_replication_workers", "0")];
    let cluster = Cluster::with_extension(ClusterOptions { conf: &conf, ..Default::default() });
    let mut clients = vec![cluster.connect()];
    execute(&mut clients[0], "CREATE DATABASE other");
    clients.push(cluster.connect_to("other"));
    execute(&mut clients[1], "CREATE EXTENSION pg_rag");
    for client in &mut clients {
        make_notes(client, 60);
        for index in 0..10 {
            execute(
                client,
                &format!("SELECT rag_create_index('notes', 'body', name => 'index_{index}', wait => false)"),
            );
        }
    }
    for client in &mut clients {
        for index in 0..10 {
            wait_for(client, &format!("index_{index}"));
            assert_complete(client, &format!("index_{index}"));
        }
    }
}

#[test]
fn writers_neither_wait_for_the_worker_nor_fail() {
    const WRITERS: usize = 4;
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    make_notes(&mut client, 100);
    execute(&mut client, "SELECT rag_create_index('notes', 'body')");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut client = cluster.connect();
                for round in 0..30 {
                    let id = 1 + (writer * 25 + round % 25);
                    // In a snapshot of its own, an upsert into a shared table would fail now and then.
                    execute(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
                    execute(
                        &mut client,
                        &format!("UPDATE notes SET body = 'Round {round} of {writer}' WHERE id = {id}"),
                    );
                    execute(&mut client, &format!("DELETE FROM notes WHERE id = {}", 1000 + writer));
                    execute(&mut client, &format!("INSERT INTO notes VALUES ({}, 'Number {round}')", 1000 + writer));
                    execute(&mut client, if round % 7 == 6 { "ROLLBACK" } else { "COMMIT" });
                }
            });
        }
    });
    wait_for(&mut client, "notes_rag");
    assert_complete(&mut client, "notes_rag");
}

#[test]
fn transaction_that_waits_holds_nobody_up() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    make_notes(&mut client, 10);
    execute(&mut client, "SELECT rag_create_index('notes', 'body')");
    let mut idle = cluster.connect();
    execute(&mut idle, "BEGIN; UPDATE notes SET body = 'Not committed' WHERE id = 1");
    execute(&mut client, "UPDATE notes SET body = 'Committed' WHERE id = 2");
    wait_for(&mut client, "notes_rag");
    assert_eq!(value(&mut client, "SELECT chunk FROM notes_rag WHERE id = 2").as_deref(), Some("Committed"));
    execute(&mut idle, "COMMIT");
    wait_for(&mut client, "notes_rag");
    assert_eq!(value(&mut client, "SELECT chunk FROM notes_rag WHERE id = 1").as_deref(), Some("Not committed"));
    execute(&mut idle, "BEGIN; UPDATE notes SET body = 'Prepared' WHERE id = 3");
    expect_error(
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT rag_wait('notes_rag')"),
        &SqlState::ACTIVE_SQL_TRANSACTION,
    );
}

#[test]
fn writer_without_rights_on_the_index_writes_and_owner_sees_errors() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    cluster
        .connect()
        .batch_execute("CREATE ROLE owner LOGIN; CREATE ROLE writer LOGIN; CREATE SCHEMA own AUTHORIZATION owner; GRANT USAGE ON SCHEMA own TO writer")
        .unwrap();
    let mut owner = cluster.connect_as("owner", "postgres");
    execute(
        &mut owner,
        "CREATE TABLE own.notes (id integer PRIMARY KEY, body text); GRANT SELECT, INSERT, UPDATE, DELETE ON own.notes TO writer",
    );
    execute(&mut owner, "SELECT rag_create_index('own.notes', 'body')");
    execute(&mut owner, "SELECT rag_create_index('own.notes', 'body', name => 'at_once', sync => 'immediate')");
    execute(&mut owner, "ALTER TABLE rag.notes_rag_chunks ADD CHECK (chunk NOT LIKE '%poison%')");
    let mut writer = cluster.connect_as("writer", "postgres");
    execute(&mut writer, "INSERT INTO own.notes SELECT i, 'Note ' || i FROM generate_series(1, 10) i");
    execute(&mut writer, "INSERT INTO own.notes VALUES (11, 'This is poison')");
    wait_until("the rows arrive", || {
        value(&mut owner, "SELECT count(*) FROM own.notes_rag").as_deref() == Some("10")
            && value(&mut owner, "SELECT count(*) FROM rag_index_errors").as_deref() == Some("1")
    });
    assert_eq!(value(&mut owner, "SELECT count(*) FROM own.at_once").as_deref(), Some("11"));
    assert_eq!(rows(&mut owner, "SELECT index FROM rag_index_status").len(), 2);
    assert!(rows(&mut writer, "SELECT index FROM rag_index_status").is_empty(), "writer may not read the index");
    assert!(rows(&mut writer, "SELECT key FROM rag_index_errors").is_empty());
    for query in ["SELECT * FROM rag.change", "SELECT * FROM rag.queue", "DELETE FROM rag.sync"] {
        expect_error(writer.simple_query(query), &SqlState::INSUFFICIENT_PRIVILEGE);
    }
}

#[test]
fn code_of_the_owner_runs_with_the_rights_of_the_owner() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    cluster.connect().batch_execute("CREATE ROLE mallory LOGIN; CREATE SCHEMA own AUTHORIZATION mallory").unwrap();
    let mut mallory = cluster.connect_as("mallory", "postgres");
    execute(
        &mut mallory,
        "CREATE TABLE own.notes (id integer PRIMARY KEY, body text);
         CREATE TABLE own.seen (who text, path text);
         SELECT rag_create_index('own.notes', 'body');
         CREATE FUNCTION own.spy() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO own.seen VALUES (current_user || ' ' || session_user, current_setting('search_path'));
                   BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; EXCEPTION WHEN insufficient_privilege THEN NULL; END;
                   BEGIN EXECUTE 'RESET ROLE; ALTER ROLE mallory SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
                   RETURN NEW; END $$;
         CREATE TRIGGER spy BEFORE INSERT ON rag.notes_rag_chunks FOR EACH ROW EXECUTE FUNCTION own.spy()",
    );
    execute(&mut mallory, "INSERT INTO own.notes VALUES (1, 'A text')");
    wait_for(&mut mallory, "own.notes_rag");
    let seen = rows(&mut mallory, "SELECT split_part(who, ' ', 1), path FROM own.seen");
    assert_eq!(seen, [[Some("mallory".to_owned()), Some("pg_catalog, pg_temp".to_owned())]]);
    let is_super = value(&mut mallory, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'");
    assert_eq!(is_super.as_deref(), Some("f"));
}

#[test]
fn logical_replication_into_a_source_is_followed() {
    let conf = [("wal_level", "logical"), ("max_worker_processes", "16")];
    let publisher = Cluster::start(ClusterOptions { conf: &conf, ..Default::default() });
    let mut source = publisher.connect();
    execute(
        &mut source,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'Copied at first')",
    );
    execute(&mut source, "CREATE PUBLICATION everything FOR ALL TABLES");
    let subscriber = Cluster::with_extension(ClusterOptions { conf: &conf, ..Default::default() });
    let mut client = subscriber.connect();
    execute(&mut client, "CREATE TABLE notes (id integer PRIMARY KEY, body text)");
    execute(&mut client, "SELECT rag_create_index('notes', 'body')");
    let folder = value(&mut source, "SHOW unix_socket_directories").unwrap();
    execute(
        &mut client,
        &format!("CREATE SUBSCRIPTION copy CONNECTION 'host={folder} port=5432 user=postgres dbname=postgres' PUBLICATION everything"),
    );
    let chunks = "SELECT string_agg(source_id || ' ' || chunk, ', ' ORDER BY source_id) FROM rag.notes_rag_chunks";
    let mut expect = |change: &str, content: Option<&str>| {
        execute(&mut source, change);
        wait_until(change, || value(&mut client, chunks).as_deref() == content);
    };
    expect("SELECT 1", Some("1 Copied at first"));
    expect("INSERT INTO notes VALUES (2, 'Replicated')", Some("1 Copied at first, 2 Replicated"));
    expect("UPDATE notes SET body = 'Changed' WHERE id = 1", Some("1 Changed, 2 Replicated"));
    expect("DELETE FROM notes WHERE id = 2", Some("1 Changed"));
    expect("TRUNCATE notes", None);
    execute(&mut client, "DROP SUBSCRIPTION copy");
}

#[test]
fn dumped_queue_goes_on_where_it_is_restored() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    make_notes(&mut client, 20);
    execute(&mut client, "SELECT rag_create_index('notes', 'body')");
    wait_for(&mut client, "notes_rag");
    execute(&mut client, "SELECT rag_pause_index('notes_rag')");
    execute(&mut client, "UPDATE notes SET body = 'Changed' WHERE id = 1; ALTER TABLE notes DROP COLUMN reads CASCADE");
    // The view went with the column; another index has something to do.
    execute(&mut client, "SELECT rag_create_index('notes', 'body'); SELECT rag_pause_index('notes_rag')");
    execute(&mut client, "UPDATE notes SET body = 'Changed again' WHERE id = 1");
    execute(&mut client, "CREATE DATABASE restored");
    let script = tempfile::NamedTempFile::new().expect("a temporary file");
    account::give(script.path());
    run(cluster.client_program("pg_dump").arg("-f").arg(script.path()).arg("postgres"));
    run(cluster
        .client_program("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f"])
        .arg(script.path()));
    let mut restored = cluster.connect_to("restored");
    let triggers = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'notes'::regclass ORDER BY 1";
    assert_eq!(rows(&mut restored, triggers), rows(&mut client, triggers));
    assert_eq!(value(&mut restored, "SELECT state FROM rag_index_status").as_deref(), Some("paused"));
    execute(&mut restored, "SELECT rag_resume_index('notes_rag')");
    wait_for(&mut restored, "notes_rag");
    assert_eq!(value(&mut restored, "SELECT chunk FROM notes_rag WHERE id = 1").as_deref(), Some("Changed again"));
    assert_complete(&mut restored, "notes_rag");
    execute(
        &mut restored,
        "ALTER TABLE notes RENAME COLUMN body TO text; UPDATE notes SET text = 'By its new name' WHERE id = 2",
    );
    wait_for(&mut restored, "notes_rag");
    assert_eq!(value(&mut restored, "SELECT chunk FROM notes_rag WHERE id = 2").as_deref(), Some("By its new name"));
}
