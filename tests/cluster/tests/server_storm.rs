//! Cancels at random: sessions embed and generate while `pg_cancel_backend` hits them hundreds of times, thousands with
//! PG_RAG_LONG_TESTS=1. A statement gives its right answer or the error of a cancel, and afterwards all is as before.

use pg_rag_cluster_tests::session::{backend_pid, describe, load_models, value};
use pg_rag_cluster_tests::{process, short_or_long, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SESSIONS: usize = 8;

/// Different texts: more than a backend remembers the vectors of.
const TEXTS: usize = 150;

/// Random numbers that a seed determines.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }
}

/// Statements of one value, which is the same every time.
fn statements() -> Vec<String> {
    let mut statements: Vec<String> =
        (0..TEXTS).map(|i| format!("SELECT embed('text number {i}', 'all-MiniLM-L6-v2')")).collect();
    for i in 1..30 {
        statements.push(format!(
            "SELECT md5(embed(array_agg('sentence {i} of ' || n || repeat(' and on', n)), 'all-MiniLM-L6-v2')::text)
               FROM generate_series(1, {i}) n"
        ));
        statements.push(format!("SELECT generate('Tell me about the number {}.', max_tokens => {i})", i % 7));
        statements.push(format!(
            "SELECT string_agg(piece, '' ORDER BY at)
               FROM generate_stream('What is the capital of France?', max_tokens => {i}) WITH ORDINALITY s(piece, at)"
        ));
        statements.push(format!("SELECT token_count(repeat('a few words ', {i}), 'SmolLM2-135M-Instruct')"));
    }
    statements
}

/// Whether the statement was cancelled; else it must have given what is expected.
fn is_cancelled(client: &mut Client, statement: &str, expected: &Option<String>) -> bool {
    match client.simple_query(statement) {
        Ok(messages) => {
            let values: Vec<Option<String>> = messages
                .iter()
                .filter_map(|message| match message {
                    postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                    _ => None,
                })
                .collect();
            assert_eq!(values.as_slice(), std::slice::from_ref(expected), "{statement}");
            false
        }
        Err(failure) => {
            assert_eq!(failure.code(), Some(&SqlState::QUERY_CANCELED), "{}: {statement}", describe(&failure));
            true
        }
    }
}

#[test]
fn hundreds_of_random_cancels_leave_everything_right() {
    let cancels = short_or_long(400, 6000);
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut observer = cluster.connect();
    load_models(&mut observer);
    let server = cluster.server_pid();
    let statements = statements();
    let expected: Vec<Option<String>> = statements.iter().map(|statement| value(&mut observer, statement)).collect();
    assert!(expected.iter().all(Option::is_some));
    let descriptors = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the server runs").count();
    let before = descriptors(server);

    let mut sessions: Vec<Client> = (0..SESSIONS).map(|_| cluster.connect()).collect();
    let pids: Vec<i32> = sessions.iter_mut().map(backend_pid).collect();
    let (storming, answered, cancelled) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (index, session) in sessions.iter_mut().enumerate() {
            let (storming, answered, cancelled) = (&storming, &answered, &cancelled);
            let (statements, expected) = (&statements, &expected);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index as u64 + 1));
                while storming.load(Ordering::SeqCst) {
                    let which = random.below(statements.len());
                    let counter =
                        if is_cancelled(session, &statements[which], &expected[which]) { cancelled } else { answered };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut random = Random(4711);
        for _ in 0..cancels {
            let pid = pids[random.below(SESSIONS)];
            observer.execute("SELECT pg_cancel_backend($1)", &[&pid]).expect("a superuser may cancel");
            std::thread::sleep(Duration::from_millis(random.below(15) as u64));
        }
        storming.store(false, Ordering::SeqCst);
    });
    let (answered, cancelled) = (answered.into_inner(), cancelled.into_inner());
    eprintln!("{cancels} cancels: {answered} statements answered, {cancelled} cancelled");
    assert!(answered > SESSIONS && cancelled > cancels / 10, "the storm was none");

    assert_eq!(cluster.server_pids(), [server], "no process was lost");
    wait_until("the server is done with what was cancelled", || {
        let query = "SELECT queued + generating FROM rag_server_status";
        value(&mut observer, query).as_deref() == Some("0")
    });
    for session in &mut sessions {
        // A cancel that was late may still hit the first statement.
        let _ = session.simple_query("SELECT 1");
        for (statement, expected) in statements.iter().zip(&expected).step_by(9) {
            assert_eq!(&value(session, statement), expected, "{statement}");
        }
    }
    drop(sessions);
    wait_until("the connections of the sessions are closed", || {
        value(&mut observer, "SELECT connections FROM rag_server_status").as_deref() == Some("1")
    });
    wait_until("no descriptor is left", || descriptors(server) <= before);
    wait_until("the server rests", || {
        let ticks = process::cpu_ticks(server);
        std::thread::sleep(Duration::from_millis(500));
        process::cpu_ticks(server) <= ticks + 1
    });
}
