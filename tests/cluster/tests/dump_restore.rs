//! A dumped database, restored under another name, has its vectors, indexes and models, and embeds nothing again.

use pg_rag_cluster_tests::data::vector_of;
use pg_rag_cluster_tests::hnsw::{assert_clean, ids, nearest};
use pg_rag_cluster_tests::http::{json, TestServer};
use pg_rag_cluster_tests::items::{self, add, assert_works, make, DIMENSIONS};
use pg_rag_cluster_tests::session::{execute, expect_error, rows, value};
use pg_rag_cluster_tests::{account, run, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

#[test]
fn restored_database_searches_without_embedding_again() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut original = cluster.connect();
    original
        .batch_execute(
            "SELECT rag_add_model('second name', 'embed', 'all-MiniLM-L6-v2');
             CREATE TABLE notes (id integer PRIMARY KEY, title text, body text, tags vector(3),
                                 title_vector vector(384) GENERATED ALWAYS AS (embed(title, 'all-MiniLM-L6-v2')) STORED);
             INSERT INTO notes VALUES
                 (1, 'Bread', 'Bread is made of flour, water, yeast and salt, and baked in a hot oven.', '[1,2,3]'),
                 (2, 'Moon', 'The moon goes round the earth once in about a month.', '[0.5,-1,1e-3]'),
                 (3, 'Bicycle', 'A bicycle stays upright because its rider steers into the fall.', NULL);
             CREATE INDEX ON notes ((vector_dims(embed(body, 'second name'))));
             SELECT rag_create_index('notes', 'body', model => 'second name')",
        )
        .unwrap();
    original.batch_execute("CREATE DATABASE restored").unwrap();

    let mut dump =
        cluster.client_program("pg_dump").arg("postgres").stdout(Stdio::piped()).spawn().expect("pg_dump runs");
    let mut restore = cluster.client_program("psql");
    restore.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored"]);
    run(restore.stdin(dump.stdout.take().expect("a pipe")));
    assert!(dump.wait().expect("pg_dump ends").success());

    let mut restored = cluster.connect_to("restored");
    for query in [
        "SELECT id, title, body, tags, title_vector FROM notes ORDER BY id",
        "SELECT id, chunk_seq, chunk, char_start, char_end, tokens, embedding FROM notes_rag ORDER BY id, chunk_seq",
        "SELECT index, source, chunks, column_name, model, strategy, size FROM rag_indexes",
        "SELECT name, kind, source, dimensions FROM rag_models ORDER BY name",
    ] {
        let expected = rows(&mut original, query);
        assert!(!expected.is_empty());
        assert_eq!(rows(&mut restored, query), expected, "{query}");
    }

    let refreshed = rows(&mut restored, "SELECT rows, chunks, embedded, removed_rows FROM rag_refresh('notes_rag')");
    assert_eq!(refreshed, [["0", "0", "0", "0"].map(|zero| Some(zero.to_owned()))]);
    let search =
        "SELECT rank, source_key, chunk, round(score::numeric, 5) FROM rag_search('Why does a bike not fall over?')";
    let found = rows(&mut restored, search);
    assert_eq!(found[0][1].as_deref(), Some("{\"id\": 3}"));
    assert_eq!(found, rows(&mut original, search));

    restored
        .batch_execute("INSERT INTO notes VALUES (4, 'Tea', 'Green tea is brewed with water that does not boil.')")
        .unwrap();
    assert_eq!(value(&mut restored, "SELECT rag_wait('notes_rag')").as_deref(), Some("t"));
    assert_eq!(value(&mut restored, "SELECT count(*) FROM notes_rag WHERE id = 4").as_deref(), Some("1"));
    assert_eq!(value(&mut restored, "SELECT rows FROM rag_refresh('notes_rag')").as_deref(), Some("0"));
    restored.batch_execute("SELECT rag_drop_index('notes_rag')").unwrap();
    assert_eq!(value(&mut restored, "SELECT count(*) FROM rag_indexes").as_deref(), Some("0"));
}

/// Dumps the cluster's first database with these options and restores it into a new one.
fn dump_and_restore(cluster: &Cluster, name: &str, dump_options: &[&str], reader: &str, reader_options: &[&str]) {
    cluster.connect().batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    let mut dump = cluster
        .client_program("pg_dump")
        .args(dump_options)
        .arg("postgres")
        .stdout(Stdio::piped())
        .spawn()
        .expect("pg_dump runs");
    let mut restore = cluster.client_program(reader);
    restore.args(reader_options).args(["-d", name]);
    run(restore.stdin(dump.stdout.take().expect("a pipe")));
    assert!(dump.wait().expect("pg_dump ends").success());
}

