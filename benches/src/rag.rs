//! An index that follows its table: what its triggers cost a writer, how fast rows that wait are indexed, and how long a
//! search over them takes.
//!
//! The texts are sentences out of the documents of the folder of questions, so that words come as often as they do in what
//! people wrote, and all are different: two of them, which is short, and as many as fill a chunk of the usual size.

use crate::measurement::{median_of, Report};
use postgres::{Client, NoTls};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

const DATABASE: &str = "bench_rag";
/// Rows of a transaction whose writer is watched.
const WRITTEN_ROWS: usize = 1000;
/// Such transactions with and without triggers, in turns.
const TURNS: usize = 31;
/// Sentences of a short text, and of one that fills a chunk.
const SHORT: usize = 2;
const LONG: usize = 7;
/// Long texts for each short one.
const LONG_SHARE: usize = 4;
/// Texts of one call of `embed(text[])`.
const EMBEDDED_AT_ONCE: usize = 500;
const EMBEDDED: usize = 5000;
const LONGEST_DRAIN: &str = "3 hours";

/// `url` names a server without a database. `rows` wait to be indexed, then they are searched.
pub fn run(url: &str, data: &Path, rows: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut admin = Client::connect(&format!("{url} dbname=postgres"), NoTls)?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))?;
    admin.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
    let mut client = Client::connect(&format!("{url} dbname={DATABASE}"), NoTls)?;
    client.batch_execute("SET client_min_messages = warning; CREATE EXTENSION pg_rag; SELECT embed('warm up')")?;
    let texts = Texts::of(&crate::retrieval::lines(&data.join("documents.jsonl"))?)?;
    triggers(&mut client, &texts, report)?;
    drain(&mut client, &texts, ("documents", SHORT), rows, report)?;
    drain(&mut client, &texts, ("articles", LONG), (rows / LONG_SHARE).max(1), report)?;
    let questions = crate::retrieval::lines(&data.join("questions.jsonl"))?;
    let questions: Vec<String> = questions.iter().map(|line| crate::retrieval::text(&line["question"])).collect();
    for mode in ["hybrid", "vector", "text"] {
        search(&mut client, &questions, mode, rows, report)?;
    }
    drop(client);
    admin.batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)"))?;
    Ok(())
}

/// At least as many different texts as there are pairs of sentences.
struct Texts {
    sentences: Vec<String>,
}

impl Texts {
    fn of(documents: &[serde_json::Value]) -> Result<Texts, Box<dyn Error>> {
        let mut sentences = Vec::new();
        for document in documents {
            let text = crate::retrieval::text(&document["text"]);
            sentences.extend(text.split_inclusive(". ").map(|sentence| sentence.trim().to_string()));
        }
        match sentences.len() {
            0 | 1 => Err("the documents have no sentences".into()),
            _ => Ok(Texts { sentences }),
        }
    }

    /// So many sentences: one, and some that follow one another elsewhere. All pairs of the first two come once before one comes
    /// again: the second is one further on after each round of the first.
    fn get(&self, at: usize, sentences: usize) -> String {
        let count = self.sentences.len();
        let (first, round) = (at % count, at / count);
        let others = (0..sentences - 1).map(|next| (first + 1 + round + next) % count);
        let all: Vec<&str> = std::iter::once(first).chain(others).map(|at| self.sentences[at].as_str()).collect();
        all.join(" ")
    }
}

/// Transactions into a table with an index and into one without. The index is paused, so that its worker takes no time: what is
/// left is what the writer itself pays.
fn triggers(client: &mut Client, texts: &Texts, report: &mut Report) -> Result<(), Box<dyn Error>> {
    for table in ["plain", "followed"] {
        client.batch_execute(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, title text, body text, views integer NOT NULL DEFAULT 0)"
        ))?;
    }
    client.batch_execute("SELECT rag_create_index('followed', 'body'); SELECT rag_pause_index('followed_rag')")?;
    let bodies: Vec<String> = (0..WRITTEN_ROWS).map(|at| texts.get(at, SHORT)).collect();
    let mut next = 0i64;
    let mut seconds: [[Vec<f64>; 2]; 2] = Default::default();
    for turn in 0..=TURNS {
        for (place, table) in ["plain", "followed"].into_iter().enumerate() {
            let many = client.prepare(&format!(
                "INSERT INTO {table} SELECT $1 + at, 'Title ' || at, body FROM unnest($2::text[]) WITH ORDINALITY AS t (body, at)"
            ))?;
            let one = client.prepare(&format!("INSERT INTO {table} VALUES ($1, $2, $3)"))?;
            let started = Instant::now();
            let mut transaction = client.transaction()?;
            transaction.execute(&many, &[&next, &bodies])?;
            transaction.commit()?;
            let [whole, single] = &mut seconds[place];
            // The first turn warms up.
            whole.extend((turn > 0).then(|| started.elapsed().as_secs_f64()));
            next += WRITTEN_ROWS as i64 + 1;
            let started = Instant::now();
            let mut transaction = client.transaction()?;
            for body in &bodies {
                transaction.execute(&one, &[&next, &"Title", body])?;
                next += 1;
            }
            transaction.commit()?;
            single.extend((turn > 0).then(|| started.elapsed().as_secs_f64()));
        }
    }
    let [[plain, plain_single], [followed, followed_single]] = seconds.map(|each| each.map(median_of));
    for (name, plain, followed) in
        [("one INSERT of 1,000 rows", plain, followed), ("1,000 INSERTs of a row", plain_single, followed_single)]
    {
        report.add(format!("{name}, without an index"), plain * 1000.0, "ms");
        report.add(format!("{name}, time with triggers beside without"), followed / plain, "times");
    }
    client.batch_execute("SELECT rag_drop_index('followed_rag')")?;
    Ok(())
}

