//! Models that run elsewhere, through SQL: the same calls, ended the same ways, and no key where it does not belong.
//!
//! The server elsewhere is an HTTP server on loopback whose answers come from this cluster's own models, through a second
//! session; so what remote calls return can be compared with what local ones do. `remote_llama.rs` asks a server of other
//! people.

use pg_rag_cluster_tests::http::{answer, head, json, Act, Received, TestServer};
use pg_rag_cluster_tests::session::{execute, expect_error, rows, run_in_background, value};
use pg_rag_cluster_tests::{account, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const KEY: &str = "sk-cluster-4711-do-not-print";

/// Answers from the models of the cluster that `client` is connected to.
fn from_local_models(client: Client) -> impl Fn(&Received, usize) -> Vec<Act> + Send + Sync {
    let client = Mutex::new(client);
    move |request, _| {
        let mut client = client.lock().unwrap();
        let mut ask = |query: &str| {
            let row = client.query_one(query, &[&request.body]);
            row.map(|row| row.get::<_, String>(0)).unwrap_or_else(|error| panic!("{error:?}: {}", request.body))
        };
        match request.line.as_str() {
            "POST /v1/embeddings" => json(&ask(
                "SELECT json_build_object('data', json_agg(json_build_object('object', 'embedding', 'index', i - 1,
                        'embedding', embed(t, 'all-MiniLM-L6-v2')::real[]) ORDER BY i DESC))::text
                   FROM json_array_elements_text($1::text::json->'input') WITH ORDINALITY v(t, i)",
            )),
            "POST /v1/chat/completions" if request.body.contains("\"stream\":true") => {
                let events = ask(
                    "SELECT string_agg('data: ' || json_build_object('choices', json_build_array(json_build_object('index', 0,
                                'delta', json_build_object('content', m[1]))))::text, E'\\n\\n') || E'\\n\\ndata: [DONE]\\n\\n'
                       FROM regexp_matches(chat($1::text::jsonb->'messages',
                                max_tokens => ($1::text::jsonb->>'max_tokens')::integer), '\\s*\\S+', 'g') m",
                );
                vec![head("text/event-stream"), Act::Send(events.into_bytes()), Act::Close]
            }
            "POST /v1/chat/completions" => json(&ask(
                "SELECT json_build_object('choices', json_build_array(json_build_object('index', 0, 'finish_reason', 'stop',
                        'message', json_build_object('role', 'assistant', 'content',
                            chat($1::text::jsonb->'messages', max_tokens => ($1::text::jsonb->>'max_tokens')::integer)))))::text",
            )),
            other => panic!("{other}"),
        }
    }
}

/// Registers models that `server` runs, without asking it.
fn register(client: &mut Client, server: &TestServer, options: &str) {
    execute(
        client,
        &format!(
            "CREATE SERVER far FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (base_url '{}'{options});
             SELECT rag_add_model('far vectors', 'embed', 'remote:far', '{{\"model\": \"v\", \"dimensions\": 384}}');
             SELECT rag_add_model('far answers', 'generate', 'remote:far', '{{\"model\": \"a\"}}')",
            server.url()
        ),
    );
}

