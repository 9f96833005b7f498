//! The table `items` of numbered vectors, with the hnsw index `near`.

use crate::data::vector_of;
use crate::hnsw::{add_rows, assert_all_found, assert_clean, assert_uses_index, ids, use_index};
use crate::session::execute;
use crate::{Cluster, ClusterOptions};
use postgres::Client;

pub const DIMENSIONS: usize = 12;
pub const INDEX: &str = "USING hnsw (v vector_l2_ops)";

/// A cluster that vacuums only when it is told to, and a session that searches through indexes.
pub fn start() -> (Cluster, Client) {
    let cluster = Cluster::with_extension(ClusterOptions { conf: &[("autovacuum", "off")], ..Default::default() });
    let mut client = cluster.connect();
    use_index(&mut client);
    (cluster, client)
}

/// A table of this kind with an index `near` and rows 0 to 299.
pub fn make(client: &mut Client, kind: &str) {
    execute(
        client,
        &format!(
            "CREATE {kind} TABLE items (id bigint PRIMARY KEY, v vector({DIMENSIONS}), note text) WITH (fillfactor = 70);
             CREATE INDEX near ON items {INDEX}"
        ),
    );
    add(client, "items", 0..300);
}

/// Adds rows with these numbers, each with the vector of its number.
pub fn add(client: &mut Client, table: &str, rows: std::ops::Range<i64>) {
    add_rows(client, table, rows.map(|id| (id, vector_of(id, DIMENSIONS))));
}

/// Every row, through the index.
pub fn everything(client: &mut Client) -> Vec<i64> {
    let query = format!("SELECT id FROM items ORDER BY v <-> '{}'", vector_of(-1, DIMENSIONS));
    assert_uses_index(client, &query);
    ids(client, &query)
}

/// The index must be sound and lead to each of this many rows.
pub fn assert_works(client: &mut Client, count: usize) {
    assert_clean(client, "near");
    assert_all_found(client, "items", 200);
    assert_eq!(everything(client).len(), count);
}
