//! Searches with the conditions that people have: tenants of very different sizes, three columns together, ranges of time,
//! arrays; beside the peer with the best of its plans.
//!
//! Both sides have B-trees of the scalar columns and a GIN index of the array; ours has all columns in the hnsw index, too.

use crate::case::Case;
use crate::cell::Cell;
use crate::load::comment;
use crate::random::mix;
use crate::report::{print_table, shown, Report};
use crate::side::{Outcome, Side, PLANNER};
use std::io::Write;
use std::time::Duration;

const QUERIES: usize = 100;
const WANTED: usize = 10;
const LEAST_TIME: Duration = Duration::from_millis(700);
const TENANTS: usize = 1_000;
/// Shares of the languages, in percent, from the first on.
const LANGUAGES: [u64; 5] = [60, 20, 10, 6, 4];
const TAGS: u64 = 200;

/// A row's columns beside its vector.
struct Row {
    tenant: usize,
    lang: usize,
    /// From 0 to 999, the day of its publication.
    day: u64,
    price: u64,
    tags: Vec<u64>,
}

/// Tenants' shares of the rows, summed up: that of tenant k is in proportion to 1 / (k + 1).
fn tenant_sums() -> Vec<f64> {
    let mut sum = 0.0;
    (0..TENANTS)
        .map(|tenant| {
            sum += 1.0 / (tenant + 1) as f64;
            sum
        })
        .collect()
}

fn tenant(sums: &[f64], seed: u64, number: u64) -> usize {
    let drawn = (mix(seed, number) >> 11) as f64 / (1u64 << 53) as f64 * sums.last().copied().unwrap_or(1.0);
    sums.partition_point(|&sum| sum < drawn).min(TENANTS - 1)
}

fn row(sums: &[f64], number: u64) -> Row {
    let below = |seed: u64, limit: u64| mix(seed, number) % limit;
    let drawn = below(2, 100);
    let lang = LANGUAGES.iter().scan(0, |sum, share| {
        *sum += share;
        Some(*sum)
    });
    // The product of two draws is small more often than not.
    let tag = |at: u64| mix(40 + at, number) % TAGS * (mix(50 + at, number) % TAGS) / TAGS;
    Row {
        tenant: tenant(sums, 1, number),
        lang: lang.take_while(|&sum| sum <= drawn).count(),
        day: below(3, 1_000),
        price: below(5, 10_000),
        tags: (0..1 + below(6, 4)).map(tag).collect(),
    }
}

/// Whether the row passes the clause of a query, by its place.
type Passes<'a> = Box<dyn Fn(usize, &Row) -> bool + 'a>;

fn table(case: &Case<'_>) -> String {
    format!("conditions_{}", case.dimensions())
}

fn ensure(side: &mut Side, case: &Case<'_>, rows: &[Row]) -> Outcome<()> {
    let (table, items, metric) = (table(case), case.table(), case.metric.name());
    let stamp = format!("{metric} rows {} of {:016x}", case.data.rows, case.data.fingerprint);
    if comment(side, &table)?.as_deref() == Some(&stamp) {
        return Ok(());
    }
    side.client.batch_execute(&format!(
        "DROP TABLE IF EXISTS {table};
         CREATE TEMP TABLE columns (id bigint, tenant integer, lang smallint, day integer, price integer, tags integer[])"
    ))?;
    let mut writer = side.client.copy_in("COPY columns FROM STDIN")?;
    for (id, Row { tenant, lang, day, price, tags }) in rows.iter().enumerate() {
        let tags: Vec<String> = tags.iter().map(u64::to_string).collect();
        writeln!(writer, "{id}\t{tenant}\t{lang}\t{day}\t{price}\t{{{}}}", tags.join(","))?;
    }
    writer.finish()?;
    let columns = if side.label == "ours" { ", tenant, lang, published, price, tags" } else { "" };
    side.client.batch_execute(&format!(
        "CREATE TABLE {table} WITH (autovacuum_enabled = off) AS
             SELECT id, tenant, lang, timestamptz '2024-01-01Z' + day * interval '1 day' AS published, price, tags, v
               FROM {items} JOIN columns USING (id) ORDER BY id;
         DROP TABLE columns;
         CREATE INDEX ON {table} (tenant);
         CREATE INDEX ON {table} (lang);
         CREATE INDEX ON {table} (published);
         CREATE INDEX ON {table} (price);
         CREATE INDEX ON {table} USING gin (tags);
         CREATE INDEX {table}_v_idx ON {table} USING hnsw (v vector_{metric}_ops{columns})
             WITH (m = {}, ef_construction = {})",
        case.options.m, case.options.ef_construction
    ))?;
    side.client.batch_execute(&format!("VACUUM (FREEZE, ANALYZE) {table}"))?;
    side.client.batch_execute(&format!("COMMENT ON TABLE {table} IS '{stamp}'"))?;
    Ok(())
}