#[test]
fn the_same_sql_works_with_models_elsewhere() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let server = TestServer::start(from_local_models(cluster.connect()));
    let mut client = cluster.connect();
    register(&mut client, &server, "");

    let same = "SELECT embed(t, 'far vectors') = embed(t, 'all-MiniLM-L6-v2') AND embed_query(t, 'far vectors') = embed_query(t)
                  FROM (VALUES ('Ein Text über Größe'), (''), (E'zwei\\nZeilen \"in\" \\\\ Zeichen')) v(t)";
    assert!(rows(&mut client, same).into_iter().all(|row| row[0].as_deref() == Some("t")));
    let many = "SELECT embed(array_agg('text ' || i ORDER BY i), 'far vectors') = embed(array_agg('text ' || i ORDER BY i), 'all-MiniLM-L6-v2')
                  FROM generate_series(1, 70) i";
    assert_eq!(value(&mut client, many).as_deref(), Some("t"));
    let asked = server.received().len();
    assert_eq!(
        value(&mut client, "SELECT embed('Ein Text über Größe', 'far vectors') IS NOT NULL").as_deref(),
        Some("t")
    );
    assert_eq!(server.received().len(), asked, "a text that was just asked for is remembered");

    let local = value(&mut client, "SELECT generate('What is bread made of?', max_tokens => 24)");
    assert_eq!(value(&mut client, "SELECT generate('What is bread made of?', 'far answers', max_tokens => 24)"), local);
    let pieces =
        rows(&mut client, "SELECT * FROM generate_stream('What is bread made of?', 'far answers', max_tokens => 24)");
    assert!(pieces.len() > 3, "{pieces:?}");
    assert_eq!(pieces.into_iter().map(|row| row[0].clone().unwrap()).collect::<String>(), local.unwrap().trim_end());
    let chat =
        "SELECT chat('[{\"role\": \"user\", \"content\": \"Say hello.\"}]', 'far answers', max_tokens => 8) <> ''";
    assert_eq!(value(&mut client, chat).as_deref(), Some("t"));

    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text);
         INSERT INTO notes VALUES (1, 'Bread is made of flour, water, yeast and salt.'),
                                  (2, 'The moon goes round the earth once in about a month.');
         SELECT rag_create_index('notes', 'body', model => 'far vectors', sync => 'manual')",
    );
    let found = "SELECT source_key FROM rag_search('What do bakers need?', k => 1)";
    assert_eq!(value(&mut client, found).as_deref(), Some("{\"id\": 1}"));
    let said =
        value(&mut client, "SELECT rag_answer('What is bread made of?', model => 'far answers', max_tokens => 24)");
    assert!(said.as_ref().is_some_and(|text| text.contains("flour")), "{said:?}");
    let usage = value(&mut client, "SELECT usage->>'completion_tokens' FROM rag_ask('What is bread made of?', model => 'far answers', max_tokens => 24)");
    assert!(usage.is_some_and(|count| count.parse::<i32>().unwrap() > 0));
    let streamed = rows(
        &mut client,
        "SELECT * FROM rag_answer_stream('What is bread made of?', model => 'far answers', max_tokens => 24)",
    );
    assert!(!streamed.is_empty());

    // A worker follows the table as its owner.
    execute(
        &mut client,
        "SELECT rag_drop_index('notes_rag'); SELECT rag_create_index('notes', 'body', model => 'far vectors');
                          INSERT INTO notes VALUES (3, 'Tea is brewed with hot water.')",
    );
    wait_until("the worker has embedded the new row", || {
        value(&mut client, "SELECT count(*) FROM notes_rag WHERE id = 3").as_deref() == Some("1")
    });
}

/// A server that takes its time.
fn stuck() -> TestServer {
    TestServer::start(|request, _| match request.body.contains("\"stream\":true") {
        true => vec![head("text/event-stream"), Act::Wait(Duration::from_secs(120))],
        false => vec![Act::Wait(Duration::from_secs(120))],
    })
}

#[test]
fn every_way_to_end_a_call_closes_the_connection() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let server = stuck();
    let mut client = cluster.connect();
    register(&mut client, &server, ", timeout_ms '120000'");
    let calls = [
        "SELECT embed('a text', 'far vectors')",
        "SELECT generate('Say hello.', 'far answers')",
        "SELECT * FROM generate_stream('Say hello.', 'far answers')",
    ];
    let mut ended = 0;
    for call in calls {
        let background = run_in_background(&cluster, call);
        wait_until("the server has the request", || server.received().len() == ended + 1);
        let from = Instant::now();
        client.execute("SELECT pg_cancel_backend($1)", &[&background.backend]).unwrap();
        let result = background.join();
        assert!(result.at - from < Duration::from_secs(1), "{:?}", result.at - from);
        expect_error(result.result, &SqlState::QUERY_CANCELED);
        ended += 1;
        wait_until("the connection is closed", || server.given_up() == ended);
        assert!(from.elapsed() < Duration::from_secs(2));

        let mut impatient = cluster.connect();
        execute(&mut impatient, "SET statement_timeout = '300ms'");
        let from = Instant::now();
        expect_error(impatient.batch_execute(call), &SqlState::QUERY_CANCELED);
        assert!(from.elapsed() < Duration::from_millis(1500), "{:?}", from.elapsed());
        ended += 1;
        wait_until("the connection is closed", || server.given_up() == ended);
    }
    // The server's own time, and local models meanwhile.
    execute(&mut client, "ALTER SERVER far OPTIONS (SET timeout_ms '1000', ADD max_retries '0')");
    let background = run_in_background(&cluster, calls[0]);
    assert_eq!(value(&mut client, "SELECT vector_dims(embed('a text', 'all-MiniLM-L6-v2'))").as_deref(), Some("384"));
    let reported = expect_error(background.join().result, &SqlState::CONNECTION_FAILURE);
    assert_eq!(reported.message, "server \"far\" did not answer within 1000 ms");
}

