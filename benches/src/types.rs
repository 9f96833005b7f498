//! The vector types beside pgvector's: sequential scans ordered by distance, and COPY in both formats.
//!
//! Both extensions run in databases of one cluster, in turns, so a figure is a ratio of neighbours in time. Without the
//! peer's library only our own figures are taken.

use crate::measurement::{median_of, Report};
use postgres::{Client, NoTls};
use std::error::Error;
use std::io::{Read, Write};
use std::time::Instant;

/// What is measured of one type and width.
#[derive(Clone, Copy)]
struct Case {
    type_name: &'static str,
    dimensions: usize,
}

const CASES: [Case; 4] = [
    Case { type_name: "vector", dimensions: 384 },
    Case { type_name: "vector", dimensions: 1536 },
    Case { type_name: "halfvec", dimensions: 384 },
    Case { type_name: "halfvec", dimensions: 1536 },
];

/// One of the two databases.
struct Side {
    name: &'static str,
    client: Client,
}

/// `url` names a server, without a database; `rows` go into each table.
pub fn run(url: &str, rows: usize, repeat: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut sides = Vec::new();
    for (name, extension) in [("pg_rag", "pg_rag"), ("pgvector", "vector")] {
        match open(url, extension) {
            Ok(client) => sides.push(Side { name, client }),
            Err(error) if name == "pgvector" => println!("not beside pgvector: {error}"),
            Err(error) => return Err(error),
        }
    }
    for case in CASES {
        measure(case, &mut sides, rows, repeat, report)?;
    }
    for side in &mut sides {
        side.client.batch_execute("DROP TABLE IF EXISTS items")?;
    }
    Ok(())
}

/// A database of its own for an extension.
fn open(url: &str, extension: &str) -> Result<Client, Box<dyn Error>> {
    let database = format!("bench_types_{extension}");
    let mut client = Client::connect(&format!("{url} dbname=postgres"), NoTls)?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {database}"))?;
    client.batch_execute(&format!("CREATE DATABASE {database}"))?;
    let mut client = Client::connect(&format!("{url} dbname={database}"), NoTls)?;
    // Parallel plans and just-in-time compilation would measure something else.
    client.batch_execute(&format!(
        "CREATE EXTENSION {extension}; SET max_parallel_workers_per_gather = 0; SET jit = off; SET work_mem = '64MB'"
    ))?;
    Ok(client)
}

fn measure(
    case: Case,
    sides: &mut [Side],
    rows: usize,
    repeat: usize,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let Case { type_name, dimensions } = case;
    for side in sides.iter_mut() {
        side.client.batch_execute(&format!(
            "DROP TABLE IF EXISTS items; CREATE UNLOGGED TABLE items (v {type_name}({dimensions}))"
        ))?;
    }
    let binary: Vec<u8> = binary_rows(case, rows);
    // COPY moves a tenth of the rows, each time into an empty table.
    let copied = &binary_rows(case, rows / 10)[..];
    let text = &text_rows(case, rows / 10)[..];

    let name = format!("{type_name}({dimensions})");
    for (format, data) in [("binary", copied), ("text", text)] {
        compare(sides, repeat, report, &format!("{name} copy in, {format}"), &mut |client| {
            client.batch_execute("TRUNCATE items")?;
            copy_in(client, format, data)
        })?;
        compare(sides, repeat, report, &format!("{name} copy out, {format}"), &mut |client| {
            let started = Instant::now();
            let mut reader = client.copy_out(&format!("COPY items TO STDOUT (FORMAT {format})"))?;
            std::io::copy(&mut reader.by_ref(), &mut std::io::sink())?;
            Ok(started.elapsed().as_secs_f64())
        })?;
    }
    for side in sides.iter_mut() {
        side.client.batch_execute("TRUNCATE items")?;
        copy_in(&mut side.client, "binary", &binary)?;
        side.client.batch_execute("VACUUM (FREEZE, ANALYZE) items")?;
    }
    let query = text_value(case, rows + 1);
    for operator in ["<->", "<=>", "<#>", "<+>"] {
        let statement = format!("SELECT ctid FROM items ORDER BY v {operator} '{query}' LIMIT 10");
        compare(sides, repeat, report, &format!("{name} scan, {operator}"), &mut |client| {
            let started = Instant::now();
            client.simple_query(&statement)?;
            Ok(started.elapsed().as_secs_f64())
        })?;
    }
    Ok(())
}

/// Something to measure: returns the seconds it took.
type Work<'a> = &'a mut dyn FnMut(&mut Client) -> Result<f64, Box<dyn Error>>;

/// Runs `work` against both sides in turns, the first round to warm up.
fn compare(
    sides: &mut [Side],
    repeat: usize,
    report: &mut Report,
    what: &str,
    work: Work<'_>,
) -> Result<(), Box<dyn Error>> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
    for round in 0..=repeat {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            let time_s = work(&mut side.client)?;
            if round > 0 {
                times.push(time_s);
            }
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median_of).collect();
    for (side, median_s) in sides.iter().zip(&medians) {
        report.add(format!("{what}, {}", side.name), median_s * 1000.0, "ms");
    }
    if let [ours, theirs] = medians[..] {
        report.add(format!("{what}, speed beside pgvector"), theirs / ours, "times");
    }
    Ok(())
}

fn copy_in(client: &mut Client, format: &str, data: &[u8]) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    let mut writer = client.copy_in(&format!("COPY items FROM STDIN (FORMAT {format})"))?;
    for block in data.chunks(1 << 16) {
        writer.write_all(block)?;
    }
    writer.finish()?;
    Ok(started.elapsed().as_secs_f64())
}

/// Element of a row: repeatable, spread over -1 to 1, and exact in half precision as well.
fn element(row: usize, dimension: usize) -> f32 {
    let mut state = (row as u64) << 32 | dimension as u64;
    // A round of splitmix64 (Steele, Lea and Flood, 2014).
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((state >> 53) as f32 / 1024.0) - 1.0
}

fn binary_rows(case: Case, rows: usize) -> Vec<u8> {
    let half = case.type_name == "halfvec";
    let element_bytes = if half { 2 } else { 4 };
    let field_bytes = 4 + element_bytes * case.dimensions;
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    out.reserve(rows * (field_bytes + 6) + 2);
    for row in 0..rows {
        out.extend(1i16.to_be_bytes());
        out.extend((field_bytes as i32).to_be_bytes());
        out.extend((case.dimensions as i16).to_be_bytes());
        out.extend([0, 0]);
        for dimension in 0..case.dimensions {
            let value = element(row, dimension);
            if half {
                out.extend(half::f16::from_f32(value).to_be_bytes());
            } else {
                out.extend(value.to_be_bytes());
            }
        }
    }
    out.extend((-1i16).to_be_bytes());
    out
}

fn text_rows(case: Case, rows: usize) -> Vec<u8> {
    (0..rows).flat_map(|row| (text_value(case, row) + "\n").into_bytes()).collect()
}

fn text_value(case: Case, row: usize) -> String {
    let elements: Vec<String> = (0..case.dimensions).map(|dimension| element(row, dimension).to_string()).collect();
    format!("[{}]", elements.join(","))
}
