//! The whole path through SQL, over the corpus of the demo: ingest and answers.

use crate::measurement::{median, median_of, Report};
use crate::peer::Peer;
use pg_rag_model::source::gguf_file;
use postgres::{Client, NoTls};
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// Each is asked once: a question that was asked before has its prompt in the server's store.
const QUESTIONS: [&str; 12] = [
    "How do I create a partial index?",
    "What does VACUUM do?",
    "Which isolation levels does PostgreSQL offer?",
    "How do I add a column to a table?",
    "What is a foreign key?",
    "How do I cancel a running query?",
    "What is a materialized view?",
    "How do I make a backup of a database?",
    "When should I run ANALYZE?",
    "What is a tablespace?",
    "How do I limit the number of connections of a role?",
    "What is the difference between json and jsonb?",
];
const PASSAGES: i32 = 3;
const ANSWER_TOKENS: i32 = 64;
/// Room for prompt and answer at the peer.
const CONTEXT_TOKENS: usize = 2048;

/// `url` names a database with the demo's table `manual` and index `manual_rag`; `peer` one of a server with pgvector, where
/// the same chunks are searched by a program in Python.
pub fn run(
    url: &str,
    peer: Option<&str>,
    models: &Path,
    threads: usize,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(url, NoTls)?;
    ingest(&mut client, report)?;
    short_queries(&mut client, report)?;
    answers(&mut client, report)?;
    let Some(peer) = peer else {
        println!("no --peer given: answers are not measured beside pgvector with Python");
        return Ok(());
    };
    let threads = if threads == 0 { std::thread::available_parallelism()?.get() } else { threads };
    let setup = json!({
        "embedding_model": models.join("all-MiniLM-L6-v2"),
        "model": gguf_file(&models.join("SmolLM2-135M-Instruct"))?,
        "threads": threads,
        "context": CONTEXT_TOKENS,
        "ours": url,
        "peer": peer,
    });
    match Peer::start("answer.py", &setup)? {
        Some(peer) => answers_beside(&mut client, peer, report),
        None => Ok(()),
    }
}

/// Indexes a part of the manual anew, inside a transaction that is rolled back.
fn ingest(client: &mut Client, report: &mut Report) -> Result<(), postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(
        "CREATE TABLE bench_pages (path text PRIMARY KEY, title text, html text);
         INSERT INTO bench_pages SELECT path, title, html FROM manual ORDER BY path LIMIT 40;
         SELECT embed('warm up')",
    )?;
    let started = Instant::now();
    transaction.execute("SELECT rag_create_index('bench_pages', 'html')", &[])?;
    let elapsed_s = started.elapsed().as_secs_f64();
    let row = transaction.query_one("SELECT count(*), sum(tokens) FROM bench_pages_rag", &[])?;
    let (chunks, tokens): (i64, i64) = (row.get(0), row.get(1));
    transaction.rollback()?;
    report.add("ingest of 40 pages", chunks as f64 / elapsed_s, "chunks/s");
    report.add("ingest of 40 pages", tokens as f64 / elapsed_s, "tokens/s");
    Ok(())
}

/// One short text through SQL, another one each time: no memo answers.
fn short_queries(client: &mut Client, report: &mut Report) -> Result<(), postgres::Error> {
    let mut number = 0;
    let query = client.prepare("SELECT embed($1)")?;
    let query_ms = median(200, || {
        number += 1;
        let text = format!("How do I create partial index number {number}?");
        let started = Instant::now();
        client.query_one(&query, &[&text])?;
        Ok::<_, postgres::Error>(started.elapsed().as_secs_f64() * 1000.0)
    })?;
    report.add("one short text through SQL", query_ms, "ms");
    Ok(())
}

/// Whole answers, question by question in turns; the first of each side warms up.
fn answers_beside(client: &mut Client, mut peer: Peer, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for question in QUESTIONS {
        // Another wording than before.
        let question = format!("Tell me: {question}");
        let started = Instant::now();
        client.query_one(
            "SELECT rag_answer($1, 'manual_rag', k => $2, max_tokens => $3)",
            &[&question, &PASSAGES, &ANSWER_TOKENS],
        )?;
        ours.push(started.elapsed().as_secs_f64());
        let request = json!({ "question": question, "passages": PASSAGES, "max_tokens": ANSWER_TOKENS });
        peers.push(peer.seconds(&request)?);
    }
    let (ours, peers) = (median_of(ours.split_off(1)), median_of(peers.split_off(1)));
    report.add("answer, second and later questions", ours * 1000.0, "ms");
    report.add("answer, the same by sentence-transformers, pgvector and llama.cpp", peers * 1000.0, "ms");
    report.add("answer, time beside these", ours / peers, "times");
    Ok(())
}

/// Where the time of an answer goes, over all questions.
fn answers(client: &mut Client, report: &mut Report) -> Result<(), postgres::Error> {
    let query = "SELECT (usage->>'retrieval_ms')::float8, (usage->>'prefill_ms')::float8,
                        (usage->>'decode_ms')::float8
                   FROM rag_ask($1, 'manual_rag', k => $2, max_tokens => $3)";
    let mut splits: Vec<[f64; 4]> = Vec::new();
    for question in QUESTIONS {
        let started = Instant::now();
        let row = client.query_one(query, &[&question, &PASSAGES, &ANSWER_TOKENS])?;
        let total_ms = started.elapsed().as_secs_f64() * 1000.0;
        splits.push([row.get(0), row.get(1), row.get(2), total_ms]);
    }
    for (at, name) in ["retrieval", "prefill", "decoding", "total"].into_iter().enumerate() {
        let mut values: Vec<f64> = splits.iter().map(|split| split[at]).collect();
        values.sort_by(f64::total_cmp);
        report.add(format!("answer, {name}"), values[values.len() / 2], "ms");
    }
    Ok(())
}
