//! The command line.

use crate::truth::Metric;
use std::path::PathBuf;

pub const PARTS: [&str; 8] = ["build", "size", "search", "filter", "insert", "vacuum", "plans", "conditions"];
/// Those that are measured if nothing else is asked for.
const USUAL_PARTS: usize = 6;

pub struct Options {
    pub data: PathBuf,
    pub ours: Option<String>,
    pub peer: Option<String>,
    pub dimensions: Vec<usize>,
    pub metrics: Vec<Metric>,
    pub rows: usize,
    pub only: Vec<String>,
    pub m: usize,
    pub ef_construction: usize,
    pub ef_search: Vec<usize>,
    pub queries: usize,
    pub passes: usize,
    pub inserts: usize,
    pub workers: usize,
    pub memory: String,
    pub truth: PathBuf,
    pub json: Option<PathBuf>,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let mut options = Self {
            data: PathBuf::new(),
            ours: None,
            peer: None,
            dimensions: vec![384, 768, 1536],
            metrics: vec![Metric::Cosine],
            rows: 60_000,
            only: PARTS[..USUAL_PARTS].iter().map(|&part| part.into()).collect(),
            m: 16,
            ef_construction: 64,
            ef_search: vec![10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 800],
            queries: 1000,
            passes: 3,
            inserts: 2000,
            workers: 1,
            memory: "4GB".into(),
            truth: target.join("bench/truth"),
            json: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--data" => options.data = value.into(),
                "--ours" => options.ours = Some(value),
                "--peer" => options.peer = Some(value),
                "--dims" => options.dimensions = list(&name, &value, number)?,
                "--metric" => options.metrics = list(&name, &value, metric)?,
                "--rows" => options.rows = number(&name, &value)?,
                "--only" => options.only = list(&name, &value, part)?,
                "--m" => options.m = number(&name, &value)?,
                "--ef-construction" => options.ef_construction = number(&name, &value)?,
                "--ef-search" => options.ef_search = list(&name, &value, number)?,
                "--queries" => options.queries = number(&name, &value)?.clamp(1, 1000),
                "--passes" => options.passes = number(&name, &value)?.max(1),
                "--inserts" => options.inserts = number(&name, &value)?.max(1),
                "--workers" => options.workers = number(&name, &value)?,
                "--memory" => options.memory = value,
                "--truth" => options.truth = value.into(),
                "--json" => options.json = Some(value.into()),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        options.ef_search.sort_unstable();
        if options.ours.is_none() && options.peer.is_none() {
            return Err("give a server with --ours, --peer or both".into());
        }
        Ok(options)
    }

    pub fn wants(&self, part: &str) -> bool {
        self.only.iter().any(|only| only == part)
    }
}

fn list<T>(name: &str, value: &str, item: impl Fn(&str, &str) -> Result<T, String>) -> Result<Vec<T>, String> {
    value.split(',').map(|value| item(name, value.trim())).collect()
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{name} needs a number, not \"{value}\""))
}

fn metric(_: &str, value: &str) -> Result<Metric, String> {
    [Metric::Cosine, Metric::L2]
        .into_iter()
        .find(|metric| metric.name() == value)
        .ok_or_else(|| format!("unknown metric \"{value}\": there are cosine and l2"))
}

fn part(_: &str, value: &str) -> Result<String, String> {
    let known = PARTS.contains(&value);
    known.then(|| value.to_string()).ok_or_else(|| format!("unknown part \"{value}\": there are {}", PARTS.join(", ")))
}
