//! Summaries follow the texts of an index: written by the worker after them, once for each page, whatever happens meanwhile.

use pg_rag_cluster_tests::crash::{crash, Crash};
use pg_rag_cluster_tests::session::{execute, rows, value};
use pg_rag_cluster_tests::{account, process, run, wait_until, Cluster, ClusterOptions, Stop};
use postgres::Client;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Rows with two pages each, and the index `books_rag`.
fn start(options: ClusterOptions<'_>, books: usize, index_options: &str) -> (Cluster, Client) {
    let cluster = Cluster::with_extension(options);
    let mut client = cluster.connect();
    execute(
        &mut client,
        &format!(
            "CREATE FUNCTION page(n integer) RETURNS text LANGUAGE sql AS $$
                 SELECT string_agg(format('Sentence %s of page %s tells that %s is a number which somebody has thought of.', i, n, n * i), ' ' ORDER BY i)
                   FROM generate_series(1, 5) i $$;
             CREATE TABLE books (id integer PRIMARY KEY, body text, pages jsonb);
             CREATE FUNCTION book(id integer, one integer, two integer) RETURNS books LANGUAGE sql AS $$
                 SELECT id, page(one) || ' ' || page(two), jsonb_build_array(
                     jsonb_build_object('page', 1, 'start', 0), jsonb_build_object('page', 2, 'start', length(page(one)) + 1)) $$;
             INSERT INTO books SELECT b.* FROM generate_series(1, {books}) i, book(i, 2 * i, 2 * i + 1) b;
             SELECT rag_create_index('books', 'body', pages_column => 'pages', summarize => true, summary_max_words => 10{index_options})"
        ),
    );
    (cluster, client)
}

fn wait_for(client: &mut Client, index: &str) {
    assert_eq!(value(client, &format!("SELECT rag_wait('{index}', '4 min')")).as_deref(), Some("t"), "{index}");
}

fn summaries_done(client: &mut Client) -> i64 {
    let done = value(client, "SELECT summaries_done FROM rag_index_status WHERE index = 'books_rag'::regclass");
    done.expect("the index is there").parse().expect("a number")
}

/// Each page of each row has one summary, of its own characters.
fn assert_summarized(client: &mut Client) {
    let wrong = "SELECT b.id, p.page FROM books b CROSS JOIN generate_series(1, 2) p(page)
                   LEFT JOIN books_rag r ON r.id = b.id AND r.page = p.page AND r.is_summary
                        AND substr(b.body, r.char_start + 1, r.char_end - r.char_start) =
                            CASE p.page WHEN 1 THEN substr(b.body, 1, (b.pages -> 1 ->> 'start')::integer - 1)
                                        ELSE substr(b.body, (b.pages -> 1 ->> 'start')::integer + 1) END
                  GROUP BY 1, 2 HAVING count(r.id) <> 1";
    assert_eq!(rows(client, wrong), Vec::<Vec<Option<String>>>::new());
    // An index that has taken another's place has a chunk table of its own.
    let chunks = value(client, "SELECT chunks FROM rag_indexes WHERE index = 'books_rag'::regclass").expect("a table");
    let strays = format!("SELECT count(*) FROM {chunks} WHERE source_id NOT IN (SELECT id FROM books)");
    assert_eq!(value(client, &strays).as_deref(), Some("0"));
}

#[test]
fn summaries_follow_their_pages() {
    let (_cluster, mut client) = start(ClusterOptions::default(), 3, "");
    wait_for(&mut client, "books_rag");
    assert_summarized(&mut client);
    assert_eq!(summaries_done(&mut client), 6);
    for (change, written) in [
        ("INSERT INTO books SELECT b.* FROM book(4, 40, 41) b", 2),
        // One page of two changes.
        ("UPDATE books o SET body = b.body, pages = b.pages FROM book(1, 2, 50) b WHERE o.id = 1", 1),
        // They change places.
        ("UPDATE books o SET body = b.body, pages = b.pages FROM book(2, 5, 4) b WHERE o.id = 2", 0),
        ("UPDATE books SET body = body WHERE id = 3", 0),
        ("DELETE FROM books WHERE id = 3", 0),
        ("TRUNCATE books", 0),
        ("INSERT INTO books SELECT b.* FROM book(7, 70, 71) b", 2),
    ] {
        let before = summaries_done(&mut client);
        execute(&mut client, change);
        wait_for(&mut client, "books_rag");
        assert_summarized(&mut client);
        assert_eq!(summaries_done(&mut client) - before, written, "{change}");
    }
}