#[test]
fn restored_vectors_are_the_same_to_the_bit() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut original = cluster.connect();
    original
        .batch_execute(
            "CREATE DOMAIN unit AS vector(2) CHECK (vector_norm(VALUE) BETWEEN 0.999 AND 1.001);
             CREATE TABLE items (
                 id integer PRIMARY KEY, v vector(3) DEFAULT '[1,2,3]', h halfvec(2), s sparsevec(7), b bit(5), u unit,
                 many vector[], wide vector, norm double precision GENERATED ALWAYS AS (vector_norm(v)) STORED,
                 EXCLUDE USING btree (v WITH =));
             INSERT INTO items (id, v, h, s, b, u, many, wide)
             SELECT i, ARRAY[i / 3.0, -i, 1e-40 * i]::vector, ARRAY[i / 7.0, 6e-8]::halfvec, ('{7:' || i || '.1}/7')::sparsevec,
                    i::bit(5), ARRAY[cos(i), sin(i)]::vector, ARRAY[ARRAY[i]::vector, NULL],
                    (SELECT array_agg(random()) FROM generate_series(1, 1 + i * 100))::vector
               FROM generate_series(1, 50) i;
             INSERT INTO items (id) VALUES (0);
             CREATE INDEX ON items (h, s);
             CREATE INDEX ON items ((binary_quantize(v)));
             CREATE VIEW nearest AS SELECT id, v <-> '[1,2,3]' AS distance FROM items ORDER BY v <-> '[1,2,3]', id LIMIT 5;
             CREATE MATERIALIZED VIEW mean AS SELECT avg(v) AS v, sum(h) AS h FROM items",
        )
        .unwrap();
    dump_and_restore(&cluster, "from_text", &[], "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    dump_and_restore(&cluster, "from_inserts", &["--inserts"], "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    dump_and_restore(&cluster, "from_custom", &["-Fc"], "pg_restore", &["--exit-on-error"]);

    for name in ["from_text", "from_inserts", "from_custom"] {
        let mut restored = cluster.connect_to(name);
        for query in [
            "SELECT id, vector_send(v), halfvec_send(h), sparsevec_send(s), b, u, many, vector_send(wide), norm FROM items ORDER BY id",
            "SELECT * FROM nearest",
            "SELECT vector_send(v), halfvec_send(h) FROM mean",
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'items' ORDER BY 1",
        ] {
            let expected = rows(&mut original, query);
            assert!(!expected.is_empty());
            assert_eq!(rows(&mut restored, query), expected, "{name}: {query}");
        }
    }
}

