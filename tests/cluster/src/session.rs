//! Sessions that run a statement in the background, and checks of errors.

use crate::{wait_until, Cluster};
use postgres::error::SqlState;
use postgres::{Client, Error, SimpleQueryMessage};
use std::thread::JoinHandle;
use std::time::Instant;

/// A statement that keeps the generation model busy much longer than any test looks at it.
pub const LONG_GENERATION: &str = "SELECT generate('Write a very long story about a lighthouse keeper, with many \
    chapters.', max_tokens => 1500, temperature => 1.0, seed => 7)";

/// A statement that runs in a session and thread of its own.
pub struct Background {
    /// Process id of the session's backend.
    pub backend: i32,
    thread: JoinHandle<Ended>,
}

/// How a background statement ended.
pub struct Ended {
    pub result: Result<(), Error>,
    pub at: Instant,
    /// The session, for more statements.
    pub client: Client,
}

/// Runs `statements` in a new session.
pub fn run_in_background(cluster: &Cluster, statements: &str) -> Background {
    run_in_background_of(cluster.connect(), statements)
}

/// Runs `statements` in this session.
pub fn run_in_background_of(mut client: Client, statements: &str) -> Background {
    let backend = backend_pid(&mut client);
    let statements = statements.to_owned();
    let thread = std::thread::spawn(move || {
        let result = client.batch_execute(&statements);
        Ended { result, at: Instant::now(), client }
    });
    Background { backend, thread }
}

impl Background {
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn join(self) -> Ended {
        self.thread.join().expect("the thread runs one statement")
    }
}

/// Starts [`LONG_GENERATION`] and waits until the server works on it.
pub fn start_long_generation(cluster: &Cluster, observer: &mut Client) -> Background {
    load_models(observer);
    let background = run_in_background(cluster, LONG_GENERATION);
    wait_until("the server generates", || {
        assert!(!background.is_finished(), "the generation ended before the test could look at it");
        generating(observer) == 1
    });
    background
}

/// Makes the server load both models, which takes longer than using them.
pub fn load_models(client: &mut Client) {
    client
        .batch_execute("SELECT embed('a text', 'all-MiniLM-L6-v2'); SELECT generate('Say hello.', max_tokens => 1)")
        .unwrap_or_else(|failure| panic!("{}", describe(&failure)));
}

/// Number of generations that the server works on.
pub fn generating(client: &mut Client) -> i32 {
    client.query_one("SELECT generating FROM rag_server_status", &[]).expect("the status can be read").get(0)
}

pub fn backend_pid(client: &mut Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).expect("the session works").get(0)
}

/// Runs statements that must succeed.
pub fn execute(client: &mut Client, statements: &str) {
    client.batch_execute(statements).unwrap_or_else(|failure| panic!("{}: {statements}", describe(&failure)));
}

/// First column of the only row of `query`, as text; `None` for NULL.
pub fn value(client: &mut Client, query: &str) -> Option<String> {
    let rows = rows(client, query);
    assert_eq!(rows.len(), 1, "one row expected from {query}");
    rows[0][0].clone()
}

/// All rows of `query`, as text.
pub fn rows(client: &mut Client, query: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(query).unwrap_or_else(|failure| panic!("{}: {query}", describe(&failure)));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        })
        .collect()
}

/// An error as PostgreSQL reported it.
pub struct Reported {
    pub message: String,
    pub hint: String,
}

/// The error that `result` must be, with SQLSTATE `code`.
pub fn expect_error<T>(result: Result<T, Error>, code: &SqlState) -> Reported {
    let Err(failure) = result else { panic!("no error, but {} was expected", code.code()) };
    let Some(reported) = failure.as_db_error() else { panic!("not an error of the server: {failure}") };
    assert_eq!(reported.code(), code, "{}", describe(&failure));
    Reported { message: reported.message().to_owned(), hint: reported.hint().unwrap_or_default().to_owned() }
}

/// SQLSTATE and texts of an error, for a test's message.
pub fn describe(failure: &Error) -> String {
    match failure.as_db_error() {
        Some(error) => format!(
            "{} {} (detail: {}; hint: {})",
            error.code().code(),
            error.message(),
            error.detail().unwrap_or("none"),
            error.hint().unwrap_or("none")
        ),
        None => failure.to_string(),
    }
}