#[test]
fn who_waits_before_the_rows_are_found_waits_for_their_summaries_too() {
    // Paused in the transaction that makes it: no row has been looked at.
    let (cluster, mut client) =
        start(ClusterOptions::default(), 2, ", wait => false); SELECT rag_pause_index('books_rag'");
    let mut waiting = cluster.connect();
    let waiter = std::thread::spawn(move || {
        wait_for(&mut waiting, "books_rag");
        assert_summarized(&mut waiting);
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT rag_wait(%'";
    wait_until("somebody waits", || value(&mut client, waits).as_deref() == Some("1"));
    execute(&mut client, "SELECT rag_resume_index('books_rag')");
    waiter.join().expect("what was waited for is there");
}

#[test]
fn texts_come_first_and_a_crash_or_a_stop_loses_little() {
    let options = ClusterOptions { preload: true, durable: true, ..Default::default() };
    let (cluster, mut client) = start(options, 30, ", wait => false");
    wait_until("all texts are in the index", || {
        value(&mut client, "SELECT count(DISTINCT id) FROM books_rag WHERE NOT is_summary").as_deref() == Some("30")
    });
    let state = "SELECT state, coverage, pending FROM rag_index_status";
    let expected = ["summarizing", "1.0000", "0"].map(|text| Some(text.to_owned()));
    wait_until("the worker knows that", || rows(&mut client, state) == [expected.clone()]);
    assert!(value(&mut client, "SELECT summaries_pending FROM rag_index_status").as_deref() != Some("0"));
    assert_eq!(value(&mut client, "SELECT rag_wait('books_rag', '100 ms')").as_deref(), Some("f"));
    // What changes meanwhile is searched for before the summaries are done.
    execute(&mut client, "INSERT INTO books VALUES (100, 'The needle is in the haystack.', '[]')");
    wait_until("a new text arrives", || {
        value(&mut client, "SELECT count(*) FROM books_rag WHERE id = 100").as_deref() == Some("1")
    });
    assert_eq!(value(&mut client, "SELECT state FROM rag_index_status").as_deref(), Some("summarizing"));
    let [worker] = process::titled_in("pg_rag sync worker", &cluster.data())[..] else { panic!("one worker expected") };
    drop(client);
    crash(&cluster, Crash::KilledBackend(worker));
    let mut client = cluster.connect();
    wait_until("a worker is back", || !process::titled_in("pg_rag sync worker", &cluster.data()).is_empty());
    wait_until("it goes on with the summaries", || {
        value(&mut client, "SELECT count(*) > 4 FROM books_rag WHERE is_summary").as_deref() == Some("t")
    });
    drop(client);
    let began = Instant::now();
    cluster.stop(Stop::Fast);
    assert!(began.elapsed() < Duration::from_secs(15), "the worker did not end: {:?}", began.elapsed());
    cluster.start_server();
    let mut client = cluster.connect();
    execute(&mut client, "DELETE FROM books WHERE id > 6");
    wait_for(&mut client, "books_rag");
    assert_summarized(&mut client);
    assert_eq!(value(&mut client, "SELECT state FROM rag_index_status").as_deref(), Some("ready"));
}

#[test]
fn a_new_index_and_a_restored_one_take_summaries_over() {
    let (cluster, mut client) = start(ClusterOptions::default(), 3, "");
    wait_for(&mut client, "books_rag");
    execute(&mut client, "UPDATE rag.books_rag_chunks SET chunk = 'Marked ' || page WHERE summary_hash IS NOT NULL");
    let marked = "SELECT count(*) FROM books_rag WHERE is_summary AND chunk = 'Marked ' || page";
    execute(&mut client, "SELECT rag_add_model('minilm-int8', 'embed', 'all-MiniLM-L6-v2', '{\"dtype\": \"int8\"}')");
    execute(&mut client, "SELECT rag_reindex('books_rag', model => 'minilm-int8')");
    wait_until("the new index has taken over", || {
        value(&mut client, "SELECT model FROM rag_indexes WHERE index = 'books_rag'::regclass").as_deref()
            == Some("minilm-int8")
    });
    wait_for(&mut client, "books_rag");
    assert_eq!(value(&mut client, marked).as_deref(), Some("6"));
    assert_eq!(summaries_done(&mut client), 6);
    let vectors =
        "SELECT count(*) FROM books_rag WHERE is_summary AND embedding <=> embed(chunk, 'minilm-int8') < 1e-3";
    assert_eq!(value(&mut client, vectors).as_deref(), Some("6"));

    execute(&mut client, "CREATE DATABASE restored");
    let mut dump =
        cluster.client_program("pg_dump").arg("postgres").stdout(Stdio::piped()).spawn().expect("pg_dump runs");
    let mut restore = cluster.client_program("psql");
    restore.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored"]);
    run(restore.stdin(dump.stdout.take().expect("a pipe")));
    assert!(dump.wait().expect("pg_dump ends").success());
    let mut restored = cluster.connect_to("restored");
    assert_eq!(value(&mut restored, marked).as_deref(), Some("6"));
    assert_eq!(value(&mut restored, "SELECT rows FROM rag_refresh('books_rag')").as_deref(), Some("0"));
    execute(&mut restored, "INSERT INTO books SELECT b.* FROM book(9, 90, 91) b");
    wait_for(&mut restored, "books_rag");
    assert_eq!(value(&mut restored, marked).as_deref(), Some("6"));
    assert_summarized(&mut restored);
}

#[test]
fn texts_do_not_wait_for_a_model_that_cannot_write() {
    let conf = [("pg_rag.sync_retry_delay", "100ms")];
    let cluster = Cluster::with_extension(ClusterOptions { conf: &conf, ..Default::default() });
    let model = cluster.data().join("writer");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tiny_llama");
    run(std::process::Command::new("cp").arg("-R").arg(source).arg(&model));
    account::give(&model);
    let mut client = cluster.connect();
    let folder = model.display();
    execute(
        &mut client,
        &format!(
            "SELECT rag_add_model('writer', 'generate', '{folder}');
             CREATE TABLE notes (id integer PRIMARY KEY, body text);
             SELECT rag_create_index('notes', 'body', summarize => true, summary_model => 'writer', summary_max_words => 3);
             SELECT rag_unload_model('writer')"
        ),
    );
    let hidden = cluster.data().join("hidden");
    std::fs::rename(&model, &hidden).unwrap();
    execute(
        &mut client,
        "INSERT INTO notes VALUES (1, 'A text of some more words than its summary may have in the end.')",
    );
    wait_until("the text is there", || {
        value(&mut client, "SELECT count(*) FROM notes_rag WHERE id = 1").as_deref() == Some("1")
    });
    wait_until("the status tells why no summary is", || {
        rows(&mut client, "SELECT state, last_error IS NOT NULL, failed, coverage FROM rag_index_status")
            == [["failing", "t", "0", "1.0000"].map(|text| Some(text.to_owned()))]
    });
    execute(&mut client, "INSERT INTO notes VALUES (2, 'Short.')");
    wait_until("other texts come in", || {
        value(&mut client, "SELECT count(*) FROM notes_rag WHERE id = 2").as_deref() == Some("1")
    });
    std::fs::rename(&hidden, &model).unwrap();
    execute(&mut client, "SELECT rag_retry('notes_rag')");
    wait_for(&mut client, "notes_rag");
    let summarized = "SELECT string_agg(id::text, ',') FROM notes_rag WHERE is_summary";
    assert_eq!(value(&mut client, summarized).as_deref(), Some("1"));
}
