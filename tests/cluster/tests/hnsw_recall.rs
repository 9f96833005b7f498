//! Searches through an hnsw index find what an exact scan finds, after inserts, a build, updates, and a vacuum.
//!
//! The thresholds are those of pgvector's own tests. The values lie in clusters, as real ones do, and so that codes
//! that approximate them have something to confuse. Where many are equally far, `hnsw.ef_search` is raised.

use pg_rag_cluster_tests::data::{Element, Source};
use pg_rag_cluster_tests::hnsw::{add_rows, assert_clean, assert_recall, use_index};
use pg_rag_cluster_tests::session::execute;
use pg_rag_cluster_tests::{short_or_long, Cluster, ClusterOptions};
use postgres::Client;

const AFTER_INSERTS: f64 = 0.98;
const AFTER_BUILD: f64 = 0.99;
const AFTER_UPDATES: f64 = 0.98;
const AFTER_VACUUM: f64 = 0.95;

const METRICS: [(&str, &str); 4] = [("l2", "<->"), ("cosine", "<=>"), ("ip", "<#>"), ("l1", "<+>")];
const BIT_METRICS: [(&str, &str); 2] = [("hamming", "<~>"), ("jaccard", "<%>")];

/// The life of one index: its first rows, a build, updates, deletes.
fn live(client: &mut Client, element: Element, dimensions: usize, (metric, operator): (&str, &str), ef_search: usize) {
    let rows = short_or_long(1_000, 10_000);
    let name = format!("{}({dimensions})", element.name());
    let index = format!("CREATE INDEX near ON items USING hnsw (v {}_{metric}_ops)", element.name());
    let mut source = Source::new(element, dimensions, 4, 7);
    let queries = source.values(40);
    execute(
        client,
        &format!(
            "DROP TABLE IF EXISTS items, fresh; CREATE TABLE items (id bigint PRIMARY KEY, v {name});
             CREATE TABLE fresh (id bigint PRIMARY KEY, v {name}); {index}; SET hnsw.ef_search = {ef_search}"
        ),
    );
    let check = |client: &mut Client, least: f64, what: &str| {
        assert_clean(client, "near");
        assert_recall(client, "items", operator, &queries, least, &format!("of {name} {metric} after {what}"));
    };

    add_rows(client, "items", (0..).zip(source.values(rows)));
    check(client, AFTER_INSERTS, "inserts into an empty index");

    execute(client, &format!("DROP INDEX near; {index}"));
    check(client, AFTER_BUILD, "a build");

    add_rows(client, "fresh", (0..).step_by(5).zip(source.values(rows / 5)));
    execute(client, "UPDATE items SET v = fresh.v FROM fresh WHERE items.id = fresh.id");
    check(client, AFTER_UPDATES, "updates");

    execute(client, "DELETE FROM items WHERE id % 5 = 1");
    execute(client, "VACUUM items");
    check(client, AFTER_VACUUM, "deletes and a vacuum");

    // Their places may be used again.
    add_rows(client, "items", (rows as i64..).zip(source.values(rows / 5)));
    check(client, AFTER_VACUUM, "new rows after the vacuum");
}

fn all_metrics(element: Element, dimensions: usize, metrics: &[(&str, &str)], ef_search: usize) {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    for metric in metrics {
        live(&mut client, element, dimensions, *metric, ef_search);
    }
}

#[test]
fn vectors_of_3_dimensions() {
    all_metrics(Element::Vector, 3, &METRICS, 40);
}

#[test]
fn vectors_of_64_dimensions() {
    all_metrics(Element::Vector, 64, &METRICS, 40);
}

#[test]
fn vectors_of_128_dimensions() {
    all_metrics(Element::Vector, 128, short_or_long(&METRICS[..2], &METRICS), 40);
}

#[test]
fn half_vectors() {
    all_metrics(Element::Halfvec, 64, &METRICS, 40);
}

#[test]
fn sparse_vectors() {
    all_metrics(Element::Sparsevec, 300, &METRICS, 100);
}

#[test]
fn bits() {
    all_metrics(Element::Bit, 128, &BIT_METRICS, 100);
}

#[test]
fn small_tables_are_searched_exactly() {
    // Fewer rows than hnsw.ef_search: every row is looked at.
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    for (element, dimensions, metrics) in [
        (Element::Vector, 5, &METRICS[..]),
        (Element::Vector, 96, &METRICS[..]),
        (Element::Halfvec, 96, &METRICS[..]),
        (Element::Sparsevec, 96, &METRICS[..]),
        (Element::Bit, 96, &BIT_METRICS[..]),
    ] {
        for (metric, operator) in metrics {
            let mut source = Source::new(element, dimensions, 5, 11);
            let name = element.name();
            execute(
                &mut client,
                &format!(
                    "DROP TABLE IF EXISTS items; CREATE TABLE items (id bigint PRIMARY KEY, v {name}({dimensions}));
                     CREATE INDEX near ON items USING hnsw (v {name}_{metric}_ops); SET hnsw.ef_search = 100"
                ),
            );
            add_rows(&mut client, "items", (0..).zip(source.values(60)));
            use_index(&mut client);
            let queries = source.values(10);
            assert_recall(&mut client, "items", operator, &queries, 1.0, &format!("of 60 {name} {metric}"));
        }
    }
}