/// Rows that one transaction has brought, until all are indexed; beside embedding the same texts in a query.
fn drain(
    client: &mut Client,
    texts: &Texts,
    (table, sentences): (&str, usize),
    rows: usize,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    client.batch_execute(&format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, body text); SELECT rag_create_index('{table}', 'body')"
    ))?;
    let bodies: Vec<String> = (0..rows).map(|at| texts.get(at, sentences)).collect();
    let embed = |client: &mut Client, bodies: &[String]| -> Result<f64, postgres::Error> {
        let started = Instant::now();
        for some in bodies.chunks(EMBEDDED_AT_ONCE) {
            client.query_one("SELECT cardinality(embed($1::text[], 'all-MiniLM-L6-v2'))", &[&some])?;
        }
        Ok(started.elapsed().as_secs_f64())
    };
    // Texts of all rounds, so that they are as long as those of the rows.
    let embedded: Vec<String> = bodies.iter().step_by((rows / EMBEDDED).max(1)).cloned().collect();
    let before_s = embed(client, &embedded)?;
    client.execute(
        &format!("INSERT INTO {table} SELECT at, body FROM unnest($1::text[]) WITH ORDINALITY AS t (body, at)"),
        &[&bodies],
    )?;
    let started = Instant::now();
    let wait = format!("SELECT rag_wait('{table}_rag', '{LONGEST_DRAIN}')");
    let is_done: bool = client.query_one(&wait, &[])?.get(0);
    let drained_s = started.elapsed().as_secs_f64();
    let chunks: i64 = client.query_one(&format!("SELECT count(*) FROM {table}_rag"), &[])?.get(0);
    if !is_done || chunks < rows as i64 {
        return Err(format!("only {chunks} chunks of {rows} rows after {drained_s:.0} s").into());
    }
    let after_s = embed(client, &embedded)?;
    let embedding_per_s = embedded.len() as f64 / ((before_s + after_s) / 2.0);
    let drained_per_s = rows as f64 / drained_s;
    let what = format!("{sentences} sentences");
    report.add(format!("embedding texts of {what} in a query"), embedding_per_s, "rows/s");
    report.add(format!("indexing {rows} rows of {what} that wait"), drained_per_s, "rows/s");
    report.add(format!("indexing beside embedding, {what}"), drained_per_s / embedding_per_s, "times");
    Ok(())
}

/// Every question once, after some to warm up.
fn search(
    client: &mut Client,
    questions: &[String],
    mode: &str,
    rows: usize,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    client.batch_execute("VACUUM (ANALYZE)")?;
    let search = client.prepare("SELECT chunk FROM rag_search($1, 'documents_rag', mode => $2)")?;
    let mut times_ms = Vec::new();
    for (at, question) in questions.iter().take(20).chain(questions).enumerate() {
        let started = Instant::now();
        let found = client.query(&search, &[question, &mode])?;
        if found.is_empty() && mode != "text" {
            return Err(format!("nothing found for \"{question}\"").into());
        }
        times_ms.extend((at >= 20).then(|| started.elapsed().as_secs_f64() * 1000.0));
    }
    times_ms.sort_by(f64::total_cmp);
    let [median, most] = [50, 95].map(|percent| times_ms[times_ms.len() * percent / 100]);
    report.add(format!("{mode} search over {rows} chunks, median"), median, "ms");
    report.add(format!("{mode} search over {rows} chunks, 95 of 100 within"), most, "ms");
    Ok(())
}