pub fn run(sides: &mut [Side], case: &Case<'_>, report: &mut Report) -> Outcome<()> {
    let sums = tenant_sums();
    let rows: Vec<Row> = (0..case.data.rows).map(|number| row(&sums, number as u64)).collect();
    for side in sides.iter_mut() {
        ensure(side, case, &rows)?;
        side.client.batch_execute("SET plan_cache_mode = force_generic_plan; SET timezone = 'UTC'")?;
    }
    let queries: Vec<usize> = (0..QUERIES.min(case.data.queries.len())).collect();
    let asked: Vec<usize> = (0..queries.len()).map(|query| tenant(&sums, 9, query as u64)).collect();
    let day = |day: u64| format!("timestamptz '2024-01-01Z' + {day} * interval '1 day'");
    let of_tenant = |tenant: usize| vec![format!("tenant = {tenant}")];
    let combined = |lang: usize| vec![format!("lang = {lang} AND price < 2000 AND published >= {}", day(500))];
    let cases: Vec<(&str, Vec<String>, Passes<'_>)> = vec![
        ("the largest tenant", of_tenant(0), Box::new(|_, row| row.tenant == 0)),
        ("tenant 13, about 1 %", of_tenant(13), Box::new(|_, row| row.tenant == 13)),
        ("tenant 133, about 0.1 %", of_tenant(133), Box::new(|_, row| row.tenant == 133)),
        (
            "tenants as they ask",
            asked.iter().flat_map(|&tenant| of_tenant(tenant)).collect(),
            Box::new(|query, row| row.tenant == asked[query]),
        ),
        ("three columns, 6 %", combined(0), Box::new(|_, row| row.lang == 0 && row.price < 2000 && row.day >= 500)),
        ("three columns, 0.4 %", combined(4), Box::new(|_, row| row.lang == 4 && row.price < 2000 && row.day >= 500)),
        ("the last 10 days, 1 %", vec![format!("published >= {}", day(990))], Box::new(|_, row| row.day >= 990)),
        ("the last 100 days, 10 %", vec![format!("published >= {}", day(900))], Box::new(|_, row| row.day >= 900)),
        (
            "50 days, 5 %",
            vec![format!("published >= {} AND published < {}", day(400), day(450))],
            Box::new(|_, row| (400..450).contains(&row.day)),
        ),
        (
            "tags && two, frequent",
            vec!["tags && ARRAY[3, 17]".into()],
            Box::new(|_, row| row.tags.contains(&3) || row.tags.contains(&17)),
        ),
        ("tags @> one", vec!["tags @> ARRAY[3]".into()], Box::new(|_, row| row.tags.contains(&3))),
        (
            "tags && two, rare",
            vec!["tags && ARRAY[160, 170]".into()],
            Box::new(|_, row| row.tags.contains(&160) || row.tags.contains(&170)),
        ),
    ];
    let titles = ["condition", "% of rows", "server", "queries/s", "recall", "fewest rows", "plan"];
    let mut lines = vec![titles.map(String::from).to_vec()];
    for (name, clauses, passes) in cases {
        let cell =
            Cell::of(case, &table(case), clauses, WANTED, &queries, |query, number| passes(query, &rows[number]));
        let (mut speeds, mut recalls) = (Vec::new(), Vec::new());
        for side in sides.iter_mut() {
            let measured = match side.label {
                "ours" => {
                    side.client.batch_execute("SET enable_seqscan = on; RESET hnsw.ef_search")?;
                    cell.measure(side, case, case.options.passes, LEAST_TIME)?
                }
                _ => cell.best_of_peer(side, case, LEAST_TIME)?,
            };
            lines.push(vec![
                name.into(),
                format!("{:.2}", cell.percent(case)),
                side.label.into(),
                shown(Some(measured.per_s)),
                format!("{:.4}", measured.recall),
                measured.fewest.to_string(),
                measured.plan,
            ]);
            speeds.push(Some(measured.per_s));
            recalls.push(Some(measured.recall));
        }
        report.add(case.name(&format!("condition, {name}")), "queries/s", speeds);
        report.keep(case.name(&format!("condition, {name}, recall")), "share", recalls);
    }
    for side in sides.iter_mut() {
        side.client.batch_execute(PLANNER)?;
    }
    print_table(&lines);
    Ok(())
}
