//! Benchmarks of pg_rag.
//!
//! ```text
//! pg_rag_bench [--only models|embedding|generation|retrieval|rag|sql|serving|types] [--models DIR] [--threads N] [--repeat N]
//!              [--eval DIR] [--server URL] [--peer URL] [--rows N] [--json FILE]
//! ```
//!
//! Measures the model runtime in this process (`models`: embedding, generation; beside their peers where
//! PG_RAG_BENCH_PYTHON names a Python with sentence-transformers, onnxruntime, onnx, llama-cpp-python and psycopg) and, with
//! a server, the whole path through SQL in its database "demo" (`sql`: ingest, answers; these beside a program in Python
//! that searches the server with pgvector that `--peer` names), several sessions beside one, memory and start of the model
//! server (`serving`), and the vector types beside pgvector's, where its library is installed (`types`). With a folder of
//! questions and documents, `retrieval` measures what 8-bit weights cost, and with a server, too, `rag` an index over
//! `--rows` rows: triggers, indexing, searches. Every figure is the median of several runs; a benchmark is never a test.
//! Figures of two versions or of a peer are compared as ratios from runs on the same machine.

mod embedding;
mod generation;
mod measurement;
mod peer;
mod peers;
mod rag;
mod retrieval;
mod serving;
mod sql;
mod types;

use measurement::Report;
use std::error::Error;
use std::path::PathBuf;

const PARTS: [&str; 8] = ["models", "embedding", "generation", "retrieval", "rag", "sql", "serving", "types"];

struct Options {
    models: PathBuf,
    threads: usize,
    only: Option<String>,
    eval: Option<PathBuf>,
    server: Option<String>,
    peer: Option<String>,
    rows: usize,
    json: Option<PathBuf>,
    repeat: usize,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            models: std::env::var_os("PG_RAG_MODELS")
                .map_or_else(|| PathBuf::from("/usr/local/share/pg_rag/models"), PathBuf::from),
            threads: 0,
            only: None,
            eval: None,
            server: None,
            peer: None,
            rows: 100_000,
            json: None,
            repeat: 5,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("{name} needs a number"));
            match name.as_str() {
                "--models" => options.models = value.into(),
                "--threads" => options.threads = number()?,
                "--only" if PARTS.contains(&value.as_str()) => options.only = Some(value),
                "--eval" => options.eval = Some(value.into()),
                "--server" => options.server = Some(value),
                "--peer" => options.peer = Some(value),
                "--rows" => options.rows = number()?,
                "--json" => options.json = Some(value.into()),
                "--repeat" => options.repeat = number()?.max(1),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let mut report = Report::default();
    let wanted = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    let Options { models, threads, repeat, rows, .. } = &options;
    if wanted("models") || wanted("embedding") {
        embedding::run(&models.join("all-MiniLM-L6-v2"), *threads, *repeat, &mut report)?;
    }
    if wanted("models") || wanted("generation") {
        generation::run(&models.join("SmolLM2-135M-Instruct"), *threads, *repeat, &mut report)?;
    }
    if let Some(data) = options.eval.as_ref().filter(|_| wanted("retrieval")) {
        retrieval::run(&models.join("all-MiniLM-L6-v2"), data, *threads, &mut report)?;
    }
    match &options.server {
        Some(url) => {
            if wanted("sql") {
                let peer = options.peer.as_deref();
                sql::run(&format!("{url} dbname=demo"), peer, models, *threads, &mut report)?;
            }
            if wanted("serving") {
                serving::run(&format!("{url} dbname=demo"), *repeat, &mut report)?;
            }
            if let Some(data) = options.eval.as_ref().filter(|_| wanted("rag")) {
                rag::run(url, data, *rows, &mut report)?;
            }
            if wanted("types") {
                types::run(url, *rows, *repeat, &mut report)?;
            }
        }
        None => println!("no --server given: nothing that needs SQL is measured"),
    }
    report.print();
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json())?;
        println!("written to {}", path.display());
    }
    Ok(())
}
