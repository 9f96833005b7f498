//! Many sessions at once get what one session gets.

use pg_rag_cluster_tests::session::{rows, value};
use pg_rag_cluster_tests::{Cluster, ClusterOptions};
use postgres::Client;
use std::sync::Barrier;

const SESSIONS: usize = 8;
const ROUNDS: usize = 6;

const TOPICS: [(&str, &str); 6] = [
    ("Bread is made of flour, water, yeast and salt, and baked in a hot oven.", "How do I bake a loaf?"),
    ("The moon goes round the earth once in about a month.", "What is the orbit of our natural satellite?"),
    ("A bicycle stays upright because its rider steers into the fall.", "Why does a bike not fall over?"),
    ("Vaccines teach the immune system to recognise a virus.", "How does an inoculation protect from illness?"),
    ("A B-tree index keeps its keys in sorted order.", "Which database structure holds keys sorted?"),
    ("Penguins are birds that cannot fly but swim well.", "Which flightless animals live in the cold sea?"),
];

const STREAM: &str = "SELECT string_agg(piece, '' ORDER BY at)
    FROM generate_stream('What is the capital of France?', max_tokens => 12) WITH ORDINALITY s(piece, at)";

fn search(question: &str) -> String {
    // Vectors of a batch may differ in the last bits from those of single texts.
    format!("SELECT source_key, chunk, round(score::numeric, 4) FROM rag_search('{question}', 'topics_rag', k => 3)")
}

fn set_up(client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE topics (id integer PRIMARY KEY, body text);
             CREATE TABLE moving (id integer PRIMARY KEY, body text)",
        )
        .unwrap();
    for (at, (body, _)) in TOPICS.iter().enumerate() {
        client.execute("INSERT INTO topics VALUES ($1, $2)", &[&(at as i32), body]).unwrap();
        client.execute("INSERT INTO moving VALUES ($1, $2)", &[&(at as i32), body]).unwrap();
    }
    client
        .batch_execute(
            "SELECT rag_create_index('topics', 'body'), rag_create_index('moving', 'body', sync => 'manual')",
        )
        .unwrap();
}

#[test]
fn mixed_sessions_get_what_one_session_gets() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    set_up(&mut client);
    let expected_stream = rows(&mut client, STREAM);
    let expected_found: Vec<_> = TOPICS.iter().map(|(_, question)| rows(&mut client, &search(question))).collect();
    for (at, found) in expected_found.iter().enumerate() {
        assert_eq!(found[0][0], Some(format!("{{\"id\": {at}}}")), "{}", TOPICS[at].1);
    }
    let expected_vectors: Vec<_> =
        TOPICS.iter().map(|(body, _)| value(&mut client, &format!("SELECT embed('{body}')")).unwrap()).collect();

    let start = Barrier::new(SESSIONS);
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let (cluster, start) = (&cluster, &start);
            let (stream, found, vectors) = (&expected_stream, &expected_found, &expected_vectors);
            scope.spawn(move || {
                let mut client = cluster.connect();
                start.wait();
                for round in 0..ROUNDS {
                    let at = (session + round) % TOPICS.len();
                    let (body, question) = TOPICS[at];
                    match (session + round) % 4 {
                        0 => {
                            let difference =
                                value(&mut client, &format!("SELECT embed('{body}') <-> '{}'", vectors[at])).unwrap();
                            assert!(difference.parse::<f64>().unwrap() < 1e-3, "{body}: {difference}");
                        }
                        1 => assert_eq!(&rows(&mut client, STREAM), stream),
                        2 => assert_eq!(rows(&mut client, &search(question)), found[at], "{question}"),
                        _ => {
                            let update =
                                format!("UPDATE moving SET body = 'session {session} round {round}' WHERE id = {at}");
                            client.batch_execute(&update).unwrap();
                            client.batch_execute("SELECT rag_refresh('moving_rag')").unwrap();
                        }
                    }
                }
            });
        }
    });

    assert_eq!(value(&mut client, "SELECT rows FROM rag_refresh('moving_rag')").as_deref(), Some("0"));
    let stale = "SELECT count(*) FROM moving m LEFT JOIN rag.moving_rag_chunks c ON c.source_id = m.id
                  WHERE c.chunk IS DISTINCT FROM m.body";
    assert_eq!(value(&mut client, stale).as_deref(), Some("0"));
    assert_eq!(cluster.server_pids().len(), 1);
}

#[test]
fn answers_of_sessions_do_not_mix() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut client = cluster.connect();
                for round in 0..ROUNDS {
                    // Texts that nobody else has: an answer for another session would have another length.
                    let words = 1 + session * ROUNDS + round;
                    let text = "word ".repeat(words);
                    let count = value(&mut client, &format!("SELECT token_count('{}')", text.trim_end()));
                    assert_eq!(count, Some(words.to_string()));
                    let batch = format!("SELECT cardinality(embed(ARRAY(SELECT 'x' FROM generate_series(1, {words})), 'all-MiniLM-L6-v2'))");
                    assert_eq!(value(&mut client, &batch), Some(words.to_string()));
                }
            });
        }
    });
}
