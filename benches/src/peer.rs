//! A peer: a program in another language that does the same work, in its own process.

use serde_json::Value;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Takes requests as lines of JSON and answers each with a line.
pub struct Peer {
    /// What it answered to its setup.
    pub introduction: Value,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a script of `benches/peers` with the interpreter that PG_RAG_BENCH_PYTHON names; `None`, with a message, if
    /// it names none.
    pub fn start(script: &str, setup: &Value) -> Result<Option<Self>, Box<dyn Error>> {
        let Some(python) = std::env::var_os("PG_RAG_BENCH_PYTHON") else {
            println!("PG_RAG_BENCH_PYTHON is not set: not beside {script}");
            return Ok(None);
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
        let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("a peer has no output")?);
        let input = child.stdin.take();
        let mut peer = Self { introduction: Value::Null, child, input, output };
        peer.introduction = peer.ask(setup)?;
        println!("peer: {}", peer.introduction);
        Ok(Some(peer))
    }

    /// The answer to a request.
    pub fn ask(&mut self, request: &Value) -> Result<Value, Box<dyn Error>> {
        let input = self.input.as_mut().ok_or("the peer has been closed")?;
        writeln!(input, "{request}")?;
        input.flush()?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the peer has ended, see its messages above".into());
        }
        Ok(serde_json::from_str(&line).map_err(|error| format!("the peer answered {line:?}: {error}"))?)
    }

    /// Seconds that the peer took for a request, by its own clock.
    pub fn seconds(&mut self, request: &Value) -> Result<f64, Box<dyn Error>> {
        self.ask(request)?["seconds"].as_f64().ok_or_else(|| "the peer named no seconds".into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is the end of its work.
        self.input = None;
        let _ = self.child.wait();
    }
}