#[test]
fn the_key_goes_to_its_server_and_nowhere_else() {
    let settings = [("log_statement", "all"), ("log_min_messages", "debug1"), ("log_error_verbosity", "verbose")];
    let cluster = Cluster::with_extension(ClusterOptions { conf: &settings, ..Default::default() });
    // Repeats the key wherever it can.
    let server = TestServer::start(|request, before| {
        let key = request.header("authorization").unwrap_or("none").to_owned();
        match before {
            0 => answer(
                400,
                "Content-Type: application/json\r\n",
                &format!("{{\"error\": {{\"message\": \"what is {key}?\"}}}}"),
            ),
            1 => answer(
                401,
                "Content-Type: application/json\r\n",
                &format!("{{\"error\": {{\"message\": \"who is {key}?\"}}}}"),
            ),
            2 => answer(200, &format!("Content-Type: {key}\r\n"), ""),
            3 => answer(302, &format!("Location: http://127.0.0.1/{key}\r\n"), ""),
            _ => json("{\"data\": ["),
        }
    });
    let mut client = cluster.connect();
    register(&mut client, &server, ", max_retries '0'");
    let path = cluster.data().join("far.key");
    fs::write(&path, format!("{KEY}\n")).unwrap();
    account::give(&path);
    let allow = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    allow(0o640);
    let mapping =
        format!("CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (api_key_file '{}')", path.display());
    execute(&mut client, &mapping);
    let reported = expect_error(client.batch_execute("SELECT embed('a', 'far vectors')"), &SqlState::CONFIG_FILE_ERROR);
    assert_eq!(reported.message, "could not use the key file of server \"far\": others may read or write it");
    assert_eq!(server.received().len(), 0);
    allow(0o600);

    let mut told = String::new();
    for (before, code) in ["HV000", "28000", "08P01", "08P01", "08P01"].into_iter().enumerate() {
        let failure = client.batch_execute("SELECT embed('a', 'far vectors')").unwrap_err();
        let failure = failure.as_db_error().unwrap();
        assert_eq!(failure.code().code(), code, "{failure:?}");
        told.push_str(&format!("{failure:?}\n"));
        let received = server.received();
        assert_eq!(received.len(), before + 1);
        assert_eq!(received[before].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    }
    assert!(told.contains("what is Bearer ***?"), "{told}");
    let views = rows(
        &mut client,
        "SELECT v::text FROM rag_models v UNION ALL SELECT v::text FROM rag_server_status v UNION ALL SELECT v::text FROM rag_loaded_models v
         UNION ALL SELECT v::text FROM pg_user_mappings v UNION ALL SELECT v::text FROM pg_foreign_server v
         UNION ALL SELECT v::text FROM pg_stat_activity v",
    );
    let everything = format!("{told}{views:?}{}", cluster.log());
    assert!(everything.contains("far.key"), "the name of the file is no secret to its owner");
    assert!(!everything.contains("do-not-print"), "the key has been printed");

    // Whoever has no mapping has no key.
    execute(&mut client, "CREATE ROLE bob LOGIN; GRANT USAGE ON FOREIGN SERVER far TO bob");
    let mut bob = cluster.connect_as("bob", "postgres");
    assert!(bob.batch_execute("SELECT embed('a', 'far vectors')").is_err());
    assert_eq!(server.received().last().unwrap().header("authorization"), None);
}
