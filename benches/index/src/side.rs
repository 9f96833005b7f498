//! One of the servers: its connection, its settings, and the statements both get.

use crate::options::Options;
use crate::process::Process;
use bytes::{BufMut, BytesMut};
use postgres::types::{to_sql_checked, IsNull, ToSql, Type};
use postgres::{Client, NoTls};
use std::error::Error;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Settings of a cluster that change the figures.
const COMPARED: [&str; 12] = [
    "server_version",
    "shared_buffers",
    "huge_pages",
    "wal_level",
    "fsync",
    "full_page_writes",
    "data_checksums",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "max_worker_processes",
    "max_parallel_workers",
];

/// What the planner may use in all parts that do not say otherwise, and leave behind.
pub const PLANNER: &str =
    "RESET enable_sort; RESET enable_indexscan; RESET enable_bitmapscan; SET enable_seqscan = off";

pub struct Side {
    /// "ours" or "peer".
    pub label: &'static str,
    /// Which extension, with its version.
    pub extension: String,
    pub client: Client,
    pub process: Option<Process>,
    pub settings: Vec<String>,
}

impl Side {
    /// Connects, creates the extension where it is missing, and makes a schema of this side's own: both sides may be one
    /// database.
    pub fn open(label: &'static str, dsn: &str, options: &Options) -> Outcome<Self> {
        let mut client = Client::connect(dsn, NoTls).map_err(|error| format!("{label}: {error}"))?;
        let wanted = "name IN ('pg_rag', 'vector')";
        let row = client
            .query_opt(
                &format!(
                    "SELECT name, installed_version IS NULL FROM pg_available_extensions
                      WHERE {wanted} ORDER BY installed_version IS NULL, name LIMIT 1"
                ),
                &[],
            )?
            .ok_or_else(|| format!("{label}: neither pg_rag nor vector can be created there"))?;
        let (name, missing): (String, bool) = (row.get(0), row.get(1));
        if missing {
            client.batch_execute(&format!("CREATE EXTENSION {name}"))?;
        }
        let row = client.query_one(
            "SELECT extversion, extnamespace::regnamespace::text, pg_backend_pid() FROM pg_extension WHERE extname = $1",
            &[&name],
        )?;
        let (version, schema, pid): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
        client.batch_execute(&format!(
            "SET client_min_messages = warning;
             CREATE SCHEMA IF NOT EXISTS bench_index_{label};
             SET search_path = bench_index_{label}, {schema}, public;
             SET synchronous_commit = off;
             SET maintenance_work_mem = '{}';
             SET max_parallel_maintenance_workers = {};
             SET max_parallel_workers_per_gather = 0;
             {PLANNER};
             SET plan_cache_mode = force_generic_plan;
             SET jit = off",
            options.memory, options.workers
        ))?;
        let settings = COMPARED.iter().map(|setting| {
            Ok::<_, postgres::Error>(client.query_one("SELECT current_setting($1, true)", &[setting])?.get(0))
        });
        let settings = settings.collect::<Result<Vec<Option<String>>, _>>()?;
        Ok(Self {
            label,
            extension: format!("{name} {version}"),
            client,
            process: Process::local(pid),
            settings: settings.into_iter().map(Option::unwrap_or_default).collect(),
        })
    }

    /// Position in the log of changes, in bytes.
    pub fn log_position(&mut self) -> Outcome<f64> {
        let row = self.client.query_one("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8", &[])?;
        Ok(row.get(0))
    }
}

/// Tells who is measured, and where the two clusters differ.
pub fn introduce(sides: &[Side]) {
    for side in sides {
        let settings: Vec<_> =
            COMPARED.iter().zip(&side.settings).map(|(name, value)| format!("{name} {value}")).collect();
        println!("{}: {}, {}", side.label, side.extension, settings.join(", "));
    }
    if let [ours, peer] = sides {
        for ((name, ours), peer) in COMPARED.iter().zip(&ours.settings).zip(&peer.settings) {
            if ours != peer {
                println!("WARNING: the clusters differ in {name}: {ours} and {peer}");
            }
        }
    }
}

/// A vector as a parameter, in the binary format that both extensions have.
#[derive(Debug)]
pub struct Parameter<'a>(pub &'a [f32]);

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        encode(self.0, out);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

/// Writes the dimension, an unused field, and the elements.
pub fn encode(vector: &[f32], out: &mut impl BufMut) {
    out.put_i16(vector.len() as i16);
    out.put_i16(0);
    vector.iter().for_each(|&value| out.put_f32(value));
}
