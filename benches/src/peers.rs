//! The peers of the embedding benchmark, which run in a Python of their own: `benches/peers/embedding.py`.

use std::cell::RefCell;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The environment variable that names the interpreter.
const PYTHON: &str = "PG_RAG_BENCH_PYTHON";

/// A running script, and the names of the peers it offers.
pub struct Peers {
    pub names: Vec<String>,
    process: RefCell<Process>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peers {
    /// Starts the script, if there is an interpreter for it. The model's ONNX files are made at the first time, in
    /// `$PG_RAG_BENCH_CACHE` or a folder for temporary files.
    pub fn start(
        model: &Path,
        threads: usize,
        texts: &[Vec<u32>],
        question: &[u32],
    ) -> Result<Option<Self>, Box<dyn Error>> {
        let Some(python) = std::env::var_os(PYTHON) else {
            println!("{PYTHON} is not set: embedding is not measured beside sentence-transformers and onnxruntime");
            return Ok(None);
        };
        let cache = std::env::var_os("PG_RAG_BENCH_CACHE")
            .map_or_else(|| std::env::temp_dir().join("pg_rag_bench_onnx"), PathBuf::from);
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/embedding.py"))
            .args([model, &cache])
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the peers' script has no standard input or output".into());
        };
        let mut process = Process { child, requests, answers: BufReader::new(answers) };
        let ready = process.ask(&serde_json::json!({ "texts": texts, "question": question }).to_string())?;
        let names = serde_json::from_value(ready["peers"].clone())?;
        Ok(Some(Self { names, process: RefCell::new(process) }))
    }

    /// Seconds that `peer` takes for `what`: "texts" or "question".
    pub fn seconds(&self, what: &str, peer: &str) -> Result<f64, Box<dyn Error>> {
        let answer = self.process.borrow_mut().ask(&format!("{what}\t{peer}"))?;
        answer["seconds"].as_f64().ok_or_else(|| "answer without seconds".into())
    }

    /// The question's vector, as `peer` computes it.
    pub fn vector(&self, peer: &str) -> Result<Vec<f32>, Box<dyn Error>> {
        let answer = self.process.borrow_mut().ask(&format!("vector\t{peer}"))?;
        Ok(serde_json::from_value(answer["vector"].clone())?)
    }
}

impl Process {
    fn ask(&mut self, request: &str) -> Result<serde_json::Value, Box<dyn Error>> {
        writeln!(self.requests, "{request}")?;
        self.requests.flush()?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the peers' script has ended, see its messages above".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It only computes; there is nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