#[test]
fn restored_hnsw_indexes_are_built_again() {
    let (cluster, mut original) = items::start();
    make(&mut original, "");
    execute(
        &mut original,
        &format!(
            "CREATE INDEX tuned ON items USING hnsw (v vector_cosine_ops) WITH (m = 8, ef_construction = 100);
             CREATE INDEX part ON items USING hnsw (v vector_l2_ops) WHERE id < 100;
             CREATE INDEX narrow ON items USING hnsw ((v::halfvec({DIMENSIONS})) halfvec_l1_ops)"
        ),
    );
    let definitions = "SELECT indexdef FROM pg_indexes WHERE tablename = 'items' ORDER BY 1";
    let expected = rows(&mut original, definitions);
    assert_eq!(expected.len(), 5);
    dump_and_restore(&cluster, "from_text", &[], "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    dump_and_restore(&cluster, "from_custom", &["-Fc"], "pg_restore", &["--exit-on-error"]);

    for name in ["from_text", "from_custom"] {
        let mut restored = cluster.connect_to(name);
        assert_eq!(rows(&mut restored, definitions), expected, "{name}");
        for index in ["tuned", "part", "narrow"] {
            assert_clean(&mut restored, index);
        }
        execute(&mut restored, "DROP INDEX part");
        assert_works(&mut restored, 300);
        let to = vector_of(8, DIMENSIONS);
        assert_eq!(nearest(&mut restored, "items", "<=>", &to, 1)[0].0, 8);
        let narrow = format!("SELECT id FROM items ORDER BY v::halfvec({DIMENSIONS}) <+> '{to}' LIMIT 1");
        assert_eq!(ids(&mut restored, &narrow), [8]);
        add(&mut restored, "items", 300..350);
        assert_works(&mut restored, 350);
    }
}

/// A chunk table that rag_reindex() has replaced, and that somebody's snapshot keeps, is dumped with all others.
#[test]
fn replaced_chunks_are_dropped_where_they_are_restored() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut original = cluster.connect();
    execute(
        &mut original,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text);
         INSERT INTO notes VALUES (1, 'Bread is made of flour.'), (2, 'The moon goes round the earth.');
         SELECT rag_create_index('notes', 'body')",
    );
    assert_eq!(value(&mut original, "SELECT rag_wait('notes_rag')").as_deref(), Some("t"));
    let mut reader = cluster.connect();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM notes";
    execute(&mut reader, begin);
    execute(&mut original, "SELECT rag_reindex('notes_rag', template => 'Note: {chunk}')");
    let replaced = "SELECT count(*) FROM rag.replaced";
    wait_until("the new index has taken over", || value(&mut original, replaced).as_deref() == Some("1"));
    dump_and_restore(&cluster, "restored", &[], "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    execute(&mut reader, "COMMIT");

    let mut restored = cluster.connect_to("restored");
    assert_eq!(value(&mut restored, replaced).as_deref(), Some("1"));
    // As if it came from a cluster that has seen many more transactions; and somebody has a snapshot here, too.
    execute(&mut restored, "UPDATE rag.replaced SET replaced_by = '3000000000'");
    let mut reader = cluster.connect_to("restored");
    execute(&mut reader, begin);
    execute(&mut restored, "INSERT INTO notes VALUES (3, 'Green tea is brewed with water that does not boil.')");
    wait_until("the worker has dropped it", || value(&mut restored, replaced).as_deref() == Some("0"));
    for client in [&mut original, &mut restored] {
        wait_until("one chunk table is left", || {
            let tables =
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'rag' AND tablename LIKE 'notes\\_rag\\_chunks%'";
            value(client, tables).as_deref() == Some("1")
        });
    }
    assert_eq!(value(&mut restored, "SELECT rag_wait('notes_rag')").as_deref(), Some("t"));
    assert_eq!(value(&mut restored, "SELECT count(DISTINCT id) FROM notes_rag").as_deref(), Some("3"));
}

#[test]
fn restored_index_keeps_its_row_security() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    cluster
        .connect()
        .batch_execute(
            "CREATE ROLE reader LOGIN;
             CREATE TABLE notes (id integer PRIMARY KEY, body text);
             INSERT INTO notes VALUES (1, 'Bread is made of flour.'), (2, 'The moon goes round the earth.');
             SELECT rag_create_index('notes', 'body')",
        )
        .unwrap();
    cluster
        .connect()
        .batch_execute(
            "ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
             CREATE POLICY first_only ON notes USING (id = 1);
             GRANT SELECT ON notes, notes_rag TO reader",
        )
        .unwrap();
    cluster.connect().batch_execute("CREATE DATABASE restored").unwrap();
    let script = tempfile::NamedTempFile::new().expect("a temporary file");
    account::give(script.path());
    run(cluster.client_program("pg_dump").arg("-f").arg(script.path()).arg("postgres"));
    run(cluster
        .client_program("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f"])
        .arg(script.path()));
    let mut reader = cluster.connect_as("reader", "restored");
    for query in [
        "SELECT count(*) FROM notes_rag",
        "SELECT count(*) FROM rag.notes_rag_chunks",
        "SELECT count(*) FROM rag_search('moon')",
    ] {
        assert_eq!(value(&mut reader, query).as_deref(), Some("1"), "{query}");
    }
}

/// A text's length, its words and a constant, for each text that is asked for.
fn vectors_of_lengths() -> TestServer {
    TestServer::start(|request, _| {
        let body: serde_json::Value = serde_json::from_str(&request.body).expect("a request is JSON");
        let texts = body["input"].as_array().expect("a request has texts");
        let vector = |text: &serde_json::Value| {
            let text = text.as_str().unwrap_or_default();
            serde_json::json!([text.len(), text.split(' ').count(), 1])
        };
        let data: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| serde_json::json!({"index": index, "embedding": vector(text)}))
            .collect();
        json(&serde_json::json!({ "data": data }).to_string())
    })
}

