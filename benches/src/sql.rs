//! The whole path through SQL, over the corpus of the demo: ingest and answers.

use crate::measurement::{median, Report};
use postgres::{Client, NoTls};
use std::time::Instant;

const QUESTIONS: [&str; 3] =
    ["How do I create a partial index?", "What does VACUUM do?", "Which isolation levels does PostgreSQL offer?"];

/// `url` names a database with the demo's table `manual` and index `manual_rag`.
pub fn run(url: &str, repeat: usize, report: &mut Report) -> Result<(), postgres::Error> {
    let mut client = Client::connect(url, NoTls)?;
    ingest(&mut client, report)?;
    answers(&mut client, repeat, report)
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

/// Where the time of an answer goes, over all questions.
fn answers(client: &mut Client, repeat: usize, report: &mut Report) -> Result<(), postgres::Error> {
    let query = "SELECT (usage->>'retrieval_ms')::float8, (usage->>'prefill_ms')::float8,
                        (usage->>'decode_ms')::float8
                   FROM rag_ask($1, 'manual_rag', max_tokens => 64)";
    let mut splits: Vec<[f64; 4]> = Vec::new();
    for question in QUESTIONS {
        median(repeat.min(3), || -> Result<f64, postgres::Error> {
            let started = Instant::now();
            let row = client.query_one(query, &[&question])?;
            let total_ms = started.elapsed().as_secs_f64() * 1000.0;
            splits.push([row.get(0), row.get(1), row.get(2), total_ms]);
            Ok(total_ms)
        })?;
    }
    for (at, name) in ["retrieval", "prefill", "decoding", "total"].into_iter().enumerate() {
        let mut values: Vec<f64> = splits.iter().map(|split| split[at]).collect();
        values.sort_by(f64::total_cmp);
        report.add(format!("answer, {name}"), values[values.len() / 2], "ms");
    }
    Ok(())
}
