//! The peers of the embedding benchmark, which run in a Python of their own: `benches/peers/embedding.py`.

use crate::peer::Peer;
use serde_json::json;
use std::cell::RefCell;
use std::error::Error;
use std::path::{Path, PathBuf};

/// A running script, and the names of the peers it offers.
pub struct Peers {
    pub names: Vec<String>,
    process: RefCell<Peer>,
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
        let cache = std::env::var_os("PG_RAG_BENCH_CACHE")
            .map_or_else(|| std::env::temp_dir().join("pg_rag_bench_onnx"), PathBuf::from);
        let setup = json!({ "model": model, "cache": cache, "threads": threads, "texts": texts, "question": question });
        let Some(peer) = Peer::start("embedding.py", &setup)? else { return Ok(None) };
        let names = serde_json::from_value(peer.introduction["peers"].clone())?;
        Ok(Some(Self { names, process: RefCell::new(peer) }))
    }

    /// Seconds that `peer` takes for `what`: "texts" or "question".
    pub fn seconds(&self, what: &str, peer: &str) -> Result<f64, Box<dyn Error>> {
        self.process.borrow_mut().seconds(&json!({ "what": what, "peer": peer }))
    }

    /// The question's vector, as `peer` computes it.
    pub fn vector(&self, peer: &str) -> Result<Vec<f32>, Box<dyn Error>> {
        let answer = self.process.borrow_mut().ask(&json!({ "what": "vector", "peer": peer }))?;
        Ok(serde_json::from_value(answer["vector"].clone())?)
    }
}
