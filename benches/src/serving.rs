//! The model server under several sessions: what eight get together beside one, the memory that it takes, and how soon it
//! has embedded a text after its start.
//!
//! Every text and every question is another one, so no memo answers.

use crate::measurement::{median_of, Report};
use postgres::{Client, NoTls};
use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SESSIONS: usize = 8;
/// The part of the time that is counted for which sessions ask before, so that all are at work.
const RAMP_PART: u32 = 6;
const INT8: &str = "bench-int8";
/// What sessions ask for; `$1` is a number. What is done is counted for so many seconds: answers of sessions that began
/// together end together, some seconds apart.
const REQUESTS: [(&str, u64, &str); 4] = [
    ("short texts", 6, "SELECT embed('How do I create partial index number ' || $1::int8)"),
    ("short texts, int8", 6, "SELECT embed('How do I create partial index number ' || $1::int8, 'bench-int8')"),
    ("short generations", 24, "SELECT generate('Tell me a story about the number ' || $1::int8, max_tokens => 48)"),
    (
        "answers",
        24,
        "SELECT rag_answer('What does VACUUM do in case ' || $1::int8 || '?', 'manual_rag', k => 3, max_tokens => 64)",
    ),
];
const LONGEST_START: Duration = Duration::from_secs(60);
const LONG_PROMPT_TOKENS: i32 = 2000;
/// More prompts than the server keeps the beginnings of.
const PROMPTS: i32 = 12;
const PROMPT_TOKENS: i32 = 1000;
const MIB: f64 = 1024.0 * 1024.0;

/// `url` names a database with the demo's index `manual_rag`, of a server on this machine whose model server may be killed.
pub fn run(url: &str, repeat: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(url, NoTls)?;
    first_vector(&mut client, repeat, report)?;
    memory(&mut client, report)?;
    // A run that failed may have left it.
    client.execute("SELECT rag_drop_model(name) FROM rag_models WHERE name = $1", &[&INT8])?;
    client.execute("SELECT rag_add_model($1, 'embed', 'all-MiniLM-L6-v2', '{\"dtype\": \"int8\"}')", &[&INT8])?;
    let outcome = REQUESTS.iter().try_for_each(|request| together(url, request, repeat, report));
    client.execute("SELECT rag_drop_model($1)", &[&INT8])?;
    outcome
}

/// Kills the server, and asks the next one for a vector as soon as it is there. What is reported is how old that server is
/// then: a server that died often is not started again at once.
fn first_vector(client: &mut Client, repeat: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..repeat {
        restart(client)?;
        client.execute("SELECT embed('the first text after the start')", &[])?;
        let row = client.query_one("SELECT 1000 * extract(epoch FROM uptime)::float8 FROM rag_server_status", &[])?;
        times.push(row.get(0));
    }
    report.add("age of the server at its first vector", median_of(times), "ms");
    Ok(())
}

/// Kills the server and waits for the next one.
fn restart(client: &mut Client) -> Result<(), Box<dyn Error>> {
    let mut server = || client.query_one("SELECT pid FROM rag_server_status", &[]).map(|row| row.get::<_, i32>(0));
    let former = server()?;
    if !Command::new("kill").arg(former.to_string()).status()?.success() {
        return Err(format!("could not kill the model server, process {former}: is it on this machine?").into());
    }
    let killed = Instant::now();
    // Until it is dead it may answer, or take a call with it.
    while !server().is_ok_and(|pid| pid != former) {
        if killed.elapsed() > LONGEST_START {
            return Err(format!("no model server has started within {LONGEST_START:?}").into());
        }
    }
    Ok(())
}

/// What the server takes with both default models, after a long prompt, and with as many prompts as it keeps.
fn memory(client: &mut Client, report: &mut Report) -> Result<(), Box<dyn Error>> {
    restart(client)?;
    let mut resident = |client: &mut Client, when: &str| -> Result<(), postgres::Error> {
        let bytes: i64 = client.query_one("SELECT resident_bytes FROM rag_server_status", &[])?.get(0);
        report.add(format!("resident memory of the server, {when}"), bytes as f64 / MIB, "MiB");
        Ok(())
    };
    let generate = "SELECT generate($1, max_tokens => 8)";
    client.execute("SELECT embed('a text')", &[])?;
    client.execute(generate, &[&"Hello"])?;
    resident(client, "both models loaded")?;
    let long = prompt(client, 0, LONG_PROMPT_TOKENS)?;
    client.execute(generate, &[&long])?;
    resident(client, "after a prompt of 2,000 tokens")?;
    for number in 1..=PROMPTS {
        let prompt = prompt(client, number, PROMPT_TOKENS)?;
        client.execute(generate, &[&prompt])?;
    }
    resident(client, "with all the prompts that it keeps")?;
    Ok(())
}

/// A prompt of so many tokens of the generation model, unlike those of other numbers from the first word on.
fn prompt(client: &mut Client, number: i32, tokens: i32) -> Result<String, postgres::Error> {
    let row = client.query_one(
        "SELECT detokenize((tokenize('Number ' || $1::int4 || ': ' || repeat('pages of the table and its index, ', 400),
                                     'SmolLM2-135M-Instruct'))[:$2], 'SmolLM2-135M-Instruct')",
        &[&number, &tokens],
    )?;
    Ok(row.get(0))
}

/// Requests a second of one session and of several, in turns.
fn together(
    url: &str,
    (name, seconds, query): &(&str, u64, &str),
    repeat: usize,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    let length = Duration::from_secs(*seconds);
    for _ in 0..repeat {
        alone.push(turn(url, query, length, 1)?);
        together.push(turn(url, query, length, SESSIONS)?);
    }
    let (alone, together) = (median_of(alone), median_of(together));
    report.add(format!("{name}, one session"), alone, "/s");
    report.add(format!("{name}, {SESSIONS} sessions"), together, "/s");
    report.add(format!("{name}, {SESSIONS} sessions to one"), together / alone, "×");
    Ok(())
}

/// Requests a second that so many sessions get done, while all of them ask on and on.
fn turn(url: &str, query: &str, length: Duration, sessions: usize) -> Result<f64, Box<dyn Error>> {
    /// Numbers that were asked for, in all turns.
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let mut clients = (0..sessions).map(|_| Client::connect(url, NoTls)).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let counted = length / RAMP_PART..length / RAMP_PART + length;
    let session = |client: &mut Client| -> Result<u64, postgres::Error> {
        let query = client.prepare(query)?;
        let mut done = 0;
        while started.elapsed() < counted.end {
            let number = ASKED.fetch_add(1, Ordering::Relaxed) as i64;
            client.query_one(&query, &[&number])?;
            done += u64::from(counted.contains(&started.elapsed()));
        }
        Ok(done)
    };
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| session(client))).collect();
        let counts = threads.into_iter().map(|thread| thread.join().expect("a session's thread does not panic"));
        counts.sum::<Result<u64, _>>()
    })?;
    Ok(done as f64 / length.as_secs_f64())
}
