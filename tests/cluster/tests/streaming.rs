//! A client has the first piece of an answer while the rest is being written: with a cursor, and in psql. Other ways to read
//! rows one by one are tested with the clients in Python.

use pg_rag_cluster_tests::session::{execute, generating, load_models, value};
use pg_rag_cluster_tests::{wait_until, Cluster, ClusterOptions};
use postgres::Client;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const LONG: &str = "Write a very long story about a lighthouse keeper, with many chapters.";

fn start() -> (Cluster, Client, Client) {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    load_models(&mut client);
    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text);
         INSERT INTO notes VALUES
             (1, 'The lighthouse keeper wrote a long story about the sea, in many chapters, and read it to the gulls.');
         SELECT rag_create_index('notes', 'body')",
    );
    let observer = cluster.connect();
    (cluster, client, observer)
}

fn streams() -> [String; 2] {
    let sampling = "max_tokens => 1500, temperature => 1.0, seed => 7";
    [format!("generate_stream('{LONG}', {sampling})"), format!("rag_answer_stream('{LONG}', 'notes_rag', {sampling})")]
}

#[test]
fn rows_of_a_cursor_come_when_they_are_fetched() {
    let (_cluster, mut client, mut observer) = start();
    for stream in streams() {
        execute(&mut client, &format!("BEGIN; DECLARE pieces CURSOR FOR SELECT {stream}"));
        let [first, second] = [(); 2].map(|()| value(&mut client, "FETCH 1 FROM pieces"));
        assert!(first.is_some_and(|piece| !piece.is_empty()) && second.is_some());
        assert_eq!(generating(&mut observer), 1, "{stream} had ended before its second piece came");
        execute(&mut client, "COMMIT");
        wait_until("the server stops generating", || generating(&mut observer) == 0);
    }
}

#[test]
fn psql_prints_pieces_as_they_come() {
    let (cluster, _client, mut observer) = start();
    for stream in streams() {
        let mut psql = cluster
            .client_program("psql")
            .args(["-X", "-q", "-A", "-t", "-d", "postgres"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql runs");
        let mut input = psql.stdin.take().expect("a pipe");
        writeln!(input, "\\set FETCH_COUNT 1\nSELECT {stream};").unwrap();
        let mut output = BufReader::new(psql.stdout.take().expect("a pipe"));
        let mut first = String::new();
        output.read_line(&mut first).expect("psql prints");
        assert!(!first.is_empty());
        assert_eq!(generating(&mut observer), 1, "{stream} had ended before psql printed");
        execute(
            &mut observer,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psql'",
        );
        drop((input, output));
        psql.wait().expect("psql ends");
        wait_until("the server stops generating", || generating(&mut observer) == 0);
    }
}