#[test]
fn restored_models_that_run_elsewhere_have_their_server_their_keys_and_their_grants() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let server = vectors_of_lengths();
    let mut original = cluster.connect();
    let path = cluster.data().join("far.key");
    std::fs::write(&path, "sk-dumped-is-its-name-only").unwrap();
    account::give(&path);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    original
        .batch_execute(&format!(
            "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE keeper SUPERUSER;
             CREATE SERVER far FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (base_url '{}', max_retries '0', timeout_ms '5000');
             COMMENT ON SERVER far IS 'vectors';
             ALTER SERVER far OWNER TO keeper;
             CREATE USER MAPPING FOR app SERVER far OPTIONS (api_key_file '{path}');
             CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (api_key_file '{path}');
             GRANT USAGE ON FOREIGN SERVER far TO app, other;
             SELECT rag_add_model('far vectors', 'embed', 'remote:far', '{{\"model\": \"v\", \"batch\": 7}}');
             SELECT rag_add_model('gone', 'embed', 'remote:far', '{{\"model\": \"w\", \"dimensions\": 3}}'), rag_drop_model('gone');
             SELECT rag_revoke_model('far vectors', 'public'), rag_grant_model('far vectors', 'app');
             CREATE TABLE notes (id integer PRIMARY KEY, body text);
             INSERT INTO notes VALUES (1, 'Bread is made of flour.'), (2, 'The moon goes round the earth once in a month.');
             SELECT rag_create_index('notes', 'body', model => 'far vectors', sync => 'manual')",
            server.url(),
            path = path.display(),
        ))
        .unwrap();
    let asked = server.received().len();
    dump_and_restore(&cluster, "from_text", &[], "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    dump_and_restore(&cluster, "from_custom", &["-Fc"], "pg_restore", &["--exit-on-error"]);
    dump_and_restore(&cluster, "in_one_piece", &["-Fc"], "pg_restore", &["--exit-on-error", "--single-transaction"]);
    assert_eq!(server.received().len(), asked, "a restore asks for nothing");

    for name in ["from_text", "from_custom", "in_one_piece"] {
        let mut restored = cluster.connect_to(name);
        for query in [
            "SELECT srvname, srvowner::regrole, srvoptions, srvacl, obj_description(oid) FROM pg_foreign_server",
            "SELECT srvname, usename, umoptions FROM pg_user_mappings ORDER BY usename",
            "SELECT name, kind, source, options, dimensions, owner, granted_to FROM rag_models ORDER BY name",
            "SELECT name, source, dropped_at IS NOT NULL FROM rag.model ORDER BY name",
            "SELECT id, chunk, embedding FROM notes_rag ORDER BY id",
        ] {
            let expected = rows(&mut original, query);
            assert!(!expected.is_empty());
            assert_eq!(rows(&mut restored, query), expected, "{name}: {query}");
        }
        let refreshed = rows(&mut restored, "SELECT rows, embedded FROM rag_refresh('notes_rag')");
        assert_eq!(refreshed, [["0", "0"].map(|zero| Some(zero.to_owned()))], "{name}");

        // The key comes with the mapping, the right with the grant.
        let text = format!("asked in {name}");
        let ask = format!("SELECT embed('{text}', 'far vectors')");
        let mut app = cluster.connect_as("app", name);
        assert_eq!(value(&mut app, &ask), Some(format!("[{},3,1]", text.len())));
        let received = server.received().pop().expect("a request");
        assert_eq!(received.header("authorization"), Some("Bearer sk-dumped-is-its-name-only"));
        let mut other = cluster.connect_as("other", name);
        expect_error(other.batch_execute(&ask), &SqlState::INSUFFICIENT_PRIVILEGE);
        let found = "SELECT source_key FROM rag_search('a sentence of some more words than that', k => 1)";
        assert_eq!(value(&mut restored, found).as_deref(), Some("{\"id\": 2}"), "{name}");

        // Names stay bound, and the server stays as long as models use it.
        let again = "SELECT rag_add_model('gone', 'embed', 'remote:far', '{\"model\": \"x\", \"dimensions\": 3}')";
        expect_error(restored.batch_execute(again), &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        let drop = "DROP SERVER far CASCADE";
        expect_error(restored.batch_execute(drop), &SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    }
}
