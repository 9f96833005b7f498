//! Tables with an hnsw index: filling, searching with and without the index, and checks.
//!
//! The tests' tables have a key `id bigint` and the indexed column `v`.

use crate::session::{describe, rows};
use postgres::Client;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;

/// What `hnsw_check` finds wrong with an index.
pub fn findings(client: &mut Client, index: &str) -> Vec<String> {
    let found = rows(client, &format!("SELECT finding FROM hnsw_check('{index}')"));
    found.into_iter().map(|row| row[0].clone().expect("a finding is a text")).collect()
}

pub fn assert_clean(client: &mut Client, index: &str) {
    let found = findings(client, index);
    assert!(found.is_empty(), "{index}: {} findings, such as {:?}", found.len(), &found[..found.len().min(5)]);
}

/// Adds rows by COPY.
pub fn add_rows<Text: Display>(client: &mut Client, table: &str, rows: impl IntoIterator<Item = (i64, Text)>) {
    let mut copy = client.copy_in(&format!("COPY {table} (id, v) FROM STDIN")).expect("the table can be written");
    for (id, value) in rows {
        writeln!(copy, "{id}\t{value}").expect("the server reads");
    }
    copy.finish().unwrap_or_else(|failure| panic!("{}", describe(&failure)));
}

/// From now on the session's ordered searches go through the index.
pub fn use_index(client: &mut Client) {
    client.batch_execute("SET enable_indexscan = on; SET enable_seqscan = off; SET enable_sort = off").unwrap();
}

/// From now on the session's searches are exact.
pub fn use_no_index(client: &mut Client) {
    client.batch_execute("SET enable_indexscan = off; SET enable_seqscan = on; SET enable_sort = on").unwrap();
}

/// The plan of a query whose session has called [`use_index`] must go through an index on `v`.
pub fn assert_uses_index(client: &mut Client, query: &str) {
    let plan: Vec<String> =
        rows(client, &format!("EXPLAIN (COSTS off) {query}")).into_iter().filter_map(|mut row| row[0].take()).collect();
    assert!(plan.iter().any(|line| line.contains("Order By: (v ")), "{query}:\n{}", plan.join("\n"));
}

/// `id` and distance of the nearest rows, nearest first.
pub fn nearest(client: &mut Client, table: &str, operator: &str, to: &str, limit: usize) -> Vec<(i64, f64)> {
    let query = format!("SELECT id, v {operator} '{to}' FROM {table} ORDER BY v {operator} '{to}' LIMIT {limit}");
    rows(client, &query).iter().map(|row| (number(&row[0]), number(&row[1]))).collect()
}

/// The numbers in the first column of `query`.
pub fn ids(client: &mut Client, query: &str) -> Vec<i64> {
    rows(client, query).iter().map(|row| number(&row[0])).collect()
}

fn number<Number: std::str::FromStr>(text: &Option<String>) -> Number {
    let text = text.as_deref().expect("no NULL");
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// Share of the exact nearest rows that searches with the index find.
///
/// A row counts when it is no farther than the last of the exact ones: which of equally far rows are found does not
/// matter. Ends with the session using the index.
pub fn recall(client: &mut Client, table: &str, operator: &str, queries: &[String], limit: usize) -> f64 {
    use_no_index(client);
    let exact: Vec<_> = queries.iter().map(|query| nearest(client, table, operator, query, limit)).collect();
    use_index(client);
    let sample = format!("SELECT id FROM {table} ORDER BY v {operator} '{}' LIMIT {limit}", queries[0]);
    assert_uses_index(client, &sample);
    let (mut found, mut wanted) = (0, 0);
    for (query, exact) in queries.iter().zip(&exact) {
        let near = nearest(client, table, operator, query, limit);
        assert_no_row_twice(&near.iter().map(|row| row.0).collect::<Vec<_>>());
        let farthest = exact.last().expect("the table has rows").1;
        found += near.iter().filter(|row| row.1 <= farthest).count();
        wanted += exact.len();
    }
    found as f64 / wanted as f64
}

pub fn assert_recall(client: &mut Client, table: &str, operator: &str, queries: &[String], least: f64, when: &str) {
    let recall = recall(client, table, operator, queries, 10);
    eprintln!("recall {when}: {recall:.4}");
    assert!(recall >= least, "recall {when} is {recall:.4}, below {least}");
}

pub fn assert_no_row_twice(ids: &[i64]) {
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "a row came twice");
}

/// Rows that are not their own nearest neighbour by a search with the given `hnsw.ef_search`. No two vectors may be equal.
///
/// Ends with the session using the index.
pub fn lost_rows(client: &mut Client, table: &str, ef_search: usize) -> Vec<i64> {
    use_index(client);
    client.batch_execute(&format!("SET hnsw.ef_search = {ef_search}")).unwrap();
    let query = format!(
        "SELECT id FROM {table} o
          WHERE id IS DISTINCT FROM (SELECT id FROM {table} i ORDER BY i.v <-> o.v LIMIT 1)"
    );
    ids(client, &query)
}

/// Rows up to which a search looks at all of them, so that nothing is approximate.
const EXHAUSTIVE_ROWS: usize = 4_000;

/// Every row must be found by its own vector; see [`lost_rows`]. In a table that is searched approximately, one in 200 may be
/// missed, if no row is missing from a scan to its end.
pub fn assert_all_found(client: &mut Client, table: &str, ef_search: usize) {
    let lost = lost_rows(client, table, ef_search);
    let all = ids(client, &format!("SELECT id FROM {table} WHERE v IS NOT NULL"));
    let tolerated = if all.len() > EXHAUSTIVE_ROWS { all.len() / 200 } else { 0 };
    assert!(lost.len() <= tolerated, "{} rows of {table} are not found, such as {:?}", lost.len(), first(&lost));
    if !lost.is_empty() {
        eprintln!("{} of {} rows of {table} are not found by their own vectors", lost.len(), all.len());
        let scan = format!(
            "SELECT id FROM {table} ORDER BY v <-> (SELECT v FROM {table} WHERE id = {}) LIMIT {}",
            lost[0],
            all.len() + 1
        );
        client.batch_execute("SET hnsw.iterative_scan = relaxed_order").unwrap();
        let returned = ids(client, &scan);
        client.batch_execute("RESET hnsw.iterative_scan").unwrap();
        assert_no_row_twice(&returned);
        let returned: BTreeSet<_> = returned.into_iter().collect();
        let missing: Vec<i64> = all.into_iter().filter(|id| !returned.contains(id)).collect();
        assert!(missing.is_empty(), "{} rows of {table} are missing, such as {:?}", missing.len(), first(&missing));
    }
}

fn first(ids: &[i64]) -> &[i64] {
    &ids[..ids.len().min(5)]
}
