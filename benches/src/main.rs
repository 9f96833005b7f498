//! Benchmarks of pg_rag.
//!
//! ```text
//! pg_rag_bench [--models DIR] [--threads N] [--database URL] [--json FILE] [--repeat N]
//! ```
//!
//! Measures the model runtime in this process (embedding, generation), and, with a database that has a demo index, the
//! whole path through SQL (ingest, answers). Every figure is the median of several runs; a benchmark is never a test.
//! Figures of two versions or of a peer are compared as ratios from runs on the same machine.

mod embedding;
mod generation;
mod measurement;
mod sql;

use measurement::Report;
use std::error::Error;
use std::path::PathBuf;

struct Options {
    models: PathBuf,
    threads: usize,
    database: Option<String>,
    json: Option<PathBuf>,
    repeat: usize,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            models: std::env::var_os("PG_RAG_MODELS")
                .map_or_else(|| PathBuf::from("/usr/local/share/pg_rag/models"), PathBuf::from),
            threads: 0,
            database: None,
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
                "--database" => options.database = Some(value),
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
    embedding::run(&options.models.join("all-MiniLM-L6-v2"), options.threads, options.repeat, &mut report)?;
    generation::run(&options.models.join("SmolLM2-135M-Instruct"), options.threads, options.repeat, &mut report)?;
    match &options.database {
        Some(url) => sql::run(url, options.repeat, &mut report)?,
        None => println!("no --database given: ingest and answers are not measured"),
    }
    report.print();
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json())?;
        println!("written to {}", path.display());
    }
    Ok(())
}
